from __future__ import annotations

import numpy as np
import pytest

from scmodelforge.datasets.entries import DATASETS, DatasetInfo, SplitRecipe
from tests.conftest import make_adata
from tests.test_datasets.servers import file_server


@pytest.fixture(scope="session")
def content(tmp_path_factory) -> bytes:
    """Return an .h5ad file of more than a megabyte, so that it arrives in several pieces."""
    adata = make_adata()
    adata.obs["final_annotation"] = adata.obs["cell_type"]  # as the immune atlas has it
    adata.uns["ballast"] = np.random.default_rng(0).integers(0, 256, 1_200_000, dtype=np.uint8)
    path = tmp_path_factory.mktemp("content") / "cells.h5ad"
    adata.write_h5ad(path)
    return path.read_bytes()


@pytest.fixture
def server(content):
    with file_server(content) as state:
        yield state


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Return the folder in which fetched data sets are kept."""
    monkeypatch.setenv("SCMODELFORGE_CACHE", str(tmp_path / "cache"))
    for name in ("SCMODELFORGE_DATASETS", "SCMODELFORGE_DATASETS_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache" / "datasets"


@pytest.fixture
def tiny(monkeypatch):
    """Register a data set without address and checksum, as those are that others publish."""

    def register(**changes) -> DatasetInfo:
        facts = {
            "name": "tiny",
            "description": "Sixty cells",
            "organism": "human",
            "label_column": "cell_type",
            "batch_column": "batch",
            "licence": "CC BY 4.0",
            "citation": "Nobody 2026, doi:10.1000/1",
            "where": "cells.h5ad of nobody's page",
            "split": SplitRecipe("donor_id"),
        }
        entry = DatasetInfo(**{**facts, **changes})
        monkeypatch.setitem(DATASETS, "tiny", entry)
        return entry

    register()
    return register
