"""The names that the data layer offers."""

from __future__ import annotations

import subprocess
import sys

import pytest

from scmodelforge import data


def test_every_public_name_is_there():
    assert {name for name in data.__all__ if getattr(data, name).__name__ != name} == set()
    assert set(data.__all__) <= set(dir(data))


def test_another_name_is_not():
    with pytest.raises(AttributeError, match=r"module 'scmodelforge.data' has no attribute 'Loader'"):
        data.Loader  # noqa: B018


def test_names_are_imported_when_used():
    script = "import sys, scmodelforge.data; print([m for m in sys.modules if m in ('numpy', 'h5py', 'torch')])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
