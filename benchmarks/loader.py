"""Speed of the loader: shuffled cells as sparse rows, as rank tokens and as padded batches, beside loaders of others.

The files are made first (``loader_data.py``; kept with --keep). Each measurement is one pass in a fresh process,
interleaved, warm page cache, from the start of iterating; medians of --repeats. Batches of 256 cells, 2 threads, the
loader's settings as in a run. Genes have medians, as a fitted tokenizer has them. The label entropy says how well
batches mix a file that is stored batch after batch. RSS is over a process that has imported the loader.

    python benchmarks/loader.py --cells 500000
    python benchmarks/loader.py --peers --python annbatch=OTHER/bin/python   # where annbatch is installed
    python benchmarks/loader.py --cells 500000 --packing gzip --ways "rank tokens" --repeats 1 --times 20
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from loader_data import NUM_BATCHES, NUM_GENES, PACKINGS, files_of, gene_names, make, warm
from loader_peers import PEERS

BATCH_SIZE = 256
WAYS = ("h5py in order", "rows", "rank tokens", "rank batches")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--packing", choices=PACKINGS, nargs="+", default=list(PACKINGS))
    parser.add_argument("--ways", choices=WAYS, nargs="*", default=list(WAYS))
    parser.add_argument("--peers", action="store_true", help="measure the loaders of others that are installed")
    parser.add_argument("--python", action="append", default=[], metavar="PEER=FILE", help="interpreter of a peer")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--times", type=int, default=1, help="list each file so many times, as different files")
    parser.add_argument("--keep", type=Path, help="folder in which files are made once and kept")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.path, options)))
        return
    with tempfile.TemporaryDirectory() as name:
        compare(options.keep or Path(name), options)


def compare(folder: Path, options: argparse.Namespace) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for packing in options.packing:
        paths[packing] = folder / f"cells_{options.cells}_{packing}.{'zarr' if packing == 'zarr' else 'h5ad'}"
        if not paths[packing].exists():
            make(paths[packing], options.cells, packing)
        warm(paths[packing])
    jobs = [job for job in itertools.product(options.packing, options.ways) if job != ("zarr", "h5py in order")]
    if options.peers:
        jobs += [(packing, name) for name, (_, _, packing, _) in PEERS.items() if packing in options.packing]
    pythons = dict(entry.split("=", 1) for entry in options.python)
    found: dict[tuple[str, str], list[dict]] = {job: [] for job in jobs}
    for _, (packing, way) in itertools.product(range(options.repeats), jobs):
        words = [pythons.get(way.split(",")[0], sys.executable), __file__, "--measure", way, "--path", paths[packing]]
        words += ["--threads", options.threads, "--times", options.times]
        done = subprocess.run([str(word) for word in words], check=True, stdout=subprocess.PIPE)
        found[packing, way].append(json.loads(done.stdout.splitlines()[-1]))
    tell(found, paths, options)


def tell(found: dict[tuple[str, str], list[dict]], paths: dict[str, Path], options: argparse.Namespace) -> None:
    times = f", each file listed {options.times} times" if options.times > 1 else ""
    print(f"{options.cells:,} cells, {NUM_GENES:,} genes{times}, batches of {BATCH_SIZE}, {options.threads} threads")
    head = ("cells", "cells/s", "cells/CPU s", "first batch s", "RSS MiB more")
    print(f"{'packing':8}{'what':16}{'MiB':>7}" + "".join(f"{word:>15}" for word in head))
    for (packing, way), rows in found.items():
        size = sum(path.stat().st_size for path in files_of(paths[packing])) / 2**20
        if "missing" in rows[0]:
            print(f"{packing:8}{way:16}{size:>7.0f}   not installed ({rows[0]['missing']})")
            continue
        middle = {name: float(np.median([row[name] for row in rows])) for name in rows[0]}
        print(
            f"{packing:8}{way:16}{size:>7.0f}{middle['cells']:>15,.0f}{middle['cells'] / middle['seconds']:>15,.0f}"
            f"{middle['cells'] / middle['cpu_seconds']:>15,.0f}{middle['first']:>15.2f}{middle['rss']:>15,.0f}"
        )
    mean, worst = entropy(options.cells)
    print(f"label entropy of batches over that of a full shuffle: mean {mean:.1%}, worst {worst:.1%}")


def measure(way: str, path: Path, options: argparse.Namespace) -> dict[str, float | str]:
    """Time one pass from the start of iterating; the source is open before."""
    if way in PEERS:
        load, module, _, most = PEERS[way]
        try:
            importlib.import_module(module)
        except ImportError as error:
            return {"missing": str(error)}
        before = memory("VmRSS")
        numbers = load(path, BATCH_SIZE)
    else:
        ways = {"h5py in order": in_order, "rows": rows, "rank tokens": rank_tokens, "rank batches": rank_batches}
        most = None
        importlib.import_module(
            "scmodelforge.objectives.collate" if way == "rank batches" else "scmodelforge.data.loader"
        )
        before = memory("VmRSS")
        numbers = ways[way](path, options)
    began, cpu = time.perf_counter(), time.process_time()
    cells, first = 0, 0.0
    for number in numbers:
        first = first or time.perf_counter() - began
        cells += number
        if most is not None and cells >= most:
            break
    used = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
    return {"cells": cells, "first": first, "rss": memory("VmHWM") - before, **used}


def memory(which: str) -> float:
    """Return the memory of this process in MiB: VmRSS now, VmHWM at most since it began."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(which))
    return int(line.split()[1]) / 1024


