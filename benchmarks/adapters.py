"""LoRA beside full fine-tuning on real cells: macro F1 of the head on held-out cells, parameters trained, CPU seconds.

    pip install 'scmodelforge[peft]'
    OMP_NUM_THREADS=2 python benchmarks/adapters.py --data pbmc_3batch_counts.h5ad --choose-lr

A model of hidden 256 x 6 layers is pretrained briefly on the training cells, without labels; both ways begin with it,
see the same cells and hold out the same ones. The frozen base model, with embeddings computed once and again in each
epoch, stands beside them; that one says nothing new of cells, so it runs once, and as many steps.

Held-out cells choose nothing: each run is scored after its last epoch, without early stopping. With ``--choose-lr``
learning rates are tried by one run each on the training cells alone, of which 30 % are held out again, and the one with
the highest accuracy there is taken (of equal ones, with the higher macro F1); else they are those of ``LR``, chosen so.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scmodelforge._console import configure_logging
from scmodelforge.config.given import GivenSettings
from scmodelforge.models._utils import count_parameters
from scmodelforge.workflows import frozen_cells
from scmodelforge.workflows.finetune import FinetuneOptions, finetune_settings
from scmodelforge.workflows.pretrain import start_training
from scmodelforge.workflows.runfolder import RunFolder

WAYS = ("full", "lora", "frozen", "frozen, not kept")
LR = {"full": 3e-4, "lora": 3e-3, "frozen": 3e-3}
TRIED = {"full": (1e-4, 3e-4, 1e-3), "lora": (1e-3, 3e-3, 1e-2), "frozen": (1e-3, 3e-3, 1e-2)}
HELD_OUT = 0.3


def main() -> None:
    sys.path.pop(0)  # this folder, whose tokenizers.py peft would take for the package
    options = arguments()
    configure_logging()
    out = Path(tempfile.mkdtemp(prefix="adapters_"))
    print(f"{vars(options)}, runs in {out}")
    pretrain(options, out / "base")
    rates = {**LR, **(chosen_rates(options, out) if options.choose_lr else {})}
    rows: dict[str, list[dict[str, float]]] = {}
    for way in options.ways:
        seeds = 1 if way == "frozen, not kept" else options.seeds
        rows[way] = [
            fine_tune(options, out / name_of(way, seed), way, seed, rates[kind_of(way)]) for seed in range(seeds)
        ]
        for row in rows[way]:
            print(f"{way:18s} {json.dumps(row)}", flush=True)
    compare(rows, rates)
    if "lora" in rows:
        embeddings_differ(Path(options.data), out / "base", out / name_of("lora", 0))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--label", default="cell_type")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pretrain-epochs", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--max-genes", type=int, default=128)
    parser.add_argument("--hidden-dim", type=int, default=256)
    parser.add_argument("--num-layers", type=int, default=6)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--choose-lr", action="store_true", help="try learning rates on the training cells first")
    return parser.parse_args()


def name_of(way: str, seed: int) -> str:
    return f"{way.replace(', ', '_').replace(' ', '_')}_{seed}"


def kind_of(way: str) -> str:
    return way.partition(",")[0]


def shared(data: str, run: Path, epochs: int, lr: float) -> dict[str, Any]:
    """Return settings that all runs have; scored is the last epoch, so that held-out cells choose none."""
    return {
        "data": {"paths": [data], "split": {"by": "cells", "validation_fraction": HELD_OUT}, "num_workers": 0},
        "training": {
            "max_epochs": epochs, "batch_size": 32, "optimizer": {"lr": lr}, "precision": "32-true",
            "accelerator": "cpu", "scheduler": {"warmup_fraction": 0.1}, "early_stopping": None,
        },
        "output": {"run_dir": str(run), "tensorboard": False, "save_top_k": 0},
    }  # fmt: skip


def pretrain(options: argparse.Namespace, run: Path) -> None:
    raw = shared(options.data, run, options.pretrain_epochs, 5e-4)
    raw["data"]["gene_vocab"] = "from_data"
    raw["tokenizer"] = {"strategy": "rank_value", "max_genes": options.max_genes}
    raw["model"] = {
        "architecture": "transformer_encoder", "hidden_dim": options.hidden_dim,
        "num_layers": options.num_layers, "num_heads": 8,
        "max_seq_len": options.max_genes, "use_expression_values": False, "pooling": "mean",
    }  # fmt: skip
    began = time.process_time()
    start_training(GivenSettings(raw, Path("base.yaml")))
    print(f"base: {options.pretrain_epochs} epochs, {time.process_time() - began:.0f} CPU s", flush=True)


def chosen_rates(options: argparse.Namespace, out: Path) -> dict[str, float]:
    """Return the learning rate of each kind that does best on cells held out of the training cells."""
    import anndata as ad

    cells = ad.read_h5ad(options.data)
    cells[RunFolder.read(out / "base")[2].train].write_h5ad(out / "training_cells.h5ad")
    options = argparse.Namespace(**{**vars(options), "data": str(out / "training_cells.h5ad")})
    found = {}
    for kind in dict.fromkeys(map(kind_of, options.ways)):
        scores = {}
        for lr in TRIED[kind]:
            row = fine_tune(options, out / f"try_{kind}_{lr:g}", kind, 0, lr)
            scores[lr] = (row["accuracy"], row["macro_f1"])
            told = f"accuracy {row['accuracy']:.4f}, macro F1 {row['macro_f1']:.4f} ({row['cpu_seconds']:.0f} CPU s)"
            print(f"training cells alone: {kind}, learning rate {lr:g}: {told}", flush=True)
        found[kind] = max(scores, key=lambda lr: scores[lr])
    return found


def fine_tune(options: argparse.Namespace, run: Path, way: str, seed: int, lr: float) -> dict[str, float]:
    kind = kind_of(way)
    given = FinetuneOptions(
        base_model=str(run.parent / "base"), data=(options.data,), task="cell_type_annotation", label=options.label,
        adaptation=kind, benchmarks=("cell_type_annotation",),
    )  # fmt: skip
    settings = finetune_settings(given)
    raw = dict(settings.values)
    for section, values in shared(options.data, run, options.epochs, lr).items():
        raw[section] = {**raw.get(section, {}), **values}
    raw["training"]["seed"] = seed
    raw["eval"] = {**raw["eval"], "baselines": ["random"], "every_n_epochs": options.epochs}
    if kind == "lora":
        raw["finetune"]["lora"] = {"rank": 8}
    kept, began = frozen_cells.FrozenCells.on_fit_start, time.process_time()
    if way == "frozen, not kept":
        frozen_cells.FrozenCells.on_fit_start = lambda self, run: None  # type: ignore[method-assign]
    try:
        result = start_training(GivenSettings(raw, settings.path))
    finally:
        frozen_cells.FrozenCells.on_fit_start = kept  # type: ignore[method-assign]
    seconds = time.process_time() - began
    assert result is not None
    found = {record.metric: record.value for record in result.records if record.representation == "model"}
    scores = {"macro_f1": found["macro_f1_head"], "accuracy": found["accuracy_head"]}
    return {**scores, **parameters(run, kind), "cpu_seconds": seconds}


def parameters(run: Path, kind: str) -> dict[str, int]:
    from scmodelforge.hub import load_bundle

    model: Any = load_bundle(run / "model").model
    whole = count_parameters(model, trainable_only=False)
    trained = count_parameters(model.head) if kind == "frozen" else count_parameters(model)
    return {"trained": trained, "parameters": whole}


def compare(rows: dict[str, list[dict[str, float]]], rates: dict[str, float]) -> None:
    """Print means over the seeds, the share of the first way's macro F1, and what keeping embeddings saves."""
    first = next(iter(rows))
    for way, found in rows.items():
        f1, seconds = column(found, "macro_f1"), column(found, "cpu_seconds")
        share = f1.mean() / column(rows[first], "macro_f1").mean()
        print(
            f"{way:18s} learning rate {rates[kind_of(way)]:g}, macro F1 {f1.mean():.4f} "
            f"(sd {f1.std(ddof=1) if len(f1) > 1 else 0:.4f}, {share:.1%} of {first}), "
            f"accuracy {column(found, 'accuracy').mean():.4f}, "
            f"{found[0]['trained']:,} of {found[0]['parameters']:,} parameters trained "
            f"({found[0]['trained'] / found[0]['parameters']:.2%}), {seconds.mean():.0f} CPU s"
        )
    if {"frozen", "frozen, not kept"} <= rows.keys():
        once, again = (column(rows[way], "cpu_seconds").mean() for way in ("frozen", "frozen, not kept"))
        print(f"frozen: embeddings computed once take {again / once:.1f} times less than in each epoch")


def column(rows: Sequence[dict[str, float]], name: str) -> np.ndarray:
    return np.array([row[name] for row in rows])


def embeddings_differ(data: Path, base: Path, tuned: Path) -> None:
    """Print how far embeddings by the adapted model are from those by its base model, on held-out cells."""
    import anndata as ad

    from scmodelforge.tl import embed

    cells = ad.read_h5ad(data)[RunFolder.read(tuned)[2].validation].copy()
    for model, key in ((base, "base"), (tuned, "tuned")):
        embed(cells, str(model), key_added=key)
    before, after = cells.obsm["base"], cells.obsm["tuned"]
    far = np.linalg.norm(after - before, axis=1) / np.linalg.norm(before, axis=1)
    print(
        f"embeddings of {cells.n_obs} held-out cells: distance of LoRA's from the base model's, in lengths of the "
        f"latter, median {np.nanmedian(far):.3f}, least {np.nanmin(far):.3f}"
    )


if __name__ == "__main__":
    main()
