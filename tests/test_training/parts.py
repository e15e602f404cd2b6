"""A small model with two loss terms, a loader with the interface of CellLoader, and a run made of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from scmodelforge.config.schema import OptimizerConfig, SchedulerConfig, TrainingConfig
from scmodelforge.data.draws import generator
from scmodelforge.models.protocol import ModelOutput
from scmodelforge.training._snapshot import Snapshot
from scmodelforge.training.checkpoint import Checkpoints
from scmodelforge.training.devices import set_up
from scmodelforge.training.ema import Ema
from scmodelforge.training.loop import Run
from scmodelforge.training.meter import SPEED
from scmodelforge.training.metrics import MetricsLog
from scmodelforge.training.optim import build_optimizer, build_scheduler
from scmodelforge.training.setup import make_fabric, seed_everything

NUM_CELLS, NUM_TOKENS, NUM_GENES, WIDTH = 20, 6, 12, 8
GLOBAL_BATCH = 8
WHOLE = ((tuple(range(GLOBAL_BATCH)),),)
#: Two of eight cells, none, one, and five.
UNEQUAL = ((tuple(range(2)), (), (2,), tuple(range(3, 8))),)


class TwoTermModel(nn.Module):
    """Predicts hidden genes (few targets) and values (many targets); its gene head is tied to the embedding."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(NUM_GENES, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.hidden = nn.Linear(WIDTH, WIDTH)
        self.dropout = nn.Dropout(dropout)
        self.genes = nn.Linear(WIDTH, NUM_GENES, bias=False)
        self.genes.weight = self.embedding.weight
        self.value = nn.Linear(WIDTH, 1)
        self.calls: list[dict] = []

    def forward(self, input_ids, labels=None, truth=None, wanted=None, return_logits=True, **others):
        self.calls.append({"return_logits": return_logits, **others})
        embedded = self.norm(self.embedding(input_ids))
        hidden = self.dropout(torch.tanh(self.hidden(embedded + embedded.mean(1, keepdim=True))))
        genes = F.cross_entropy(self.genes(hidden).flatten(0, 1), labels.flatten(), ignore_index=-100)
        values = F.mse_loss(self.value(hidden)[wanted].squeeze(-1), truth[wanted])
        terms = {"genes": genes, "values": 0.5 * values}
        return ModelOutput(loss=terms["genes"] + terms["values"], loss_terms=terms)


def cells(rows) -> dict:
    """Return the batch of some cells: cell i has i % 4 hidden genes, and values are asked for in every other."""
    draw = np.random.default_rng(0)
    ids = draw.integers(0, NUM_GENES, (NUM_CELLS, NUM_TOKENS))
    truth = draw.normal(size=(NUM_CELLS, NUM_TOKENS)).astype(np.float32)
    number, token = np.arange(NUM_CELLS)[:, None], np.arange(NUM_TOKENS)[None]
    labels = np.where(token < number % 4, ids, -100)
    wanted = (number % 2 == 0) & (token < 5)
    rows = np.asarray(rows, dtype=np.int64)
    batch = {"input_ids": ids, "labels": labels, "truth": truth, "wanted": wanted}
    tensors = {name: torch.from_numpy(values[rows]) for name, values in batch.items()}
    counts = {"genes": int((labels[rows] != -100).sum()), "values": int(wanted[rows].sum())}
    return {**tensors, "cell_index": rows, "num_targets": counts}


class StandInLoader:
    """Twenty cells in batches of eight, shuffled in each pass; the last batch of a pass is smaller.

    ``split`` says, for each process and each of its micro-batches, which places of a global batch it gets.
    """

    def __init__(self, split=WHOLE, rank: int = 0, *, shuffle: bool = True) -> None:
        self.split, self.shuffle = split[rank], shuffle
        self.num_cells, self.steps_per_pass, self.wait_seconds = NUM_CELLS, -(-NUM_CELLS // GLOBAL_BATCH), 0.0
        self.consumed = 0
        self.is_closed = False

    def __iter__(self):
        step = self.consumed
        while True:
            yield self.batch(step)
            step += 1

    def one_pass(self):
        yield from map(self.batch, range(self.steps_per_pass))

    def batch(self, step: int) -> list[dict]:
        data_pass, number = divmod(step, self.steps_per_pass)
        order = np.arange(NUM_CELLS)
        if self.shuffle:
            order = generator(0, "order", data_pass).permutation(order)
        rows = order[number * GLOBAL_BATCH :][:GLOBAL_BATCH]
        return [cells([rows[place] for place in places if place < len(rows)]) for places in self.split]

    def mark_consumed(self) -> None:
        self.consumed += 1

    def state_dict(self) -> dict:
        return {"consumed": self.consumed}

    def load_state_dict(self, state: dict) -> None:
        self.consumed = state["consumed"]

    def close(self) -> None:
        self.is_closed = True


class Recorder:
    """A reporter that keeps what it is shown."""

    def __init__(self) -> None:
        self.shown: list = []
        self.is_closed = False

    def update(self, status) -> None:
        self.shown.append(status)

    def close(self) -> None:
        self.is_closed = True


def write_model(folder: Path, snapshot: Snapshot) -> None:
    folder.mkdir(parents=True)
    save_file(snapshot.weights, str(folder / "model.safetensors"))


def settings(**changes) -> TrainingConfig:
    defaults = {
        "max_epochs": 3,
        "accelerator": "cpu",
        "precision": "32-true",
        "log_every_n_steps": 1,
        "optimizer": OptimizerConfig(lr=1e-2),
        "scheduler": SchedulerConfig(warmup_steps=2),
    }
    return TrainingConfig(**{**defaults, **changes})


def make_run(folder: Path | None = None, *, config=None, model=None, fabric=None, split=WHOLE, dropout=0.0, **options):
    """Return a run of the small model (or of what ``model()`` gives); with a folder it has metrics and checkpoints."""
    config = config or settings()
    fabric = fabric or make_fabric(config)
    seed_everything(config.seed)
    loader = options.pop("train_loader", None) or StandInLoader(split, fabric.global_rank)
    top_k, config_hash = options.pop("save_top_k", 1), options.pop("config_hash", "a" * 64)
    objective, optimizer = set_up(
        fabric, model or (lambda: TwoTermModel(dropout)), lambda made: build_optimizer(made, config.optimizer)
    )
    epoch = config.steps_per_epoch or loader.steps_per_pass
    total = config.max_epochs * epoch
    if folder is not None:
        options["metrics"] = MetricsLog(folder, tensorboard=False)
        options["checkpoints"] = Checkpoints(
            folder / "checkpoints", save_top_k=top_k, save_model=write_model, config_hash=config_hash
        )
    options.setdefault("ema", None if config.ema is None else Ema(config.ema))
    options.setdefault("val_loader", StandInLoader(split, fabric.global_rank, shuffle=False))
    return Run(
        fabric=fabric,
        objective=objective,
        optimizer=optimizer,
        scheduler=build_scheduler(optimizer, config.scheduler, total, steps_per_epoch=epoch),
        train_loader=loader,
        config=config,
        **options,
    )


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def curve(folder: Path) -> list[dict]:
    """Return the records without the figures that are times."""
    return [{name: value for name, value in record.items() if name not in SPEED} for record in records(folder)]


def weights(run: Run) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in run.model.named_parameters()}


class StopAfter:
    """A callback that asks for a stop after some step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, run) -> None:
        run.stop_requested = run.progress.step == self.step
