"""What the entries of ``Record.params`` are: settings, what is scored, what came out, and facts of a model.

Two scores can be compared if their settings and what they are scored on are the same; the rest may differ.
Every name that a benchmark writes stands in one of these sets. One that does not, of a plugin, is taken for a setting.
"""

from __future__ import annotations

__all__ = ["OUTCOMES", "SCOPE", "SCORED", "SETTINGS", "TOLD", "is_told", "must_match"]

#: What was asked for: how a metric is computed.
SETTINGS = frozenset(
    {
        "C", "alpha", "backend", "baseline", "best", "candidates", "clipped_below_0", "condition_column", "convention",
        "covariate_columns", "de_test", "distance", "fdr", "flavour", "graph", "graph_k", "heads", "init", "k", "keys",
        "mapping", "max_iter", "metrics", "min_class_size", "min_targets", "most_cells", "n_init", "num_cells",
        "num_folds", "num_nearest", "num_repeats", "others", "perplexity", "perturbation", "probe", "pseudocount",
        "ranked", "reference", "resamples", "resolutions", "scale", "scaled", "scaler", "selected_on", "space",
        "subsample_seed", "subsample_size", "subsampled_by", "task", "tells_direction", "test", "threshold_quantile",
        "ties", "unknown_pairs", "vectors", "weights",
    }
)  # fmt: skip

#: Hashes of what is scored, which as many others do not have, and what each is of.
SCORED = {
    "scored_conditions": "conditions",
    "scored_genes": "genes",
    "scored_edges": "edges",
    "scored_labels": "labels",
}

#: What is scored: cells, labels, genes and edges. Of genes, those that the vocabulary of a model has.
SCOPE = frozenset(SCORED) | frozenset(
    {
        "genes_of_label", "genes_of_several_labels", "genes_without_vector", "group_key", "held_out_from_model",
        "isolated_labels", "labels", "labels_in_both", "labels_left_out", "labels_of_query_only",
        "labels_of_reference_only", "network", "num_batches", "num_candidates", "num_edges", "num_genes", "num_groups",
        "num_groups_on_both_sides", "num_labels", "num_train", "num_training_cells", "num_without_group",
        "subsample_of_reference",
    }
)  # fmt: skip

#: What came out, of the model or of the file of predictions.
OUTCOMES = frozenset(
    {
        "baselines_left_out", "between_batches", "between_batches_before", "cells_found", "cells_looked_for",
        "cells_with_fewer_neighbors", "chosen_by",
        "converged", "direction", "head", "labels_averaged", "labels_in_pieces", "largest_prediction", "layer",
        "model_origin", "n_found", "num_duplicates", "num_genes_not_measured", "num_genes_not_predicted",
        "num_predicted_not_measured", "num_predicted_not_scored", "num_test_not_predicted", "num_training_conditions",
        "num_unseen", "num_without_real_de_genes", "pairs_in_no_cell", "resolution", "share_rejected", "tfs_in_no_cell",
        "threshold", "unseen_labels",
    }
)  # fmt: skip

#: Facts of a model or a run that may differ, and are told where they do; so is all that begins with ``trained_on``.
TOLD = frozenset({"checkpoint_chosen_on_scored_cells", "predicted_control", "seed"})

#: Outcomes of which some metrics are made: what cells with labels that a probe or head cannot give are told apart by.
_OF_UNSEEN_LABELS = frozenset({"num_unseen", "unseen_labels"})
_ON_UNSEEN_LABELS = ("unknown_", "open_", "unseen_", "seen_")


def must_match(name: str, metric: str) -> bool:
    """Tell whether an entry must be the same in two records of a metric for their scores to be compared."""
    if name in _OF_UNSEEN_LABELS and metric.startswith(_ON_UNSEEN_LABELS):
        return True
    return name not in OUTCOMES and not is_told(name)


def is_told(name: str) -> bool:
    """Tell whether an entry may differ, and is told where it does."""
    return name in TOLD or name.startswith("trained_on")
