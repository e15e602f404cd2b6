"""One training run: the parts made of its settings, trained, exported and evaluated."""

from __future__ import annotations

import logging
import shlex
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scmodelforge._errors import Interrupted, RunError
from scmodelforge.config.guard_sections import known_batch_size
from scmodelforge.config.schema import RunConfig
from scmodelforge.data.loader import CellLoader
from scmodelforge.data.preprocess import Preprocessor
from scmodelforge.data.splits import CellSplit
from scmodelforge.eval.base import Record
from scmodelforge.eval.callback import EvalCallback
from scmodelforge.eval.harness import MODEL, skip_notes
from scmodelforge.eval.records import append_records
from scmodelforge.eval.tables import Tables, about_samples, terminal_tables
from scmodelforge.finetuning.base import Task
from scmodelforge.hub.bundle import Bundle, build_model, load_parts, save_bundle
from scmodelforge.models._utils import count_parameters
from scmodelforge.training._files import write_text
from scmodelforge.training._fsdp import build_for, shards
from scmodelforge.training._launch import one_line_if_lost, part_ways
from scmodelforge.training._loaders import make_loader
from scmodelforge.training._sharded import settle
from scmodelforge.training._snapshot import Snapshot
from scmodelforge.training._tensors import load_weights
from scmodelforge.training._waiting import others_waiting
from scmodelforge.training.batch_records import BatchRecords
from scmodelforge.training.checkpoint import Checkpoints
from scmodelforge.training.devices import set_up
from scmodelforge.training.ema import Ema, averaged
from scmodelforge.training.loop import Progress, Run, fit
from scmodelforge.training.metrics import MetricsLog
from scmodelforge.training.optim import build_optimizer, build_scheduler
from scmodelforge.training.progress import terminal_reporter
from scmodelforge.training.recipe import recipe_callbacks
from scmodelforge.training.setup import seed_everything
from scmodelforge.workflows.before_training import what_untrained_is
from scmodelforge.workflows.best_checkpoint import checkpoint_scores
from scmodelforge.workflows.card import model_card
from scmodelforge.workflows.cell_labels import labels_of
from scmodelforge.workflows.choice import choice_notes, chosen_on
from scmodelforge.workflows.evaluation_sets import run_evaluator
from scmodelforge.workflows.evaluation_splits import write_splits
from scmodelforge.workflows.evaluator import Evaluator
from scmodelforge.workflows.export import export_best
from scmodelforge.workflows.fine_tuning_facts import fine_tuning_facts, next_command
from scmodelforge.workflows.frozen_cells import FrozenCells, team_of
from scmodelforge.workflows.label_predictions import label_head
from scmodelforge.workflows.objective import chosen_objective
from scmodelforge.workflows.perturbation_scores import PredictionScores, of_predictions
from scmodelforge.workflows.prepare import PreparedData
from scmodelforge.workflows.provenance import data_facts
from scmodelforge.workflows.replay import cell_facts
from scmodelforge.workflows.runfolder import RunFolder
from scmodelforge.workflows.task_scores import FinishedRun
from scmodelforge.workflows.trained_cells import trained_cells_notes
from scmodelforge.workflows.views import CellViews, ViewFolder

__all__ = ["TrainResult", "TrainingRun"]

_log = logging.getLogger(__name__)


@dataclass
class TrainResult:
    """What a finished run leaves.

    Attributes
    ----------
    folder
        The run's folder.
    records
        Evaluation of the exported model and its baselines.
    views
        The held-out cells as the model and PCA see them, if they have labels.
    table
        Headings and rows of the metrics.
    notes
        Further lines for the user.
    next
        The command that uses the model.
    """

    folder: RunFolder
    records: list[Record]
    views: CellViews | None
    table: Tables
    notes: list[str] = field(default_factory=list)
    next: str = "embed YOUR.h5ad embedded.h5ad"

    def closing_lines(self) -> list[str]:
        """Return where the results lie and the next command to type."""
        lines = [*self.notes, f"model:   {self.folder.model}"]
        return [
            *lines,
            f"next:    scmodelforge {self.next} --model {shlex.quote(str(self.folder.root))}",
        ]


