from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import ModelConfig, TokenizerConfig
from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.data.draws import cell_keys
from scmodelforge.data.types import Batch, TokenBlock
from scmodelforge.models.autoregressive import AutoregressiveConfig
from scmodelforge.objectives import get_objective

from .tokens import VOCAB, genes_of, make_tokens, with_measured

ORDERS = ("random", "given")


def next_gene(**settings: Any):
    """Return the objective with these settings of the model."""
    config = AutoregressiveConfig.model_validate(settings)
    return get_objective("next_gene_prediction", vocab=VOCAB, tokenizer_config=TokenizerConfig(), model_config=config)


def rows(batch: Batch) -> list[dict[str, list]]:
    """Return the real part of each row of a batch, with the length of its prefix."""
    names = ("input_ids", "values", "gene_ids", "labels", "bin_ids")
    prefixes = batch["prefix_len"].tolist()
    return [
        {name: batch[name][row, :length].tolist() for name in names} | {"prefix": prefixes[row]}
        for row, length in enumerate(batch["lengths"])
    ]


def truth_of(tokens: TokenBlock, cell: int) -> dict[int, tuple[float, int]]:
    """Return value and bin of each token of a cell."""
    own = slice(tokens.offsets[cell], tokens.offsets[cell + 1])
    pairs = zip(tokens.values[own].tolist(), tokens.bin_ids[own].tolist(), strict=True)
    return dict(zip(tokens.ids[own].tolist(), pairs, strict=True))


def with_prefix(length: int, prefix: int, **options: Any) -> TokenBlock:
    """Return a cell of so many tokens whose key gives it such a prefix."""
    for position in range(1000):
        tokens = replace(make_tokens([length - 1], **options), keys=cell_keys(0, np.array([position])))
        if next_gene()(tokens)["prefix_len"].tolist() == [prefix]:
            return tokens
    raise AssertionError


class TestShift:
    @settings(max_examples=25, deadline=None)
    @given(
        st.lists(st.integers(0, 40), min_size=1, max_size=5), st.integers(0, 9), st.sampled_from(ORDERS), st.booleans()
    )
    def test_labels_and_bins_are_those_of_the_next_token(self, lengths, seed, order, cls):
        tokens = make_tokens(lengths, seed=seed, cls=cls)
        batch = next_gene(gene_order=order)(tokens)
        for cell, row in enumerate(rows(batch)):
            truth = truth_of(tokens, cell)
            assert sorted(row["input_ids"]) == sorted(truth)
            assert row["gene_ids"] == row["input_ids"]
            assert row["values"] == [truth[token][0] for token in row["input_ids"]]
            for place, token in enumerate(row["input_ids"][1:]):
                is_asked = place + 1 >= row["prefix"]
                assert row["labels"][place] == (token if is_asked else IGNORE_INDEX)
                assert row["bin_ids"][place] == (truth[token][1] if is_asked else IGNORE_INDEX)
            assert row["labels"][-1:] == row["bin_ids"][-1:] == [IGNORE_INDEX] * (len(row["labels"]) > 0)

    def test_each_gene_after_the_prefix_is_asked_for_once_and_no_other(self):
        tokens = make_tokens([30, 8, 1, 0, 50])
        batch = next_gene()(tokens)
        for row in rows(batch):
            asked = [label for label in row["labels"] if label != IGNORE_INDEX]
            assert asked == row["input_ids"][row["prefix"] :]
        numbers = [max(0, length - prefix) for length, prefix in zip(tokens.lengths, batch["prefix_len"], strict=True)]
        assert batch["num_targets"] == {"next_gene": sum(numbers), "expression_bin": sum(numbers)}
        assert batch["labels"].ne(IGNORE_INDEX).sum() == sum(numbers)

    def test_the_targets_are_indexed_where_their_labels_stand(self):
        batch = next_gene()(make_tokens([30, 8, 1, 0, 50]))
        is_label = batch["labels"] != IGNORE_INDEX
        assert batch["target_index"].tolist() == is_label.flatten().nonzero()[:, 0].tolist()
        assert torch.equal(batch["bin_ids"] != IGNORE_INDEX, is_label)

    def test_padding_is_never_asked_for_nor_asked(self):
        batch = next_gene()(make_tokens([30, 8, 1, 0]))
        is_padding = batch["attention_mask"] == 0
        assert is_padding.any()
        for name, filling in (("labels", IGNORE_INDEX), ("bin_ids", IGNORE_INDEX), ("input_ids", VOCAB.pad_id)):
            assert batch[name][is_padding].eq(filling).all()
        last = torch.from_numpy(batch["lengths"] - 1)
        assert batch["labels"].gather(1, last[:, None]).eq(IGNORE_INDEX).all()

    def test_types(self):
        batch = next_gene()(make_tokens([30, 8]))
        names = ("input_ids", "labels", "bin_ids", "gene_ids", "prefix_len")
        assert {batch[name].dtype for name in names} == {torch.int64}
        assert (batch["no_repeats"].dtype, batch["no_repeats"].item()) == (torch.bool, True)


