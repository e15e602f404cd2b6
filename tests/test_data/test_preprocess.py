from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config.schema import PreprocessingConfig
from scmodelforge.data.preprocess import Preprocessor
from scmodelforge.data.size_factors import fit_size_factors
from scmodelforge.data.types import CellBlock, Panel, RowRange

from .sources import MemorySource

PANEL = Panel(np.array([f"g{i}" for i in range(5)], dtype=object), "cells.h5ad")


def make_block(rows: list[list[int]]) -> CellBlock:
    dense = np.array(rows, dtype=np.float32).reshape(-1, len(PANEL.gene_ids))
    cells, genes = np.nonzero(dense)
    indptr = np.concatenate([[0], np.cumsum(np.count_nonzero(dense, axis=1))]).astype(np.int64)
    return CellBlock(dense[cells, genes], genes, indptr, PANEL, np.arange(len(dense)))


def preprocessor(**settings) -> Preprocessor:
    return Preprocessor(PreprocessingConfig(**settings))


cells = st.lists(st.lists(st.integers(0, 5000), min_size=5, max_size=5), max_size=6)


class TestLibrarySize:
    @given(cells, st.floats(1.0, 1e6))
    @example([[0, 1, 0, 0, 0], [0, 0, 0, 0, 0]], 50.0)
    def test_every_cell_sums_to_the_target(self, rows, target):
        block = make_block(rows)
        done = preprocessor(normalize="library_size", target_sum=target)(block)
        filled = block.totals() > 0
        assert done.totals()[filled] == pytest.approx(target, rel=1e-5)
        assert (done.totals()[~filled] == 0).all()

    @given(cells)
    def test_ratios_within_a_cell_stay(self, rows):
        block = make_block(rows)
        done = preprocessor(normalize="library_size")(block)
        factors = np.repeat(1e4 / np.maximum(block.totals(), 1), np.diff(block.indptr))
        assert done.data == pytest.approx(block.data * factors, rel=1e-5)

    def test_the_given_block_stays_as_it_was(self):
        block = make_block([[1, 2, 0, 0, 1]])
        before = block.data.copy()
        done = preprocessor(normalize="library_size", log1p=True)(block)
        assert (block.data == before).all()
        assert done.data.dtype == np.float32
        assert done.panel is block.panel
        assert done.positions is block.positions

    def test_one_cell_does_not_change_another(self):
        process = preprocessor(normalize="library_size", log1p=True)
        both = process(make_block([[1, 2, 3, 0, 0], [9, 0, 0, 0, 7]]))
        alone = process(make_block([[9, 0, 0, 0, 7]]))
        assert both.data[3:].tolist() == alone.data.tolist()


class TestLog:
    def test_log_follows_normalisation(self):
        done = preprocessor(normalize="library_size", target_sum=10, log1p=True)(make_block([[1, 3, 0, 0, 0]]))
        assert done.data == pytest.approx(np.log1p([2.5, 7.5]))

    def test_log_alone_is_of_the_counts(self):
        done = preprocessor(log1p=True)(make_block([[1, 3, 0, 0, 0]]))
        assert done.data == pytest.approx(np.log1p([1, 3]))

    def test_nothing_asked_leaves_the_block_alone(self):
        block = make_block([[1, 3, 0, 0, 0]])
        assert preprocessor()(block) is block


