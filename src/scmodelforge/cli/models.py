"""``scmodelforge models``: what can be trained, what others trained, and whether a model keeps the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from scmodelforge import _console

if TYPE_CHECKING:
    from scmodelforge.workflows.model_check import CheckResult

_WIDTH = 100  # of lines below a table

app = typer.Typer(help="Models: list what can be trained, and published ones; check your own.", no_args_is_help=True)


@app.callback()
def models() -> None:
    """Models: list what can be trained, and published ones; check your own."""


@app.command("list")
def list_(
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="List published models with their weights instead.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of a table.")] = False,
) -> None:
    """List the models that can be trained, or those that were, by others.

    Example: scmodelforge models list --pretrained
    """
    if pretrained:
        _list_pretrained(as_json=as_json)
        return
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


def _list_pretrained(*, as_json: bool) -> None:
    from scmodelforge._places import cache_folder
    from scmodelforge.hub.pretrained import find_pretrained, list_pretrained

    models = list_pretrained()
    here = {model.name: find_pretrained(model) for model in models}
    if as_json:
        folders = {name: None if folder is None else str(folder) for name, folder in here.items()}
        _console.json_line([{**model.model_dump(mode="json"), "here": folders[model.name]} for model in models])
        return
    rows = []
    for model in models:
        tokens = f"{model.vocabulary.preset or 'its own'}, {model.vocabulary.num_tokens:,}"
        is_here = "no" if here[model.name] is None else "yes"
        facts = [f"{model.num_parameters / 1e6:,.1f} M", ", ".join(model.species), model.licence, tokens, is_here]
        rows.append([model.name, *facts])
    _console.table(["name", "size", "species", "licence", "vocabulary, tokens", "here"], rows)
    for model in models:
        where = model.page if model.hub is None else model.hub.address
        also = f"Also: {', '.join(model.aliases)}." if model.aliases else ""
        typer.echo(_lines(f"{model.name}: {where}", " ".join(filter(None, [model.note, also]))))
    _console.say(f"files fetched by hand are looked for in {cache_folder() / 'pretrained' / 'NAME'}")
    _console.say("next: scmodelforge embed cells.h5ad embedded.h5ad --model scmodelforge://NAME")


def _lines(first: str, text: str) -> str:
    import textwrap

    return "\n".join([first, *textwrap.wrap(text, _WIDTH - 2, initial_indent="  ", subsequent_indent="  ")])


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
