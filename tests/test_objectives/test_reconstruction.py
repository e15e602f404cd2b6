from __future__ import annotations

import numpy as np
import pytest
import torch

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import ModelConfig, TokenizerConfig
from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.objectives import Collator, collate_for_encoding, get_objective

from .tokens import VOCAB, make_tokens


def reconstruction(max_genes: int = 201) -> Collator:
    config = TokenizerConfig(max_genes=max_genes)
    return get_objective("reconstruction", vocab=VOCAB, tokenizer_config=config, model_config=ModelConfig())


def test_nothing_is_hidden():
    tokens = make_tokens([30, 200, 0])
    batch, plain = reconstruction()(tokens), collate_for_encoding(tokens, pad_id=VOCAB.pad_id)
    assert set(batch) - set(plain) == {"labels", "num_targets"}
    assert all(torch.equal(batch[key], plain[key]) for key in plain if isinstance(plain[key], torch.Tensor))


def test_each_gene_is_asked_for_and_nothing_else():
    tokens = make_tokens([5, 9, 0])
    batch = reconstruction()(tokens)
    is_gene = batch["labels"] != IGNORE_INDEX
    assert is_gene.sum(dim=1).tolist() == [5, 9, 0]
    assert torch.equal(batch["labels"][is_gene], batch["input_ids"][is_gene])
    assert not is_gene[:, 0].any()


def test_it_has_no_term_of_its_own():
    assert reconstruction().loss_terms == ()
    assert reconstruction()(make_tokens([5]))["num_targets"] == {}


def test_no_cells():
    batch = reconstruction()(make_tokens([5]).select(np.zeros(0, dtype=np.int64)))
    assert batch["labels"].shape == (0, 1)


def test_cells_that_may_be_cut_are_refused():
    with pytest.raises(
        ConfigError,
        match=r"tokenizer.max_genes is 200, but cells are to be reconstructed whole and the vocabulary has 200 genes; "
        r"set it to 201 or more \(what is not expressed costs nothing\), or choose fewer genes by "
        r"data.preprocessing.hvg_selection.",
    ):
        reconstruction(200)
