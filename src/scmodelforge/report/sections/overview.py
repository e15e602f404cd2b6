"""The head of a report: what was trained, on what, how long, how well, and what to type next."""

from __future__ import annotations

from dataclasses import dataclass

from scmodelforge.eval.harness import MODEL, winners
from scmodelforge.report.sections.figure import name_of_representation
from scmodelforge.report.text import command_path, count, duration, number, size, without_places
from scmodelforge.workflows.fine_tuning_facts import fine_tuned_from, next_command
from scmodelforge.workflows.run_record import RunRecord

__all__ = ["Overview", "overview", "verdict"]


@dataclass(frozen=True)
class Overview:
    """What the head says.

    Attributes
    ----------
    name, state
        Of the run.
    state_note
        A sentence on a run that is not finished.
    sentences
        The summary.
    tiles
        Key figures: what, value.
    warnings
        What the run warned of, and what could not be read.
    commands
        What to type next: the command, and what it does.
    """

    name: str
    state: str
    state_note: str
    sentences: list[str]
    tiles: list[tuple[str, str]]
    warnings: list[str]
    commands: list[tuple[str, str]]


def overview(run: RunRecord) -> Overview:
    """Return the head of the report of a run."""
    sentences = [_what(run), fine_tuned_from(run.facts), _how_long(run), _losses(run), verdict(run)]
    return Overview(
        name=run.root.resolve().name,
        state=run.state if run.state != "unknown" else "not finished",
        state_note=_state_note(run),
        sentences=[text for text in sentences if text],
        tiles=_tiles(run),
        warnings=[without_places(text) for text in [*run.warnings, *run.damage]],
        commands=_commands(run),
    )


def verdict(run: RunRecord) -> str:
    """Return in words who won the evaluation."""
    records = [record for record in run.latest() if not record.is_detail]
    if not records:
        if run.settings.get("eval", {}).get("benchmarks"):
            return "Not evaluated yet."
        return "It was not evaluated: eval.benchmarks is empty, so there are neither scores nor pictures of cells."
    rows = {record.key: record for record in records if record.representation == MODEL and record.value is not None}
    if not rows:
        return "None of its metrics could be computed."
    total = len(rows)
    counts = winners([record for record in records if record.key in rows])
    others = [f"{name_of_representation(name)} in {wins}" for name, wins in counts.most_common() if name != MODEL]
    which = "exported model" if run.exported else "model"
    cells = "held-out cells" if {record.dataset for record in records} == {"heldout"} else "cells"
    one_or_many = "metric" if total == 1 else "metrics"
    text = f"On {cells}, the {which} scored best in {counts.get(MODEL, 0)} of {total} {one_or_many}"
    ties = " (what cannot be told apart from the best counts too)" if sum(counts.values()) > total else ""
    text += f", {_listed(others)}{ties}." if others else "."
    compared = [(row.value, row.baselines["untrained"], row) for row in rows.values() if "untrained" in row.baselines]
    if compared:
        better = sum((a > b) if row.higher_is_better else (a < b) for a, b, row in compared if a is not None)
        tuned = "fine_tuned_from" in run.facts
        itself = "the base model before fine-tuning ('untrained model')" if tuned else "its untrained self"
        text += f" It beats {itself} in {better} of {len(compared)}."
    return text


def _what(run: RunRecord) -> str:
    model, facts = run.settings.get("model", {}), run.facts
    text = f"A {model.get('architecture', 'model')}"
    if facts.get("num_parameters"):
        text += f" of {size(facts['num_parameters'])} parameters"
    text += f", trained by {facts['objective']}" if facts.get("objective") else ""
    names = [str(entry.get("name")) for entry in facts.get("data", [])]
    shown = _listed(names) if len(names) <= 3 else f"{len(names):,} files"
    text += f" on {count(facts.get('num_train'))} cells" + (f" of {shown}" if names else "")
    held = facts.get("num_validation")
    return text + (f"; {count(held)} cells were held out." if held else "; no cells were held out.")


def _how_long(run: RunRecord) -> str:
    total = run.total_steps
    of_steps = f" of {total:,}" if total and total > run.step else ""
    of_epochs = f" of {run.max_epochs}" if run.max_epochs and run.epoch < run.max_epochs else ""
    text = f"It ran for {run.step:,}{of_steps} steps ({run.epoch}{of_epochs} epochs)"
    text += f" in {duration(run.seconds)}" if run.seconds is not None else ""
    processes = run.facts.get("processes", 1)
    device = str(run.facts.get("device", "")).partition(":")[0].replace("cuda", "GPU").replace("cpu", "CPU")
    text += f" on {processes} {device}{'s' if processes != 1 else ''}" if device else ""
    resumed = [step for step in run.resumed_at if step]
    return text + (f", taken up again after step {_listed([f'{s:,}' for s in resumed])}." if resumed else ".")


def _losses(run: RunRecord) -> str:
    losses = run.series("val/loss")
    if not losses:
        train = run.series("train/loss")
        if not train:
            return "No loss was logged yet." if run.state != "finished" else ""
        return f"The training loss went from {number(train[0][1])} to {number(train[-1][1])}."
    best = min(losses, key=lambda point: point[1])
    if len(losses) == 1:
        return f"The validation loss was {number(best[1])} at step {best[0]:,}."
    return (
        f"The validation loss went from {number(losses[0][1])} to {number(losses[-1][1])}, "
        f"lowest at step {best[0]:,} ({number(best[1])})."
    )


def _state_note(run: RunRecord) -> str:
    reason = f" It said: {without_places(run.reason)}" if run.reason and run.state in ("interrupted", "failed") else ""
    resume = "The commands below take it up again from its last checkpoint." if run.checkpoints else ""
    notes = {
        "finished": "",
        "under way": "The run is under way; this page shows what it had logged when the page was made.",
        "interrupted": f"The run was interrupted and is not finished. {resume}{reason}",
        "failed": f"The run stopped with an error and is not finished.{reason} {resume}",
        "killed": f"The run ended without a word (killed, or its machine went down) and is not finished. {resume}",
        "unknown": "The run did not finish, or goes on on another machine; nothing was logged for ten minutes.",
    }
    return " ".join(notes[run.state].split())


def _tiles(run: RunRecord) -> list[tuple[str, str]]:
    losses = [loss for _, loss in run.series("val/loss")]
    speed = sorted(value for _, value in run.series("train/cells_per_second"))
    parameters = run.facts.get("num_parameters")
    tiles = [
        ("parameters", size(parameters) if parameters else "-"),
        ("cells trained on", count(run.facts.get("num_train"))),
        ("steps", count(run.step)),
        ("time", duration(run.seconds)),
        ("lowest validation loss", number(min(losses, default=None))),
        ("cells per second (median)", number(speed[len(speed) // 2]) if speed else "-"),
    ]
    return [(name, value) for name, value in tiles if value != "-"]


def _commands(run: RunRecord) -> list[tuple[str, str]]:
    path = command_path(run.root)
    commands = []
    if run.state != "finished" and run.checkpoints:
        commands.append((f"scmodelforge train --resume {path}", "go on exactly where the run was"))
    if run.is_exported:
        command = next_command((run.facts.get("fine_tuning") or {}).get("task"))
        what = "embed your own cells" if command.startswith("embed") else "predict for your own cells"
        commands.append((f"scmodelforge {command} --model {path}", what))
        commands.append((f"scmodelforge evaluate {path} --data OTHER.h5ad --label COLUMN", "score it on other cells"))
    return [*commands, (f"scmodelforge report {path} --force", "make this page again")]


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
