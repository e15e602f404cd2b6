"""``--set a.b=c``: applied to the file before anything else, and winning in every spelling."""

from __future__ import annotations

import pytest

from scmodelforge.config import load_config
from tests.test_config.conftest import MINIMAL


class TestOverrides:
    def test_values_are_yaml(self, write):
        config = load_config(
            write(MINIMAL),
            ["training.batch_size=16", "training.optimizer.lr=1e-3", "data.paths=[a.h5ad, b.h5ad]",
             "model.use_expression_values=false", "data.label_column= cell type", "model.pooling=mean"],
        )  # fmt: skip
        assert config.training.batch_size == 16
        assert config.training.optimizer.lr == 1e-3
        assert config.data.paths == ["a.h5ad", "b.h5ad"]
        assert config.model.use_expression_values is False
        assert config.data.label_column == "cell type"
        assert config.model.pooling == "mean"

    def test_replace_what_the_file_says_and_leave_the_rest(self, write):
        config = load_config(write(MINIMAL + "  block_size: 8\n  num_workers: 3\n"), ["data.block_size=16"])
        assert (config.data.block_size, config.data.num_workers) == (16, 3)

    def test_empty_and_null_set_nothing(self, write):
        path = write(MINIMAL + "  label_column: a\n  batch_column: b\n")
        config = load_config(path, ["data.label_column=", "data.batch_column=null"])
        assert config.data.label_column is config.data.batch_column is None

    def test_a_value_may_hold_equal_signs(self, write):
        assert load_config(write(MINIMAL), ["output.run_dir=runs/lr=1"]).output.run_dir == "runs/lr=1"

    def test_the_last_of_two_wins(self, write):
        assert load_config(write(MINIMAL), ["training.seed=1", "training.seed=2"]).training.seed == 2

    @pytest.mark.parametrize(
        ("text", "override", "seen"),
        [
            ("training: {optimizer: {lr: 1.0}}", "training.lr=2.0", 2.0),
            ("training: {lr: 1.0}", "training.optimizer.lr=2.0", 2.0),
            ("training: {lr: 1.0}", "training.lr=2.0", 2.0),
        ],
    )
    def test_win_over_another_spelling_of_the_same_fact(self, write, text, override, seen):
        assert load_config(write(MINIMAL + text), [override]).training.optimizer.lr == seen

    def test_a_file_for_four_gpus_runs_on_a_cpu(self, write):
        path = write(MINIMAL + "training: {num_gpus: 4}")
        by_number = load_config(path, ["training.num_gpus=0"]).training
        by_name = load_config(path, ["training.accelerator=cpu"]).training
        assert (by_number.accelerator, by_number.devices) == (by_name.accelerator, by_name.devices) == ("cpu", 1)

    def test_may_choose_another_part_and_set_what_only_it_has(self, write, toys):
        config = load_config(write("data: {source: local}"), ["data.source=toy_source", "data.shards=3"])
        assert config.data.shards == 3


class TestWrongOverrides:
    @pytest.mark.parametrize("override", ["training.batch_size", "=3", "training..lr=3", ".lr=3", ""])
    def test_not_of_the_form(self, mistakes, override):
        assert mistakes(MINIMAL, [override]) == [
            f"run.yaml: --set {override} is not of the form section.setting=value."
        ]

    def test_below_something_that_is_no_section(self, mistakes):
        assert mistakes(MINIMAL, ["data.paths.first=x.h5ad"]) == [
            "--set data.paths.first=x.h5ad: 'data.paths' is ['cells.h5ad'], not a section; set it as a whole."
        ]

    def test_not_yaml(self, mistakes):
        assert mistakes(MINIMAL, ["data.paths=[a"]) == [
            "--set data.paths=[a: '[a' cannot be read as a value; put text in quotes."
        ]

    def test_a_wrong_value_is_blamed_on_the_command_line_and_not_on_the_file(self, mistakes):
        lines = mistakes(MINIMAL + "training: {seed: -1}", ["training.batch_size=many", "model.hidden_dims=3"])
        assert lines == [
            "--set model.hidden_dims=3: unknown setting 'model.hidden_dims'. Did you mean 'hidden_dim'?",
            "--set training.batch_size=many: training.batch_size is 'many'; it must be a whole number or 'auto'.",
            "run.yaml: training.seed is -1; it must be at least 0.",
        ]

    @pytest.mark.parametrize(
        ("override", "said"),
        [
            ("trianing.batch_size=3", "unknown setting 'trianing'. Did you mean 'training'?"),
            ("training.optimiser.lr=3", "unknown setting 'training.optimiser'. Did you mean 'optimizer'?"),
            ("batchsize=3", "unknown setting 'batchsize'. Did you mean 'training.batch_size'?"),
            ("tokenizer.strategy=rank", "tokenizer.strategy: unknown tokenizer 'rank'. Did you mean 'rank_value'?"),
            (
                "model.architecture=transformer",
                "model.architecture: unknown model 'transformer'. Did you mean 'transformer_encoder'?",
            ),
            ("training.optimizer.learning=3", "unknown setting 'training.optimizer.learning'. Settings of"),
        ],
    )
    def test_an_unknown_key_or_name_is_blamed_on_the_command_line(self, mistakes, override, said):
        (line,) = mistakes(MINIMAL, [override])
        assert line.startswith(f"--set {override}: {said}")

    def test_a_section_that_the_file_has_is_not(self, mistakes):
        lines = mistakes(MINIMAL + "training: {optimiser: {lr: 1.0}}", ["training.optimiser.beta=3", "model.dropout=0"])
        assert lines == ["run.yaml: unknown setting 'training.optimiser'. Did you mean 'optimizer'?"]

    def test_two_that_contradict_each_other(self, mistakes):
        (line,) = mistakes(MINIMAL, ["training.lr=1.0", "training.optimizer.lr=2.0"])
        assert "training.lr (1.0) and training.optimizer.lr (2.0) are one setting with two values" in line
