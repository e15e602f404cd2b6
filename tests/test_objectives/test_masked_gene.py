from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.data.draws import cell_keys
from scmodelforge.data.types import TokenBlock

from .tokens import VOCAB, make_tokens, masked_gene

INPUTS = ("input_ids", "attention_mask", "values", "bin_ids", "masked_positions")


def shown(batch, row: int) -> dict[int, tuple]:
    """Return what a row of a batch shows and asks of each of its genes."""
    names = ("input_ids", "values", "bin_ids", "labels", "targets", "masked_positions")
    length = batch["lengths"][row]
    columns = [batch[name][row, :length].tolist() for name in ("gene_ids", *names)]
    return {gene: tuple(rest) for gene, *rest in zip(*columns, strict=True)}


class TestNothingLeaks:
    @pytest.mark.parametrize("shares", [(0.8, 0.1), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
    def test_hidden_values_and_bins_reach_no_input(self, shares):
        objective = masked_gene(mask_ratio=0.4, mask_token_prob=shares[0], random_token_prob=shares[1])
        tokens = make_tokens([60, 3, 40])
        batch = objective(tokens)
        is_hidden = batch["masked_positions"].flatten()[torch.from_numpy(batch["pack_index"])].numpy()
        assert 20 < is_hidden.sum() < 70
        changed = replace(
            tokens,
            values=np.where(is_hidden, tokens.values * 3 + 1, tokens.values),
            bin_ids=np.where(is_hidden, tokens.bin_ids + 50, tokens.bin_ids),
        )
        again = objective(changed)
        for name in INPUTS:
            assert torch.equal(again[name], batch[name]), name
        assert torch.equal(again["labels"], batch["labels"])
        assert not torch.equal(again["targets"], batch["targets"])

    def test_the_identity_of_a_masked_gene_reaches_no_input(self):
        objective = masked_gene(mask_ratio=0.5, mask_token_prob=1.0, random_token_prob=0.0)
        everything = make_tokens([200])
        hidden = set(objective(everything)["labels"][0].tolist()) - {IGNORE_INDEX}
        assert len(hidden) > 50
        first, second = sorted(hidden)[:2]
        visible = [token for token in everything.ids[1:].tolist() if token not in hidden][:9]
        batches = []
        for gene in (first, second):
            ids = np.array([VOCAB.cls_id, *visible[:4], gene, *visible[4:]], dtype=np.int32)
            values = np.linspace(9, 1, len(ids)).astype(np.float32)
            block = TokenBlock(
                np.array([0, len(ids)]), ids, values, everything.cell_index, everything.keys, np.ones_like(ids)
            )
            batches.append(objective(block))
        for name in INPUTS:
            assert torch.equal(batches[0][name], batches[1][name]), name
        assert [batch["labels"][0, 5].item() for batch in batches] == [first, second]
        assert [batch["input_ids"][0, 5].item() for batch in batches] == [VOCAB.mask_id] * 2

    def test_values_and_bins_are_zero_at_every_target(self):
        batch = masked_gene(mask_ratio=0.4)(make_tokens([60, 3, 40]))
        hidden = batch["masked_positions"]
        assert batch["values"][hidden].eq(0).all()
        assert batch["bin_ids"][hidden].eq(0).all()
        elsewhere = ~hidden & batch["gene_ids"].ge(4)
        assert batch["values"][elsewhere].gt(0).all()
        assert batch["bin_ids"][elsewhere].gt(0).all()
        assert torch.equal(batch["input_ids"][~hidden], batch["gene_ids"][~hidden])

    def test_the_tokens_given_stay_whole(self):
        tokens = make_tokens([30])
        before = tokens.select(np.array([0]))
        masked_gene(mask_ratio=1.0)(tokens)
        for name in ("ids", "values", "bin_ids"):
            np.testing.assert_array_equal(getattr(tokens, name), getattr(before, name))


class TestWhatIsAsked:
    def test_labels_and_targets_are_the_truth_at_targets_only(self):
        tokens = make_tokens([8, 50, 0])
        batch = masked_gene(mask_ratio=0.3)(tokens)
        hidden = batch["masked_positions"]
        whole = torch.zeros_like(batch["values"])
        whole.view(-1)[torch.from_numpy(batch["pack_index"])] = torch.from_numpy(tokens.values)
        assert torch.equal(batch["labels"], batch["gene_ids"].masked_fill(~hidden, IGNORE_INDEX))
        assert torch.equal(batch["targets"], whole.masked_fill(~hidden, 0))
        assert batch["target_index"].tolist() == hidden.flatten().nonzero()[:, 0].tolist()
        assert batch["num_targets"] == {"masked_gene": int(hidden.sum())}
        assert (batch["labels"].dtype, batch["targets"].dtype, hidden.dtype) == (
            torch.int64,
            torch.float32,
            torch.bool,
        )

    @pytest.mark.parametrize("ratio", [0.15, 0.6])
    def test_the_share_of_targets_is_the_one_asked_for(self, ratio):
        batch = masked_gene(mask_ratio=ratio)(make_tokens([200] * 100))
        num_genes = 200 * 100
        spread = np.sqrt(num_genes * ratio * (1 - ratio))
        assert abs(batch["num_targets"]["masked_gene"] - num_genes * ratio) < 4 * spread

    def test_the_shares_of_replacements_are_those_asked_for(self):
        batch = masked_gene(mask_ratio=0.5)(make_tokens([200] * 100))
        hidden = batch["masked_positions"]
        ids, truth, count = batch["input_ids"][hidden], batch["labels"][hidden], int(hidden.sum())
        is_mask, is_kept = ids == VOCAB.mask_id, ids == truth
        for share, found in ((0.8, is_mask), (0.1, is_kept), (0.1, ~is_mask & ~is_kept)):
            assert abs(int(found.sum()) - count * share) < 4 * np.sqrt(count * share * (1 - share))

    def test_all_genes_can_be_targets(self):
        batch = masked_gene(mask_ratio=1.0)(make_tokens([5, 2]))
        assert batch["masked_positions"].tolist() == [[False] + [True] * 5, [False, True, True, False, False, False]]


class TestSpecialTokens:
    def test_they_are_never_hidden(self):
        tokens = make_tokens([20] * 20)
        specials = tokens.ids.copy()
        specials[specials % 5 == 0] = VOCAB.unk_id
        batch = masked_gene(mask_ratio=1.0)(replace(tokens, ids=specials))
        is_special = batch["gene_ids"] < 4
        assert not batch["masked_positions"][is_special].any()
        assert batch["masked_positions"][~is_special].all()
        assert torch.equal(batch["input_ids"][is_special], batch["gene_ids"][is_special])

    def test_they_never_replace_and_every_other_gene_does(self):
        objective = masked_gene(mask_ratio=1.0, mask_token_prob=0.0, random_token_prob=1.0)
        batch = objective(make_tokens([200] * 30))
        hidden = batch["masked_positions"]
        drawn = batch["input_ids"][hidden]
        assert set(drawn.tolist()) == set(range(4, 204))
        assert drawn.ne(batch["labels"][hidden]).all()
        counts = torch.bincount(drawn, minlength=204)[4:].double()
        assert (counts - 30).pow(2).sum() / 30 < 199 + 5 * np.sqrt(2 * 199)  # chi-square of a uniform draw

    def test_each_gene_of_a_cell_has_a_draw_of_its_own(self):
        batch = masked_gene(mask_ratio=1.0, mask_token_prob=0.0, random_token_prob=1.0)(make_tokens([100]))
        steps = (batch["input_ids"] - batch["gene_ids"])[0, 1:] % 200
        assert len(set(steps.tolist())) > 50


class TestSameCellSameMask:
    @settings(max_examples=20, deadline=None)
    @given(st.permutations(range(6)), st.integers(1, 6))
    def test_in_any_batch_and_order(self, order, size):
        objective, tokens = masked_gene(mask_ratio=0.4), make_tokens([30, 1, 12, 60, 0, 25])
        whole = objective(tokens)
        part = objective(tokens.select(np.array(order[:size])))
        for row, cell in enumerate(order[:size]):
            assert shown(part, row) == shown(whole, cell)

    def test_in_any_order_of_its_genes(self):
        objective, tokens = masked_gene(mask_ratio=0.4), make_tokens([80])
        turned = replace(
            tokens, ids=tokens.ids[::-1].copy(), values=tokens.values[::-1].copy(), bin_ids=tokens.bin_ids[::-1].copy()
        )
        assert shown(objective(turned), 0) == shown(objective(tokens), 0)

    def test_whatever_other_genes_it_has(self):
        objective, tokens = masked_gene(mask_ratio=0.4), make_tokens([80])
        half = replace(
            tokens,
            offsets=np.array([0, 41]),
            ids=tokens.ids[:41],
            values=tokens.values[:41],
            bin_ids=tokens.bin_ids[:41],
        )
        whole = shown(objective(tokens), 0)
        assert all(whole[gene] == rest for gene, rest in shown(objective(half), 0).items())

    def test_every_time_in_validation_and_anew_in_each_pass_of_training(self):
        objective, tokens = masked_gene(mask_ratio=0.4), make_tokens([100] * 4)
        masks = [
            objective(replace(tokens, keys=cell_keys(0, tokens.cell_index, data_pass=data_pass)))["masked_positions"]
            for data_pass in (None, None, 0, 1)
        ]
        assert torch.equal(masks[0], masks[1])
        assert not torch.equal(masks[2], masks[3])
        both = (masks[2] & masks[3]).sum().item()
        assert abs(both - 400 * 0.16) < 4 * np.sqrt(400 * 0.16 * 0.84)  # independent, not one the other's complement

    def test_cells_differ(self):
        tokens = make_tokens([100])
        twice = TokenBlock.concatenate([tokens, replace(tokens, keys=cell_keys(0, np.array([5])))])
        masks = masked_gene(mask_ratio=0.4)(twice)["masked_positions"]
        assert not torch.equal(masks[0], masks[1])


class TestSmallBatches:
    def test_no_cells_give_no_targets(self):
        batch = masked_gene()(make_tokens([3]).select(np.zeros(0, dtype=np.int64)))
        assert batch["num_targets"] == {"masked_gene": 0}
        assert all(batch[name].shape == (0, 1) for name in (*INPUTS, "labels", "targets", "gene_ids"))
        assert len(batch["target_index"]) == 0

    def test_cells_without_genes_give_no_targets(self):
        batch = masked_gene(mask_ratio=1.0)(make_tokens([0, 0]))
        assert batch["num_targets"] == {"masked_gene": 0}
        assert batch["labels"].eq(IGNORE_INDEX).all()

    def test_tokens_without_bins_make_batches_without(self):
        assert "bin_ids" not in masked_gene()(make_tokens([3], bins=False))
