"""The bidirectional transformer: its constructor, its attention, its poolings."""

from __future__ import annotations

import inspect

import pytest
import torch

from scmodelforge.config.schema import ModelConfig
from scmodelforge.models import ModelOutput, TransformerConfig, TransformerEncoder, count_parameters

REQUIRED = inspect.Parameter.empty


@pytest.fixture
def model(tiny_config):
    torch.manual_seed(0)
    return TransformerEncoder.from_config(tiny_config).eval()


def make(**settings) -> TransformerEncoder:
    return TransformerEncoder(**{"vocab_size": 50, "hidden_dim": 16, "num_layers": 2, "num_heads": 2, **settings})


class TestConstructor:
    def test_parameters_their_order_and_defaults(self):
        parameters = inspect.signature(TransformerEncoder).parameters
        spec = {
            "vocab_size": REQUIRED,
            "hidden_dim": REQUIRED,
            "num_layers": REQUIRED,
            "num_heads": REQUIRED,
            "ffn_dim": None,
            "dropout": 0.1,
            "max_seq_len": 2048,
            "pooling": "cls",
            "activation": "gelu",
            "use_expression_values": True,
            "layer_norm_eps": 1e-12,
        }
        assert {name: p.default for name, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD} == spec
        assert list(parameters)[:5] == ["vocab_size", "hidden_dim", "num_layers", "num_heads", "ffn_dim"]
        assert parameters["attention_dropout"].kind is inspect.Parameter.KEYWORD_ONLY

    def test_forward_and_encode_take_the_documented_arguments_by_position(self):
        forward = inspect.signature(TransformerEncoder.forward).parameters
        encode = inspect.signature(TransformerEncoder.encode).parameters
        assert list(forward)[1:5] == ["input_ids", "attention_mask", "values", "labels"]
        assert list(encode)[1:4] == ["input_ids", "attention_mask", "values"]
        assert forward["values"].default is forward["labels"].default is encode["values"].default is None
        assert forward["kwargs"].kind is encode["kwargs"].kind is inspect.Parameter.VAR_KEYWORD
        assert inspect.signature(TransformerEncoder.num_parameters).parameters["trainable_only"].default is True

    def test_heads_must_share_the_width(self):
        with pytest.raises(ValueError, match=r"hidden_dim \(16\) is not divisible by model.num_heads \(3\)"):
            make(num_heads=3)

    def test_unknown_activation_lists_those_there_are(self):
        with pytest.raises(ValueError, match=r"unknown model.activation 'gelo'. Did you mean 'gelu'.*gelu, relu, silu"):
            make(activation="gelo")

    def test_unknown_pooling_lists_those_there_are(self):
        with pytest.raises(ValueError, match=r"unknown model.pooling 'max'; choose one of cls, mean"):
            make(pooling="max")

    def test_feed_forward_layers_are_four_times_as_wide_by_default(self):
        assert make().encoder.layers[0].ffn.up.out_features == 64
        assert make(ffn_dim=24).encoder.layers[1].ffn.up.out_features == 24


class TestFromConfig:
    def test_settings_arrive(self, dummy_batch):
        config = TransformerConfig(
            vocab_size=50,
            hidden_dim=16,
            num_layers=3,
            num_heads=4,
            ffn_dim=20,
            dropout=0.25,
            max_seq_len=12,
            pooling="mean",
            activation="relu",
            use_expression_values=False,
            layer_norm_eps=1e-5,
            attention_dropout=0.5,
        )
        model = TransformerEncoder.from_config(config)
        block = model.encoder.layers[2]
        assert len(model.encoder.layers) == 3
        assert block.attention.num_heads == 4
        assert block.attention.dropout == 0.5
        assert block.dropout.p == model.embedding.dropout.p == 0.25
        assert isinstance(block.ffn.activation, torch.nn.ReLU)
        assert block.ffn.up.out_features == 20
        assert model.embedding.max_seq_len == 12
        assert model.embedding.value_projection is None
        assert model.pooling == "mean"
        assert {m.eps for m in model.modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-5}

    def test_pooling_left_open_is_cls(self, tiny_config):
        tiny_config.pooling = None
        assert TransformerEncoder.from_config(tiny_config).pooling == "cls"

    def test_plain_settings_mean_no_attention_dropout(self, tiny_config):
        assert TransformerEncoder.from_config(tiny_config).encoder.layers[0].attention.dropout == 0.0


