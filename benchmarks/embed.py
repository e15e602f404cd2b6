"""What embedding cells costs beside the model itself, and whether its memory grows with the cells.

The rate of ``tl.embed``, of backed cells and of the command is compared with that of the model alone on the same
batches, made before. All ways take turns in one run; printed are the median clock and CPU seconds of each and how much
of the model's rate is left: the strict row is CPU seconds, in which work beside the model counts wherever it is done.

    python benchmarks/embed.py rate --cells 512 --genes 512 --layers 6 --width 256
    python benchmarks/embed.py rate --cells 2048 --genes 512 --layers 2 --width 64
    python benchmarks/embed.py memory --cells 10000 50000 200000
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from anndata.io import write_elem

from scmodelforge import tl
from scmodelforge.config.schema import ModelConfig, PreprocessingConfig
from scmodelforge.data.preprocess import Preprocessor
from scmodelforge.data.sources.in_memory import AnnDataSource
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.hub.bundle import Bundle, build_model, save_bundle
from scmodelforge.tokenizers import get_tokenizer
from scmodelforge.tokenizers.rank_value import RankValueConfig
from scmodelforge.workflows import ready_cells
from scmodelforge.workflows.embed import embed_file

EXPRESSED, GENES = 1_456, 20_000
_CELLS_AT_ONCE = 2_000


def counts(num_cells: int, seed: int) -> sp.csr_matrix:
    """Return cells that express about as many genes as those of the CELLxGENE census, some of them twice as many."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(np.log(EXPRESSED), 0.5, num_cells).astype(int), 50, GENES)
    columns = np.concatenate([np.sort(rng.choice(GENES, size, replace=False, shuffle=False)) for size in lengths])
    values = rng.geometric(0.4, len(columns)).astype(np.float32)
    return sp.csr_matrix((values, columns.astype(np.int32), np.append(0, np.cumsum(lengths))), (num_cells, GENES))


def names() -> list[str]:
    return [f"ENSG{number:011d}" for number in range(GENES)]


