"""Whole files: those of the specification, the shipped examples, and what is written back."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scmodelforge.config import RunConfig, dump_config, load_config, parse_config
from scmodelforge.config.connectome import is_connectome_file, load_connectome_config
from tests.test_config.conftest import MINIMAL, ToyBenchmarkConfig, ToyModelConfig, ToyTokenizerConfig, ToyTokens

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "fixtures"


def settings_of(config: RunConfig, values: dict) -> dict:
    """Return the settings that ``values`` names."""
    return {
        name: settings_of(getattr(config, name), value) if isinstance(value, dict) else getattr(config, name)
        for name, value in values.items()
    }


class TestSpecification:
    def test_the_tutorial_s_file_lands_in_its_homes(self):
        expected = {
            "data": {
                "source": "local",
                "paths": ["/path/to/dataset.h5ad"],
                "gene_vocab": "human_protein_coding",
            },
            "tokenizer": {
                "strategy": "rank_value",
                "max_genes": 2048,
                "masking": {"mask_ratio": 0.15, "mask_token_prob": 0.8, "random_token_prob": 0.1},
            },
            "model": {
                "architecture": "gene_pooling",
                "hidden_dim": 256,
                "num_layers": 4,
                "dropout": 0.1,
                "max_seq_len": 2048,
                "use_expression_values": True,
                "pooling": "mean",
                "mask_ratio": 0.15,
            },
            "training": {
                "batch_size": 32,
                "max_epochs": 50,
                "optimizer": {"name": "adamw", "lr": 1e-4, "weight_decay": 0.01},
                "scheduler": {"name": "cosine_warmup", "warmup_steps": 1000},
            },
            "output": {
                "log_dir": "./logs/gene_pooling",
                "checkpoint_dir": "./checkpoints/gene_pooling",
                "save_top_k": 3,
            },
        }
        assert settings_of(load_config(FIXTURES / "spec_000.yaml"), expected) == expected

    def test_toml_says_the_same(self):
        assert load_config(FIXTURES / "spec_000.toml") == load_config(FIXTURES / "spec_000.yaml")

    def test_the_proposal_s_file_lands_in_its_homes(self):
        expected = {
            "data": {
                "source": "cellxgene_census",
                "organism": "homo_sapiens",
                "gene_vocab": "human_protein_coding",
                "preprocessing": {"normalize": "library_size", "hvg_selection": 2000, "log1p": False},
            },
            "tokenizer": {"strategy": "rank_value", "max_genes": 2048, "masking": {"mask_ratio": 0.15}},
            "model": {
                "architecture": "transformer_encoder",
                "hidden_dim": 512,
                "num_layers": 12,
                "num_heads": 8,
                "pretraining_task": "masked_gene_prediction",
                "mask_ratio": 0.15,
            },
            "training": {
                "batch_size": 64,
                "max_epochs": 10,
                "precision": "bf16-mixed",
                "strategy": "ddp",
                "accelerator": "gpu",
                "devices": 4,
                "optimizer": {"lr": 1e-4},
            },
            "eval": {"every_n_epochs": 2},
        }
        config = load_config(FIXTURES / "spec_002.yaml")
        assert settings_of(config, expected) == expected
        assert config.data.filters == {"tissue": ["lung", "heart", "liver"], "is_primary_data": True}
        assert [(each.name, each.dataset) for each in config.eval.benchmarks] == [
            ("cell_type_annotation", "tabula_sapiens"),
            ("batch_integration", "immune_atlas"),
        ]


_USUAL = ("data.paths=[cells.h5ad]", "finetune.base_model=base")
#: What recipes of fine-tuning leave to whoever uses them.
_ASKED_FOR = {
    "batch_integration": (*_USUAL, "data.batch_column=batch", "data.label_column=cell_type"),
    "cell_type_annotation": (*_USUAL, "data.label_column=cell_type"),
    "continued_pretraining": _USUAL,
    "gene_classification": (*_USUAL, "finetune.gene_labels=genes.tsv"),
    "perturbation_prediction": _USUAL,
    "regression": (*_USUAL, "finetune.targets=[age]"),
}


class TestShippedFiles:
    @pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda path: path.stem)
    def test_are_valid_and_have_no_setting_without_effect(self, path, caplog):
        with caplog.at_level(logging.WARNING, logger="scmodelforge"):
            if is_connectome_file(path):
                load_connectome_config(path)
            else:
                load_config(path, _ASKED_FOR.get(path.stem, ()) if path.parent.name == "recipes" else ())
        assert caplog.records == []

    @pytest.mark.parametrize(("example", "fixture"), [("gene_pooling", "spec_000"), ("geneformer_style", "spec_002")])
    def test_examples_train_what_the_specification_trains(self, example, fixture):
        shipped, specified = (
            load_config(ROOT / f"configs/examples/{example}.yaml"),
            load_config(FIXTURES / f"{fixture}.yaml"),
        )
        for section in ("tokenizer", "model", "training", "output"):
            assert getattr(shipped, section) == getattr(specified, section)
        assert shipped.data.preprocessing == specified.data.preprocessing


class TestClasses:
    def test_each_section_is_of_the_class_of_the_part_it_names(self, write, toys, monkeypatch):
        text = """
