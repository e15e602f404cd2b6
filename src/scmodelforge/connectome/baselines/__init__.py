"""Predictions of connectivity that need no neural model of genes, under names; see ``docs/connectome.md``."""

from scmodelforge.connectome.baselines.base import Baseline, get_baseline, list_baselines, register_baseline

__all__ = ["Baseline", "get_baseline", "list_baselines", "register_baseline"]
