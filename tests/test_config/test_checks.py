"""Settings that are right by themselves and wrong together."""

from __future__ import annotations

import logging

import pytest

from scmodelforge import _registry
from scmodelforge.config import dump_config, load_config
from scmodelforge.config.schema import RunConfig
from scmodelforge.tokenizers.binned_expression import BinnedExpressionConfig
from tests.test_config.conftest import MINIMAL, ToyTokens


class TestLengths:
    def test_longer_cells_than_the_model_takes(self, mistakes):
        assert mistakes(MINIMAL + "tokenizer: {max_genes: 4096}") == [
            "run.yaml: tokenizer.max_genes (4096) exceeds model.max_seq_len (2048); "
            "raise the latter or lower the former."
        ]

    def test_as_long_is_long_enough(self, write):
        config = load_config(write(MINIMAL + "tokenizer: {max_genes: 64}\nmodel: {max_seq_len: 64}"))
        assert (config.tokenizer.max_genes, config.model.max_seq_len) == (64, 64)


class TestFirstToken:
    TOKENS = MINIMAL + "tokenizer: {add_cls: false}\n"

    @pytest.mark.parametrize(
        "model", ["", "model: {pooling: cls}", "model: {architecture: masked_autoencoder, pooling: cls}"]
    )
    def test_cannot_stand_for_the_cell_if_it_is_a_gene(self, mistakes, model):
        (line,) = mistakes(self.TOKENS + model)
        assert "model.pooling is 'cls', but tokenizer.add_cls is false" in line

    @pytest.mark.parametrize(
        "model", ["pooling: mean", "architecture: masked_autoencoder", "architecture: gene_pooling"]
    )
    def test_need_not_be_special_where_all_are_averaged(self, write, model):
        assert load_config(write(f"{self.TOKENS}model: {{{model}}}")).tokenizer.add_cls is False


class TestValuesOfBins:
    AUTOREGRESSIVE = MINIMAL + "tokenizer: {strategy: binned_expression, value_scale: index}\nmodel: {architecture: "
    AUTOREGRESSIVE += "autoregressive_transformer"

    def test_numbers_of_bins_are_not_read_as_values_of_0_to_1(self, mistakes):
        (line,) = mistakes(self.AUTOREGRESSIVE + "}")
        assert "set tokenizer.value_scale to 'unit' or model.value_embedding to 'linear'" in line

    @pytest.mark.parametrize("model", ["value_embedding: linear", "use_expression_values: false"])
    def test_a_projection_takes_any(self, write, model):
        assert load_config(write(f"{self.AUTOREGRESSIVE}, {model}}}")).tokenizer.value_scale == "index"

    @pytest.mark.parametrize("name", ["cls_value", "pad_value", "mask_value"])
    def test_values_of_no_bin_need_a_projection(self, mistakes, write, name):
        settings = self.AUTOREGRESSIVE.replace("value_scale: index", f"{name}: -2.0")
        (line,) = mistakes(settings + "}")
        assert f"tokenizer.{name} is -2, but model.value_embedding 'bins' has a vector for 0 and none for it" in line
        assert getattr(load_config(write(settings + ", value_embedding: linear}")).tokenizer, name) == -2

    def test_other_models_project(self, write):
        config = load_config(write(MINIMAL + "tokenizer: {strategy: binned_expression, value_scale: index}"))
        assert config.tokenizer.value_scale == "index"


class TestLossOfCounts:
    COUNTS = MINIMAL + "tokenizer: {strategy: continuous_projection, value_transform: counts, masking: {mode: value}}\n"
    MODEL = "model: {value_loss: zero_truncated_poisson, pretraining_task: masked_value_prediction}"

    def test_is_taken_with_counts(self, write):
        assert load_config(write(self.COUNTS + self.MODEL)).model.value_loss == "zero_truncated_poisson"

    def test_needs_counts(self, mistakes):
        (line,) = mistakes(MINIMAL + "tokenizer: {masking: {mode: value}}\n" + self.MODEL)
        assert "takes counts, but tokenizer 'rank_value' gives other values; set tokenizer.strategy to" in line

    def test_is_refused_after_normalisation(self, mistakes):
        settings = self.COUNTS.replace(MINIMAL, f"{MINIMAL}  preprocessing: {{normalize: library_size}}\n")
        (line,) = mistakes(settings + self.MODEL)
        assert "data.preprocessing.normalize is 'library_size', but model.architecture 'transformer_encoder'" in line

    def test_needs_the_task_that_learns_by_it(self, mistakes):
        (line,) = mistakes(MINIMAL + "model: {value_loss: zero_truncated_poisson}")
        assert "has no effect on what the model learns; set model.pretraining_task to 'masked_value_prediction'" in line


