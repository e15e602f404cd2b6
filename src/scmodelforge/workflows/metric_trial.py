"""Which metrics benchmarks give on some cells, found out before there is a model to score: they are run on noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from scmodelforge._errors import ConfigError, nearest
from scmodelforge.eval.base import Record
from scmodelforge.eval.baselines import random_embedding
from scmodelforge.eval.harness import MODEL
from scmodelforge.workflows.gene_vectors import GeneInputs, noise_vectors
from scmodelforge.workflows.label_predictions import LabelHead
from scmodelforge.workflows.label_transfer import TransferSet
from scmodelforge.workflows.scored_cells import ScoredCells

__all__ = ["Trial", "tried"]

_WIDTH = 16
_NOISE = "noise"  # for benchmarks that make baselines beside the model: there is no need of them


@dataclass(frozen=True)
class Trial:
    """What benchmarks of a name give on cells of a name.

    Attributes
    ----------
    records
        Those of noise.
    is_whole
        Whether all of these benchmarks could be tried.
    """

    records: list[Record]
    is_whole: bool

    def check(self, path: str, key: str) -> bool:
        """Make sure that a metric has a value, and return whether that could be found out.

        Parameters
        ----------
        path
            The setting that names the metric.
        key
            ``eval/BENCHMARK/DATASET/METRIC``.

        Raises
        ------
        ConfigError
            If the benchmark does not give it, or it has no value on these cells.
        """
        _, benchmark, _, metric = key.split("/")
        found = {record.metric: record for record in self.records}
        if metric not in found:
            if not self.is_whole:
                return False
            msg = (
                f"{path} is '{key}', which benchmark '{benchmark}' does not give."
                f"{nearest(metric, list(found))} It gives: {', '.join(found)}."
            )
            raise ConfigError(msg)
        if found[metric].value is None:
            msg = f"{path} is '{key}', which has no value here: {found[metric].skipped_reason}."
            raise ConfigError(msg)
        return True


def tried(
    key: str,
    sets: Sequence[ScoredCells],
    transfers: Sequence[TransferSet],
    *,
    head_of: Callable[[nn.Module], LabelHead | None],
    untrained: Callable[[], nn.Module],
) -> Trial:
    """Run the benchmarks of a metric on noise: embeddings, vectors of genes, answers of a model's head.

    A benchmark that looks into the whole model is not tried: that takes as long as an evaluation.

    Parameters
    ----------
    key
        The metric.
    sets, transfers, head_of, untrained
        As of :class:`~scmodelforge.workflows.evaluator.Evaluator`.
    """
    _, benchmark, dataset, _ = key.split("/")
    records, is_whole = [], True
    for each in sets:
        named = zip(each.benchmark_names, each.benchmarks, strict=True)
        for made in [made for name, made in named if name == benchmark and each.name == dataset]:
            if made.needs <= {"embeddings"}:
                records += _of_embeddings(each, made, key, head_of, untrained)
            elif made.needs <= {"embeddings", "gene_embeddings"}:
                records += _of_genes(each, made)
            else:
                is_whole = False
    if benchmark == "label_transfer":
        records += [record for pair in transfers if pair.benchmark.expected == dataset for record in pair.of_noise()]
    return Trial(records, is_whole)


def _of_embeddings(
    each: ScoredCells,
    benchmark: Any,
    key: str,
    head_of: Callable[[nn.Module], LabelHead | None],
    untrained: Callable[[], nn.Module],
) -> list[Record]:
    noise = random_embedding(each.positions, _WIDTH, seed=each.seed)
    own = replace(each, benchmarks=[benchmark], reference=noise if each.uses_reference else None)
    records = own.score({MODEL: noise}, "")
    if key in {record.key for record in records}:
        return records
    head = head_of(_without_numbers(untrained))
    if head is None:
        return records
    scores = np.exp(random_embedding(each.positions[each.num_train :], len(head.names), seed=each.seed))
    answers = head.predictions(scores / scores.sum(axis=1, keepdims=True))
    return own.score({MODEL: noise}, "", predictions=answers)


def _of_genes(each: ScoredCells, benchmark: Any) -> list[Record]:
    vectors = {kind: noise_vectors(each.data, kind, _WIDTH, seed=each.seed) for kind in [benchmark.config.vectors]}
    noise = random_embedding(each.positions, _WIDTH, seed=each.seed)
    found: list[Record] = benchmark.run(each.inputs(noise, _NOISE, genes=GeneInputs(dict(vectors), None)))
    return found


def _without_numbers(build: Callable[[], nn.Module]) -> nn.Module:
    """Return a model of which only its kind matters, without memory for its weights where it can be made so."""
    try:
        with torch.device("meta"):
            return build()
    except (NotImplementedError, RuntimeError):
        return build()
