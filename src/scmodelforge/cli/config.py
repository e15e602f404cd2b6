"""``scmodelforge config``: look at settings without running anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from scmodelforge import _console

app = typer.Typer(help="Settings files: show, validate, schema.", no_args_is_help=True)

_File = Annotated[Path, typer.Argument(help="Settings file (YAML or TOML).", show_default=False)]
_Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Change a setting: --set training.batch_size=16. Repeatable.")
]


@app.callback()
def config() -> None:
    """Settings files."""


@app.command()
def show(file: _File, overrides: _Overrides = None) -> None:
    """Print a file's settings with all defaults, as YAML.

    Example: scmodelforge config show configs/quickstart.yaml
    """
    from scmodelforge.config.connectome import dump_connectome_config, is_connectome_file, load_connectome_config
    from scmodelforge.config.load import dump_config, load_config

    if is_connectome_file(file):
        typer.echo(dump_connectome_config(load_connectome_config(file, overrides or [])), nl=False)
        return
    typer.echo(dump_config(load_config(file, overrides or [])), nl=False)


@app.command()
def validate(file: _File, overrides: _Overrides = None) -> None:
    """Check a file and tell all its mistakes; files it names that are not there are warned of.

    Example: scmodelforge config validate configs/quickstart.yaml --set training.batch_size=16
    """
    from scmodelforge.config.connectome import is_connectome_file, load_connectome_config
    from scmodelforge.config.load import load_config
    from scmodelforge.workflows.named_files import missing_files

    if is_connectome_file(file):
        found = load_connectome_config(file, overrides or [])
        typer.echo(f"{file} is valid: regions of {found.data.path or 'a planted brain'}, model {found.model.name}.")
        return
    settings = load_config(file, overrides or [])
    if settings.data.filter is not None:
        from scmodelforge.data.obs_filter import ObsFilter

        ObsFilter(settings.data.filter)  # whether the columns are there, only the data tell
    benchmarks = ", ".join(dict.fromkeys(each.name for each in settings.eval.benchmarks)) or "none"
    typer.echo(
        f"{file} is valid: source {settings.data.source}, tokenizer {settings.tokenizer.strategy}, "
        f"model {settings.model.architecture}, benchmarks {benchmarks}."
    )
    for line in missing_files(settings):
        _console.say(f"warning: {line}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of a settings file; editors complete and check with it.

    Example: scmodelforge config schema > scmodelforge.schema.json
    """
    from scmodelforge.config.load import config_schema

    typer.echo(json.dumps(config_schema(), indent=2))