def entropy(num_cells: int) -> tuple[float, float]:
    """Return mean and least label entropy of batches in the loader's order over those of a full shuffle."""
    order = _order([num_cells])
    labels = np.arange(num_cells) * NUM_BATCHES // num_cells
    seen = np.empty(num_cells, dtype=np.int64)
    for stream in range(order.num_streams):
        for number in range(order.num_windows(stream)):
            window = order.window(0, stream, number)
            seen[window.global_positions] = labels[window.positions]

    def of_batches(sequence: np.ndarray) -> np.ndarray:
        batches = sequence[: len(sequence) // BATCH_SIZE * BATCH_SIZE].reshape(-1, BATCH_SIZE)
        shares = np.stack([(batches == label).mean(axis=1) for label in range(NUM_BATCHES)])
        return -(shares * np.log2(np.where(shares > 0, shares, 1))).sum(axis=0)

    ours, full = of_batches(seen), of_batches(np.random.default_rng(0).permutation(labels))
    return ours.mean() / full.mean(), ours.min() / full.min()


def in_order(path: Path, options: argparse.Namespace):
    import h5py

    return _in_order(h5py.File(path))


def _in_order(opened):
    with opened as file:
        indptr = file["X/indptr"][:]
        data, indices = np.empty(0, np.float32), np.empty(0, np.int32)
        for start in range(0, len(indptr) - 1, 8192):
            stop = min(start + 8192, len(indptr) - 1)
            span = slice(int(indptr[start]), int(indptr[stop]))
            if len(data) < span.stop - span.start:
                data, indices = (np.empty(span.stop - span.start, d.dtype) for d in (data, indices))
            for name, out in (("data", data), ("indices", indices)):
                file[f"X/{name}"].read_direct(out, span, slice(0, span.stop - span.start))
            yield stop - start


def _order(sizes: list[int]):
    from scmodelforge.config.schema import DataConfig
    from scmodelforge.data.sampling import GlobalOrder

    settings = DataConfig(source="local")
    return GlobalOrder(
        sizes,
        np.arange(sum(sizes)),
        seed=0,
        block_size=settings.block_size,
        buffer_size=settings.buffer_size,
        num_streams=settings.num_streams,
        shuffle=True,
    )


def _loader(path: Path, options: argparse.Namespace, encoder, collate):
    from scmodelforge.data.loader import CellLoader
    from scmodelforge.data.sources import _paths
    from scmodelforge.data.sources.local import LocalDataConfig, LocalSource

    paths = [str(path)]
    if options.times > 1:
        # A source refuses to have a file twice, under whatever name; here that stands for files of as many cells.
        _paths._refuse_repeats = lambda paths: None
        paths = [str(link) for link in _links(path, options.times)]
    source = LocalSource(LocalDataConfig(source="local", paths=paths))
    return CellLoader(
        source,
        encoder(source),
        lambda block: block,
        _order(source.file_sizes),
        batch_size=BATCH_SIZE,
        seed=0,
        collate=collate,
        num_workers=options.threads,
    )


def _links(path: Path, number: int) -> list[Path]:
    links = [path.with_name(f"{path.stem}_as_{n}{path.suffix}") for n in range(number)]
    for link in links:
        if not link.is_symlink():
            link.symlink_to(path.absolute())
    return links


class _Rows:
    """Hands on the sparse rows: columns as ids."""

    def bind(self, panel):
        return self

    def encode(self, block, keys):
        from scmodelforge.data.types import TokenBlock

        return TokenBlock(block.indptr, block.indices, block.data, block.positions, keys)


def _rank(source):
    from scmodelforge.data.vocab import GeneVocab
    from scmodelforge.tokenizers.medians import GeneMedians
    from scmodelforge.tokenizers.rank_value import RankValueConfig, RankValueTokenizer

    vocab = GeneVocab.from_genes(gene_names(), name="synthetic")
    values = np.random.default_rng(1).lognormal(0.5, 0.4, len(vocab))
    return RankValueTokenizer(RankValueConfig(max_genes=2048), vocab, medians=GeneMedians(values, "exact", 1))


def _count(tokens) -> int:
    return len(tokens)


def _pass(loader):
    with loader:
        for group in loader.one_pass():
            yield sum(group)


def rows(path: Path, options: argparse.Namespace):
    return _pass(_loader(path, options, lambda source: _Rows(), _count))


def rank_tokens(path: Path, options: argparse.Namespace):
    return _pass(_loader(path, options, _rank, _count))


def rank_batches(path: Path, options: argparse.Namespace):
    """Padded tensors, as a model gets them."""
    from scmodelforge.objectives.collate import pad

    return _pass(_loader(path, options, _rank, lambda tokens: len(pad(tokens, pad_id=0)["input_ids"])))


if __name__ == "__main__":
    main()
