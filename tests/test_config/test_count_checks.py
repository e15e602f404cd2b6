"""Counts of the data arrive at a model that reads counts, or the settings are refused."""

from __future__ import annotations

import logging

import pytest

from scmodelforge.config import load_config
from tests.test_config.conftest import MINIMAL

MODEL = "model: {architecture: scvi}\n"
COUNTS = "tokenizer: {strategy: continuous_projection, value_transform: counts%s}\n"


def test_counts_are_taken(write):
    assert load_config(write(MINIMAL + COUNTS % "" + MODEL)).model.architecture == "scvi"


@pytest.mark.parametrize(
    ("tokenizer", "name", "path"),
    [
        ("{strategy: rank_value}", "rank_value", "tokenizer"),
        ("{strategy: continuous_projection}", "continuous_projection", "tokenizer"),
        ("{strategy: gene_embedding, path: v.npz, base: binned_expression}", "binned_expression", "tokenizer.base"),
    ],
)
def test_other_values(mistakes, tokenizer, name, path):
    assert mistakes(f"{MINIMAL}tokenizer: {tokenizer}\n{MODEL}") == [
        f"run.yaml: architecture 'scvi' takes counts, but tokenizer '{name}' with these settings gives other values; "
        f"set {path}.strategy to 'continuous_projection' and {path}.value_transform to 'counts'."
    ]


def test_clipped_counts(mistakes):
    assert mistakes(MINIMAL + COUNTS % ", clip: 30" + MODEL) == [
        "run.yaml: architecture 'scvi' takes counts as they are, but tokenizer.clip is set; leave it out."
    ]


@pytest.mark.parametrize("method", ["library_size", "scran"])
def test_normalized_counts(mistakes, method):
    text = f"{MINIMAL}  preprocessing: {{normalize: {method}}}\n"
    assert mistakes(text + COUNTS % "" + MODEL) == [
        f"run.yaml: data.preprocessing.normalize is '{method}', but model.architecture 'scvi' with these settings "
        "takes whole counts; leave it out."
    ]


def test_other_models_take_other_values(write):
    config = load_config(
        write(MINIMAL + "  preprocessing: {normalize: library_size}\ntokenizer: {strategy: rank_value}")
    )
    assert config.data.preprocessing.normalize == "library_size"


def test_batches_need_their_column(mistakes):
    (line,) = mistakes(MINIMAL + COUNTS % "" + "model: {architecture: scvi, use_batches: true}")
    assert line.startswith("run.yaml: data.batch_column is not set, but model.architecture 'scvi' with these settings")
    assert "(reconstruction, kl)" in line


def test_settings_of_masking_have_no_effect(write, caplog):
    with caplog.at_level(logging.WARNING):
        load_config(write(MINIMAL + COUNTS % ", masking: {mask_ratio: 0.4}" + MODEL))
    assert "tokenizer.masking.mask_ratio has no effect on what 'scvi' is trained on" in caplog.text
