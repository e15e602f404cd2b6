"""``scmodelforge tokenize`` and ``scmodelforge tokenizer fetch``."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from tests.test_tokenizers.small_dictionaries import GENES, write_tables


def invoke(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(autouse=True)
def cells(tmp_path, monkeypatch):
    monkeypatch.setenv("SCMODELFORGE_CACHE", str(tmp_path / "cache"))
    counts = np.random.default_rng(0).poisson(2.0, (9, 12)).astype(np.float32)
    obs = pd.DataFrame({"n_counts": counts.sum(axis=1), "tissue": ["lung"] * 9}, index=[f"c{i}" for i in range(9)])
    path = tmp_path / "cells.h5ad"
    ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=GENES)).write_h5ad(path)
    return path


def test_dictionaries_are_fetched_once_and_then_found(cells, tmp_path):
    out = tmp_path / "tokens.parquet"
    words = ["tokenize", cells, out, "--preset", "geneformer-v2", "--compat", "--ties", "stable", "--obs", "tissue"]
    result = invoke(*words)
    assert result.exit_code == 2
    assert "scmodelforge tokenizer fetch geneformer-v2 --from hub" in result.stderr
    result = invoke("tokenizer", "fetch", "geneformer-v2", "--from", write_tables(tmp_path / "tables"))
    assert result.exit_code == 0, result.output
    assert "geneformer-v2: 16 tokens in" in result.stderr
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    assert "; ties: stable; compat: geneformer_v2" in result.stderr
    assert "genes: 12 of 12 kept with 100.0% of the counts; 0 lost" in result.stderr
    assert "cells: 9 of 9 kept" in result.stderr
    assert pq.read_table(out).column_names == ["cell_index", "input_ids", "length", "tissue"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tokenize", "cells.h5ad", "out.parquet", "-p", "scvi"], "unknown preset 'scvi'"),
        (
            ["tokenize", "cells.h5ad", "out.parquet", "-p", "geneformer-v2", "--ties", "any"],
            "has token, stable",
        ),
        (["tokenize", "none.h5ad", "out.parquet", "-p", "geneformer-v2", "--dictionaries", "d"], "no file 'none.h5ad'"),
        (["tokenize", "cells.h5ad", "out.parquet", "-p", "geneformer-v2", "--dictionaries", "x"], "x: no such folder"),
        (["tokenizer", "fetch", "geneformer-v9"], "unknown preset 'geneformer-v9'. Did you mean"),
    ],
)
def test_wrong_words_have_status_2(tmp_path, monkeypatch, words, message):
    write_tables(tmp_path / "d")
    monkeypatch.chdir(tmp_path)
    result = invoke(*words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "out.parquet").exists()
