"""Cells in a plain DataLoader of torch, with workers of both kinds."""

from __future__ import annotations

import itertools

import pytest
from torch.utils.data import DataLoader

from scmodelforge.data.loader import CellLoader
from scmodelforge.data.types import TokenBlock
from scmodelforge.training import CellDataset
from tests.conftest import make_adata
from tests.test_data.h5ad_files import open_files, write
from tests.test_data.loading import make_loader
from tests.test_data.remote_cells import Rows
from tests.test_data.zarr_stores import write_store

NUM_CELLS = 93


def cell_index(tokens: TokenBlock) -> list[int]:
    return tokens.cell_index.tolist()


def cells_of(loader: CellLoader, *, data_pass: int = 0, **settings) -> list[list[int]]:
    dataset = CellDataset(loader)
    dataset.set_epoch(data_pass)
    return list(DataLoader(dataset, batch_size=None, **settings))


def all_of(batches) -> list[int]:
    return sorted(itertools.chain.from_iterable(batches))


class TestWithoutWorkers:
    def test_batches_are_those_of_the_loader(self):
        expected = [group[0] for group in make_loader(collate=cell_index).one_pass()]
        assert cells_of(make_loader(collate=cell_index)) == expected

    def test_another_pass_has_another_order(self):
        loader = make_loader(collate=cell_index)
        first, second = cells_of(loader), cells_of(loader, data_pass=1)
        assert first != second
        assert all_of(first) == all_of(second) == list(range(NUM_CELLS))

    def test_micro_batches_stay_together(self):
        groups = cells_of(make_loader(collate=cell_index, num_micro_batches=2))
        assert {len(group) for group in groups} == {2}


class TestWithWorkers:
    @pytest.mark.parametrize("num_workers", [1, 2])
    @pytest.mark.parametrize("threads", [0, 2])
    def test_forked_ones_give_every_cell_once(self, num_workers, threads):
        loader = make_loader(collate=cell_index, num_workers=threads)
        batches = cells_of(loader, num_workers=num_workers, multiprocessing_context="fork")
        assert all_of(batches) == list(range(NUM_CELLS))
        assert all(batches)
        assert max(map(len, batches)) == 8

    def test_forked_after_the_parent_has_read(self):
        loader = make_loader(collate=cell_index, num_workers=2)
        batches = iter(loader)
        next(batches)
        # the parent's threads are idle or reading while the workers are forked
        assert all_of(cells_of(loader, num_workers=2, multiprocessing_context="fork")) == list(range(NUM_CELLS))
        next(batches)
        loader.close()

    @pytest.mark.parametrize("form", ["h5ad", "dense", "zarr"])
    def test_forked_ones_open_files_anew(self, tmp_path, form):
        adata = make_adata(120, 20)
        if form == "dense":
            adata.X = adata.X.toarray()  # read by h5py itself, whose lock the parent's threads hold at times
        path = write_store(tmp_path, adata) if form == "zarr" else write(tmp_path, adata, compression="gzip")
        loader = make_loader(open_files(path), encoder=Rows(), collate=cell_index, num_workers=1)
        batches = iter(loader)
        next(batches)
        assert all_of(cells_of(loader, num_workers=2, multiprocessing_context="fork")) == list(range(120))
        loader.close()

    @pytest.mark.slow
    def test_spawned_ones_give_every_cell_once(self):
        batches = cells_of(make_loader(collate=cell_index), num_workers=2, multiprocessing_context="spawn")
        assert all_of(batches) == list(range(NUM_CELLS))

    def test_two_make_the_batches_that_one_makes_of_twice_the_size(self):
        pairs = cells_of(make_loader(collate=cell_index), num_workers=2, multiprocessing_context="fork")
        together = [sorted(itertools.chain(*pairs[n : n + 2])) for n in range(0, len(pairs), 2)]
        whole = [sorted(group[0]) for group in make_loader(collate=cell_index, batch_size=16).one_pass()]
        assert together[: len(whole) - 1] == whole[:-1]
