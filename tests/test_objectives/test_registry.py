from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

from scmodelforge._errors import ConfigError
from scmodelforge._registry import OBJECTIVES
from scmodelforge.config.schema import ModelConfig, TokenizerConfig
from scmodelforge.objectives import Collator, get_objective, list_objectives, pad, register_objective
from scmodelforge.objectives.masked_gene import MaskedGenePrediction

from .tokens import VOCAB, make_tokens

PARTS = {"vocab": VOCAB, "tokenizer_config": TokenizerConfig(), "model_config": ModelConfig()}


@pytest.fixture
def registry(monkeypatch):
    """Forget what a test registers."""
    list_objectives()  # the built-in ones are to stay
    monkeypatch.setattr(OBJECTIVES, "_parts", dict(OBJECTIVES._parts))


def test_built_in_objectives_are_found_by_name():
    assert "masked_gene_prediction" in list_objectives()
    objective = get_objective("masked_gene_prediction", **PARTS)
    assert isinstance(objective, MaskedGenePrediction)
    assert isinstance(objective, Collator)
    assert objective.name == "masked_gene_prediction"
    assert objective.loss_terms == ("masked_gene",)
    assert objective.needs <= {"input_ids", "values"}


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown objective 'masked_gene'\. Did you mean 'masked_gene_prediction'"):
        get_objective("masked_gene", **PARTS)


def test_a_name_is_taken_once(registry):
    with pytest.raises(ValueError, match="objective 'masked_gene_prediction' is already registered"):
        register_objective("masked_gene_prediction")(type("Other", (), {}))


def test_an_own_objective_is_made_and_knows_its_name(registry):
    @register_objective("longest")
    class Longest:
        needs: ClassVar = frozenset({"input_ids"})
        loss_terms: ClassVar = ("length",)

        def __init__(self, *, vocab, tokenizer_config, model_config):
            self.pad_id = vocab.pad_id

        def __call__(self, tokens):
            return {**pad(tokens, pad_id=self.pad_id), "num_targets": {"length": len(tokens)}}

    objective = get_objective("longest", **PARTS)
    assert objective.name == "longest"
    assert isinstance(objective, Collator)
    assert objective(make_tokens([2, 3]).select(np.array([1])))["num_targets"] == {"length": 1}
