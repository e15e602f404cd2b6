"""Transformer blocks compiled before and after attention: the numbers, names and copies of those that are not."""

from __future__ import annotations

import copy

import pytest
import torch
from torch._dynamo.utils import counters

from scmodelforge.models import get_model
from scmodelforge.models.components import compiled
from scmodelforge.models.components.transformer import TransformerBlock
from tests.test_models.batches import batch_for
from tests.test_models.test_all_models import TRANSFORMERS

# Warnings that torch gives itself while it compiles, and hides where warnings are no errors.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor"),
]

#: Cells and tokens of the batches of some steps; each is another shape.
SHAPES = ((4, 12), (3, 9), (4, 7), (2, 12), (3, 11), (4, 8))
#: Most graphs of a stack: two parts of a block, each for packed and padded tokens, some also for views of tensors.
GRAPHS = 6


@pytest.fixture(autouse=True)
def _as_in_a_new_process():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def made(name, tiny_config, backend=None):
    torch.manual_seed(0)
    tiny_config.architecture = name
    model = get_model(name, tiny_config).train()
    for module in model.modules():
        if isinstance(module, TransformerBlock):
            module.compiler = backend
    return model


def cropped(batch, cells, tokens):
    return {name: each[:cells, :tokens] if each.ndim > 1 else each[:cells] for name, each in batch.items()}


def trained(model, batch):
    """Return the losses of some steps; plain gradient descent does not blow up rounding errors, as Adam does."""
    torch.manual_seed(1)  # of models that draw
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=0.02), []
    for shape in SHAPES:
        loss = model(**cropped(batch, *shape)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def assert_same_training(name, tiny_config, dummy_batch, backend):
    """Losses within 1e-5 of their size and weights within 1e-5, in float32, on batches of six shapes."""
    batch = batch_for(name, dummy_batch)
    plain, other = made(name, tiny_config), made(name, tiny_config, backend)
    expected = trained(plain, batch)
    assert not counters["stats"]
    assert trained(other, batch) == pytest.approx(expected, rel=1e-5)
    assert list(other.state_dict()) == list(plain.state_dict())
    for key, weights in plain.state_dict().items():
        assert torch.allclose(other.state_dict()[key], weights, rtol=0, atol=1e-5), key
    num_stacks = 2 if name == "masked_autoencoder" else 1
    assert 0 < counters["stats"]["unique_graphs"] <= GRAPHS * num_stacks
    assert not counters["graph_break"]


def test_training_is_the_same_without_new_graphs_for_new_shapes(tiny_config, dummy_batch):
    assert_same_training("transformer_encoder", tiny_config, dummy_batch, "eager")


@pytest.mark.slow
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_compiled_code_trains_every_model_as_eager_code_does(name, tiny_config, dummy_batch):
    assert_same_training(name, tiny_config, dummy_batch, "inductor")


@pytest.mark.slow
@pytest.mark.parametrize("options", [
    {"norm_placement": "post"},
    {"norm_placement": "stream", "norm": "rms_norm", "activation": "swiglu"},
    {"positions": "rotary"},
    {"activation_checkpointing": True},
])  # fmt: skip
def test_options_of_blocks_are_compiled_too(options, tiny_config, dummy_batch):
    from scmodelforge.models.transformer_encoder import TransformerEncoder

    config = TransformerEncoder.config_class(**{**tiny_config.model_dump(), **options})
    assert_same_training("transformer_encoder", config, dummy_batch, "inductor")


def test_evaluation_is_not_compiled(tiny_config, dummy_batch):
    model = made("transformer_encoder", tiny_config, "eager")
    with torch.no_grad():
        model(**dummy_batch)
    model.eval()
    model(**dummy_batch)
    assert model(**dummy_batch, output_attentions=True).attentions is not None
    assert not counters["stats"]


def test_a_copy_is_compiled_for_itself(tiny_config, dummy_batch):
    model = made("transformer_encoder", tiny_config, "eager")
    before = trained(model, dummy_batch)
    twin = copy.deepcopy(model)
    frozen = {name: weights.clone() for name, weights in model.state_dict().items()}
    assert trained(twin, dummy_batch)[-1] < before[0]
    assert all(torch.equal(model.state_dict()[name], weights) for name, weights in frozen.items())
    assert counters["stats"]["unique_graphs"] <= GRAPHS


def test_cells_of_one_token_are_computed_as_before(tiny_config, dummy_batch):
    model = made("transformer_encoder", tiny_config, "eager")
    alone = {**cropped(dummy_batch, 2, 1), "labels": torch.tensor([[5], [6]])}
    expected = made("transformer_encoder", tiny_config)(**alone).loss
    assert model(**alone).loss.item() == pytest.approx(expected.item(), rel=1e-6)


class Choosing(torch.nn.Module):
    """Code whose way depends on numbers, which no compiler follows."""

    def forward(self, states):
        return states.relu() if states.sum() > 0 else states.tanh()


class TestGivingUp:
    @pytest.fixture(autouse=True)
    def _not_said_yet(self):
        compiled._say.cache_clear()

    def said(self, caplog):
        return [each.getMessage() for each in caplog.records if each.name.startswith("scmodelforge")]

    def test_code_that_torch_cannot_follow_is_computed_as_it_is_and_told_of_once(
        self, tiny_config, dummy_batch, caplog
    ):
        models = made("transformer_encoder", tiny_config), made("transformer_encoder", tiny_config, "eager")
        for model in models:
            for block in model.encoder.layers:
                block.ffn.activation = Choosing()
        assert trained(models[0], dummy_batch) == trained(models[1], dummy_batch)
        (line,) = self.said(caplog)
        assert line.startswith("torch.compile gave up on transformer blocks, which go on uncompiled (")
        assert "\n" not in line

    @torch._dynamo.config.patch(recompile_limit=1)
    def test_compiling_too_often_is_told_of_once(self, tiny_config, dummy_batch, caplog):
        expected = trained(made("transformer_encoder", tiny_config), dummy_batch)
        model = made("transformer_encoder", tiny_config, "eager")
        assert trained(model, dummy_batch) == pytest.approx(expected, rel=1e-6)
        (line,) = self.said(caplog)
        assert "it compiled too often" in line