class TrainingRun:
    """One run: the parts made of its settings, and what happens with them."""

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        data: PreparedData,
        fabric: Any,
        fingerprint: dict[str, Any],
        *,
        task: Task | None = None,
    ) -> None:
        self.config, self.folder, self.data, self.fabric, self.task = config, folder, data, fabric, task
        self.labels = {**_training_labels(config, data), **({} if task is None else task.facts())}
        self._views = ViewFolder(folder.views, seed=config.eval.seed)
        fresh = build_for(fabric, self._fresh_model)
        self._num_parameters = count_parameters(fresh)
        self.fingerprint = {**fingerprint, **fine_tuning_facts(task, config, fresh)}
        self.objective_name, self.objective = chosen_objective(config, data)
        self._frozen = None if task is None or not task.embeds_once() else FrozenCells(config, data, self.objective)
        # Made before the first step: a benchmark that cannot run must stop the run now, not at its end.
        self.evaluator: Evaluator | None = None
        predicting, others = of_predictions(config.eval.benchmarks)
        self.predictions = PredictionScores(config, data, predicting) if predicting else None
        # On every process: each embeds a part of the cells, though the first alone scores them.
        if others:
            self.evaluator = run_evaluator(
                config.model_copy(update={"eval": config.eval.model_copy(update={"benchmarks": others})}),
                data,
                untrained=self._fresh_model,
                head_of=lambda model: label_head(model, config.model, self.labels),
            )
            if shards(fabric):
                self.evaluator.require_embeddings_alone("with strategy fsdp no device has it")
            if config.output.best_metric.startswith("eval/"):
                self.evaluator.check_metric(config.output.best_metric)

    def facts(self) -> dict[str, Any]:
        """Return what ``run.json`` says of the model and where it is trained."""
        return {
            "num_parameters": self._num_parameters,
            **{name: self.fingerprint[name] for name in ("fine_tuning",) if name in self.fingerprint},
            "objective": self.objective_name,
            "device": str(self.fabric.device),
            "processes": self.fabric.world_size,
            "precision": self.fabric._precision.precision,
            **data_facts(self.config, self.data),
        }

    def execute(self, *, checkpoint: Path | None) -> TrainResult | None:
        """Train (from a checkpoint, if given), export the best model and evaluate it."""
        run, checkpoints = self.assemble()
        run.guards.records = BatchRecords(self.folder.root, partial(cell_facts, self.data.source))
        evaluation = EvalCallback(
            self._evaluate_now,
            every_n_epochs=self.config.eval.every_n_epochs,
            every_n_steps=self.config.eval.every_n_steps,
            max_epochs=self.config.training.max_epochs,
            results=self.folder.results,
        )
        callbacks = recipe_callbacks(self.config.training, [evaluation] if self.evaluator is not None else [])
        callbacks += [] if self._frozen is None else [self._frozen]
        assert run.metrics is not None
        if checkpoint is not None:
            checkpoints.load(run, checkpoint, callbacks)
            if self.fabric.is_global_zero:
                run.metrics.truncate(run.progress.step)
                evaluation.truncate(run.progress.step)
                self._views.truncate(run.progress.step)
            is_finished = run.progress.step >= run.total_steps
            what = "the run is finished: nothing is left to train" if is_finished else "continuing"
            _log.info(f"{what} after step {run.progress.step:,} ({checkpoint})")
        self._announce(run)
        if self.fabric.is_global_zero and self.evaluator is not None:
            write_splits(self.folder.root / "splits", self.evaluator)
        try:
            with one_line_if_lost(self.fabric):
                fit(run, callbacks)
                why = self._export(run, checkpoints)
                part_ways(self.fabric)
        except Interrupted as stop:
            if checkpoints.last is None and self.fabric.is_global_zero:  # nothing to go on from
                raise
            msg = f"{stop}\ncontinue with: scmodelforge train --resume {shlex.quote(str(self.folder.root))}"
            raise Interrupted(msg) from stop
        except RunError as broken:
            config = shlex.quote(str(self.folder.root / "config.yaml"))
            resume = f"scmodelforge train --resume {shlex.quote(str(self.folder.root))}"
            may = "training.batch_size, training.gradient_accumulation and training.guards may be changed"
            msg = f"{broken}\ngo on from the last checkpoint, before which {may} in {config}: {resume}"
            raise RunError(msg) from broken
        finally:
            run.train_loader.close()
            run.metrics.close()
            self.data.source.close()
        if not self.fabric.is_global_zero:
            return None
        result = self._finish(why)
        self.data.source.close()
        return result

    def assemble(self) -> tuple[Run, Checkpoints]:
        """Return the run, ready for its first step, and its checkpoints; nothing is written."""
        config = self.config.training
        seed_everything(config.seed)
        steps = config.steps_per_epoch
        loader = self._loader(self.data.split.train, shuffle=True)
        total_steps = config.max_epochs * (steps or loader.steps_per_pass)
        objective, optimizer = set_up(
            self.fabric,
            self._fresh_model,
            lambda model: build_optimizer(model, config.optimizer),
            compiles=config.compile,
        )
        scheduler = build_scheduler(
            optimizer, config.scheduler, total_steps, steps_per_epoch=steps or loader.steps_per_pass
        )
        has_validation = len(self.data.split.validation) > 0
        checkpoints = Checkpoints(
            self.folder.checkpoints,
            save_top_k=self.config.output.save_top_k,
            save_model=self._save_model,
            config_hash=self.fingerprint["config_hash"],
            scores=checkpoint_scores(self.config.output.best_metric, self.folder.results),
            follows_evaluation=self.config.output.best_metric.startswith("eval/"),
        )
        run = Run(
            fabric=self.fabric,
            objective=objective,
            optimizer=optimizer,
            scheduler=scheduler,
            train_loader=loader,
            val_loader=self._loader(self.data.split.validation, shuffle=False) if has_validation else None,
            config=config,
            save_every_n_steps=self.config.output.save_every_n_steps,
            metrics=self._metrics(),
            checkpoints=checkpoints,
            reporter=terminal_reporter(),
            ema=None if config.ema is None else Ema(config.ema),
        )
        self._run = run
        return run, checkpoints

    def _fresh_model(self) -> nn.Module:
        """Return the model with the run's first weights, whatever was drawn before; the drawing state is kept."""
        with torch.random.fork_rng():
            torch.manual_seed(self.config.training.seed)
            if self.task is not None:
                return self.task.fresh(self.config.model)
            return build_model(self.config.model, self.data.tokenizer)

    def _loader(self, positions: Any, *, shuffle: bool) -> CellLoader:
        config = self.config.training
        source, preprocess = self.data.ready()
        return make_loader(
            source,
            self.data.tokenizer,
            preprocess,
            positions,
            self.config.data,
            shuffle=shuffle,
            batch_size=known_batch_size(config),
            seed=config.seed,
            collate=self._frozen or self.objective,
            rank=self.fabric.global_rank,
            world_size=self.fabric.world_size,
            num_micro_batches=config.gradient_accumulation if shuffle else 1,
        )

    def _metrics(self) -> MetricsLog:
        output = self.config.output
        return MetricsLog(
            self.folder.root,
            tensorboard=output.tensorboard,
            log_dir=self.folder.logs,
            wandb=output.wandb,
            settings=self.config.to_dict(),
        )

    def _bundle(self, progress: Progress) -> Bundle:
        return Bundle(
            model=self._run.model,
            model_config=self.config.model,
            tokenizer=self.data.tokenizer,
            vocab=self.data.vocab,
            preprocessor=Preprocessor(self.config.data.preprocessing),
            objective=self.objective_name,
            labels=self.labels,
            fingerprint={**self.fingerprint, "step": progress.step, "epoch": progress.epoch},
            plugins=self.config.plugins,
            trained_cells=self.data.trained_cells,
        )

    def _save_model(self, path: Path, snapshot: Snapshot) -> None:
        bundle = self._bundle(snapshot.progress)
        save_bundle(path, bundle, card=model_card(bundle), weights=snapshot.weights)

    def _evaluate_now(self, run: Run) -> list[Record]:
        """Evaluate the model as it is: every device embeds a part of the cells, the first one scores them."""
        assert self.evaluator is not None
        records: list[Record] = []
        with averaged(run):  # at the end of an epoch they are in place already
            self._embed(run)
            with others_waiting(self.fabric):
                if self.fabric.is_global_zero:
                    records = self.evaluator.score(f"{self.fingerprint['config_hash'][:12]}@{run.progress.step}")
                    self._views.keep(self.evaluator.seen(), step=run.progress.step)
        return records

    def _embed(self, run: Run) -> None:
        assert self.evaluator is not None
        self.evaluator.embed(
            run.model, device=self.fabric.device, autocast=self.fabric.autocast, team=team_of(self.fabric)
        )
        settle(run.model)

    def _announce(self, run: Run) -> None:
        split: CellSplit = self.data.split
        model = self.config.model
        _log.info(
            f"{model.architecture}: {count_parameters(run.model):,} parameters, {len(self.data.vocab):,} tokens, "
            f"objective {self.objective_name}"
        )
        _log.info(
            f"{len(split.train):,} training cells, {len(split.validation):,} held out; "
            f"{run.total_steps:,} steps on {self.fabric.world_size} x {self.fabric.device}, "
            f"{self.fabric._precision.precision}"
        )

    def _export(self, run: Run, checkpoints: Checkpoints) -> str:
        """Export the best model and have all processes embed the cells with it; return why it is the best.

        It takes the place of the run's, of which a process may hold a share only.
        """
        why = ""
        with others_waiting(self.fabric):
            if self.fabric.is_global_zero:
                metric = self.config.output.best_metric if self.config.output.save_top_k else None
                why = export_best(self.folder, checkpoints, metric=metric)
        if self.evaluator is not None:
            settle(run.model)
            load_weights(run.model, self.folder.model / "model.safetensors")
            self._embed(run)
        self.fabric.barrier()
        return why

    def _finish(self, why: str) -> TrainResult:
        """Score the exported model, on the first process."""
        parts = load_parts(self.folder.model, trust_plugins=True)
        bundle = Bundle(model=self._run.model, **vars(parts))
        notes = [f"exported: step {bundle.fingerprint['step']:,} ({why})"]
        records: list[Record] = []
        views = None
        if self.evaluator is not None:
            records = self.evaluator.score(bundle.model_id)
            views = self.evaluator.views()
            self._views.keep(self.evaluator.seen(), step=None)
            self._keep_records(records, bundle.fingerprint)
            notes += [
                *trained_cells_notes(self.data),
                *about_samples(records),
                *skip_notes(records),
                *what_untrained_is(self.config, records),
                *([] if self.task is None else self.task.notes(records)),
            ]
        if self.task is not None and not shards(self.fabric):
            records += self._score_task(bundle)
        notes += choice_notes(self.config, [record.params for record in records if record.representation == MODEL])
        if self.predictions is not None:
            found, lines = self.predictions.score(bundle)
            records, notes = [*records, *found], [*notes, *lines]
            self._keep_records(records, bundle.fingerprint)
            append_records(self.folder.results, found)
        write_text(self.folder.model / "README.md", model_card(bundle, records=records))
        result = TrainResult(self.folder, records, views, terminal_tables(records), notes)
        if self.task is not None:
            result.next = next_command(self.task.config.task)
        elif label_head(bundle.model, bundle.model_config, bundle.labels) is not None:
            result.next = "predict YOUR.h5ad labelled.h5ad"
        return result

    def _score_task(self, bundle: Bundle) -> list[Record]:
        """Return what the task of a run scores itself; only the first process is left."""
        assert self.task is not None
        settle(self._run.model)
        load_weights(self._run.model, self.folder.model / "model.safetensors")
        where = {"device": self.fabric.device, "autocast": self.fabric.autocast}
        records = self.task.score(FinishedRun(bundle, self.data, self.config, **where))
        self._keep_records(
            records, bundle.fingerprint, beside=self.evaluator is not None, on_cells=self.task.held_out == "cells"
        )
        return records

    def _keep_records(
        self, records: list[Record], fingerprint: dict[str, Any], *, beside: bool = False, on_cells: bool = True
    ) -> None:
        """Write the evaluation of the exported model, with the step it comes from, and what that was chosen by."""
        for record in records:
            record.step, record.epoch = fingerprint["step"], fingerprint["epoch"]
            if record.representation == MODEL:
                record.params["chosen_by"] = self.config.output.best_metric
                if on_cells:
                    has_validation = len(self.data.split.validation) > 0
                    record.params |= chosen_on(self.config, record.dataset, has_validation=has_validation)
        if not beside:
            self.folder.exported_results.unlink(missing_ok=True)
        append_records(self.folder.exported_results, records)


def _training_labels(config: RunConfig, data: PreparedData) -> dict[str, Any]:
    """Return the label column and the categories that training cells have; for batches too if the model knows them."""
    column, found = config.data.label_column, {}
    if column is not None:
        known = data.labels.get("cell_types")
        found = (known or labels_of(data.source, column, data.split.train)).to_dict()
    if "batch_labels" in data.labels:
        found["batch_labels"] = data.labels["batch_labels"].to_dict()
    return found
