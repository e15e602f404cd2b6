"""Several remote files are opened at a time, with the results and errors of one after another."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from scmodelforge._errors import DataError
from scmodelforge.data.sources._at_once import several_at_once
from tests.conftest import make_adata

from .h5ad_files import dense, open_files, write
from .remote_servers import faulty_server
from .zarr_stores import write_store


class TestSeveral:
    def test_results_are_in_the_order_of_the_items(self):
        assert several_at_once(lambda wait: time.sleep(wait) or wait, [0.03, 0.0, 0.02]) == [0.03, 0.0, 0.02]
        assert several_at_once(str, []) == []

    def test_the_error_of_the_first_item_is_raised_whichever_came_first(self):
        later = threading.Event()

        def work(item: int) -> None:
            if item == 1:
                assert later.wait(5)
                raise ValueError("the first")
            if item == 2:
                later.set()
                raise KeyError("came before")

        with pytest.raises(ValueError, match="the first"):
            several_at_once(work, [0, 1, 2])

    def test_what_has_not_begun_is_left_out(self):
        done = []

        def work(item: int) -> None:
            if item == 0:
                raise ValueError
            time.sleep(0.02)
            done.append(item)

        with pytest.raises(ValueError, match=r"^$"):
            several_at_once(work, range(200))
        assert len(done) < 50

    def test_one_item_needs_no_thread(self):
        assert several_at_once(lambda item: threading.current_thread(), [1]) == [threading.current_thread()]


@pytest.fixture
def files(tmp_path) -> dict[str, bytes]:
    paths = [write(tmp_path, make_adata(20 + n, 10 + n, seed=n), f"{n}.h5ad") for n in range(4)]
    store = write_store(tmp_path, make_adata(30, 12), "4.zarr")
    paths += [file for file in store.rglob("*") if file.is_file()]
    return {str(path.relative_to(tmp_path)): path.read_bytes() for path in paths}


NAMES = ["0.h5ad", "1.h5ad", "4.zarr", "2.h5ad", "3.h5ad"]


class TestOpening:
    def test_files_are_asked_for_at_the_same_time_and_keep_their_order(self, files, tmp_path):
        together = threading.Barrier(4, timeout=5)
        with faulty_server(**files) as server:

            def all_four(number: int) -> None:
                if server.requests[number - 1][:2] in [(f"/{n}.h5ad", 0) for n in range(4)] and not together.broken:
                    together.wait()

            server.fault = all_four
            source = open_files(*(f"{server.url}/{name}" for name in NAMES))
            assert not together.broken
            server.fault = lambda number: None
            here = open_files(*(tmp_path / name for name in NAMES))
            assert source.describe() == here.describe()
            assert source.file_sizes == [20, 21, 30, 22, 23]
            for file in range(5):
                np.testing.assert_array_equal(
                    dense(source.read_rows(file, np.arange(9))), dense(here.read_rows(file, np.arange(9)))
                )

    @pytest.mark.parametrize("place", ["before", "behind"])
    def test_the_first_file_that_fails_is_named(self, files, place):
        names = [*NAMES, "gone.h5ad"] if place == "behind" else ["gone.h5ad", *NAMES]
        files["2.h5ad"] = b"no HDF5"
        with faulty_server(**files) as server:
            server.fault = lambda number: "slow" if server.requests[number - 1][0].startswith("/2") else None
            first = "2.h5ad is not an .h5ad file" if place == "behind" else "gone.h5ad cannot be read: .* is not there"
            with pytest.raises(DataError, match=rf"^{first}"):
                open_files(*(f"{server.url}/{name}" for name in names))
