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


@pytest.mark.parametrize("name", ["CellDataModule", "ScviDataModule"])
def test_a_datamodule_without_lightning_says_how_to_install_it(name, monkeypatch):
    for module in ("lightning", "lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, module, None)
    for module in ("datamodule", "scvi"):
        monkeypatch.delitem(sys.modules, f"scmodelforge.training.{module}", raising=False)
    with pytest.raises(ImportError, match=r"'lightning'. Install it with: pip install 'scmodelforge\[lightning\]'"):
        getattr(training, name)
