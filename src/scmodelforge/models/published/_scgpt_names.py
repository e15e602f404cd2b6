"""Names of published scGPT weights, and what they are called in our model."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from scmodelforge._errors import DataError
from scmodelforge.models.scgpt_config import GENERATIVE, ScGPTConfig

__all__ = ["HEADS", "REFUSED", "common_names", "names_of"]

_LAYER = "transformer_encoder.layers."
_OF_LAYER = {
    "self_attn.out_proj": "attention.o",
    "norm1": "attention_norm",
    "linear1": "ffn.up",
    "linear2": "ffn.down",
    "norm2": "ffn_norm",
}
_OTHERS = {
    "encoder.embedding.weight": "embedding.gene_embedding.weight",
    "encoder.enc_norm": "embedding.layer_norm",
    "value_encoder.linear1": "embedding.value_projection.linear1",
    "value_encoder.linear2": "embedding.value_projection.linear2",
    "value_encoder.norm": "embedding.value_projection.norm",
    "decoder.fc.0": "head.0",
    "decoder.fc.2": "head.2",
    "decoder.fc.4": "head.4",
}
_FLAG = {"flag_encoder.weight": "embedding.flag_embedding.weight"}
_FROM_CELLS = {
    "mvc_decoder.gene2query": "terms.value_head.query",
    "mvc_decoder.W.weight": "terms.value_head.weight.weight",
}
#: Parts that published code has and this model has not, by how the names of their weights begin.
REFUSED = {
    "bn.": "batch normalisation of the input",
    "dsbn.": "batch normalisation of each domain",
    "batch_encoder.": "embeddings of batches",
    "decoder.zero_logit.": "a head of zero probability",
    "mvc_decoder.W_zero_logit.": "a head of zero probability",
    "grad_reverse_discriminator.": "a classifier of batches",
}
#: How names of heads begin.
HEADS = ("decoder.", "mvc_decoder.", "cls_decoder.")
#: What differs between the names of the same weights.
_RENAMED = (
    (".self_attn._impl.", ".self_attn."),
    (".self_attn.in_proj_weight", ".self_attn.Wqkv.weight"),
    (".self_attn.in_proj_bias", ".self_attn.Wqkv.bias"),
)
_KINDS = ("weight", "bias")


def names_of(config: ScGPTConfig) -> dict[str, tuple[str, ...]]:
    """Return our names of each published weight: three for what queries, keys and values share."""
    names = {
        f"{_LAYER}{n}.{old}": f"encoder.layers.{n}.{new}"
        for n in range(config.num_layers)
        for old, new in _OF_LAYER.items()
    }
    names |= _OTHERS
    if config.pretraining_task == GENERATIVE:
        names |= _FLAG
    if config.gepc_weight:
        names |= _FROM_CELLS
    if config.cls_weight:
        hidden = [number for layer in range(config.cls_layers - 1) for number in (3 * layer, 3 * layer + 2)]
        names |= {f"cls_decoder._decoder.{number}": f"terms.class_head.layers.{number}" for number in hidden}
        names["cls_decoder.out_layer"] = "terms.class_head.output"
    whole: dict[str, tuple[str, ...]] = {}
    for old, new in names.items():
        whole |= {old: (new,)} if old.endswith(".weight") else {f"{old}.{p}": (f"{new}.{p}",) for p in _KINDS}
    for number in range(config.num_layers):
        own = f"encoder.layers.{number}.attention."
        whole |= {f"{_LAYER}{number}.self_attn.Wqkv.{p}": tuple(f"{own}{each}.{p}" for each in "qkv") for p in _KINDS}
    return whole


def common_names(tensors: Mapping[str, torch.Tensor], *, origin: str) -> dict[str, torch.Tensor]:
    """Return weights by the names that the published whole-human model has for them."""
    found: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        common = name.removeprefix("module.")
        for theirs, ours in _RENAMED:
            common = common.replace(theirs, ours)
        if common in found:
            msg = f"{origin}: '{common}' is there under two names, '{name}' the second; take the file as published."
            raise DataError(msg)
        found[common] = tensor
    return found
