"""Published cell classifiers made of Geneformer, as a :class:`FineTuneModel`.

A folder holds ``config.json`` and the weights of a ``BertForSequenceClassification``: the body of a Geneformer, a dense
layer with tanh that reads its first token (the pooler), and a linear layer to the classes. The head that predicts genes
is not among the weights, and the model has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from scmodelforge._errors import DataError, listed
from scmodelforge._json_files import read_json_object
from scmodelforge.config.schema import ModelConfig
from scmodelforge.models.fine_tuned import FineTuneModel
from scmodelforge.models.fine_tuned_config import CellTypeHeadConfig, FineTunedConfig
from scmodelforge.models.published._files import AS_PUBLISHED, FoundWeights, check_shapes, fresh_weights, read_tensors
from scmodelforge.models.published.geneformer import find_geneformer_weights, geneformer_config, geneformer_weights_file

__all__ = [
    "class_names",
    "geneformer_classifier_config",
    "is_cell_classifier",
    "load_geneformer_classifier",
    "open_geneformer_classifier",
]

_KIND = "BertForSequenceClassification"
_HEAD = {
    "bert.pooler.dense.weight": "head.layers.0.weight",
    "bert.pooler.dense.bias": "head.layers.0.bias",
    "classifier.weight": "head.decoder.weight",
    "classifier.bias": "head.decoder.bias",
}
#: Beginning of names that only models have which predict genes.
_GENES = "cls."
_NO_NAMES = {"0": "LABEL_0", "1": "LABEL_1"}  # of two classes without names, the file says nothing


def load_geneformer_classifier(folder: str | Path) -> FineTuneModel:
    """Read a published classifier of cells.

    Parameters
    ----------
    folder
        Folder with ``config.json`` and the weights.

    Returns
    -------
    The model, in evaluation mode. It knows no vocabulary: token ids must be those of its version.

    Raises
    ------
    DataError
        If files are missing or damaged, are of another kind of model, or weights are missing or left over.
    """
    return open_geneformer_classifier(folder)[0]


def open_geneformer_classifier(
    folder: str | Path, config: FineTunedConfig | None = None
) -> tuple[FineTuneModel, FoundWeights]:
    """Read a published classifier of cells, and tell what its file has.

    Parameters
    ----------
    folder
        Folder with ``config.json`` and the weights.
    config
        Settings of the model; ``None`` takes those of ``config.json``.

    Raises
    ------
    DataError
        As of :func:`load_geneformer_classifier`.
    """
    folder = Path(folder)
    config = config or geneformer_classifier_config(_settings(folder), origin=str(folder / "config.json"))
    path = geneformer_weights_file(folder)
    found = _find_weights(read_tensors(path), num_layers=config.num_layers, origin=str(path))
    with fresh_weights():
        model = FineTuneModel.from_config(config)
    check_shapes(found.weights, model.state_dict(), origin=str(path), settings="config.json")
    model.load_state_dict(found.weights)
    return model.eval(), found


def is_cell_classifier(settings: Mapping[str, Any]) -> bool:
    """Tell whether settings (``config.json``) are those of a classifier of cells."""
    return settings.get("model_type") == "bert" and _KIND in (settings.get("architectures") or [])


def geneformer_classifier_config(
    settings: Mapping[str, Any], *, origin: str = "config.json", backbone: ModelConfig | None = None
) -> FineTunedConfig:
    """Return the settings of a published classifier.

    Parameters
    ----------
    settings
        What its ``config.json`` holds.
    origin
        What messages call it.
    backbone
        Settings of its body; ``None`` takes those of ``config.json``.

    Raises
    ------
    DataError
        If it is of another kind of model, or a setting is missing.
    """
    if not is_cell_classifier(settings):
        msg = f"{origin}: architectures is {settings.get('architectures')!r}; a {_KIND} is needed."
        raise DataError(msg)
    if settings.get("problem_type") not in (None, "single_label_classification"):
        msg = (
            f"{origin}: problem_type is {settings['problem_type']!r}; a model that gives each cell one of several "
            "classes is needed."
        )
        raise DataError(msg)
    body = geneformer_config(settings, origin=origin) if backbone is None else backbone
    dropout = settings.get("classifier_dropout")
    return FineTunedConfig(
        backbone=body,
        head=CellTypeHeadConfig(pooling="first", dropout=body.dropout if dropout is None else dropout),
        num_cell_types=len(class_names(settings, origin=origin)),
    )


def class_names(settings: Mapping[str, Any], *, origin: str = "config.json") -> list[str]:
    """Return the names of the classes, in the order of the scores.

    Parameters
    ----------
    settings, origin
        As of :func:`geneformer_classifier_config`.

    Raises
    ------
    DataError
        If they are not numbered 0, 1, 2, ..., or two are one.
    """
    named = settings.get("id2label", _NO_NAMES)
    numbers = [str(number) for number in range(len(named))] if isinstance(named, Mapping) else []
    if not numbers or {str(key) for key in named} != {*numbers}:
        msg = f"{origin}: id2label does not name classes 0, 1, 2, ...; {AS_PUBLISHED}."
        raise DataError(msg)
    by_number = {str(key): str(name) for key, name in named.items()}
    names = [by_number[number] for number in numbers]
    if len({*names}) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        msg = f"{origin}: id2label gives several classes the name {listed(twice, 3)}; each needs its own."
        raise DataError(msg)
    return names


def _settings(folder: Path) -> dict[str, Any]:
    return read_json_object(folder / "config.json", "give the folder of a published classifier")


def _find_weights(tensors: Mapping[str, torch.Tensor], *, num_layers: int, origin: str) -> FoundWeights:
    body = find_geneformer_weights(tensors, num_layers=num_layers, origin=origin)
    missing = [name for name in body.missing if not name.startswith(_GENES)] + sorted(_HEAD.keys() - tensors.keys())
    unexpected = sorted({*body.unexpected} - _HEAD.keys())
    if missing or unexpected:
        told = ((missing, "missing"), (unexpected, "unknown"))
        faults = "; ".join(f"{listed(names, 3)} {what}" for names, what in told if names)
        msg = f"{origin}: {faults}; a {_KIND} with {num_layers} layers is needed."
        raise DataError(msg)
    weights = {f"backbone.{name}": tensor for name, tensor in body.weights.items() if not name.startswith("head.")}
    return FoundWeights(
        weights=weights | {new: tensors[old].float() for old, new in _HEAD.items()},
        matched=sorted([name for name in body.matched if not name.startswith(_GENES)] + [*_HEAD]),
        missing=[],
        unexpected=[name for name in body.matched if name.startswith(_GENES)],
        reshaped=body.reshaped,
    )
