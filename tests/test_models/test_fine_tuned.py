"""A model of any architecture with a head for cell types: what it answers, what it learns, what is refused."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from scmodelforge._errors import ConfigError, DataError
from scmodelforge._registry import MODELS
from scmodelforge.config.schema import ModelConfig
from scmodelforge.data.types import EmbeddingSpec
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.models import ModelOutput, get_model, register_model
from scmodelforge.models.components.given import GivenGeneEmbedding, apply_embedding_spec
from scmodelforge.models.components.special_tokens import apply_special_tokens
from scmodelforge.models.fine_tuned import FineTunedConfig, FineTuneModel
from scmodelforge.training._depth import num_blocks, parameter_depths
from scmodelforge.training.compiling import compile_blocks
from tests.conftest import OPTIONAL_MODELS

BACKBONES = sorted({*MODELS.names()} - OPTIONAL_MODELS - {"fine_tuned"})
#: Those without a hidden state of each token, or whose first token sees no other.
NO_FIRST = {
    "scdiva": "has no hidden state of each token",
    "gene_pooling": "has a first token that sees no other",
    "transcriptformer": "has a first token that sees no other",
}
WIDTH = {"scdiva": 128}
TYPES = torch.tensor([0, 2, -100, 1])
SIZES = {"hidden_dim": 16, "num_layers": 2, "num_heads": 2, "dropout": 0.0, "max_seq_len": 32}


def settings(backbone: str = "transformer_encoder", *, vocab_size: int | None = 50, **changes) -> FineTunedConfig:
    own = {"num_cell_types": 3, "head": {}, **changes}
    return FineTunedConfig(vocab_size=vocab_size, backbone={"architecture": backbone, **SIZES}, **own)


def made(backbone: str = "transformer_encoder", **changes) -> FineTuneModel:
    torch.manual_seed(0)
    return get_model("fine_tuned", settings(backbone, **changes)).eval()


@pytest.fixture
def batch(dummy_batch) -> dict[str, torch.Tensor]:
    whole = {name: dummy_batch[name] for name in ("input_ids", "attention_mask", "values")}
    return {**whole, "cell_types": TYPES}


@pytest.fixture(params=BACKBONES)
def backbone(request) -> str:
    return request.param


def by_hand(model: FineTuneModel, vectors: torch.Tensor) -> torch.Tensor:
    """Score cell types from what the head reads, as BERT's pooler and a linear layer do."""
    weights = dict(model.head.named_parameters())
    pooled = torch.tanh(vectors @ weights["layers.0.weight"].T + weights["layers.0.bias"])
    return pooled @ weights["decoder.weight"].T + weights["decoder.bias"]


class TestEveryBackbone:
    def test_scores_are_those_of_its_embeddings(self, backbone, batch):
        model = made(backbone)
        out = model(**batch)
        assert isinstance(out, ModelOutput)
        assert torch.equal(out.embeddings, model.backbone.encode(**batch))
        assert out.embeddings.shape == (4, WIDTH.get(backbone, 16))
        assert torch.allclose(out.logits, by_hand(model, out.embeddings), atol=1e-6)
        assert torch.equal(model.score_cell_types(**batch), out.logits)

    def test_the_loss_is_that_of_cells_with_a_type(self, backbone, batch):
        out = made(backbone)(**batch)
        known = TYPES != -100
        expected = F.cross_entropy(out.logits[known], TYPES[known])
        assert out.loss.item() == pytest.approx(expected.item(), abs=1e-6)
        assert set(out.loss_terms) == {"annotation", "annotation_error"}  # the latter is a measure, no part of the loss

    def test_without_types_there_is_no_loss_and_no_head_is_needed(self, backbone, batch):
        del batch["cell_types"]
        model = made(backbone, num_cell_types=None)
        out = model(**batch)
        assert (out.loss, out.logits) == (None, None)
        assert torch.equal(out.embeddings, model.encode(**batch))

    def test_embeddings_are_those_of_the_architecture_by_itself(self, backbone, batch):
        model = made(backbone)
        alone = get_model(backbone, settings(backbone).backbone_settings()).eval()
        alone.load_state_dict({**alone.state_dict(), **model.backbone.state_dict()})
        assert torch.equal(alone.encode(**batch), model.encode(**batch))

    def test_what_only_pretraining_needs_is_left_out(self, backbone):
        model = made(backbone)
        alone = get_model(backbone, settings(backbone).backbone_settings())
        left_out = {name for name, _ in alone.named_parameters()} - {n for n, _ in model.backbone.named_parameters()}
        assert left_out
        assert all(name.startswith(type(alone).pretraining_parts) for name in left_out)

    def test_all_other_weights_learn(self, backbone, batch):
        model = made(backbone).train()
        model(**batch, return_logits=False).loss.backward()
        idle = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
        idle = {name for name in idle if not name.endswith("k.bias")}  # which softmax cancels
        if backbone == "scdiva":  # one token sees nothing but itself, and the mean of the posterior is read
            idle = {name for name in idle if ".attention." not in name and "to_logvar" not in name}
        assert not idle

    def test_unknown_types_alone_give_nothing(self, backbone, batch):
        model = made(backbone)
        loss = model(**{**batch, "cell_types": torch.full((4,), -100)}).loss
        loss.backward()
        assert loss.item() == 0
        assert all(p.grad is None or not p.grad.any() for p in model.parameters())

    def test_a_batch_without_cells(self, backbone, batch):
        out = made(backbone)(**{name: tensor[:0] for name, tensor in batch.items()})
        assert out.logits.shape == (0, 3)
        assert out.loss.item() == 0

    def test_padding_changes_nothing(self, backbone, batch):
        wider = {name: F.pad(t, (0, 5)) if t.ndim == 2 else t for name, t in batch.items()}
        model = made(backbone)
        assert torch.allclose(model(**batch).logits, model(**wider).logits, atol=1e-5)

    def test_bf16(self, backbone, batch):
        model = made(backbone)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(**batch).loss
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(model(**batch).loss.item(), abs=5e-2)

    def test_flops_are_those_of_the_embedding_and_the_head(self, backbone, batch):
        model = made(backbone)
        width = WIDTH.get(backbone, 16)
        head = 4 * 2 * (width * width + 3 * width)
        without = made(backbone, num_cell_types=None)
        assert model.forward_flops(batch) - without.forward_flops(batch) == head
        assert without.forward_flops(batch) > 0

    def test_hidden_states_and_attention_are_the_backbones(self, backbone, batch):
        out = made(backbone)(**batch, output_hidden_states=True, output_attentions=True)
        assert len(out.hidden_states) >= 3
        assert out.loss is not None


