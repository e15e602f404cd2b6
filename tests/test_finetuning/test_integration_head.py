"""The head that integrates batches: what it teaches the model, and what it may not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scmodelforge.config.schema import ModelConfig
from scmodelforge.finetuning.integration_head import BatchIntegrationHeadConfig
from scmodelforge.models.components.integration_losses import (
    expression_shares,
    matched_contrast,
    mutual_neighbours,
    share_divergence,
)
from scmodelforge.models.fine_tuned import FineTuneModel
from scmodelforge.models.fine_tuned_config import FineTunedConfig

BATCHES = torch.tensor([0, 1, 2, 0, 1, -100])


def make_model(architecture: str = "transformer_encoder", **head) -> FineTuneModel:
    """Return a model without dropout whose classifier of batches knows something."""
    own = BatchIntegrationHeadConfig(**{"warmup_steps": 0, **head})
    backbone = ModelConfig(
        architecture=architecture,
        hidden_dim=16,
        num_layers=1,
        num_heads=2,
        dropout=0.0,
        max_seq_len=32,
    )
    torch.manual_seed(0)
    model = FineTuneModel(FineTunedConfig(backbone=backbone, vocab_size=50, head=own, num_batches=3, num_cell_types=2))
    torch.nn.init.normal_(model.head.classifier.weight)
    if model.head.batch_shift is not None:
        torch.nn.init.normal_(model.head.batch_shift)
    return model


def make_batch(num_cells: int = 6, length: int = 10) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    ids = torch.stack([4 + torch.randperm(46, generator=draw)[:length] for _ in range(num_cells)])
    batch = {
        "input_ids": ids,
        "attention_mask": torch.ones(num_cells, length),
        "values": torch.rand(num_cells, length, generator=draw) + 0.1,
    }
    second = {f"second_{name}": value[:, ::2] for name, value in batch.items()}
    return {
        **batch,
        **second,
        "batch_labels": BATCHES[:num_cells],
        "cell_types": torch.tensor([0, 0, 1, 1, 0, -100])[:num_cells],
    }


def terms_of(model: FineTuneModel, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return model(**batch, return_logits=False).loss_terms


def gradients(model: FineTuneModel, term: torch.Tensor, part: torch.nn.Module) -> list[torch.Tensor]:
    found = torch.autograd.grad(term, list(part.parameters()), retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, part.parameters(), strict=True)]


class TestAdversary:
    @pytest.mark.parametrize("weight", [1.0, 0.25])
    def test_the_model_gets_the_classifiers_gradient_with_the_other_sign(self, weight):
        model, batch = make_model(adversary_weight=weight), make_batch()
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "values")}
        scores = model.score(**inputs)
        is_known = BATCHES != -100
        plain = torch.nn.functional.cross_entropy(scores[is_known], BATCHES[is_known])
        term = terms_of(model, batch)["adversary"]
        assert term.item() == pytest.approx(plain.item(), rel=1e-5)
        for reversed_, own in zip(
            gradients(model, term, model.backbone), gradients(model, plain, model.backbone), strict=True
        ):
            torch.testing.assert_close(reversed_, -weight * own, rtol=1e-4, atol=1e-7)
        for same, own in zip(gradients(model, term, model.head), gradients(model, plain, model.head), strict=True):
            torch.testing.assert_close(same, own, rtol=1e-4, atol=1e-7)

    def test_without_weight_the_embedding_learns_nothing_and_the_classifier_all(self):
        model = make_model(adversary_weight=0.0)
        term = terms_of(model, make_batch())["adversary"]
        assert all((each == 0).all() for each in gradients(model, term, model.backbone))
        assert any((each != 0).any() for each in gradients(model, term, model.head))

    def test_with_views_alone_no_gradient_of_the_model_depends_on_labels(self):
        """Renaming is not enough: here cells change their batches, within a batch that all share."""
        model = make_model(adversary_weight=0.0, reconstruction_weight=0.0, positives="views", contrast_weight=1.0)
        batch = make_batch() | {"batch_labels": torch.zeros(6, dtype=torch.int64)}
        other = batch | {"batch_labels": torch.full((6,), 2)}
        one, two = (sum(terms_of(model, each).values()) for each in (batch, other))
        for a, b in zip(gradients(model, one, model.backbone), gradients(model, two, model.backbone), strict=True):
            assert torch.equal(a, b)

    def test_the_warm_up_begins_at_nothing_and_rises_to_the_whole(self):
        head = make_model(warmup_steps=50).head
        shares = []
        for step in (0, 5, 20, 50, 400):
            head.set_step(step)
            shares.append(head.reversal())
        assert shares[0] == 0
        assert shares == sorted(shares)
        assert shares[-2:] == [1.0, 1.0]

    def test_the_model_tells_the_head_the_step(self):
        model = make_model(warmup_steps=50)
        model.set_step(0)
        term = terms_of(model, make_batch())["adversary"]
        assert all((each == 0).all() for each in gradients(model, term, model.backbone))


class TestEmbedding:
    def test_knows_neither_batches_nor_types_nor_the_second_view(self):
        model, batch = make_model().eval(), make_batch()
        bare = {name: batch[name] for name in ("input_ids", "attention_mask", "values")}
        others = batch | {"batch_labels": torch.tensor([2, 2, 2, 1, 0, 0])}
        embeddings = model.encode(**bare)
        for given in (batch, others):
            assert torch.equal(model(**given).embeddings, embeddings)
            assert torch.equal(model.score(**given), model.score(**bare))

    def test_is_that_of_the_backbone(self):
        model, batch = make_model().eval(), make_batch()
        bare = {name: batch[name] for name in ("input_ids", "attention_mask", "values")}
        assert torch.equal(model.encode(**bare), model.backbone.encode(**bare))


class TestTerms:
    def test_padding_changes_none(self):
        model, batch = make_model(positives="mutual_neighbours").eval(), make_batch()
        wide = {
            name: torch.nn.functional.pad(value, (0, 5)) if value.ndim == 2 else value for name, value in batch.items()
        }
        one, two = terms_of(model, batch), terms_of(model, wide)
        assert one.keys() == two.keys() == {"adversary", "contrast", "reconstruction"}
        for name in one:
            torch.testing.assert_close(one[name], two[name], rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("positives", ["views", "mutual_neighbours", "labels"])
    def test_numbering_the_batches_otherwise_changes_none(self, positives):
        """The rows of what is known of each batch go with the numbers."""
        model, batch = make_model(positives=positives), make_batch()
        before = terms_of(model, batch)
        own = gradients(model, sum(before.values()), model.backbone)
        number = torch.tensor([2, 0, 1])
        with torch.no_grad():
            for table in (model.head.classifier.weight, model.head.classifier.bias, model.head.batch_shift):
                table[number] = table.clone()
        labels = torch.where(BATCHES >= 0, number[BATCHES.clamp(min=0)], BATCHES)
        after = terms_of(model, batch | {"batch_labels": labels})
        for name in before:
            torch.testing.assert_close(after[name], before[name], rtol=1e-5, atol=1e-6)
        for a, b in zip(gradients(model, sum(after.values()), model.backbone), own, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)

    def test_those_that_count_for_the_loss_add_over_cells(self):
        model, batch = make_model().eval(), make_batch()
        halves = [{name: value[part] for name, value in batch.items()} for part in (slice(0, 2), slice(2, 6))]
        whole, parts = terms_of(model, batch), [terms_of(model, half) for half in halves]
        known = 5 * whole["adversary"], 2 * parts[0]["adversary"] + 3 * parts[1]["adversary"]
        torch.testing.assert_close(*known)
        cells = 6 * whole["reconstruction"], 2 * parts[0]["reconstruction"] + 4 * parts[1]["reconstruction"]
        torch.testing.assert_close(*cells)
        assert model.terms_apart == {"adversary", "contrast"}

    def test_without_a_weight_there_is_no_such_term(self):
        model = make_model(contrast_weight=0.0, reconstruction_weight=0.0)
        assert set(terms_of(model, make_batch())) == {"adversary"} == set(model.config.counted_terms)
        assert model.head.decoder is None

    def test_cells_of_no_known_batch_get_the_mean_of_the_batches(self):
        model, batch = make_model().eval(), make_batch() | {"batch_labels": torch.full((6,), -100)}
        found = terms_of(model, batch)["reconstruction"]
        with torch.no_grad():
            model.head.batch_shift.copy_(model.head.batch_shift.mean(dim=0, keepdim=True).expand(3, -1))
        torch.testing.assert_close(found, terms_of(model, make_batch())["reconstruction"])


class TestNeighbours:
    PROFILES = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.2, 1.0], [0.8, 0.3]])

    def test_each_finds_its_like_in_the_other_batch(self):
        found = mutual_neighbours(self.PROFILES, torch.tensor([0, 0, 1, 1, 1]), 1)
        assert found.nonzero().tolist() == [[0, 2], [1, 3], [2, 0], [3, 1]]

    def test_those_of_no_batch_are_nobodys(self):
        found = mutual_neighbours(self.PROFILES, torch.tensor([0, 0, -100, 1, 1]), 2)
        assert not found[2].any()
        assert not found[:, 2].any()

    def test_they_are_mutual_and_of_other_batches(self):
        draw = torch.Generator().manual_seed(0)
        batches = torch.randint(0, 3, (40,), generator=draw)
        found = mutual_neighbours(torch.rand(40, 5, generator=draw), batches, 3)
        assert torch.equal(found, found.T)
        assert not (found & (batches[:, None] == batches[None])).any()
        assert found.any()


class TestContrast:
    def loss(self, cells, others, batches, is_match=None):
        is_match = torch.zeros(len(cells), len(cells), dtype=torch.bool) if is_match is None else is_match
        return matched_contrast(cells, others, is_match=is_match, batches=batches, temperature=0.2)

    def test_a_cell_is_told_from_those_of_its_own_batch_only(self):
        draw = torch.Generator().manual_seed(0)
        cells, others = torch.rand(2, 6, 4, generator=draw)
        batches = torch.tensor([0, 0, 0, 1, 1, 1])
        parts = [self.loss(cells[part], others[part], batches[part]) for part in (slice(0, 3), slice(3, 6))]
        torch.testing.assert_close(self.loss(cells, others, batches), sum(parts) / 2)

    def test_a_match_draws_cells_together(self):
        cells = torch.tensor([[1.0, 0.1], [0.1, 1.0], [-1.0, 0.2]], requires_grad=True)
        is_match = torch.zeros(3, 3, dtype=torch.bool)
        is_match[0, 1] = is_match[1, 0] = True
        cosine = torch.nn.functional.cosine_similarity(cells[0], cells[1], dim=0)
        loss = self.loss(cells, cells.detach(), torch.tensor([0, 1, 0]), is_match)
        (step,) = torch.autograd.grad(loss, cells)
        moved = (cells - 0.1 * step).detach()
        assert torch.nn.functional.cosine_similarity(moved[0], moved[1], dim=0) > cosine


class TestShares:
    def test_special_tokens_and_padding_have_none(self):
        ids, values = (
            torch.tensor([[1, 5, 7, 0], [1, 6, 0, 0]]),
            torch.tensor([[0.0, 1.0, 3.0, 0.0], [-2.0, 2.0, 0, 0]]),
        )
        found = expression_shares(ids, values, 8)
        torch.testing.assert_close(found.sum(dim=1), torch.ones(2))
        assert (found[:, :5] == 0).all()
        assert found[0, 7] == pytest.approx(2 * found[0, 5])  # log 4 = 2 log 2

    def test_a_perfect_prediction_costs_nothing_and_any_other_something(self):
        shares = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(9), 4).astype(np.float32))
        assert share_divergence(shares.log(), shares).item() == pytest.approx(0, abs=1e-6)
        assert share_divergence(shares.log().flip(0), shares).item() > 0.1

    def test_no_cells_cost_nothing(self):
        assert share_divergence(torch.zeros(0, 3), torch.zeros(0, 3)).item() == 0


@pytest.mark.parametrize(
    "architecture",
    ["autoregressive_transformer", "masked_autoencoder", "gene_pooling", "scdiva", "scgpt", "transformer_encoder"],
)
def test_each_architecture_learns_from_all_terms(architecture):
    model = make_model(architecture)
    for name, term in terms_of(model, make_batch()).items():
        assert torch.isfinite(term), name
        assert any((each != 0).any() for each in gradients(model, term, model.backbone)), name
