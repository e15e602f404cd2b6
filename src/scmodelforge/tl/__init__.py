"""Trained models on AnnData objects, as scanpy users call things: ``smf.tl.embed(adata, "runs/lung")``."""

from scmodelforge.tl.cells import annotate, embed, predict
from scmodelforge.tl.perturbations import perturb, predict_perturbation

__all__ = ["annotate", "embed", "perturb", "predict", "predict_perturbation"]
