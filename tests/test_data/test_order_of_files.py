"""The order of real files: every cell once, exact resume, the same batches with any threads; panels may differ."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

from scmodelforge.data.loader import CellLoader
from scmodelforge.data.sources.local import LocalSource
from scmodelforge.data.types import TokenBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.tokenizers import get_tokenizer
from scmodelforge.tokenizers.binned_expression import BinnedExpressionConfig
from scmodelforge.tokenizers.rank_value import RankValueConfig
from tests.conftest import make_adata

from .h5ad_files import open_files, write
from .loading import contents, make_loader, take
from .remote_cells import Rows
from .remote_servers import faulty_server
from .zarr_stores import BLOSC, write_collection, write_store

SIZES = (61, 40)


def two_panels() -> list[ad.AnnData]:
    """Return cells of two files: some genes are in both, in another order, some in one only."""
    first, second = make_adata(SIZES[0], 40), make_adata(SIZES[1], 36, seed=1)
    second = second[:, np.random.default_rng(0).permutation(36)].copy()
    second.var_names = [f"{name}9" if number % 4 == 0 else name for number, name in enumerate(second.var_names)]
    return [first, second]


FORMS = [
    "h5ad",
    "zarr",
    "remote",
    *(pytest.param(form, marks=pytest.mark.slow) for form in ("collection", "dense", "mixed")),
]


@pytest.fixture(scope="module", params=FORMS)
def files(request, tmp_path_factory) -> Iterator[tuple[LocalSource, np.ndarray]]:
    """Return a source of two files, and how many values each of its cells has."""
    folder, parts = tmp_path_factory.mktemp("files"), two_panels()
    lengths = np.concatenate([np.diff(part.X.indptr) for part in parts])
    if request.param == "dense":
        for part in parts:
            part.X = part.X.toarray()
    packing = {"chunk": 50, "shard": 500, "compressors": BLOSC}
    if request.param in ("h5ad", "dense", "remote"):
        paths = [write(folder, part, f"{n}.h5ad", compression="gzip") for n, part in enumerate(parts)]
    elif request.param == "zarr":
        paths = [write_store(folder, part, f"{n}.zarr", **packing) for n, part in enumerate(parts)]
    elif request.param == "collection":
        paths = [write_collection(folder, dict(enumerate(parts)), **packing)]
    else:
        paths = [write(folder, parts[0], "0.h5ad"), write_store(folder, parts[1], "1.zarr", version=2)]
    if request.param != "remote":
        yield open_files(*paths), lengths
        return
    with faulty_server(**{path.name: path.read_bytes() for path in paths}) as server:
        yield open_files(*(f"{server.url}/{path.name}" for path in paths)), lengths


def loader_of(source: LocalSource, **changes) -> CellLoader:
    layout = {"num_streams": 4, "buffer_size": 48, "block_size": 8}
    return make_loader(source, encoder=Rows(), batch_size=8, order_changes=layout, **changes)


class TestFiles:
    @pytest.mark.parametrize("threads", [0, 2])
    @pytest.mark.parametrize(
        "world_size", [1, 3, 7, *(pytest.param(size, marks=pytest.mark.slow) for size in (2, 4, 5, 6))]
    )
    def test_ranks_and_threads_see_every_cell_once_and_whole(self, files, world_size, threads):
        source, lengths = files
        seen: list[int] = []
        for rank in range(world_size):
            with loader_of(source, rank=rank, world_size=world_size, num_workers=threads) as loader:
                for batch in loader.one_pass():
                    for tokens in batch:
                        np.testing.assert_array_equal(tokens.lengths, lengths[tokens.cell_index])
                        seen += tokens.cell_index.tolist()
        assert sorted(seen) == list(range(sum(SIZES)))

    def test_resume_at_50_random_points_gives_the_following_batches(self, files):
        source = files[0]
        reference = loader_of(source)
        steps = reference.steps_per_pass
        unbroken = take(reference, 3 * steps + 2)
        for done in np.random.default_rng(1).integers(0, 3 * steps, 50).tolist():
            resumed = loader_of(source, num_workers=done % 3)
            resumed.load_state_dict({**resumed.state_dict(), "pass": done // steps, "batch": done % steps})
            with resumed:
                assert take(resumed, 2) == unbroken[done : done + 2]

    @pytest.mark.parametrize("threads", [1, 2, 5])
    def test_threads_change_nothing(self, files, threads):
        with loader_of(files[0], num_workers=threads) as loader:
            assert contents(loader.one_pass(1)) == contents(loader_of(files[0]).one_pass(1))


def merged_by_hand(parts: list[ad.AnnData]) -> ad.AnnData:
    """Return the cells of all files over all genes, genes in an order of their own."""
    genes = sorted({gene for part in parts for gene in part.var_names}, reverse=True)
    counts = np.zeros((sum(SIZES), len(genes)), dtype=np.float32)
    for start, part in zip((0, SIZES[0]), parts, strict=True):
        counts[start : start + len(part), [genes.index(gene) for gene in part.var_names]] = part.X.toarray()
    merged = make_adata(sum(SIZES), len(genes))
    merged.X, merged.var_names = type(merged.X)(counts), genes
    return merged


TOKENIZERS = {
    "rank_value": [RankValueConfig(medians="none"), RankValueConfig(medians="none", max_genes=12)],
    "binned_expression": [
        BinnedExpressionConfig(n_bins=7),
        BinnedExpressionConfig(n_bins=7, ties="random", max_genes=12),
    ],
}


def tokens_of(source: LocalSource, tokenizer) -> TokenBlock:
    """Return the tokens of all cells in their order, with the draws of each cell its own."""
    order = {"shuffle": False, "num_streams": 1}
    with make_loader(source, encoder=tokenizer, batch_size=500, num_workers=2, order_changes=order) as loader:
        ((tokens,),) = loader.one_pass()
    return tokens


class TestPanels:
    @pytest.mark.parametrize("store", [write, write_store])
    @pytest.mark.parametrize(("name", "number"), [(name, number) for name in TOKENIZERS for number in range(2)])
    def test_files_of_two_panels_give_the_tokens_of_the_files_merged(self, tmp_path: Path, store, name, number):
        parts = two_panels()
        end = ".zarr" if store is write_store else ".h5ad"
        apart = open_files(*(store(tmp_path, part, f"part{n}{end}") for n, part in enumerate(parts)))
        merged = open_files(store(tmp_path, merged_by_hand(parts), f"merged{end}"))
        tokenizer = get_tokenizer(name, TOKENIZERS[name][number], GeneVocab.from_panels(apart.panels))
        found, expected = tokens_of(apart, tokenizer), tokens_of(merged, tokenizer)
        assert len(found) == sum(SIZES)
        assert found.lengths.min() > 2
        for field in ("offsets", "ids", "values", "cell_index", "keys", "bin_ids"):
            np.testing.assert_array_equal(getattr(found, field), getattr(expected, field), err_msg=field)