class TestSettingsThatOthersLeaveUnread:
    @pytest.mark.parametrize(
        ("model", "words"),
        [
            ("{architecture: scgpt, ecs_threshold: 0.5}", "model.ecs_threshold has no effect without model.ecs_weight"),
            ("{architecture: scgpt, cls_layers: 2}", "no effect without model.cls_weight or model.dab_weight"),
            (
                "{architecture: scgpt, pretraining_task: generative_value_prediction, zero_target_ratio: 1.0}",
                "model.zero_target_ratio has no effect with model.pretraining_task 'generative_value_prediction'",
            ),
            ("{architecture: scdiva, beta: 0, free_bits: 0.1}", "model.free_bits has no effect with model.beta: 0"),
        ],
    )
    def test_are_told_of(self, write, caplog, model, words):
        with caplog.at_level(logging.WARNING):
            load_config(write(f"{MINIMAL}model: {model}\n"))
        assert words in caplog.text

    def test_scgpt_without_values_is_refused(self, mistakes):
        (line,) = mistakes(MINIMAL + "model: {architecture: scgpt, use_expression_values: false}")
        assert "use_expression_values is false, but scgpt predicts values from values" in line


class TestMethodsOfBinning:
    @pytest.mark.parametrize("method", ["fixed", "uniform"])
    def test_that_depend_on_size_factors_are_refused(self, mistakes, method):
        tokens = f"tokenizer: {{strategy: binned_expression, method: {method}}}"
        (line,) = mistakes(f"{MINIMAL}  preprocessing: {{normalize: scran}}\n{tokens}")
        assert f"tokenizer.method is '{method}', whose bins are fitted in the pass before" in line

    @pytest.mark.parametrize(("method", "is_said"), [("quantile", True), ("uniform", False)])
    def test_say_whether_normalising_changes_them(self, write, caplog, method, is_said):
        tokens = f"tokenizer: {{strategy: binned_expression, method: {method}}}"
        with caplog.at_level(logging.INFO, logger="scmodelforge"):
            load_config(write(f"{MINIMAL}  preprocessing: {{normalize: library_size}}\n{tokens}"))
        assert ("normalize changes nothing for tokenizer 'binned_expression'" in caplog.text) is is_said


class TestLossWeights:
    def test_cannot_both_be_nothing(self, mistakes, write):
        tokens = MINIMAL + "tokenizer: {strategy: binned_expression}\nmodel: {architecture: autoregressive_transformer"
        (line,) = mistakes(tokens + ", gene_loss_weight: 0, expression_loss_weight: 0}")
        assert "are both 0, so nothing is learned" in line
        assert load_config(write(tokens + ", gene_loss_weight: 0}")).model.gene_loss_weight == 0


class TestMasking:
    @pytest.mark.parametrize(
        ("model", "unused"),
        [
            ("autoregressive_transformer", ["mask_ratio", "mask_token_prob"]),
            ("masked_autoencoder", ["mask_token_prob"]),
            ("scgpt", ["mask_token_prob"]),
            (
                "scgpt, pretraining_task: generative_value_prediction",
                ["mask_ratio", "mask_token_prob"],
            ),
            ("transformer_encoder", []),
        ],
    )
    def test_settings_that_an_objective_does_not_read_are_named(self, write, caplog, model, unused):
        strategy = "tokenizer: {strategy: binned_expression, masking: {mask_ratio: 0.4, mask_token_prob: 0.7}}\n"
        with caplog.at_level(logging.WARNING):
            load_config(write(f"{MINIMAL}{strategy}model: {{architecture: {model}}}"))
        found = [record.getMessage() for record in caplog.records if "tokenizer.masking" in record.getMessage()]
        assert [line.split("tokenizer.masking.")[1].split()[0] for line in found] == unused


