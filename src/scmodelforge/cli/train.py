"""``scmodelforge train``: one settings file in, a trained and evaluated model out."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scmodelforge import _console
from scmodelforge._errors import ConfigError, DataError

if TYPE_CHECKING:
    from scmodelforge.workflows.training_run import TrainResult


def train(
    settings: Annotated[Path | None, typer.Argument(metavar="FILE", help="The settings file, as --config.")] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Settings file (YAML or TOML).")] = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="Run folder to continue.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: --set training.batch_size=16. Repeatable.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing run folder.")] = False,
    dry: Annotated[
        bool, typer.Option("--dry-run", help="Take a few steps, say what the run will need, and write nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: one JSON object.")] = False,
) -> None:
    """Train a model, evaluate it and write it to a folder.

    Example: scmodelforge train --config configs/quickstart.yaml
    """
    if settings is not None and config is not None:
        msg = f"two settings files were given, {settings} and {config}; give one."
        raise ConfigError(msg)
    config = config or settings
    if (config is None) == (resume is None):
        msg = "train needs either --config FILE (a new run) or --resume RUN (go on with one)."
        raise ConfigError(msg)
    if resume is not None and (overrides or force or dry):
        msg = (
            "--resume continues a run with its own settings; leave out --set, --force and --dry-run, or start a new "
            "run."
        )
        raise ConfigError(msg)
    if as_json and not dry:
        msg = "--json is for --dry-run; a run writes its figures to metrics.jsonl."
        raise ConfigError(msg)
    if dry:
        assert config is not None
        _dry_run(config, overrides or [], force=force, as_json=as_json)
        return

    from scmodelforge.workflows.pretrain import resume_training, start_training

    if resume is not None:
        result = resume_training(resume)
    else:
        assert config is not None
        result = start_training(config, overrides or [], force=force)
    if result is None:  # another device of the same run
        return
    if result.table.tables:
        from scmodelforge.eval.tables import about_intervals

        title = f"Held-out cells ({about_intervals(result.records)})"
        _console.tables(result.table.tables, title=title, legend=result.table.legend)
    for line in [*result.closing_lines()[:-1], *_draw(result), *_report(result), result.closing_lines()[-1]]:
        _console.say(line)


def _dry_run(config: Path, overrides: list[str], *, force: bool, as_json: bool) -> None:
    from scmodelforge.workflows.dry_run import dry_run

    found = dry_run(config, overrides, force=force)
    if found is None:  # another device of the same run
        return
    if as_json:
        _console.json_line(found.to_dict())
    else:
        sys.stdout.write("\n".join(found.lines()) + "\n")


def _draw(result: TrainResult) -> list[str]:
    """Draw the held-out cells, and return what to say about it."""
    from scmodelforge.report.plots import cells_picture

    if result.views is None:
        return []
    try:
        cells_picture(result.views.embeddings, result.views.labels, result.folder.picture, title=result.views.title)
    except ImportError as missing:
        return [f"picture: none. {missing}"]
    return [f"picture: {result.folder.picture}"]


def _report(result: TrainResult) -> list[str]:
    """Write the report, with cells by PCA since UMAP takes long, and return what to say about it."""
    from scmodelforge.report.html import write_report

    root = shlex.quote(str(result.folder.root))
    try:
        path = write_report(result.folder.root, result.folder.report, force=True, method="pca")
    except (ImportError, DataError) as problem:
        return [f"report:  none. {problem}"]
    return [f"report:  {path} (with UMAP in place of PCA: scmodelforge report {root} --force)"]
