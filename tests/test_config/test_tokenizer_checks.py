"""Settings of tokenizers that are right by themselves and wrong together with a model or an objective."""

from __future__ import annotations

import logging

import pytest

from scmodelforge.config import config_schema, dump_config, load_config
from scmodelforge.config.parts import token_maker, tokenizer_fact
from tests.test_config.conftest import MINIMAL

BIASED = "tokenizer: {strategy: continuous_projection, embedding: attention_bias, value_transform: counts}\n"
BASED = "tokenizer: {strategy: gene_embedding, path: v.npz, base: {strategy: %s}}\n"


class TestUseOfValues:
    @pytest.mark.parametrize("architecture", ["transformer_encoder", "masked_autoencoder"])
    def test_a_bias_goes_with_models_that_take_it(self, write, architecture):
        config = load_config(write(f"{MINIMAL}{BIASED}model: {{architecture: {architecture}}}"))
        assert config.tokenizer.embedding == "attention_bias"

    def test_a_bias_for_a_model_without_attention(self, mistakes):
        assert mistakes(MINIMAL + BIASED + "model: {architecture: gene_pooling}") == [
            "run.yaml: tokenizer.embedding is 'attention_bias', but architecture 'gene_pooling' has no attention that "
            "takes a bias; choose another tokenizer.embedding or model.architecture."
        ]

    def test_a_bias_below_a_base_is_named_there(self, mistakes):
        text = BASED % "continuous_projection, embedding: attention_bias, value_transform: counts"
        (line,) = mistakes(MINIMAL + text + "model: {architecture: gene_pooling}")
        assert line.startswith("run.yaml: tokenizer.base.embedding is 'attention_bias', but")

    def test_bins_of_values_that_no_one_reads(self, mistakes):
        text = "tokenizer: {strategy: continuous_projection, embedding: auto_bins}\n"
        assert mistakes(MINIMAL + text + "model: {use_expression_values: false}") == [
            "run.yaml: tokenizer.embedding is 'auto_bins', but model.use_expression_values is false, so no value is "
            "read; set it to true or tokenizer.embedding to 'linear'."
        ]

    def test_a_bias_of_logarithms(self, mistakes):
        (line,) = mistakes(MINIMAL + "tokenizer: {strategy: continuous_projection, embedding: attention_bias}")
        assert "embedding 'attention_bias' takes the logarithm of counts itself, but value_transform is" in line

    @pytest.mark.parametrize("use", ["linear", "auto_bins"])
    def test_another_than_the_one_that_a_model_has(self, mistakes, use):
        text = f"tokenizer: {{strategy: continuous_projection, value_transform: counts, embedding: {use}}}\n"
        assert mistakes(MINIMAL + text + "model: {architecture: transcriptformer}") == [
            f"run.yaml: tokenizer.embedding is '{use}', but architecture 'transcriptformer' reads values in one way "
            "only; set it to 'attention_bias'."
        ]

    @pytest.mark.parametrize("strategy", ["rank_value", "binned_expression"])
    def test_counts_for_a_model_that_learns_them(self, mistakes, write, strategy):
        text = "model: {architecture: transcriptformer}\n"
        assert mistakes(f"{MINIMAL}tokenizer: {{strategy: {strategy}}}\n{text}") == [
            f"run.yaml: model.pretraining_task 'next_count_prediction' asks for counts, but tokenizer '{strategy}' "
            "gives other values; set tokenizer.strategy to 'continuous_projection' and tokenizer.value_transform to "
            "'counts'."
        ]
        assert load_config(write(MINIMAL + BIASED + text)).model.soft_cap == 10


class TestValuesAsTheyAre:
    def test_logarithms_are_refused_unless_taken_as_they_are(self, mistakes, write):
        text = MINIMAL + "  preprocessing: {log1p: true}\ntokenizer: {strategy: continuous_projection%s}\n"
        (line,) = mistakes(text % "")
        assert "'continuous_projection' needs values that are not logarithms" in line
        assert load_config(write(text % ", value_transform: as_given")).data.preprocessing.log1p


class TestValueOfHiddenOnes:
    SCGPT = "tokenizer: {strategy: binned_expression, value_scale: index%s}\nmodel: {architecture: scgpt%s}"

    def test_is_one_number(self, mistakes):
        assert mistakes(MINIMAL + self.SCGPT % (", mask_value: -3", "")) == [
            "run.yaml: tokenizer.mask_value is -3, but architecture 'scgpt' shows model.mask_value (-1) where a value "
            "is hidden; leave the former out, or set both to one number."
        ]

    def test_below_a_base_is_named_there(self, mistakes):
        text = BASED % "binned_expression, mask_value: -3"
        (line,) = mistakes(MINIMAL + text + "model: {architecture: scgpt}")
        assert line.startswith("run.yaml: tokenizer.base.mask_value is -3, but")

    @pytest.mark.parametrize(
        "values", [("", ", mask_value: -3"), (", mask_value: -1", ""), (", mask_value: 2", ", mask_value: 2")]
    )
    def test_may_be_left_to_the_model_or_be_the_same(self, write, values):
        config = load_config(write(MINIMAL + self.SCGPT % values))
        assert config.tokenizer.mask_value == config.model.mask_value


