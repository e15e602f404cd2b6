"""The head of perturbations: what has no effect on it, and what it adds to the regression."""

from __future__ import annotations

import pytest
import torch

from scmodelforge.config.schema import ModelConfig
from scmodelforge.finetuning.perturbation.head import PerturbationHead, PerturbationHeadConfig
from scmodelforge.models.fine_tuned import FineTunedConfig, FineTuneModel

VOCAB, GENES, CELLS = 20, 7, 4


def model(**head) -> FineTuneModel:
    """Return a model whose network has weights that are not zero, of genes 5 to 9 known."""
    torch.manual_seed(0)
    sizes = {"num_genes": GENES, "num_known": 5, "num_covariates": 2, "num_vectors": 3, "dropout": 0.0, "width": 8}
    backbone = ModelConfig(architecture="transformer_encoder", hidden_dim=16, num_layers=1, num_heads=2, dropout=0.0)
    config = FineTunedConfig(backbone=backbone, vocab_size=VOCAB, head=PerturbationHeadConfig(**{**sizes, **head}))
    made = FineTuneModel(config).eval()
    own = made.head
    with torch.no_grad():
        own.known_tokens.copy_(torch.arange(5, 10))
        own.output_tokens.copy_(torch.arange(5, 5 + GENES))
        own.weights.normal_()
        own.vectors.normal_()
        for part in (own.from_pairs, own.new[-1], own.gates):
            part.weight.normal_()
    return made


def batch(*perturbed: list[int], **more) -> dict[str, torch.Tensor]:
    longest = max(map(len, perturbed))
    rows = torch.tensor([[*own, *[-1] * (longest - len(own))] for own in perturbed])
    torch.manual_seed(1)
    ids = torch.randint(5, VOCAB, (CELLS, 6))
    covariate = torch.tensor([0, 1, 0, 1])
    asked = {"perturbed": rows.expand(CELLS, -1, -1), "covariate": covariate}
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "values": torch.rand(CELLS, 6), **asked, **more}


def changes(made: FineTuneModel, *perturbed: list[int], **more) -> torch.Tensor:
    with torch.no_grad():
        return made.score(**batch(*perturbed, **more))


def test_the_order_of_genes_and_what_fills_up_have_no_effect():
    made = model()
    one, other = changes(made, [5, 6, 12]), changes(made, [12, 6, 5], [7])[:, :1]
    assert torch.allclose(one, other, atol=1e-5)


def test_other_perturbations_of_the_batch_have_no_effect():
    made = model()
    assert torch.allclose(changes(made, [5, 6])[:, 0], changes(made, [8], [5, 6], [11, 12])[:, 1], atol=1e-5)


def test_of_a_known_gene_alone_the_regression_says_all():
    made = model()
    said = made.head.regression(batch([5])["perturbed"], batch([5])["covariate"])
    assert torch.allclose(changes(made, [5]), said, atol=1e-5)


@pytest.mark.parametrize("genes", [[5, 6], [12]])
def test_of_pairs_and_of_unknown_genes_the_network_says_more_and_starts_with_nothing(genes):
    made = model()
    asked = batch(genes)
    said = made.head.regression(asked["perturbed"], asked["covariate"])
    assert not torch.allclose(changes(made, genes), said, atol=1e-2)
    fresh = PerturbationHead(made.config, width=16, dropout=0.0)
    fresh.load_state_dict({**fresh.state_dict(), "known_tokens": made.head.known_tokens})
    made.head = fresh.eval()
    assert torch.equal(changes(made, genes), torch.zeros(CELLS, 1, GENES))  # the weights of its regression are 0


def test_interactions_of_a_triple_are_those_of_its_pairs():
    made = model()
    with torch.no_grad():
        made.head.weights.zero_()
    pairs = changes(made, [5, 6], [5, 7], [6, 7])
    assert torch.allclose(changes(made, [5, 6, 7])[:, 0], pairs.sum(dim=1), atol=1e-4)


def test_what_was_learned_of_few_conditions_is_shrunk_in_evaluation_only():
    made = model()
    with torch.no_grad():
        made.head.weights.zero_()
    whole = changes(made, [5, 6])
    made.head.trust.copy_(torch.tensor([0.25, 0.5]))
    assert torch.allclose(changes(made, [5, 6]), 0.25 * whole, atol=1e-5)
    assert torch.allclose(changes(made.train(), [5, 6]), whole, atol=1e-5)


def test_an_unknown_gene_changes_itself():
    made = model()
    with torch.no_grad():
        made.head.own.copy_(torch.tensor([1.0, -0.5]))
        made.head.controls.fill_(4.0)
    before = model()
    difference = changes(made, [11]) - changes(before, [11])  # the last of the output genes
    assert torch.allclose(difference[..., -1], torch.full((CELLS, 1), -1.0), atol=1e-5)
    assert torch.allclose(difference[..., :-1], torch.zeros(1), atol=1e-5)
    assert torch.equal(changes(made, [5]), changes(before, [5]))


def test_the_dose_counts_where_there_is_one():
    made = model(has_dose=True)
    with torch.no_grad():
        made.head.dose_gain.fill_(0.5)
    low, high = (changes(made, [5], dose=torch.full((CELLS, 1), value)) for value in (0.0, 1.0))
    assert torch.allclose(high, 1.5 * low, atol=1e-5)


def test_labels_reach_no_prediction():
    made = model()
    labels = {"changes": torch.rand(CELLS, 1, GENES), "has_change": torch.ones(CELLS, 1)}
    with torch.no_grad():
        output = made(**batch([5, 6], **labels))
    assert torch.equal(output.logits, changes(made, [5, 6]))
    assert torch.isclose(output.loss, (output.logits - labels["changes"]).square().mean())


def test_cells_that_nothing_is_done_to_do_not_change():
    asked = batch([5])
    del asked["perturbed"]
    with torch.no_grad():
        assert torch.equal(model().score(**asked), torch.zeros(CELLS, 1, GENES))
