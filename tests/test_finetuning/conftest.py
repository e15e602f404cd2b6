"""A small base model, and cells with what tasks learn from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import yaml

from scmodelforge.hub.bundle import save_bundle
from tests.conftest import make_adata
from tests.test_life_cycle import train
from tests.test_workflows.ready_models import BINNED, GENES, ready_model


def scored_cells(num_cells: int = 120, *, seed: int = 0) -> ad.AnnData:
    """Return cells whose ``score`` is told by two genes, up to noise; some have none."""
    adata = make_adata(num_cells, len(GENES), seed=seed)
    rng = np.random.default_rng(seed)
    counts = np.asarray(adata.X.todense())
    adata.obs["score"] = 100 + 10 * (np.log1p(counts[:, 1]) - np.log1p(counts[:, 2])) + rng.normal(0, 0.5, num_cells)
    adata.obs.loc[adata.obs_names[::10], "score"] = np.nan
    return adata


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Return a folder with a base model and cells."""
    folder = tmp_path_factory.mktemp("finetuning")
    adata = scored_cells()
    adata.write_h5ad(folder / "cells.h5ad")
    save_bundle(folder / "base", ready_model(tokenizer=BINNED, pooling="mean", dropout=0.0), card="")
    return folder


@pytest.fixture
def settings(place, tmp_path) -> Callable[..., Path]:
    """Return what writes settings of a run: of the task, and changes of the others by section."""

    def write(name: str = "run", *, changes: dict | None = None, **finetune) -> Path:
        config = {
            "data": {
                "paths": [str(place / "cells.h5ad")],
                "split": {"by": "cells", "validation_fraction": 0.3},
                "num_workers": 0,
            },
            "finetune": {"base_model": str(place / "base"), **finetune},
            "training": {
                "batch_size": 16,
                "max_epochs": 2,
                "optimizer": {"lr": 3e-3},
                "precision": "32-true",
                "accelerator": "cpu",
                "log_every_n_steps": 1,
            },
            "eval": {"benchmarks": []},
            "output": {"run_dir": str(tmp_path / name), "tensorboard": False},
        }
        for section, own in (changes or {}).items():
            config[section] |= own
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config))
        return path

    return write


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
