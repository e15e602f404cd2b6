"""Scores of the model that a run exports, on the first process, and what is said of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scmodelforge.eval.base import Record
from scmodelforge.eval.harness import MODEL, skip_notes
from scmodelforge.eval.records import append_records
from scmodelforge.eval.tables import about_samples, terminal_tables
from scmodelforge.hub.bundle import Bundle, load_parts
from scmodelforge.training._files import write_text
from scmodelforge.training._fsdp import shards
from scmodelforge.training._sharded import settle
from scmodelforge.training._tensors import load_weights
from scmodelforge.workflows.before_training import what_untrained_is
from scmodelforge.workflows.card import model_card
from scmodelforge.workflows.choice import choice_notes, chosen_on
from scmodelforge.workflows.fine_tuning_facts import next_command
from scmodelforge.workflows.label_predictions import label_head
from scmodelforge.workflows.task_scores import FinishedRun
from scmodelforge.workflows.train_result import TrainResult
from scmodelforge.workflows.trained_cells import trained_cells_notes

if TYPE_CHECKING:
    from scmodelforge.workflows.training_run import TrainingRun

__all__ = ["score_exported"]


def score_exported(training: TrainingRun, why: str) -> TrainResult:
    """Score the exported model of a run, whose cells all processes have embedded, and write its card.

    Parameters
    ----------
    training
        The run.
    why
        Why this model was exported.
    """
    parts = load_parts(training.folder.model, trust_plugins=True)
    bundle = Bundle(model=training.run.model, **vars(parts))
    notes = [f"exported: step {bundle.fingerprint['step']:,} ({why})"]
    records: list[Record] = []
    views = None
    if training.evaluator is not None:
        records = training.evaluator.score(bundle.model_id)
        views = training.evaluator.views()
        training.views.keep(training.evaluator.seen(), step=None)
        _keep_records(training, records, bundle.fingerprint)
        notes += [
            *trained_cells_notes(training.data),
            *about_samples(records),
            *skip_notes(records),
            *what_untrained_is(training.config, records),
            *([] if training.task is None else training.task.notes(records)),
        ]
    if training.task is not None and not shards(training.fabric):
        records += _score_task(training, bundle)
    notes += choice_notes(training.config, [record.params for record in records if record.representation == MODEL])
    if training.predictions is not None:
        found, lines = training.predictions.score(bundle)
        records, notes = [*records, *found], [*notes, *lines]
        _keep_records(training, records, bundle.fingerprint)
        append_records(training.folder.results, found)
    write_text(training.folder.model / "README.md", model_card(bundle, records=records))
    result = TrainResult(training.folder, records, views, terminal_tables(records), notes)
    if training.task is not None:
        result.next = next_command(training.task.config.task)
    elif label_head(bundle.model, bundle.model_config, bundle.labels) is not None:
        result.next = "predict YOUR.h5ad labelled.h5ad"
    return result


def _score_task(training: TrainingRun, bundle: Bundle) -> list[Record]:
    """Return what the task of a run scores itself; only the first process is left."""
    assert training.task is not None
    settle(training.run.model)
    load_weights(training.run.model, training.folder.model / "model.safetensors")
    where = {"device": training.fabric.device, "autocast": training.fabric.autocast}
    records = training.task.score(FinishedRun(bundle, training.data, training.config, **where))
    _keep_records(
        training,
        records,
        bundle.fingerprint,
        beside=training.evaluator is not None,
        on_cells=training.task.held_out == "cells",
    )
    return records


def _keep_records(
    training: TrainingRun,
    records: list[Record],
    fingerprint: dict[str, Any],
    *,
    beside: bool = False,
    on_cells: bool = True,
) -> None:
    """Write the evaluation of the exported model, with the step it comes from, and what that was chosen by."""
    for record in records:
        record.step, record.epoch = fingerprint["step"], fingerprint["epoch"]
        if record.representation == MODEL:
            record.params["chosen_by"] = training.config.output.best_metric
            if on_cells:
                has_validation = len(training.data.split.validation) > 0
                record.params |= chosen_on(training.config, record.dataset, has_validation=has_validation)
    if not beside:
        training.folder.exported_results.unlink(missing_ok=True)
    append_records(training.folder.exported_results, records)
