from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge._errors import ConfigError
from scmodelforge.data.draws import cell_keys
from scmodelforge.data.types import TokenBlock
from scmodelforge.objectives.zeros import draw_zero_genes

from .tokens import VOCAB, genes_of, make_tokens, with_measured

PANELS = (np.arange(4, 204), np.arange(10, 60), np.zeros(0, dtype=np.int32), np.arange(150, 204, 2))


def draw(tokens: TokenBlock, numbers: list[int]) -> list[list[int]]:
    """Return the genes drawn for each cell."""
    cells, genes = draw_zero_genes(tokens, np.array(numbers, dtype=np.int64), vocab_size=len(VOCAB))
    assert genes.dtype == np.int32
    assert (np.diff(cells) >= 0).all()
    return [genes[cells == cell].tolist() for cell in range(len(tokens))]


def free_genes(tokens: TokenBlock, cell: int) -> set[int]:
    """Return what a cell was measured for, less what it shows and what was cut."""
    known = tokens.measured
    panel = known.panels[known.panel_index[cell]]
    cut = known.cut_ids[known.cut_offsets[cell] : known.cut_offsets[cell + 1]]
    return set(panel.tolist()) - set(genes_of(tokens, cell)) - set(cut.tolist())


@st.composite
def crowds(draw):
    """Draw cells of several files, with and without cut genes, and how many zeros to draw for each."""
    lengths = draw(st.lists(st.integers(0, 150), min_size=1, max_size=6))
    tokens = make_tokens(lengths, seed=draw(st.integers(0, 99)), cls=draw(st.booleans()))
    files = draw(st.lists(st.integers(0, 3), min_size=len(lengths), max_size=len(lengths)))
    cut = [draw(st.lists(st.integers(4, 203), max_size=40, unique=True)) for _ in lengths]
    numbers = draw(st.lists(st.integers(0, 210), min_size=len(lengths), max_size=len(lengths)))
    return with_measured(tokens, panels=PANELS, panel_index=files, cut=cut), numbers


class TestWhatIsDrawn:
    @given(crowds())
    def test_is_free_and_distinct_and_as_many_as_asked_for_or_all(self, drawn):
        tokens, numbers = drawn
        for cell, genes in enumerate(draw(tokens, numbers)):
            free = free_genes(tokens, cell)
            assert len(genes) == len(set(genes)) == min(numbers[cell], len(free))
            assert set(genes) <= free

    @given(crowds(), st.data())
    def test_depends_on_the_cell_alone(self, drawn, data):
        tokens, numbers = drawn
        whole = draw(tokens, numbers)
        rows = data.draw(st.lists(st.integers(0, len(tokens) - 1), max_size=4))
        part = draw(tokens.select(np.array(rows, dtype=int)), [numbers[row] for row in rows])
        assert part == [whole[row] for row in rows]

    def test_does_not_depend_on_how_many_others_are_drawn_beside_it(self):
        for length in (50, 190):  # of 190, few of the genes that are tried are free
            tokens = with_measured(make_tokens([length, 50]))
            alone = draw(tokens, [5, 0])[0]
            assert draw(tokens, [5, 20])[0] == draw(tokens, [5, 70])[0] == draw(tokens, [5, 140])[0] == alone

    def test_more_of_a_cell_are_those_and_others(self):
        tokens = with_measured(make_tokens([50]))
        few, many = draw(tokens, [20])[0], draw(tokens, [60])[0]
        assert set(few) < set(many)

    def test_does_not_depend_on_the_order_of_what_was_cut_and_shown(self):
        tokens = make_tokens([60], cls=False)
        turned = replace(tokens, ids=tokens.ids[::-1].copy())
        cut = [[gene for gene in range(4, 204) if gene not in genes_of(tokens, 0)][:30]]
        for number in (9, 100):
            plain = draw(with_measured(tokens, cut=cut), [number])
            assert draw(with_measured(turned, cut=[cut[0][::-1]]), [number]) == plain

    def test_changes_with_the_key(self):
        tokens = with_measured(make_tokens([50]))
        for number in (20, 140):
            drawn = [
                draw(replace(tokens, keys=cell_keys(0, tokens.cell_index, data_pass=number_of_pass)), [number])
                for number_of_pass in (0, 0, 1)
            ]
            assert drawn[0] == drawn[1] != drawn[2]

    def test_cells_differ(self):
        tokens = with_measured(make_tokens([0, 0, 0, 0]))
        first, second, third, fourth = draw(tokens, [30, 30, 150, 150])
        assert first != second
        assert third != fourth


class TestFairness:
    @pytest.mark.parametrize("number", [12, 25], ids=["few", "most"])  # of 40 free genes: tried and put in order
    def test_all_free_genes_are_drawn_equally_often(self, number):
        cells = 600
        tokens = make_tokens([60])
        shown = genes_of(tokens, 0)
        cut = [gene for gene in range(4, 204) if gene not in shown][:100]
        crowd = TokenBlock.concatenate([with_measured(tokens, cut=[cut])] * cells)
        crowd.keys = cell_keys(3, np.arange(cells))
        free = sorted(free_genes(crowd, 0))
        assert len(free) == 40
        counts = np.bincount([gene for genes in draw(crowd, [number] * cells) for gene in genes], minlength=204)[free]
        share = number / 40
        assert counts.sum() == number * cells
        assert ((counts - cells * share) ** 2).sum() / (cells * share * (1 - share)) < 40 + 5 * np.sqrt(2 * 40)

    @pytest.mark.parametrize("number", [8, 25])
    def test_what_is_drawn_of_one_gene_says_nothing_of_another(self, number):
        cells = 500
        crowd = with_measured(make_tokens([0] * cells), panels=[np.arange(4, 44)])
        is_drawn = np.zeros((cells, 204))
        for cell, genes in enumerate(draw(crowd, [number] * cells)):
            is_drawn[cell, genes] = 1
        correlations = np.corrcoef(is_drawn[:, 4:44].T)[np.triu_indices(40, 1)]
        # Without replacement, the correlation of two is -1 / 39.
        assert np.abs(correlations + 1 / 39).max() < 5 / np.sqrt(cells)


class TestSmall:
    def test_nothing_asked_for_is_nothing_drawn(self):
        assert draw(with_measured(make_tokens([3, 0])), [0, 0]) == [[], []]

    def test_no_cells(self):
        tokens = with_measured(make_tokens([3])).select(np.zeros(0, dtype=np.int64))
        assert draw(tokens, []) == []

    def test_a_cell_that_expresses_all_it_was_measured_for_has_none(self):
        assert draw(with_measured(make_tokens([200])), [9]) == [[]]
        tokens = make_tokens([20])
        assert draw(with_measured(tokens, panels=[np.sort(genes_of(tokens, 0))]), [9]) == [[]]

    def test_a_file_without_known_genes_has_none(self):
        assert draw(with_measured(make_tokens([0, 0]), panels=PANELS, panel_index=[2, 1]), [5, 5])[0] == []

    def test_tokens_that_do_not_say_what_was_measured_are_refused(self):
        words = r"does not say which genes were measured .*; set model\.zero_target_ratio to 0, or let the encoder give"
        with pytest.raises(ConfigError, match=words):
            draw(make_tokens([3]), [1])