class TestNothingLeaks:
    def test_values_and_bins_of_later_genes_reach_no_input_and_no_label_before_them(self):
        tokens = with_prefix(41, 10)
        batch = next_gene()(tokens)
        line = batch["input_ids"][0].tolist()
        for place in (11, 25, 40):
            later = np.isin(tokens.ids, line[place:])
            changed = replace(
                tokens,
                values=np.where(later, tokens.values + 1, tokens.values),
                bin_ids=np.where(later, tokens.bin_ids + 50, tokens.bin_ids).astype(np.int32),
            )
            again = next_gene()(changed)
            for name in ("input_ids", "values", "gene_ids", "attention_mask"):
                assert torch.equal(again[name][0, :place], batch[name][0, :place]), name
            for name in ("labels", "bin_ids"):
                assert torch.equal(again[name][0, : place - 1], batch[name][0, : place - 1]), name
            assert again["bin_ids"][0, place - 1] == batch["bin_ids"][0, place - 1] + 50
            assert again["values"][0, place] == batch["values"][0, place] + 1
            assert torch.equal(again["prefix_len"], batch["prefix_len"])

    def test_which_genes_come_later_does_not_change_the_order_of_those_before(self):
        tokens = with_prefix(41, 1)
        line = rows(next_gene()(tokens))[0]["input_ids"]
        others = [gene for gene in range(4, 204) if gene not in line][:20]
        changed = tokens.ids.copy()
        for old, new in zip(line[21:], others, strict=True):
            changed[changed == old] = new
        again = rows(next_gene()(replace(tokens, ids=changed)))[0]["input_ids"]
        assert [gene for gene in again if gene in line[:21]] == line[:21]
        assert set(again) == set(line[:21]) | set(others)

    def test_the_order_does_not_depend_on_values_or_bins(self):
        tokens = make_tokens([60])
        other = replace(tokens, values=tokens.values[::-1].copy(), bin_ids=tokens.bin_ids[::-1].copy())
        assert torch.equal(next_gene()(tokens)["input_ids"], next_gene()(other)["input_ids"])

    def test_the_tokens_given_stay_whole(self):
        tokens = make_tokens([30])
        before = tokens.select(np.array([0]))
        next_gene()(tokens)
        for name in ("ids", "values", "bin_ids"):
            np.testing.assert_array_equal(getattr(tokens, name), getattr(before, name))


