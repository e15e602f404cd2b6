"""What predicts connectivity without a neural model of genes: every baseline, on held-out regions.

For every strategy of splitting regions and every seed the folds hold each region out once. Printed is the mean over
folds and seeds of the Pearson r over pairs of two held-out regions, with the standard deviation over them, and the mean
squared error; then the difference of each baseline to Kronecker ridge on genes, and to Kronecker ridge on coordinates,
on the same folds, with the interval of Nadeau & Bengio. Rows marked x know coordinates. Cross pairs (one region of
training) stand apart. ``--null`` adds the row of smooth random maps for expression: what r means nothing.

    OMP_NUM_THREADS=1 python benchmarks/connectome_baselines.py shared/data/connectome/schaefer114.npz --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import sklearn

from scmodelforge.connectome import (
    RegionPairDataset,
    RegionSplit,
    connectivity_metrics,
    get_baseline,
    list_baselines,
    null_expression,
    paired_difference,
    read_regions,
    region_folds,
)

ORDER = ("mean", "cge", "exponential_decay", "gaussian_kernel", "cge_distance", "ridge", "bilinear", "pls")
REFERENCES = ("kronecker_ridge", "kronecker_ridge_coords")
NULL = "kronecker_ridge on null maps"


def scores_of(name: str, data: RegionPairDataset, split: RegionSplit, seed: int) -> dict[str, float]:
    """Return the scores of one baseline on one fold."""
    began = time.process_time()
    if name == NULL:
        data, name = null_expression(data, seed=seed), "kronecker_ridge"
    fitted = get_baseline(name, seed=seed, strategy=split.strategy).fit(data, split.train)
    inner = connectivity_metrics(data.targets(split.inner), fitted.predict(data, split.inner))
    cross = connectivity_metrics(data.targets(split.cross), fitted.predict(data, split.cross))
    return {
        "r": inner["pearson_r"],
        "spearman": inner["spearman_r"],
        "mse": inner["mse"],
        "cross_r": cross["pearson_r"],
        "share": len(split.test_regions) / data.num_regions,
        "seconds": time.process_time() - began,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--target", default="fc")
    parser.add_argument("--strategies", nargs="+", default=["random", "homotopic", "spatial", "network"])
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--baselines", nargs="+", default=None, help="all, if left out")
    parser.add_argument("--null", action="store_true")
    parser.add_argument("--out", type=Path, default=None, help="file for the scores of every fold, JSON lines")
    given = parser.parse_args()
    data = read_regions(given.path, given.target).pairs()
    names = given.baselines or sorted(
        list_baselines(), key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name)
    )
    names = [*names, NULL] if given.null else names
    print(
        f"{given.path.name}, {given.target}: {data.num_regions} regions, {data.num_genes} genes; {given.folds} folds, "
        f"seeds {given.seeds}; scikit-learn {sklearn.__version__}"
    )
    for strategy in given.strategies:
        print_table(strategy, names, run(strategy, names, data, given))


def run(
    strategy: str, names: Iterable[str], data: RegionPairDataset, given: argparse.Namespace
) -> dict[str, list[dict[str, float]]]:
    """Return the scores of each baseline on every fold of every seed."""
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    # one network a fold: there is nothing to draw
    for seed in given.seeds[:1] if strategy == "network" else given.seeds:
        for split in region_folds(data, given.folds, strategy, seed):
            for name in names:
                scores = scores_of(name, data, split, seed)
                found[name].append(scores)
                if given.out is not None:
                    row = {"strategy": strategy, "seed": seed, "fold": split.name, "baseline": name, **scores}
                    with given.out.open("a") as file:
                        file.write(json.dumps(row) + "\n")
    return found


def print_table(strategy: str, names: Iterable[str], found: dict[str, list[dict[str, float]]]) -> None:
    print(f"\n{strategy}: {len(next(iter(found.values())))} folds")
    against = [name for name in REFERENCES if name in found]
    print(f"{'':30} {'r':>12} {'spearman':>9} {'MSE':>7} {'cross r':>8} {'CPU s':>6}", end="")
    print("".join(f"  {'r - ' + name:>32}" for name in against))
    for name in names:
        table = {key: np.array([scores[key] for scores in found[name]]) for key in found[name][0]}
        knows_places = name != NULL and get_baseline(name).inputs in ("coords", "both")
        print(f"{'x' if knows_places else ' '} {name:28}", end="")
        print(f"{table['r'].mean():6.3f} +-{table['r'].std(ddof=1):.2f} {table['spearman'].mean():9.3f} ", end="")
        print(f"{table['mse'].mean():7.4f} {table['cross_r'].mean():8.3f} {table['seconds'].mean():6.1f}", end="")
        for other in against:
            reference = np.array([scores["r"] for scores in found[other]])
            gap = paired_difference(table["r"], reference, test_share=table["share"].mean())
            words = f"{gap.mean:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}] {gap.num_better}/{gap.num_folds}"
            print(f"  {'' if other == name else words:>32}", end="")
        print(flush=True)


if __name__ == "__main__":
    main()
