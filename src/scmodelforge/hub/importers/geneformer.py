"""Geneformer as published: a masked language model of ranked genes, of the first or second version.

Theodoris et al. 2023, doi:10.1038/s41586-023-06139-9. The folder of a model has ``config.json`` and weights, but not
the vocabulary. Which release's it is follows from the number of tokens; its dictionaries are read from a folder that is
named, or are those that were fetched. A model that was trained on other genes has its own beside the weights.

Cells are embedded as by the official code: by the mean over genes, without ``<cls>`` and ``<eos>``, of what leaves the
layer before the last.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from scmodelforge._errors import DataError
from scmodelforge._json_files import read_json_object
from scmodelforge.config.preprocessing import PreprocessingConfig
from scmodelforge.data.preprocess import Preprocessor
from scmodelforge.hub.bundle import Bundle
from scmodelforge.hub.dictionaries import find_dictionaries
from scmodelforge.hub.importers.base import (
    Imported,
    LoadReport,
    check_files,
    check_release,
    imported_from,
    register_importer,
)
from scmodelforge.models.components.special_tokens import apply_special_tokens
from scmodelforge.models.published.geneformer import geneformer_weights_file, open_geneformer, read_geneformer_config
from scmodelforge.models.transformer_encoder import TransformerEncoder
from scmodelforge.models.transformer_encoder_config import TransformerEncoderConfig
from scmodelforge.tokenizers.base import BaseTokenizer
from scmodelforge.tokenizers.own_dictionaries import own_geneformer_files, read_own_geneformer
from scmodelforge.tokenizers.presets import GENEFORMER_SETTINGS, Preset, get_preset
from scmodelforge.tokenizers.rank_value import RankValueConfig, RankValueTokenizer

__all__ = ["BODY", "GeneformerImporter", "embedding_as_published", "geneformer_tokenizer"]

_log = logging.getLogger(__name__)

#: How names of the body begin.
BODY = ("bert.embeddings.", "bert.encoder.")
#: The representation of each release by the number of its tokens.
_RELEASES = {25_426: "geneformer-v1", 20_275: "geneformer-v2"}
#: Widths of models of 2024 that have the tokens of the second version, and were trained with other medians.
_OF_2024 = (512, 896)


@register_importer("geneformer")
class GeneformerImporter:
    """Reads a Geneformer that predicts hidden genes."""

    def recognises(self, folder: Path) -> bool:
        """Tell whether a folder holds such a model: a BERT, but no classifier of cells."""
        try:
            settings = read_json_object(folder / "config.json", "")
        except DataError:
            return False
        is_classifier = "BertForSequenceClassification" in (settings.get("architectures") or [])
        return settings.get("model_type") == "bert" and not is_classifier

    def load(
        self, folder: Path, *, dictionaries: Path | None = None, sha256: Mapping[str, str] | None = None
    ) -> Imported:
        """Read the model; the parameters and errors are those of :meth:`Importer.load`."""
        path = geneformer_weights_file(folder)
        files = check_files(folder, ["config.json", path.name], sha256=sha256)
        config = read_geneformer_config(folder)
        tokenizer, read = geneformer_tokenizer(folder, config, dictionaries=dictionaries)
        config = embedding_as_published(config)
        model, found = open_geneformer(folder, config)
        report = LoadReport(found.matched, found.missing, found.unexpected, found.reshaped, body=BODY)
        report.check(str(path))
        apply_special_tokens(model, tokenizer.vocab)
        bundle = Bundle(
            model=model,
            model_config=config,
            tokenizer=tokenizer,
            vocab=tokenizer.vocab,
            preprocessor=Preprocessor(PreprocessingConfig()),
            objective=TransformerEncoder.default_objective,
            fingerprint=imported_from("geneformer", folder, files, read),
        )
        return Imported(bundle, report)


def embedding_as_published(config: TransformerEncoderConfig) -> TransformerEncoderConfig:
    """Return the settings of a model so that it embeds cells as the official code does.

    That is by the mean over genes of what leaves the layer before the last; of a single layer, what leaves that.
    """
    return config.model_copy(update={"pooled_tokens": "genes", "left_out_layers": min(1, config.num_layers - 1)})


def geneformer_tokenizer(
    folder: Path, config: TransformerEncoderConfig, *, dictionaries: Path | None = None
) -> tuple[BaseTokenizer, dict[str, str]]:
    """Return the tokenizer of a published model, and the sha256 of the files that it was made of.

    Parameters
    ----------
    folder
        Folder of the model.
    config
        Its settings.
    dictionaries
        Folder with its dictionaries; ``None`` takes those in ``folder``, or those of its release that were fetched.

    Raises
    ------
    DataError
        If they are missing, damaged, or of another release than the model.
    """
    num_tokens, place = config.vocab_size or 0, dictionaries or folder
    names = own_geneformer_files(place)
    if names:
        read = check_files(place, names)
        tokenizer: BaseTokenizer = _own_tokenizer(place, max_genes=config.max_seq_len)
    else:
        preset = _release_of(folder, config)
        place = _place_of(preset, folder, dictionaries)
        read = check_files(place, preset.files_in(place))
        tokenizer = preset.make(place, {"max_genes": config.max_seq_len})
    check_release(len(tokenizer.vocab), num_tokens, str(folder))
    return tokenizer, read


def _own_tokenizer(place: Path, *, max_genes: int) -> RankValueTokenizer:
    found, version = read_own_geneformer(place)
    settings = {**GENEFORMER_SETTINGS[version], "medians": found.origin, "max_genes": max_genes}
    config = RankValueConfig.model_validate(settings)
    return RankValueTokenizer(config, found.vocab, medians=found.medians, id_mapping=found.id_mapping)


def _release_of(folder: Path, config: TransformerEncoderConfig) -> Preset:
    name = _RELEASES.get(config.vocab_size or 0)
    if name is None:
        known = ", ".join(f"{number:,} ({each})" for number, each in _RELEASES.items())
        msg = (
            f"{folder}: the weights have {config.vocab_size:,} tokens, which no release has: {known}. Put the "
            "token_dictionary.json and gene_median_dictionary.json (or .pkl) they were trained with beside them, or "
            "name the folder of these."
        )
        raise DataError(msg)
    if name == "geneformer-v2" and config.hidden_dim in _OF_2024:
        _log.warning(
            f"{folder}: models of width {config.hidden_dim} with {config.vocab_size:,} tokens were published in 2024 "
            f"with other medians than those of {name}; if this is one, ranks of genes are not those it was trained on."
        )
    return get_preset(name)


def _place_of(preset: Preset, folder: Path, dictionaries: Path | None) -> Path:
    """Return the folder with the dictionaries of a release."""
    if dictionaries is None:
        return folder if _has(preset, folder) else find_dictionaries(preset, None)
    others = [name for name in _RELEASES.values() if name != preset.name and _has(get_preset(name), dictionaries)]
    if others and not _has(preset, dictionaries):
        msg = (
            f"{dictionaries} has the dictionaries of {others[0]}, and the weights in {folder} are of {preset.name}; "
            "take both from one release."
        )
        raise DataError(msg)
    return dictionaries


def _has(preset: Preset, folder: Path) -> bool:
    try:
        return bool(preset.files_in(folder))
    except DataError:
        return False
