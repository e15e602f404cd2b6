"""Vectors of genes of a trained model on their way into benchmarks."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import torch
import yaml
from typer.testing import CliRunner

from scmodelforge._errors import ConfigError
from scmodelforge.cli.main import app
from scmodelforge.config import load_config
from scmodelforge.eval.base import BenchmarkInputs, Cells, get_benchmark
from scmodelforge.eval.harness import evaluate
from scmodelforge.eval.insilico import Perturbation, perturb
from scmodelforge.hub.bundle import build_model, load_bundle
from scmodelforge.models.registry import get_model
from scmodelforge.objectives.collate import collate_for_encoding
from scmodelforge.workflows.gene_vectors import gene_inputs
from scmodelforge.workflows.prepare import prepare_data
from scmodelforge.workflows.runfolder import RunFolder
from tests.conftest import make_adata

NUM_CELLS, NUM_GENES = 40, 24
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cells(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("genes") / "cells.h5ad"
    adata = make_adata(NUM_CELLS, NUM_GENES)
    counts = adata.X.toarray()
    counts[:, 7] = 0  # a gene that no cell expresses
    adata.X = sp.csr_matrix(counts)
    adata.write_h5ad(path)
    return path


def load(settings: dict):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run.yaml"
        path.write_text(yaml.safe_dump({"data": {"paths": ["cells.h5ad"]}} | settings))
        return load_config(path)


def prepared(cells: Path, architecture: str = "transformer_encoder", **tokenizer):
    settings = {
        "data": {"paths": [str(cells)], "gene_vocab": "from_data", "num_workers": 0},
        "tokenizer": {"max_genes": 16, **tokenizer},
        "model": {"architecture": architecture, "hidden_dim": 16, "num_layers": 2, "num_heads": 2, "max_seq_len": 32},
    }
    config = load(settings)
    data = prepare_data(config)
    torch.manual_seed(0)
    return build_model(config.model, data.tokenizer), data, config.data


def inputs_of(model, data, config, benchmarks, **more):
    return gene_inputs(
        model, data, config, benchmarks=benchmarks, positions=data.split.train, batch_size=8, device=CPU, **more
    )


@pytest.fixture
def network(cells, tmp_path) -> str:
    genes = ad.read_h5ad(cells).var_names
    rows = [f"{genes[tf]}\t{genes[gene]}" for tf in range(3) for gene in range(3, NUM_GENES) if gene % 3 == tf]
    path = tmp_path / "known.tsv"
    path.write_text("\n".join(["tf\ttarget", *rows, ""]))
    return str(path)


def benchmark(name: str = "gene_network_inference", **settings):
    found = get_benchmark(name)
    return found(found.config_class(**settings))


class TestVectors:
    def test_of_the_table_are_those_of_the_model(self, cells, network):
        model, data, config = prepared(cells)
        vectors = inputs_of(model, data, config, [benchmark(networks=[network])]).vectors["input"]
        table = model.embedding.gene_embedding.weight.detach().numpy()
        assert vectors.names == tuple(data.vocab.genes)
        np.testing.assert_array_equal(vectors.vectors, table[data.vocab.gene_tokens])

    def test_come_with_the_counts_of_the_training_cells_alone(self, cells, network):
        model, data, config = prepared(cells)
        vectors = inputs_of(model, data, config, [benchmark(networks=[network])]).vectors["input"]
        raw = ad.read_h5ad(cells)
        expected = raw[np.sort(data.split.train), list(vectors.names)].X.toarray()
        assert len(expected) < NUM_CELLS
        np.testing.assert_array_equal(vectors.counts.toarray(), expected)

    @pytest.mark.parametrize(
        "architecture", ["transformer_encoder", "autoregressive_transformer", "masked_autoencoder", "gene_pooling"]
    )
    def test_of_cells_are_means_of_hidden_states_as_the_model_embeds(self, cells, network, architecture):
        """The mean over a cell's tokens is its embedding, where that is what the model pools."""
        strategy = {"autoregressive_transformer": "binned_expression"}.get(architecture, "rank_value")
        model, data, config = prepared(cells, architecture, strategy=strategy)
        found = inputs_of(model, data, config, [benchmark(networks=[network], score="insilico")])
        blocks = list(found.model.cells())
        for block in blocks:
            encoded = found.model.encode(block)
            batch = collate_for_encoding(block, pad_id=data.vocab.pad_id)
            model.eval()
            with torch.no_grad():
                expected = model.encode(**batch).numpy()
            np.testing.assert_allclose(encoded.cells, expected, atol=1e-5)
            assert len(encoded.tokens) == len(block.ids)

    def test_contextual_ones_leave_out_genes_that_no_cell_has(self, cells, network):
        model, data, config = prepared(cells)
        asked = benchmark(networks=[network], vectors="contextual")
        vectors = inputs_of(model, data, config, [asked]).vectors["contextual"]
        silent = ad.read_h5ad(cells).var_names[7]
        assert silent not in vectors.names
        assert (vectors.num_cells > 0).all()
        assert len(vectors) <= NUM_GENES - 1

    def test_contextual_ones_are_means_over_cells(self, cells, network):
        model, data, config = prepared(cells)
        asked = benchmark(networks=[network], vectors="contextual")
        vectors = inputs_of(model, data, config, [asked]).vectors["contextual"]
        whole = inputs_of(model, data, config, [benchmark(networks=[network], score="insilico", num_cells=100)]).model
        token = data.vocab.map([vectors.names[3]])[0]
        states = [whole.encode(block).tokens[block.ids == token] for block in whole.cells()]
        np.testing.assert_allclose(vectors.vectors[3], np.concatenate(states).mean(axis=0), atol=1e-5)
        assert vectors.num_cells[3] == len(np.concatenate(states))

    def test_do_not_depend_on_how_many_cells_go_through_at_once(self, cells, network):
        model, data, config = prepared(cells)
        asked = [benchmark(networks=[network], vectors="contextual")]
        where = {"benchmarks": asked, "positions": data.split.train, "device": CPU}
        one, two = (gene_inputs(model, data, config, batch_size=size, **where).vectors for size in (3, 50))
        np.testing.assert_allclose(one["contextual"].vectors, two["contextual"].vectors, atol=1e-5)

    def test_are_not_made_for_benchmarks_of_cells(self, cells):
        model, data, config = prepared(cells)
        found = inputs_of(model, data, config, [benchmark("embedding_quality")])
        assert (found.vectors, found.model) == (None, None)

    def test_a_model_without_a_table_is_refused(self, cells, network):
        _, data, config = prepared(cells)
        without = torch.nn.Linear(2, 2)
        with pytest.raises(ConfigError, match="Linear has no table of gene embeddings; use vectors: contextual"):
            inputs_of(without, data, config, [benchmark(networks=[network])])

    def test_a_model_without_states_of_tokens_is_refused(self, cells, network):
        _, data, config = prepared(cells)
        settings = {"hidden_dim": 16, "vocab_size": len(data.vocab), "num_layers": 1}
        model = get_model("scdiva", load({"model": {"architecture": "scdiva", **settings}}).model)
        asked = benchmark(networks=[network], vectors="contextual")
        with pytest.raises(ConfigError, match="no hidden state for each token"):
            inputs_of(model, data, config, [asked])


