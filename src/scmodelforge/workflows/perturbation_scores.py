"""Scores of a run that learned perturbations: its test conditions, by which nothing was chosen, and all baselines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from scmodelforge._errors import ConfigError
from scmodelforge._registry import BENCHMARKS
from scmodelforge.config.schema import BenchmarkConfig, RunConfig
from scmodelforge.eval.base import Record
from scmodelforge.eval.harness import MODEL
from scmodelforge.eval.perturbation.conditions import Group
from scmodelforge.eval.perturbation.inputs import PerturbationPredictions, read_predictions
from scmodelforge.eval.perturbation.linear import GeneFactors
from scmodelforge.eval.standing import best_names
from scmodelforge.finetuning.perturbation.expression import condition_means
from scmodelforge.finetuning.perturbation.head import gene_table
from scmodelforge.finetuning.perturbation.predicting import trained
from scmodelforge.finetuning.perturbation.screen import tokens_of
from scmodelforge.finetuning.perturbation.starts import chosen_controls, control_cells
from scmodelforge.finetuning.tasks.perturbation_prediction import PerturbationPredictionTask
from scmodelforge.hub.bundle import Bundle
from scmodelforge.workflows.predict_perturbations import predicted_cells
from scmodelforge.workflows.prepare import PreparedData
from scmodelforge.workflows.read_cells import embedded_cells
from scmodelforge.workflows.score_predictions import scored
from scmodelforge.workflows.team import Team
from scmodelforge.workflows.trained_cells import base_params

__all__ = ["PredictionScores", "of_predictions", "winner_line"]

#: What the winner is told of, best known first.
_METRICS = ("rmse", "rmse_average")
#: Spread of predictions over conditions, as a share of that of the truth, below which they hardly vary.
_HARDLY = 0.05


def of_predictions(benchmarks: Sequence[BenchmarkConfig]) -> tuple[list[BenchmarkConfig], list[BenchmarkConfig]]:
    """Return the benchmarks that score predictions of perturbations, and the others."""
    found: tuple[list[BenchmarkConfig], list[BenchmarkConfig]] = ([], [])
    for each in benchmarks:
        found["predictions" not in getattr(BENCHMARKS.get(each.name), "needs", ())].append(each)
    return found


class PredictionScores:
    """Scores predictions of the test conditions of a run.

    Parameters
    ----------
    config, data
        Settings and data of the run.
    benchmarks
        The first of what :func:`of_predictions` returned.

    Raises
    ------
    ConfigError
        If the run learns no perturbations.
    """

    def __init__(self, config: RunConfig, data: PreparedData, benchmarks: Sequence[BenchmarkConfig]) -> None:
        if not isinstance(data.task, PerturbationPredictionTask):
            msg = (
                f"benchmark '{benchmarks[0].name}' scores predicted perturbations, which this run does not learn; set "
                "finetune.task to 'perturbation_prediction', or score a file: scmodelforge evaluate --predictions "
                f"PRED.h5ad --data REAL.h5ad --eval {benchmarks[0].name}."
            )
            raise ConfigError(msg)
        self._task, self._config, self._data = data.task, config, data
        self._made = [BENCHMARKS.get(each.name)(each) for each in benchmarks]

    def score(self, bundle: Bundle) -> tuple[list[Record], list[str]]:
        """Predict the test conditions and score them; return the records and what to say of them."""
        found = self._predictions(bundle)
        split = self._task.split
        assert split is not None
        facts = {
            "dataset": "own_test_conditions",
            "dataset_hash": self._data.source.fingerprint()[0]["sha256"],
            "split_hash": split.to_dict()["hash"],
            "model_id": bundle.model_id,
            "seed": self._config.eval.seed,
        }
        records, notes = scored(found, self._made, facts, self._vectors())
        for record in records:
            record.params |= base_params(self._data.base_scored)
        warnings = [line for line in notes if "no control cells" not in line]
        return records, [*warnings, *_sameness(found), *winner_line(records)]

    def _predictions(self, bundle: Bundle) -> PerturbationPredictions:
        import anndata as ad

        screen, split = self._task.screen, self._task.split
        assert screen is not None
        assert split is not None
        parts = [
            self._predicted(bundle, number, own)
            for number, covariate in enumerate(screen.covariates)
            if (own := [group for group in split.test if group.covariate == covariate])
        ]
        columns = screen.columns
        return read_predictions(
            ad.concat(parts) if len(parts) > 1 else parts[0],
            self._measured(),
            scale="log1p",
            condition=columns.condition,
            control=columns.control,
            covariates=[columns.covariate] if columns.covariate else [],
            train=[(group.covariate, group.perturbation) for group in split.train],
            test=[(group.covariate, group.perturbation) for group in split.test],
        )

    def _predicted(self, bundle: Bundle, number: int, groups: Sequence[Group]) -> Any:
        """Return control cells of a covariate after perturbations, as ``predict`` writes them."""
        screen, expression, config = self._task.screen, self._task.expression, self._config
        assert screen is not None
        assert expression is not None
        every = screen.controls[screen.covariate_codes[screen.controls] == number]
        known = np.concatenate([self._data.split.train, self._data.split.validation])
        chosen = chosen_controls(np.intersect1d(every, known))
        device = next(bundle.model.parameters()).device
        vectors = embedded_cells(
            bundle.model,
            self._data,
            config.data,
            chosen,
            team=Team.alone(device),
            batch_size=64,
            seed=config.eval.seed,
            device=device,
        )
        model = trained(bundle.model, bundle.model_config, bundle.vocab, bundle.labels)
        return predicted_cells(model, expression, control_cells(expression, chosen, every), vectors, groups)

    def _measured(self) -> Any:
        """Return controls and cells of test conditions, and of each training condition the mean: all that is used."""
        import anndata as ad
        import pandas as pd
        import scipy.sparse as sp

        screen, split, expression = self._task.screen, self._task.split, self._task.expression
        assert screen is not None
        assert split is not None
        assert expression is not None
        place = {group: number for number, group in enumerate(screen.groups)}
        test, train = (np.array([place[group] for group in part]) for part in (split.test, split.train))
        rows = np.flatnonzero(np.isin(screen.codes, [*test, -1]))
        order = np.full(len(screen.groups) + 2, -1)  # the last two are codes -2, -1
        order[train] = np.arange(len(train))
        means = condition_means(expression, order[screen.codes], len(train)).means
        columns = screen.columns
        names = np.array([*(group.perturbation for group in screen.groups), "", columns.control])
        obs = {columns.condition: np.concatenate([names[screen.codes[rows]], names[train]])}
        if columns.covariate:
            own = np.array(screen.covariates)[screen.covariate_codes[rows]]
            obs[columns.covariate] = np.concatenate([own, [group.covariate for group in split.train]])
        index = [*(f"cell{row}" for row in rows), *(f"mean{number}" for number in train)]
        return ad.AnnData(
            sp.vstack([expression.matrix(rows), sp.csr_matrix(means.astype(np.float32))], format="csr"),
            obs=pd.DataFrame(obs, index=index),
            var=pd.DataFrame(index=list(expression.genes)),
        )

    def _vectors(self) -> GeneFactors:
        """Return the base model's embeddings of perturbed genes, for the linear baseline on them."""
        screen, base = self._task.screen, self._task.base
        assert screen is not None
        genes = sorted({gene for group in screen.groups for gene in group.targets})
        tokens = tokens_of([Group("", gene) for gene in genes], self._data.vocab)[0]
        model: Any = base.model
        table = gene_table(getattr(model, "backbone", model))
        device = next(model.parameters()).device
        with torch.no_grad():
            vectors = table(torch.tensor([own[0] for own in tokens], device=device)).float().cpu().numpy()
        return GeneFactors.given(genes, vectors)


