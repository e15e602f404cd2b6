"""What is known of genes by their vectors: labels that a probe can read off them, and their nearest genes."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import BenchmarkConfig
from scmodelforge.data.draws import generator
from scmodelforge.eval.base import BenchmarkInputs, Record, register_benchmark
from scmodelforge.eval.biology import sklearn_version
from scmodelforge.eval.genes.expression import expression_levels, gene_loadings
from scmodelforge.eval.genes.gene_sets import GeneSetConfig, LabelledGenes, labelled_genes, read_gene_set
from scmodelforge.eval.genes.nearest import nearest_genes
from scmodelforge.eval.genes.probes import ProbeScores, probe
from scmodelforge.eval.genes.vectors import GeneVectors, chosen_vectors, random_vectors
from scmodelforge.eval.metrics import RESAMPLES, interval
from scmodelforge.eval.networks.config import NetworkConfig
from scmodelforge.eval.networks.edges import read_edges
from scmodelforge.eval.perturbation.conditions import gene_key
from scmodelforge.eval.scope import scope_hash

__all__ = ["GeneEmbeddingQuality", "GeneEmbeddingQualityConfig"]

_NAME = "gene_embedding_quality"
_FACTORS, _FACTOR, _NO_FACTOR = "tf", "transcription factor", "other"


class GeneEmbeddingQualityConfig(BenchmarkConfig):
    """Settings of the benchmark."""

    name: str = _NAME
    gene_sets: list[GeneSetConfig] = Field(default_factory=list)
    """Tables of genes and labels: files, or files with settings. Each is scored by itself."""
    tf_network: NetworkConfig | None = None
    """Network whose factors are told from all other genes (``tf``)."""
    nearest: list[str] = Field(default_factory=list)
    """Genes whose nearest genes are listed."""
    num_nearest: int = Field(10, gt=0)
    """Nearest genes of each."""
    vectors: Literal["input", "contextual"] = "input"
    """Gene vectors: the model's table of tokens, or the mean hidden state of a gene's token over training cells."""
    num_folds: int = Field(5, gt=1)
    """Folds of the cross-validation."""
    num_repeats: int = Field(3, gt=0)
    """Times the genes are cut into folds anew."""
    min_genes: int = Field(10, gt=1)
    """Labels with fewer genes are left out and counted."""
    max_genes: int = Field(2000, gt=1)
    """Most genes of a label; more are drawn from."""


@register_benchmark(_NAME)
class GeneEmbeddingQuality:
    """AUROC of a logistic regression that reads labels off gene vectors, and tables of nearest genes.

    Metrics are named ``auroc_<vectors>_<gene set>``, such as ``auroc_input_dosage``: the mean over repeats, folds and
    labels, each label against the others. Beside it stand random vectors, the gene's expression level, loadings on
    principal components of expression, and the model's own vectors with permuted labels.
    """

    config_class: ClassVar[type[BenchmarkConfig]] = GeneEmbeddingQualityConfig
    needs: ClassVar[frozenset[str]] = frozenset({"gene_embeddings"})
    columns: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, config: BenchmarkConfig) -> None:
        self.config = GeneEmbeddingQualityConfig.model_validate(config.model_dump())
        _check(self.config)
        self._sets = {each.label: read_gene_set(each) for each in self.config.gene_sets}
        if self.config.tf_network is not None:
            factors = np.unique(read_edges(self.config.tf_network).tfs).tolist()
            self._sets[_FACTORS] = {_FACTOR: factors}

    def run(self, inputs: BenchmarkInputs) -> list[Record]:
        """Fit and score probes on genes; expression is that of training cells."""
        vectors = chosen_vectors(inputs.gene_embeddings, self.config.vectors)
        records = [self._scored(name, vectors, inputs) for name in self._sets]
        return [*records, *([self._nearest(vectors, inputs)] if self.config.nearest else [])]

    def _scored(self, name: str, vectors: GeneVectors, inputs: BenchmarkInputs) -> Record:
        others = _NO_FACTOR if name == _FACTORS and self.config.tf_network is not None else None
        limits = {"min_genes": self.config.min_genes, "max_genes": self.config.max_genes, "seed": inputs.seed}
        genes = labelled_genes(name, self._sets[name], vectors, others=others, **limits)
        metric = f"auroc_{vectors.kind}_{name}"
        params = {**genes.facts, "labels": list(genes.labels), "vectors": vectors.kind, "seed": inputs.seed}
        params |= {"scored_genes": scope_hash(_labels_of(genes, vectors))}
        features = vectors.vectors[genes.genes].astype(np.float64)
        reason = None
        if len(genes.labels) < 2:
            reason = f"{len(genes.labels)} labels have {self.config.min_genes} genes with vectors; two are needed"
        elif (features == features[:1]).all():
            reason = "all genes have the same vector"
        lacking = {
            "without a vector": int(genes.facts["genes_without_vector"]),
            "of several labels": int(genes.facts["genes_of_several_labels"]),
        }
        left = sum(lacking.values())
        if reason is not None:
            skipped = {"n_skipped": left + len(genes.genes), "skipped_reason": reason}
            return inputs.record(_NAME, metric, None, params=params, library=sklearn_version(), **skipped)
        scores = self._probe(features, genes, vectors, inputs)
        aurocs = scores.aurocs()
        how: dict[str, Any] = {
            "num_folds": self.config.num_folds,
            "num_repeats": self.config.num_repeats,
            "resamples": RESAMPLES,
        }
        how |= {"probe": "logistic regression, C 1, classes weigh alike", "converged": scores.converged}
        draws = scores.bootstrap(len(genes.genes), seed=inputs.seed, purpose=f"gene set {name}")
        return inputs.record(
            _NAME,
            metric,
            float(aurocs.mean()),
            interval=interval(draws),
            n=len(genes.genes),
            n_skipped=left,
            skipped_reason="; ".join(f"{n:,} genes {what}" for what, n in lacking.items() if n) or None,
            params=params | how,
            tables={"per_label": _per_label(scores, aurocs, genes)},
            baselines=self._baselines(genes, vectors, inputs),
            library=sklearn_version(),
        )

    def _probe(
        self, features: np.ndarray, genes: LabelledGenes, vectors: GeneVectors, inputs: BenchmarkInputs
    ) -> ProbeScores:
        return probe(
            features,
            genes.codes,
            [vectors.names[number] for number in genes.genes],
            num_folds=self.config.num_folds,
            num_repeats=self.config.num_repeats,
            seed=inputs.seed,
        )

    def _baselines(self, genes: LabelledGenes, vectors: GeneVectors, inputs: BenchmarkInputs) -> dict[str, float]:
        """Return the values of baselines, which stand beside the model's alone."""
        if inputs.representation != "model":
            return {}
        names = [vectors.names[number] for number in genes.genes]
        features = {"random": random_vectors(names, vectors.vectors.shape[1], seed=inputs.seed)}
        if vectors.counts is not None and vectors.counts.shape[0] > 1:
            features["expression"] = expression_levels(vectors.counts)[genes.genes]
            loadings = gene_loadings(vectors.counts, seed=inputs.seed)
            features |= {} if loadings is None else {"svd": loadings[genes.genes]}
        found = {
            name: float(self._probe(rows.astype(np.float64), genes, vectors, inputs).aurocs().mean())
            for name, rows in features.items()
        }
        order = generator(inputs.seed, "permuted labels", genes.name).permutation(len(genes.codes))
        permuted = LabelledGenes(genes.name, genes.genes, genes.codes[order], genes.labels)
        own = vectors.vectors[genes.genes].astype(np.float64)
        return found | {"permuted_labels": float(self._probe(own, permuted, vectors, inputs).aurocs().mean())}

    def _nearest(self, vectors: GeneVectors, inputs: BenchmarkInputs) -> Record:
        """Return the table of nearest genes; the value, mean cosine of the nearest one, says little by itself."""
        numbers = vectors.find(self.config.nearest)
        missing = [name for name, number in zip(self.config.nearest, numbers, strict=True) if number < 0]
        is_known = len(missing) < len(numbers)
        table = nearest_genes(vectors, self.config.nearest, self.config.num_nearest) if is_known else {}
        first = (
            [cosine for rank, cosine in zip(table["rank"], table["cosine"], strict=True) if rank == 1] if table else []
        )
        keys = [gene_key(name) for name in vectors.names]
        scored = [("all", name) for name in keys] + [("asked", keys[number]) for number in numbers if number >= 0]
        params = {"num_nearest": self.config.num_nearest, "distance": "cosine", "vectors": vectors.kind}
        params |= {"scored_genes": scope_hash(scored)}
        return inputs.record(
            _NAME,
            f"nearest_cosine_{vectors.kind}",
            float(np.mean(first)) if first else None,
            n=len(self.config.nearest) - len(missing),
            n_skipped=len(missing),
            skipped_reason=f"genes without a vector: {', '.join(missing)}" if missing else None,
            params=params,
            tables={"nearest": table} if table else {},
            library=f"numpy {np.__version__}",
            is_detail=True,
        )


