"""Mistakes inside one section: one line each, all together, with the file, the setting and the way out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from scmodelforge import _registry
from scmodelforge.config import DataConfig, ModelConfig, Section, load_config
from tests.test_config.conftest import MINIMAL


class TestUnknownSettings:
    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("model: {hidden_dims: 4}", "unknown setting 'model.hidden_dims'. Did you mean 'hidden_dim'?"),
            ("trainin: {}", "unknown setting 'trainin'. Did you mean 'training'?"),
            ("training: {optimizer: {weight_deca: 1}}",
             "unknown setting 'training.optimizer.weight_deca'. Did you mean 'weight_decay'?"),
            ("training: {num_gpu: 1}", "unknown setting 'training.num_gpu'. Did you mean 'num_gpus'?"),
            ("model: {batch_size: 4}", "unknown setting 'model.batch_size'. 'batch_size' is a setting of 'training'."),
            ("model: {warmup_steps: 4}",
             "unknown setting 'model.warmup_steps'. 'warmup_steps' is a setting of 'training.scheduler'."),
            ("hidden_dim: 4", "unknown setting 'hidden_dim'. 'hidden_dim' is a setting of 'model'."),
            ("training: {scheduler: {seed: 4}}",
             "unknown setting 'training.scheduler.seed'. "
             "'seed' is a setting of 'data.split', 'training', 'eval'."),
            ("model: {latent_dim: 4}", "unknown setting 'model.latent_dim'. "
             "'latent_dim' is a setting of architecture 'scdiva', 'scvi', 'toy'."),
            ("tokenizer: {scales: [1]}", "unknown setting 'tokenizer.scales'. "
             "'scales' is a setting of strategy 'toy_tokens'."),
            ("eval: {benchmarks: [embedding_quality: {folds: 3}]}", "unknown setting 'eval.benchmarks[0].folds'. "
             "'folds' is a setting of benchmark 'cell_type_annotation', 'toy_benchmark'."),
            ("training: {eval: {}}", "unknown setting 'training.eval'. "
             "'eval' stands at the top level; indent it less."),
            ("xyz: {}", "unknown setting 'xyz'. "
             "Sections: plugins, data, tokenizer, model, finetune, training, eval, output."),
            ("training: {scheduler: {xyz: 1}}", "unknown setting 'training.scheduler.xyz'. "
             "Settings of 'training.scheduler': name, warmup_steps, warmup_fraction, min_lr_ratio, decay_fraction, "
             "decay_shape, decay_factor."),
        ],
    )  # fmt: skip
    def test_say_where_they_belong_or_which_is_nearest(self, mistakes, toys, text, line):
        assert mistakes(MINIMAL + text) == [f"run.yaml: {line}"]

    def test_a_part_that_cannot_be_asked_does_not_replace_the_message(self, mistakes, toys, monkeypatch):
        broken = type("Broken", (), {"config_class": int})
        monkeypatch.setitem(_registry.MODELS._parts, "a_broken_one", broken)
        assert mistakes(MINIMAL + "model: {latent_dim: 4}") == [
            "run.yaml: unknown setting 'model.latent_dim'. "
            "'latent_dim' is a setting of architecture 'scdiva', 'scvi', 'toy'."
        ]


class TestWrongValues:
    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("batch_size: many", "training.batch_size is 'many'; it must be a whole number or 'auto'."),
            ("batch_size: '32'", "training.batch_size is '32'; it must be a whole number or 'auto', without quotes."),
            ("batch_size: 32.0", "training.batch_size is 32.0; it must be a whole number or 'auto': 32."),
            ("batch_size: 1.5", "training.batch_size is 1.5; it must be a whole number or 'auto'."),
            ("batch_size: true", "training.batch_size is true; it must be a whole number or 'auto'."),
            ("batch_size:", "training.batch_size is empty; it must be a whole number or 'auto'."),
            ("batch_size: [1, 2]", "training.batch_size is [1, 2]; it must be a whole number or 'auto'."),
            ("batch_size: 0", "training.batch_size is 0; it must be greater than 0."),
            ("seed: -1", "training.seed is -1; it must be at least 0."),
            ("steps_per_epoch: x", "training.steps_per_epoch is 'x'; it must be a whole number or null."),
            ("gradient_clip: none", "training.gradient_clip is 'none'; it must be a number or null."),
            ("gradient_clip: .inf", "training.gradient_clip is inf; it must be a finite number."),
            ("optimizer: {lr: .nan}", "training.optimizer.lr is nan; it must be a finite number."),
            ("optimizer: {lr: '1e-4'}", "training.optimizer.lr is '1e-4'; it must be a number."),
            ("optimizer: {beta1: 1}", "training.optimizer.beta1 is 1; it must be less than 1."),
            ("scheduler: {min_lr_ratio: 1.5}", "training.scheduler.min_lr_ratio is 1.5; it must be at most 1."),
            ("optimizer: adamw", "training.optimizer is 'adamw'; it must be a section with settings below it."),
            ("optimizer: {name: adam}", "training.optimizer.name is 'adam'; it must be 'adamw'. Did you mean 'adamw'?"),
            ("precision: bf16-mix", "training.precision is 'bf16-mix'; it must be 'auto', '32-true' or 'bf16-mixed'. "
             "Did you mean 'bf16-mixed'?"),
            ("precision: 16", "training.precision is 16; it must be 'auto', '32-true' or 'bf16-mixed'."),
        ],
    )  # fmt: skip
    def test_of_training(self, mistakes, text, line):
        assert mistakes(f"{MINIMAL}training:\n  {text}\n") == [f"run.yaml: {line}"]

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("paths: cells.h5ad", "data.paths is 'cells.h5ad'; it must be a list of text."),
            ("paths: [1]", "data.paths[0] is 1; it must be text; put it in quotes: '1'."),
            ("label_column: yes", "data.label_column is true; it must be text or null; put it in quotes: 'true'."),
            ("gene_vocab: 5", "data.gene_vocab is 5; it must be text or a list of text; put it in quotes: '5'."),
            ("gene_vocab: [A, 5]", "data.gene_vocab[1] is 5; it must be text; put it in quotes: '5'."),
            ("gene_vocab: {a: 1}", "data.gene_vocab is {'a': 1}; it must be text or a list of text."),
            ("split: {validation_fraction: 1}", "data.split.validation_fraction is 1; it must be less than 1."),
            ("split: {validation_groups: [3]}",
             "data.split.validation_groups[0] is 3; it must be text; put it in quotes: '3'."),
            ("preprocessing: {normalize: librarysize}", "data.preprocessing.normalize is 'librarysize'; "
             "it must be 'library_size', 'scran' or null. Did you mean 'library_size'?"),
            ("preprocessing: {hvg_flavor: seuratv3}", "data.preprocessing.hvg_flavor is 'seuratv3'; "
             "it must be 'seurat', 'seurat_v3' or 'cell_ranger'. Did you mean 'seurat_v3'?"),
            ("preprocessing: {min_genes_per_cell: 0}",
             "data.preprocessing.min_genes_per_cell is 0; it must be greater than 0."),
            ("preprocessing: {min_counts_per_cell: 9, max_counts_per_cell: 8}",
             "data.preprocessing: min_counts_per_cell (9.0) exceeds max_counts_per_cell (8.0), which no cell "
             "satisfies; lower the former or raise the latter."),
            ("preprocessing: {log1p: 1}", "data.preprocessing.log1p is 1; it must be true or false."),
        ],
    )  # fmt: skip
    def test_of_data(self, mistakes, text, line):
        rest = "" if text.startswith("paths") else "  paths: [a]\n"
        assert mistakes(f"data:\n{rest}  {text}\n") == [f"run.yaml: {line}"]

    def test_a_long_value_is_shortened(self, mistakes):
        (line,) = mistakes(MINIMAL + f"training: {{batch_size: {'x' * 200}}}")
        assert len(line) < 140
        assert " ...; it must be a whole number or 'auto'." in line

    def test_settings_that_do_not_fit_each_other_inside_a_section(self, mistakes):
        text = MINIMAL + "tokenizer: {masking: {mask_token_prob: 0.9, random_token_prob: 0.2}}"
        assert mistakes(text) == [
            "run.yaml: tokenizer.masking: mask_token_prob (0.9) and random_token_prob (0.2) exceed 1 together; "
            "lower one of them."
        ]

    def test_dates_of_toml_are_text(self, write):
        path = write('[data]\npaths = ["a"]\n[output]\nrun_dir = 2024-01-31\n', "run.toml")
        assert load_config(path).output.run_dir == "2024-01-31"


class TestParts:
    @pytest.mark.parametrize(
        ("text", "path", "kind", "hint"),
        [
            ("data: {source: locl, paths: [a]}", "data.source", "data source 'locl'", "local"),
            ("tokenizer: {strategy: rank_valu}", "tokenizer.strategy", "tokenizer 'rank_valu'", "rank_value"),
            ("model: {architecture: gene_pool}", "model.architecture", "model 'gene_pool'", "gene_pooling"),
            ("eval: {benchmarks: [embedding_qualit]}", "eval.benchmarks[0].name", "benchmark 'embedding_qualit'",
             "embedding_quality"),
        ],
    )  # fmt: skip
    def test_an_unknown_one_is_told_with_the_nearest_and_all_names(self, mistakes, text, path, kind, hint):
        text = text if text.startswith("data") else MINIMAL + text
        (line,) = mistakes(text)
        assert line.startswith(f"run.yaml: {path}: unknown {kind}. Did you mean '{hint}'? Registered: ")

    def test_the_common_settings_of_an_unknown_one_are_checked_all_the_same(self, mistakes):
        lines = mistakes("data: {source: locl, paths: [a], num_workers: -1}")
        assert lines[0].startswith("run.yaml: data.source: unknown data source 'locl'.")
        assert lines[1:] == ["run.yaml: data.num_workers is -1; it must be at least 0."]

    def test_a_name_that_is_no_text(self, mistakes):
        assert mistakes(MINIMAL + "model: {architecture: 3}") == [
            "run.yaml: model.architecture is 3; it must be text; put it in quotes: '3'."
        ]

    def test_what_a_part_needs_and_does_not_get(self, mistakes, toys):
        assert mistakes("data: {source: toy_source}") == [
            "run.yaml: 'data.shards' is missing; source 'toy_source' needs it."
        ]
        assert mistakes("model: {}") == ["run.yaml: 'data.paths' is missing; source 'local' needs it."]

    def test_an_empty_list_of_files(self, mistakes):
        assert mistakes("data: {paths: []}") == ["run.yaml: data.paths has too few entries; it needs at least 1."]

    def test_settings_of_a_class_that_is_no_section_of_its_kind(self, mistakes, monkeypatch):
        monkeypatch.setitem(_registry.MODELS._parts, "odd", type("Odd", (), {"config_class": DataConfig}))
        assert mistakes(MINIMAL + "model: {architecture: odd}") == [
            "run.yaml: model.architecture: model 'odd': its config_class must be a subclass of ModelConfig."
        ]


class Dataset(Section):
    name: str
    weight: float = 1.0


class RichConfig(ModelConfig):
    """Settings of the kinds a user's own part may have."""

    widths: dict[str, int] = Field(default_factory=dict)
    parts: list[Dataset] = Field(default_factory=list)
    folder: Path = Path()
    name: Annotated[str, Field(min_length=3)] = "abc"
    order: int | list[Annotated[int, Field(gt=0)]] = 1
    level: Literal[1, 2] = 1
    free: Any = None