class TestFirstToken:
    def test_it_is_bert_with_a_pooler(self, batch):
        model = made(head={"pooling": "first"})
        states = model(**batch, output_hidden_states=True).hidden_states[-1]
        assert torch.allclose(model(**batch).logits, by_hand(model, states[:, 0]), atol=1e-6)
        assert torch.equal(model(**batch).embeddings, model.encode(**batch))

    def test_every_backbone_reads_it_or_is_refused(self, backbone, batch):
        if backbone in NO_FIRST:
            with pytest.raises(ConfigError, match=f"architecture '{backbone}' {NO_FIRST[backbone]}; set it to 'emb"):
                made(backbone, head={"pooling": "first"})
            return
        model = made(backbone, head={"pooling": "first"})
        before = model(**batch)
        assert torch.allclose(before.embeddings, model.encode(**batch), atol=1e-6)
        # The first token has seen the whole cell.
        batch["input_ids"][1, 5] += 1 if batch["input_ids"][1, 5] < 49 else -1
        after = model(**batch)
        assert not torch.allclose(before.logits[1], after.logits[1], atol=1e-5)
        assert torch.allclose(before.logits[2:], after.logits[2:], atol=1e-5)

    def test_it_is_the_last_layers_where_embeddings_leave_that_out(self, batch):
        changes = {"architecture": "transformer_encoder", "pooling": "mean", "left_out_layers": 1, **SIZES}
        config = FineTunedConfig(
            vocab_size=50, backbone=changes | {"pooled_tokens": "genes"}, num_cell_types=3, head={"pooling": "first"}
        )
        model = get_model("fine_tuned", config).eval()
        states = model(**batch, output_hidden_states=True).hidden_states
        assert torch.allclose(model(**batch).logits, by_hand(model, states[-1][:, 0]), atol=1e-6)
        assert torch.allclose(model(**batch).embeddings, model.encode(**batch), atol=1e-6)
        seen = {name: batch[name] for name in ("input_ids", "attention_mask", "values")}
        of_backbone = model.backbone(**seen, return_logits=False).embeddings
        assert torch.allclose(model(**batch).embeddings, of_backbone, atol=1e-6)
        model.backbone.left_out_layers = 0
        assert not torch.allclose(model.encode(**batch), of_backbone, atol=1e-3)


class TestHead:
    def test_no_hidden_layer_is_a_linear_head(self, batch):
        model = made(head={"hidden_layers": 0})
        out = model(**batch)
        assert torch.allclose(out.logits, model.head.decoder(out.embeddings))

    @pytest.mark.parametrize(
        ("name", "function"), [("gelu", F.gelu), ("relu", F.relu), ("silu", F.silu), ("tanh", torch.tanh)]
    )
    def test_layers_and_activation(self, batch, name, function):
        model = made(head={"hidden_layers": 2, "activation": name})
        out = model(**batch)
        first, _, second, _ = model.head.layers
        expected = model.head.decoder(function(second(function(first(out.embeddings)))))
        assert torch.allclose(out.logits, expected, atol=1e-6)

    def test_dropout_is_its_own_or_the_backbones(self):
        assert made(head={"dropout": 0.3}).head.dropout.p == 0.3
        backbone = {"architecture": "transformer_encoder", **SIZES, "dropout": 0.4}
        model = get_model("fine_tuned", FineTunedConfig(vocab_size=50, backbone=backbone, num_cell_types=3))
        assert model.head.dropout.p == 0.4

    def test_a_type_there_is_not(self, batch):
        with pytest.raises(DataError, match=r"cell type 3 is not one of 3 \(model.num_cell_types\)"):
            made()(**{**batch, "cell_types": torch.tensor([0, 3, 1, 1])})

    def test_scores_without_a_head(self, batch):
        model = made(num_cell_types=None)
        for call in (lambda: model.score_cell_types(**batch), lambda: model(**batch)):
            with pytest.raises(ConfigError, match=r"has no head .*num_cell_types is not set"):
                call()


