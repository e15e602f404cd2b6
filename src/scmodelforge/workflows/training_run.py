"""One training run: the parts made of its settings, trained and exported."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scmodelforge._errors import Interrupted
from scmodelforge.config.guard_sections import known_batch_size
from scmodelforge.config.schema import RunConfig
from scmodelforge.data.loader import CellLoader
from scmodelforge.data.preprocess import Preprocessor
from scmodelforge.data.splits import CellSplit
from scmodelforge.eval.base import Record
from scmodelforge.eval.callback import EvalCallback
from scmodelforge.finetuning.base import Task
from scmodelforge.hub.bundle import Bundle, build_model, save_bundle
from scmodelforge.models._utils import count_parameters
from scmodelforge.training._fsdp import build_for, shards
from scmodelforge.training._launch import leave_group, one_line_if_lost, part_ways
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
from scmodelforge.workflows.best_checkpoint import checkpoint_scores
from scmodelforge.workflows.card import model_card
from scmodelforge.workflows.cell_labels import training_labels
from scmodelforge.workflows.evaluation_sets import run_evaluator
from scmodelforge.workflows.evaluation_splits import write_splits
from scmodelforge.workflows.evaluator import Evaluator
from scmodelforge.workflows.export import export_best
from scmodelforge.workflows.exported_scores import score_exported
from scmodelforge.workflows.fine_tuning_facts import fine_tuning_facts
from scmodelforge.workflows.frozen_cells import FirstScale, FrozenCells, team_of
from scmodelforge.workflows.going_on import saying_how_to_go_on
from scmodelforge.workflows.label_predictions import label_head
from scmodelforge.workflows.objective import chosen_objective
from scmodelforge.workflows.perturbation_scores import PredictionScores, of_predictions
from scmodelforge.workflows.prepare import PreparedData
from scmodelforge.workflows.provenance import data_facts
from scmodelforge.workflows.replay import cell_facts
from scmodelforge.workflows.runfolder import RunFolder
from scmodelforge.workflows.train_result import TrainResult
from scmodelforge.workflows.views import ViewFolder

__all__ = ["TrainingRun"]

_log = logging.getLogger(__name__)


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
        self.labels = {
            **training_labels(config, data.source, data.split.train, data.labels),
            **({} if task is None else task.facts()),
        }
        self.views = ViewFolder(folder.views, seed=config.eval.seed)
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
        if self.task is not None and self.task.scales_first():
            callbacks.append(FirstScale(self.config, self.data))
        assert run.metrics is not None
        if checkpoint is not None:
            checkpoints.load(run, checkpoint, callbacks)
            if self.fabric.is_global_zero:
                run.metrics.truncate(run.progress.step)
                evaluation.truncate(run.progress.step)
                self.views.truncate(run.progress.step)
            is_finished = run.progress.step >= run.total_steps
            what = "the run is finished: nothing is left to train" if is_finished else "continuing"
            _log.info(f"{what} after step {run.progress.step:,} ({checkpoint})")
        self._announce(run)
        if self.fabric.is_global_zero and self.evaluator is not None:
            write_splits(self.folder.root / "splits", self.evaluator)
        try:
            with saying_how_to_go_on(self.folder, partial(self._can_go_on, checkpoints)), one_line_if_lost(self.fabric):
                fit(run, callbacks)
                why = self._export(run, checkpoints)
                part_ways(self.fabric)
        except Interrupted:  # all processes stop at the same step
            leave_group(self.fabric)
            raise
        finally:
            run.train_loader.close()
            run.metrics.close()
            self.data.source.close()
        if not self.fabric.is_global_zero:
            return None
        result = score_exported(self, why)
        self.data.source.close()
        return result

    def _can_go_on(self, checkpoints: Checkpoints) -> bool:
        """Tell whether there is a checkpoint; the first process alone knows that there is none."""
        return checkpoints.last is not None or not self.fabric.is_global_zero

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
        self.run = run
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
            model=self.run.model,
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
                    self.views.keep(self.evaluator.seen(), step=run.progress.step)
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
