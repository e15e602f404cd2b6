"""What a model gives back and what counts as one."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from scmodelforge.models import ModelOutput, ScModelForgeModel


class TestModelOutput:
    def test_everything_is_optional(self):
        out = ModelOutput()
        assert [f.name for f in dataclasses.fields(out)] == [
            "loss",
            "logits",
            "embeddings",
            "hidden_states",
            "loss_terms",
            "attentions",
        ]
        assert all(getattr(out, f.name) is None for f in dataclasses.fields(out))

    def test_it_cannot_be_changed(self):
        out = ModelOutput(loss=torch.tensor(1.0))
        with pytest.raises(dataclasses.FrozenInstanceError):
            out.loss = torch.tensor(2.0)


class TestProtocol:
    def test_forward_and_encode_make_a_model(self):
        class Both(nn.Module):
            def forward(self, input_ids, attention_mask, **kwargs):
                return ModelOutput()

            def encode(self, input_ids, attention_mask, **kwargs):
                return input_ids

        assert isinstance(Both(), ScModelForgeModel)

    def test_a_module_without_encode_is_none(self):
        assert not isinstance(nn.Linear(2, 2), ScModelForgeModel)
