"""Published scGPT models: weights, settings and vocabulary of a folder.

Cui et al. 2024, doi:10.1038/s41592-024-02201-0. A folder holds ``args.json``, ``best_model.pt`` and ``vocab.json``. The
same weights go by other names depending on whether flash attention was installed when they were saved; all of them
are read. Heads that read vectors of cells, and the flag of values to generate, may be absent. Normalisation over
batches, embeddings of batches, heads of zero probability and classifiers of batches are refused.

The official reader keeps what matches in name and shape and leaves the rest random without a word; here that is an
error, but for :func:`open_scgpt`, which tells of it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from scmodelforge._errors import DataError, listed
from scmodelforge._json_files import read_json_object
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.models.components.special_tokens import apply_special_tokens
from scmodelforge.models.published._files import FoundWeights, fresh_weights, read_tensors
from scmodelforge.models.published._scgpt_names import HEADS, REFUSED, common_names, names_of
from scmodelforge.models.scgpt import ScGPT, ScGPTConfig
from scmodelforge.models.scgpt_config import GENERATIVE

__all__ = ["load_scgpt", "load_scgpt_vocab", "open_scgpt", "scgpt_config", "scgpt_weights"]

_log = logging.getLogger(__name__)

#: Settings that say what the model computes, and the only value that is known here.
_ONLY = {
    "input_style": "binned",
    "input_emb_style": "continuous",
    "n_bins": 51,
    "pad_value": -2,
    "pre_norm": False,
    "cell_emb_style": "cls",
    "mvc_decoder_style": "inner product",
    "use_batch_labels": False,
    "explicit_zero_prob": False,
}
_GENERATIVE = ("both", "generation")
_NEEDED = ("embsize", "nheads", "nlayers", "d_hid", "dropout")
#: Settings that are taken over, under our names.
_SETTINGS = {
    "embsize": "hidden_dim",
    "nheads": "num_heads",
    "nlayers": "num_layers",
    "d_hid": "ffn_dim",
    "dropout": "dropout",
    "max_seq_len": "max_seq_len",
    "mask_value": "mask_value",
    "n_layers_cls": "cls_layers",
}
_MOST = 6  # names in a message
_GIVE = "give the folder of a published scGPT"


def load_scgpt(folder: str | Path) -> ScGPT:
    """Read a published model.

    Its embeddings are divided by their length, as published. A file with the flag of values to generate gives a model
    with ``pretraining_task: generative_value_prediction`` and ``skip_output_projection``, since its weights were
    trained so; one with the classifier of cells a model with ``cls_weight`` 1.

    Parameters
    ----------
    folder
        Folder with ``args.json``, ``best_model.pt`` and ``vocab.json``.

    Returns
    -------
    The model, in evaluation mode; its settings are ``config``. Token ids are those of :func:`load_scgpt_vocab`.

    Raises
    ------
    DataError
        If files are missing or damaged, the model has parts that are not supported, or weights are missing, left over
        or of another shape.
    """
    model, found = open_scgpt(folder)
    _require({"missing": found.missing, "unexpected": found.unexpected}, origin=str(Path(folder) / "best_model.pt"))
    return model


def open_scgpt(folder: str | Path) -> tuple[ScGPT, FoundWeights]:
    """Read what a folder has of a published model: heads may be missing.

    The parameters, and the errors but for missing and left-over weights, are those of :func:`load_scgpt`.

    Returns
    -------
    The model, in evaluation mode, with weights that the file lacks as they were drawn, and what the file has.
    """
    folder = Path(folder)
    vocab, settings = load_scgpt_vocab(folder), read_json_object(folder / "args.json", _GIVE)
    path = folder / "best_model.pt"
    if not path.is_file():
        msg = f"{folder} has no {path.name}; {_GIVE}."
        raise DataError(msg)
    tensors = common_names(read_tensors(path), origin=str(path))
    config = scgpt_config(settings, tensors, vocab_size=len(vocab), origin=str(folder / "args.json"))
    with fresh_weights():
        model = ScGPT.from_config(config)
    apply_special_tokens(model, vocab)
    found = _find(tensors, model, origin=str(path))
    model.load_state_dict({**model.state_dict(), **found.weights})
    return model.eval(), found


def load_scgpt_vocab(folder: str | Path) -> GeneVocab:
    """Read the vocabulary of a published model: gene symbols and special tokens at their published ids.

    Parameters
    ----------
    folder
        Folder with ``vocab.json``.

    Raises
    ------
    DataError
        If the file is missing, damaged or no mapping from name to id, or has no ``<pad>`` or ``<cls>``.
    """
    path = Path(folder) / "vocab.json"
    content = read_json_object(path, _GIVE)
    try:
        vocab = GeneVocab.from_token_dict(content, name="scgpt", aliases=False)
        _ = vocab.pad_id, vocab.cls_id
    except DataError as problem:
        msg = f"{path}: {problem}"
        raise DataError(msg) from problem
    return vocab


def scgpt_config(
    settings: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], *, vocab_size: int, origin: str = "args.json"
) -> ScGPTConfig:
    """Return the settings of a published model.

    Parameters
    ----------
    settings
        What its ``args.json`` holds.
    tensors
        Its weights by name; which heads there are, they tell.
    vocab_size
        Number of tokens.
    origin
        What messages call the settings.

    Raises
    ------
    DataError
        If a setting is missing, or asks for what is not supported.
    """
    missing = [name for name in _NEEDED if settings.get(name) is None]
    if missing:
        msg = f"{origin} has no {listed(missing, len(missing))}; take the file as it was published."
        raise DataError(msg)
    for name, needed in _ONLY.items():
        if settings.get(name, needed) != needed:
            msg = f"{origin}: {name} is {settings[name]!r}, but only {needed!r} is supported; take another model."
            raise DataError(msg)
    if settings.get("USE_CLS") and not _has(tensors, "cls_decoder."):
        msg = f"{origin} tells of a classifier of cells (USE_CLS), whose weights are missing (cls_decoder.*); {_GIVE}."
        raise DataError(msg)
    is_generative = _has(tensors, "flag_encoder.")
    if not is_generative and (settings.get("USE_GENERATIVE_TRAINING") or settings.get("training_tasks") in _GENERATIVE):
        _log.warning(
            f"{origin} tells of values that were generated, but there is no flag_encoder.weight, as code without "
            "generation saves it: the model predicts hidden values and cannot generate any."
        )
    classes = tensors.get("cls_decoder.out_layer.weight")
    values = {
        "architecture": "scgpt",
        "vocab_size": vocab_size,
        "max_seq_len": 1200,
        "l2_embeddings": True,
        "pretraining_task": GENERATIVE if is_generative else "masked_value_prediction",
        "skip_output_projection": is_generative,
        "gepc_weight": float(bool(settings.get("MVC")) or _has(tensors, "mvc_decoder.")),
        "cls_weight": float(_has(tensors, "cls_decoder.")),
        "num_cell_types": None if classes is None else len(classes),
        **{ours: settings[name] for name, ours in _SETTINGS.items() if name in settings},
    }
    try:
        return ScGPTConfig.model_validate(values)
    except ValidationError as problem:
        faults = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in problem.errors())
        msg = f"{origin}: {faults}; take the file as it was published."
        raise DataError(msg) from problem


def scgpt_weights(
    tensors: Mapping[str, torch.Tensor], model: ScGPT, *, origin: str = "the weights"
) -> dict[str, torch.Tensor]:
    """Return published weights under our names.

    Parameters
    ----------
    tensors
        Published weights by name.
    model
        The model they are for.
    origin
        What messages call them.

    Raises
    ------
    DataError
        If weights are of a part that is not supported, missing, left over or of another shape; the message lists them.
    """
    found = _find(common_names(tensors, origin=origin), model, origin=origin)
    _require({"missing": found.missing, "unexpected": found.unexpected}, origin=origin)
    return found.weights


def _find(tensors: Mapping[str, torch.Tensor], model: ScGPT, *, origin: str) -> FoundWeights:
    """Return what there is of published weights; parts that are not supported and other shapes are refused."""
    refused = sorted(name for name in tensors if name.startswith(tuple(REFUSED)))
    if refused:
        parts = sorted({part for start, part in REFUSED.items() if any(name.startswith(start) for name in refused)})
        msg = (
            f"{origin}: {listed(refused, _MOST)} belong to {', '.join(parts)}, which scgpt has not; take another model."
        )
        raise DataError(msg)
    names, wanted = names_of(model.config), model.state_dict()
    shapes = {old: tuple(wanted[new[0]].shape) for old, new in names.items()}
    shapes |= {old: (3 * shape[0], *shape[1:]) for old, shape in shapes.items() if len(names[old]) == 3}
    shared = sorted(tensors.keys() & shapes.keys())
    wrong = [name for name in shared if tuple(tensors[name].shape) != shapes[name]]
    missing, unexpected = sorted(shapes.keys() - tensors.keys()), sorted(tensors.keys() - shapes.keys())
    if wrong or not all(name.startswith(HEADS) for name in unexpected):
        told = [f"{name} {tuple(tensors[name].shape)}, not {shapes[name]}" for name in wrong]
        _require({"missing": missing, "unexpected": unexpected, "of another shape": told}, origin=origin)
    weights: dict[str, torch.Tensor] = {}
    for old in shared:
        new = names[old]
        weights |= dict(zip(new, tensors[old].float().chunk(len(new)), strict=True))
    return FoundWeights(weights, shared, missing, unexpected, [old for old in shared if len(names[old]) > 1])


def _require(faults: Mapping[str, list[str]], *, origin: str) -> None:
    if any(faults.values()):
        told = "; ".join(f"{what}: {listed(found, _MOST)}" for what, found in faults.items() if found)
        msg = f"{origin} does not fit args.json and vocab.json: {told}. Take all files of one model."
        raise DataError(msg)


def _has(tensors: Mapping[str, torch.Tensor], start: str) -> bool:
    return any(name.startswith(start) for name in tensors)
