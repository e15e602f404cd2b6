"""`scmodelforge generate`: synthetic cells of a model that was trained through the command line."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import yaml
from typer.testing import CliRunner

from scmodelforge._errors import ConfigError
from scmodelforge.cli.main import app
from scmodelforge.workflows.generate import GenerateOptions, _genes_to_draw
from tests.conftest import make_adata
from tests.test_life_cycle import invoke, settings


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "cells.h5ad"
    make_adata(80, 30).write_h5ad(path)
    return path


def train(folder: Path, data: Path, architecture: str, strategy: str) -> Path:
    config = settings(data, folder / architecture, training__max_epochs=1)
    config["tokenizer"]["strategy"] = strategy
    config["model"] |= {"architecture": architecture, "max_seq_len": 40}
    config["eval"] = {}
    path = folder / f"{architecture}.yaml"
    path.write_text(yaml.safe_dump(config))
    invoke("train", "--config", path)
    return folder / architecture


@pytest.fixture(scope="module")
def model(tmp_path_factory, data) -> Path:
    return train(tmp_path_factory.mktemp("runs"), data, "autoregressive_transformer", "binned_expression")


def generate(out: Path, *words: object) -> ad.AnnData:
    invoke("generate", out, *words)
    return ad.read_h5ad(out)


def refusal(*words: object) -> str:
    result = CliRunner().invoke(app, ["generate", *(str(word) for word in words)])
    assert result.exit_code == 2, result.output
    return " ".join(result.output.split())


class TestCells:
    def test_are_sparse_non_negative_and_as_many_as_asked_for(self, model, data, tmp_path):
        cells = generate(tmp_path / "cells.h5ad", "--model", model, "-n", 20)
        assert cells.shape == (20, 30)
        assert set(cells.var_names) == set(ad.read_h5ad(data).var_names)
        assert sp.issparse(cells.X)
        assert cells.X.min() >= 0
        assert cells.layers["bin"].max() <= 50
        assert bool(cells.uns["scmodelforge"]["synthetic"])
        assert cells.uns["scmodelforge"]["x_scale"] == "log1p_cp10k"

    def test_have_the_expression_of_their_bins(self, model, tmp_path):
        import json

        cells = generate(tmp_path / "cells.h5ad", "--model", model, "-n", 20)
        centres = np.array(json.loads((model / "model/tokenizer.json").read_text())["centres"]["values"])
        assert (np.diff(centres) >= 0).all()
        bins = cells.layers["bin"].toarray()
        np.testing.assert_allclose(cells.X.toarray(), centres[bins], rtol=1e-6)

    def test_have_as_many_genes_as_training_cells_unless_told(self, model, data, tmp_path):
        cells = generate(tmp_path / "cells.h5ad", "--model", model, "-n", 60)
        real = (ad.read_h5ad(data).X > 0).sum(axis=1)
        assert abs(np.median(cells.obs["n_generated"]) - np.median(np.asarray(real))) <= 2
        assert cells.obs["n_generated"].nunique() > 3
        told = generate(tmp_path / "told.h5ad", "--model", model, "-n", 5, "--num-genes", 7)
        assert (told.obs["n_generated"] == 7).all()

    def test_begin_with_the_prompt(self, model, tmp_path):
        gene, other = "ENSG00000000005", "ENSG00000000017"
        words = ["--model", model, "-n", 9, "--num-genes", 6, "--prompt", f"{gene}=44", "--prompt", f"{other}=3"]
        cells = generate(tmp_path / "cells.h5ad", *words)
        bins = cells[:, [gene, other]].layers["bin"].toarray()
        assert (bins == [44, 3]).all()
        assert (cells.obs["n_generated"] == 6).all()
        expressed = np.asarray((cells.X > 0).sum(axis=1)).ravel()
        assert (expressed <= 8).all()

    def test_follow_from_the_seed(self, model, tmp_path):
        words = ["--model", model, "-n", 12]
        first, same, other = (
            generate(tmp_path / f"{name}.h5ad", *words, "--seed", seed).X.toarray()
            for name, seed in (("first", 1), ("same", 1), ("other", 2))
        )
        np.testing.assert_array_equal(first, same)
        assert not np.array_equal(first, other)

    def test_do_not_depend_on_how_many_are_drawn_together(self, model, tmp_path):
        words = ["--model", model, "--num-genes", 12]
        together = generate(tmp_path / "together.h5ad", *words, "-n", 12)
        for name, more in (("few", ["-n", 12, "--batch-size", 5]), ("part", ["-n", 7])):
            cells = generate(tmp_path / f"{name}.h5ad", *words, *more)
            np.testing.assert_array_equal(cells.layers["bin"].toarray(), together.layers["bin"].toarray()[: len(cells)])

    def test_say_which_genes_they_are_of(self, model, tmp_path):
        cells = generate(tmp_path / "cells.h5ad", "--model", model, "-n", 3)
        assert cells.var.loc["ENSG00000000005", "symbol"] == "TNMD"

    def test_their_bins_are_not_taken_for_counts(self, model, data, tmp_path):
        generate(tmp_path / "cells.h5ad", "--model", model, "-n", 5)
        ranks = train(tmp_path, data, "transformer_encoder", "rank_value")
        words = ["embed", str(tmp_path / "cells.h5ad"), str(tmp_path / "out.h5ad"), "--model", str(ranks)]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 2, result.output
        assert "layer 'bin'" not in result.output

    def test_say_when_more_genes_are_drawn_than_the_model_was_trained_on(self, model, tmp_path):
        output = invoke("generate", tmp_path / "cells.h5ad", "--model", model, "-n", 3, "--num-genes", 28)
        assert "the model was trained on at most 23 of a cell" in " ".join(output.split())


class TestRefusals:
    def test_a_file_of_another_kind(self, model, tmp_path):
        assert "does not end in .h5ad" in refusal(tmp_path / "out.csv", "--model", model)

    def test_an_existing_file_is_kept(self, model, tmp_path):
        out = tmp_path / "out.h5ad"
        out.write_text("precious")
        assert "--force" in refusal(out, "--model", model)
        assert out.read_text() == "precious"

    def test_a_model_that_cannot_generate(self, data, tmp_path):
        run = train(tmp_path, data, "gene_pooling", "binned_expression")
        words = refusal(tmp_path / "out.h5ad", "--model", run)
        assert "'gene_pooling' cannot generate cells; train one that can: autoregressive_transformer" in words
        assert not (tmp_path / "out.h5ad").exists()

    @pytest.mark.parametrize(
        ("prompt", "words"),
        [
            ("ENSG00000000005", "not of the form GENE=BIN"),
            ("ENSG00000000005=high", "not of the form GENE=BIN"),
            ("ENSG00000000005=0", "is not one of 1 to 50"),
            ("ENSG00000000005=51", "is not one of 1 to 50"),
            ("ENSG99999999999=5", "is not in the model's vocabulary"),
        ],
    )
    def test_a_prompt_that_is_none(self, model, tmp_path, prompt, words):
        assert words in refusal(tmp_path / "out.h5ad", "--model", model, "--prompt", prompt)

    def test_more_genes_than_the_model_takes(self, model, tmp_path):
        found = refusal(tmp_path / "out.h5ad", "--model", model, "--num-genes", 400)
        assert "--num-genes 400 and 0 genes of the prompt exceed model.max_seq_len (40); ask for 39 genes" in found
        assert not list(tmp_path.iterdir())

    def test_a_prompt_and_more_genes_than_the_model_takes(self, model, data, tmp_path):
        genes = ad.read_h5ad(data).var_names
        words = [word for gene in genes for word in ("--prompt", f"{gene}=3")]
        found = refusal(tmp_path / "out.h5ad", "--model", model, *words, "--num-genes", 15)
        assert f"--num-genes 15 and {len(genes)} genes of the prompt exceed model.max_seq_len (40)" in found

    def test_a_prompt_longer_than_the_model_takes(self):
        bundle = SimpleNamespace(model_config=SimpleNamespace(max_seq_len=40))
        with pytest.raises(ConfigError, match=r"the prompt has 45 genes, more than model.max_seq_len \(40\) has room"):
            _genes_to_draw(bundle, GenerateOptions(), prompt_len=45)

    def test_a_folder_that_is_no_model(self, tmp_path):
        assert "is neither a model folder" in refusal(tmp_path / "out.h5ad", "--model", tmp_path)
