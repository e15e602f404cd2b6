"""``scmodelforge train``: one settings file in, a trained and evaluated model out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scmodelforge._errors import ConfigError
from scmodelforge.cli._trained import show_dry_run, show_trained


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
        show_dry_run(config, overrides or [], force=force, as_json=as_json)
        return

    from scmodelforge.workflows.pretrain import resume_training, start_training

    if resume is not None:
        result = resume_training(resume)
    else:
        assert config is not None
        result = start_training(config, overrides or [], force=force)
    show_trained(result)
