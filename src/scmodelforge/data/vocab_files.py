"""Vocabularies as plain values and as lists of genes in text files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from scmodelforge._errors import DataError, nearest
from scmodelforge._json_files import read_json_object
from scmodelforge.constants import FORMAT_VERSION, PAD_TOKEN
from scmodelforge.data.special_tokens import split_token_dict

__all__ = ["FORMAT", "choices", "file_fields", "read_json", "read_vocab_json", "vocab_fields"]

T = TypeVar("T")

FORMAT = "scmodelforge.vocab"
_KINDS = {"name": str, "special_tokens": dict, "genes": list, "symbols": list}
_KNOWN = ("human_protein_coding", "from_data")
_HEADINGS = ("gene", "ensembl", "ensembl_id")


def choices(given: str) -> str:
    """Return what ``data.gene_vocab`` may be, after a name like the given one if there is any."""
    return (
        f"{nearest(given, _KNOWN)} It may be 'human_protein_coding', 'from_data', a text file with one gene a line, a "
        "vocab.json, or a list of genes."
    )


def file_fields(path: Path) -> dict[str, Any]:
    """Return the arguments of a vocabulary in a file, as ``GeneVocab.from_file`` says.

    Raises
    ------
    DataError
        If the file is missing or none.
    """
    if not path.is_file():
        msg = f"data.gene_vocab: no file '{path}'.{choices(str(path))}"
        raise DataError(msg)
    if path.suffix != ".json":
        return {"genes": _gene_list(path), "name": path.name}
    content = read_json(path)
    if content.get("format") == FORMAT:
        return read_vocab_json(path, vocab_fields)
    genes, special_tokens = split_token_dict(content, None, str(path))
    if PAD_TOKEN not in special_tokens:
        msg = f"{path}: no {PAD_TOKEN} among its names; if its ids need not be kept give the genes as text, one a line."
        raise DataError(msg)
    return {"genes": genes, "name": path.name, "special_tokens": special_tokens}


def read_vocab_json(path: str | Path, make: Callable[[Any], T]) -> T:
    """Return what a function makes of the values in a ``vocab.json``.

    Raises
    ------
    DataError
        If the file cannot be read or is not JSON, or the function says so.
    """
    try:
        return make(json.loads(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); a model folder needs its vocab.json."
    except (UnicodeDecodeError, json.JSONDecodeError):
        msg = f"{path}: not JSON; a vocab.json written by scmodelforge is needed."
    except DataError as error:
        msg = f"{path}: {error}"
    raise DataError(msg)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file: a vocabulary of ours, or a published mapping from name to token id.

    Raises
    ------
    DataError
        If the file cannot be read or holds something else.
    """
    return read_json_object(path, "a mapping from gene to token id is needed, or a vocab.json of a model folder")


def vocab_fields(data: Any) -> dict[str, Any]:
    """Return what a vocabulary is made of, from what its ``to_dict`` gave.

    Raises
    ------
    DataError
        If the values are not a vocabulary, or of a newer format than this version reads.
    """
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        msg = f"not a gene vocabulary ('format' is not '{FORMAT}'); a vocab.json written by scmodelforge is needed."
        raise DataError(msg)
    if data.get("format_version") != FORMAT_VERSION:
        found = data.get("format_version")
        msg = f"gene vocabulary of format_version {found}, not {FORMAT_VERSION}; use a newer scmodelforge."
        raise DataError(msg)
    wrong = [key for key, kind in _KINDS.items() if not isinstance(data.get(key), kind)]
    if not isinstance(data.get("other_names", {}), dict):
        wrong.append("other_names")
    if not isinstance(data.get("aliases", True), bool):
        wrong.append("aliases")
    if wrong:
        msg = f"gene vocabulary: '{wrong[0]}' is missing or of the wrong kind; the file is damaged."
        raise DataError(msg)
    return {key: data[key] for key in (*_KINDS, "other_names", "aliases") if key in data}


def _gene_list(path: Path) -> list[str]:
    """Return the genes of a text file, one a line, or the first column of a ``.tsv`` or ``.csv`` file.

    Blank lines and lines that begin with ``#`` are skipped, and so is a heading of the column.

    Raises
    ------
    DataError
        If the file is not text, holds no gene, or holds one twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        msg = f"{path}: not a text file; data.gene_vocab needs one gene a line."
        raise DataError(msg) from None
    separator = {".tsv": "\t", ".csv": ","}.get(path.suffix)
    seen: dict[str, int] = {}
    is_first = True
    for number, line in enumerate(lines, start=1):
        gene = (line.split(separator)[0] if separator else line).strip().strip('"')
        if not gene or gene.startswith("#"):
            continue
        is_heading = is_first and separator is not None and gene.lower() in _HEADINGS
        is_first = False
        if is_heading:
            continue
        if gene in seen:
            msg = f"{path}, line {number}: gene '{gene}' stands in line {seen[gene]} already; list each gene once."
            raise DataError(msg)
        seen[gene] = number
    if not seen:
        msg = f"{path}: no gene in it; data.gene_vocab needs a text file with one gene a line."
        raise DataError(msg)
    return list(seen)
