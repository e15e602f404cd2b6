"""Checks: settings and weights come back from files as they were."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from scmodelforge.config.schema import ModelConfig
from scmodelforge.workflows.model_check.results import Check, difference, fail
from scmodelforge.workflows.model_check.subject import Subject, seed_draws

__all__ = ["CHECKS"]

_EXACT = 1e-6


def _settings_survive(subject: Subject) -> None:
    settings = subject.settings()
    restored = _restored(settings)
    if restored != settings:
        changed = [name for name in type(settings).model_fields if getattr(settings, name) != getattr(restored, name)]
        fail(
            f"settings {', '.join(changed)} change when they are written as JSON and read again; they must come back "
            "equal; use numbers, text, booleans and lists"
        )


def _restored(settings: ModelConfig) -> ModelConfig:
    try:
        text = json.dumps(settings.model_dump(mode="json"))
        return type(settings).model_validate(json.loads(text))
    except ValueError as problem:
        fail(
            f"settings cannot be read from the JSON they were written as ({' '.join(str(problem).split())[:200]}); "
            "they must come back equal; use numbers, text, booleans and lists"
        )


def _weights_survive(subject: Subject) -> None:
    from safetensors.torch import load_model, save_model

    model = subject.trained()
    seed_draws(subject.seed + 999)  # whatever is not in the file must not matter
    other = subject.model_class.from_config(subject.settings())
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.safetensors")
        try:
            save_model(model, path)
            load_model(other, path, strict=True)
        except (RuntimeError, ValueError) as problem:
            fail(
                f"the weights cannot be saved and loaded ({' '.join(str(problem).split())[:200]}); a model made from "
                "the same settings must have the same weights; make all of them in __init__"
            )
    other.eval()
    batch = subject.batch()
    before, after = subject.forward(model, batch), subject.forward(other, batch)
    gaps = {
        "embeddings": difference(subject.encode(model, subject.clean()), subject.encode(other, subject.clean())),
        "logits": difference(before.logits, after.logits),
    }
    for part, gap in gaps.items():
        if gap > _EXACT:
            fail(
                f"{part} of a model loaded from its file differ by {gap:.2g}; they must be equal; register what is "
                "drawn or changed in training as a parameter or a persistent buffer"
            )


CHECKS = (
    Check("settings survive saving", _settings_survive),
    Check("weights survive saving", _weights_survive),
)