def model(layers: int, width: int, max_genes: int) -> Bundle:
    vocab = GeneVocab.from_genes(names(), name="benchmark")
    tokenizer = get_tokenizer("rank_value", RankValueConfig(max_genes=max_genes, medians="none"), vocab)
    config = ModelConfig(
        vocab_size=len(vocab),
        hidden_dim=width,
        num_layers=layers,
        num_heads=max(1, width // 32),
        max_seq_len=max_genes,
    )
    torch.manual_seed(0)
    return Bundle(
        model=build_model(config, tokenizer).eval(),
        model_config=config,
        tokenizer=tokenizer,
        vocab=vocab,
        preprocessor=Preprocessor(PreprocessingConfig()),
        objective="masked_gene_prediction",
    )


def write_cells(path: Path, num_cells: int) -> None:
    """Write cells without holding them all; gzip, as files are found."""
    block = counts(_CELLS_AT_ONCE, seed=0)
    lengths = np.tile(np.diff(block.indptr), -(-num_cells // _CELLS_AT_ONCE))[:num_cells]
    indptr = np.append(0, np.cumsum(lengths))
    with h5py.File(path, "w") as file:
        write_elem(file, "/", ad.AnnData(obs=pd.DataFrame(index=[str(i) for i in range(num_cells)])))
        write_elem(file, "var", pd.DataFrame(index=names()))
        group = file.create_group("X")
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": (num_cells, GENES)})
        group["indptr"] = indptr
        for name in ("data", "indices"):
            kept = group.create_dataset(name, (indptr[-1],), getattr(block, name).dtype, compression="gzip")
            for start in range(0, num_cells, _CELLS_AT_ONCE):
                stop = min(start + _CELLS_AT_ONCE, num_cells)
                kept[indptr[start] : indptr[stop]] = getattr(block, name)[: indptr[stop] - indptr[start]]


def measured(act: Callable[[], object]) -> tuple[float, float]:
    clock, cpu = time.perf_counter(), time.process_time()
    act()
    return time.perf_counter() - clock, time.process_time() - cpu


def rate(given: argparse.Namespace) -> None:
    bundle = model(given.layers, given.width, given.genes)
    adata = ad.AnnData(counts(given.cells, seed=1), var=pd.DataFrame(index=names()))
    adata.obs_names = adata.obs_names.astype(str)
    with tempfile.TemporaryDirectory() as folder:
        path, out, saved = (Path(folder) / name for name in ("cells.h5ad", "out.h5ad", "model"))
        adata.write_h5ad(path, compression="gzip")
        save_bundle(saved, bundle, card="")
        batches: list[dict] = []
        kept = ready_cells.embed_batches

        def keep(module, found, *, device):
            batches.extend(found)
            return kept(module, batches, device=device)

        ready_cells.embed_batches = keep  # the batches as they come
        cells = ready_cells.ready_cells(bundle, AnnDataSource(adata))
        for _ in ready_cells.given(bundle, cells, cells.positions, batch_size=given.batch_size):
            pass
        ready_cells.embed_batches = kept

        def alone() -> None:
            with torch.no_grad():
                for batch in batches:
                    bundle.model.encode(**batch)

        ways = {
            "the model alone": alone,
            "tl.embed, in memory": lambda: tl.embed(adata, bundle, batch_size=given.batch_size),
            "tl.embed, backed": lambda: tl.embed(ad.read_h5ad(path, "r"), bundle, batch_size=given.batch_size),
            "the command": lambda: embed_file(path, out, model=saved, batch_size=given.batch_size, force=True),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(given.repeats):
            for name, act in ways.items():
                found[name].append(measured(act))
    tokens = np.mean([length for batch in batches for length in batch["lengths"]])
    print(
        f"{given.cells:,} cells, {tokens:.0f} tokens each, {given.layers} layers x {given.width}, batches of "
        f"{given.batch_size}, {torch.get_num_threads()} threads, {given.repeats} repeats, torch {torch.__version__}"
    )
    for name, values in found.items():
        clock, cpu = (statistics.median(each) for each in zip(*values, strict=True))
        pairs = list(zip(found["the model alone"], values, strict=True))
        by_clock, by_cpu = (statistics.median(base[i] / own[i] for base, own in pairs) for i in (0, 1))
        print(
            f"{name:20} {clock:7.2f} s {cpu:7.2f} CPU s {given.cells / clock:8.1f} cells/s; of the model's rate "
            f"{by_clock:6.1%} by the clock, {by_cpu:6.1%} by CPU seconds"
        )


def memory(given: argparse.Namespace) -> None:
    for way in ("the command", "backed"):
        for num_cells in given.cells:
            with tempfile.TemporaryDirectory(dir=given.folder) as folder:
                path = Path(folder) / "cells.h5ad"
                subprocess.run([sys.executable, __file__, "write", str(path), str(num_cells)], check=True)
                size = path.stat().st_size
                done = subprocess.run(
                    [sys.executable, __file__, "peak", way, str(path)], check=True, capture_output=True, text=True
                )
                found = json.loads(done.stdout.strip().splitlines()[-1])
                sizes = [size, found["peak"], found["before"], 4 * found["width"] * num_cells]
                size, most, before, rows = (round(each / 2**20) for each in sizes)
                print(
                    f"{way:12} {num_cells:8,} cells, file of {size:,} MiB: peak {most:,} MiB, of which imports and "
                    f"model {before:,}; embeddings {rows:,}",
                    flush=True,
                )


def peak(way: str, path: Path) -> None:
    """Print the most memory that this process had; what was its parent's does not count."""
    bundle = model(1, 16, 64)
    saved = path.with_name("model")
    save_bundle(saved, bundle, card="")
    before = high_water()
    if way == "backed":
        tl.embed(ad.read_h5ad(path, "r"), bundle, batch_size=256)
    else:
        embed_file(path, path.with_name("out.h5ad"), model=saved, batch_size=256)
    print(json.dumps({"before": before, "peak": high_water(), "width": 16}))


def high_water() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(required=True)
    for name, act in (("rate", rate), ("memory", memory)):
        part = parts.add_parser(name)
        part.set_defaults(act=act)
        part.add_argument("--cells", type=int, **({"default": 512} if name == "rate" else {"nargs": "+"}))
    rates = parts.choices["rate"]
    for name, default in (("genes", 512), ("layers", 6), ("width", 256), ("batch-size", 64), ("repeats", 5)):
        rates.add_argument(f"--{name}", type=int, default=default)
    parts.choices["memory"].set_defaults(cells=[10_000, 50_000, 200_000])
    parts.choices["memory"].add_argument("--folder", default=None)
    for name, act, words in (
        ("write", lambda given: write_cells(Path(given.path), given.cells), ("path", "cells")),
        ("peak", lambda given: peak(given.way, Path(given.path)), ("way", "path")),
    ):
        part = parts.add_parser(name)
        part.set_defaults(act=act)
        for word in words:
            part.add_argument(word, type=int if word == "cells" else str)
    given = parser.parse_args()
    given.act(given)


if __name__ == "__main__":
    main()
