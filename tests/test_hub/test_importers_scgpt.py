"""A published scGPT becomes a whole model: bins of cells, objective, vocabulary."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import torch

import scmodelforge as smf
from scmodelforge._errors import DataError
from scmodelforge.hub import save_bundle
from scmodelforge.hub.importers.scgpt import ScGPTImporter
from tests.test_models.test_published.test_scgpt import VOCAB, published

from .published_folders import write_scgpt


def load(folder):
    return ScGPTImporter().load(folder)


def test_bins_are_those_of_the_cell_and_drawn_by_nobody(tmp_path):
    bundle = load(write_scgpt(tmp_path)).bundle
    genes = ["GENE3", "GENE5", "GENE9", "NONE"]
    cell = bundle.tokenizer.tokenize([7.0, 1.0, 3.0, 9.0], genes)
    # 50 quantiles of 1, 3, 7: the least is in bin 1, the middle one in 25, the largest in 50, of which it has all
    assert dict(zip(cell["input_ids"].tolist(), cell["values"].tolist(), strict=True)) == {
        VOCAB["<cls>"]: -2.0,
        VOCAB["GENE3"]: 50.0,
        VOCAB["GENE5"]: 1.0,
        VOCAB["GENE9"]: 25.0,
    }
    # of 1, 1, 1 and 7 the first 33 quantiles are 1: its bin is the middle one of 33, whoever the cell is
    tied = [bundle.tokenizer.tokenize([1, 1, 1, 7], [*genes[:3], "GENE1"], key=key)["values"] for key in range(5)]
    assert {tuple(sorted(values)) for values in tied} == {(-2.0, 17.0, 17.0, 17.0, 50.0)}
    assert bundle.tokenizer.config.max_genes == 30
    assert bundle.objective == "generative_value_prediction"


def test_without_the_flag_of_values_to_generate_values_are_hidden(tmp_path):
    bundle = load(write_scgpt(tmp_path, {n: w for n, w in published().items() if not n.startswith("flag")})).bundle
    assert bundle.objective == bundle.model_config.pretraining_task == "masked_value_prediction"


def test_a_vocabulary_of_another_release_is_refused(tmp_path):
    folder = write_scgpt(tmp_path, vocab={**VOCAB, "MORE": 23})
    with pytest.raises(DataError, match=r"embedding\.weight \(23, 8\), not \(24, 8\)"):
        load(folder)


def test_weights_that_are_of_no_part_are_refused(tmp_path):
    folder = write_scgpt(tmp_path, published() | {"sim.weight": torch.ones(2)})
    with pytest.raises(DataError, match=r"unexpected: sim\.weight\. Take all files of one model"):
        load(folder)


def test_a_head_that_the_settings_do_not_know_in_full_is_refused(tmp_path):
    folder = write_scgpt(tmp_path, published(classes=3), n_layers_cls=2)
    with pytest.raises(DataError, match=r"a head is there in part: cls_decoder\._decoder\.3\.bias, .* left over"):
        load(folder)


@pytest.mark.parametrize("layer", ["X", "per10k", "log1p"])
def test_logged_values_are_refused_after_a_round_trip_too(tmp_path, layer):
    save_bundle(tmp_path / "ours", load(write_scgpt(tmp_path)).bundle, card="")
    rng = np.random.default_rng(0)
    counts = rng.poisson(3, (6, 8)) + 1.0
    adata = ad.AnnData(counts.astype(np.float32), var={"gene": [f"GENE{i}" for i in range(1, 9)]})
    adata.var_names, adata.obs_names = adata.var["gene"], [f"cell{i}" for i in range(6)]
    adata.layers["per10k"] = 1e4 * adata.X / adata.X.sum(axis=1, keepdims=True)
    adata.layers["log1p"] = np.log1p(adata.layers["per10k"])
    for model in (load(tmp_path).bundle, str(tmp_path / "ours")):
        if layer != "log1p":
            assert np.isfinite(smf.tl.embed(adata, model, layer=layer, copy=True).obsm["X_scmodelforge"]).all()
            continue
        with pytest.raises(DataError, match=r"was trained on counts, and the values of adata look log1p") as caught:
            smf.tl.embed(adata, model, layer=layer)
        assert "\n" not in str(caught.value)
        assert "counts in layer" in str(caught.value)
