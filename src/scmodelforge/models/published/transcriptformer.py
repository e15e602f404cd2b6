"""Published TranscriptFormer weights as a :class:`TranscriptFormer`.

Pearce et al. 2025, doi:10.1101/2025.04.25.650731. Weights are a state dict of the released code; its settings are the
section ``model_config`` of a JSON file. Tokens 0 to 3 are ``unknown``, ``[PAD]``, ``[START]`` and ``[END]``; a cell
begins with ``[START]`` where ours begins with ``<cls>``. Embeddings are means over tokens: times the number of tokens
over ``seq_len`` they are those of the released code.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from scmodelforge._errors import DataError, listed
from scmodelforge._json_files import read_json_object
from scmodelforge.models.components.special_tokens import SpecialIds
from scmodelforge.models.published._files import check_shapes, read_tensors
from scmodelforge.models.transcriptformer import TranscriptFormer, TranscriptFormerConfig

__all__ = ["load_transcriptformer", "transcriptformer_config", "transcriptformer_weights"]

_MLPS = {"gene_embeddings.mlp": "embedding.mlp", "mu.mlp": "count_head", "gene_id_head": "gene_head"}
_OF_MLP = {"layers.0": "dense", "layers.2": "layer_norm", "layers.4": "decoder"}
_TABLES = {
    "gene_embeddings.embedding.weight": "embedding.gene_embedding.weight",
    "mu.gene_embedding.weight": "count_bias.weight",
}
_ASSAYS = "aux_embeddings.assay.weight"
_OF_LAYER = {
    "self_attn.linears.0.weight": "attention.q.weight",
    "self_attn.linears.1.weight": "attention.k.weight",
    "self_attn.linears.2.weight": "attention.v.weight",
    "self_attn.linears.3.weight": "attention.o.weight",
    "linear1.weight": "ffn.up.weight",
    "linear2.weight": "ffn.down.weight",
    "norm1.weight": "attention_norm.weight",
    "norm1.bias": "attention_norm.bias",
    "norm2.weight": "ffn_norm.weight",
    "norm2.bias": "ffn_norm.bias",
}
#: What other settings than these would mean is not known here.
_FIXED = {
    "activation": "gelu",
    "attn_bias": False,
    "fw_bias": False,
    "mu_link_fn": "softmax",
    "log_counts_eps": 1e-6,  # too small beside a count to matter, and left out
}
_SPECIAL_IDS = SpecialIds((0, 1, 2, 3), pad=1, cls=2, mask=-1)
_WHOLE = "take both files from one published model"


def load_transcriptformer(weights: str | Path, config: str | Path) -> TranscriptFormer:
    """Read a published model.

    It knows no vocabulary: token ids and numbers of assays must be those of its release.

    Parameters
    ----------
    weights
        File with the state dict.
    config
        JSON file with ``model_config``, at its top or under ``model``.

    Returns
    -------
    The model, in evaluation mode. Its vectors of genes are not trained, as published.

    Raises
    ------
    DataError
        If a file is missing or damaged, is of another kind of model, or weights are missing or left over.
    """
    if not Path(weights).is_file():
        msg = f"{weights}: no such file; give the weights of a published TranscriptFormer."
        raise DataError(msg)
    tensors = read_tensors(Path(weights))
    described = read_json_object(Path(config), "give the settings of a published TranscriptFormer")
    settings = transcriptformer_config(described, tensors, origin=str(config))
    renamed = transcriptformer_weights(tensors, num_layers=settings.num_layers, origin=str(weights))
    with torch.random.fork_rng(devices=[]):  # the first weights are written over
        model = TranscriptFormer.from_config(settings)
    check_shapes(renamed, model.state_dict(), origin=str(weights), settings=str(config))
    model.load_state_dict(renamed)
    model.embedding.special_ids = _SPECIAL_IDS
    table = model.embedding.gene_embedding
    assert isinstance(table, torch.nn.Embedding)
    table.padding_idx = _SPECIAL_IDS.pad
    table.requires_grad_(False)
    return model.eval()


def transcriptformer_config(
    content: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], *, origin: str = "config.json"
) -> TranscriptFormerConfig:
    """Return the settings of a published model.

    Parameters
    ----------
    content
        What its JSON file holds.
    tensors
        Its weights by name, whose shapes say what the settings do not.
    origin
        What messages call the settings.

    Raises
    ------
    DataError
        If it is of another kind of model, or something is missing.
    """
    inner = content.get("model")
    settings = (inner if isinstance(inner, dict) else content).get("model_config")
    if not isinstance(settings, dict):
        msg = f"{origin} has no 'model_config'; give the settings of a published TranscriptFormer."
        raise DataError(msg)
    for name, needed in _FIXED.items():
        if settings.get(name, needed) != needed:
            msg = f"{origin}: {name} is {settings[name]!r}; only {needed!r} is known."
            raise DataError(msg)
    if settings.get("aux_len", 1) > 1:
        msg = f"{origin}: aux_len is {settings['aux_len']}; at most one token beside the genes, the assay, is known."
        raise DataError(msg)
    if bool(settings.get("aux_len", _ASSAYS in tensors)) != (_ASSAYS in tensors):
        there = "there" if _ASSAYS in tensors else "missing"
        msg = f"{origin}: aux_len is {settings['aux_len']}, but {_ASSAYS} is {there}; {_WHOLE}."
        raise DataError(msg)
    try:
        vocab_size, vector_dim = tensors["gene_embeddings.embedding.weight"].shape
        return TranscriptFormerConfig(
            architecture="transcriptformer",
            vocab_size=vocab_size,
            vector_dim=vector_dim,
            hidden_dim=settings["embed_dim"],
            num_layers=settings["num_layers"],
            num_heads=settings["num_heads"],
            ffn_dim=settings["model_dim"],
            head_dim=settings["gene_head_hidden_dim"],
            max_seq_len=settings["seq_len"] + 1,
            dropout=settings["dropout"],
            soft_cap=settings["softcap"] or None,
            num_assays=len(tensors[_ASSAYS]) if _ASSAYS in tensors else None,
            own_counts_when_encoding=True,
            count_rates="shares",
        )
    except KeyError as problem:
        msg = f"{origin} and its weights have no {problem}; {_WHOLE}."
        raise DataError(msg) from problem


def transcriptformer_weights(
    tensors: Mapping[str, torch.Tensor], *, num_layers: int, origin: str = "the weights"
) -> dict[str, torch.Tensor]:
    """Return published weights under our names.

    Parameters
    ----------
    tensors
        Published weights by name.
    num_layers
        Number of layers of the model.
    origin
        What messages call them.

    Raises
    ------
    DataError
        If one is missing, or left over.
    """
    names = dict(_TABLES)
    if _ASSAYS in tensors:
        names[_ASSAYS] = "assay_embedding.weight"
    for old, new in _MLPS.items():
        for layer, own in _OF_MLP.items():
            names |= {f"{old}.{layer}.{part}": f"{new}.{own}.{part}" for part in ("weight", "bias")}
    for number in range(num_layers):
        start, own_start = f"transformer_encoder.encoder_layers.{number}.", f"encoder.layers.{number}."
        names |= {start + old: own_start + new for old, new in _OF_LAYER.items()}
    missing, unknown = sorted(names.keys() - tensors.keys()), sorted(tensors.keys() - names.keys())
    if missing or unknown:
        faults = [f"{listed(found, 3)} {what}" for what, found in (("missing", missing), ("unknown", unknown)) if found]
        msg = f"{origin}: {'; '.join(faults)}; a TranscriptFormer with {num_layers} layers is needed."
        raise DataError(msg)
    return {new: tensors[old].float() for old, new in names.items()}
