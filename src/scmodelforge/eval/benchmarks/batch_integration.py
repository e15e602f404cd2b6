"""Are batches mixed within cell types? The batch silhouette, never without the biology scores beside it.

An embedding without any structure mixes batches perfectly, so the batch score alone says nothing.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from scmodelforge.config.schema import BenchmarkConfig
from scmodelforge.eval.base import BenchmarkInputs, Record, register_benchmark
from scmodelforge.eval.biology import biology_records, column_of, labelled
from scmodelforge.eval.metrics import RESAMPLES, bootstrap_mean, interval, silhouette_samples

__all__ = ["BatchIntegration", "BatchIntegrationConfig"]

_NAME = "batch_integration"
_METRIC = "silhouette_batch"


class BatchIntegrationConfig(BenchmarkConfig):
    """Settings of the benchmark."""

    name: str = _NAME
    kmeans_starts: int = Field(10, gt=0)
    """Starts of k-means; the tightest clustering counts."""


@register_benchmark(_NAME)
class BatchIntegration:
    """``silhouette_batch`` of the held-out cells, with the metrics of ``embedding_quality`` beside it.

    ``silhouette_batch`` is 1 - |s| of the batches among the cells of a label, averaged over the label's cells, then
    over labels (Luecken et al. 2022, doi:10.1038/s41592-021-01336-8). A label whose cells are all of one batch, or
    each of a batch of its own, is left out and counted.
    """

    config_class: ClassVar[type[BenchmarkConfig]] = BatchIntegrationConfig
    needs: ClassVar[frozenset[str]] = frozenset({"embeddings"})
    columns: ClassVar[frozenset[str]] = frozenset({"label", "batch"})

    def __init__(self, config: BenchmarkConfig) -> None:
        self.config = BatchIntegrationConfig.model_validate(config.model_dump())

    def run(self, inputs: BenchmarkInputs) -> list[Record]:
        """Score the held-out cells; nothing is fitted on training cells."""
        batch = _silhouette_batch(inputs)
        return [batch, *biology_records(_NAME, inputs, n_init=self.config.kmeans_starts)]


def _silhouette_batch(inputs: BenchmarkInputs) -> Record:
    cells, codes, names = labelled(_NAME, inputs)
    batches = column_of(cells, "batch", _NAME, inputs)
    has_batch = batches != ""
    cells, codes, batches = cells.select(has_batch), codes[has_batch], batches[has_batch]
    reason = _no_score(cells.is_constant, batches)
    scores: list[np.ndarray] = []
    left_out: list[str] = []
    for code, name in enumerate(names) if reason is None else []:
        rows = np.flatnonzero(codes == code)
        _, own = np.unique(batches[rows], return_inverse=True)
        if len(rows) == 0 or not 1 < own.max() + 1 < len(rows):
            left_out.append(str(name))
            continue
        scores.append(1 - np.abs(silhouette_samples(cells.embeddings[rows], own)))
    num_scored = sum(len(each) for each in scores)
    library = f"numpy {np.__version__}"
    if not scores:
        reason = reason or "no label has cells of several batches"
        return inputs.record(
            _NAME, _METRIC, None, library=library, n_skipped=len(inputs.heldout), skipped_reason=reason
        )
    reasons = []
    if left_out:
        reasons.append(f"labels without several batches of several cells: {', '.join(left_out)}")
    if num_scored + np.isin(names[codes], left_out).sum() < len(inputs.heldout):
        reasons.append("cells without a label or batch")
    groups = np.repeat(np.arange(len(scores)), [len(each) for each in scores])
    draws = bootstrap_mean(np.concatenate(scores), groups=groups, seed=inputs.seed, purpose="silhouette batch")
    return inputs.record(
        _NAME,
        _METRIC,
        float(np.mean([each.mean() for each in scores])),
        interval=interval(draws),
        n=num_scored,
        n_skipped=len(inputs.heldout) - num_scored,
        skipped_reason="; ".join(reasons) or None,
        library=library,
        params={
            "distance": "euclidean",
            "num_labels": len(scores),
            "labels_left_out": left_out,
            "num_batches": len(np.unique(batches)),
            "seed": inputs.seed,
            "resamples": RESAMPLES,
        },
    )


def _no_score(is_constant: bool, batches: np.ndarray) -> str | None:
    """Return why nothing can be scored at all, if so."""
    found = np.unique(batches)
    if len(found) == 0:
        return "no held-out cell has a label and a batch"
    if len(found) == 1:
        return f"all held-out cells are of the batch '{found[0]}'; two batches are needed"
    return "all held-out cells have the same embedding" if is_constant else None