class TestWhatOthersLookFor:
    def test_given_vectors_and_special_tokens_reach_the_backbone(self):
        genes = [f"g{number}" for number in range(46)]
        special = {"<pad>": 46, "<unk>": 47, "<mask>": 48, "<cls>": 49}
        vocab = GeneVocab(genes, name="test", special_tokens=special)
        model = made()
        vectors = torch.randn(50, 16).numpy()
        known = torch.arange(50).numpy() < 40
        apply_embedding_spec(model, EmbeddingSpec(vectors=vectors, known=known, trainable=False))
        apply_special_tokens(model, vocab)
        assert isinstance(model.backbone.embedding.gene_embedding, GivenGeneEmbedding)
        assert model.embedding is model.backbone.embedding
        assert model.backbone.embedding.special_ids.pad == 46

    def test_values_in_a_way_the_backbone_has_not(self):
        spec = EmbeddingSpec(values="attention_bias")
        with pytest.raises(ConfigError, match="no attention that takes a bias"):
            apply_embedding_spec(made("gene_pooling"), spec)
        apply_embedding_spec(made("transformer_encoder"), spec)
        with pytest.raises(ConfigError, match="reads values in one way only"):
            apply_embedding_spec(made("transcriptformer"), EmbeddingSpec(values="linear"))

    def test_layers_are_told_by_depth(self):
        model = made()
        depths = parameter_depths(model)
        assert num_blocks(model) == 2
        assert {depths[name] for name in depths if name.startswith("backbone.embedding.")} == {0}
        assert {depths[name] for name in depths if name.startswith("backbone.encoder.layers.1.")} == {2}
        assert {depths[name] for name in depths if name.startswith("head.")} == {3}

    def test_blocks_are_compiled(self):
        model = compile_blocks(made())
        assert [block.compiler for block in model.backbone.encoder.layers] == ["inductor"] * 2

    def test_why_no_genes_can_be_added_is_the_backbones_reason(self):
        config = FineTunedConfig(
            vocab_size=50, backbone={"architecture": "scdiva", **SIZES, "tokenization": "patch", "num_patches": 5}
        )
        assert "blocks of genes" in get_model("fine_tuned", config).fixed_vocabulary
        assert made().fixed_vocabulary is None


class TestAnothersModel:
    """A backbone that says nothing of itself but what every model must have."""

    @pytest.fixture(autouse=True)
    def _registered(self):
        class Plain(nn.Module):
            def __init__(self, config):
                super().__init__()
                self.embedding, self.out = nn.Embedding(config.vocab_size, config.hidden_dim), nn.Linear(16, 8)

            @classmethod
            def from_config(cls, config):
                return cls(config)

            def encode(self, input_ids, attention_mask, values=None, **kwargs):
                return (self.embedding(input_ids) * attention_mask[..., None]).sum(dim=1)

            def forward(self, input_ids, attention_mask, **kwargs):
                return ModelOutput(embeddings=self.encode(input_ids, attention_mask))

        class Narrow(Plain):
            def encode(self, input_ids, attention_mask, values=None, **kwargs):
                return self.out(super().encode(input_ids, attention_mask))

        register_model("plain")(Plain)
        register_model("narrow")(Narrow)
        yield
        for name in ("plain", "narrow"):
            MODELS._parts.pop(name)

    def test_it_works(self, batch):
        model = made("plain")
        model(**batch).loss.backward()
        assert model.embedding.weight.grad.any()
        assert getattr(model, "forward_flops", None) is None
        assert model.backbone.out.weight.grad is None  # of unknown use, so it is left in

    def test_its_first_token_cannot_be_read(self):
        with pytest.raises(ConfigError, match="has no hidden state of each token"):
            made("plain", head={"pooling": "first"})

    def test_another_width_than_it_says(self, batch):
        with pytest.raises(ConfigError, match=r"embeddings are 8 wide and model.hidden_dim is 16; .*embedding_dim"):
            made("narrow")(**batch)


def test_vocab_size_must_be_set():
    with pytest.raises(ConfigError, match="vocab_size must be set"):
        FineTuneModel.from_config(settings(vocab_size=None))


def test_plain_settings_make_one_around_the_default_architecture():
    model = get_model("fine_tuned", ModelConfig(architecture="fine_tuned", vocab_size=50, **SIZES))
    assert type(model.backbone).__name__ == "TransformerEncoder"
    assert model.backbone.hidden_dim == 16
    assert model.head is None
