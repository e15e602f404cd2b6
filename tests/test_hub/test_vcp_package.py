"""``hub export --format vcp``: the package for CZI's Virtual Cells Platform."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.torch import load_file

from scmodelforge.workflows import vcp_loader
from scmodelforge.workflows.embedder import CellEmbedder
from tests.conftest import make_adata
from tests.test_hub.commands import contents, invoke, model

__all__ = ["model"]  # a fixture


class TestVcp:
    @pytest.fixture
    def package(self, model, tmp_path) -> Path:
        invoke("export", model, tmp_path / "package", "--format", "vcp", "--licence", "apache-2.0")
        return tmp_path / "package"

    @pytest.fixture
    def cells(self, tmp_path) -> Path:
        make_adata(12, 20).write_h5ad(tmp_path / "cells.h5ad")
        return tmp_path / "cells.h5ad"

    def test_has_the_files_that_its_command_line_looks_for(self, package, model):
        assert (package / "model_card_docs/model_card_details.md").read_text().startswith("# transformer_encoder")
        assert len(list(package.glob("*mlflow_pkg"))) == 1
        data = package / "mlflow_pkg/model_data"
        assert not [path for path in data.rglob("*") if path.name.startswith(".")]  # it leaves hidden files out
        weights, own = load_file(data / "model.safetensors"), load_file(model / "model.safetensors")
        assert all((weights[name] == own[name]).all() for name in own)
        artifact = package / "mlflow_pkg/mlflow_model_artifact"
        assert contents(artifact / "data") == contents(data)
        assert not [path for path in package.rglob("*") if path.suffix in (".pkl", ".pt")]

    def test_metadata_have_the_fields_that_are_submitted_and_invent_nothing(self, package, model, tmp_path):
        text = (package / "model_card_docs/model_card_metadata.yaml").read_text()
        fields = yaml.safe_load(text)
        assert fields["licenses"] == [{"name": "apache-2.0", "type": "apache-2.0"}]
        assert "trained on 40 cells" in fields["model_description"]
        assert (fields["model_version"], fields["repository_link"], fields["authors"]) == ("", "", [])
        assert text.startswith(
            "# Before 'vcp model submit' fill in what is empty: model_version, repository_link, authors."
        )
        result = invoke("export", model, tmp_path / "other", "--format", "vcp")
        assert "fill in before you submit it: model_version, licenses, repository_link, authors" in result.stderr

    def test_its_code_embeds_cells_as_the_model_does(self, package, cells, model, tmp_path):
        path = package / "mlflow_pkg/mlflow_model_artifact/code/scmodelforge_vcp.py"
        assert path.read_bytes() == Path(vcp_loader.__file__).read_bytes()
        spec = importlib.util.spec_from_file_location("scmodelforge_vcp", path)
        code = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(code)
        loaded = code._load_pyfunc(str(package / "mlflow_pkg/mlflow_model_artifact/data"))
        files = pd.DataFrame({"input_uri": [str(cells)], "output_uri": [str(tmp_path / "embedded.h5ad")]})
        rows = loaded.predict(files)
        embedder = CellEmbedder(model)
        expected = embedder.get_embeddings(embedder.process_data(ad.read_h5ad(cells)))
        np.testing.assert_array_equal(rows.to_numpy(), expected)
        assert list(rows.index) == [f"cell{i}" for i in range(12)]
        np.testing.assert_array_equal(ad.read_h5ad(tmp_path / "embedded.h5ad").obsm["X_scmodelforge"], expected)
        assert loaded.predict(files[["input_uri"]]).shape == rows.shape

    @pytest.mark.slow
    def test_its_code_is_a_script(self, package, cells, tmp_path):
        script = package / "mlflow_pkg/mlflow_model_artifact/code/scmodelforge_vcp.py"
        out = tmp_path / "embedded.h5ad"
        subprocess.run([sys.executable, script, cells, out], check=True, env={**os.environ})
        assert ad.read_h5ad(out).obsm["X_scmodelforge"].shape == (12, 16)

    def test_mlflow_finds_what_it_needs(self, package):
        artifact = package / "mlflow_pkg/mlflow_model_artifact"
        flavour = yaml.safe_load((artifact / "MLmodel").read_text())["flavors"]["python_function"]
        assert (artifact / flavour["code"] / f"{flavour['loader_module']}.py").is_file()
        assert (artifact / flavour["data"] / "config.json").is_file()
        assert all((artifact / name).is_file() for name in flavour["env"].values())

    @pytest.mark.skipif(find_spec("mlflow") is None, reason="MLflow is not installed")
    def test_mlflow_loads_it(self, package, cells):
        import mlflow

        loaded = mlflow.pyfunc.load_model(str(package / "mlflow_pkg/mlflow_model_artifact"))
        assert loaded.predict(pd.DataFrame({"input_uri": [str(cells)]})).shape == (12, 16)
