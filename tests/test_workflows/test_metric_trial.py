"""The score that chooses the checkpoint is tried before the first step, whatever it is of."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scmodelforge._errors import ConfigError
from scmodelforge.cli.main import app
from scmodelforge.config.load import parse_config
from scmodelforge.hub.bundle import build_model
from scmodelforge.workflows.cell_labels import labels_of
from scmodelforge.workflows.evaluation_sets import run_evaluator
from scmodelforge.workflows.label_predictions import label_head
from scmodelforge.workflows.prepare import prepare_data
from tests.conftest import make_adata
from tests.test_life_cycle import settings

ANNOTATION = {"name": "cell_type_annotation", "probes": ["knn"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder with two files of cells, a network and a set of genes."""
    folder = tmp_path_factory.mktemp("data")
    for seed, name in enumerate(("cells", "others")):
        make_adata(90, 30, seed=seed).write_h5ad(folder / f"{name}.h5ad")
    genes = make_adata(90, 30).var_names
    edges = [f"{genes[i]}\t{genes[j]}" for i in range(3) for j in range(3 + i, 30, 3)]
    (folder / "edges.tsv").write_text("\n".join(["tf\ttarget", *edges]) + "\n")
    return folder


def raw(folder: Path, benchmark: dict, *, has_head: bool = False) -> dict:
    config = settings(folder / "cells.h5ad", folder / "run", eval__benchmarks=[benchmark], eval__max_cells=60)
    if has_head:
        config["model"] = {"architecture": "scdiva", "hidden_dim": 16, "num_layers": 1, "num_heads": 2}
        config["model"] |= {"max_seq_len": 24, "pretraining_task": "cell_type_annotation"}
        config["tokenizer"] = {"strategy": "binned_expression", "max_genes": 24}
    return config


def check(folder: Path, benchmark: dict, metric: str, *, dataset: str = "heldout", has_head: bool = False) -> None:
    config = parse_config(raw(folder, benchmark, has_head=has_head), origin="run.yaml")
    data = prepare_data(config)
    labels = labels_of(data.source, "cell_type", data.split.train).to_dict()
    evaluator = run_evaluator(
        config,
        data,
        untrained=lambda: build_model(config.model, data.tokenizer),
        head_of=lambda model: label_head(model, config.model, labels),
    )
    evaluator.check_metric(f"eval/{benchmark['name']}/{dataset}/{metric}")


class TestHead:
    def test_of_a_model_that_has_one_is_tried(self, folder):
        check(folder, ANNOTATION, "macro_f1_head", has_head=True)
        with pytest.raises(ConfigError, match="which has no value here"):
            check(folder, ANNOTATION, "unknown_auroc_head", has_head=True)

    def test_that_a_model_has_not_gives_nothing(self, folder):
        with pytest.raises(ConfigError, match="accuracy_head', which benchmark 'cell_type_annotation' does not give"):
            check(folder, ANNOTATION, "accuracy_head")

    def test_misspelt_is_told_with_the_nearest(self, folder):
        with pytest.raises(ConfigError, match=r"Did you mean 'accuracy_head'\?"):
            check(folder, ANNOTATION, "acuracy_head", has_head=True)


class TestTwoDataSets:
    def transfer(self, folder):
        return {"name": "label_transfer", "label": "cell_type", "probes": ["knn"],
                "reference": str(folder / "cells.h5ad"), "dataset": str(folder / "others.h5ad")}  # fmt: skip

    def test_are_tried(self, folder):
        check(folder, self.transfer(folder), "accuracy_knn15", dataset="cells_to_others")

    @pytest.mark.parametrize(
        ("metric", "words"),
        [("accuracy_knn51", "Did you mean 'accuracy_knn15'?"), ("unknown_auroc_knn15", "which has no value here")],
    )
    def test_without_the_score_stop_the_run_before_its_first_step(self, folder, metric, words):
        config = raw(folder, self.transfer(folder))
        config["output"]["best_metric"] = f"eval/label_transfer/cells_to_others/{metric}"
        (folder / "run.yaml").write_text(json.dumps(config))
        result = CliRunner().invoke(app, ["train", str(folder / "run.yaml")])
        assert result.exit_code == 2
        assert words in result.stderr
        assert not (folder / "run").exists()


class TestGenes:
    def network(self, folder, **more):
        return {
            "name": "gene_network_inference",
            "networks": [str(folder / "edges.tsv")],
            "baselines": ["random"],
            **more,
        }

    def test_are_tried(self, folder):
        check(folder, self.network(folder), "auroc_cosine_input_edges")
        with pytest.raises(ConfigError, match=r"Did you mean 'auroc_cosine_input_edges'\?"):
            check(folder, self.network(folder), "auroc_cosine_inputs_edges")

    def test_without_an_edge_have_no_value(self, folder):
        (folder / "none.tsv").write_text("tf\ttarget\nZZZ1\tZZZ2\n")
        with pytest.raises(ConfigError, match="no value here: no edge of 'none' is between two genes of the model"):
            check(folder, self.network(folder) | {"networks": [str(folder / "none.tsv")]}, "auroc_cosine_input_none")

    def test_of_a_benchmark_of_the_whole_model_are_not_tried_and_the_log_says_so(self, folder, caplog):
        with caplog.at_level(logging.INFO, logger="scmodelforge"):
            check(folder, self.network(folder, score="attention", num_cells=9), "auroc_attention_edges")
        (line,) = [text for text in caplog.messages if "best_metric" in text]
        assert "known after the first evaluation only" in line