tokenizer: {strategy: toy_tokens, scales: [4, 5]}
model: {architecture: toy, latent_dim: 2, pretraining_task: null}
eval: {benchmarks: [toy_benchmark: {folds: 2}, embedding_quality]}
"""
        monkeypatch.setattr(ToyTokens, "provides", frozenset({"input_ids", "bin_ids"}))
        config = load_config(write(MINIMAL + text))
        assert type(config.tokenizer) is ToyTokenizerConfig
        assert config.tokenizer.scales == (4, 5)
        assert type(config.model) is ToyModelConfig
        assert config.model.latent_dim == 2
        assert type(config.eval.benchmarks[0]) is ToyBenchmarkConfig
        assert config.eval.benchmarks[0].folds == 2

    def test_a_part_without_settings_of_its_own_has_the_common_ones(self, write, toys):
        from scmodelforge.config import ModelConfig

        assert type(load_config(write(MINIMAL + "model: {architecture: plain}")).model) is ModelConfig

    @pytest.mark.parametrize("section", ["tokenizer", "model", "training", "eval", "output", "plugins"])
    def test_a_heading_with_nothing_below_it_is_the_defaults(self, write, section):
        assert load_config(write(f"{MINIMAL}{section}:\n")) == load_config(write(MINIMAL, "other.yaml"))

    def test_also_inside_a_section(self, write):
        text = "  split:\n  preprocessing:\ntraining:\n  optimizer:\n"
        assert load_config(write(MINIMAL + text)) == load_config(write(MINIMAL, "other.yaml"))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "data": st.fixed_dictionaries(
            {"paths": st.lists(TEXT, min_size=1)},
            optional={
                "gene_vocab": TEXT | st.lists(TEXT),
                "label_column": st.none() | TEXT,
                "num_workers": st.integers(0, 100),
                "preprocessing": st.fixed_dictionaries(
                    {}, optional={"normalize": st.sampled_from(["library_size", None]),
                                  "target_sum": st.floats(1e-3, 1e9)}
                ),
                "split": st.fixed_dictionaries(
                    {"by": st.just("donor")}, optional={"validation_groups": st.lists(TEXT, min_size=1)}
                ),
            },
        ),
        "tokenizer": st.fixed_dictionaries(
            {},
            optional={
                "max_genes": st.integers(2, 2048),
                "masking": st.fixed_dictionaries({"mask_ratio": st.floats(1e-6, 1)}),
            },
        ),
        "model": st.fixed_dictionaries(
            {"architecture": st.sampled_from(["transformer_encoder", "gene_pooling"])},
            optional={
                "num_heads": st.sampled_from([1, 2, 4, 8]),
                "dropout": st.floats(0, 0.99),
                "pooling": st.sampled_from(["cls", "mean", None]),
                "n_bins": st.integers(2, 99),
                "vocab_size": st.integers(1),
            },
        ),
        "training": st.fixed_dictionaries(
            {},
            optional={
                "lr": st.floats(1e-12, 1e3),
                "num_gpus": st.integers(0, 8),
                "gradient_clip": st.none() | st.floats(1e-3, 1e3),
                "seed": st.integers(0),
            },
        ),
        "eval": st.fixed_dictionaries(
            {"benchmarks": st.lists(st.sampled_from(["embedding_quality", "batch_integration"]) | st.fixed_dictionaries(
                {"cell_type_annotation": st.none() | st.fixed_dictionaries({"dataset": TEXT})}))}
        ),
        "output": st.fixed_dictionaries({}, optional={"run_dir": TEXT, "tensorboard": st.booleans()}),
    },
)  # fmt: skip


class TestWriting:
    @settings(max_examples=25, deadline=None)
    @given(CHANGES)
    def test_what_is_written_is_read_back_equal(self, tmp_path_factory, changes):
        config = parse_config({"data": {"paths": ["a"]}, **changes}, origin="run.yaml")
        path = tmp_path_factory.getbasetemp() / "written.yaml"
        path.write_text(dump_config(config), encoding="utf-8")
        again = load_config(path)
        assert again == config
        assert type(again.data) is type(config.data)
        assert dump_config(again) == dump_config(config)

    def test_settings_without_effect_are_left_out_so_that_reading_does_not_warn(self, write, caplog):
        config = load_config(write(MINIMAL + "model: {architecture: gene_pooling}"))
        with caplog.at_level(logging.WARNING, logger="scmodelforge"):
            assert load_config(write(dump_config(config), "written.yaml")) == config
        assert caplog.records == []
        assert "num_heads" not in dump_config(config)

    def test_settings_of_a_part_are_written(self, write, toys):
        config = load_config(write("data: {source: toy_source, shards: 3}"))
        text = dump_config(config)
        assert "shards: 3" in text
        assert load_config(write(text, "written.yaml")) == config

    def test_the_mask_ratio_is_written_once(self, write):
        config = load_config(write(MINIMAL))
        assert dump_config(config).count("mask_ratio") == 1
        config.tokenizer.masking.mask_ratio = 0.5
        again = load_config(write(dump_config(config), "written.yaml"))
        assert again.tokenizer.masking.mask_ratio == again.model.mask_ratio == 0.5


def test_reading_data_tokenizer_and_benchmarks_loads_no_torch():
    code = """
import sys
from scmodelforge import config
from scmodelforge.config.aliases import move_to_homes
from scmodelforge.config.faults import Faults
from scmodelforge.config.sections import parse_section
faults = Faults("run.yaml")
raw = {"data": {"paths": ["a"]}, "tokenizer": {"strategy": "rank_value"}, "eval": {"benchmarks": ["embedding_quality"]}}
raw = move_to_homes(raw, faults)
parsed = [parse_section(name, raw[name], faults) for name in raw]
faults.raise_if_any()
assert all(parsed), parsed
print([name for name in ("torch", "anndata", "lightning_fabric", "sklearn") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
