"""The ``scmodelforge`` command: mounts the command groups and turns a user's mistakes into one line and status 2."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from scmodelforge import __version__, _console
from scmodelforge._errors import Interrupted, LostProcess, RunError, UserError
from scmodelforge.cli import (
    config,
    connectome,
    convert,
    data,
    datasets,
    embed,
    evaluate,
    finetune,
    generate,
    hub,
    models,
    perturb,
    predict,
    report,
    results,
    tokenize,
    tokenizer,
    train,
)

__all__ = ["app", "run"]


class _Commands(TyperGroup):
    """Exit status 2 for what a user can mend, 1 for a run that saved itself or broke, 130 for one stopped at once.

    Everything else keeps its traceback.
    """

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (UserError, ImportError) as problem:
            if isinstance(problem, ImportError) and "pip install" not in str(problem):
                raise
            _console.error(str(problem))
            raise typer.Exit(2) from problem
        except KeyboardInterrupt as stop:
            _console.say("stopped by Ctrl-C")
            raise typer.Exit(130) from stop
        except Interrupted as stop:
            _console.say(str(stop))
            raise typer.Exit(1) from stop
        except (LostProcess, RunError) as problem:
            _console.error(str(problem))
            raise typer.Exit(1) from problem


app = typer.Typer(
    name="scmodelforge",
    cls=_Commands,
    help="Train, evaluate and apply single-cell foundation models from one YAML file.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        sys.stdout.write(f"scmodelforge {__version__}\n")
        raise typer.Exit


@app.callback()
def main(
    verbose: Annotated[bool, typer.Option("--verbose", help="Also print details meant for debugging.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Train, evaluate and apply single-cell foundation models from one YAML file."""
    _console.configure_logging(verbose=verbose)


app.command("train")(train.train)
app.command("finetune")(finetune.finetune)
app.command("embed")(embed.embed)
app.command("predict")(predict.predict)
app.command("perturb")(perturb.perturb)
app.command("evaluate", cls=evaluate.BareBaselines)(evaluate.evaluate)
app.command("convert")(convert.convert)
app.command("generate")(generate.generate)
app.command("report")(report.report)
app.command("tokenize")(tokenize.tokenize)
app.add_typer(models.app, name="models")
app.add_typer(data.app, name="data")
app.add_typer(tokenizer.app, name="tokenizer")
app.add_typer(datasets.app, name="datasets")
app.add_typer(results.app, name="results")
app.add_typer(connectome.app, name="connectome")
app.add_typer(hub.app, name="hub")
app.add_typer(config.app, name="config")


def run() -> None:
    """Run the command line; the entry point of both console scripts."""
    app(prog_name="scmodelforge")


if __name__ == "__main__":
    run()
