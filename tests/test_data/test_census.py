"""Cells of a SOMA experiment in the layout of the CELLxGENE Census."""

from __future__ import annotations

import http.server
import json
import logging
import pickle
import shutil
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from scmodelforge._errors import ConfigError, DataError
from scmodelforge._registry import SOURCES
from scmodelforge.data.gather import gather_by_ranges
from scmodelforge.data.sources.census import CensusDataConfig, CensusSource
from scmodelforge.data.types import CellBlock, RowRange

from .soma_stores import BUILD, WITHOUT_MERGE, census_cells, delete_cells, steady, write_census, write_experiment

LOGGER = "scmodelforge.data.sources"
CELLS = census_cells()


@pytest.fixture(scope="module")
def census(tmp_path_factory) -> Path:
    return write_census(tmp_path_factory.mktemp("soma") / "census", homo_sapiens=CELLS, mus_musculus=CELLS[:5].copy())


@pytest.fixture(scope="module")
def source(census) -> CensusSource:
    """Return the cells that are neither liver nor shared between data sets."""
    return open_census(census, filters={"tissue": ["lung", "heart"], "is_primary_data": True})


WANTED = np.flatnonzero(CELLS.obs["tissue"].isin(["lung", "heart"]) & CELLS.obs["is_primary_data"])


def open_census(uri: Path | None, **changes) -> CensusSource:
    where = {} if uri is None else {"uri": str(uri)}
    return CensusSource(CensusDataConfig(source="cellxgene_census", **where, **changes))


