"""Settings that are right by themselves and wrong together."""

from __future__ import annotations

import logging

import pytest

from scmodelforge import _registry
from scmodelforge.config import load_config
from tests.test_config.conftest import MINIMAL


class TestLengths:
    def test_longer_cells_than_the_model_takes(self, mistakes):
        assert mistakes(MINIMAL + "tokenizer: {max_genes: 4096}") == [
            "run.yaml: tokenizer.max_genes (4096) exceeds model.max_seq_len (2048); "
            "raise the latter or lower the former."
        ]

    def test_as_long_is_long_enough(self, write):
        load_config(write(MINIMAL + "tokenizer: {max_genes: 64}\nmodel: {max_seq_len: 64}"))


class TestHeads:
    def test_must_divide_the_width(self, mistakes):
        assert mistakes(MINIMAL + "model: {hidden_dim: 100}") == [
            "run.yaml: model.hidden_dim (100) is not a multiple of model.num_heads (8); change one of them."
        ]

    @pytest.mark.parametrize("settings", ["architecture: gene_pooling, num_heads: 7", "architecture: plain"])
    def test_do_not_matter_to_a_model_without_them(self, write, toys, settings):
        load_config(write(f"{MINIMAL}model: {{{settings}, hidden_dim: 100}}"))

    def test_matter_to_a_model_that_says_nothing_but_is_given_them(self, mistakes, toys):
        (line,) = mistakes(MINIMAL + "model: {architecture: plain, hidden_dim: 100, num_heads: 7}")
        assert "model.hidden_dim (100) is not a multiple of model.num_heads (7)" in line


class TestObjectives:
    def test_one_the_architecture_cannot_be_trained_on(self, mistakes, toys):
        assert mistakes(MINIMAL + "model: {pretraining_task: toy_objective}") == [
            "run.yaml: model.pretraining_task 'toy_objective' does not work with architecture 'transformer_encoder'; "
            "it can be trained on: masked_gene_prediction."
        ]

    def test_any_registered_one_for_a_model_that_says_nothing(self, write, toys):
        load_config(write(MINIMAL + "model: {architecture: plain, pretraining_task: masked_gene_prediction}"))

    def test_an_unknown_one(self, mistakes, toys):
        (line,) = mistakes(MINIMAL + "model: {architecture: plain, pretraining_task: masked_gene}")
        assert line.startswith("run.yaml: model.pretraining_task: unknown objective 'masked_gene'. Did you mean")

    def test_one_that_needs_what_the_tokenizer_does_not_give(self, mistakes, toys):
        assert mistakes(MINIMAL + "model: {architecture: toy}") == [
            "run.yaml: model.pretraining_task 'toy_objective' needs bin_ids of each gene, which tokenizer.strategy "
            "'rank_value' does not provide; choose another tokenizer.strategy or model.pretraining_task."
        ]

    def test_a_tokenizer_that_does_not_say_what_it_gives_is_trusted(self, write, toys, monkeypatch):
        monkeypatch.setitem(_registry.TOKENIZERS._parts, "plain_tokens", type("Plain", (), {}))
        load_config(write(MINIMAL + "tokenizer: {strategy: plain_tokens}\nmodel: {architecture: toy}"))


class TestCounts:
    def test_logarithms_for_a_tokenizer_of_counts(self, mistakes):
        assert mistakes(MINIMAL + "  preprocessing: {log1p: true}") == [
            "run.yaml: data.preprocessing.log1p is true, but tokenizer.strategy 'rank_value' needs values that are "
            "not logarithms; set data.preprocessing.log1p to false or choose another tokenizer.strategy."
        ]

    def test_logarithms_for_a_tokenizer_of_anything(self, write, toys):
        text = "  preprocessing: {log1p: true}\ntokenizer: {strategy: toy_tokens}\nmodel: {architecture: plain, "
        load_config(write(MINIMAL + text + "pretraining_task: easy_objective}"))


class TestSplit:
    @pytest.mark.parametrize("by", ["auto", "cells"])
    def test_groups_need_a_column(self, mistakes, by):
        assert mistakes(f"{MINIMAL}  split: {{by: {by}, validation_groups: [d1]}}") == [
            "run.yaml: data.split.validation_groups needs a column to find the groups in, but data.split.by is "
            f"'{by}'; set data.split.by to an obs column."
        ]

    def test_groups_of_a_column(self, write):
        load_config(write(MINIMAL + "  split: {by: donor, validation_groups: [d1]}"))

    @pytest.mark.parametrize(
        ("split", "reason"),
        [
            ("validation_fraction: 0", "validation_fraction is 0"),
            ("by: donor, validation_groups: []", "validation_groups has no group"),
        ],
    )
    def test_benchmarks_need_held_out_cells(self, mistakes, split, reason):
        text = f"{MINIMAL}  split: {{{split}}}\neval: {{benchmarks: [embedding_quality]}}"
        assert mistakes(text) == [
            f"run.yaml: data.split.{reason}, so no cells are held out, but eval.benchmarks (embedding_quality) need "
            "held-out cells; hold out some, or give the benchmarks a dataset of their own."
        ]

    @pytest.mark.parametrize("benchmarks", ["[]", "[embedding_quality: {dataset: blood}]"])
    def test_nothing_held_out_is_fine_where_nothing_is_scored_on_it(self, write, benchmarks):
        load_config(write(f"{MINIMAL}  split: {{validation_fraction: 0}}\neval: {{benchmarks: {benchmarks}}}"))


class TestUnusedSettings:
    def test_are_warned_of_when_they_are_set(self, write, caplog):
        path = write(MINIMAL + "model: {architecture: gene_pooling, num_heads: 8, n_bins: 7}")
        with caplog.at_level(logging.WARNING, logger="scmodelforge"):
            load_config(path)
        assert [record.getMessage() for record in caplog.records] == [
            f"{path}: model.n_bins has no effect on architecture 'gene_pooling'.",
            f"{path}: model.num_heads has no effect on architecture 'gene_pooling'.",
        ]

    @pytest.mark.parametrize("architecture", ["gene_pooling", "transformer_encoder", "plain"])
    def test_are_not_mentioned_when_they_are_not(self, write, caplog, toys, architecture):
        with caplog.at_level(logging.WARNING, logger="scmodelforge"):
            load_config(write(f"{MINIMAL}model: {{architecture: {architecture}, hidden_dim: 64}}"))
        assert caplog.records == []
