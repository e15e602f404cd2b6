"""The place of a hidden gene tells nothing of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from scmodelforge._registry import TOKENIZERS
from scmodelforge.config.schema import ModelConfig, TokenizerConfig
from scmodelforge.data.draws import cell_keys
from scmodelforge.data.types import CellBlock, Panel
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.models import get_model
from scmodelforge.objectives.masked_gene import MaskedGenePrediction
from scmodelforge.objectives.order import in_random_order
from scmodelforge.tokenizers import BaseTokenizer

NUM_GENES, NUM_EXPRESSED = 24, 6
VOCAB = GeneVocab.from_genes([f"g{i:02d}" for i in range(NUM_GENES)], name="few")
STRATEGIES = [
    {"strategy": "binned_expression", "n_bins": 3},
    {"strategy": "continuous_projection", "value_transform": "counts"},
]


def block_of(num_cells: int, seed: int) -> CellBlock:
    """Return cells that express some genes, drawn independently, all with a count of 1: nothing can be foretold."""
    rng = np.random.default_rng(seed)
    columns = np.sort(np.argsort(rng.random((num_cells, NUM_GENES)), axis=1)[:, :NUM_EXPRESSED], axis=1)
    panel = Panel(np.array(VOCAB.genes, dtype=object), "cells")
    indptr = np.arange(num_cells + 1) * NUM_EXPRESSED
    positions = np.arange(num_cells) + seed * num_cells
    return CellBlock(np.ones(columns.size, np.float32), columns.ravel().astype(np.int32), indptr, panel, positions)


def made(settings: dict) -> BaseTokenizer:
    tokenizer_class = TOKENIZERS.get(settings["strategy"])
    return tokenizer_class(tokenizer_class.config_class(**settings), VOCAB)


def tokens_of(tokenizer: BaseTokenizer, block: CellBlock):
    return tokenizer.bind(block.panel).encode(block, cell_keys(1, block.positions))


@pytest.mark.slow
@pytest.mark.parametrize("settings", STRATEGIES, ids=lambda settings: settings["strategy"])
def test_no_model_with_positions_learns_more_than_there_is_to_know(settings):
    tokenizer = made(settings)
    objective = MaskedGenePrediction(vocab=VOCAB, tokenizer_config=tokenizer.config, model_config=ModelConfig())
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=len(VOCAB), hidden_dim=32, num_layers=2, num_heads=2, max_seq_len=16, dropout=0.0)
    model = get_model("transformer_encoder", config)
    optimiser, losses = torch.optim.AdamW(model.parameters(), lr=3e-3), []
    for step in range(400):
        batch = objective(tokens_of(tokenizer, block_of(64, step)))
        loss = model(**{name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    # A hidden gene is one of those that are not shown: at least NUM_GENES - NUM_EXPRESSED + 1 alike, but for the few
    # targets that are shown as they are or as another gene.
    floor = math.log(NUM_GENES - NUM_EXPRESSED + 1)
    assert np.mean(losses[-100:]) > 0.9 * floor


class TestOrder:
    @pytest.mark.parametrize("settings", STRATEGIES, ids=lambda settings: settings["strategy"])
    def test_of_tokens_by_id_is_drawn_anew_by_the_cells_key(self, settings):
        tokenizer = made(settings)
        tokens = tokens_of(tokenizer, block_of(50, 0))
        assert tokens.is_set
        assert tokenizer.is_set
        batch = MaskedGenePrediction(vocab=VOCAB, tokenizer_config=tokenizer.config, model_config=ModelConfig())(tokens)
        genes = batch["gene_ids"][:, 1:].numpy()
        assert (batch["input_ids"][:, 0] == VOCAB.cls_id).all()
        assert np.array_equal(np.sort(genes, axis=1), tokens.ids.reshape(50, -1)[:, 1:])
        assert not (np.diff(genes, axis=1) > 0).all(axis=1).any()

    def test_of_ranks_stays(self):
        tokenizer = made({"strategy": "rank_value", "medians": "none"})
        tokens = tokens_of(tokenizer, block_of(5, 0))
        assert not tokens.is_set
        batch = MaskedGenePrediction(vocab=VOCAB, tokenizer_config=TokenizerConfig(), model_config=ModelConfig())(
            tokens
        )
        assert np.array_equal(batch["gene_ids"].numpy().ravel(), tokens.ids)

    def test_goes_along_with_what_is_done_to_tokens(self):
        tokens = tokens_of(made(STRATEGIES[0]), block_of(4, 0))
        every = np.arange(4)
        for block in (
            tokens.select(every),
            tokens.part(1, 3),
            type(tokens).concatenate([tokens, tokens]),
            type(tokens).gather([tokens, tokens], every % 2, every),
        ):
            assert block.is_set

    def test_moves_values_and_bins_with_their_genes(self):
        tokens = tokens_of(made(STRATEGIES[0]), block_of(3, 0))
        tokens.values[:] = tokens.ids * 0.5
        tokens.bin_ids[:] = tokens.ids + 100
        shuffled = in_random_order(tokens, tokens.ids == VOCAB.cls_id)
        assert not np.array_equal(shuffled.ids, tokens.ids)
        assert np.array_equal(shuffled.values, shuffled.ids * 0.5)
        assert np.array_equal(shuffled.bin_ids, shuffled.ids + 100)
