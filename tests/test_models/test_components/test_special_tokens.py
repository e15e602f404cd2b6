"""Special tokens elsewhere than first: a gene's row is trained, and padding's is not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from scmodelforge._errors import ConfigError, DataError
from scmodelforge._registry import MODELS
from scmodelforge.config.schema import ModelConfig
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.models import get_model
from scmodelforge.models.components.repeats import exclude_named, exclude_named_everywhere
from scmodelforge.models.components.special_tokens import DEFAULT_SPECIAL_IDS, SpecialIds, apply_special_tokens
from tests.conftest import OPTIONAL_MODELS

GENES = [f"g{i:02d}" for i in range(12)]
LAST = GeneVocab(GENES, name="last", special_tokens={"<pad>": 12, "<cls>": 13, "<eoc>": 14})


def make_model(architecture: str, vocab: GeneVocab) -> nn.Module:
    config = getattr(MODELS.get(architecture), "config_class", ModelConfig)(
        architecture=architecture, vocab_size=len(vocab), hidden_dim=16, num_layers=1, num_heads=2, decoder_layers=1,
        max_seq_len=8, dropout=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = get_model(architecture, config)
    apply_special_tokens(model, vocab)
    return model


@pytest.mark.parametrize("architecture", sorted({*MODELS.names()} - OPTIONAL_MODELS - {"scdiva"}))
class TestEmbeddings:
    def test_padding_is_zero_and_the_first_gene_is_not(self, architecture):
        weight = make_model(architecture, LAST).embedding.gene_embedding.weight
        assert (weight[12] == 0).all()
        assert (weight[0] != 0).any()

    def test_the_first_gene_is_trained_and_padding_is_not(self, architecture):
        model = make_model(architecture, LAST)
        ids = torch.tensor([[13, 0, 3, 5], [13, 0, 7, 12]])
        mask = (ids != 12).long()
        model.encode(ids, mask, values=torch.rand(2, 4)).square().sum().backward()
        gradient = model.embedding.gene_embedding.weight.grad
        assert (gradient[0] != 0).any()
        assert (gradient[12] == 0).all()

    def test_the_packages_own_tokens_change_nothing(self, architecture):
        vocab = GeneVocab(GENES, name="own")
        model = make_model(architecture, vocab)
        assert model.embedding.special_ids is DEFAULT_SPECIAL_IDS
        assert model.embedding.gene_embedding.padding_idx == 0


@pytest.mark.parametrize("architecture", sorted({*MODELS.names()} - OPTIONAL_MODELS))
class TestModels:
    def test_what_stands_at_padding_has_no_effect(self, architecture):
        model = make_model(architecture, LAST).eval()
        ids, mask = torch.tensor([[13, 0, 3, 12]]), torch.tensor([[1, 1, 1, 0]])
        other = torch.tensor([[13, 0, 3, 0]])
        with torch.no_grad():
            assert torch.equal(model.encode(ids, mask), model.encode(other, mask))

    def test_the_first_gene_is_read(self, architecture):
        model = make_model(architecture, LAST).eval()
        ids, mask = torch.tensor([[13, 3, 0, 5]]), torch.ones(1, 4)
        values = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
        with torch.no_grad():
            without = model.encode(ids[:, [0, 1, 3]], mask[:, :3], values[:, [0, 1, 3]])
            assert not torch.allclose(model.encode(ids, mask, values), without, atol=1e-5)


def test_profiles_have_nothing_of_special_tokens_wherever_they_are():
    model = make_model("scdiva", LAST).eval()
    ids, mask = torch.tensor([[13, 0, 3]]), torch.ones(1, 3)
    with torch.no_grad():
        cells = [model.encode(ids, mask, torch.tensor([[cls, 1.0, 2.0]])) for cls in (0.0, 7.0)]
    assert torch.equal(*cells)


class TestNaming:
    def test_special_tokens_have_no_probability_and_the_first_genes_do(self):
        ids = SpecialIds((12, 13, 14), 12, 13, 14)
        found = exclude_named(torch.zeros(1, 15), torch.tensor([[13, 3]]), special_ids=ids)
        assert found[0].isinf().nonzero().flatten().tolist() == [3, 12, 13, 14]
        everywhere = exclude_named_everywhere(torch.zeros(1, 2, 15), torch.tensor([[13, 3]]), special_ids=ids)
        assert everywhere[0, 1].isinf().nonzero().flatten().tolist() == [3, 12, 13, 14]

    def test_ids_apart_from_each_other_are_as_good(self):
        ids = SpecialIds((0, 7, 14), 7, 0, 14)
        found = exclude_named(torch.zeros(1, 15), torch.tensor([[0, 3]]), torch.tensor([3]), special_ids=ids)
        assert found[0].isinf().nonzero().flatten().tolist() == [0, 7, 14]

    def test_generated_cells_begin_with_cls_and_hold_genes_only(self):
        model = make_model("autoregressive_transformer", LAST)
        cells = model.generate(num_cells=3, max_new_genes=7)
        assert (cells.input_ids[:, 0] == 13).all()
        assert (cells.input_ids[:, 1:] < 12).all()

    def test_without_cls_prompts_are_needed(self):
        bare = GeneVocab(GENES, name="bare", special_tokens={"<pad>": 12})
        with pytest.raises(ConfigError, match="has no <cls> token to begin cells with; give prompts"):
            make_model("autoregressive_transformer", bare).generate(max_new_genes=2)


def test_an_embedding_of_a_users_model_has_its_padding_moved():
    model = nn.Sequential(nn.Embedding(15, 4, padding_idx=0), nn.Embedding(9, 4, padding_idx=0), nn.Embedding(15, 4))
    apply_special_tokens(model, LAST)
    assert [layer.padding_idx for layer in model] == [12, 0, None]
    assert (model[0].weight[12] == 0).all()


def test_a_vocabulary_without_padding_is_refused():
    with pytest.raises(DataError, match="'bare' has no <pad> token; it has <cls>"):
        apply_special_tokens(nn.Linear(1, 1), GeneVocab(["A"], name="bare", special_tokens={"<cls>": 0}))
