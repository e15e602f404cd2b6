"""Does a model know which transcription factors regulate which genes? Held against networks of known edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config.schema import BenchmarkConfig
from scmodelforge.data.draws import generator
from scmodelforge.eval.base import BenchmarkInputs, Record, register_benchmark
from scmodelforge.eval.biology import sklearn_version
from scmodelforge.eval.genes.vectors import GeneVectors, chosen_vectors
from scmodelforge.eval.metrics import RESAMPLES, interval
from scmodelforge.eval.networks.baselines import NetworkBaseline, baseline_scores
from scmodelforge.eval.networks.config import NetworkConfig
from scmodelforge.eval.networks.edges import EdgeTable, read_edges
from scmodelforge.eval.networks.matching import Network, match_edges
from scmodelforge.eval.networks.model_scores import PairScores, by_attention, by_cosine, by_perturbation
from scmodelforge.eval.networks.scores import per_tf_scores, permuted_network, rank_pairs
from scmodelforge.eval.perturbation.conditions import gene_key
from scmodelforge.eval.ranking import RANKING_METRICS
from scmodelforge.eval.scope import scope_hash

__all__ = ["GeneNetworkInference", "GeneNetworkInferenceConfig"]

_NAME = "gene_network_inference"
_PER_TF = "auroc_per_tf"
_DETAILS = ("auprc", _PER_TF)


class GeneNetworkInferenceConfig(BenchmarkConfig):
    """Settings of the benchmark."""

    name: str = _NAME
    networks: list[NetworkConfig] = Field(default_factory=list)
    """Known edges: files, or files with settings. Each is scored by itself."""
    score: Literal["embedding", "attention", "insilico"] = "embedding"
    """``embedding`` is the cosine of gene vectors, ``attention`` the rank of the attention between the tokens of both
    genes, ``insilico`` how far the hidden state of a gene moves when the factor is changed."""
    vectors: Literal["input", "contextual"] = "input"
    """Gene vectors: the model's table of tokens, or the mean hidden state of a gene's token over training cells."""
    min_targets: int = Field(5, gt=0)
    """Factors with fewer known targets have no score of their own; they count in those over all factors."""
    baselines: list[NetworkBaseline] = Field(
        ["random", "pearson", "svd", "expression", "target_degree", "tf_degree"], min_length=1
    )
    """Scores that need no model. ``genie3`` takes a forest for each gene, and so its time."""
    select_on: NetworkConfig | None = None
    """Network that the attention head is chosen by, another one than those that are scored; ``None`` averages all."""
    perturbation: Literal["delete", "overexpress"] = "delete"
    """What is done to the factor, with ``score: insilico``."""
    num_cells: int = Field(200, gt=0)
    """Cells that attention and perturbations look at; training cells, drawn by the seed."""
    genie3_trees: int = Field(100, gt=0)
    """Trees of each forest."""
    genie3_cells: int = Field(1000, gt=1)
    """Most cells that forests are fitted on."""


@register_benchmark(_NAME)
class GeneNetworkInference:
    """AUROC, AUPRC, AUPRC ratio and early precision ratio of each network, over all factors and for each by itself.

    Metrics are named ``<metric>_<score>_<network>``, such as ``auroc_cosine_input_trrust``. Intervals are over factors.
    An unknown pair counts as no edge, so every precision is a lower bound. ``permuted_network`` among the baselines is
    the model's own score on a network whose targets were exchanged.
    """

    config_class: ClassVar[type[BenchmarkConfig]] = GeneNetworkInferenceConfig
    needs: ClassVar[frozenset[str]] = frozenset({"gene_embeddings"})
    columns: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, config: BenchmarkConfig) -> None:
        self.config = GeneNetworkInferenceConfig.model_validate(config.model_dump())
        if self.config.score != "embedding":
            self.needs = frozenset({"gene_embeddings", "model"})  # type: ignore[misc]
        if not self.config.networks:
            msg = (
                f"benchmark '{_NAME}' has no network to score; name files of known edges: "
                f"eval.benchmarks: [{{name: {_NAME}, networks: [dorothea.tsv]}}]."
            )
            raise ConfigError(msg)
        _check_names(self.config)
        self._tables = [read_edges(each) for each in self.config.networks]
        self._kept: dict[tuple[Any, ...], tuple[dict[str, dict[str, Any]], dict[str, str]]] = {}
        self._selection = None if self.config.select_on is None else read_edges(self.config.select_on)

    def run(self, inputs: BenchmarkInputs) -> list[Record]:
        """Score the pairs of each network. Nothing is fitted to its edges; expression is that of training cells."""
        vectors = chosen_vectors(inputs.gene_embeddings, self.config.vectors)
        networks = [self._matched(table, vectors) for table in self._tables]
        scored = [network for network in networks if network.truth.any()]
        reason = "all genes have the same vector" if vectors.is_constant else None
        scores = self._pair_scores(vectors, inputs, scored) if scored and reason is None else None
        records = []
        for network in networks:
            if scores is None or not network.truth.any():
                why = reason or f"no edge of '{network.name}' is between two genes of the model"
                records += self._skipped(network, inputs, why)
            else:
                records += self._records(network, scores, vectors, inputs)
        return records

    def _matched(self, table: EdgeTable, vectors: GeneVectors) -> Network:
        return match_edges(table, vectors.names, symbols=vectors.symbols)

    def _pair_scores(self, vectors: GeneVectors, inputs: BenchmarkInputs, networks: list[Network]) -> PairScores:
        if self.config.score == "embedding":
            return by_cosine(vectors)
        if inputs.model is None:
            msg = f"benchmark '{_NAME}' with score '{self.config.score}' needs the model, and there is none."
            raise DataError(msg)
        model = inputs.model.limited(self.config.num_cells)
        if self.config.score == "insilico":
            return by_perturbation(model, vectors.names, networks, kind=self.config.perturbation)
        select_on = None if self._selection is None else self._matched(self._selection, vectors)
        return by_attention(model, vectors.names, networks, select_on=select_on)

    def _metric(self, name: str, network: str) -> str:
        kind = {
            "embedding": f"cosine_{self.config.vectors}",
            "attention": "attention" if self.config.select_on is None else "attention_head",
            "insilico": f"insilico_{self.config.perturbation}",
        }
        return f"{name}_{kind[self.config.score]}_{network}"

    def _records(
        self, network: Network, scores: PairScores, vectors: GeneVectors, inputs: BenchmarkInputs
    ) -> list[Record]:
        matrix, facts = scores(network)
        own = _Scored.of(matrix, network, self.config.min_targets)
        draws = rank_pairs(matrix, network).bootstrap(seed=inputs.seed, purpose=f"network {network.name}")
        draws[_PER_TF] = _means_of_draws(own.per_tf["auroc"], seed=inputs.seed)
        baselines, left_out = self._baselines(matrix, network, vectors, inputs)
        params = self._params(network, vectors, inputs) | facts | ({"baselines_left_out": left_out} if left_out else {})
        records = []
        for name in (*RANKING_METRICS, _PER_TF):
            value, reason = own.values[name], _left_out(name, network, own, self.config.min_targets)
            num_tfs = len(own.per_tf["tf"]) if name == _PER_TF else len(network.tfs)
            num_tfs = 0 if value is None else num_tfs
            records.append(
                inputs.record(
                    _NAME,
                    self._metric(name, network.name),
                    value,
                    interval=None if value is None else interval(draws[name]),
                    n=num_tfs,
                    n_skipped=network.facts["tfs_in_network"] - num_tfs,
                    skipped_reason=reason,
                    params=dict(params),
                    tables={"per_tf": own.per_tf} if name == "auroc" else {},
                    baselines={each: found[name] for each, found in baselines.items() if found[name] is not None},
                    library=sklearn_version(),
                    is_detail=name in _DETAILS,
                )
            )
        return records

    def _params(self, network: Network, vectors: GeneVectors, inputs: BenchmarkInputs) -> dict[str, Any]:
        genes = [gene_key(name) for name in vectors.names]
        return {
            "network": dict(network.facts),
            "candidates": "factors with a known edge x genes with a vector, without self pairs",
            "num_candidates": int(network.is_candidate.sum()),
            "num_edges": int(network.truth.sum()),
            "scored_edges": scope_hash(network.edges(genes)),
            "unknown_pairs": "counted as no edge",
            "ties": "in expectation",
            "vectors": vectors.kind,
            "num_genes": len(vectors),
            "scored_genes": scope_hash(genes),
            "num_training_cells": 0 if vectors.counts is None else int(vectors.counts.shape[0]),
            "min_targets": self.config.min_targets,
            "seed": inputs.seed,
            "resamples": RESAMPLES,
        }

    def _baselines(
        self, matrix: np.ndarray, network: Network, vectors: GeneVectors, inputs: BenchmarkInputs
    ) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        """Return the values of baselines, which stand beside the model's alone; those of known cells are kept."""
        if inputs.representation != "model":
            return {}, {}
        key = (network.name, inputs.dataset, inputs.dataset_hash, inputs.split_hash, inputs.seed, vectors.names)
        if inputs.split_hash is None or key not in self._kept:
            found, left_out = baseline_scores(
                self.config.baselines,
                network,
                vectors,
                seed=inputs.seed,
                genie3_trees=self.config.genie3_trees,
                genie3_cells=self.config.genie3_cells,
            )
            scored = {name: _Scored.of(each, network, self.config.min_targets).values for name, each in found.items()}
            self._kept = {each: kept for each, kept in self._kept.items() if each[0] != network.name}
            self._kept[key] = scored, left_out
        values, left_out = dict(self._kept[key][0]), self._kept[key][1]
        permuted = rank_pairs(matrix, network).scores(permuted_network(network, seed=inputs.seed))
        values["permuted_network"] = {name: _or_none(value) for name, value in permuted.items()} | {_PER_TF: None}
        return values, left_out

    def _skipped(self, network: Network, inputs: BenchmarkInputs, reason: str) -> list[Record]:
        left = {"n_skipped": network.facts["tfs_in_network"], "skipped_reason": reason}
        return [
            inputs.record(
                _NAME,
                self._metric(name, network.name),
                None,
                params={"network": dict(network.facts)},
                library=sklearn_version(),
                is_detail=name in _DETAILS,
                **left,
            )
            for name in (*RANKING_METRICS, _PER_TF)
        ]


