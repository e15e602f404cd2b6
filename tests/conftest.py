"""Fixtures shared by all tests: tiny models, batches and files."""

from __future__ import annotations

import os
import sys

# Beside each other, tests with several threads each wait for one another.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from scmodelforge import _registry
from scmodelforge.data import _compile

# Each property is tried on some examples here, and on more in .ci/full (--hypothesis-profile=thorough).
settings.register_profile("fast", max_examples=30, deadline=None)
settings.register_profile("thorough", max_examples=200, deadline=None)
settings.load_profile("fast")

# Pictures are drawn by PCA wherever the tests run: UMAP may be installed or not, and compiles for half a minute.
sys.modules["umap"] = None

#: Tests of the Census need the extra ``census``, whose packages take minutes to install; .ci/full has them.
collect_ignore = [] if find_spec("tiledbsoma") else ["test_data/test_census.py"]
#: So do those of datamodules and of Perturb-seq: extras ``lightning``, ``scvi`` and ``pert``.
if not find_spec("lightning"):
    collect_ignore += ["test_training/test_datamodule.py", "test_workflows/test_datamodule.py"]
if not find_spec("scvi"):
    collect_ignore += ["test_models/test_scvi.py", "test_training/test_scvi.py"]
if not find_spec("pertpy"):
    collect_ignore += ["test_data/test_perturbation.py", "test_data/test_perturbation_metadata.py"]
#: And those that compare with scib-metrics and scanpy: extra ``scib-metrics``.
if not find_spec("scib_metrics"):
    collect_ignore += ["test_eval/test_embedding/test_official.py"]

#: Models that need one of these packages. Where it is installed, tests of their own hold them to the common contract.
OPTIONAL_MODELS = frozenset({"scvi"})


@pytest.fixture(scope="module")
def real_umap():
    """Let packages import UMAP, of which scanpy's neighbours are made, where it is installed."""
    sys.modules.pop("umap", None)
    yield
    sys.modules["umap"] = None


@pytest.fixture
def tiny_config():
    """Settings of a model small enough to train in a test; no dropout, so that two passes agree."""
    from scmodelforge.config.schema import ModelConfig

    return ModelConfig(
        vocab_size=50, hidden_dim=16, num_layers=2, num_heads=2, dropout=0.0, max_seq_len=32, pooling="mean"
    )


@pytest.fixture
def dummy_batch():
    """Return four cells of twelve tokens with padding and masked genes."""
    import torch

    draw = torch.Generator().manual_seed(0)
    input_ids = torch.randint(4, 50, (4, 12), generator=draw)
    attention_mask = torch.ones(4, 12)
    attention_mask[0, 9:] = 0
    input_ids[0, 9:] = 0
    masked = torch.zeros(4, 12, dtype=torch.bool)
    masked[:, 2] = True
    masked[1:, 7] = True
    labels = torch.where(masked, input_ids, torch.full_like(input_ids, -100))
    values = torch.rand(4, 12, generator=draw).masked_fill(masked, 0.0)
    return {
        "input_ids": input_ids.masked_fill(masked, 2),
        "attention_mask": attention_mask,
        "values": values,
        "labels": labels,
        "masked_positions": masked,
    }


def make_adata(num_cells: int = 60, num_genes: int = 40, *, seed: int = 0, prefix: str = "ENSG"):
    """Return cells of three types with negative-binomial counts, donors and batches in obs."""
    import anndata as ad
    import pandas as pd
    import scipy.sparse as sp

    rng = np.random.default_rng(seed)
    types = rng.integers(0, 3, num_cells)
    means = rng.gamma(1.0, 2.0, (3, num_genes))
    counts = rng.poisson(means[types] * rng.gamma(5, 0.2, (num_cells, 1))).astype(np.float32)
    counts[:, 0] += 1  # no empty cell
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical([f"type{t}" for t in types]),
            "donor_id": pd.Categorical([f"d{i % 5}" for i in range(num_cells)]),
            "batch": pd.Categorical([f"b{i % 2}" for i in range(num_cells)]),
        },
        index=[f"cell{i}" for i in range(num_cells)],
    )
    genes = [f"{prefix}{i:011d}" for i in range(1, num_genes + 1)]
    return ad.AnnData(X=sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=genes))


@pytest.fixture
def tiny_adata():
    """Return 60 cells of 40 genes in memory."""
    return make_adata()


@pytest.fixture(scope="session")
def _bytes_of_tiny_h5ad(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("tiny") / "tiny.h5ad"
    make_adata().write_h5ad(path)
    return path.read_bytes()


@pytest.fixture
def tiny_h5ad(tmp_path: Path, _bytes_of_tiny_h5ad) -> Path:
    """Return the path of a small .h5ad file with counts."""
    path = tmp_path / "tiny.h5ad"
    path.write_bytes(_bytes_of_tiny_h5ad)
    return path


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_the_disk():
    """Leave what is written to the system: no test outlives a loss of power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True)
def _forget_that_many_cells_were_loaded():
    """Leave loops uncompiled where a test has few cells, whatever others had."""
    yield
    _compile._state.many_to_come = False


@pytest.fixture(autouse=True)
def _forget_foreign_parts():
    """Take out what a test registered, so that no test meets the parts of another one."""
    registries = (
        _registry.MODELS, _registry.TOKENIZERS, _registry.SOURCES, _registry.OBJECTIVES, _registry.BENCHMARKS,
        _registry.IMPORTERS,
    )  # fmt: skip
    before = [set(registry._parts) for registry in registries]
    yield
    for registry, names in zip(registries, before, strict=True):
        for name in set(registry._parts) - names:
            if not registry._parts[name].__module__.startswith("scmodelforge."):
                del registry._parts[name]
