from __future__ import annotations

from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest
import torch

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import MaskingConfig, TokenizerConfig
from scmodelforge.data.types import TokenBlock
from scmodelforge.models.masked_autoencoder import MaskedAutoencoderConfig
from scmodelforge.objectives import get_objective
from scmodelforge.objectives.hiding import hidden_genes

from .tokens import VOCAB, make_tokens, masked_gene, with_measured

#: All that a model may read of a batch before it is told what was right.
INPUTS = ("input_ids", "attention_mask", "values", "bin_ids", "masked_positions")


def objective(task: str, mode: str, **masking):
    config = TokenizerConfig(masking=MaskingConfig(mode=mode, **masking))
    return get_objective(task, vocab=VOCAB, tokenizer_config=config, model_config=MaskedAutoencoderConfig())


def in_spans(tokens: TokenBlock, **masking) -> list[list[bool]]:
    """Return for each cell which genes are hidden, from the highest expressed to the lowest."""
    is_hidden = hidden_genes(tokens, tokens.ids >= 4, MaskingConfig(mode="span", **masking))
    found = []
    for start, stop in zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True):
        own = [i for i in range(start, stop) if tokens.ids[i] >= 4]
        found.append([bool(is_hidden[i]) for i in sorted(own, key=lambda i: (-tokens.values[i], tokens.ids[i]))])
    return found


class TestSpans:
    @pytest.mark.parametrize(("ratio", "length"), [(0.15, 8.0), (0.4, 3.0), (0.5, 20.0), (0.8, 2.0)])
    def test_hide_the_share_asked_for_everywhere(self, ratio, length):
        hidden = np.array(in_spans(make_tokens([120] * 1500), mask_ratio=ratio, span_length=length))
        # Cells are independent: the spread of their shares gives that of the mean.
        assert abs(hidden.mean() - ratio) < 4 * hidden.mean(axis=1).std() / np.sqrt(len(hidden))
        by_rank = hidden.mean(axis=0)
        assert np.abs(by_rank - ratio).max() < 5 * np.sqrt(ratio * (1 - ratio) / len(hidden))

    @pytest.mark.parametrize(("ratio", "length"), [(0.15, 8.0), (0.4, 3.0)])
    def test_have_geometric_lengths_of_the_mean_asked_for(self, ratio, length):
        lengths = []
        for cell in in_spans(make_tokens([190] * 400), mask_ratio=ratio, span_length=length):
            runs = [(is_hidden, len(list(run))) for is_hidden, run in groupby(cell)]
            lengths += [size for is_hidden, size in runs[1:-1] if is_hidden and size < 60]  # the ends cut runs short
        assert np.mean(lengths) == pytest.approx(length, rel=0.12)
        longer = np.mean(np.array(lengths) > length)
        assert longer == pytest.approx((1 - 1 / length) ** int(length), abs=0.05)

    def test_of_one_gene_each_are_single_genes(self):
        hidden = np.array(in_spans(make_tokens([120] * 300), mask_ratio=0.2, span_length=1.0))
        following = hidden[:, 1:][hidden[:, :-1]]
        assert following.mean() == pytest.approx(0.2, abs=0.05)  # a hidden gene tells nothing of the next one

    def test_hide_all_or_nothing_at_the_ends(self):
        assert np.all(in_spans(make_tokens([50]), mask_ratio=1.0))
        assert sum(in_spans(make_tokens([50]), mask_ratio=1e-9)[0]) == 0

    def test_do_not_depend_on_the_order_of_tokens_or_on_other_cells(self):
        tokens = make_tokens([80, 60, 70])
        whole = in_spans(tokens, mask_ratio=0.4)
        assert in_spans(tokens.select(np.array([1])), mask_ratio=0.4) == [whole[1]]
        order = np.concatenate([np.arange(81), np.random.default_rng(0).permutation(61) + 81, np.arange(142, 213)])
        moved = replace(tokens, ids=tokens.ids[order], values=tokens.values[order], bin_ids=tokens.bin_ids[order])
        assert in_spans(moved, mask_ratio=0.4) == whole

    def test_are_drawn_anew_in_each_pass(self):
        first, second = (in_spans(make_tokens([150], data_pass=number), mask_ratio=0.4) for number in range(2))
        assert first != second

    @pytest.mark.parametrize("task", ["masked_gene_prediction", "masked_value_prediction"])
    def test_never_hide_special_tokens(self, task):
        batch = objective(task, "span", mask_ratio=0.9)(with_measured(make_tokens([60, 3])))
        assert batch["input_ids"][:, 0].eq(VOCAB.cls_id).all()
        assert not batch["masked_positions"][:, 0].any()
        assert batch["masked_positions"].sum() > 40

    def test_of_no_cells_are_none(self):
        batch = objective("masked_gene_prediction", "span")(make_tokens([]))
        assert batch["num_targets"] == {"masked_gene": 0}


