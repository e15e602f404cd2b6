"""The contract of a model, checked on tiny synthetic cells: what the rest of the package relies on."""

from __future__ import annotations

from scmodelforge.workflows.model_check.results import CheckResult
from scmodelforge.workflows.model_check.runner import check_model
from scmodelforge.workflows.model_check.target import find_model_class

__all__ = ["CheckResult", "check_model", "find_model_class"]