@dataclass(frozen=True)
class _Scored:
    """Values of all metrics, and those of single factors."""

    values: dict[str, float | None]
    per_tf: dict[str, list[Any]]

    @classmethod
    def of(cls, matrix: np.ndarray, network: Network, min_targets: int) -> _Scored:
        values = {name: _or_none(value) for name, value in rank_pairs(matrix, network).scores().items()}
        per_tf = per_tf_scores(matrix, network, min_targets=min_targets)
        defined = [value for value in per_tf["auroc"] if value is not None]
        return cls(values | {_PER_TF: float(np.mean(defined)) if defined else None}, per_tf)


def _left_out(metric: str, network: Network, own: _Scored, min_targets: int) -> str | None:
    """Return which factors of a network a metric does not count, if any."""
    reasons = []
    without = network.facts["tfs_in_network"] - len(network.tfs)
    if without:
        reasons.append(f"{without:,} factors without a known edge between two genes of the model")
    few = len(network.tfs) - len(own.per_tf["tf"]) if metric == _PER_TF else 0
    if few:
        reasons.append(f"{few:,} factors with fewer than {min_targets} known targets among the genes")
    if own.values[metric] is None and not (metric == _PER_TF and not own.per_tf["tf"]):
        reasons.append("every pair is a known edge")
    return "; ".join(reasons) or None


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value


def _means_of_draws(values: list[float | None], *, seed: int) -> np.ndarray:
    """Return means over factors drawn with replacement, shape (resamples,)."""
    defined = np.array([value for value in values if value is not None])
    if len(defined) == 0:
        return np.zeros(0)
    random = generator(seed, "bootstrap", "factors")
    return np.asarray(defined[random.integers(len(defined), size=(RESAMPLES, len(defined)))].mean(axis=1))


def _check_names(config: GeneNetworkInferenceConfig) -> None:
    labels = [each.label for each in config.networks]
    repeated = next((label for label in labels if labels.count(label) > 1), None)
    if repeated is not None:
        msg = f"benchmark '{_NAME}': two networks are called '{repeated}'; give one another 'name'."
        raise ConfigError(msg)
    if config.select_on is not None and config.score != "attention":
        msg = f"benchmark '{_NAME}': select_on chooses an attention head, but score is '{config.score}'; leave it out."
        raise ConfigError(msg)
    if config.select_on is not None and config.select_on.path in {each.path for each in config.networks}:
        msg = (
            f"benchmark '{_NAME}': select_on is {config.select_on.path}, which is scored too; "
            "choose the head by another network."
        )
        raise ConfigError(msg)
