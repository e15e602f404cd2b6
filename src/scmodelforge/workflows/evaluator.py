"""Scores a model on sets of cells beside baselines: other embeddings of the same cells."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge.eval.annotation import LabelPredictions
from scmodelforge.eval.base import Record
from scmodelforge.workflows.baseline_embeddings import baseline_embeddings, in_order, need_counts, pca_of
from scmodelforge.workflows.gene_vectors import GeneInputs, gene_inputs
from scmodelforge.workflows.label_predictions import LabelHead
from scmodelforge.workflows.label_transfer import TransferSet
from scmodelforge.workflows.metric_trial import tried
from scmodelforge.workflows.prepare import PreparedData
from scmodelforge.workflows.read_cells import embedded_cells
from scmodelforge.workflows.scored_cells import EvaluationSet, ScoredCells
from scmodelforge.workflows.team import Team
from scmodelforge.workflows.views import CellViews, SeenCells

__all__ = ["EvaluationSet", "Evaluator"]

_log = logging.getLogger(__name__)


class Evaluator:
    """Scores a model on sets of cells. The cells and the baselines' embeddings are computed once and kept.

    Parameters
    ----------
    sets
        The cells and what is run on them.
    transfers
        Pairs of data sets, of which one gives labels to the other.
    untrained
        Makes the model before training.
    head_of
        Returns the head of a model that learned cell types, which labels the held-out cells.
    baselines
        Some of :data:`~scmodelforge.workflows.baseline_embeddings.BASELINES`.
    max_cells
        Most cells of each part, subsampled by label.
    batch_size
        Cells of a forward pass.
    seed
        Seed of subsamples, probes and intervals.
    """

    def __init__(
        self,
        sets: Sequence[EvaluationSet],
        *,
        transfers: Sequence[TransferSet] = (),
        untrained: Callable[[], nn.Module],
        head_of: Callable[[nn.Module], LabelHead | None] = lambda _: None,
        baselines: Sequence[str],
        max_cells: int,
        batch_size: int,
        seed: int,
    ) -> None:
        self._untrained, self._batch_size, self._seed = untrained, batch_size, seed
        self._names = in_order(baselines)
        self._sets = [ScoredCells.of(each, max_cells=max_cells, seed=seed) for each in sets]
        self._transfers, self._head_of = transfers, head_of
        self._predictions: dict[str, LabelPredictions] = {}
        self._genes: dict[str, dict[str, GeneInputs]] = {}
        self._train_counts: dict[str, Any] = {}
        self._baselines: dict[str, dict[str, np.ndarray]] = {}
        self._scored: dict[str, list[Record]] = {}
        self._last: dict[str, np.ndarray] = {}

    def evaluate(
        self,
        model: nn.Module,
        *,
        model_id: str,
        device: torch.device,
        autocast: Callable[[], Any] = nullcontext,
        team: Team | None = None,
    ) -> list[Record]:
        """Return the records of the model and of the baselines on all sets; of a team, the first process gets them."""
        self.embed(model, device=device, autocast=autocast, team=team)
        return self.score(model_id) if team is None or team.is_first else []

    def embed(
        self,
        model: nn.Module,
        *,
        device: torch.device,
        autocast: Callable[[], Any] = nullcontext,
        team: Team | None = None,
    ) -> None:
        """Embed the cells of all sets, by all processes of a team, for :meth:`score`; the first time, by the baselines.

        Those that need no model are left to the process that scores.
        """
        team = team or Team.alone(device)
        where: dict[str, Any] = {"device": device, "autocast": autocast}
        for each in self._sets:
            self._last[each.name] = self._embed(each, model, each.positions, team, where)
            head = self._head_of(model)
            if head is not None:
                rows = self._embed(each, head, each.positions[each.num_train :], team, where)
                self._predictions[each.name] = head.predictions(rows)
            if team.is_first:
                self._genes[each.name] = {"model": self._gene_inputs(each, model, where)}
            if each.name not in self._baselines:
                self._baselines[each.name] = {}
                if "untrained" in self._names:
                    untrained = team.place(self._untrained)
                    rows = self._embed(each, untrained, each.positions, team, where)
                    self._baselines[each.name] = {"untrained": rows}
                    if team.is_first:
                        self._genes[each.name]["untrained"] = self._gene_inputs(each, untrained, where)
        for pair in self._transfers:
            pair.embed(model, team=team, **where)

    def score(self, model_id: str) -> list[Record]:
        """Return the records of the model that embedded the cells last, and of the baselines; no model is needed."""
        records: list[Record] = []
        for each in self._sets:
            if each.name not in self._scored:
                self._baselines[each.name] = self._embed_baselines(each)
            records += self._score(each, self._last[each.name], model_id)
        for pair in self._transfers:
            records += pair.score(model_id)
        return records

    def require_embeddings_alone(self, why: str) -> None:
        """Refuse benchmarks that look into the model itself.

        Raises
        ------
        ConfigError
            If there is one; ``why`` stands in the message.
        """
        for each in self._sets:
            for name, benchmark in zip(each.benchmark_names, each.benchmarks, strict=True):
                if benchmark.needs & {"gene_embeddings", "model"}:
                    msg = (
                        f"benchmark '{name}' looks into the whole model, and {why}; take it out of eval.benchmarks and "
                        f"run it afterwards: scmodelforge evaluate RUN --benchmark {name}"
                    )
                    raise ConfigError(msg)

    def check_metric(self, key: str) -> None:
        """Make sure that a benchmark gives a metric on these cells, by scoring noise.

        A benchmark that looks into the whole model is not tried; the log then says that nothing is known of the metric.

        Raises
        ------
        ConfigError
            If it does not.
        """
        trial = tried(key, self._sets, self._transfers, head_of=self._head_of, untrained=self._untrained)
        if not trial.check("output.best_metric", key):
            _log.info(
                f"output.best_metric is '{key}', of a benchmark that looks into the whole model: whether it has a "
                "value here is known after the first evaluation only"
            )

    def seen(self) -> SeenCells | None:
        """Return the held-out cells of the first set that has labels, else of the first, as last evaluated."""
        known = [each for each in self._sets if each.name in self._last]
        each = next((each for each in known if each.labels is not None), known[0] if known else None)
        if each is None:
            return None
        held = slice(each.num_train, None)
        return SeenCells(
            dataset=each.name,
            model=self._last[each.name][held],
            baselines={name: rows[held] for name, rows in self._baselines[each.name].items()},
            labels=None if each.labels is None else each.labels[held],
            batches=None if each.batches is None else each.batches[held],
            label_key=each.label_key,
            batch_key=each.batch_key,
        )

    def data(self) -> dict[str, PreparedData]:
        """Return the data of each set, by its name."""
        return {each.name: each.data for each in self._sets}

    def views(self) -> CellViews | None:
        """Return the cells of :meth:`seen` for a picture, if they have labels."""
        seen = self.seen()
        return None if seen is None else seen.views()

    def _score(self, each: ScoredCells, vectors: np.ndarray, model_id: str) -> list[Record]:
        """Return the records of a set. The baselines never change, so they are scored once."""
        more: dict[str, Any] = {
            "predictions": self._predictions.get(each.name),
            "genes": self._genes.pop(each.name),  # with a model that is of no more use, in the first evaluation
        }
        if each.name not in self._scored:
            found = each.score({"model": vectors, **self._baselines[each.name]}, model_id, **more)
            self._scored[each.name] = [replace(record) for record in found if record.representation != "model"]
            return found
        found = each.score({"model": vectors}, model_id, **more)
        baselines = [replace(record, model_id=model_id) for record in self._scored[each.name]]
        values: dict[str, dict[str, float]] = {}
        for other in baselines:
            if other.value is not None:
                values.setdefault(other.key, {})[other.representation] = other.value
        for record in found:
            record.baselines |= values.get(record.key, {})
        return [*found, *baselines]

    def _gene_inputs(self, each: ScoredCells, model: nn.Module, where: dict[str, Any]) -> GeneInputs:
        """Return what benchmarks of genes get of a model; the counts of training cells are read once."""
        if each.name not in self._train_counts and any("gene_embeddings" in made.needs for made in each.benchmarks):
            self._train_counts[each.name] = each.counts()[: each.num_train]
        return gene_inputs(
            model,
            each.data,
            each.config,
            benchmarks=each.benchmarks,
            positions=each.positions[: each.num_train],
            batch_size=self._batch_size,
            seed=self._seed,
            counts=self._train_counts.get(each.name),
            **where,
        )

    def _embed(
        self, each: ScoredCells, model: nn.Module, wanted: np.ndarray, team: Team, where: dict[str, Any]
    ) -> np.ndarray:
        return embedded_cells(
            model, each.data, each.config, wanted, team=team, batch_size=self._batch_size, seed=self._seed, **where
        )

    def _embed_baselines(self, each: ScoredCells) -> dict[str, np.ndarray]:
        """Return the embeddings of all baselines by name; the untrained model's are there."""
        known, width = self._baselines[each.name], self._last[each.name].shape[1]
        # One walk through the data for all.
        counts = each.counts() if need_counts(self._names) or each.uses_reference else None
        found = baseline_embeddings(self._names, each, counts, width=width, untrained=known.get("untrained"))
        if each.uses_reference:
            each.reference = found["pca"] if "pca" in found else pca_of(each, counts)
        return found