class TestHeads:
    def test_must_divide_the_width(self, mistakes):
        assert mistakes(MINIMAL + "model: {hidden_dim: 100}") == [
            "run.yaml: model.hidden_dim (100) is not a multiple of model.num_heads (8); change one of them."
        ]

    @pytest.mark.parametrize("settings", ["architecture: gene_pooling, num_heads: 7", "architecture: plain"])
    def test_do_not_matter_to_a_model_without_them(self, write, toys, settings):
        assert load_config(write(f"{MINIMAL}model: {{{settings}, hidden_dim: 100}}")).model.hidden_dim == 100

    def test_matter_to_a_model_that_says_nothing_but_is_given_them(self, mistakes, toys):
        (line,) = mistakes(MINIMAL + "model: {architecture: plain, hidden_dim: 100, num_heads: 7}")
        assert "model.hidden_dim (100) is not a multiple of model.num_heads (7)" in line


class TestDecoderHeads:
    AUTOENCODER = MINIMAL + "model: {architecture: masked_autoencoder, hidden_dim: 96, num_heads: 8, "

    @pytest.mark.parametrize(
        ("settings", "width", "heads"),
        [("decoder_dim: 50", 50, 8), ("decoder_dim: 50, decoder_heads: 4", 50, 4), ("decoder_heads: 5", 48, 5)],
    )
    def test_must_divide_the_decoder_s_width(self, mistakes, settings, width, heads):
        assert mistakes(f"{self.AUTOENCODER}{settings}}}") == [
            f"run.yaml: model.decoder_dim ({width}) is not a multiple of model.decoder_heads ({heads}); "
            "change one of them."
        ]

    def test_are_the_encoder_s_unless_told_otherwise(self, mistakes, write):
        text = MINIMAL + "model: {architecture: masked_autoencoder, hidden_dim: 24, num_heads: 8"
        (line,) = mistakes(text + "}")
        assert "model.decoder_dim (12) is not a multiple of model.decoder_heads (8)" in line
        assert load_config(write(text + ", decoder_heads: 4}")).model.decoder_heads == 4
        assert load_config(write(text + ", decoder_dim: 16}")).model.decoder_dim == 16

    def test_both_widths_are_judged_at_once(self, mistakes):
        lines = mistakes(MINIMAL + "model: {architecture: masked_autoencoder, hidden_dim: 100}")
        assert [line.split(" is not")[0] for line in lines] == [
            "run.yaml: model.hidden_dim (100)",
            "run.yaml: model.decoder_dim (50)",
        ]

    @pytest.mark.parametrize(
        ("architecture", "others"),
        [
            ("transformer_encoder", ""),
            ("gene_pooling", ""),
            ("autoregressive_transformer", "tokenizer: {strategy: binned_expression}\n"),
            ("plain", ""),
        ],
    )
    def test_do_not_matter_to_a_model_without_a_decoder(self, write, toys, architecture, others):
        settings = f"architecture: {architecture}, hidden_dim: 96, num_heads: 8, decoder_dim: 50, decoder_heads: 7"
        assert load_config(write(f"{MINIMAL}{others}model: {{{settings}}}")).model.decoder_heads == 7


def with_bins(*, tokenizer: str = "", model: str = "", architecture: str = "autoregressive_transformer") -> str:
    """Return settings of binned tokens, with other settings of the tokenizer and the model."""
    return (
        f"{MINIMAL}tokenizer: {{strategy: binned_expression{tokenizer}}}\n"
        f"model: {{architecture: {architecture}{model}}}\n"
    )


