"""Representations of published models by name: a tokenizer's settings, and the dictionaries that go with them.

A new one is an entry of :data:`PRESETS`; its ``make`` turns a folder of dictionaries and changed settings into a
tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scmodelforge._errors import ConfigError, DataError, nearest
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.data.vocab_files import read_json
from scmodelforge.tokenizers.base import BaseTokenizer
from scmodelforge.tokenizers.binned_expression import BinnedExpressionTokenizer
from scmodelforge.tokenizers.binned_settings import SCGPT, BinnedExpressionConfig
from scmodelforge.tokenizers.dictionaries import GeneformerRelease, Published, read_geneformer
from scmodelforge.tokenizers.rank_value import RankValueConfig, RankValueTokenizer

__all__ = ["GENEFORMER_SETTINGS", "GENEFORMER_V1", "GENEFORMER_V2", "PRESETS", "Preset", "get_preset"]

#: What sequences of tokens look like in each version of Geneformer.
GENEFORMER_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "V1": {"max_genes": 2048, "add_cls": False},
    "V2": {"max_genes": 4096, "add_eos": True},
}


@dataclass(frozen=True, slots=True)
class Preset:
    """A published representation.

    Attributes
    ----------
    name
        Its name.
    repository
        Where the dictionaries are published on the Hugging Face hub; empty if they are not there.
    published
        The published files, if there are checksums for them.
    files_in
        Returns the names of the files that are read of a folder.
    make
        Makes the tokenizer of a folder with dictionaries and settings that differ from the preset's.
    id_columns
        var columns that gene ids are taken from if there are such.
    ties
        Values of ``tokenizer.ties``.
    compat
        Value of ``tokenizer.compat`` that gives the tokens of the official code, or ``None`` if there is none.
    tables
        Names of the files that may have the content of the published ones in another form.
    """

    name: str
    repository: str
    published: tuple[Published, ...]
    files_in: Callable[[Path], list[str]]
    make: Callable[[Path, Mapping[str, Any]], BaseTokenizer]
    id_columns: tuple[str, ...]
    ties: tuple[str, ...]
    compat: str | None = None
    tables: tuple[str, ...] = ()


def get_preset(name: str) -> Preset:
    """Return a preset by name.

    Raises
    ------
    ConfigError
        If there is none; the message lists the names there are.
    """
    if name not in PRESETS:
        msg = f"unknown preset '{name}'.{nearest(name, PRESETS)} There are: {', '.join(sorted(PRESETS))}."
        raise ConfigError(msg)
    return PRESETS[name]


def geneformer(release: GeneformerRelease, settings: Mapping[str, Any], *, compat: str) -> Preset:
    """Return the preset of a version of Geneformer.

    Parameters
    ----------
    release
        Its dictionaries.
    settings
        Its settings.
    compat
        Value of ``tokenizer.compat`` for it.
    """

    def make(folder: Path, changes: Mapping[str, Any]) -> BaseTokenizer:
        found = read_geneformer(folder, release)
        config = RankValueConfig.model_validate({**settings, "medians": found.origin, **changes})
        return RankValueTokenizer(config, found.vocab, medians=found.medians, id_mapping=found.id_mapping)

    return Preset(
        name=release.name,
        repository="ctheodoris/Geneformer",
        published=release.pickles,
        files_in=release.files_in,
        make=make,
        id_columns=("ensembl_id",),
        ties=("token", "stable", "numpy"),
        compat=compat,
        tables=release.tables,
    )


def scgpt(name: str, file: str) -> Preset:
    """Return the preset of the published scGPT models.

    Parameters
    ----------
    name
        Its name.
    file
        Name of the vocabulary in the folder of a model, a mapping from gene symbol to id.
    """

    def files_in(folder: Path) -> list[str]:
        if not (folder / file).is_file():
            msg = f"{folder} has no {file}; name the folder of a published scGPT model, which holds it."
            raise DataError(msg)
        return [file]

    def make(folder: Path, changes: Mapping[str, Any]) -> BaseTokenizer:
        (path,) = (folder / each for each in files_in(folder))
        try:
            vocab = GeneVocab.from_token_dict(read_json(path), name=name, aliases=False)
        except DataError as problem:
            msg = str(problem) if str(path) in str(problem) else f"{path}: {problem}"
            raise DataError(msg) from problem
        return BinnedExpressionTokenizer(BinnedExpressionConfig.model_validate({**SCGPT, **changes}), vocab)

    return Preset(
        name=name,
        repository="",
        published=(),
        files_in=files_in,
        make=make,
        id_columns=("feature_name",),
        ties=("random", "mid", "lower", "upper"),
    )


GENEFORMER_V1 = GeneformerRelease(
    "geneformer-v1",
    "V1",
    *(
        Published(f"{name}_gc30M.pkl", "geneformer/gene_dictionaries_30m", sha256)
        for name, sha256 in (
            ("token_dictionary", "ab9dc40973fa5224d77b793e2fd114cacf3d08423ed9c4c49caf0ba9c7f218f1"),
            ("gene_median_dictionary", "b3b589bb5ec75040d05fc44dd6bf0184cf87f3c362cf158d196a6ed3b7fe5f39"),
            ("ensembl_mapping_dict", "eac0fb0b3007267871b6305ac0003ceba19d4f28d85686cb9067ecf142787869"),
            ("gene_name_id_dict", "55e67962e79c0039a6c32d43c5c99f38e51964bbcfa32f736150ee1e285c438c"),
        )
    ),
)
GENEFORMER_V2 = GeneformerRelease(
    "geneformer-v2",
    "V2",
    *(
        Published(f"{name}_gc104M.pkl", "geneformer", sha256)
        for name, sha256 in (
            ("token_dictionary", "67c445f4385127adfc48dcc072320cd65d6822829bf27dd38070e6e787bc597f"),
            ("gene_median_dictionary", "a51c53f6a771d64508dfaf61529df70e394c53bd20856926117ae5d641a24bf5"),
            ("ensembl_mapping_dict", "0819bcbd869cfa14279449b037eb9ed1d09a91310e77bd1a19d927465030e95c"),
            ("gene_name_id_dict", "fabfa0c2f49c598c59ae432a32c3499a5908c033756c663b5e0cddf58deea8e1"),
        )
    ),
)

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        geneformer(GENEFORMER_V1, GENEFORMER_SETTINGS["V1"], compat="geneformer_v1"),
        geneformer(GENEFORMER_V2, GENEFORMER_SETTINGS["V2"], compat="geneformer_v2"),
        scgpt("scgpt", "vocab.json"),
    )
}
