"""Connectivity of pairs of brain regions, predicted from the gene expression of both.

Public names are imported when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scmodelforge.connectome.baselines import Baseline, get_baseline, list_baselines, register_baseline
    from scmodelforge.connectome.comparison import PairedDifference, paired_difference
    from scmodelforge.connectome.data import RegionPairDataset, minmax_scaled, region_pair_collate
    from scmodelforge.connectome.files import read_expression, read_regions
    from scmodelforge.connectome.metrics import (
        connectivity_matrix,
        connectivity_metrics,
        geodesic_distance,
        metrics_by_group,
        pair_groups,
    )
    from scmodelforge.connectome.models import (
        ConnectomeModel,
        get_connectome_model,
        list_connectome_models,
        register_connectome_model,
    )
    from scmodelforge.connectome.models.cross_attention import CrossAttentionGene2VecModel
    from scmodelforge.connectome.models.self_attention import (
        SharedSelfAttentionGene2VecModel,
        SharedSelfAttentionModel,
        SharedSelfAttentionPoolingModel,
    )
    from scmodelforge.connectome.nulls import null_expression, surrogate_maps
    from scmodelforge.connectome.regions import Regions, without_missing
    from scmodelforge.connectome.splits import (
        RegionSplit,
        pair_wise_split,
        region_folds,
        region_wise_split,
        split_regions,
    )
    from scmodelforge.connectome.synthetic import PlantedRegions, planted_regions

__all__ = [
    "Baseline",
    "ConnectomeModel",
    "CrossAttentionGene2VecModel",
    "PairedDifference",
    "PlantedRegions",
    "RegionPairDataset",
    "RegionSplit",
    "Regions",
    "SharedSelfAttentionGene2VecModel",
    "SharedSelfAttentionModel",
    "SharedSelfAttentionPoolingModel",
    "connectivity_matrix",
    "connectivity_metrics",
    "geodesic_distance",
    "get_baseline",
    "get_connectome_model",
    "list_baselines",
    "list_connectome_models",
    "metrics_by_group",
    "minmax_scaled",
    "null_expression",
    "pair_groups",
    "pair_wise_split",
    "paired_difference",
    "planted_regions",
    "read_expression",
    "read_regions",
    "region_folds",
    "region_pair_collate",
    "region_wise_split",
    "register_baseline",
    "register_connectome_model",
    "split_regions",
    "surrogate_maps",
    "without_missing",
]

_HOMES = {
    "baselines": ("Baseline", "get_baseline", "list_baselines", "register_baseline"),
    "comparison": ("PairedDifference", "paired_difference"),
    "data": ("RegionPairDataset", "minmax_scaled", "region_pair_collate"),
    "files": ("read_expression", "read_regions"),
    "metrics": (
        "connectivity_matrix",
        "connectivity_metrics",
        "geodesic_distance",
        "metrics_by_group",
        "pair_groups",
    ),
    "models": (
        "ConnectomeModel",
        "get_connectome_model",
        "list_connectome_models",
        "register_connectome_model",
    ),
    "models.cross_attention": ("CrossAttentionGene2VecModel",),
    "models.self_attention": (
        "SharedSelfAttentionGene2VecModel",
        "SharedSelfAttentionModel",
        "SharedSelfAttentionPoolingModel",
    ),
    "nulls": ("null_expression", "surrogate_maps"),
    "regions": ("Regions", "without_missing"),
    "splits": ("RegionSplit", "pair_wise_split", "region_folds", "region_wise_split", "split_regions"),
    "synthetic": ("PlantedRegions", "planted_regions"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        msg = f"module '{__name__}' has no attribute '{name}'"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