class TestValueMode:
    def test_shows_genes_and_hides_values_and_bins(self):
        tokens = with_measured(make_tokens([60, 3, 40]))
        batch = objective("masked_value_prediction", "value", mask_ratio=0.4)(tokens)
        hidden = batch["masked_positions"]
        assert torch.equal(batch["input_ids"], batch["gene_ids"])
        assert torch.equal(batch["input_ids"][hidden], batch["labels"][hidden])
        assert batch["values"][hidden].eq(0).all()
        assert batch["bin_ids"][hidden].eq(0).all()
        is_visible_gene = ~hidden & batch["input_ids"].ge(4)
        assert batch["values"][is_visible_gene].gt(0).all()
        assert 25 < hidden.sum() < 130
        assert not batch["input_ids"].eq(VOCAB.mask_id).any()

    def test_hides_the_same_genes_as_gene_mode(self):
        tokens = with_measured(make_tokens([60, 3, 40]))
        batches = [objective("masked_value_prediction", mode)(tokens) for mode in ("gene", "value")]
        for name in ("masked_positions", "targets", "labels", "values", "gene_ids"):
            assert torch.equal(batches[0][name], batches[1][name]), name

    def test_cannot_ask_which_gene_it_was(self):
        with pytest.raises(ConfigError, match=r"mode 'value' leaves genes visible, but masked_gene_prediction"):
            masked_gene(mode="value")


def changed(tokens: TokenBlock, is_hidden: np.ndarray) -> TokenBlock:
    """Return the cells with other values and bins at hidden tokens.

    Values keep their order, which spans follow.
    """
    values = np.where(is_hidden, tokens.values * 1.0001, tokens.values).astype(np.float32)
    bins = np.where(is_hidden, tokens.bin_ids + 50, tokens.bin_ids)
    return replace(tokens, values=values, bin_ids=bins)


class TestNothingLeaks:
    @pytest.mark.parametrize(
        ("task", "mode"),
        [
            ("masked_gene_prediction", "gene"),
            ("masked_gene_prediction", "span"),
            ("masked_value_prediction", "gene"),
            ("masked_value_prediction", "value"),
            ("masked_value_prediction", "span"),
        ],
    )
    def test_hidden_values_and_bins_reach_no_tensor_but_the_targets(self, task, mode):
        tokens, hides = with_measured(make_tokens([80, 3, 60])), objective(task, mode, mask_ratio=0.4)
        is_hidden = hidden_genes(tokens, tokens.ids >= 4, hides.masking)
        assert 30 < is_hidden.sum() < 110
        batch, again = hides(tokens), hides(changed(tokens, is_hidden))
        assert not torch.equal(again["targets"], batch["targets"])
        for name, tensor in batch.items():
            if isinstance(tensor, torch.Tensor) and name != "targets":
                assert torch.equal(again[name], tensor), name

    @pytest.mark.parametrize(
        ("task", "mode"), [("masked_gene_prediction", "gene"), ("masked_value_prediction", "gene")]
    )
    def test_hidden_genes_reach_no_input(self, task, mode):
        tokens = make_tokens([80])
        hides = objective(task, mode, mask_ratio=0.4, mask_token_prob=1.0, random_token_prob=0.0)
        tokens = with_measured(tokens, panels=[np.array([4])])  # no room for genes without expression
        hidden = np.flatnonzero(hidden_genes(tokens, tokens.ids >= 4, hides.masking))
        absent = np.setdiff1d(np.arange(4, 204), tokens.ids)
        candidates = replace(tokens, ids=np.resize(absent, len(tokens.ids)).astype(np.int32))
        also_hidden = hidden_genes(candidates, candidates.ids >= 4, hides.masking)
        swaps = list(zip(hidden, sorted(set(candidates.ids[also_hidden].tolist())), strict=False))
        assert len(swaps) > 5
        ids = tokens.ids.copy()
        for place, gene in swaps:
            ids[place] = gene
        batch, again = hides(tokens), hides(replace(tokens, ids=ids))
        assert batch["masked_positions"].sum() > 20
        named = ("input_ids", "attention_mask", "masked_positions")
        for name in INPUTS if task == "masked_gene_prediction" else named:
            assert torch.equal(again[name], batch[name]), name
        assert not torch.equal(again["labels"], batch["labels"])
