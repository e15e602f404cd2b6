"""Which stage limits, and what is advised."""

from __future__ import annotations

import time

import numpy as np
import pytest

from scmodelforge.workflows.bench_stages import Clock, Measured
from scmodelforge.workflows.data_bench import _advice, _bottleneck, _positions, bench_data
from tests.conftest import make_adata


def measured(consumer: float = 0.0) -> Measured:
    return Measured(seconds=10.0, cpu_seconds=10.0, consumer=consumer, first=0.1, growth=None, num_read=None)


def stages(reading=0.0, tokenising=0.0, consumer=0.0, waiting=0.0):
    return {"reading": reading, "tokenising": tokenising, "the consumer": consumer, "waiting": waiting}


class TestBottleneck:
    @pytest.mark.parametrize(
        ("found", "threads", "expected"),
        [
            (stages(reading=16, tokenising=3, consumer=4), 2, "reading"),
            (stages(reading=3, tokenising=16, consumer=4), 2, "tokenising"),
            (stages(reading=3, tokenising=3, consumer=9), 2, "the consumer"),
            (stages(reading=3, tokenising=1, consumer=2, waiting=15), 2, "waiting"),
            (stages(reading=6, tokenising=3, consumer=10), 0, "reading"),
            (stages(reading=1, tokenising=1, consumer=10), 0, "the consumer"),
        ],
    )
    def test_it_is_what_the_busiest_spends_most_on(self, found, threads, expected):
        assert _bottleneck(found, measured(found["the consumer"]), threads=threads) == expected

    def test_a_slow_tokenizer_is_named(self, tmp_path, monkeypatch):
        make_adata().write_h5ad(tmp_path / "cells.h5ad")
        from scmodelforge.workflows import bench_stages

        def encode(self, block, keys):
            begun = time.thread_time()
            while time.thread_time() - begun < 0.05:
                pass
            return rows(self, block, keys)

        rows = bench_stages.Rows.encode
        monkeypatch.setattr(bench_stages.Rows, "encode", encode)
        report = bench_data([str(tmp_path / "cells.h5ad")], tokens="none", threads=0)
        assert report.bottleneck == "tokenising"
        assert report.stages["tokenising"] >= 0.05
        assert report.cells == 60

    @pytest.mark.parametrize(
        ("packing", "words"),
        [
            ("gzip", "limited by inflating: convert it once with 'scmodelforge convert a/b.h5ad b.zarr'"),
            ("dense", "read with all its zeros: convert it once"),
            ("none", "stored as they are"),
            ("lzf", "HDF5 reads lzf one thread at a time: convert it once"),
            ("zarr", "decompressing scales with threads"),
        ],
    )
    def test_advice_for_reading_depends_on_how_values_are_packed(self, packing, words):
        assert words in _advice("reading", packing, "a/b.h5ad")

    def test_each_stage_has_one_line_of_advice(self):
        for stage in ("tokenising", "the consumer", "waiting"):
            assert "\n" not in _advice(stage, "gzip", "b.h5ad")


class TestParts:
    def test_each_file_gives_its_share_of_the_cells(self):
        found = _positions([100, 300], 40)
        assert np.array_equal(found, [*range(10), *range(100, 130)])

    def test_the_clock_adds_up(self):
        clock = Clock()
        for _ in range(2):
            with clock.measure("reading"):
                time.sleep(0.01)
        assert clock.spent["reading, wall"] >= 0.02
        assert clock.spent["reading"] < 0.02
