"""``scmodelforge models``: what can be trained, and whether a model keeps the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from scmodelforge import _console

if TYPE_CHECKING:
    from scmodelforge.workflows.model_check import CheckResult

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


@app.command()
def check(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="Registered name, or module:Class, or file.py:Class.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of lines.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the synthetic cells and of the weights.")] = 0,
) -> None:
    """Check whether a model keeps the contract the package relies on; status 1 if it does not.

    Example: scmodelforge models check ./my_model.py:MyModel
    """
    import contextlib
    import sys
    import time
    from dataclasses import asdict

    from scmodelforge.workflows.model_check import check_model, find_model_class

    start = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):  # what the model's code prints is no result
        model_class = find_model_class(target)
        results = check_model(model_class, name=None if ":" in target else target, seed=seed)
    if as_json:
        _console.json_line([asdict(result) for result in results])
    else:
        _print_results(results)
    counts = {status: sum(r.status == status for r in results) for status in ("passed", "failed", "not claimed")}
    numbers = ", ".join(f"{number} {status}" for status, number in counts.items())
    _console.say(f"{target}: {numbers} in {time.perf_counter() - start:.1f} s")
    if counts["failed"]:
        raise typer.Exit(1)


def _print_results(results: list[CheckResult]) -> None:
    width = max(len(result.name) for result in results)
    for result in results:
        status = "FAILED" if result.status == "failed" else result.status
        line = f"{result.name:<{width}}  {status:<11}  {result.message}".rstrip()
        typer.echo(line)
