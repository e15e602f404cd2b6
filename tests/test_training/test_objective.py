from __future__ import annotations

import pytest
import torch
from torch import nn

from scmodelforge.models.protocol import ModelOutput
from scmodelforge.training.objective import Objective

from .parts import TwoTermModel, cells


class Answering(nn.Module):
    """Gives a fixed answer; its forward takes nothing but what it names."""

    def __init__(self, **answer) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.answer = answer

    def forward(self, input_ids, labels=None, truth=None, wanted=None):
        return ModelOutput(**self.answer)


class TestTerms:
    def test_are_those_of_the_model(self):
        model = TwoTermModel()
        batch = cells([1, 2, 3])
        terms = Objective(model)(batch)
        expected = model(**{name: value for name, value in batch.items() if isinstance(value, torch.Tensor)})
        assert list(terms) == ["genes", "values"]
        torch.testing.assert_close(sum(terms.values()), expected.loss)

    def test_of_a_model_without_terms_are_its_loss(self):
        terms = Objective(Answering(loss=torch.tensor(2.0)))(cells([1, 2]))
        assert terms == {"loss": torch.tensor(2.0)}

    def test_without_targets_are_zero_even_where_the_mean_is_not_a_number(self):
        terms = Objective(TwoTermModel())(cells([0, 4]))  # no hidden gene: cross entropy of nothing
        assert terms["genes"].item() == 0.0
        assert terms["values"].item() > 0.0

    def test_of_a_batch_without_targets_have_a_zero_gradient_and_do_not_run_the_model(self):
        model = TwoTermModel()
        batch = cells([])
        with torch.no_grad():
            model.value.weight.fill_(torch.nan)
        loss = Objective(model)(batch)["loss"]
        loss.backward()
        assert loss.item() == 0.0
        assert model.calls == []
        assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in model.parameters())


class TestWhatTheModelGets:
    def test_is_tensors_only_and_no_logits_are_asked_for(self):
        model = TwoTermModel()
        batch = {**cells([1]), "values": torch.zeros(1), "lengths": [3]}
        Objective(model)(batch)
        assert set(model.calls[0]) == {"return_logits", "values"}
        assert model.calls[0]["return_logits"] is False

    def test_has_no_option_that_the_model_does_not_take(self):
        assert Objective(Answering(loss=torch.tensor(1.0)))(cells([1]))["loss"].item() == 1.0


class TestErrors:
    def test_a_model_without_loss(self):
        with pytest.raises(ValueError, match="Answering returned no loss; it needs one whenever the batch has labels"):
            Objective(Answering())(cells([1]))

    def test_a_term_whose_targets_nobody_counted(self):
        model = Answering(loss_terms={"kl": torch.tensor(1.0)})
        with pytest.raises(ValueError, match=r"loss term 'kl', but the batch counts .*'genes', 'values'.* only"):
            Objective(model)(cells([1]))
