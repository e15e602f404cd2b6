"""Files and data sets that settings name, and which of them are not on this machine. None is opened for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scmodelforge import datasets
from scmodelforge._errors import DataError
from scmodelforge.config.schema import DataConfig, RunConfig
from scmodelforge.data.sources._paths import resolve_paths
from scmodelforge.data.sources._url import is_remote

__all__ = ["missing_files"]

_SCHEME = "dataset://"
_VOCABS = ("human_protein_coding", "from_data")
_NO_FILE_OF_MEDIANS = ("fit", "none")
_SPECIES = "mouse"


def missing_files(config: RunConfig) -> list[str]:
    """Return a line for each file or data set that settings name and that is not there.

    What lies elsewhere (buckets, servers, a census) is not asked for.
    """
    named = [*_cells(config.data, "data"), *_tables(config), *_of_benchmarks(config)]
    return list(dict.fromkeys(line for setting, name in named if (line := _missing(setting, name)) is not None))


def _cells(data: DataConfig, setting: str) -> Iterator[tuple[str, str]]:
    for path in getattr(data, "paths", ()):
        yield f"{setting}.paths", path
    for number, source in enumerate(getattr(data, "sources", ())):
        yield from _cells(source, f"{setting}.sources[{number}]")


def _tables(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Yield what other sections of data and tokenizer read."""
    data, tokenizer = config.data, config.tokenizer
    if data.split.file is not None:
        yield "data.split.file", data.split.file
    if isinstance(data.gene_vocab, str) and data.gene_vocab not in _VOCABS:
        yield "data.gene_vocab", data.gene_vocab
    for species in data.orthologs.all_species() if data.orthologs is not None else ():
        if species != _SPECIES:
            yield "data.orthologs.species", species
    medians, vectors = getattr(tokenizer, "medians", "fit"), getattr(tokenizer, "path", None)
    if isinstance(medians, str) and medians not in _NO_FILE_OF_MEDIANS:
        yield "tokenizer.medians", medians
    if isinstance(vectors, str):
        yield "tokenizer.path", vectors


def _of_benchmarks(config: RunConfig) -> Iterator[tuple[str, str]]:
    for number, benchmark in enumerate(config.eval.benchmarks):
        setting = f"eval.benchmarks[{number}]"
        for key in ("dataset", "reference"):
            name = getattr(benchmark, key, None)
            if name is not None:
                yield f"{setting}.{key}", name if _is_path(name) else _SCHEME + name.removeprefix(_SCHEME)
        for key in ("networks", "gene_sets", "tf_network", "select_on"):
            given: Any = getattr(benchmark, key, None) or []
            for table in given if isinstance(given, list) else [given]:
                yield f"{setting}.{key}", table.path


def _is_path(name: str) -> bool:
    return not name.startswith(_SCHEME) and (Path(name).suffix in (".h5ad", ".zarr") or "/" in name)


def _missing(setting: str, name: str) -> str | None:
    if name.startswith(_SCHEME):
        try:
            datasets.path(name.removeprefix(_SCHEME))
        except DataError as problem:
            return f"{setting}: {problem}"
        return None
    if is_remote(name):
        return None
    if setting.endswith(("paths", "dataset", "reference")):
        try:
            resolve_paths([name])
        except DataError as problem:
            return f"{setting}: {str(problem).removeprefix('data.paths: ')}"
        return None
    return None if Path(name).expanduser().exists() else f"{setting}: no file '{name}'. Correct the path."
