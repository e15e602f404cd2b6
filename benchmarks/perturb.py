"""In-silico perturbation: how fast passes of changed cells are, and what first-order effects cost and are worth.

``exact`` is compared with ``embed`` by tokens per second. All genes of some cells are deleted one by one, and as many
cells of the same lengths are embedded, with the same model in the same run, in turns. ``gradient`` is compared with
``exact`` on the same cells, by time for all genes and by the rank correlation of effects, in each cell and of the means
over cells. ``embedding times gradient``, which takes a token's derivative by its own embedding, is ranked beside it.

Models have fresh weights, made larger (``--spread``), so that genes matter for each other; ``ranks`` takes a trained
one, with ``--model``, cells with ``--data``, and as goal their most frequent ``--label``.

    python benchmarks/perturb.py speed --genes 512 --layers 6 --width 256
    python benchmarks/perturb.py ranks --genes 512 --layers 6 --width 256
    python benchmarks/perturb.py ranks --model runs/pbmc --data pbmc.h5ad --cells 30
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from embed import counts, model, names
from scipy.stats import spearmanr

from scmodelforge import tl
from scmodelforge.data.sources.in_memory import AnnDataSource
from scmodelforge.data.types import TokenBlock
from scmodelforge.eval.screens import derivatives
from scmodelforge.hub.bundle import Bundle
from scmodelforge.hub.load import load_model
from scmodelforge.workflows import perturb
from scmodelforge.workflows.perturbing import Perturbing
from scmodelforge.workflows.ready_cells import given, ready_cells


def made(given_: argparse.Namespace) -> tuple[Bundle, ad.AnnData]:
    bundle = model(given_.layers, given_.width, given_.genes)
    torch.manual_seed(1)
    for weight in bundle.model.parameters():
        if weight.ndim == 2 and given_.spread:
            torch.nn.init.normal_(weight, std=given_.spread / weight.shape[1] ** 0.5)
    if given_.pooling == "mean":
        from scmodelforge.models.components.pooling import get_pooling

        bundle.model.pooling, bundle.model._pool = "mean", get_pooling("mean")
    adata = ad.AnnData(counts(given_.cells, seed=1), var=pd.DataFrame(index=names()))
    adata.obs_names = adata.obs_names.astype(str)
    adata.obs["half"] = np.where(np.arange(given_.cells) < max(2, given_.cells // 4), "goal", "rest")
    return bundle, adata


def clock(act: Callable[[], Any]) -> tuple[float, float, Any]:
    start, cpu = time.perf_counter(), time.process_time()
    found = act()
    return time.perf_counter() - start, time.process_time() - cpu, found


def screened(bundle: Bundle, adata: ad.AnnData, method: str, **more: Any) -> list[Any]:
    """Return the effects in each cell, as a screen has them before it makes a table."""
    cells = ready_cells(bundle, AnnDataSource(adata))
    asked = Perturbing(genes="all", method=method, random_genes=0)
    screen = perturb._screen(bundle, cells, asked)
    return list(perturb._effects(bundle, cells, screen, asked, cells.positions, more.get("goal"), 64))


def speed(given_: argparse.Namespace) -> None:
    bundle, adata = made(given_)
    lengths: list[int] = []
    kept = perturb.steady_batch

    def counting(block: TokenBlock, **options: Any) -> Any:
        lengths.extend(block.lengths)
        return kept(block, **options)

    few = adata[: given_.cells].copy()
    perturb.steady_batch = counting
    screened(bundle, few, "exact")
    perturb.steady_batch = kept
    copies = np.array(lengths)
    # the same cells over and over, as many as there are copies: their lengths are those of the copies but for one token
    rows = np.arange(len(copies)) % few.n_obs
    many = ad.AnnData(few.X[rows], pd.DataFrame(index=[str(number) for number in range(len(rows))]), few.var)
    cells = ready_cells(bundle, AnnDataSource(many))
    ways = {
        "embed": lambda: sum(len(rows) for rows, _ in given(bundle, cells, cells.positions, batch_size=64)),
        "exact": lambda: screened(bundle, few, "exact"),
        "gradient": lambda: screened(bundle, few, "gradient"),
    }
    settings(given_, f"{len(copies):,} copies of {few.n_obs} cells, {copies.mean():.0f} tokens each")
    own = per_cell_tokens(bundle, few)
    tokens = {"embed": np.resize(own, many.n_obs).sum(), "exact": copies.sum(), "gradient": own.sum()}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(given_.repeats):
        for name, act in ways.items():
            found[name].append(clock(act)[:2])
    for name, values in found.items():
        wall, cpu = (statistics.median(each) for each in zip(*values, strict=True))
        print(f"{name:9} {wall:8.2f} s {cpu:8.2f} CPU s {tokens[name] / wall:9,.0f} tokens/s by the clock")
    pairs = list(zip(found["embed"], found["exact"], found["gradient"], strict=True))
    for number, by in enumerate(("the clock", "CPU seconds")):
        share = [tokens["exact"] / e[number] / (tokens["embed"] / b[number]) for b, e, _ in pairs]
        faster = [e[number] / g[number] for _, e, g in pairs]
        print(
            f"by {by}: exact has {spread(share, '.1%')} of embed's tokens/s; gradient {spread(faster, '.1f')} x faster"
        )


def per_cell_tokens(bundle: Bundle, adata: ad.AnnData) -> np.ndarray:
    cells = ready_cells(bundle, AnnDataSource(adata))
    return np.concatenate([block.lengths for block in perturb._blocks(bundle, cells, cells.positions, 64)])


def ranks(given_: argparse.Namespace) -> None:
    if given_.model:
        bundle, whole = load_model(given_.model), ad.read_h5ad(given_.data)
        is_goal = (whole.obs[given_.label] == whole.obs[given_.label].value_counts().index[0]).to_numpy()
        adata = whole[np.flatnonzero(~is_goal)[:: (~is_goal).sum() // given_.cells][: given_.cells]].copy()
    else:
        bundle, whole = made(given_)
        adata, is_goal = whole, (whole.obs["half"] == "goal").to_numpy()
    goal = tl.embed(whole, bundle, copy=True).obsm["X_scmodelforge"][is_goal].mean(axis=0)
    settings(given_, f"{adata.n_obs} cells")
    weighted = derivatives.deletion_changes

    def embedding_times_gradient(found: Any, left: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        return -(found[1] * tracked[-1]).sum(dim=-1)[:, left.shape[1] - up.shape[1] :]

    tracked: list[torch.Tensor] = []
    track = derivatives.TrackedModel._track

    def keeping(self: Any, *args: Any) -> Any:
        result = track(self, *args)
        tracked.append(result[0][0].detach())
        return result

    exact = screened(bundle, adata, "exact", goal=goal)
    for name, way in (("gradient", weighted), ("embedding times gradient", embedding_times_gradient)):
        derivatives.deletion_changes, derivatives.TrackedModel._track = way, keeping
        first_order = screened(bundle, adata, "gradient", goal=goal)
        derivatives.deletion_changes, derivatives.TrackedModel._track = weighted, track
        for measure in ("shift", "goal_shift"):
            pairs = [(getattr(a, measure), getattr(b, measure)) for a, b in zip(exact, first_order, strict=True)]
            own = [spearmanr(*pair).statistic for pair in pairs]
            means = [gene_means(each, measure) for each in (exact, first_order)]
            is_seen = np.isfinite(means[0])
            over = spearmanr(means[0][is_seen], means[1][is_seen]).statistic
            print(
                f"{name:25} {measure:10} Spearman with exact: in a cell {spread(own, '.3f')}; "
                f"of means of {is_seen.sum():,} genes over cells {over:.3f}"
            )


def gene_means(effects: list[Any], measure: str) -> np.ndarray:
    """Return the mean effect of each gene over at least three cells, NaN of others."""
    numbers, values = (np.concatenate([getattr(each, name) for each in effects]) for name in ("tested", measure))
    count, total = np.bincount(numbers), np.bincount(numbers, weights=values)
    return np.where(count >= 3, total / np.maximum(count, 1), np.nan)


def settings(given_: argparse.Namespace, words: str) -> None:
    if getattr(given_, "model", None):
        print(f"{words} of {given_.data}, model {given_.model}, goal: the most frequent {given_.label}")
        return
    print(
        f"{words}; {given_.layers} layers x {given_.width}, at most {given_.genes} tokens, pooling {given_.pooling}, "
        f"weights x {given_.spread}, {torch.get_num_threads()} threads, {given_.repeats} repeats, "
        f"torch {torch.__version__}"
    )


def spread(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(required=True)
    for name, act, cells in (("speed", speed, 2), ("ranks", ranks, 4)):
        part = parts.add_parser(name)
        part.set_defaults(act=act)
        for option, default in (("cells", cells), ("genes", 512), ("layers", 6), ("width", 256), ("repeats", 3)):
            part.add_argument(f"--{option}", type=int, default=default)
        part.add_argument("--pooling", choices=["cls", "mean"], default="mean")
        part.add_argument("--spread", type=float, default=1.0)
    for option, default in (("model", None), ("data", None), ("label", "cell_type")):
        parts.choices["ranks"].add_argument(f"--{option}", default=default)
    given_ = parser.parse_args()
    given_.act(given_)


if __name__ == "__main__":
    main()
