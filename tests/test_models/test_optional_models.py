"""Models that need an optional package are listed without it, and say what they need when they are made."""

from __future__ import annotations

import sys

import pytest

from scmodelforge._registry import MODELS
from scmodelforge.models import get_model, list_models
from scmodelforge.models.scvi import SCVIConfig


def test_scvi_is_listed_and_has_settings():
    assert "scvi" in list_models()
    assert MODELS.get("scvi").config_class is SCVIConfig


def test_scvi_names_the_package_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "scvi", None)  # as if it were not installed
    with pytest.raises(ImportError, match=r"^Model 'scvi' needs the package 'scvi'. Install it with: pip install 'scm"):
        get_model("scvi", SCVIConfig(vocab_size=50))
