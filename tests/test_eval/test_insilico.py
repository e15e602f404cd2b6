"""Perturbations of tokens, and their effects on a model whose answers are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from scmodelforge.data.types import TokenBlock
from scmodelforge.eval.insilico import EncodedCells, Perturbation, perturb, perturbed_cells

CLS, EOS, NUM_GENES = 0, 11, 10  # genes have the tokens 1 to 10
IS_GENE = np.isin(np.arange(12), np.arange(1, 11))


def block(*cells: list[int], values=None, is_set: bool = False) -> TokenBlock:
    ids = np.concatenate([np.array(cell, dtype=np.int32) for cell in cells])
    offsets = np.concatenate([[0], np.cumsum([len(cell) for cell in cells])])
    values = np.ones(len(ids)) if values is None else np.concatenate(values)
    keys = np.arange(len(cells), dtype=np.uint64)
    bins = np.arange(len(ids), dtype=np.int32) if is_set else None
    return TokenBlock(offsets, ids, values.astype(np.float32), np.arange(len(cells)), keys, bins, is_set=is_set)


def cells_of(tokens: TokenBlock) -> list[list[int]]:
    return [each.tolist() for each in np.split(tokens.ids, tokens.offsets[1:-1])]


def changed(tokens: TokenBlock, kind: str, *genes: int, max_length: int = 8, **more):
    one = Perturbation(kind, tuple(genes), **more)
    before, after, rows = perturbed_cells(
        tokens, one, tokens=np.array(genes) + 1, is_gene=IS_GENE, max_length=max_length
    )
    return cells_of(before), cells_of(after), rows.tolist(), after


class TestRanks:
    def test_a_deleted_gene_is_gone_and_cells_without_it_are_left_out(self):
        before, after, rows, _ = changed(block([CLS, 3, 1, 2, EOS], [CLS, 5, EOS]), "delete", 0)
        assert (before, after, rows) == ([[CLS, 3, 1, 2, EOS]], [[CLS, 3, 2, EOS]], [0])

    def test_of_several_genes_all_must_be_there(self):
        before, after, rows, _ = changed(block([CLS, 3, 1, 2], [CLS, 1, 4]), "delete", 0, 1)
        assert (before, after, rows) == ([[CLS, 3, 1, 2]], [[CLS, 3]], [0])

    def test_an_overexpressed_gene_comes_first(self):
        before, after, rows, _ = changed(block([CLS, 3, 1, 2, EOS], [CLS, 5, EOS]), "overexpress", 1)
        assert before == [[CLS, 3, 1, 2, EOS], [CLS, 5, EOS]]
        assert after == [[CLS, 2, 3, 1, EOS], [CLS, 2, 5, EOS]]
        assert rows == [0, 1]

    def test_what_has_no_room_is_missing_before_too(self):
        before, after, _, _ = changed(block([CLS, 3, 4, 5, EOS]), "overexpress", 0, 1, max_length=5)
        assert (before, after) == ([[CLS, 3, EOS]], [[CLS, 1, 2, 3, EOS]])

    def test_a_gene_that_was_there_needs_no_more_room(self):
        before, after, _, _ = changed(block([CLS, 3, 4, 5]), "overexpress", 4, max_length=4)
        assert (before, after) == ([[CLS, 3, 4, 5]], [[CLS, 5, 3, 4]])

    def test_an_activated_gene_goes_up_by_a_quarter_of_the_others(self):
        _, after, rows, _ = changed(block([CLS, 3, 4, 5, 6, 2, EOS]), "activate", 1)
        assert (after, rows) == ([[CLS, 3, 4, 5, 2, 6, EOS]], [0])
        assert changed(block([CLS, 3, 2, 4, 5, 6]), "activate", 1)[1] == [[CLS, 2, 3, 4, 5, 6]]
        assert changed(block([CLS, 2, 3, 4, 5, 6]), "activate", 1)[1] == [[CLS, 2, 3, 4, 5, 6]]

    def test_a_silent_gene_is_activated_from_behind_the_last(self):
        assert changed(block([CLS, 3, 4, 5, 6, EOS]), "activate", 1)[1] == [[CLS, 3, 4, 5, 2, 6, EOS]]
        before, after, _, _ = changed(block([CLS, 3, 4, 5, 6]), "activate", 1, max_length=5)
        assert (before, after) == ([[CLS, 3, 4, 5]], [[CLS, 3, 4, 2, 5]])

    def test_activated_genes_keep_their_order(self):
        _, after, _, _ = changed(block([CLS, 3, 4, 5, 6, 2, 1]), "activate", 0, 1)
        assert after == [[CLS, 3, 4, 5, 2, 1, 6]]

    def test_without_special_tokens(self):
        before, after, _, _ = changed(block([3, 4]), "overexpress", 0)
        assert (before, after) == ([[3, 4]], [[1, 3, 4]])


class TestSets:
    CELL = ([CLS, 2, 4, 6], [np.array([0, 3.0, 7, 5])])

    def given(self) -> TokenBlock:
        return block(self.CELL[0], values=self.CELL[1], is_set=True)

    def test_a_deleted_gene_is_gone_or_zero(self):
        assert changed(self.given(), "delete", 3)[1] == [[CLS, 2, 6]]
        _, after, _, tokens = changed(self.given(), "delete", 3, keeps_zeros=True)
        assert after == [[CLS, 2, 4, 6]]
        assert (tokens.values.tolist(), tokens.bin_ids.tolist()) == ([0, 3, 0, 5], [0, 1, 0, 3])

    def test_an_overexpressed_gene_has_the_highest_value_in_its_place(self):
        _, after, _, tokens = changed(self.given(), "overexpress", 4)
        assert after == [[CLS, 2, 4, 5, 6]]
        assert (tokens.values.tolist(), tokens.bin_ids.tolist()) == ([0, 3, 7, 7, 5], [0, 1, 2, 3, 3])
        assert changed(self.given(), "overexpress", 1)[3].values.tolist() == [0, 7, 7, 5]

    def test_an_activated_gene_has_the_value_of_the_gene_it_passes(self):
        tokens = block([CLS, 2, 3, 4, 5, 6], values=[np.array([0, 9.0, 7, 5, 3, 2])], is_set=True)
        _, after, _, found = changed(tokens, "activate", 5)
        assert after == [[CLS, 2, 3, 4, 5, 6]]
        assert (found.values.tolist(), found.bin_ids.tolist()) == ([0, 9, 7, 5, 3, 3], [0, 1, 2, 3, 4, 5])
        _, after, _, found = changed(tokens, "activate", 6)
        assert after == [[CLS, 2, 3, 4, 5, 6, 7]]
        assert found.values.tolist() == [0, 9, 7, 5, 3, 2, 3]

    def test_the_gene_of_lowest_value_makes_room(self):
        before, after, _, _ = changed(self.given(), "overexpress", 4, max_length=4)
        assert (before, after) == ([[CLS, 4, 6]], [[CLS, 4, 5, 6]])


@dataclass
class Regulated:
    """A model in which gene 0 turns the state of gene 1 if both are there, and no other gene does anything."""

    blocks: list[TokenBlock]
    genes = tuple(f"g{number}" for number in range(NUM_GENES))
    gene_tokens = np.arange(1, 11)
    num_tokens = 12
    max_length = 8

    @property
    def num_cells(self) -> int:
        return sum(map(len, self.blocks))

    def limited(self, num_cells: int) -> Regulated:
        return self

    def cells(self):
        return self.blocks

    def encode(self, tokens: TokenBlock) -> EncodedCells:
        states = np.eye(12)[tokens.ids]
        cell_of = np.repeat(np.arange(len(tokens)), tokens.lengths)
        has_factor = np.bincount(cell_of[tokens.ids == 1], minlength=len(tokens))[cell_of] > 0
        states[(tokens.ids == 2) & has_factor] = np.eye(12)[CLS]
        cells = np.stack([states[cell_of == cell].sum(axis=0) for cell in range(len(tokens))])
        expression = np.stack([np.isin(self.gene_tokens, cell) for cell in cells_of(tokens)]).astype(float)
        return EncodedCells(cells, states, expression)

    def attention(self, tokens):
        raise NotImplementedError


class TestEffects:
    def model(self) -> Regulated:
        return Regulated([block([CLS, 1, 2, 3], [CLS, 2, 3, 4]), block([CLS, 5, 2, 1])])

    def test_a_deleted_factor_moves_its_target_and_nothing_else(self):
        (effect,) = perturb(self.model(), [Perturbation("delete", (0,))])
        assert effect.num_cells == 2
        assert effect.gene_shift[1] == pytest.approx(1)
        assert effect.gene_shift[[2, 4]].tolist() == [0, 0]
        assert np.isnan(effect.gene_shift[[0, 3, 5, 9]]).all()
        assert (effect.cell_shift > 0).all()
        assert effect.expression_shift[0] == -1
        assert (effect.expression_shift[1:] == 0).all()

    def test_a_deleted_target_moves_no_gene(self):
        (effect,) = perturb(self.model(), [Perturbation("delete", (1,))])
        assert effect.num_cells == 3
        assert np.nanmax(effect.gene_shift) == 0

    def test_an_overexpressed_factor_moves_the_target_where_it_was_not(self):
        (effect,) = perturb(self.model(), [Perturbation("overexpress", (0,))])
        assert effect.num_cells == 3
        assert effect.gene_shift[1] == pytest.approx(1 / 3)

    def test_a_state_comes_nearer_or_further(self):
        states = {"with": np.eye(12)[1], "without": np.eye(12)[2]}
        (effect,) = perturb(self.model(), [Perturbation("delete", (0,))], states=states)
        assert (effect.state_shift["with"] < 0).all()
        assert (effect.state_shift["without"] > 0).all()

    def test_what_pushes_genes_out_is_compared_with_cells_without_these(self):
        model = self.model()
        model.max_length = 4
        (effect,) = perturb(model, [Perturbation("overexpress", (6,))])
        assert np.nanmax(effect.gene_shift) == 0  # the cells before lack the pushed out gene as well

    def test_a_gene_of_no_cell_has_no_effect(self):
        (effect,) = perturb(self.model(), [Perturbation("delete", (9,))])
        assert (effect.num_cells, len(effect.cell_shift), effect.expression_shift) == (0, 0, None)
        assert np.isnan(effect.gene_shift).all()

    def test_blocks_do_not_matter(self):
        one = Regulated([block([CLS, 1, 2, 3]), block([CLS, 2, 3, 4]), block([CLS, 5, 2, 1])])
        first, second = (perturb(model, [Perturbation("delete", (0,))])[0] for model in (self.model(), one))
        np.testing.assert_allclose(first.gene_shift, second.gene_shift)
        np.testing.assert_allclose(first.cell_shift, second.cell_shift)