class TestOrder:
    @settings(max_examples=20, deadline=None)
    @given(st.permutations(range(6)), st.integers(1, 6), st.sampled_from(ORDERS))
    def test_a_cell_has_the_same_row_in_any_batch(self, order, size, gene_order):
        objective, tokens = next_gene(gene_order=gene_order), make_tokens([30, 1, 12, 60, 0, 25])
        whole = rows(objective(tokens))
        part = rows(objective(tokens.select(np.array(order[:size]))))
        assert part == [whole[cell] for cell in order[:size]]

    def test_a_cell_has_the_same_row_in_whatever_order_its_genes_came(self):
        tokens = make_tokens([60], cls=False)
        turn = np.random.default_rng(1).permutation(60)
        turned = replace(tokens, ids=tokens.ids[turn], values=tokens.values[turn], bin_ids=tokens.bin_ids[turn])
        assert rows(next_gene()(turned)) == rows(next_gene()(tokens))

    def test_special_tokens_come_first_in_the_order_they_had(self):
        tokens = make_tokens([40])
        ids = tokens.ids.copy()
        ids[[0, 10, 20]] = VOCAB.mask_id, VOCAB.cls_id, VOCAB.unk_id
        values = np.where(ids < 4, np.float32(-ids), tokens.values).astype(np.float32)
        row = rows(next_gene()(replace(tokens, ids=ids, values=values)))[0]
        assert row["input_ids"][:3] == [VOCAB.mask_id, VOCAB.cls_id, VOCAB.unk_id]
        assert row["values"][:3] == [-token for token in row["input_ids"][:3]]
        assert all(token >= 4 for token in row["input_ids"][3:])

    @pytest.mark.parametrize("order", ORDERS)
    def test_special_tokens_are_never_asked_for(self, order):
        tokens = make_tokens([40] * 20)
        ids = tokens.ids.copy()
        ids[ids % 3 == 0] = VOCAB.unk_id
        batch = next_gene(gene_order=order)(replace(tokens, ids=ids))
        labels = batch["labels"][batch["labels"] != IGNORE_INDEX]
        assert (labels >= 4).all()
        for row in rows(batch):
            later = row["input_ids"][row["prefix"] :]
            assert [label for label in row["labels"] if label >= 4] == [token for token in later if token >= 4]

    def test_each_gene_is_at_each_place_equally_often(self):
        tokens = TokenBlock.concatenate([make_tokens([9])] * 900)
        tokens.keys = cell_keys(0, np.arange(900))
        lines = next_gene()(tokens)["input_ids"][:, 1:].numpy()
        for gene in np.unique(lines):
            counts = np.count_nonzero(lines == gene, axis=0)
            assert ((counts - 100) ** 2).sum() / 100 < 8 + 5 * np.sqrt(2 * 8)
        assert len(np.unique(lines, axis=0)) > 890  # 9! orders

    def test_it_is_the_same_every_time_in_validation_and_new_in_each_pass_of_training(self):
        tokens = make_tokens([40])
        lines = [
            rows(next_gene()(replace(tokens, keys=cell_keys(0, tokens.cell_index, data_pass=data_pass))))
            for data_pass in (None, None, 0, 1)
        ]
        assert lines[0] == lines[1]
        assert lines[2][0]["input_ids"] != lines[3][0]["input_ids"]

    def test_as_given_it_stays(self):
        tokens = make_tokens([30, 5])
        batch = next_gene(gene_order="given")(tokens)
        for cell, row in enumerate(rows(batch)):
            assert row["input_ids"] == [VOCAB.cls_id, *genes_of(tokens, cell)]

    def test_it_is_random_for_models_that_say_nothing(self):
        objective = get_objective(
            "next_gene_prediction", vocab=VOCAB, tokenizer_config=TokenizerConfig(), model_config=ModelConfig()
        )
        tokens = make_tokens([30])
        assert rows(objective(tokens)) == rows(next_gene()(tokens))
        assert "floors" in objective(tokens)


