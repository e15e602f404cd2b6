"""``scmodelforge finetune``: a trained model adapted to a task, on data of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scmodelforge import _console
from scmodelforge._errors import ConfigError
from scmodelforge.cli._trained import show_dry_run, show_trained

if TYPE_CHECKING:
    from scmodelforge.workflows.finetune import FinetuneOptions


def finetune(
    base_model: Annotated[
        str | None, typer.Option("--base-model", help="Model or run folder, hf://owner/name or scmodelforge://name.")
    ] = None,
    data: Annotated[list[str] | None, typer.Option("--data", help="AnnData file of cells. Repeatable.")] = None,
    task: Annotated[str | None, typer.Option("--task", help="What the model is to learn.")] = None,
    label: Annotated[str | None, typer.Option("--label", help="obs column with what is learned.")] = None,
    batch: Annotated[str | None, typer.Option("--batch", help="obs column with the technical batch.")] = None,
    benchmarks: Annotated[
        list[str] | None,
        typer.Option("--eval", help="Benchmark on the held-out cells; default the task's. Repeatable, or a,b."),
    ] = None,
    adaptation: Annotated[
        str | None,
        typer.Option("--adaptation", help="What is trained: full, frozen, last_n, gradual, lora or dora."),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option("--config", "-c", "--recipe", help="Settings file; default the recipe of the task."),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: --set training.batch_size=16. Repeatable.")
    ] = None,
    out: Annotated[str | None, typer.Option("--out", help="Run folder; default runs/TASK.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs to train for.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    sweeps: Annotated[
        list[str] | None,
        typer.Option("--sweep", help="Try settings: --sweep training.lr=1e-4,1e-3. Repeatable: each with each."),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(min=2, help="Try each setting on so many folds, by donors if there are any."),
    ] = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="Run folder to continue.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing run folder.")] = False,
    dry: Annotated[
        bool, typer.Option("--dry-run", help="Take a few steps, say what the run will need, and write nothing.")
    ] = False,
) -> None:
    """Adapt a trained model to a task, evaluate it and write it to a folder.

    Example: scmodelforge finetune --base-model runs/blood --data cells.h5ad --task cell_type_annotation --label
    cell_type
    """
    given = {
        "base_model": base_model,
        "data": None if data is None else tuple(data),
        "task": task,
        "label": label,
        "batch": batch,
        "benchmarks": None if benchmarks is None else _listed(benchmarks),
        "adaptation": adaptation,
        "epochs": epochs,
        "lr": lr,
        "out": out,
    }
    if resume is not None:
        _resume(resume, [*given.values(), recipe, overrides, sweeps, folds, force or None, dry or None])
        return

    from scmodelforge.workflows.finetune import FinetuneOptions, finetune_settings, in_words_of_options
    from scmodelforge.workflows.finetune import finetune as start

    options = FinetuneOptions(**given)  # type: ignore[arg-type]
    if sweeps or folds:
        if dry:
            msg = "--dry-run is of one run; leave out --sweep and --folds."
            raise ConfigError(msg)
        _sweep(options, recipe, sweeps or [], folds=folds or 3, overrides=overrides or [], force=force)
        return
    if dry:
        with in_words_of_options():
            show_dry_run(finetune_settings(options, recipe=recipe), overrides or [], force=force)
        return
    show_trained(start(options, recipe=recipe, overrides=overrides or [], force=force))


def _sweep(options: FinetuneOptions, recipe: Path | None, sweeps: list[str], **others: Any) -> None:
    from scmodelforge.workflows.finetune import finetune_settings, in_words_of_options
    from scmodelforge.workflows.sweep import sweep

    with in_words_of_options():
        settings = finetune_settings(options, recipe=recipe)
        found = sweep(settings, sweeps, out=Path(options.out or f"runs/{settings.path.stem}_sweep"), **others)
    headings, rows = found.table()
    title = f"Held-out {found.held_out} of {found.folds} folds: mean and half the 95 % interval over the folds"
    _console.tables([("", headings, rows, False)], title=title)
    for line in found.closing_lines():
        _console.say(line)


def _resume(run: Path, others: list[object]) -> None:
    if any(value is not None for value in others):
        msg = "--resume continues a run with its own settings; leave out all other options, or start a new run."
        raise ConfigError(msg)
    from scmodelforge.workflows.pretrain import resume_training

    show_trained(resume_training(run))


def _listed(words: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for word in words for name in word.split(",") if name.strip()))
