"""Scores, rates, losses and embeddings of a tiny model of the official code (czi-ai/transcriptformer at 6dd62055)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from scmodelforge.models.components.losses import zero_truncated_poisson_loss
from scmodelforge.models.published import load_transcriptformer

from .golden import golden_folder, needs

FOLDER = golden_folder("transcriptformer")
START, PAD, WINDOW = 2, 1, 31

pytestmark = needs(FOLDER)


@pytest.fixture(scope="module")
def expected() -> dict[str, torch.Tensor]:
    with np.load(FOLDER / "tiny_io.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


@pytest.fixture(scope="module")
def model():
    return load_transcriptformer(FOLDER / "tiny_state_dict.pt", FOLDER / "tiny_config.json")


@pytest.fixture(scope="module")
def batch(expected) -> dict[str, torch.Tensor]:
    """Return the cells as ours are: the start token and all genes, at each place the gene after it as its label."""
    genes, counts = expected["gene_tokens"], expected["gene_counts"]
    nothing = torch.zeros(len(genes), 1)
    ids = torch.cat([torch.full((len(genes), 1), START), genes], dim=1)
    return {
        "input_ids": ids,
        "attention_mask": (ids != PAD).long(),
        "values": torch.cat([nothing, counts], dim=1),
        "labels": torch.cat([genes, nothing.long() + PAD], dim=1).masked_fill(ids.roll(-1, 1) == PAD, -100),
        "targets": torch.cat([counts, nothing], dim=1),
        "assay_ids": expected["aux_tokens"][:, 0],
    }


@pytest.fixture(scope="module")
def answer(model, batch):
    labels = torch.where(batch["targets"] > 0, batch["labels"], -100)
    with torch.no_grad():
        return model(**{**batch, "labels": labels}, output_hidden_states=True)


@pytest.fixture(scope="module")
def is_gene(expected) -> torch.Tensor:
    return ~expected["mask"]


@pytest.fixture(scope="module")
def log_rates(model, batch, answer) -> torch.Tensor:
    states = answer.hidden_states[-1][:, 1:]  # the assay is at first
    labels = torch.where(batch["targets"] > 0, batch["labels"], -100)
    with torch.no_grad():
        return model.log_rates(states, labels, batch["targets"])[:, :WINDOW]


def test_scores_of_genes(answer, expected, is_gene):
    capped = 10 * torch.tanh(expected["gene_logit"] / 10)  # the loss of the official code is that of capped scores
    assert torch.allclose(answer.logits[:, :WINDOW][is_gene], capped[is_gene], atol=1e-5)


def test_rates_of_counts(log_rates, expected, is_gene):
    assert torch.allclose(log_rates.exp()[is_gene], expected["mu"][is_gene], rtol=1e-5, atol=1e-5)
    assert torch.allclose(log_rates.exp().masked_fill(~is_gene, 0).sum(1), expected["raw_counts"].sum(1), rtol=1e-5)


def test_loss_of_genes_which_there_is_a_sum_over_all_places_of_the_windows(answer, expected, is_gene):
    places = expected["gene_tokens"].numel()
    found = answer.loss_terms["next_gene"] * is_gene.sum() / places
    assert float(found) == pytest.approx(float(expected["gene_ce_official"]), abs=1e-5)


def test_loss_of_counts_with_the_released_normaliser(log_rates, expected, is_gene):
    mu, counts = log_rates[is_gene].exp(), expected["gene_counts"][is_gene]
    released = (mu - F.softplus(-mu)).clamp(min=0) - counts * mu.log() + torch.lgamma(counts + 1)
    assert float(released.mean()) == pytest.approx(float(expected["ztp_nll_vs_true_counts"]), abs=1e-5)


def test_our_loss_of_counts_has_the_exact_normaliser(answer, log_rates, expected, is_gene):
    mu, counts = log_rates[is_gene].double().exp(), expected["gene_counts"][is_gene].double()
    exact = torch.expm1(mu).log() - counts * mu.log() + torch.lgamma(counts + 1)
    assert float(answer.loss_terms["expression_count"]) == pytest.approx(float(exact.mean()), abs=1e-5)
    assert float(zero_truncated_poisson_loss(log_rates, expected["gene_counts"], is_gene)) == pytest.approx(
        float(exact.mean()), abs=1e-5
    )


def test_embeddings_which_there_are_scaled_by_how_full_the_window_is(model, batch, expected):
    with torch.no_grad():
        found = model.encode(**batch) * batch["attention_mask"].sum(1, keepdim=True) / WINDOW
    assert torch.allclose(found, expected["cell_embedding"], atol=1e-5)


def test_an_unknown_assay_is_none_at_all(model, batch):
    bare = {name: batch[name] for name in ("input_ids", "attention_mask", "values")}
    with torch.no_grad():
        assert torch.allclose(model.encode(**bare)[3], model.encode(**batch)[3], atol=1e-6)
        assert not torch.allclose(model.encode(**bare)[0], model.encode(**batch)[0], atol=1e-2)