class TestModelAsked:
    def test_the_model_stays_in_the_mode_it_was_in(self, cells, network):
        model, data, config = prepared(cells)
        model.train()
        found = inputs_of(model, data, config, [benchmark(networks=[network], score="insilico", vectors="contextual")])
        assert model.training
        assert all(module.training for module in model.modules())
        assert found.vectors is not None

    def test_cells_are_training_cells_drawn_by_the_seed(self, cells, network):
        model, data, config = prepared(cells)
        asked = [benchmark(networks=[network], score="insilico")]
        given = (inputs_of(model, data, config, asked, seed=seed).model for seed in (0, 0, 1))
        first, again, other = (each.limited(5) for each in given)
        assert first.num_cells == sum(map(len, first.cells())) == 5
        assert np.isin(first.positions, data.split.train).all()
        assert first.positions.tolist() == again.positions.tolist() != other.positions.tolist()

    def test_deleting_a_gene_moves_the_cells_that_have_it(self, cells, network):
        model, data, config = prepared(cells)
        asked = inputs_of(model, data, config, [benchmark(networks=[network], score="insilico", num_cells=100)]).model
        (effect,) = perturb(asked, [Perturbation("delete", (0,))])
        tokens = list(asked.cells())
        having = sum(int((block.ids == data.vocab.gene_tokens[0]).sum()) for block in tokens)
        assert effect.num_cells == having > 0
        assert (effect.cell_shift > 1e-7).all()

    def test_attention_has_a_share_for_each_token(self, cells, network):
        model, data, config = prepared(cells)
        asked = inputs_of(model, data, config, [benchmark(networks=[network], score="attention")]).model
        block = next(iter(asked.cells()))
        maps = asked.attention(block)
        longest = int(block.lengths.max())
        assert [each.shape for each in maps] == [(len(block), 2, longest, longest)] * 2
        length = int(block.lengths[0])
        np.testing.assert_allclose(maps[0][0, :, :length, :length].sum(axis=-1), 1, atol=1e-5)