class TestBins:
    @pytest.mark.parametrize(
        ("tokenizer", "model", "expected"),
        [
            ("", "", 51),
            (", n_bins: 11", "", 11),
            ("", ", n_bins: 11", 11),
            (", n_bins: 11", ", n_bins: 11", 11),
            (", n_bins: 51", "", 51),
            ("", ", n_bins: 51", 51),
        ],
    )
    def test_are_as_many_for_the_tokenizer_as_for_the_model(self, write, tokenizer, model, expected):
        config = load_config(write(with_bins(tokenizer=tokenizer, model=model)))
        assert (config.tokenizer.n_bins, config.model.n_bins) == (expected, expected)
        again = load_config(write(dump_config(config), "again.yaml"))
        assert again == config
        assert dump_config(again) == dump_config(config)

    def test_in_the_tokenizer_s_own_number_where_neither_says_one(self, write, toys, monkeypatch):
        class FewBins(BinnedExpressionConfig):
            n_bins: int = 9

        monkeypatch.setattr(ToyTokens, "config_class", FewBins)
        text = MINIMAL + "tokenizer: {strategy: toy_tokens}\nmodel: {architecture: plain"
        for settings, expected in (("}", 9), (", n_bins: 51}", 51)):
            path = write(text + settings.replace("}", ", pretraining_task: easy_objective}"))
            config = load_config(path)
            assert (config.tokenizer.n_bins, config.model.n_bins) == (expected, expected)

    @pytest.mark.parametrize(("tokenizer", "model"), [(11, 51), (51, 11), (11, 12)])
    def test_two_numbers_of_them_are_refused(self, mistakes, tokenizer, model):
        assert mistakes(with_bins(tokenizer=f", n_bins: {tokenizer}", model=f", n_bins: {model}")) == [
            f"run.yaml: tokenizer.n_bins ({tokenizer}) and model.n_bins ({model}) are one setting with two values; "
            "keep one of them."
        ]

    def test_follow_an_override(self, write):
        for override in ("tokenizer.n_bins=7", "model.n_bins=7"):
            config = load_config(write(with_bins()), [override])
            assert (config.tokenizer.n_bins, config.model.n_bins) == (7, 7)

    def test_of_a_tokenizer_without_bins_are_the_model_s_alone(self, write, toys):
        config = load_config(write(MINIMAL + "model: {architecture: plain, n_bins: 7}"))
        assert config.model.n_bins == 7
        assert not hasattr(config.tokenizer, "n_bins")

    @pytest.mark.parametrize("architecture", ["transformer_encoder", "gene_pooling", "masked_autoencoder"])
    def test_of_a_model_that_does_not_read_them_are_left_alone(self, write, caplog, architecture):
        text = with_bins(tokenizer=", n_bins: 7", architecture=architecture)
        with caplog.at_level(logging.WARNING, logger="scmodelforge"):
            config = load_config(write(text))
        assert (config.tokenizer.n_bins, config.model.n_bins) == (7, 51)
        assert caplog.records == []
        assert load_config(write(dump_config(config), "again.yaml")) == config

    def test_that_a_model_does_not_read_may_differ(self, write, caplog):
        text = with_bins(tokenizer=", n_bins: 7", model=", n_bins: 8", architecture="gene_pooling")
        with caplog.at_level(logging.WARNING, logger="scmodelforge"):
            assert load_config(write(text)).tokenizer.n_bins == 7
        (warning,) = caplog.messages
        assert warning.endswith("model.n_bins has no effect on architecture 'gene_pooling'.")

    def test_are_not_judged_where_a_section_is_wrong(self, mistakes):
        (line,) = mistakes(with_bins(tokenizer=", n_bins: 7, bins: 3", model=", n_bins: 8"))
        assert "tokenizer.bins" in line


class TestObjectives:
    def test_one_the_architecture_cannot_be_trained_on(self, mistakes, toys):
        assert mistakes(MINIMAL + "model: {pretraining_task: toy_objective}") == [
            "run.yaml: model.pretraining_task 'toy_objective' does not work with architecture 'transformer_encoder'; "
            "it can be trained on: masked_gene_prediction, masked_value_prediction."
        ]

    def test_any_registered_one_for_a_model_that_says_nothing(self, write, toys):
        config = load_config(write(MINIMAL + "model: {architecture: plain, pretraining_task: masked_gene_prediction}"))
        assert config.model.pretraining_task == "masked_gene_prediction"

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
        config = load_config(write(MINIMAL + "tokenizer: {strategy: plain_tokens}\nmodel: {architecture: toy}"))
        assert config.tokenizer.strategy == "plain_tokens"


