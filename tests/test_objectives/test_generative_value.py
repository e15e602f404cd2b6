from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge.config.schema import ModelConfig, TokenizerConfig
from scmodelforge.data.draws import cell_keys
from scmodelforge.data.types import Batch, TokenBlock
from scmodelforge.objectives import get_objective

from .tokens import VOCAB, genes_of, make_tokens

INPUTS = ("input_ids", "attention_mask", "values", "bin_ids", "prefix_len", "gene_ids", "labels")


@pytest.fixture(scope="module")
def objective():
    return get_objective(
        "generative_value_prediction", vocab=VOCAB, tokenizer_config=TokenizerConfig(), model_config=ModelConfig()
    )


def rows(batch: Batch) -> list[tuple[dict[int, float], dict[int, float]]]:
    """Return the known genes of each row with their values, and those to generate with theirs."""
    found = []
    for row, (length, known) in enumerate(zip(batch["lengths"], batch["prefix_len"].tolist(), strict=True)):
        ids = batch["input_ids"][row, :length].tolist()
        shown, asked = batch["values"][row].tolist(), batch["targets"][row].tolist()
        assert batch["labels"][row, :length].tolist() == [-100] * known + ids[known:]
        assert batch["masked_positions"][row, :length].tolist() == [False] * known + [True] * (length - known)
        found.append((dict(zip(ids[:known], shown, strict=False)), dict(zip(ids[known:], asked[known:], strict=False))))
    return found


class TestParts:
    def test_are_all_genes_of_the_cell_each_once_with_their_values(self, objective):
        tokens = make_tokens([60, 1, 0, 33])
        for cell, (known, asked) in enumerate(rows(objective(tokens))):
            own = slice(tokens.offsets[cell], tokens.offsets[cell + 1])
            truth = dict(zip(tokens.ids[own].tolist(), tokens.values[own].tolist(), strict=True))
            assert known | asked == pytest.approx(truth)
            assert len(known) + len(asked) == len(truth)
            assert next(iter(known)) == VOCAB.cls_id

    @given(numbers=st.lists(st.integers(0, 70), min_size=1, max_size=6), seed=st.integers(0, 99))
    def test_are_a_quarter_half_or_three_quarters(self, numbers, seed):
        objective = get_objective(
            "generative_value_prediction", vocab=VOCAB, tokenizer_config=TokenizerConfig(), model_config=ModelConfig()
        )
        batch = objective(make_tokens(numbers, seed=seed))
        for number, (known, asked) in zip(numbers, rows(batch), strict=True):
            assert len(asked) in {number // 4, number // 2, 3 * number // 4}
            assert len(known) == number - len(asked) + 1
        assert batch["num_targets"] == {"generative_value": sum(len(asked) for _, asked in rows(batch))}

    def test_have_every_share_and_every_gene_about_equally_often(self, objective):
        tokens = make_tokens([40] * 400)
        shares = [len(asked) for _, asked in rows(objective(tokens))]
        assert {share: abs(shares.count(share) - 400 / 3) < 45 for share in (10, 20, 30)} == {
            10: True,
            20: True,
            30: True,
        }
        first = [genes_of(tokens, cell)[0] in asked for cell, (_, asked) in enumerate(rows(objective(tokens)))]
        assert abs(np.mean(first) - 0.5) < 0.12

    def test_change_with_the_pass(self, objective):
        first, second = (objective(make_tokens([50, 50], data_pass=number)) for number in (0, 1))
        assert any(one[1].keys() != other[1].keys() for one, other in zip(rows(first), rows(second), strict=True))


class TestEachCellByItself:
    def test_a_row_does_not_depend_on_the_batch(self, objective):
        tokens = make_tokens([12, 60, 33])
        whole = rows(objective(tokens))
        for cell in range(3):
            assert rows(objective(tokens.select(np.array([cell])))) == [whole[cell]]

    def test_a_row_does_not_depend_on_the_order_of_its_genes(self, objective):
        tokens = make_tokens([30])
        order = np.concatenate([[0], 1 + np.random.default_rng(0).permutation(30)])
        turned = replace(tokens, ids=tokens.ids[order], values=tokens.values[order], bin_ids=tokens.bin_ids[order])
        (known, asked), (same, also) = rows(objective(tokens))[0], rows(objective(turned))[0]
        assert (known, asked) == (same, also)


class TestNothingLeaks:
    def test_values_to_generate_reach_the_targets_only(self, objective):
        tokens = make_tokens([60, 3, 40])
        batch = objective(tokens)
        asked = [set(part) for _, part in rows(batch)]
        cells = np.repeat(np.arange(3), tokens.lengths)
        is_asked = np.array([gene in asked[cell] for cell, gene in zip(cells, tokens.ids.tolist(), strict=True)])
        assert is_asked.sum() > 20
        changed = objective(
            replace(
                tokens,
                values=np.where(is_asked, tokens.values * 3 + 1, tokens.values),
                bin_ids=np.where(is_asked, tokens.bin_ids + 50, tokens.bin_ids),
            )
        )
        for name in INPUTS:
            assert torch.equal(changed[name], batch[name]), name
        assert not torch.equal(changed["targets"], batch["targets"])

    def test_where_one_stands_does_not_tell_its_value(self, objective):
        """Ranked cells come in the order of their values; those to generate do not keep it."""
        tokens = make_tokens([200])
        order = np.concatenate([[0], 1 + np.argsort(-tokens.values[1:])])
        ranked = replace(tokens, ids=tokens.ids[order], values=tokens.values[order], bin_ids=tokens.bin_ids[order])
        batch = objective(ranked)
        known = int(batch["prefix_len"][0])
        asked = batch["targets"][0, known:].numpy()
        assert abs(np.corrcoef(np.arange(len(asked)), asked)[0, 1]) < 0.3
        shown = batch["values"][0, 1:known].numpy()
        assert (np.diff(shown) <= 0).all()


def test_no_cells_and_cells_without_genes(objective):
    tokens = make_tokens([0])
    batch = objective(tokens)
    assert batch["prefix_len"].tolist() == [1]
    assert batch["num_targets"] == {"generative_value": 0}
    nothing = objective(tokens.select(np.zeros(0, dtype=np.int64)))
    assert nothing["input_ids"].shape == (0, 1)
    assert nothing["prefix_len"].shape == (0,)


def test_tokens_without_bins_and_without_cls(objective):
    positions = np.arange(1, dtype=np.int64)
    ids = np.arange(4, 12, dtype=np.int32)
    values = np.arange(1, 9, dtype=np.float32)
    tokens = TokenBlock(np.array([0, 8]), ids, values, positions, cell_keys(0, positions), mask_value=-1.0)
    ((known, asked),) = rows(objective(tokens))
    assert len(known) + len(asked) == 8
    assert objective(tokens)["values"][0, len(known) :].eq(-1).all()