@pytest.fixture(scope="module")
def trained(cells, tmp_path_factory):
    """Return a model that was trained for some steps, its data as the run had them, and how they are read."""
    folder = tmp_path_factory.mktemp("trained")
    settings = {
        "data": {"paths": [str(cells)], "gene_vocab": "from_data", "num_workers": 0},
        "tokenizer": {"max_genes": 16},
        "model": {"hidden_dim": 16, "num_layers": 1, "num_heads": 2, "max_seq_len": 16},
        "training": {"batch_size": 8, "max_epochs": 1, "steps_per_epoch": 2, "devices": 1, "precision": "32-true"},
        "output": {"run_dir": str(folder / "run"), "tensorboard": False},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(settings))
    result = CliRunner().invoke(app, ["train", "--config", str(folder / "run.yaml")])
    assert result.exit_code == 0, result.output
    _, config, split, _ = RunFolder.read(folder / "run")
    data = prepare_data(config)
    assert data.split.to_dict()["hash"] == split.to_dict()["hash"]
    return load_bundle(folder / "run" / "model").model, data, config.data


def prepared_like(trained):
    """Return the same model with fresh weights."""
    model = deepcopy(trained[0])
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
            module.reset_parameters()
    return model


@pytest.mark.parametrize("score", ["embedding", "attention", "insilico"])
def test_a_trained_model_is_scored_from_its_data_to_its_records(trained, network, score):
    model, data, config = trained
    asked = benchmark(networks=[network], score=score, min_targets=3, num_cells=20)
    found = inputs_of(model, data, config, [asked])
    train, held = (
        Cells(np.zeros((len(part), 1)), positions=part) for part in (data.split.train, data.split.validation)
    )
    inputs = BenchmarkInputs("heldout", train, held, gene_embeddings=found.vectors, model=found.model)
    fresh = inputs_of(prepared_like(trained), data, config, [asked])
    untrained = replace(inputs, representation="untrained", gene_embeddings=fresh.vectors, model=fresh.model)
    records = evaluate([asked], {"model": inputs, "untrained": untrained})
    assert len(records) == 10
    by_name = {record.metric: record for record in records if record.representation == "model"}
    variant = {"embedding": "cosine_input", "attention": "attention", "insilico": "insilico_delete"}[score]
    record = by_name[f"auroc_{variant}_known"]
    assert 0 < record.value < 1
    assert record.interval[0] <= record.value <= record.interval[1]
    assert {"random", "pearson", "untrained", "target_degree"} <= set(record.baselines)
    assert record.params["num_training_cells"] == len(data.split.train)
    assert record.params.get("num_cells", 20) == 20
    assert record.tables["per_tf"]["tf"] == sorted(record.tables["per_tf"]["tf"])
