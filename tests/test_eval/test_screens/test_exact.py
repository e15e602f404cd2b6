"""Passes of changed cells through a model whose answers are known: which are made, how often, and what they tell."""

from __future__ import annotations

import numpy as np
import pytest

from scmodelforge.data.types import TokenBlock
from scmodelforge.eval.screens.exact import exact_effects
from scmodelforge.eval.screens.statistics import collected, summary
from tests.test_eval.test_screens.test_statistics import NUM_GENES, screen

CLS = NUM_GENES + 1


def block(cells: list[list[int]], first: int = 0) -> TokenBlock:
    """Return cells with these genes, in ranks; gene g has the token g + 1."""
    ids = np.concatenate([[CLS, *(gene + 1 for gene in cell)] for cell in cells]).astype(np.int32)
    offsets = np.cumsum([0, *(len(cell) + 1 for cell in cells)])
    numbers = np.arange(first, first + len(cells))
    return TokenBlock(offsets, ids, np.ones(len(ids), np.float32), numbers, numbers.astype(np.uint64))


class Summing:
    """A model that adds up a vector for each token, and keeps what it was given."""

    def __init__(self) -> None:
        self.vectors = np.random.default_rng(0).normal(size=(NUM_GENES + 2, 6)) * 0.05
        self.vectors[CLS] = [1, 1, 0, 0, 0, 0]
        self.given: list[list[tuple[int, ...]]] = []

    def __call__(self, tokens: TokenBlock) -> np.ndarray:
        cells = np.split(tokens.ids, tokens.offsets[1:-1])
        self.given.append([tuple(cell.tolist()) for cell in cells])
        return np.stack([self.vectors[cell].sum(axis=0) for cell in cells])


def random_cells(number: int, seed: int = 0) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.permutation(NUM_GENES)[: random.integers(8, 25)].tolist() for _ in range(number)]


def test_each_copy_goes_through_the_model_once_and_batches_are_of_the_size_asked_for():
    model, cells = Summing(), [[0, 1, 2, 3], [4, 5, 6], [7, 8]]
    asked = screen([(gene,) for gene in range(NUM_GENES)], num_random=4)
    found = list(exact_effects([block(cells)], asked, model, batch_size=5))
    assert [each.tested.tolist() for each in found] == cells
    copies = [copy for batch in model.given for copy in batch]
    assert len(copies) == len(set(copies)) == sum(len(cell) + 1 for cell in cells)
    assert max(map(len, model.given)) == 5
    lengths = list(map(len, copies))
    assert lengths == sorted(lengths, reverse=True)


def test_a_planted_gene_is_the_one_that_moves_cells_to_the_goal():
    model, goal = Summing(), np.array([1.0, 1, 0, 0, 0, 0])
    model.vectors[13] = [0, 0, 1, 0, 0, 0]  # gene 12 turns cells away
    cells = [sorted({*cell, 12}) for cell in random_cells(20)]
    found = collected(exact_effects([block(cells)], screen([(g,) for g in range(NUM_GENES)]), model, goal=goal))
    first, *others = summary(found, NUM_GENES, [("", np.arange(20))], seed=0)
    assert (first["tested"], first["num_cells"]) == (12, 20)
    assert first["fdr"] < 1e-6
    assert first["goal_shift_low"] > max(row["goal_shift_high"] for row in others if row["num_cells"] > 1)


def test_effects_are_those_of_the_formula():
    model, goal = Summing(), np.array([0.0, 1, 0, 0, 0, 0])
    (found,) = exact_effects([block([[3, 4, 5]])], screen([(4,), (3, 5), (9,)]), model, goal=goal)
    whole = model.vectors[[CLS, 4, 5, 6]].sum(axis=0)

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    assert found.tested.tolist() == [0, 1]
    after = [model.vectors[[CLS, 4, 6]].sum(axis=0), model.vectors[[CLS, 5]].sum(axis=0)]
    assert found.shift == pytest.approx([1 - cosine(whole, each) for each in after])
    assert found.goal_shift == pytest.approx([cosine(each, goal) - cosine(whole, goal) for each in after])


def test_blocks_do_not_matter():
    cells = random_cells(7)
    asked = screen([(gene,) for gene in range(NUM_GENES)])
    one = list(exact_effects([block(cells)], asked, Summing(), batch_size=64))
    parts = [block([cell], first=number) for number, cell in enumerate(cells)]
    two = list(exact_effects(parts, asked, Summing(), batch_size=3))
    for first, second in zip(one, two, strict=True):
        assert first.cell == second.cell
        np.testing.assert_array_equal(first.tested, second.tested)
        np.testing.assert_allclose(first.shift, second.shift, atol=1e-12)
        np.testing.assert_allclose(first.deviation, second.deviation)
