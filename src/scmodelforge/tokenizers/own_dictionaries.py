"""Dictionaries of a Geneformer that someone trained on genes of their own, as they stand beside its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scmodelforge._errors import DataError
from scmodelforge._json_files import read_json_object
from scmodelforge.tokenizers._plain_pickle import read_plain_pickle
from scmodelforge.tokenizers.dictionaries import Dictionaries, assembled

__all__ = ["own_geneformer_files", "read_own_geneformer"]

#: Files, as ``.json`` or ``.pkl``, without their ending: of tokens, of medians and, if there is one, of further ids.
_OWN = ("token_dictionary", "gene_median_dictionary", "ensembl_mapping_dict")
_KINDS: tuple[tuple[type, ...], ...] = ((int,), (int, float), (str,))


def own_geneformer_files(folder: Path) -> list[str]:
    """Return the names of dictionaries of a folder that are no release's; none if it lacks some that are needed."""
    there = [[name for name in (f"{stem}.json", f"{stem}.pkl") if (folder / name).is_file()][:1] for stem in _OWN]
    return [name for names in there for name in names] if there[0] and there[1] else []


def read_own_geneformer(folder: Path) -> tuple[Dictionaries, str]:
    """Read dictionaries that are no release's: of tokens, of medians and perhaps of further ids, JSON files or pickles.

    Parameters
    ----------
    folder
        Folder that :func:`own_geneformer_files` finds some in.

    Returns
    -------
    The dictionaries, and which version's special tokens they have, ``V1`` or ``V2``.

    Raises
    ------
    DataError
        If a file is damaged, or they are no dictionaries of a Geneformer.
    """
    paths = [folder / name for name in own_geneformer_files(folder)]
    tokens, medians, *mapping = (_of_kind(path, *kinds) for path, kinds in zip(paths, _KINDS, strict=False))
    version = "V2" if "<cls>" in tokens else "V1"
    genes = mapping[0] if mapping else {gene.upper(): gene for gene in tokens}
    return assembled("geneformer", version, paths[1], tokens, medians, genes, {}), version


def _of_kind(path: Path, *kinds: type) -> dict[str, Any]:
    """Return a dictionary whose values are of some kinds."""
    is_json = path.suffix == ".json"
    found = read_json_object(path, "take the file as it was") if is_json else read_plain_pickle(path, path.read_bytes())
    if not all(isinstance(value, kinds) and not isinstance(value, bool) for value in found.values()):
        msg = f"{path}: holds something else than {'texts' if str in kinds else 'numbers'}; take the file as it was."
        raise DataError(msg)
    return found
