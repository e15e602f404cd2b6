from __future__ import annotations

import numpy as np
import pytest
import torch

from scmodelforge.config.schema import TokenizerConfig
from scmodelforge.models.scdiva_diffusion import ScDivaDiffusionConfig
from scmodelforge.objectives import get_objective

from .tokens import VOCAB, make_tokens


def diffusion(**settings):
    config = ScDivaDiffusionConfig(**settings)
    return get_objective("masked_diffusion", vocab=VOCAB, tokenizer_config=TokenizerConfig(), model_config=config)


def many(number: int = 400, genes: int = 40):
    return make_tokens([genes] * number)


class TestShares:
    def test_cells_span_all_shares_and_none_is_below_the_least(self):
        tokens = make_tokens([150] * 300)
        batch = diffusion(least_masked=0.3)(tokens)
        shares = batch["masked_positions"].sum(dim=1).numpy() / 150
        assert shares.min() > 0.3 - 4 * np.sqrt(0.3 * 0.7 / 150)
        # uniform from 0.3 to 1: the quartiles, with a standard error of 0.02 from 300 cells
        assert np.quantile(shares, [0.25, 0.5, 0.75]) == pytest.approx([0.475, 0.65, 0.825], abs=0.08)

    def test_weights_are_one_over_share_and_genes(self):
        tokens = many()
        batch = diffusion(least_masked=0.1)(tokens)
        weights, hidden = batch["loss_weights"], batch["masked_positions"]
        assert (weights[~hidden] == 0).all()
        for row, is_hidden in zip(weights, hidden, strict=True):
            assert len(row[is_hidden].unique()) <= 1
        inverse = weights.max(dim=1).values * 40  # 1 / t, where anything is hidden
        assert inverse[inverse > 0].min() >= 1
        assert inverse.max() <= 10 + 1e-4

    def test_the_weights_of_a_cell_add_up_to_one_on_average(self):
        # so a constant loss of 1 for each gene has the mean 1: standard error 0.02 from 4000 cells
        totals = diffusion(least_masked=0.1)(many(4000))["loss_weights"].sum(dim=1)
        assert totals.mean().item() == pytest.approx(1, abs=0.05)

    def test_targets_are_counted_by_cells(self):
        batch = diffusion()(many(7))
        assert batch["num_targets"] == {"hidden_gene": 7, "hidden_value": 7}
        assert diffusion()(make_tokens([]))["num_targets"] == {"hidden_gene": 0, "hidden_value": 0}

    def test_the_floor_is_the_loss_of_one_who_knows_which_genes_are_hidden(self):
        batch = diffusion()(many(50))
        hidden = batch["masked_positions"].sum(dim=1)
        ideal = (batch["loss_weights"] * hidden.clamp(min=1).log()[:, None]).sum() / 50
        assert batch["floors"]["hidden_gene"] == pytest.approx(ideal.item(), rel=1e-5)


class TestHiding:
    def test_everything_of_a_hidden_gene_is_hidden_and_cls_is_not(self):
        tokens = many(30)
        batch = diffusion()(tokens)
        hidden = batch["masked_positions"]
        assert (batch["input_ids"][hidden] == VOCAB.mask_id).all()
        assert (batch["values"][hidden] == 0).all()
        assert (batch["bin_ids"][hidden] == 0).all()
        assert not hidden[:, 0].any()
        assert torch.equal(batch["labels"][hidden], batch["gene_ids"][hidden])
        assert (batch["labels"][~hidden] == -100).all()

    def test_a_cell_is_hidden_alike_in_any_batch(self):
        tokens = make_tokens([30, 12, 25, 30])
        whole = diffusion()(tokens)
        for number in range(4):
            alone = diffusion()(tokens.select(np.array([number])))
            width = alone["labels"].shape[1]
            for name in ("labels", "loss_weights", "input_ids"):
                assert torch.equal(alone[name][0], whole[name][number, :width])


class TestDepth:
    def counts(self, number: int = 300):
        tokens = many(number)
        tokens.values = np.where(tokens.ids >= 4, np.ceil(tokens.values * 3), 0).astype(np.float32)
        return tokens

    def test_counts_are_thinned_genes_without_any_are_gone(self):
        tokens = self.counts()
        objective = diffusion(least_depth=0.05, log_values=True)
        thinned = objective._thinned(tokens)
        assert len(thinned) == len(tokens)
        for number in range(len(tokens)):
            own, after = (each.part(number, number + 1) for each in (tokens, thinned))
            before = dict(zip(own.ids, own.values, strict=True))
            assert after.ids[0] == VOCAB.cls_id
            assert (after.values[1:] >= 1).all()
            assert (after.values == np.rint(after.values)).all()
            assert all(value <= before[gene] for gene, value in zip(after.ids, after.values, strict=True))

    def test_shares_kept_are_log_uniform(self):
        tokens = self.counts(2000)
        thinned = diffusion(least_depth=0.1, log_values=True)._thinned(tokens)
        cells = [np.repeat(np.arange(2000), each.lengths) for each in (tokens, thinned)]
        before, after = (np.bincount(c, each.values, 2000) for c, each in zip(cells, (tokens, thinned), strict=True))
        logs = np.log(after / before) / np.log(0.1)
        assert np.quantile(logs, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.05)

    def test_a_depth_of_one_leaves_cells_whole(self):
        batch = diffusion()(many(5))
        assert (batch["lengths"] == 41).all()