class TestMasking:
    def test_of_values_cannot_ask_for_genes(self, mistakes):
        assert mistakes(MINIMAL + "tokenizer: {masking: {mode: value}}") == [
            "run.yaml: tokenizer.masking.mode 'value' leaves genes visible, but masked_gene_prediction asks which gene "
            "was hidden; choose one of: gene, span."
        ]

    @pytest.mark.parametrize("mode", ["gene", "span"])
    def test_of_genes_cannot_ask_a_model_that_sees_only_its_input_for_values(self, mistakes, mode):
        text = f"tokenizer: {{masking: {{mode: {mode}}}}}\nmodel: {{pretraining_task: masked_value_prediction}}"
        assert mistakes(MINIMAL + text) == [
            f"run.yaml: tokenizer.masking.mode is '{mode}', so architecture 'transformer_encoder' would be asked for "
            "the value of a gene that it is not shown; set it to 'value'."
        ]

    def test_of_values_goes_with_it(self, write, caplog):
        text = "tokenizer: {masking: {mode: value}}\nmodel: {pretraining_task: masked_value_prediction}"
        assert load_config(write(MINIMAL + text)).tokenizer.masking.mode == "value"
        assert not caplog.messages

    @pytest.mark.parametrize(
        ("masking", "architecture", "words"),
        [
            (
                "span_length: 3",
                "transformer_encoder",
                "span_length has no effect without tokenizer.masking.mode 'span'.",
            ),
            ("mode: value", "masked_autoencoder", "is told the hidden genes in any case."),
            ("mode: span", "autoregressive_transformer", "masking.mode has no effect on what 'autoregressive_tr"),
        ],
    )
    def test_that_is_not_read_is_told(self, write, caplog, masking, architecture, words):
        text = f"tokenizer: {{strategy: binned_expression, masking: {{{masking}}}}}\n"
        with caplog.at_level(logging.WARNING, logger="scmodelforge"):
            load_config(write(f"{MINIMAL}{text}model: {{architecture: {architecture}}}"))
        (line,) = caplog.messages
        assert words in line


class TestBase:
    def test_facts_are_those_of_the_tokenizer_that_makes_the_tokens(self, write):
        config = load_config(write(MINIMAL + BASED % "binned_expression, n_bins: 9"))
        maker = token_maker(config.tokenizer)
        assert (maker.strategy, maker.n_bins, maker.max_genes) == ("binned_expression", 9, config.tokenizer.max_genes)
        assert tokenizer_fact(config.tokenizer, "provides", None) == {"input_ids", "values", "bin_ids"}
        assert tokenizer_fact(config.tokenizer, "expects", None) == "any"
        assert tokenizer_fact(config.tokenizer, "colour", "none") == "none"

    @pytest.mark.parametrize(
        ("base", "model"), [(", n_bins: 9", ""), ("", ", n_bins: 9"), (", n_bins: 9", ", n_bins: 9")]
    )
    def test_the_number_of_bins_is_the_models_wherever_it_was_set(self, write, base, model):
        text = BASED % f"binned_expression{base}" + f"model: {{architecture: autoregressive_transformer{model}}}"
        config = load_config(write(MINIMAL + text))
        assert (token_maker(config.tokenizer).n_bins, config.model.n_bins) == (9, 9)
        assert load_config(write(dump_config(config))) == config

    def test_the_schema_takes_a_name_and_a_section(self):
        base = config_schema()["$defs"]["GeneEmbeddingConfig"]["properties"]["base"]
        assert [form["type"] for form in base["anyOf"]] == ["object", "string"]

    def test_two_numbers_of_bins(self, mistakes):
        text = BASED % "binned_expression, n_bins: 9" + "model: {architecture: autoregressive_transformer, n_bins: 8}"
        (line,) = mistakes(MINIMAL + text)
        assert "tokenizer.base.n_bins (9) and model.n_bins (8) are one setting with two values" in line

    def test_what_the_objective_needs_is_asked_of_the_base(self, mistakes):
        (line,) = mistakes(MINIMAL + BASED % "rank_value" + "model: {architecture: autoregressive_transformer}")
        assert "needs bin_ids of each gene, which tokenizer.strategy 'gene_embedding' does not provide" in line

    def test_a_first_token_the_base_does_not_make(self, mistakes):
        (line,) = mistakes(MINIMAL + BASED % "rank_value, add_cls: false" + "model: {pooling: cls}")
        assert "model.pooling is 'cls', but tokenizer.add_cls is false" in line

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (
                "tokenizer: {strategy: gene_embedding}",
                "'tokenizer.path' is missing; strategy",
            ),
            (
                BASED % "rank_value, median: none",
                "unknown setting 'tokenizer.base.median' of tokenizer",
            ),
            (BASED % "rank", "unknown tokenizer 'rank'"),
        ],
    )
    def test_mistakes_are_named(self, mistakes, text, words):
        (line,) = mistakes(MINIMAL + text)
        assert words in line