def winner_line(records: Sequence[Record]) -> list[str]:
    """Return who predicts best, by the error of means over all genes, in one line for each benchmark."""
    lines = []
    for benchmark in dict.fromkeys(record.benchmark for record in records):
        for metric in _METRICS:
            row = {
                record.representation: record
                for record in records
                if record.benchmark == benchmark and record.metric == metric and record.value is not None
            }
            if MODEL not in row:
                continue
            values = {name: float(record.value or 0.0) for name, record in row.items()}
            best = min(values, key=lambda name: values[name])
            others = {name: value for name, value in values.items() if name != MODEL}
            rival = min(others, key=lambda name: others[name]) if others else MODEL
            numbers = f"{metric} {values[MODEL]:.4f} against {values[rival]:.4f} of {rival}"
            alike = set(best_names(row)) >= {MODEL, rival}
            words = {
                True: f"the model predicts best ({numbers})",
                False: f"the model does NOT predict best: baseline {rival} does ({numbers})",
            }[best == MODEL]
            lines.append(f"{benchmark}: {words}{'; the intervals do not tell them apart' if alike else ''}")
            break
    return lines


def _sameness(found: PerturbationPredictions) -> list[str]:
    """Return a warning if predictions hardly differ between perturbations."""
    comparison = found.comparison
    if len(comparison.groups) < 2:
        return []
    spread = np.sqrt((comparison.predicted_means - comparison.predicted_control).var(axis=0).sum())
    truth = np.sqrt((comparison.real_means - comparison.real_control).var(axis=0).sum())
    if spread >= _HARDLY * truth:
        return []
    return [
        f"warning: the predictions hardly vary between perturbations (spread {spread:.3g}, of the measured ones "
        f"{truth:.3g}): the model knows no more than their mean"
    ]
