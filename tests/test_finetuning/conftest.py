"""A small base model and cells to adapt it to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import make_adata
from tests.test_life_cycle import train


@pytest.fixture(scope="session")
def cells(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    make_adata(80, 30).write_h5ad(path)
    return path


@pytest.fixture(scope="session")
def base(tmp_path_factory, cells) -> Path:
    """Return a run folder; cells are as those of ``cells``."""
    folder = tmp_path_factory.mktemp("base")
    return train(folder, cells, "base", training__max_epochs=1, eval__benchmarks=[], model__num_layers=2)
