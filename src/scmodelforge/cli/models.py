"""``scmodelforge models``: what can be trained."""

from __future__ import annotations

from typing import Annotated

import typer

from scmodelforge import _console

app = typer.Typer(help="Registered models.", no_args_is_help=True)


@app.callback()
def models() -> None:
    """Registered models."""


@app.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of a table.")] = False,
) -> None:
    """List the registered models.

    Example: scmodelforge models list
    """
    from scmodelforge._registry import MODELS
    from scmodelforge.config.schema import ModelConfig

    rows = []
    for name in MODELS.names():
        model = MODELS.get(name)
        settings = getattr(model, "config_class", ModelConfig)
        own = sorted(set(settings.model_fields) - set(ModelConfig.model_fields))
        summary = (model.__doc__ or "").strip().split("\n")[0]
        objective = str(getattr(model, "default_objective", ""))
        rows.append({"name": name, "summary": summary, "objective": objective, "own_settings": own})
    if as_json:
        _console.json_line(rows)
        return
    columns = ["name", "objective", "summary"]
    _console.table(columns, [[str(row[column]) for column in columns] for row in rows])
