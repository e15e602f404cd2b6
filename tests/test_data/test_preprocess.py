from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config.schema import PreprocessingConfig
from scmodelforge.data.preprocess import Preprocessor
from scmodelforge.data.types import CellBlock, Panel

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


class TestScale:
    @pytest.mark.parametrize(
        ("settings", "scale"),
        [
            ({}, "counts"),
            ({"normalize": "library_size"}, "library_size"),
            ({"normalize": "library_size", "log1p": True}, "log1p"),
            ({"log1p": True}, "log1p"),
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
            ({"hvg_selection": 50}, "hvg_selection is 50, .* set data.preprocessing.hvg_selection to null"),
        ],
    )
    def test_refuses_what_needs_counts_on_other_values(self, kind, settings, message):
        with pytest.raises(ConfigError, match=f"data.preprocessing.{message}") as caught:
            preprocessor(**settings).check(kind, name="lung.h5ad")
        assert f"the values of lung.h5ad are {kind}; name the layer that holds counts in data.layer" in str(
            caught.value
        )

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
