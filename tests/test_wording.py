"""Errors of a command name its options, not settings of a file that it has none of."""

from __future__ import annotations

import re

import numpy as np
import pytest
from typer.testing import CliRunner

from scmodelforge._errors import DataError
from scmodelforge._wording import in_words_of, worded
from scmodelforge.cli.main import app
from tests.conftest import make_adata
from tests.test_life_cycle import train


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    make_adata(120, 40).write_h5ad(folder / "cells.h5ad")
    return train(folder, folder / "cells.h5ad", eval__benchmarks=[], training__max_epochs=1).parent / "run"


@pytest.fixture
def other(tmp_path):
    """Cells the model has not seen, with a path to write them to."""
    return make_adata(90, 40, seed=7), tmp_path / "other.h5ad"


def evaluate(*words):
    result = CliRunner().invoke(app, ["evaluate", *map(str, words)])
    return result.exit_code, " ".join(result.output.split())


class TestWords:
    def test_only_whole_paths_of_settings_are_replaced(self):
        options = {"data.split.by": "--split-by", "data.layer": "--layer"}
        text = "set data.layer. See data.layers, data.split.by_label, my.data.layer, data.layer.x, data.split.by: ok"
        expected = "set --layer. See data.layers, data.split.by_label, my.data.layer, data.layer.x, --split-by: ok"
        assert worded(text, options) == expected

    def test_an_error_stays_what_it_is(self):
        class OfRowsError(DataError):
            def __init__(self, text, rows):
                super().__init__(text)
                self.rows = rows

        with pytest.raises(OfRowsError, match=r"^check --layer$") as caught, in_words_of({"data.layer": "--layer"}):
            raise OfRowsError("check data.layer", 3)
        assert caught.value.rows == 3


class TestEvaluate:
    def test_counts_in_a_layer_and_ids_in_a_column_are_read(self, model, other):
        adata, path = other
        adata.layers["mine"] = adata.X
        adata.var["their_ids"] = adata.var_names
        adata.var_names = [f"probe_{number}" for number in range(adata.n_vars)]
        adata.X = np.zeros(adata.shape, np.float32)
        adata.write_h5ad(path)
        options = ["--eval", "cell_type_annotation", "--layer", "mine", "--gene-id-column", "their_ids"]
        status, text = evaluate(model, "--data", path, *options)
        assert status == 0, text

    @pytest.mark.parametrize(("fault", "advice"), [
        ("file", "--data"), ("genes", "set --gene-id-column to the var"), ("mouse", "set --gene-id-column to it"),
        ("layer", "--layer"), ("column", "--gene-id-column"), ("empty", "check --layer"), ("negative", "--layer"),
    ])  # fmt: skip
    def test_every_advice_can_be_followed(self, model, other, fault, advice):
        adata, path = other
        if fault == "genes":
            adata.var_names = [f"probe_{number}" for number in range(adata.n_vars)]
        if fault == "mouse":
            adata.var_names = [f"ENSMUSG{number:011d}" for number in range(adata.n_vars)]
        if fault == "empty":
            adata.X = np.zeros(adata.shape, np.float32)
        if fault == "negative":
            adata.X = -np.asarray(adata.X.todense() if hasattr(adata.X, "todense") else adata.X)
        if fault != "file":
            adata.write_h5ad(path)
        options = {"layer": ["--layer", "none"], "column": ["--gene-id-column", "none"]}.get(fault, [])
        status, text = evaluate(model, "--data", path, *options)
        assert status == 2, text
        assert advice in text
        assert not re.search(r"\bdata\.[a-z_]+", text), text

    def test_a_run_s_own_cells_take_neither(self, model):
        status, text = evaluate(model, "--layer", "mine")
        assert status == 2
        assert "--layer has no effect with a run's own cells" in text