class TestAttention:
    def test_tokens_see_the_others_of_their_cell(self, model, dummy_batch):
        before = model(**dummy_batch).logits
        dummy_batch["input_ids"][:, 5] = 17
        after = model(**dummy_batch).logits
        assert not torch.allclose(before[:, 0], after[:, 0], atol=1e-6)
        assert not torch.allclose(before[:, 8], after[:, 8], atol=1e-6)

    @pytest.mark.parametrize("projection", ["q", "k", "v", "o"])
    def test_evaluation_runs_through_the_projection_modules(self, model, dummy_batch, projection):
        """A module put in the place of a projection is called, as an adapter needs it."""
        before = model.encode(**dummy_batch)
        attention = model.encoder.layers[0].attention
        inner = getattr(attention, projection)
        setattr(attention, projection, torch.nn.Sequential(inner, torch.nn.Linear(16, 16)))
        assert not model.training
        assert not torch.allclose(before, model.encode(**dummy_batch), atol=1e-6)

    def test_evaluation_equals_training_without_dropout(self, model, dummy_batch):
        evaluated = model(**dummy_batch).logits
        assert torch.allclose(evaluated, model.train()(**dummy_batch).logits, atol=1e-6)

    def test_attention_dropout_acts_in_training_only(self, dummy_batch):
        model = make(dropout=0.0, attention_dropout=0.5)
        assert not torch.equal(model.encode(**dummy_batch), model.encode(**dummy_batch))
        model.eval()
        assert torch.equal(model.encode(**dummy_batch), model.encode(**dummy_batch))

    def test_without_positions_a_cell_is_a_set(self, model, dummy_batch):
        model.embedding.position_embedding.weight.data.zero_()
        cells = {key: dummy_batch[key][1:] for key in ("input_ids", "attention_mask", "values")}
        order = torch.randperm(12)
        turned = {key: tensor[:, order] for key, tensor in cells.items()}
        assert torch.allclose(model.encode(**cells), model.encode(**turned), atol=1e-5)

    def test_a_mask_with_holes_hides_the_holes(self, model, dummy_batch):
        dummy_batch["attention_mask"][:, 4] = 0
        before = model(**dummy_batch)
        dummy_batch["input_ids"][:, 4] = 17
        assert torch.equal(before.embeddings, model(**dummy_batch).embeddings)


class TestPooling:
    def test_cls_takes_the_first_hidden_state_and_mean_averages_all(self, dummy_batch):
        torch.manual_seed(0)
        first = make(pooling="cls").eval()
        mean = make(pooling="mean").eval()
        mean.load_state_dict(first.state_dict())
        states = []
        first.encoder.register_forward_hook(lambda module, inputs, output: states.append(output))
        embedded = first.encode(**dummy_batch)
        assert torch.equal(embedded, states[0][:, 0])
        expected = torch.stack([states[0][0, :9].mean(0), *(states[0][i].mean(0) for i in (1, 2, 3))])
        assert torch.allclose(mean.encode(**dummy_batch), expected, atol=1e-6)


class TestDocumentedUse:
    """The documented examples, smaller where size is only a matter of time."""

    def test_training_and_inference(self):
        model = TransformerEncoder(vocab_size=500, hidden_dim=32, num_layers=2, num_heads=8)
        input_ids = torch.randint(0, 500, (4, 128))
        attention_mask = torch.ones(4, 128)
        output: ModelOutput = model(input_ids, attention_mask, labels=torch.randint(0, 500, (4, 128)))
        assert output.loss.ndim == 0
        assert output.logits.shape == (4, 128, 500)
        assert output.embeddings.shape == (4, 32)
        assert output.hidden_states is None
        assert model(input_ids, attention_mask).loss is None

    def test_from_settings_or_directly(self):
        config = ModelConfig(
            architecture="transformer_encoder",
            vocab_size=500,
            hidden_dim=32,
            num_layers=2,
            num_heads=8,
            dropout=0.1,
            pooling="mean",
        )
        model = TransformerEncoder.from_config(config)
        direct = TransformerEncoder(vocab_size=500, hidden_dim=32, num_layers=2, num_heads=8, pooling="mean")
        assert model.num_parameters() == direct.num_parameters() > 0
        batch = {
            "input_ids": torch.randint(0, 500, (16, 64)),
            "attention_mask": torch.ones(16, 64),
            "values": torch.randn(16, 64),
            "labels": torch.randint(0, 500, (16, 64)),
        }
        output = model(**batch)
        output.loss.backward()
        embeddings = model.encode(batch["input_ids"], batch["attention_mask"], values=batch["values"])
        assert embeddings.shape == (16, 32)

    def test_the_number_of_parameters_is_that_of_the_layers(self):
        """Counted by hand: embeddings, blocks, final norm, head."""
        V, H, L, F, S = 50, 16, 2, 64, 2048
        norm = 2 * H
        embedding = V * H + S * H + 2 * H + norm
        block = 4 * (H * H + H) + (H * F + F) + (F * H + H) + 2 * norm
        head = H * H + H + norm + H * V + V
        assert make().num_parameters() == embedding + L * block + norm + head

    def test_freezing_the_embedding(self):
        model = make()
        total = count_parameters(model, trainable_only=False)
        assert count_parameters(model, trainable_only=True) == total
        for parameter in model.embedding.parameters():
            parameter.requires_grad = False
        frozen = sum(p.numel() for p in model.embedding.parameters())
        assert count_parameters(model, trainable_only=True) == total - frozen
        assert model.num_parameters(trainable_only=False) == total
