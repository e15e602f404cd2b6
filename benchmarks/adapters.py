"""LoRA beside full fine-tuning on real cells: macro F1 of the head on held-out cells, parameters trained, CPU seconds.

    python benchmarks/adapters.py --data ../shared/data/pbmc_3batch_counts.h5ad --seeds 3

A model of hidden 256 x 6 layers is pretrained briefly on the training cells, without labels; both ways begin with it,
see the same cells and hold out the same ones. The frozen base model, with embeddings computed once and again in each
epoch, stands beside them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from scmodelforge._console import configure_logging
from scmodelforge.config.given import GivenSettings
from scmodelforge.models._utils import count_parameters
from scmodelforge.workflows import frozen_cells
from scmodelforge.workflows.finetune import FinetuneOptions, finetune_settings
from scmodelforge.workflows.pretrain import start_training

WAYS = ("full", "lora", "frozen", "frozen, not kept")
LR = {"full": 3e-4, "lora": 3e-3, "frozen": 3e-3, "frozen, not kept": 3e-3}


def main() -> None:
    sys.path.pop(0)  # this folder, whose tokenizers.py peft would take for the package
    options = arguments()
    configure_logging()
    out = Path(tempfile.mkdtemp(prefix="adapters_"))
    print(f"data {options.data}, {vars(options)}, runs in {out}")
    pretrain(options, out / "base")
    rows: dict[str, list[dict[str, float]]] = {}
    for way in options.ways:
        rows[way] = [fine_tune(options, out, way, seed) for seed in range(options.seeds)]
        for row in rows[way]:
            print(f"{way:18s} {json.dumps(row)}", flush=True)
    for way, found in rows.items():
        f1, seconds = (np.array([row[name] for row in found]) for name in ("macro_f1", "cpu_seconds"))
        share = f1.mean() / np.mean([row["macro_f1"] for row in rows[options.ways[0]]])
        print(
            f"{way:18s} macro F1 {f1.mean():.4f} (sd {f1.std(ddof=1) if len(f1) > 1 else 0:.4f}, {share:.1%} of "
            f"{options.ways[0]}), {found[0]['trained']:,} of {found[0]['parameters']:,} parameters trained "
            f"({found[0]['trained'] / found[0]['parameters']:.2%}), {seconds.mean():.0f} CPU s"
        )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--label", default="cell_type")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pretrain-epochs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--max-genes", type=int, default=128)
    parser.add_argument("--hidden-dim", type=int, default=256)
    parser.add_argument("--num-layers", type=int, default=6)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    return parser.parse_args()


def shared(options: argparse.Namespace, run: Path, epochs: int, lr: float) -> dict[str, Any]:
    return {
        "data": {"paths": [options.data], "split": {"by": "cells", "validation_fraction": 0.3}, "num_workers": 0},
        "training": {
            "max_epochs": epochs, "batch_size": 32, "optimizer": {"lr": lr}, "precision": "32-true",
            "accelerator": "cpu", "scheduler": {"warmup_fraction": 0.1},
        },
        "output": {"run_dir": str(run), "tensorboard": False},
    }  # fmt: skip


def pretrain(options: argparse.Namespace, run: Path) -> None:
    raw = shared(options, run, options.pretrain_epochs, 5e-4)
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


def fine_tune(options: argparse.Namespace, out: Path, way: str, seed: int) -> dict[str, float]:
    run = out / f"{way.replace(', ', '_').replace(' ', '_')}_{seed}"
    kind = way.partition(",")[0]
    given = FinetuneOptions(
        base_model=str(out / "base"), data=(options.data,), task="cell_type_annotation", label=options.label,
        adaptation=kind, benchmarks=("cell_type_annotation",),
    )  # fmt: skip
    settings = finetune_settings(given)
    raw = dict(settings.values)
    for section, values in shared(options, run, options.epochs, LR[way]).items():
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
    return {"macro_f1": found["macro_f1_head"], **parameters(run, kind), "cpu_seconds": seconds}


def parameters(run: Path, kind: str) -> dict[str, int]:
    from scmodelforge.hub import load_bundle

    model: Any = load_bundle(run / "model").model
    whole = count_parameters(model, trainable_only=False)
    trained = count_parameters(model.head) if kind == "frozen" else count_parameters(model)
    return {"trained": trained, "parameters": whole}


if __name__ == "__main__":
    main()
