"""The next gene and its count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scmodelforge.config.schema import ModelConfig, TokenizerConfig
from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.models.transcriptformer import TranscriptFormerConfig
from scmodelforge.objectives import get_objective

from .tokens import VOCAB, genes_of, make_tokens


def objective(name: str = "next_count_prediction", **settings):
    config = TranscriptFormerConfig.model_validate(settings)
    return get_objective(name, vocab=VOCAB, tokenizer_config=TokenizerConfig(), model_config=config)


@pytest.fixture
def tokens():
    block = make_tokens([5, 0, 9], bins=False)
    return replace(block, values=np.ceil(block.values))


def test_each_place_is_asked_for_the_gene_after_it_and_its_count(tokens):
    batch = objective()(tokens)
    for cell, length in enumerate(tokens.lengths):
        own = slice(tokens.offsets[cell], tokens.offsets[cell + 1])
        count_of = dict(zip(tokens.ids[own].tolist(), tokens.values[own].tolist(), strict=True))
        ids, labels, targets = (batch[name][cell].tolist() for name in ("input_ids", "labels", "targets"))
        assert labels[: length - 1] == ids[1:length]
        assert targets[: length - 1] == [count_of[gene] for gene in ids[1:length]]
        assert set(labels[length - 1 :]) == {IGNORE_INDEX}
        assert sum(targets) == sum(count_of.values())
        assert sorted(ids[1:length]) == sorted(genes_of(tokens, cell))
    assert batch["num_targets"] == {"next_gene": 14, "expression_count": 14}
    assert "bin_ids" not in batch


def test_no_cell_has_a_prefix(tokens):
    assert objective()(tokens)["prefix_len"].tolist() == [1, 1, 1]


def test_bins_of_a_tokenizer_that_has_some_are_left_out(tokens):
    batch = objective()(replace(tokens, bin_ids=np.ones(len(tokens.ids), dtype=np.int32)))
    assert "bin_ids" not in batch


def test_genes_come_in_a_random_order_or_as_they_are_given(tokens):
    given = objective(gene_order="given")(tokens)["input_ids"][2].tolist()
    assert given == tokens.ids[tokens.offsets[2] :].tolist()
    drawn = objective()(tokens)["input_ids"][2].tolist()
    assert drawn != given
    assert sorted(drawn) == sorted(given)
    assert objective()(tokens.select(np.array([2])))["input_ids"][0].tolist() == drawn


def test_plain_settings_of_a_model_do_too(tokens):
    made = get_objective(
        "next_count_prediction", vocab=VOCAB, tokenizer_config=TokenizerConfig(), model_config=ModelConfig()
    )
    assert made(tokens)["num_targets"]["next_gene"] == 14
