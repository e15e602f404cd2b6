"""``scmodelforge config``: show, validate, schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from scmodelforge.config import load_config

FIXTURES = Path(__file__).parents[1] / "fixtures"


def invoke(*words: object):
    return CliRunner().invoke(app, ["config", *(str(word) for word in words)])


class TestShow:
    def test_prints_all_settings_as_a_file_that_means_the_same(self, tmp_path):
        result = invoke("show", FIXTURES / "spec_002.yaml")
        assert result.exit_code == 0
        assert "has no effect" not in result.stderr
        shown = tmp_path / "shown.yaml"
        shown.write_text(result.stdout)
        assert load_config(shown) == load_config(FIXTURES / "spec_002.yaml")
        assert yaml.safe_load(result.stdout)["training"]["optimizer"]["lr"] == 1e-4

    def test_with_changes(self):
        result = invoke("show", FIXTURES / "spec_000.yaml", "--set", "training.lr=0.5", "--set", "data.paths=[x, y]")
        values = yaml.safe_load(result.stdout)
        assert values["training"]["optimizer"]["lr"] == 0.5
        assert values["data"]["paths"] == ["x", "y"]


class TestValidate:
    def test_says_in_one_line_what_is_trained(self):
        path = FIXTURES / "spec_002.yaml"
        result = invoke("validate", path)
        assert result.exit_code == 0
        assert result.stdout == (
            f"{path} is valid: source cellxgene_census, tokenizer rank_value, model transformer_encoder, "
            "benchmarks cell_type_annotation, batch_integration.\n"
        )

    def test_a_file_without_benchmarks(self):
        assert invoke("validate", FIXTURES / "spec_000.yaml").stdout.endswith("benchmarks none.\n")

    def test_files_that_are_not_there_are_warned_of_in_a_line_each(self, tmp_path, tiny_h5ad, monkeypatch):
        monkeypatch.setenv("SCMODELFORGE_DATASETS", str(tmp_path))
        named = {
            "data": {"paths": [str(tiny_h5ad), "gone.h5ad", "none/*.h5ad"], "split": {"file": "gone.json"}},
            "tokenizer": {"strategy": "rank_value", "medians": "gone.tsv"},
            "eval": {
                "benchmarks": [
                    {"name": "cell_type_annotation", "label": "cell_type", "dataset": "tabula_sapiens"},
                    {"name": "gene_network_inference", "networks": ["gone_too.tsv", str(tiny_h5ad)]},
                ]
            },
        }
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump(named))
        result = invoke("validate", path)
        assert result.exit_code == 0, result.stderr
        assert result.stdout.startswith(f"{path} is valid: ")
        lines = result.stderr.splitlines()
        expected = [
            "data.paths: no file 'gone.h5ad'.",
            "data.paths: no file matches 'none/*.h5ad'",
            "data.split.file: no file 'gone.json'.",
            "tokenizer.medians: no file 'gone.tsv'.",
            "eval.benchmarks[0].dataset: ",
            "eval.benchmarks[1].networks: no file 'gone_too.tsv'.",
        ]
        assert [line[: len(f"warning: {each}")] for line, each in zip(lines, expected, strict=True)] == [
            f"warning: {each}" for each in expected
        ]
        assert "scmodelforge datasets fetch tabula_sapiens" in lines[4]

    def test_files_elsewhere_are_not_asked_for(self, tmp_path):
        path = tmp_path / "run.yaml"
        path.write_text("data: {paths: ['s3://nowhere/cells.h5ad', 'dataset://pbmc68k_reduced']}\n")
        result = invoke("validate", path)
        assert (result.exit_code, result.stderr) == (0, "")

    def test_a_filter_that_cannot_be_read_is_told_as_in_training(self, tmp_path, tiny_h5ad):
        path = tmp_path / "run.yaml"
        path.write_text(f"data: {{paths: ['{tiny_h5ad}'], filter: 'n_genes >> 3'}}\n")
        result = invoke("validate", path)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr.startswith("error: data.filter is 'n_genes >> 3'")
        trained = CliRunner().invoke(app, ["train", "--config", str(path)])
        assert result.stderr.strip() in trained.stderr
        path.write_text(f"data: {{paths: ['{tiny_h5ad}'], filter: 'n_genes > 3 and not doublet'}}\n")
        assert invoke("validate", path).exit_code == 0

    def test_tells_all_mistakes_and_ends_with_status_2(self, tmp_path):
        path = tmp_path / "wrong.yaml"
        path.write_text("data: {paths: [a]}\nmodel: {hidden_dims: 4}\ntraining: {batch_size: many}\n")
        result = invoke("validate", path, "--set", "training.seed=-1")
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr.splitlines() == [
            f"error: {path}: unknown setting 'model.hidden_dims'. Did you mean 'hidden_dim'?",
            f"{path}: training.batch_size is 'many'; it must be a whole number or 'auto'.",
            "--set training.seed=-1: training.seed is -1; it must be at least 0.",
        ]

    @pytest.mark.parametrize("command", ["show", "validate"])
    def test_a_missing_file_is_one_line_and_status_2(self, tmp_path, command):
        result = invoke(command, tmp_path / "gone.yaml")
        assert result.exit_code == 2
        assert result.stderr == f"error: {tmp_path}/gone.yaml: no such file; check the path of the settings file.\n"


def test_schema_is_json():
    result = invoke("schema")
    assert result.exit_code == 0
    schema = json.loads(result.stdout)
    sections = {"data", "tokenizer", "model", "finetune", "training", "eval", "output", "plugins"}
    assert {*sections, "connectome"} == set(schema["properties"])
