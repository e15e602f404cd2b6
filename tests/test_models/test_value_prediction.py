"""A bidirectional transformer that is asked for the hidden values of genes it sees."""

from __future__ import annotations

import pytest
import torch

from scmodelforge._errors import DataError
from scmodelforge.models import TransformerEncoder


@pytest.fixture
def model(tiny_config) -> TransformerEncoder:
    torch.manual_seed(0)
    settings = tiny_config.model_copy(update={"pretraining_task": "masked_value_prediction"})
    return TransformerEncoder.from_config(settings).eval()


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    drawn = torch.Generator().manual_seed(0)
    ids = torch.randint(4, 50, (3, 8), generator=drawn)
    truth = torch.rand(3, 8, generator=drawn) * 5
    hidden = torch.zeros(3, 8, dtype=torch.bool)
    hidden[:, 2:5] = True
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "values": truth.masked_fill(hidden, 0),
        "labels": ids.masked_fill(~hidden, -100),
        "targets": truth.masked_fill(~hidden, 0),
        "masked_positions": hidden,
    }


def test_the_loss_is_the_mean_squared_error_at_hidden_genes(model, batch):
    output = model(**batch)
    assert output.logits.shape == (3, 8)
    error = (output.logits - batch["targets"])[batch["masked_positions"]]
    assert output.loss.item() == pytest.approx(error.square().mean().item(), rel=1e-6)
    assert output.loss_terms == {"masked_value": output.loss}
    lean = model(**batch, return_logits=False)
    assert (lean.logits, lean.loss.item()) == (None, output.loss.item())


def test_embeddings_are_those_of_encode(model, batch):
    torch.testing.assert_close(model(**batch).embeddings, model.encode(**batch))
    assert model(batch["input_ids"], batch["attention_mask"], return_logits=False).logits is None


def test_the_truth_is_no_input(model, batch):
    other = batch | {"targets": batch["targets"] + 3, "labels": batch["labels"]}
    assert torch.equal(model(**batch).logits, model(**other).logits)


def test_labels_alone_are_not_enough(model, batch):
    del batch["targets"]
    with pytest.raises(DataError, match="labels without targets: a model that predicts values needs them"):
        model(**batch)


def test_it_learns_what_values_go_together(model, batch):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    first = model(**batch).loss.item()
    for _ in range(30):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    assert model(**batch).loss.item() < first / 5
    assert all(parameter.grad is not None for parameter in model.parameters())
