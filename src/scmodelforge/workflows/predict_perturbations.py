"""Cells as a model predicts them to be after perturbations, as AnnData that ``evaluate --predictions`` scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scmodelforge._errors import ConfigError, DataError, listed
from scmodelforge._wording import in_words_of
from scmodelforge.data.protocols import CellSource
from scmodelforge.eval.perturbation.conditions import Group
from scmodelforge.finetuning.perturbation.expression import Expression, open_expression
from scmodelforge.finetuning.perturbation.predicting import Trained, trained
from scmodelforge.finetuning.perturbation.screen import control_values
from scmodelforge.finetuning.perturbation.starts import MOST_CELLS, chosen_controls, control_cells
from scmodelforge.hub.bundle import Bundle
from scmodelforge.workflows.outputs import check_output, whole_file
from scmodelforge.workflows.ready_cells import COMMAND, ReadyCells, given, open_cells, provenance, ready_cells

if TYPE_CHECKING:
    import anndata

__all__ = ["Asked", "has_perturbations", "predict_perturbations", "predict_perturbations_file", "predicted_cells"]


@dataclass(frozen=True)
class Asked:
    """What is predicted.

    Attributes
    ----------
    conditions
        Names of perturbations (``A``, ``A+B``); ``None`` is the test conditions of the model's run.
    means
        Give the mean of each condition in place of cells.
    dose
        Dose of all; ``None`` is the mean over those measured, or of training for perturbations that the run's data
        lack.
    max_cells
        Most control cells of each covariate that are predicted from.
    """

    conditions: Sequence[str] | None = None
    means: bool = False
    dose: float | None = None
    max_cells: int = MOST_CELLS

    @classmethod
    def of_option(cls, conditions: str | None, **others: Any) -> Asked:
        """Return what a command asks for: names with commas between, or a file with a name a line."""
        if conditions is None:
            return cls(None, **others)
        is_file = Path(conditions).is_file()
        text = Path(conditions).read_text(encoding="utf-8-sig") if is_file else conditions.replace(",", "\n")
        return cls([line.strip() for line in text.splitlines() if line.strip()], **others)


def has_perturbations(bundle: Bundle) -> bool:
    """Return whether a model predicts perturbations."""
    return "perturbations" in bundle.labels


def predict_perturbations(
    bundle: Bundle, cells: ReadyCells, stored: CellSource | None, asked: Asked, *, batch_size: int
) -> anndata.AnnData:
    """Predict the control cells of some data after perturbations.

    Parameters
    ----------
    bundle
        The model.
    cells
        The cells, of which the controls are read.
    stored
        The same cells with the values of ``X``, as of
        :func:`~scmodelforge.finetuning.perturbation.expression.open_expression`.
    asked
        What is predicted.
    batch_size
        Cells in a forward pass.

    Returns
    -------
    Control cells, scaled to the mean of all controls, plus the predicted change, log1p, or a mean a condition; with the
    run's columns of condition and covariate in ``obs``. Values may be negative: they are not cut off, so that means
    stay what was predicted.

    Raises
    ------
    ConfigError, DataError
        If the model predicts no perturbations, there are no controls, genes are not known, or a dose is asked for of a
        model that has learned none.
    """
    model = trained(bundle.model, bundle.model_config, bundle.vocab, bundle.labels, origin=bundle.origin)
    if asked.dose is not None and model.facts["dose_column"] is None:
        msg = f"predict.dose ({asked.dose:g}) has no effect with a model that was trained without doses; leave it out."
        raise ConfigError(msg)
    controls = _controls(model, cells)
    groups = _groups(model, asked, list(controls))
    expression = open_expression(cells.source, bundle.vocab, stored=stored)
    parts = []
    for covariate in sorted({group.covariate for group in groups}):
        own = [group for group in groups if group.covariate == covariate]
        every = controls[covariate]
        chosen = chosen_controls(np.intersect1d(every, cells.positions, assume_unique=True), asked.max_cells)
        vectors = np.concatenate([rows for _, rows in given(bundle, cells, chosen, batch_size=batch_size)])
        start = control_cells(expression, chosen, every)
        parts.append(predicted_cells(model, expression, start, vectors, own, means=asked.means, dose=asked.dose))
    import anndata as ad

    found = ad.concat(parts) if len(parts) > 1 else parts[0]
    found.uns["scmodelforge_perturbations"] = {
        **provenance(bundle, cells),
        "expression": expression.describe(),
        "control": model.facts["control"],
    }
    return found


def predicted_cells(
    model: Trained,
    expression: Expression,
    start: np.ndarray,
    vectors: np.ndarray,
    groups: Sequence[Group],
    *,
    means: bool = False,
    dose: float | None = None,
) -> anndata.AnnData:
    """Return control cells of one covariate after perturbations.

    Parameters
    ----------
    model, expression
        The model, and what expression is over.
    start, vectors
        Control cells, as of :func:`~scmodelforge.finetuning.perturbation.starts.control_cells`, and their embeddings.
    groups
        The perturbations.
    means, dose
        As of :class:`Asked`.
    """
    import anndata as ad
    import pandas as pd

    place = {token: number for number, token in enumerate(model.tokens.tolist())}
    shared = [number for number, token in enumerate(expression.tokens.tolist()) if token in place]
    if not shared:
        msg = "none of the genes that the model predicts is in these data; give data of its genes."
        raise DataError(msg)
    columns = [place[expression.tokens[number]] for number in shared]
    control = start[:, shared]
    size = 1 if means else len(control)
    found = np.empty((len(groups), size, len(shared)), dtype=np.float32)
    for rows, group in zip(found, groups, strict=True):  # one after another: all changes at once may be large
        after = control + model.change(vectors, group, dose=dose)[:, columns]
        rows[:] = after.mean(axis=0, keepdims=True) if means else after
    labels = [group for group in groups for _ in range(size)]
    facts = model.facts
    obs = {facts["condition_column"]: [group.perturbation for group in labels]}
    if facts["covariate_column"]:
        obs[facts["covariate_column"]] = [group.covariate for group in labels]
    names = [f"{group.label}-{count}" for group in groups for count in range(size)]
    var = pd.DataFrame(index=[expression.genes[number] for number in shared])
    return ad.AnnData(found.reshape(-1, len(shared)), obs=pd.DataFrame(obs, index=names), var=var)


def predict_perturbations_file(
    bundle: Bundle,
    data: Path,
    out: Path,
    asked: Asked,
    *,
    batch_size: int,
    layer: str | None = None,
    gene_id_column: str | None = None,
    force: bool = False,
) -> list[str]:
    """Write what a model predicts for the control cells of an .h5ad file; return closing lines for the user."""
    if out.resolve() == data.resolve():
        msg = f"{out} is the file that is read; name another one for the predictions."
        raise ConfigError(msg)
    check_output(out, force=force)
    with in_words_of(COMMAND):
        source = open_cells(data, layer=layer, gene_id_column=gene_id_column)
        stored = None if layer else open_cells(data, layer="X", gene_id_column=gene_id_column)
        try:
            cells = ready_cells(bundle, source)
            found = predict_perturbations(bundle, cells, stored, asked, batch_size=batch_size)
        finally:
            source.close()
            if stored is not None:
                stored.close()
    with whole_file(out):
        writing = out.with_name(out.name + ".writing")
        found.write_h5ad(writing)
        writing.replace(out)
    facts = bundle.labels["perturbations"]
    column, covariate = facts["condition_column"], facts["covariate_column"]
    number = len(found.obs[[name for name in (column, covariate) if name]].drop_duplicates())
    what = "means" if asked.means else "cells"
    is_logged = "logged" in found.uns["scmodelforge_perturbations"]["expression"]
    more = f" --covariate {covariate}" if covariate else ""
    lines = [
        f"predicted: {out}, {found.n_obs:,} {what} of {number:,} perturbations over {found.n_vars:,} genes "
        f"({found.uns['scmodelforge_perturbations']['expression']})"
    ]
    if not is_logged:
        lines.append("to score them, give --data with the same scale in X: log1p of counts of 10,000 a cell")
    lines.append(
        f"next: scmodelforge evaluate --predictions {out} --data {data} --scale log1p --condition {column} "
        f"--control {facts['control']}{more} --train-conditions RUN/perturbations.json"
    )
    return lines


def _controls(model: Trained, cells: ReadyCells) -> dict[str, np.ndarray]:
    """Return the control cells of each covariate that has some which the model can embed."""
    facts = model.facts
    codes, names = cells.source.obs(facts["condition_column"])
    values = control_values(names, facts["control"])
    if not values:
        msg = (
            f"no cell is a control: obs column '{facts['condition_column']}' has no value '{facts['control']}', which "
            f"means control to this model. There are: {listed(sorted(names), 5)}."
        )
        raise DataError(msg)
    is_control = np.isin(codes, [place for place, name in enumerate(names) if name in values])
    if not facts["covariate_column"]:
        return {"": np.flatnonzero(is_control)}
    places, covariates = cells.source.obs(facts["covariate_column"])
    found = {
        str(name): np.flatnonzero(is_control & (places == number))
        for number, name in enumerate(covariates)
        if str(name) in facts["covariates"]
    }
    return {name: own for name, own in found.items() if np.isin(own, cells.positions).any()}


def _groups(model: Trained, asked: Asked, covariates: list[str]) -> tuple[Group, ...]:
    """Return what is predicted; it needs controls."""
    groups = model.part("test") if asked.conditions is None else model.groups(asked.conditions, covariates)
    lacking = sorted({group.covariate for group in groups} - set(covariates))
    if lacking or not covariates:
        msg = f"there are no control cells of {listed(lacking or model.facts['covariates'], 3)} in these data."
        raise DataError(msg)
    return groups