class TestPrefix:
    def test_is_the_first_token_or_quarters_of_the_cell_equally_often(self):
        tokens = TokenBlock.concatenate([make_tokens([39])] * 2000)
        tokens.keys = cell_keys(0, np.arange(2000))
        lengths, counts = np.unique(next_gene()(tokens)["prefix_len"].numpy(), return_counts=True)
        assert lengths.tolist() == [1, 10, 20, 30]
        assert ((counts - 500) ** 2).sum() / 500 < 3 + 5 * np.sqrt(2 * 3)

    @pytest.mark.parametrize("order", ORDERS)
    def test_is_at_least_one_token_and_leaves_a_gene_to_ask_for(self, order):
        lengths = [length for length in range(1, 12) for _ in range(40)]
        batch = next_gene(gene_order=order)(make_tokens(lengths))
        for length, prefix in zip(batch["lengths"], batch["prefix_len"].tolist(), strict=True):
            assert 1 <= prefix < length
            assert prefix in {1, length // 4, length // 2, 3 * length // 4}

    def test_is_drawn_anew_in_each_pass_apart_from_the_order(self):
        tokens = make_tokens([39] * 200)
        prefixes = [
            next_gene()(replace(tokens, keys=cell_keys(0, tokens.cell_index, data_pass=data_pass)))["prefix_len"]
            for data_pass in (0, 0, 1)
        ]
        assert torch.equal(prefixes[0], prefixes[1])
        same = int((prefixes[0] == prefixes[2]).sum())
        assert abs(same - 50) < 4 * np.sqrt(200 * 0.25 * 0.75)


class TestFloors:
    @pytest.mark.parametrize("weight", [1.0, 0.3])
    def test_are_the_mean_logarithm_of_the_genes_left(self, weight):
        batch = next_gene(gene_loss_weight=weight)(make_tokens([30, 8, 1, 0, 50]))
        left = []
        for row in rows(batch):
            after = [token for token in row["input_ids"] if token >= 4]
            for token, label in zip(row["input_ids"], row["labels"], strict=True):
                after = [other for other in after if other != token]  # those not named yet
                if label != IGNORE_INDEX:
                    left.append(math.log(len(after)))
        assert len(left) == batch["num_targets"]["next_gene"] > 20
        assert batch["floors"] == {"next_gene": pytest.approx(weight * sum(left) / len(left), rel=1e-12)}

    def test_are_what_the_best_guess_costs(self):
        # Four genes in any order, all known: the first costs log 4, the next log 3, log 2 and 0.
        tokens = with_prefix(5, 1)
        assert next_gene()(tokens)["floors"]["next_gene"] == pytest.approx(math.log(24) / 4)

    def test_genes_without_room_could_have_come_too(self):
        # Of six genes in any order four have a place: the first costs log 6, then log 5, log 4 and log 3.
        tokens = with_measured(with_prefix(5, 1), cut=[[190, 191]])
        assert set(genes_of(tokens, 0)).isdisjoint({190, 191})
        assert next_gene()(tokens)["floors"]["next_gene"] == pytest.approx(math.log(6 * 5 * 4 * 3) / 4)

    def test_a_given_order_has_none(self):
        assert "floors" not in next_gene(gene_order="given")(make_tokens([30, 8]))


class TestSmallBatches:
    def test_a_cell_of_one_token_has_no_target(self):
        batch = next_gene()(make_tokens([0]))
        assert batch["input_ids"].tolist() == [[VOCAB.cls_id]]
        assert batch["labels"].tolist() == batch["bin_ids"].tolist() == [[IGNORE_INDEX]]
        assert batch["num_targets"] == {"next_gene": 0, "expression_bin": 0}
        assert batch["prefix_len"].tolist() == [1]
        assert "floors" not in batch

    @pytest.mark.parametrize("cells", [0, 1])
    def test_no_tokens_have_no_target(self, cells):
        batch = next_gene()(make_tokens([0], cls=False).select(np.arange(cells)))
        assert batch["num_targets"] == {"next_gene": 0, "expression_bin": 0}
        assert all(batch[name].shape == (cells, 1) for name in ("input_ids", "labels", "bin_ids", "values"))
        assert (len(batch["target_index"]), batch["prefix_len"].shape) == (0, (cells,))

    @pytest.mark.parametrize("order", ORDERS)
    def test_tokens_without_bins_are_refused(self, order):
        with pytest.raises(ConfigError, match=r"next_gene_prediction needs bins, .*; set tokenizer\.strategy"):
            next_gene(gene_order=order)(make_tokens([3], bins=False))
