"""One fact, one home: other spellings end there, contradictions are refused."""

from __future__ import annotations

import pytest

from scmodelforge.config import load_config, parse_config
from tests.test_config.conftest import MINIMAL

NAME_OR_SECTION = "it must be the name of a benchmark, or the name with a section of settings."


def parse(**sections):
    sections["data"] = {"paths": ["cells.h5ad"], **sections.get("data", {})}
    return parse_config(sections, origin="run.yaml")


class TestSpellings:
    def test_learning_rate(self):
        assert parse(training={"lr": 0.5}).training.optimizer.lr == 0.5

    def test_max_genes(self):
        assert parse(data={"max_genes": 99}).tokenizer.max_genes == 99

    @pytest.mark.parametrize("vocab", ["from_data", ["A", "B"]])
    def test_gene_vocab(self, vocab):
        assert parse(tokenizer={"gene_vocab": vocab}).data.gene_vocab == vocab

    def test_mask_ratio_lives_in_the_tokenizer_and_is_copied_to_the_model(self):
        config = parse(model={"mask_ratio": 0.4})
        assert config.tokenizer.masking.mask_ratio == config.model.mask_ratio == 0.4
        config = parse(tokenizer={"masking": {"mask_ratio": 0.3}})
        assert config.tokenizer.masking.mask_ratio == config.model.mask_ratio == 0.3

    @pytest.mark.parametrize(("num_gpus", "accelerator", "devices"), [(4, "gpu", 4), (1, "gpu", 1), (0, "cpu", 1)])
    def test_num_gpus(self, num_gpus, accelerator, devices):
        training = parse(training={"num_gpus": num_gpus}).training
        assert (training.accelerator, training.devices) == (accelerator, devices)

    def test_no_gpus_leave_the_number_of_cpu_processes_alone(self):
        assert parse(training={"num_gpus": 0, "devices": 2}).training.devices == 2

    def test_the_same_value_twice_is_fine(self):
        config = parse(
            data={"max_genes": 64},
            tokenizer={"max_genes": 64},
            training={"lr": 1, "optimizer": {"lr": 1.0}, "num_gpus": 2, "devices": 2, "accelerator": "gpu"},
        )
        assert config.tokenizer.max_genes == 64
        assert config.training.optimizer.lr == 1

    def test_what_is_given_is_not_changed(self):
        raw = {"data": {"paths": ["a"], "max_genes": 9}, "training": {"lr": 1.0}, "plugins": []}
        parse_config(raw, origin="run.yaml")
        assert raw == {"data": {"paths": ["a"], "max_genes": 9}, "training": {"lr": 1.0}, "plugins": []}


class TestContradictions:
    @pytest.mark.parametrize(
        ("text", "line"),
        [
            (
                "training: {lr: 0.1, optimizer: {lr: 0.2}}",
                "training.lr (0.1) and training.optimizer.lr (0.2) are one setting with two values; keep one of them.",
            ),
            (
                "tokenizer: {max_genes: 20}\nmodel: {}",
                "data.max_genes (10) and tokenizer.max_genes (20) are one setting with two values; keep one of them.",
            ),
            (
                "model: {mask_ratio: 0.1}\ntokenizer: {masking: {mask_ratio: 0.2}}",
                "model.mask_ratio (0.1) and tokenizer.masking.mask_ratio (0.2) are one setting with two values; "
                "keep one of them.",
            ),
            (
                "training: {num_gpus: 2, devices: 1}",
                "training.num_gpus (2) means training.devices 2, but training.devices is 1; keep one of them.",
            ),
            (
                "training: {num_gpus: 0, accelerator: gpu}",
                "training.num_gpus (0) means training.accelerator 'cpu', but training.accelerator is 'gpu'; "
                "keep one of them.",
            ),
        ],
    )
    def test_show_both_places_and_values(self, mistakes, text, line):
        assert mistakes(f"{MINIMAL}  max_genes: 10\n{text}") == [f"run.yaml: {line}"]

    @pytest.mark.parametrize("value", ["-1", "two", "true", "1.5", "null"])
    def test_num_gpus_must_be_a_count(self, mistakes, value):
        (line,) = mistakes(f"{MINIMAL}training: {{num_gpus: {value}}}")
        assert line.startswith("run.yaml: training.num_gpus is ")
        assert line.endswith("; it must be a whole number, 0 or more.")

    def test_a_wrong_value_is_named_as_it_was_written(self, mistakes):
        text = MINIMAL + "  max_genes: 1\ntraining: {lr: fast}\ntokenizer: {gene_vocab: [1, B]}\nmodel: {mask_ratio: 2}"
        assert mistakes(text) == [
            "run.yaml: tokenizer.gene_vocab[0] is 1; it must be text; put it in quotes: '1'.",
            "run.yaml: data.max_genes is 1; it must be greater than 1.",
            "run.yaml: model.mask_ratio is 2; it must be at most 1.",
            "run.yaml: training.lr is 'fast'; it must be a number.",
        ]

    def test_a_section_that_is_none_is_told_once(self, mistakes):
        assert mistakes("data: {paths: [a], max_genes: 5}\ntokenizer: rank_value") == [
            "run.yaml: tokenizer is 'rank_value'; it must be a section with settings below it."
        ]


class TestBenchmarks:
    def test_all_three_forms(self, write):
        text = """
eval:
  benchmarks:
    - embedding_quality
    - embedding_quality:
    - cell_type_annotation:
        dataset: blood
    - {name: batch_integration, batch: donor}
"""
        benchmarks = load_config(write(MINIMAL + text)).eval.benchmarks
        assert [each.name for each in benchmarks] == [
            "embedding_quality", "embedding_quality", "cell_type_annotation", "batch_integration"
        ]  # fmt: skip
        assert (benchmarks[2].dataset, benchmarks[3].batch) == ("blood", "donor")

    @pytest.mark.parametrize(
        ("entry", "line"),
        [
            ("5", f"eval.benchmarks[1] is 5; {NAME_OR_SECTION}"),
            ("{}", f"eval.benchmarks[1] is {{}}; {NAME_OR_SECTION}"),
            (
                "{embedding_quality: 5}",
                "eval.benchmarks[1] has 5 below 'embedding_quality'; it must be a section of settings.",
            ),
            (
                "{embedding_quality: null, dataset: blood}",
                "eval.benchmarks[1] has several keys; indent dataset further than 'embedding_quality', or write "
                "'name: embedding_quality'.",
            ),
            (
                "{embedding_quality: {labl: type}}",
                "unknown setting 'eval.benchmarks[1].labl'. Did you mean 'label'?",
            ),
        ],
    )
    def test_mistakes_name_the_entry(self, mistakes, entry, line):
        text = f"{MINIMAL}eval: {{benchmarks: [embedding_quality, {entry}]}}"
        assert mistakes(text) == [f"run.yaml: {line}"]

    def test_something_that_is_no_list(self, mistakes):
        (line,) = mistakes(MINIMAL + "eval: {benchmarks: embedding_quality}")
        assert line == "run.yaml: eval.benchmarks is 'embedding_quality'; it must be a list."
