"""Published Geneformer weights as a :class:`TransformerEncoder`.

Theodoris et al. 2023, doi:10.1038/s41586-023-06139-9. A folder holds ``config.json`` and ``model.safetensors``, or
``pytorch_model.bin``, of a ``BertForMaskedLM``: post-norm blocks, learned positions, an output matrix tied to the gene
embedding. Its token types are all the first one, whose vector is added to every position here. Models with other heads,
or none, have the same body (:func:`open_geneformer`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from scmodelforge._errors import DataError, listed
from scmodelforge._json_files import read_json_object
from scmodelforge.models.published._files import FoundWeights, check_shapes, fresh_weights, read_tensors
from scmodelforge.models.transformer_encoder import TransformerEncoder
from scmodelforge.models.transformer_encoder_config import TransformerEncoderConfig

__all__ = [
    "find_geneformer_weights",
    "geneformer_config",
    "geneformer_weights",
    "geneformer_weights_file",
    "load_geneformer",
    "open_geneformer",
    "read_geneformer_config",
]

_OF_LAYER = {
    "attention.self.query": "attention.q",
    "attention.self.key": "attention.k",
    "attention.self.value": "attention.v",
    "attention.output.dense": "attention.o",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "ffn.up",
    "output.dense": "ffn.down",
    "output.LayerNorm": "ffn_norm",
}
_OTHERS = {
    "bert.embeddings.word_embeddings.weight": "embedding.gene_embedding.weight",
    "bert.embeddings.position_embeddings.weight": "embedding.position_embedding.weight",
    "bert.embeddings.LayerNorm.weight": "embedding.layer_norm.weight",
    "bert.embeddings.LayerNorm.bias": "embedding.layer_norm.bias",
    "cls.predictions.transform.dense.weight": "head.dense.weight",
    "cls.predictions.transform.dense.bias": "head.dense.bias",
    "cls.predictions.transform.LayerNorm.weight": "head.layer_norm.weight",
    "cls.predictions.transform.LayerNorm.bias": "head.layer_norm.bias",
    "cls.predictions.bias": "head.decoder.bias",
}
_POSITIONS = "bert.embeddings.position_embeddings.weight"
_TYPES = "bert.embeddings.token_type_embeddings.weight"
#: The same numbers under a second name, or none that are learned.
_COPIES = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
_UNUSED = {"bert.embeddings.position_ids"}
#: How names of the body begin in a model saved without a head, which lack the ``bert.`` that all others have.
_BARE = ("embeddings.", "encoder.", "pooler.")
#: How names of heads begin that published models may have.
_HEADS = ("cls.", "classifier.", "bert.pooler.")
_ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "silu": "silu", "swish": "silu"}


def load_geneformer(folder: str | Path) -> TransformerEncoder:
    """Read a published model, all of it.

    Its embeddings are means over tokens. It knows no vocabulary: token ids must be those of its version.

    Parameters
    ----------
    folder
        Folder with ``config.json`` and the weights.

    Returns
    -------
    The model, in evaluation mode.

    Raises
    ------
    DataError
        If files are missing or damaged, are of another kind of model, or weights are missing or left over.
    """
    model, found = open_geneformer(folder)
    _require_all(found, num_layers=len(model.encoder.layers), origin=str(geneformer_weights_file(Path(folder))))
    return model


def open_geneformer(
    folder: str | Path, config: TransformerEncoderConfig | None = None
) -> tuple[TransformerEncoder, FoundWeights]:
    """Read what a folder has of a published model: a head may be missing, or be another one.

    Parameters
    ----------
    folder
        Folder with ``config.json`` and the weights.
    config
        Settings of the model; ``None`` takes those of ``config.json``.

    Returns
    -------
    The model, in evaluation mode, with weights that the file lacks as they were drawn, and what the file has.

    Raises
    ------
    DataError
        As of :func:`load_geneformer`, but for missing weights and other heads.
    """
    folder = Path(folder)
    config = config or read_geneformer_config(folder)
    path = geneformer_weights_file(folder)
    found = find_geneformer_weights(read_tensors(path), num_layers=config.num_layers, origin=str(path))
    with fresh_weights():
        model = TransformerEncoder.from_config(config)
    check_shapes(found.weights, model.state_dict(), origin=str(path), settings="config.json")
    model.load_state_dict({**model.state_dict(), **found.weights})
    return model.eval(), found


def read_geneformer_config(folder: Path) -> TransformerEncoderConfig:
    """Return the settings in the folder of a published model: those of :func:`geneformer_config`."""
    settings = read_json_object(folder / "config.json", "give the folder of a published Geneformer")
    return geneformer_config(settings, origin=str(folder / "config.json"))


def geneformer_config(settings: Mapping[str, Any], *, origin: str = "config.json") -> TransformerEncoderConfig:
    """Return the settings of a published model.

    Parameters
    ----------
    settings
        What its ``config.json`` holds.
    origin
        What messages call it.

    Raises
    ------
    DataError
        If it is of another kind of model, or a setting is missing.
    """
    kind = settings.get("model_type")
    if kind != "bert" or settings.get("position_embedding_type", "absolute") != "absolute":
        msg = f"{origin}: model_type is {kind!r}, not 'bert' with absolute positions; give the folder of a Geneformer."
        raise DataError(msg)
    activation = _ACTIVATIONS.get(str(settings.get("hidden_act")))
    if activation is None:
        msg = f"{origin}: hidden_act is {settings.get('hidden_act')!r}; one of {', '.join(_ACTIVATIONS)} is needed."
        raise DataError(msg)
    try:
        return TransformerEncoderConfig(
            vocab_size=settings["vocab_size"],
            hidden_dim=settings["hidden_size"],
            num_layers=settings["num_hidden_layers"],
            num_heads=settings["num_attention_heads"],
            ffn_dim=settings["intermediate_size"],
            max_seq_len=settings["max_position_embeddings"],
            dropout=settings["hidden_dropout_prob"],
            attention_dropout=settings["attention_probs_dropout_prob"],
            layer_norm_eps=settings["layer_norm_eps"],
            activation=activation,
            head_activation=activation,
            norm_placement="post",
            tied_head=True,
            use_expression_values=False,
            pooling="mean",
        )
    except KeyError as problem:
        msg = f"{origin} has no {problem}; take the file as it was published."
        raise DataError(msg) from problem


def geneformer_weights(
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
        If one is missing, or left over, or two that should be one differ.
    """
    found = find_geneformer_weights(tensors, num_layers=num_layers, origin=origin)
    _require_all(found, num_layers=num_layers, origin=origin)
    return found.weights