class TestScran:
    def test_each_cell_is_divided_by_its_factor(self):
        source = MemorySource([30, 25])
        process = preprocessor(normalize="scran").fitted(source)
        block = source.read(RowRange(1, 3, 20))
        done = process(block)
        factors = fit_size_factors(source)[block.positions]
        assert process.factors.dtype == np.float32
        assert done.data == pytest.approx(block.data / np.repeat(factors, np.diff(block.indptr)), rel=1e-6)
        assert done.data.dtype == np.float32

    def test_cells_may_come_in_any_order(self):
        source = MemorySource([30, 25])
        process = preprocessor(normalize="scran", log1p=True).fitted(source)
        block = source.read(RowRange(0, 0, 30))
        rows = np.array([7, 2, 29])
        assert process(block.select(rows)).data.tolist() == process(block).select(rows).data.tolist()

    def test_without_factors_it_says_where_they_come_from(self):
        with pytest.raises(ConfigError, match=r"normalize is 'scran', which needs .* Preprocessor.fitted\(source\)"):
            preprocessor(normalize="scran")(make_block([[1, 0, 0, 0, 0]]))

    def test_other_settings_need_no_pass_over_the_cells(self):
        source = MemorySource([30])
        process = preprocessor(normalize="library_size", log1p=True)
        assert process.fitted(source) is process
        assert not source.reads

    def test_factors_of_some_cells_are_not_saved_for_others(self):
        process = preprocessor(normalize="scran").fitted(MemorySource([30]))
        assert Preprocessor.from_dict(json.loads(json.dumps(process.to_dict()))).factors is None


class TestScale:
    @pytest.mark.parametrize(
        ("settings", "scale"),
        [
            ({}, "counts"),
            ({"normalize": "library_size"}, "library_size"),
            ({"normalize": "library_size", "log1p": True}, "log1p"),
            ({"log1p": True}, "log1p"),
            ({"normalize": "scran"}, "scran"),
            ({"normalize": "scran", "log1p": True}, "log1p"),
            ({"hvg_selection": 5}, "counts"),
        ],
    )
    def test_names_what_counts_become(self, settings, scale):
        assert preprocessor(**settings).scale == scale


class TestCheck:
    @pytest.mark.parametrize("kind", ["log1p", "scaled"])
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"normalize": "library_size"}, "normalize is library_size, .* set data.preprocessing.normalize to null"),
            ({"log1p": True}, "log1p is true, .* set data.preprocessing.log1p to false"),
            ({"normalize": "scran"}, "normalize is scran, .* set data.preprocessing.normalize to null"),
            ({"hvg_selection": 50}, "hvg_selection is 50, .* set data.preprocessing.hvg_selection to null"),
            ({"min_counts_per_cell": 9.0}, "min_counts_per_cell is 9.0, .* set .*min_counts_per_cell to null"),
            ({"max_counts_per_cell": 9.0}, "max_counts_per_cell is 9.0, .* set .*max_counts_per_cell to null"),
        ],
    )
    def test_refuses_what_needs_counts_on_other_values(self, kind, settings, message):
        with pytest.raises(ConfigError, match=f"data.preprocessing.{message}") as caught:
            preprocessor(**settings).check(kind, name="lung.h5ad")
        assert f"the values of lung.h5ad are {kind}; name the layer that holds counts in data.layer" in str(
            caught.value
        )

    @pytest.mark.parametrize("setting", ["min_genes_per_cell", "max_genes_per_cell", "min_cells_per_gene"])
    def test_numbers_of_genes_and_cells_need_values_whose_zeros_are_zeros(self, setting):
        preprocessor(**{setting: 3}).check("log1p")
        with pytest.raises(ConfigError, match=f"data.preprocessing.{setting} is 3, which needs counts, .* are scaled"):
            preprocessor(**{setting: 3}).check("scaled")

    @pytest.mark.parametrize("kind", ["counts", "normalized"])
    def test_takes_counts(self, kind):
        preprocessor(normalize="library_size", log1p=True, hvg_selection=5).check(kind)

    @pytest.mark.parametrize("kind", ["log1p", "scaled"])
    def test_takes_anything_when_nothing_is_done_to_it(self, kind):
        preprocessor().check(kind)


class TestFiles:
    def test_what_is_written_is_read(self):
        process = preprocessor(normalize="library_size", target_sum=5000.0, log1p=True, hvg_selection=7)
        assert Preprocessor.from_dict(process.to_dict()).config == process.config

    def test_a_damaged_file_is_refused(self):
        with pytest.raises(DataError, match="preprocessing settings are damaged: normalise: "):
            Preprocessor.from_dict({"normalise": "library_size"})
