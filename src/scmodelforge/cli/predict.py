"""``scmodelforge predict``: what a model says of cells, written into a copy of an AnnData file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from scmodelforge import _console
from scmodelforge._errors import ConfigError


def predict(
    data: Annotated[Path, typer.Argument(metavar="IN", help="AnnData file (.h5ad) with counts.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write: IN with predictions in obs or var.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Address of a fine-tuned model, or another that learned cell types.")
    ],
    min_confidence: Annotated[
        float | None, typer.Option(help="Cells, or genes, below this probability are unknown; default: none.")
    ] = None,
    unknown: Annotated[
        str | None, typer.Option(help="What cells, or genes, of no known class are called; default: unknown.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Cells in a forward pass; changes no prediction.")] = 64,
    layer: Annotated[str | None, typer.Option(help="Where the counts are: X, raw or a layer's name.")] = None,
    gene_id_column: Annotated[str | None, typer.Option(help="var column with gene ids; default: looked for.")] = None,
    dictionaries: Annotated[
        Path | None, typer.Option(help="Folder with the dictionaries of a published model's representation.")
    ] = None,
    trust_plugins: Annotated[bool, typer.Option(help="Import the Python files the model folder names.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
    conditions: Annotated[
        str | None,
        typer.Option(
            help="Of a model of perturbations: A,B+C or a file with one a line; default: those its run held out."
        ),
    ] = None,
    means: Annotated[bool, typer.Option("--means", help="Of a model of perturbations: means, not cells.")] = False,
    dose: Annotated[float | None, typer.Option(min=0, help="Of a model of perturbations with doses: the dose.")] = None,
) -> None:
    """Write what a model predicts into a copy of an AnnData file: cell types, numbers, classes of genes.

    A model that learned perturbations writes control cells as they would be after perturbations, to a file of its own.

    Example: scmodelforge predict cells.h5ad labelled.h5ad --model runs/annotation
    """
    from scmodelforge.hub.load import load_model
    from scmodelforge.workflows.predict import Naming, predict_file
    from scmodelforge.workflows.predict_perturbations import Asked, has_perturbations, predict_perturbations_file

    bundle = load_model(model, dictionaries=dictionaries, trust_plugins=trust_plugins)
    how: dict[str, Any] = {"batch_size": batch_size, "layer": layer, "gene_id_column": gene_id_column, "force": force}
    of_perturbations = {"--conditions": conditions, "--means": means or None, "--dose": dose}
    of_labels = {"--min-confidence": min_confidence, "--unknown": unknown}
    if has_perturbations(bundle):
        _refuse(of_labels, "learned perturbations")
        asked = Asked.of_option(conditions, means=means, dose=dose)
        result = predict_perturbations_file(bundle, data, out, asked, **how)
    else:
        _refuse(of_perturbations, "did not learn perturbations")
        naming = Naming(0.0 if min_confidence is None else min_confidence, "unknown" if unknown is None else unknown)
        result = predict_file(data, out, model=model, bundle=bundle, naming=naming, **how)
    for line in result:
        _console.say(line)


def _refuse(options: dict[str, Any], learned: str) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        msg = f"{given[0]} has no effect with a model that {learned}; leave it out."
        raise ConfigError(msg)
