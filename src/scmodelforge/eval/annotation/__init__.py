"""How well labels of cells are told: probes, a model's own head, what their confidence is worth, unknown labels."""

from scmodelforge.eval.annotation.predictions import LabelPredictions

__all__ = ["LabelPredictions"]