class TestCounts:
    def test_logarithms_for_a_tokenizer_of_counts(self, mistakes):
        assert mistakes(MINIMAL + "  preprocessing: {log1p: true}") == [
            "run.yaml: data.preprocessing.log1p is true, but tokenizer.strategy 'rank_value' needs values that are "
            "not logarithms; set data.preprocessing.log1p to false or choose another tokenizer.strategy."
        ]

    def test_logarithms_for_a_tokenizer_of_anything(self, write, toys):
        text = "  preprocessing: {log1p: true}\ntokenizer: {strategy: toy_tokens}\nmodel: {architecture: plain, "
        config = load_config(write(MINIMAL + text + "pretraining_task: easy_objective}"))
        assert config.data.preprocessing.log1p


class TestSplit:
    @pytest.mark.parametrize("by", ["auto", "cells"])
    def test_groups_need_a_column(self, mistakes, by):
        assert mistakes(f"{MINIMAL}  split: {{by: {by}, validation_groups: [d1]}}") == [
            "run.yaml: data.split.validation_groups needs a column to find the groups in, but data.split.by is "
            f"'{by}'; set data.split.by to an obs column."
        ]

    def test_groups_of_a_column(self, write):
        config = load_config(write(MINIMAL + "  split: {by: donor, validation_groups: [d1]}"))
        assert config.data.split.validation_groups == ["d1"]

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
        text = f"{MINIMAL}  split: {{validation_fraction: 0}}\neval: {{benchmarks: {benchmarks}}}"
        assert load_config(write(text)).data.split.validation_fraction == 0


class TestUnusedSettings:
    def test_are_warned_of_when_they_are_set(self, write, caplog):
        path = write(MINIMAL + "model: {architecture: gene_pooling, num_heads: 4, n_bins: 7}")
        with caplog.at_level(logging.WARNING, logger="scmodelforge"):
            load_config(path)
        assert [record.getMessage() for record in caplog.records] == [
            f"{path}: model.n_bins has no effect on architecture 'gene_pooling'.",
            f"{path}: model.num_heads has no effect on architecture 'gene_pooling'.",
        ]

    def test_are_not_mentioned_at_their_default(self, write, caplog):
        """As a run's own config.yaml has them, which nobody wrote."""
        default = RunConfig().model.num_heads
        with caplog.at_level(logging.WARNING, logger="scmodelforge"):
            load_config(write(MINIMAL + f"model: {{architecture: gene_pooling, num_heads: {default}}}"))
        assert caplog.records == []

    @pytest.mark.parametrize("architecture", ["gene_pooling", "transformer_encoder", "plain"])
    def test_are_not_mentioned_when_they_are_not(self, write, caplog, toys, architecture):
        with caplog.at_level(logging.WARNING, logger="scmodelforge"):
            load_config(write(f"{MINIMAL}model: {{architecture: {architecture}, hidden_dim: 64}}"))
        assert caplog.records == []

    @pytest.mark.parametrize(
        ("settings", "lines"),
        [
            ("hvg_flavor: seurat_v3", ["hvg_flavor has no effect without data.preprocessing.hvg_selection."]),
            ("hvg_batch_column: batch", ["hvg_batch_column has no effect without data.preprocessing.hvg_selection."]),
            ("target_sum: 5", ["target_sum has no effect without data.preprocessing.normalize."]),
            ("hvg_selection: 9, hvg_flavor: seurat_v3, hvg_batch_column: batch", []),
            ("normalize: library_size, target_sum: 5", []),
            ("min_genes_per_cell: 3, min_cells_per_gene: 2", []),
        ],
    )
    def test_of_preprocessing(self, write, caplog, settings, lines):
        path = write(f"{MINIMAL}  preprocessing: {{{settings}}}")
        with caplog.at_level(logging.WARNING, logger="scmodelforge"):
            load_config(path)
        assert [record.getMessage() for record in caplog.records] == [
            f"{path}: data.preprocessing.{line}" for line in lines
        ]

    def test_size_factors_for_a_tokenizer_that_divides_by_the_total(self, write, caplog):
        path = write(f"{MINIMAL}  preprocessing: {{normalize: scran, target_sum: 5}}")
        with caplog.at_level(logging.WARNING, logger="scmodelforge"):
            load_config(path)
        assert [record.getMessage() for record in caplog.records] == [
            f"{path}: data.preprocessing.target_sum has no effect without data.preprocessing.normalize: library_size.",
            f"{path}: data.preprocessing.normalize changes nothing for tokenizer 'rank_value', which divides by each "
            "cell's total itself; without it much time is saved.",
        ]
