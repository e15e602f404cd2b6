"""FLOPs that models tell, beside those that torch counts in a pass forward without padding."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from scmodelforge.config.schema import ModelConfig
from scmodelforge.models import get_model
from tests.test_models.batches import batch_for
from tests.test_models.test_all_models import NAMES, TRANSFORMERS

SIZES = {"vocab_size": 50, "hidden_dim": 32, "num_layers": 2, "num_heads": 2, "max_seq_len": 64, "dropout": 0.0}


def counted(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> int:
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        model(**batch, return_logits=False)
    return counter.get_total_flops()


def whole(dummy_batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the cells without padding: what a padded pass computes too much says nothing of the count."""
    length = int(dummy_batch["attention_mask"].sum(dim=1).min())
    return {name: tensor[:, :length] if tensor.ndim == 2 else tensor for name, tensor in dummy_batch.items()}


def model_of(name: str, **changes) -> torch.nn.Module:
    torch.manual_seed(0)
    return get_model(name, ModelConfig(architecture=name, **{**SIZES, **changes})).train()


@pytest.mark.parametrize("name", TRANSFORMERS)
@pytest.mark.parametrize("sizes", [{}, {"hidden_dim": 64, "num_layers": 3, "num_heads": 4, "ffn_dim": 96}])
def test_are_those_that_torch_counts(name, sizes, dummy_batch):
    """Within 3 %: what a model computes beside layers, attention and heads (means over what was seen) is left out."""
    model, batch = model_of(name, **sizes), whole(batch_for(name, dummy_batch))
    assert model.forward_flops(batch) == pytest.approx(counted(model, batch), rel=0.03)


@pytest.mark.parametrize("name", NAMES)
def test_do_not_count_padding(name, dummy_batch):
    model, batch = model_of(name), batch_for(name, dummy_batch)
    fill = {"labels": -100, "bin_ids": -100}
    more = {k: torch.nn.functional.pad(v, (0, 7), value=fill.get(k, 0)) if v.ndim == 2 else v for k, v in batch.items()}
    assert model.forward_flops(more) == model.forward_flops(batch) > 0


def test_of_a_step_are_three_times_those_forward(dummy_batch):
    """Within 5 %: the ways back of attention by formulas and of first layers are not exactly twice the way forward."""
    model, batch = model_of("transformer_encoder", num_layers=4), whole(dummy_batch)
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        model(**batch, return_logits=False).loss.backward()
    assert 3 * model.forward_flops(batch) == pytest.approx(counter.get_total_flops(), rel=0.05)