def _labels_of(genes: LabelledGenes, vectors: GeneVectors) -> list[tuple[str, str]]:
    """Return each gene that is scored with its label."""
    labels = [genes.labels[code] for code in genes.codes]
    return [(gene_key(vectors.names[number]), label) for number, label in zip(genes.genes, labels, strict=True)]


def _per_label(scores: ProbeScores, aurocs: np.ndarray, genes: LabelledGenes) -> dict[str, list[Any]]:
    numbers = sorted(set(scores.labels))
    of_label = np.array(scores.labels)
    return {
        "label": [genes.labels[number] for number in numbers],
        "num_genes": [int((genes.codes == number).sum()) for number in numbers],
        "auroc": [float(aurocs[of_label == number].mean()) for number in numbers],
        "lowest_fold": [float(aurocs[of_label == number].min()) for number in numbers],
        "highest_fold": [float(aurocs[of_label == number].max()) for number in numbers],
    }


def _check(config: GeneEmbeddingQualityConfig) -> None:
    if not (config.gene_sets or config.tf_network or config.nearest):
        msg = (
            f"benchmark '{_NAME}' has nothing to look for; name tables of genes and labels (gene_sets: [dosage.csv]), "
            "a network of factors (tf_network: dorothea.tsv), or genes (nearest: [CD3E])."
        )
        raise ConfigError(msg)
    names = [each.label for each in config.gene_sets] + ([_FACTORS] if config.tf_network else [])
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        msg = f"benchmark '{_NAME}': two gene sets are called '{repeated}'; give one another 'name'."
        raise ConfigError(msg)
    if config.min_genes < config.num_folds:
        msg = (
            f"benchmark '{_NAME}': min_genes ({config.min_genes}) is below num_folds ({config.num_folds}), so a fold "
            "may lack a label; raise the former or lower the latter."
        )
        raise ConfigError(msg)
