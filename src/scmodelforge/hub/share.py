"""Models of ours on the Hugging Face hub, through its own mixin."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from huggingface_hub import ModelHubMixin

from scmodelforge._errors import ConfigError
from scmodelforge.hub.addresses import HubRepository, parse_address
from scmodelforge.hub.bundle import Bundle, load_bundle, save_bundle
from scmodelforge.hub.locate import locate
from scmodelforge.hub.push import Target, push_bundle, repository_of

__all__ = ["SharedModel"]


class SharedModel(ModelHubMixin, library_name="scmodelforge", tags=["single-cell", "transcriptomics"]):
    """A model with all it needs, to be saved, shared and loaded as the hub's users know it.

    Parameters
    ----------
    bundle
        The model.
    card
        Text of its model card, ``README.md``; ``None`` is one that gives no more than the model's name and address.

    Attributes
    ----------
    bundle, card
        As given.
    """

    #: The settings are the bundle's: nothing of the arguments is written into ``config.json``.
    _hub_mixin_config: dict[str, Any] = {}  # noqa: RUF012 - as the mixin declares it

    def __init__(self, bundle: Bundle, card: str | None = None) -> None:
        self.bundle = bundle
        self.card = card if card is not None else _plain_card(bundle)

    def _save_pretrained(self, save_directory: Path) -> None:
        save_bundle(Path(save_directory), self.bundle, card=self.card)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        address: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        trust_plugins: bool = False,
    ) -> Self:
        """Load a model of ours.

        Parameters
        ----------
        address
            A model or run folder, ``owner/name`` on the hub, or an address as of
            :func:`~scmodelforge.hub.addresses.parse_address`.
        revision
            Branch, tag or commit on the hub.
        token
            As the hub's client takes it.
        local_files_only
            Look on this machine only.
        trust_plugins
            Import the Python files the folder names. They can run anything; without this they are refused.

        Raises
        ------
        ConfigError, DataError
            As of :func:`~scmodelforge.hub.locate.locate` and :func:`~scmodelforge.hub.bundle.load_bundle`.
        """
        is_folder = isinstance(address, Path) or "://" in address or Path(address).expanduser().is_dir()
        place = parse_address(address) if is_folder else repository_of(str(address))
        if revision is not None:
            if not isinstance(place, HubRepository) or place.revision not in (None, revision):
                msg = f"revision is '{revision}', and {address} has none or another one; give it once, of a repository."
                raise ConfigError(msg)
            place = HubRepository(place.repo_id, revision, place.folder)
        found = locate(place, offline=local_files_only, token=token)
        bundle = load_bundle(found.folder, trust_plugins=trust_plugins)
        card = found.folder / "README.md"
        return cls(bundle, card.read_text(encoding="utf-8") if card.is_file() else None)

    def push_to_hub(  # type: ignore[override]
        self,
        repo_id: str,
        *,
        token: str | None = None,
        private: bool | None = None,
        branch: str | None = None,
        commit_message: str = "Model of scModelForge",
        force: bool = False,
    ) -> str:
        """Put the model on the hub, and load it back from there; the arguments are those of :func:`push_bundle`.

        Returns
        -------
        Address of the commit's page.
        """
        target = Target(repo_id, token=token, private=private, branch=branch, message=commit_message, force=force)
        return push_bundle(self.bundle, self.card, target).url


def _plain_card(bundle: Bundle) -> str:
    tags = "[single-cell, transcriptomics]"
    title = f"{bundle.model_config.architecture} ({bundle.model_id})"
    return f"---\nlibrary_name: scmodelforge\ntags: {tags}\n---\n\n# {title}\n"
