"""Published dictionaries: the genes, medians and id mappings that a published model was trained with.

Those of Geneformer (Theodoris et al. 2023, doi:10.1038/s41586-023-06139-9; Apache-2.0) are read from a folder that
holds either the published pickles or the same content as tables: ``vocab_V2.tsv`` with the columns ``token_id, token,
nonzero_median, gene_name`` and ``id_mapping_V2.parquet`` with ``key, ensembl_id``. Nothing of them ships with the
package.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge._optional import require
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.tokenizers._plain_pickle import read_plain_pickle
from scmodelforge.tokenizers.medians import GeneMedians

__all__ = ["Dictionaries", "GeneformerRelease", "Published", "assembled", "read_geneformer"]

#: What tells the versions apart at a glance.
_SPECIAL = {"V1": ["<pad>", "<mask>"], "V2": ["<pad>", "<mask>", "<cls>", "<eos>"]}
_COLUMNS = ("token_id", "token", "nonzero_median", "gene_name")


@dataclass(frozen=True, slots=True)
class Published:
    """A published file.

    Attributes
    ----------
    name
        Its name.
    place
        Its folder in the repository it is published in.
    sha256
        Its checksum.
    """

    name: str
    place: str
    sha256: str


@dataclass(frozen=True, slots=True)
class GeneformerRelease:
    """Where the dictionaries of one version of Geneformer are found.

    Attributes
    ----------
    name
        What messages call them.
    version
        ``V1`` or ``V2``, as in the names of the tables.
    tokens, medians, mapping, names
        The published pickles: token of each gene, median of each gene, gene of each id, id of each gene name.
    """

    name: str
    version: str
    tokens: Published
    medians: Published
    mapping: Published
    names: Published

    @property
    def pickles(self) -> tuple[Published, ...]:
        """The published files."""
        return self.tokens, self.medians, self.mapping, self.names

    @property
    def tables(self) -> tuple[str, str]:
        """Names of the tables with the same content."""
        return f"vocab_{self.version}.tsv", f"id_mapping_{self.version}.parquet"

    def files_in(self, folder: Path) -> list[str]:
        """Return the names of the files of a folder that are read: the pickles, or else the tables.

        Raises
        ------
        DataError
            If neither are there.
        """
        pickles = [file.name for file in self.pickles]
        for names in (pickles, list(self.tables)):
            if all((folder / name).is_file() for name in names):
                return names
        if not folder.is_dir():
            msg = f"{folder}: no such folder; name the one with the dictionaries of {self.name}."
            raise DataError(msg)
        missing = [name for name in pickles if not (folder / name).is_file()]
        part = f" (of the former it lacks {', '.join(missing)})" if len(missing) < len(pickles) else ""
        msg = (
            f"{folder} does not hold the dictionaries of {self.name}{part}: neither {', '.join(pickles)} nor "
            f"{' and '.join(self.tables)}."
        )
        raise DataError(msg)


@dataclass(frozen=True, slots=True)
class Dictionaries:
    """What was read.

    Attributes
    ----------
    vocab
        The genes, with special tokens and ids as published.
    medians
        Their medians.
    id_mapping
        Gene of the vocabulary under each id, in capitals; ids of other genes are left out.
    origin
        File that the medians are from.
    """

    vocab: GeneVocab
    medians: GeneMedians
    id_mapping: dict[str, str] = field(repr=False)
    origin: str


def read_geneformer(folder: Path, release: GeneformerRelease) -> Dictionaries:
    """Read the dictionaries of a version of Geneformer.

    Parameters
    ----------
    folder
        Folder with the pickles, whose checksums are checked, or with the tables.
    release
        The version.

    Raises
    ------
    DataError
        If a file is missing, damaged or not the published one.
    ImportError
        If the tables need a package that is not installed.
    """
    if release.tables[0] in release.files_in(folder):
        tokens, medians, symbols = _read_table(folder / release.tables[0])
        mapping = _read_mapping(folder / release.tables[1])
        origin = release.tables[0]
    else:
        tokens, medians, mapping, names = (_read_pickle(folder / file.name, file) for file in release.pickles)
        symbols = {}
        for name, gene in names.items():
            symbols.setdefault(gene, name)
        origin = release.medians.name
    return assembled(release.name, release.version, folder / origin, tokens, medians, mapping, symbols)


def assembled(
    name: str,
    version: str,
    origin: Path,
    tokens: Mapping[str, Any],
    medians: Mapping[str, Any],
    mapping: Mapping[str, Any],
    symbols: Mapping[str, str],
) -> Dictionaries:
    """Return dictionaries made of what files hold.

    Parameters
    ----------
    name
        What messages call the model they are of.
    version
        ``V1`` or ``V2``: which special tokens there are.
    origin
        File that the medians are from.
    tokens, medians, mapping, symbols
        Token id and median of each gene, gene of further ids, name of genes.

    Raises
    ------
    DataError
        If tokens are not numbered as they must be, or are of the other version, or a gene has no median.
    """
    in_order = sorted(tokens, key=lambda token: tokens[token])
    if [tokens[token] for token in in_order] != list(range(len(tokens))):
        msg = f"{origin.parent}: the token ids of {name} are not 0, 1, 2, ...; take the published file."
        raise DataError(msg)
    wanted = _SPECIAL[version]
    if in_order[: len(wanted)] != wanted or any(token.startswith("<") for token in in_order[len(wanted) :]):
        there = [token for token in in_order if token.startswith("<")]
        msg = (
            f"{origin.parent}: {name} has the special tokens {', '.join(wanted)} first, the file has "
            f"{', '.join(there) or 'none'}; it is of another version."
        )
        raise DataError(msg)
    special = {token: i for i, token in enumerate(in_order) if token.startswith("<") and token.endswith(">")}
    genes = in_order[len(special) :]
    values = [medians.get(gene) for gene in genes]
    wrong = [gene for gene, value in zip(genes, values, strict=True) if value is None or not 0 < value < np.inf]
    if wrong:
        msg = f"{origin}: gene '{wrong[0]}' has no median above 0 ({len(wrong):,} such); take the published file."
        raise DataError(msg)
    named = [symbols.get(gene) or None for gene in genes]
    vocab = GeneVocab(genes, name=name, symbols=named, special_tokens=special, aliases=False)
    known = set(genes)
    found = GeneMedians(np.array([np.nan] * len(special) + values, dtype=np.float64), "file")
    return Dictionaries(vocab, found, {key: gene for key, gene in mapping.items() if gene in known}, origin.name)


def _read_pickle(path: Path, file: Published) -> dict[str, Any]:
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        msg = (
            f"{path} is not the published file: its sha256 is {found[:12]}..., not {file.sha256[:12]}...; "
            "fetch it again."
        )
        raise DataError(msg)
    return read_plain_pickle(path, content)


def _read_table(path: Path) -> tuple[dict[str, int], dict[str, float], dict[str, str]]:
    """Return token id, median and name of each token."""
    try:
        return _rows_of_table(path)
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        msg = f"{path} cannot be read as a table of tokens ({problem}); take the file as it was."
        raise DataError(msg) from problem


def _rows_of_table(path: Path) -> tuple[dict[str, int], dict[str, float], dict[str, str]]:
    tokens, medians, names = {}, {}, {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        heading = next(rows, [])
        if tuple(heading[: len(_COLUMNS)]) != _COLUMNS:
            msg = f"{path}: its columns are {', '.join(heading) or 'none'}; {', '.join(_COLUMNS)} are needed."
            raise DataError(msg)
        for number, row in enumerate(rows, start=2):
            try:
                token_id, token, median, name = row
                if token in tokens:
                    raise ValueError
                tokens[token] = int(token_id)
                medians.update({token: float(median)} if median else {})
            except ValueError:
                msg = f"{path}, line {number}: not a new token with its id, median and name; take the file as it was."
                raise DataError(msg) from None
            names[token] = name
    return tokens, medians, names


def _read_mapping(path: Path) -> dict[str, str]:
    pyarrow = require("pyarrow", extra="parquet", why="Reading the tables of published dictionaries")
    parquet = require("pyarrow.parquet", extra="parquet", why="Reading the tables of published dictionaries")
    try:
        table = parquet.read_table(path, columns=["key", "ensembl_id"])
    except (pyarrow.ArrowException, OSError) as problem:
        reason = " ".join(str(problem).split())
        msg = f"{path} cannot be read as a table with the columns key and ensembl_id: {reason}"
        raise DataError(msg) from problem
    keys, genes = (table.column(name).to_pylist() for name in ("key", "ensembl_id"))
    if not all(isinstance(name, str) for name in (*keys, *genes)):
        msg = f"{path}: the columns key and ensembl_id hold something else than text; take the file as it was."
        raise DataError(msg)
    return dict(zip(keys, genes, strict=True))