def refused(uri: Path | None, error: type[Exception] = DataError, **changes) -> str:
    with pytest.raises(error) as caught:
        open_census(uri, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def whole(source: CensusSource) -> CellBlock:
    return source.read(RowRange(0, 0, source.file_sizes[0]))


def matrix(block: CellBlock) -> sp.csr_matrix:
    return sp.csr_matrix((block.data, block.indices, block.indptr), shape=(len(block), len(block.panel.gene_ids)))


def dense(block: CellBlock) -> np.ndarray:
    return matrix(block).toarray()


COUNTS = CELLS.X.toarray()


class TestRead:
    def test_equals_what_the_census_package_reads_for_the_same_filter(self, census, source):
        import cellxgene_census

        rule = "tissue in ['lung', 'heart'] and is_primary_data == True"
        opened = cellxgene_census.open_soma(uri=str(census), tiledb_config=dict(WITHOUT_MERGE))
        with warnings.catch_warnings(), opened:
            warnings.simplefilter("ignore")
            theirs = cellxgene_census.get_anndata(opened, "Homo sapiens", obs_value_filter=rule)
        theirs.X.sort_indices()
        ours = whole(source)
        np.testing.assert_array_equal(ours.data, theirs.X.data)
        np.testing.assert_array_equal(ours.indices, theirs.X.indices)
        np.testing.assert_array_equal(ours.indptr, theirs.X.indptr)
        assert theirs.X.dtype == np.float32
        assert source.panels[0].gene_ids.tolist() == theirs.var["feature_id"].tolist()

    def test_any_range_equals_rows_of_the_matrix(self, source):
        @settings(max_examples=15, deadline=None)
        @given(st.tuples(st.integers(0, len(WANTED)), st.integers(0, len(WANTED))).map(sorted))
        def check(bounds):
            block = source.read(RowRange(0, *bounds))
            np.testing.assert_array_equal(dense(block), COUNTS[WANTED[slice(*bounds)]])
            assert block.positions.tolist() == list(range(*bounds))
            assert (block.data.dtype, block.indices.dtype, block.indptr.dtype) == (np.float32, np.int32, np.int64)
            assert all((np.diff(row.indices) > 0).all() for row in matrix(block))

        check()

    def test_any_rows_in_any_order_equal_reads_of_ranges(self, source):
        @settings(max_examples=15, deadline=None)
        @given(st.lists(st.integers(0, len(WANTED) - 1), min_size=1, unique=True))
        def check(rows):
            wanted = np.array(rows, dtype=np.int64)
            block, expected = source.read_rows(0, wanted), gather_by_ranges(source, 0, wanted)
            np.testing.assert_array_equal(dense(block), COUNTS[WANTED[rows]])
            for name in ("data", "indices", "indptr", "positions"):
                np.testing.assert_array_equal(getattr(block, name), getattr(expected, name))

        check()

    def test_many_requests_give_what_one_gives(self, source, monkeypatch):
        expected = dense(whole(source))
        monkeypatch.setattr("scmodelforge.data.sources._soma_matrix._ROWS_PER_READ", 7)
        np.testing.assert_array_equal(dense(whole(source)), expected)

    def test_a_small_buffer_gives_the_same(self, census, source, monkeypatch):
        bounds = {"soma.init_buffer_bytes": "512", "sm.mem.total_budget": "1000000"}
        monkeypatch.setattr("scmodelforge.data.sources._soma_store._BOUNDS", bounds)
        small = open_census(census, filters={"tissue": ["lung", "heart"], "is_primary_data": True})
        np.testing.assert_array_equal(dense(whole(small)), dense(whole(source)))
        np.testing.assert_array_equal(small.joinids, source.joinids)

    def test_joinids_with_gaps_in_cells_and_genes(self, tmp_path):
        path = write_experiment(tmp_path / "soma", CELLS)
        delete_cells(path, "score == 1")
        import tiledbsoma

        with tiledbsoma.Experiment.open(str(path), "d", context=steady()) as experiment:
            experiment.var_axis_delete("RNA", value_filter="symbol in ['G3', 'G39']")
        source = open_census(path)
        kept, genes = np.flatnonzero(CELLS.obs["score"] != 1), np.delete(np.arange(40), [3, 39])
        np.testing.assert_array_equal(dense(whole(source)), COUNTS[kept][:, genes])
        assert source.joinids.tolist() == kept.tolist()
        assert source.panels[0].gene_ids.tolist() == CELLS.var_names[genes].tolist()
        assert list(source.obs_names()) == CELLS.obs_names[kept].tolist()

    def test_a_table_that_comes_in_another_order(self, tmp_path):
        source = open_census(write_experiment(tmp_path / "soma", CELLS, num_parts=4))
        np.testing.assert_array_equal(dense(whole(source)), COUNTS)
        codes, found = source.obs("donor_id")
        assert found == ["d0", "d1", "d2", "d3", "d4"]
        assert [found[code] for code in codes] == CELLS.obs["donor_id"].tolist()
        assert list(source.obs_names()) == CELLS.obs_names.tolist()

    def test_cells_without_a_value(self, tmp_path):
        adata = CELLS[:6].copy()
        adata.X = sp.csr_matrix(COUNTS[:6] * np.array([[1], [0], [0], [1], [0], [0]], dtype=np.float32))
        source = open_census(write_experiment(tmp_path / "soma", adata))
        np.testing.assert_array_equal(dense(whole(source)), adata.X.toarray())
        assert source.read(RowRange(0, 1, 3)).indptr.tolist() == [0, 0, 0]

    def test_rows_that_are_not_there(self, source):
        for rows in (RowRange(0, 0, len(WANTED) + 1), RowRange(0, -1, 2), RowRange(1, 0, 1)):
            with pytest.raises(IndexError, match=r"census 2031-01-30 homo_sapiens: \d+ cells"):
                source.read(rows)

    def test_counts_that_float32_does_not_hold(self, tmp_path):
        adata = CELLS[:4].copy()
        adata.X = sp.csr_matrix(([1, 1 << 25, 3], ([0, 1, 2], [0, 1, 2])), shape=adata.shape, dtype=np.int64)
        source = open_census(write_experiment(tmp_path / "soma", adata))
        with pytest.raises(DataError, match="layer 'raw' holds 33,554,432; whole numbers beyond 16,777,216 are not ex"):
            whole(source)


class TestSelection:
    @pytest.mark.parametrize(
        ("filters", "rule"),
        [
            ({}, lambda obs: obs["score"] > -9),
            ({"tissue": "skin"}, lambda obs: obs["tissue"] == "skin"),
            ({"cell_type": 'it\'s "B"'}, lambda obs: obs["cell_type"] == 'it\'s "B"'),
            ({"cell_type": ['it\'s "B"', "T cell"]}, lambda obs: obs["cell_type"].notna()),
            ({"donor_id": ["d1", "d3"]}, lambda obs: obs["donor_id"].isin(["d1", "d3"])),
            ({"plain text": "x"}, lambda obs: obs["plain text"] == "x"),
            ({"plain text": ["x", "y"], "score": 2}, lambda obs: obs["score"] == 2),
            ({"is_primary_data": False}, lambda obs: ~obs["is_primary_data"]),
            ({"is_primary_data": [True, False]}, lambda obs: obs["score"] > -9),
            ({"score": -1}, lambda obs: obs["score"] == -1),
            ({"score": [-2, 0, 1]}, lambda obs: obs["score"].isin([-2, 0, 1])),
            ({"age": [1, 2.0]}, lambda obs: obs["age"].isin([1, 2])),
        ],
    )
    def test_filters_select_what_they_say(self, census, filters, rule):
        assert open_census(census, filters=filters).joinids.tolist() == np.flatnonzero(rule(CELLS.obs)).tolist()

    def test_all_filters_and_the_expression_must_be_met(self, census):
        source = open_census(
            census,
            filters={"tissue": ["lung", "skin"], "is_primary_data": True},
            value_filter="score < 0 or purity > 0.5  # good",
        )
        obs = CELLS.obs
        wanted = obs["tissue"].isin(["lung", "skin"]) & obs["is_primary_data"]
        wanted &= (obs["score"] < 0) | (obs["purity"] > 0.5)
        assert source.joinids.tolist() == np.flatnonzero(wanted).tolist()

    def test_every_text_is_a_value_and_never_a_part_of_the_expression(self, tmp_path):
        texts = ["a' or 'b' == 'b", "\\", "'\"", "tab\tline\nend", "ü", "attr('x')"]
        adata = CELLS[: len(texts)].copy()
        adata.obs["note"] = texts
        path = write_experiment(tmp_path / "soma", adata)
        for cell, text in enumerate(texts):
            assert open_census(path, filters={"note": text}).joinids.tolist() == [cell]
        assert open_census(path, filters={"note": texts[1:4]}).joinids.tolist() == [1, 2, 3]

    @pytest.mark.parametrize("organism", ["mus_musculus", "Mus musculus"])
    def test_organisms_of_a_census(self, census, organism):
        source = open_census(census, organism=organism)
        assert source.file_sizes == [5]
        assert source.panels[0].name == f"census {BUILD} mus_musculus"

    def test_a_listed_value_that_no_selected_cell_has_is_warned_of(self, census, caplog):
        rule = {"filters": {"donor_id": ["d1", "d9"], "is_primary_data": True}, "value_filter": "tissue != 'skin'"}
        with caplog.at_level(logging.WARNING, logger=LOGGER):
            open_census(census, **rule)
        assert caplog.messages == [
            f"census {BUILD} homo_sapiens: no selected cell has donor_id d9 (data.filters.donor_id)"
        ]

    @pytest.mark.parametrize(
        "rule", [{"filters": {"is_primary_data": False}}, {"value_filter": "is_primary_data==True"}]
    )
    def test_cells_that_may_be_read_twice_are_warned_of_unless_a_filter_rules(self, census, rule, caplog):
        with caplog.at_level(logging.WARNING, logger=LOGGER):
            open_census(census, **rule)
            assert caplog.messages == []
            open_census(census)
        assert "has the column 'is_primary_data', which no filter uses" in caplog.text
        assert "add is_primary_data: true to data.filters" in caplog.text


class TestTables:
    @pytest.mark.parametrize(
        ("column", "categories"),
        [
            ("tissue", ["heart", "lung"]),
            ("cell_type", ["T cell", 'it\'s "B"']),
            ("is_primary_data", ["True"]),
            ("score", ["-2", "-1", "0", "1", "2"]),
            ("age", ["1", "2", "3"]),
        ],
    )
    def test_columns_are_codes_with_the_categories_that_occur(self, source, column, categories):
        codes, found = source.obs(column)
        assert found == categories
        assert codes.dtype == np.int32
        values = CELLS.obs[column].iloc[WANTED]
        expected = [None if value != value or value is None else value for value in values]
        texts = [None if value is None else str(int(value) if column == "age" else value) for value in expected]
        assert [None if code < 0 else found[code] for code in codes] == texts

    def test_plain_text_comes_in_the_order_it_appears_in(self, source):
        codes, found = source.obs("donor_id")
        values = CELLS.obs["donor_id"].iloc[WANTED].tolist()
        assert found == list(dict.fromkeys(values))
        assert [found[code] for code in codes] == values

    def test_fractions_are_as_short_as_their_type_allows(self, source):
        codes, found = source.obs("purity")
        values = CELLS.obs["purity"].to_numpy()[WANTED]
        assert [found[code] for code in codes] == [str(value) for value in values]

    def test_names_are_barcodes_or_else_joinids(self, source, tmp_path):
        assert list(source.obs_names()) == CELLS.obs_names[WANTED].tolist()
        path = write_experiment(tmp_path / "soma", CELLS[:4].copy(), obs_id_name="number")
        assert list(open_census(path).obs_names()) == ["0", "1", "2", "3"]

    def test_names_are_read_in_parts(self, source, monkeypatch):
        monkeypatch.setattr("scmodelforge.data.sources._soma_frame._NAMES_AT_ONCE", 4)
        assert list(source.obs_names()) == CELLS.obs_names[WANTED].tolist()

    def test_all_columns_but_the_index_are_listed(self, source):
        assert source.obs_columns == ["obs_id", *CELLS.obs.columns]

    def test_gene_ids_come_from_the_column_asked_for(self, census, tmp_path):
        named = open_census(census, gene_id_column="symbol")
        assert named.panels[0].gene_ids.tolist() == CELLS.var["symbol"].tolist()
        adata = CELLS[:4].copy()
        del adata.var["feature_id"]
        plain = open_census(write_experiment(tmp_path / "soma", adata))
        assert plain.panels[0].gene_ids.tolist() == CELLS.var_names.tolist()
        assert "ids from var column 'var_id'" in plain.describe()[0]


class TestFacts:
    def test_the_description_says_what_is_read(self, source):
        assert source.kind(0).kind == "counts"
        assert source.describe() == [
            f"census {BUILD} homo_sapiens: {len(WANTED)} of 90 cells with (tissue in ['lung', 'heart']) and "
            "(is_primary_data == True), 40 genes (ids from var column 'feature_id'); RNA/raw is read (counts: whole "
            f"numbers up to {int(COUNTS[WANTED].max())})"
        ]

    def test_a_single_experiment_says_that_no_organism_is_chosen(self, census):
        source = open_census(census / "census_data" / "homo_sapiens")
        assert source.describe()[1] == (
            "soma homo_sapiens is a single experiment, not a Census: data.organism is not used"
        )
        np.testing.assert_array_equal(dense(whole(source)), COUNTS)

    def test_the_fingerprint_stays_for_a_copy_and_changes_with_the_selection(self, census, source, tmp_path):
        (entry,) = source.fingerprint()
        assert {name: entry[name] for name in ("name", "cells", "genes", "nnz")} == {
            "name": f"census {BUILD} homo_sapiens", "cells": len(WANTED), "genes": 40, "nnz": None,
        }  # fmt: skip
        assert entry["sha256_of"] == f"version, filter, joinids, genes and the values of {len(WANTED)} cells"
        rule = {"filters": {"tissue": ["lung", "heart"], "is_primary_data": True}}
        copy = write_census(tmp_path / "copy", homo_sapiens=CELLS)
        assert open_census(copy, **rule).fingerprint() == source.fingerprint()
        changed = CELLS.copy()
        changed.X = sp.csr_matrix(COUNTS + 1)
        others = [
            open_census(census, filters={"tissue": ["lung", "skin"], "is_primary_data": True}),
            open_census(census, **rule, value_filter="score > -9"),
            open_census(census, **rule, gene_id_column="symbol"),
            open_census(write_census(tmp_path / "changed", homo_sapiens=changed), **rule),
        ]
        assert len({entry["sha256"], *(other.fingerprint()[0]["sha256"] for other in others)}) == 5

    def test_it_is_a_registered_source_with_settings_of_its_own(self):
        assert SOURCES.get("cellxgene_census") is CensusSource
        assert CensusSource.config_class is CensusDataConfig


class TestSharing:
    def test_threads_read_beside_each_other(self, source):
        rows = [np.random.default_rng(seed).permutation(len(WANTED))[:9] for seed in range(24)]
        with ThreadPoolExecutor(6) as pool:
            blocks = list(pool.map(lambda part: source.read_rows(0, part), rows))
        for part, block in zip(rows, blocks, strict=True):
            np.testing.assert_array_equal(dense(block), COUNTS[WANTED[part]])

    def test_closing_does_not_stop_threads_that_read(self, census):
        source = open_census(census)
        with source._pool.use() as store:
            source.close()
            assert store.obs.count == 90
        np.testing.assert_array_equal(dense(whole(source)), COUNTS)
        source.close()
        source.close()

    @pytest.mark.parametrize("place", ["", "census_data/homo_sapiens"])
    def test_the_merge_that_may_crash_is_left_out_of_every_read(self, census, place):
        source = open_census(census / place)
        with source._pool.use() as store:
            for opened in (store.obs, store.var, store.x):
                assert WITHOUT_MERGE.items() <= opened.context.tiledb_config.items()

    def test_a_pickled_source_reads_on(self, source):
        copy = pickle.loads(pickle.dumps(source))
        np.testing.assert_array_equal(dense(whole(copy)), COUNTS[WANTED])
        assert copy.fingerprint() == source.fingerprint()

    @pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
    def test_a_forked_process_reads_on(self, source):
        source.read(RowRange(0, 0, 1))
        fork = get_context("fork")
        receiver, sender = fork.Pipe(duplex=False)
        process = fork.Process(target=lambda: sender.send(dense(whole(source))))
        process.start()
        assert receiver.poll(20)
        received = receiver.recv()
        process.join()
        np.testing.assert_array_equal(received, COUNTS[WANTED])


class TestErrors:
    NAME = f"census {BUILD} homo_sapiens"

    @pytest.mark.parametrize("module", ["tiledbsoma", "cellxgene_census"])
    def test_a_missing_package(self, module, monkeypatch):
        monkeypatch.setitem(sys.modules, module, None)
        message = f"needs the package '{module}'. Install it with: pip install 'scmodelforge[census]'"
        assert refused(None, ImportError).endswith(message)

    def test_a_place_without_a_store(self, tmp_path):
        assert refused(tmp_path / "nothing") == (
            f"data.uri: there is no SOMA store at '{tmp_path / 'nothing'}'; the root of a Census or a SOMA experiment "
            "is needed. Correct the path, or check the account's rights."
        )

    def test_a_store_of_another_kind(self, census):
        assert "is a SOMACollection without 'census_data'; the root of a Census" in refused(census / "census_info")
        obs = census / "census_data" / "homo_sapiens" / "obs"
        assert "is a SOMADataFrame without 'census_data'" in refused(obs)

    def test_names_that_are_not_there(self, census):
        assert refused(census, organism="homo sapient") == (
            f"census {BUILD} has no organism 'homo_sapient' (data.organism). Did you mean 'homo_sapiens'? "
            "There are: homo_sapiens, mus_musculus."
        )
        assert refused(census, measurement="DNA") == (
            f"{self.NAME} has no measurement 'DNA' (data.measurement). Did you mean 'RNA'? There are: RNA."
        )
        assert refused(census, layer="row") == (
            f"{self.NAME}: measurement 'RNA' has no layer 'row' (data.layer). Did you mean 'raw'? There are: raw."
        )
        assert refused(census, gene_id_column="Symbol").startswith(
            f"{self.NAME}: var has no column 'Symbol' (data.gene_id_column). Did you mean 'symbol'? There are: var_id, "
        )

    def test_columns_that_are_not_there(self, census, source):
        assert refused(census, filters={"tisue": "lung"}).startswith(
            f"{self.NAME}: obs has no column 'tisue' (data.filters). Did you mean 'tissue'? There are: obs_id, tissue,"
        )
        for rule in ("scores > 1", "score > 1 and not (0 < scores < 2)", "attr('scores') == 1"):
            expected = "obs has no column 'scores' (data.value_filter). Did you mean 'score'? There are"
            assert expected in refused(census, value_filter=rule)
        assert refused(census, value_filter="tissue == lung").endswith("Text needs quotes.")
        with pytest.raises(DataError, match=r"homo_sapiens: obs has no column 'Tissue'. Did you mean 'tissue'\?"):
            source.obs("Tissue")

    def test_a_value_that_the_column_does_not_list(self, census):
        assert refused(census, filters={"tissue": ["lung", "hart"]}) == (
            f"{self.NAME}: no cell has tissue 'hart' (data.filters.tissue). Did you mean 'heart'? There are: heart, "
            "liver, lung, skin."
        )

    @pytest.mark.parametrize(
        ("filters", "message"),
        [
            ({"tissue": 3}, "tissue is 3, but the column of NAME holds text; put it in quotes: '3'."),
            (
                {"donor_id": ["d1", True]},
                "donor_id is true, but the column of NAME holds text; put it in quotes: 'true'.",
            ),
            ({"score": 1.5}, "score is 1.5, but the column of NAME holds whole numbers."),
            ({"score": False}, "score is false, but the column of NAME holds whole numbers."),
            ({"score": "1"}, "score is '1', but the column of NAME holds whole numbers."),
            ({"age": "old"}, "age is 'old', but the column of NAME holds numbers."),
            ({"is_primary_data": 1}, "is_primary_data is 1, but the column of NAME holds true or false."),
            ({"tissue": []}, "tissue is an empty list, which no cell meets; name values, or leave it out."),
            ({"score": list(range(1001))}, "score has 1,001 values, at most 1,000 can be; use data.value_filter."),
        ],
    )
    def test_values_of_another_type_are_not_cast(self, census, filters, message):
        assert refused(census, ConfigError, filters=filters) == "data.filters." + message.replace("NAME", self.NAME)

    @pytest.mark.parametrize(
        ("rule", "why"),
        [
            ("score == (1", "'(' was never closed"),
            ("score == 1) or (score == 2", "unmatched ')'"),
            ("score", "Malformed query condition statement."),
            ("score == 'a'", "Cannot cast `a` to int16."),
            ("score is None", "the `is` operator is not supported"),
        ],
    )
    def test_expressions_that_are_none(self, census, rule, why):
        message = refused(census, ConfigError, value_filter=rule)
        assert message.startswith(f"data.value_filter is not a SOMA expression: '{rule}' ({why}")
        assert message.endswith("); write it like \"raw_sum > 500 and disease == 'normal'\".")
        assert "/" not in message

    def test_a_filter_that_no_cell_meets(self, census):
        assert refused(census, filters={"score": 2}, value_filter="score < 0") == (
            f"{self.NAME} has no cell with (score == 2) and (score < 0); correct data.filters and data.value_filter, "
            "or name other data."
        )

    def test_settings_that_are_for_another_kind_of_store(self, census):
        assert refused(census, ConfigError, census_version="latest") == (
            "data.census_version (latest) is for the public Census, and data.uri names a store; keep one."
        )
        single = census / "census_data" / "homo_sapiens"
        assert refused(single, ConfigError, organism="mus_musculus") == (
            f"data.organism (mus_musculus) chooses from a Census, and data.uri '{single}' is a single experiment; "
            "leave it out."
        )

    def test_no_column_that_could_hold_gene_ids(self, tmp_path):
        adata = CELLS[:4].copy()
        del adata.var["feature_id"]
        path = write_experiment(tmp_path / "soma", adata, var_id_name="name")
        assert refused(path) == (
            "soma soma: var has neither of the columns feature_id and var_id; name the one with the gene ids in "
            "data.gene_id_column. There are: name, symbol."
        )

    def test_a_dense_layer(self, tmp_path):
        assert refused(write_experiment(tmp_path / "soma", CELLS[:4].copy(), is_sparse=False)) == (
            "soma soma: layer 'raw' is a SOMADenseNDArray, and a SOMASparseNDArray is needed; write the matrix to the "
            "store as a sparse one."
        )

    def test_values_that_are_there_twice(self, tmp_path):
        import tiledbsoma

        path = write_experiment(tmp_path / "soma", CELLS[:4].copy(), num_parts=2)
        with tiledbsoma.open(str(path / "ms/RNA/X/raw"), context=steady()) as x:
            some = x.read((slice(1, 2),)).tables().concat()[:3]
        with tiledbsoma.open(str(path / "ms/RNA/X/raw"), "w") as x:
            x.write(some)
        source = open_census(path)
        with pytest.raises(DataError, match="layer 'raw' has 3 values twice among the cells with soma_joinid 1 to 3; "):
            source.read(RowRange(0, 1, 4))

    def test_cells_that_are_there_twice(self, tmp_path):
        import tiledbsoma

        path = write_experiment(tmp_path / "soma", CELLS[:4].copy(), num_parts=2)
        with tiledbsoma.open(str(path / "obs"), context=steady()) as obs:
            some = obs.read(coords=(slice(1, 2),)).concat()
        with tiledbsoma.open(str(path / "obs"), "w") as obs:
            obs.write(some)
        assert refused(path) == "soma soma: obs has soma_joinid 1 twice; the store is damaged."

    def test_columns_of_a_kind_that_no_code_stands_for(self, tmp_path):
        adata = CELLS[:4].copy()
        adata.obs["day"] = np.array(["2031-01-01"] * 4, dtype="datetime64[ns]")
        path = write_experiment(tmp_path / "soma", adata)
        assert refused(path, ConfigError, filters={"day": "2031-01-01"}) == (
            "data.filters.day: the column of soma soma holds timestamp[ns], which data.filters cannot compare; use "
            "data.value_filter."
        )
        with pytest.raises(DataError, match=r"soma soma: obs column 'day' holds timestamp\[ns\]; text, numbers or"):
            open_census(path).obs("day")

    def test_an_obs_table_with_another_index(self, tmp_path):
        import tiledbsoma

        path = write_experiment(tmp_path / "soma", CELLS[:4].copy())
        with tiledbsoma.open(str(path / "obs"), context=steady()) as obs:
            table = obs.read(column_names=["soma_joinid", "obs_id"]).concat()
        shutil.rmtree(path / "obs")
        with tiledbsoma.DataFrame.create(
            str(path / "obs"), schema=table.schema, index_column_names=["obs_id"], domain=[None]
        ) as obs:
            obs.write(table)
        assert refused(path) == "soma soma: obs is indexed by obs_id; an index by soma_joinid is needed."

    def test_an_organism_that_is_no_experiment(self, tmp_path):
        import tiledbsoma

        path = write_census(tmp_path / "census", mus_musculus=CELLS[:4].copy())
        with tiledbsoma.open(str(path / "census_data"), "w") as data:
            data.add_new_collection("homo_sapiens")
        assert refused(path) == (
            f"census {BUILD}: 'homo_sapiens' (data.organism) is a SOMACollection; a SOMAExperiment is needed."
        )

    def test_a_damaged_store(self, tmp_path):
        path = write_experiment(tmp_path / "soma", CELLS[:4].copy())
        for file in (path / "__meta").iterdir():
            file.write_bytes(b"nonsense")
        message = refused(path)
        assert message.startswith(f"data.uri: '{path}' cannot be opened: ")
        assert message.endswith("; the root of a Census or a SOMA experiment is needed.")

    def test_values_of_a_gene_without_a_row_in_var(self, tmp_path):
        import pyarrow
        import tiledbsoma

        path = write_experiment(tmp_path / "soma", CELLS[:4].copy())
        with tiledbsoma.open(str(path / "ms/RNA/X/raw"), "w") as x:
            x.resize((4, 50))
        with tiledbsoma.open(str(path / "ms/RNA/X/raw"), "w") as x:
            x.write(pyarrow.table({"soma_dim_0": [1], "soma_dim_1": [44], "soma_data": pyarrow.array([2.0], "f4")}))
        source = open_census(path)
        with pytest.raises(DataError, match="layer 'raw' has values of the gene with soma_joinid 44, which var doe"):
            whole(source)

    def test_a_store_that_is_gone(self, tmp_path):
        path = write_experiment(tmp_path / "soma", CELLS[:4].copy())
        source = open_census(path)
        source.close()
        shutil.rmtree(path)
        with pytest.raises(DataError, match=r"^soma soma \(/.*/soma\) cannot be read: "):
            whole(source)

    def test_a_store_that_changed(self, tmp_path):
        path = write_experiment(tmp_path / "soma", CELLS)
        source = open_census(path)
        source.close()
        delete_cells(path, "obs_id == 'cell4'")
        with pytest.raises(DataError, match="soma soma has changed since it was opened: 89 cells instead of 90"):
            source.obs("tissue")


@pytest.fixture
def directory(census, monkeypatch):
    """Serve the list of versions of the public Census on the loopback device; ``stable`` is a local store."""
    import cellxgene_census._release_directory as releases

    build = {"release_build": BUILD, "soma": {"relative_uri": census.name}, "flags": {"lts": True}}
    pages = {
        "/release.json": {"stable": BUILD, "latest": "2031-02-01", BUILD: build, "2031-02-01": build},
        "/mirrors.json": {
            "default": "here",
            "here": {"provider": "file", "base_uri": f"{census.parent}/", "region": None},
        },
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(pages[self.path]).encode())

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name, page in zip(("RELEASE", "MIRRORS"), pages, strict=True):
        url = f"http://127.0.0.1:{server.server_port}{page}"
        monkeypatch.setattr(releases, f"CELL_CENSUS_{name}_DIRECTORY_URL", url)
    yield
    server.shutdown()
    thread.join()
    server.server_close()


class TestPublicCensus:
    def test_stable_is_the_build_it_stands_for(self, directory, source):
        public = open_census(None, filters={"tissue": ["lung", "heart"], "is_primary_data": True})
        np.testing.assert_array_equal(dense(whole(public)), COUNTS[WANTED])
        assert public.describe()[1] == (
            f"data.census_version 'stable' is {BUILD} now; to stay with it, set data.census_version to it"
        )
        assert public.fingerprint() == source.fingerprint()
        dated = open_census(None, census_version=BUILD, value_filter="is_primary_data == True")
        assert len(dated.describe()) == 1

    def test_the_bucket_is_read_without_an_account(self, directory):
        public = open_census(None, value_filter="is_primary_data == True")
        assert public._place.tiledb_config["vfs.s3.no_sign_request"] == "true"
        assert WITHOUT_MERGE.items() <= public._place.tiledb_config.items()

    def test_a_version_that_there_is_not(self, directory):
        assert refused(None, census_version="2031-03-01").startswith(
            "data.census_version: there is no Census '2031-03-01'. Did you mean '2031-0"
        )
        assert refused(None, census_version="x").endswith(f"There are: stable, latest, 2031-02-01, {BUILD}.")

    def test_no_network(self, monkeypatch):
        import cellxgene_census._release_directory as releases

        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(releases, "CELL_CENSUS_RELEASE_DIRECTORY_URL", "http://127.0.0.1:9/release.json")
        message = refused(None)
        assert message.startswith("The public Census (data.census_version: stable) cannot be reached: ")
        assert message.endswith("; check the network, or name a copy of it in data.uri.")


def test_importing_the_source_imports_none_of_its_packages():
    code = "import sys, scmodelforge.data.sources.census; print({'tiledbsoma', 'pyarrow', 'scipy'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
