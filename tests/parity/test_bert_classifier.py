"""Training a cell classifier takes the steps that ``transformers`` takes: same weights, batches and optimiser.

Skipped without transformers (seen with 5.23.0), which is no dependency: pip install transformers.
"""

from __future__ import annotations

import os
import warnings
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from scmodelforge.config.schema import OptimizerConfig
from scmodelforge.models.published import load_geneformer_classifier
from scmodelforge.training._targets import weighted_loss
from scmodelforge.training.objective import Objective
from scmodelforge.training.optim import build_optimizer

pytestmark = pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed")

LR, STEPS, CLASSES = 1e-3, 50, 5


@pytest.fixture(scope="module")
def theirs():
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import BertConfig, BertForSequenceClassification

        config = BertConfig(
            vocab_size=120, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
            hidden_act="relu", max_position_embeddings=64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
            pad_token_id=0, num_labels=CLASSES,
        )  # fmt: skip
        torch.manual_seed(0)
        model = BertForSequenceClassification(config)
    # The one vector that BERT adds to all tokens is part of our positions, so that there is one parameter where theirs
    # are two that always stand together: under Adam the two would take two steps where the one takes one.
    model.bert.embeddings.token_type_embeddings.weight.requires_grad_(False)
    return model


def batches() -> list[dict[str, torch.Tensor]]:
    """Return batches of cells of different lengths, whose first gene tells the class."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(STEPS):
        lengths = rng.integers(5, 40, 16)
        types = rng.integers(0, CLASSES, 16)
        ids = np.zeros((16, lengths.max()), dtype=np.int64)
        for row, (length, kind) in enumerate(zip(lengths, types, strict=True)):
            ids[row, 0] = 4 + kind
            ids[row, 1:length] = 10 + rng.choice(110, length - 1, replace=False)
        mask = np.arange(lengths.max()) < lengths[:, None]
        made.append(
            {
                "input_ids": torch.from_numpy(ids),
                "attention_mask": torch.from_numpy(mask.astype(np.int64)),
                "cell_types": torch.from_numpy(types),
            }
        )
    return made


def test_losses_of_fifty_steps_are_theirs(theirs, tmp_path):
    theirs.save_pretrained(tmp_path)
    model = load_geneformer_classifier(tmp_path).train()
    objective = Objective(model)
    settings = OptimizerConfig(lr=LR, weight_decay=0.0)
    ours = build_optimizer(model, settings)
    other = torch.optim.AdamW(
        theirs.parameters(), lr=LR, betas=(settings.beta1, settings.beta2), eps=settings.eps, weight_decay=0.0
    )
    theirs.train()
    found, expected = [], []
    for batch in batches():
        counts = {"annotation": 16, "annotation_error": 16}
        loss = weighted_loss(objective({**batch, "num_targets": counts}), counts, counts)
        loss.backward()
        ours.step()
        ours.zero_grad()
        output = theirs(batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["cell_types"])
        output.loss.backward()
        other.step()
        other.zero_grad()
        found.append(loss.item())
        expected.append(output.loss.item())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert np.mean(expected[-10:]) < np.mean(expected[:10]) - 0.1  # something was learned on the way