def find_geneformer_weights(
    tensors: Mapping[str, torch.Tensor], *, num_layers: int, origin: str = "the weights"
) -> FoundWeights:
    """Return what there is of published weights; the parameters are those of :func:`geneformer_weights`.

    Names of a model that was saved without a head are taken as those of its body.

    Raises
    ------
    DataError
        If two weights that should be one differ, or some are left over that are of no head.
    """
    tensors = _whole_names(tensors)
    for copy, original in _COPIES.items():
        if copy in tensors and not torch.equal(tensors[copy], tensors.setdefault(original, tensors[copy])):
            msg = f"{origin}: '{copy}' differs from '{original}'; in these models they are one."
            raise DataError(msg)
    names = {old: new for number in range(num_layers) for old, new in _layer_names(number)} | _OTHERS
    found = FoundWeights(
        weights={new: tensors[old].float() for old, new in names.items() if old in tensors},
        matched=sorted(tensors.keys() & {*names, _TYPES}),
        missing=sorted({*names, _TYPES} - tensors.keys()),
        unexpected=sorted(tensors.keys() - names.keys() - _COPIES.keys() - _UNUSED - {_TYPES}),
        reshaped=sorted(tensors.keys() & {_POSITIONS, _TYPES}),
    )
    if not all(name.startswith(_HEADS) for name in found.unexpected):
        _require_all(found, num_layers=num_layers, origin=origin)
    if {_POSITIONS, _TYPES} <= tensors.keys():
        found.weights[_OTHERS[_POSITIONS]] = tensors[_POSITIONS].float() + tensors[_TYPES][0].float()
    return found


def geneformer_weights_file(folder: Path) -> Path:
    """Return the file of weights in the folder of a published model.

    Raises
    ------
    DataError
        If there is none.
    """
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return folder / name
    msg = f"{folder} has neither model.safetensors nor pytorch_model.bin; give the folder of a published Geneformer."
    raise DataError(msg)


def _require_all(found: FoundWeights, *, num_layers: int, origin: str) -> None:
    faults = [
        f"{listed(names, 3)} {what}"
        for what, names in (("missing", found.missing), ("unknown", found.unexpected))
        if names
    ]
    if faults:
        msg = f"{origin}: {'; '.join(faults)}; a BertForMaskedLM with {num_layers} layers is needed."
        raise DataError(msg)


def _whole_names(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return weights by the names they have in a model with a head."""
    if any(name.startswith("bert.") for name in tensors):
        return dict(tensors)
    return {f"bert.{name}" if name.startswith(_BARE) else name: tensor for name, tensor in tensors.items()}


def _layer_names(number: int) -> list[tuple[str, str]]:
    return [
        (f"bert.encoder.layer.{number}.{old}.{part}", f"encoder.layers.{number}.{new}.{part}")
        for old, new in _OF_LAYER.items()
        for part in ("weight", "bias")
    ]
