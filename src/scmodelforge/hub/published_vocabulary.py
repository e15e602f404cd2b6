"""Whether the tokens of an imported model are those that it was published with."""

from __future__ import annotations

from scmodelforge._errors import DataError
from scmodelforge.hub.bundle import Bundle
from scmodelforge.hub.pretrained import PretrainedModel, list_pretrained
from scmodelforge.tokenizers.presets import get_preset

__all__ = ["check_vocabulary", "published_as"]


def published_as(bundle: Bundle) -> PretrainedModel | None:
    """Return what the list of published models says of an imported one, found by the sha256 of its weights."""
    found = {*bundle.fingerprint.get("imported_from", {}).get("files", {}).values()}
    return next((each for each in list_pretrained() if found & {file.sha256 for file in each.files}), None)


def check_vocabulary(bundle: Bundle, entry: PretrainedModel, origin: str) -> None:
    """Refuse tokens of another model than one of the list: another number, or other dictionaries where they are known.

    Of dictionaries in another form than they were published in (tables) no checksum is known.

    Parameters
    ----------
    bundle
        The imported model.
    entry
        What the list says of it.
    origin
        What messages call it.

    Raises
    ------
    DataError
        If they are of another one.
    """
    if len(bundle.vocab) != entry.vocabulary.num_tokens:
        msg = (
            f"{origin}: its vocabulary has {len(bundle.vocab):,} tokens, that of {entry.name} "
            f"{entry.vocabulary.num_tokens:,}; put the files of {entry.name} there."
        )
        raise DataError(msg)
    known = {file.path: file.sha256 for file in entry.vocabulary.files if file.sha256 is not None}
    facts = bundle.fingerprint.get("imported_from", {})
    read = {name: digest for name, digest in facts.get("files", {}).items() if name in known}
    read |= facts.get("dictionaries", {})
    tables = get_preset(entry.vocabulary.preset).tables if entry.vocabulary.preset else ()
    for name, digest in read.items():
        if known and name not in tables and digest not in known.values():
            msg = (
                f"{origin}: {name} (sha256 {digest[:12]}...) is no dictionary of {entry.name}; take those that it was "
                f"published with: {', '.join(known)}."
            )
            raise DataError(msg)
