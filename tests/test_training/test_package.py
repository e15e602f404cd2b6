from __future__ import annotations

import subprocess
import sys

import pytest

from scmodelforge import training


def test_importing_the_package_loads_neither_torch_nor_fabric():
    code = "import sys, scmodelforge.training; sys.exit(bool({'torch', 'lightning_fabric'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_public_name_can_be_had():
    for name in training.__all__:
        assert getattr(training, name).__name__ == name


def test_another_name_cannot():
    with pytest.raises(AttributeError, match="has no attribute 'fitt'"):
        _ = training.fitt
