"""``scmodelforge connectome``: connectivity of brain regions from the expression of their genes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scmodelforge import _console
from scmodelforge._errors import ConfigError, DataError

if TYPE_CHECKING:
    from scmodelforge.workflows.connectome.train import ConnectomeResult

app = typer.Typer(
    help="Connectivity of brain regions from their genes: train, predict, baselines, plot.", no_args_is_help=True
)

_DATA = (".npz", ".h5ad", ".zarr", ".csv", ".tsv")

_Settings = Annotated[
    Path | None, typer.Argument(metavar="FILE", help="Settings file, as --config; for data: --set data.path=...")
]
_Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="Settings file (YAML or TOML); default: a planted brain.")
]
_Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Change a setting: --set training.epochs=3. Repeatable.")
]


@app.callback()
def connectome() -> None:
    """Connectivity of brain regions from the expression of their genes."""


@app.command()
def train(
    settings: _Settings = None,
    config: _Config = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="Run folder to continue.")] = None,
    overrides: _Overrides = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing run folder.")] = False,
) -> None:
    """Fit a model and baselines on folds of held-out regions, print their table and write a run folder.

    Example: scmodelforge connectome train configs/connectome.yaml --set data.path=atlas.npz --set data.target=fc
    """
    from scmodelforge.workflows.connectome.train import resume_connectome, start_connectome

    if resume is None:
        result = start_connectome(_file(settings, config, overrides), overrides or [], force=force)
    elif settings is not None or config is not None or overrides or force:
        msg = "--resume continues a run with its own settings; leave out FILE, --set and --force, or start a new run."
        raise ConfigError(msg)
    else:
        result = resume_connectome(resume)
    _show(result)
    assert result.root is not None
    for line in (f"run: {result.root}", *_report(result.root), *_next(result.root)):
        _console.say(line)


@app.command(no_args_is_help=True)
def predict(
    regions: Annotated[
        Path, typer.Argument(metavar="REGIONS", help="Expression of regions: npz, h5ad, zarr, csv or tsv.")
    ],
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="Matrix to write: .npz, .csv, .tsv, or .h5ad for a copy with it in obsp."),
    ],
    model: Annotated[Path, typer.Option("--model", "-m", help="Run folder, or the folder of a saved model.")],
    coords: Annotated[
        str | None, typer.Option(help="For CSV the file of coordinates, for others their name; as data.coords.")
    ] = None,
    missing: Annotated[str, typer.Option(help="Regions with missing values: refuse or drop.")] = "refuse",
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
) -> None:
    """Write the predicted connectivity of all pairs of some regions.

    Example: scmodelforge connectome predict atlas.npz predicted.csv --model runs/connectome
    """
    from scmodelforge.workflows.connectome.predict import predict_regions

    _require_model(model)
    for line in predict_regions(regions, out, model=model, coords=coords, missing=missing, force=force):
        _console.say(line)


@app.command()
def baselines(
    settings: _Settings = None,
    config: _Config = None,
    overrides: _Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of a table.")] = False,
) -> None:
    """Print the table of baselines on the folds that a run with these settings has; nothing is written.

    Example: scmodelforge connectome baselines --set data.path=atlas.npz --set data.target=fc
    """
    from scmodelforge.workflows.connectome.train import score_baselines

    result = score_baselines(_file(settings, config, overrides), overrides or [])
    if as_json:
        _console.json_line([each.to_dict() for each in result.standings])
        return
    _show(result)


@app.command(no_args_is_help=True)
def plot(run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that connectome train wrote.")]) -> None:
    """Draw a run: predicted beside true matrix, scatter, error over distance, pairs of genes.

    Example: scmodelforge connectome plot runs/connectome
    """
    from scmodelforge.report.connectome import draw_connectome_plots

    for path in draw_connectome_plots(run):
        _console.say(f"picture: {path}")


def _file(settings: Path | None, config: Path | None, overrides: list[str] | None) -> Path:
    """Return the settings file; where neither it nor data are given, say what is taken instead."""
    from scmodelforge.workflows.connectome.train import default_settings

    if settings is not None and config is not None:
        msg = f"two settings files were given, {settings} and {config}; give one."
        raise ConfigError(msg)
    given = config or settings
    if given is not None and given.suffix.lower() in _DATA:
        target = " --set data.target=FILE.csv" if given.suffix.lower() in _DATA[-2:] else ""
        path = f"--set data.path={shlex.quote(str(given))}{target}"
        msg = f"{given} holds data, and FILE is a settings file (YAML or TOML); give it as {path}"
        raise ConfigError(msg)
    names = {each.partition("=")[0].strip().removeprefix("connectome.") for each in overrides or []}
    if given is None and not any(name.startswith("data.") for name in names):
        _console.say("no file was given: a planted brain is taken; --set data.path=FILE takes your own regions")
    return given or default_settings()


def _require_model(folder: Path) -> None:
    if not folder.is_dir():
        msg = f"no folder '{folder}'; --model needs the run folder of connectome train, or that of a saved model."
        raise DataError(msg)
    if (folder / "record.json").is_file() and not (folder / "model").is_dir():
        go_on = f"scmodelforge connectome train --resume {shlex.quote(str(folder))}"
        msg = f"the run in {folder} has no model yet: it was broken off, or is still going on. Go on with it: {go_on}"
        raise DataError(msg)


def _show(result: ConnectomeResult) -> None:
    _console.table(result.columns, result.rows, title=result.title)
    for line in result.lines:
        _console.say(line)


def _report(root: Path) -> list[str]:
    """Write the report, and return what to say about it."""
    try:
        from scmodelforge.report.connectome import write_connectome_report

        path: Any = write_connectome_report(root)
    except (ImportError, DataError) as problem:
        return [f"report: none. {problem}"]
    return [f"report: {path}"]


def _next(root: Path) -> list[str]:
    folder = shlex.quote(str(root))
    return [f"predict other regions: scmodelforge connectome predict REGIONS OUT.npz --model {folder}"]