class TestSettingsOfAUsersPart:
    @pytest.fixture(autouse=True)
    def rich(self, monkeypatch):
        _registry.MODELS.names()
        monkeypatch.setitem(_registry.MODELS._parts, "rich", type("Rich", (), {"config_class": RichConfig}))

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("widths: {a: x}", "model.widths.a is 'x'; it must be a whole number."),
            ("widths: 3", "model.widths is 3; input should be an object."),
            ("parts: [{name: a}, {nme: b}]", "'model.parts[1].name' is missing; architecture 'rich' needs it."),
            ("parts: [{name: a, weigth: 1}]", "unknown setting 'model.parts[0].weigth'. Did you mean 'weight'?"),
            ("parts: [3]", "model.parts[0] is 3; it must be a section with settings below it."),
            ("folder: 3", "model.folder is 3; input should be a valid string."),
            ("name: ab", "model.name is 'ab'; string should have at least 3 characters."),
            ("order: [1, 0]", "model.order[1] is 0; it must be greater than 0."),
            ("order: [1, x]", "model.order[1] is 'x'; it must be a whole number."),
            ("order: x", "model.order is 'x'; it must be a whole number or a list."),
            ("level: 3", "model.level is 3; it must be 1 or 2."),
        ],
    )
    def test_are_explained_as_far_as_their_types_are_known(self, mistakes, text, line):
        assert f"run.yaml: {line}" in mistakes(f"{MINIMAL}model: {{architecture: rich, {text}}}")

    def test_are_read(self, write):
        text = "widths: {a: 1}, parts: [{name: x}], folder: /a, order: [2], free: {any: [thing]}"
        model = load_config(write(f"{MINIMAL}model: {{architecture: rich, {text}}}")).model
        assert (model.widths, model.parts[0].name, model.folder) == ({"a": 1}, "x", Path("/a"))
        assert (model.order, model.free) == ([2], {"any": ["thing"]})


def test_all_mistakes_of_a_file_are_told_together(mistakes):
    text = """
data:
  paths: [a.h5ad]
  paths: [b.h5ad]
  sorce: local
tokenizer: {max_genes: 9000}
model: {architecture: transformer_encoder, hidden_dim: 30, num_heads: 8}
training: {lr: 1.0, optimizer: {lr: 2.0}, batch_size: many}
eval: {every_n_epochs: 0, benchmarks: [nothing]}
outputs: {}
"""
    lines = mistakes(text)
    assert all(line.startswith("run.yaml: ") for line in lines)
    for words in (
        "'paths' is written twice", "unknown setting 'outputs'", "unknown setting 'data.sorce'",
        "one setting with two values", "training.batch_size is 'many'", "eval.every_n_epochs is 0",
        "unknown benchmark 'nothing'", "model.hidden_dim (30)", "tokenizer.max_genes (9000) exceeds",
    ):  # fmt: skip
        assert sum(words in line for line in lines) == 1, words
    assert len(lines) == 9
