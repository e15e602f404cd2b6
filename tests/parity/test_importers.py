"""Models that were imported from published folders, written and loaded again, give what the official code gives.

For checkpoints in the published form, from tokens and from counts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from safetensors.torch import save_file

from scmodelforge.hub.bundle import Bundle, build_model, load_bundle
from scmodelforge.workflows.embed import embed_file
from scmodelforge.workflows.import_model import import_model

from .golden import golden_folder, needs

GENEFORMER, SCGPT = golden_folder("geneformer"), golden_folder("scgpt")
TINY = GENEFORMER / "tiny_checkpoint"


def embedded(bundle_folder: Path, adata: ad.AnnData, folder: Path, *, ids: str | None = None) -> np.ndarray:
    """Return the embeddings that the command writes."""
    adata.write_h5ad(folder / "cells.h5ad")
    out = folder / "embedded.h5ad"
    embed_file(folder / "cells.h5ad", out, model=bundle_folder, batch_size=4, gene_id_column=ids)
    return ad.read_h5ad(out).obsm["X_scmodelforge"]


@pytest.fixture(scope="module")
def geneformer(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("geneformer") / "model"
    import_model(TINY, out)
    return out


@pytest.fixture(scope="module")
def scgpt(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("scgpt") / "model"
    import_model(SCGPT / "ckpt_tiny", out)
    return out


@needs(GENEFORMER)
class TestGeneformer:
    @pytest.fixture
    def expected(self) -> Any:
        return np.load(TINY / "expected.npz")

    def test_scores_and_hidden_states(self, geneformer, expected):
        ids, mask = (torch.tensor(expected[name]) for name in ("input_ids", "attention_mask"))
        with torch.no_grad():
            found = load_bundle(geneformer).model(ids, mask, output_hidden_states=True)
        is_real = expected["attention_mask"] == 1
        np.testing.assert_allclose(found.logits.numpy()[is_real], expected["logits"][is_real], rtol=1e-4, atol=1e-4)
        assert len(found.hidden_states) == 3
        for number, states in enumerate(found.hidden_states):
            wanted = expected[f"hidden_{number}"][is_real]
            np.testing.assert_allclose(states.numpy()[is_real], wanted, rtol=0, atol=1e-5)

    @pytest.mark.parametrize(("left_out", "name"), [(1, "cell_mean_second_to_last"), (0, "cell_mean_last")])
    def test_embeddings_of_tokens(self, geneformer, expected, left_out, name):
        bundle = with_layers(load_bundle(geneformer), left_out)
        ids, mask = (torch.tensor(expected[each]) for each in ("input_ids", "attention_mask"))
        with torch.no_grad():
            found = bundle.model.encode(ids, mask)
        np.testing.assert_allclose(found.numpy(), expected[name], rtol=0, atol=1e-5)

    def test_embeddings_of_counts(self, geneformer, expected, tmp_path):
        """Counts are such that their ranks are the stored tokens, of cells in which no gene is hidden."""
        tokens = json.loads((TINY / "token_dictionary.json").read_text())
        medians = json.loads((TINY / "gene_median_dictionary.json").read_text())
        genes = sorted(medians, reverse=True)
        number = {tokens[gene]: column for column, gene in enumerate(genes)}
        rows = [row for row in range(6) if not (expected["input_ids"][row] == tokens["<mask>"]).any()]
        assert len(rows) == 3
        counts = np.zeros((len(rows), len(genes)), dtype=np.float32)
        for place, row in enumerate(rows):
            ranked = expected["input_ids"][row][1 : expected["lengths"][row] - 1]
            for rank, token in enumerate(ranked):
                column = number[int(token)]
                counts[place, column] = np.ceil(100 * (len(ranked) - rank) * medians[genes[column]])
        adata = ad.AnnData(sp.csr_matrix(counts), var=pd.DataFrame(index=genes))
        found = embedded(geneformer, adata, tmp_path)
        np.testing.assert_allclose(found, expected["cell_mean_second_to_last"][rows], rtol=0, atol=1e-5)

    @pytest.mark.slow  # reads the dictionaries of a release
    @pytest.mark.parametrize("version", ["V1", "V2"])
    def test_real_cells_have_the_official_tokens(self, version, tmp_path):
        """Weights are random, so embeddings are those of the official tokens by the same weights."""
        import pyarrow.parquet as pq

        theirs = random_geneformer(tmp_path / "theirs", version)
        import_model(theirs, tmp_path / "model", dictionaries=GENEFORMER / "dictionaries")
        cells = ad.read_h5ad(GENEFORMER / "inputs/pbmc68k.h5ad")[:40].copy()
        found = embedded(tmp_path / "model", cells, tmp_path, ids="ensembl_id")
        table = pq.read_table(GENEFORMER / f"expected/pbmc68k.{version}.parquet", columns=["cell_index", "input_ids"])
        model = load_bundle(tmp_path / "model").model
        rows = [row for row in table.to_pylist() if row["cell_index"] < 40]
        assert len(rows) == 40
        for row in rows:
            ids = torch.tensor(row["input_ids"])[None]
            with torch.no_grad():
                wanted = model.encode(ids, torch.ones_like(ids))[0]
            np.testing.assert_allclose(found[row["cell_index"]], wanted, rtol=0, atol=1e-5)


def with_layers(bundle: Bundle, left_out: int) -> Bundle:
    """Return a model whose embeddings leave out so many layers, as the settings in its folder may say."""
    bundle.model_config = bundle.model_config.model_copy(update={"left_out_layers": left_out})
    model = build_model(bundle.model_config, bundle.tokenizer)
    model.load_state_dict(bundle.model.state_dict())
    bundle.model = model.eval()
    return bundle


def random_geneformer(folder: Path, version: str) -> Path:
    """Write the tiny checkpoint with as many tokens and positions as a release has, their vectors random."""
    from safetensors.torch import load_file

    size, positions = {"V1": (25_426, 2048), "V2": (20_275, 4096)}[version]
    settings = json.loads((TINY / "config.json").read_text())
    weights, draw = load_file(TINY / "model.safetensors"), torch.Generator().manual_seed(0)
    for name, rows in (("word", size), ("position", positions)):
        key = f"bert.embeddings.{name}_embeddings.weight"
        weights[key] = torch.randn(rows, weights[key].shape[1], generator=draw)
    weights["cls.predictions.bias"] = torch.zeros(size)
    folder.mkdir()
    save_file(weights, folder / "model.safetensors")
    changes = {"vocab_size": size, "max_position_embeddings": positions}
    (folder / "config.json").write_text(json.dumps(settings | changes))
    return folder


@needs(SCGPT)
class TestScGPT:
    @pytest.fixture
    def expected(self) -> Any:
        return np.load(SCGPT / "ckpt_tiny_io.npz")

    def test_outputs(self, scgpt, expected):
        is_real = ~expected["key_padding_mask"]
        model = load_bundle(scgpt).model
        ids, values, mask = (torch.tensor(each) for each in (expected["src"], expected["values"], is_real))
        with torch.no_grad():
            out = model(ids, mask, values, output_hidden_states=True)
            from_cells = model.predict_from_cells(ids, torch.tensor(expected["cell_emb"]))
        for found, name in (
            (out.hidden_states[-1], "transformer_output"),
            (out.logits, "mlm_output"),
            (from_cells, "mvc_output"),
        ):
            np.testing.assert_allclose(found.numpy()[is_real], expected[name][is_real], rtol=0, atol=1e-5)
        np.testing.assert_allclose(out.embeddings.numpy(), expected["cell_emb_l2"], rtol=0, atol=1e-5)

    def test_embeddings_of_counts(self, scgpt, expected, tmp_path):
        genes = json.loads((SCGPT / "ckpt_tiny_io.json").read_text())["embed_genes"]
        adata = ad.AnnData(sp.csr_matrix(expected["embed_X"]), var=pd.DataFrame(index=genes))
        found = embedded(scgpt, adata, tmp_path)
        np.testing.assert_allclose(found, expected["embed_X_scGPT"], rtol=0, atol=1e-5)
