from __future__ import annotations

import math

import pytest
import torch

from scmodelforge._errors import ConfigError
from scmodelforge.models.scdiva_diffusion import ScDivaDiffusion, ScDivaDiffusionConfig


@pytest.fixture
def model():
    torch.manual_seed(0)
    return ScDivaDiffusion(40, 16, 2, 2, dropout=0.0).eval()


def cells(ids, hidden=()):
    ids = torch.tensor(ids)
    mask = (ids != 0).long()
    labels = torch.full_like(ids, -100)
    for place in hidden:
        labels[:, place] = ids[:, place]
    values = (ids.float() / 10) * mask
    return {"input_ids": ids, "attention_mask": mask, "values": values, "labels": labels, "targets": values}


class TestOneMaskForMany:
    @pytest.mark.parametrize("number", [1, 2, 7])
    def test_it_gives_the_states_of_so_many_masks(self, model, number):
        """The encoder is run on a mask for each hidden gene, which is what the one mask stands for."""
        ids = torch.tensor([[3, 10, 11, 12]])
        batch = {"input_ids": torch.cat([ids, torch.full((1, number), 2)], dim=1)}
        batch |= {"attention_mask": torch.ones_like(batch["input_ids"]), "values": torch.zeros(1, 4 + number)}
        states = model.encoder(model.embedding(batch["input_ids"], batch["values"]), batch["attention_mask"])
        assert torch.allclose(states[0, 4:], states[0, 4].expand(number, -1), atol=1e-5)
        assert torch.allclose(model(**batch).logits[0], model.head(states[0, 4]), atol=1e-5)
        assert torch.allclose(model(**batch).embeddings[0], states[0, :4].mean(dim=0), atol=1e-5)

    def test_without_hidden_genes_nothing_sees_it(self, model):
        batch = {name: cells([[3, 10, 11, 12]])[name] for name in ("input_ids", "attention_mask", "values")}
        states = model.encoder(model.embedding(batch["input_ids"], batch["values"]), batch["attention_mask"])
        assert torch.allclose(model.encode(**batch)[0], states[0].mean(dim=0), atol=1e-6)

    def test_the_number_hidden_matters(self, model):
        one = model(**cells([[3, 10, 11, 12]], hidden=[1])).logits
        two = model(**cells([[3, 10, 11, 12, 13]], hidden=[1, 4])).logits
        assert not torch.allclose(one, two, atol=1e-4)


class TestLoss:
    def test_a_gene_in_sight_cannot_be_a_hidden_one(self, model):
        batch = cells([[3, *range(10, 40)]], hidden=[1])
        # All but gene 10, the tokens 4 to 9 and the special ones are in sight: seven genes are left.
        _, scores = model.score_hidden(
            batch["input_ids"][:, [0, *range(2, 31)]],
            torch.ones(1, 30),
            batch["values"][:, [0, *range(2, 31)]],
            torch.tensor([1]),
        )
        assert scores.isfinite().sum() == 7
        expected = -scores.log_softmax(dim=-1)[0, 10]
        assert model(**batch).loss_terms["hidden_gene"].item() == pytest.approx(expected.item(), abs=1e-5)

    def test_weights_make_a_mean_over_cells(self, model):
        batch = cells([[3, 10, 11, 12], [3, 20, 21, 0]], hidden=[1, 2])
        weights = torch.tensor([[0.0, 0.5, 0.5, 0.0], [0.0, 0.25, 0.25, 0.0]])
        weighted = model(**batch, loss_weights=weights).loss_terms
        each = [
            model(**{name: tensor[[row]][:, [0, 1, 2, 3]] for name, tensor in batch.items()}).loss_terms
            for row in range(2)
        ]
        for name, value in weighted.items():
            # a cell's own loss is the mean of its two genes; weighted they add up to 1 x and 0.5 x that
            assert value.item() == pytest.approx((each[0][name] + 0.5 * each[1][name]).item() / 2, abs=1e-5)

    def test_a_gene_that_is_there_twice_stays_finite(self, model):
        assert model(**cells([[3, 10, 10, 12]], hidden=[1])).loss.isfinite()

    def test_values_are_told_the_gene(self, model):
        state = torch.randn(1, 16).expand(2, -1)
        first, second = model.predict_values(state, torch.tensor([10, 11]))
        assert first != second

    def test_counts_are_taken_as_logarithms(self):
        torch.manual_seed(0)
        raw = ScDivaDiffusion(40, 16, 1, 2, dropout=0.0).eval()
        torch.manual_seed(0)
        logs = ScDivaDiffusion(40, 16, 1, 2, dropout=0.0, log_values=True).eval()
        batch = cells([[3, 10, 11, 12]], hidden=[1])
        counts = {**batch, "values": batch["values"].expm1(), "targets": batch["targets"].expm1()}
        assert logs(**counts).loss.item() == pytest.approx(raw(**batch).loss.item(), abs=1e-5)

    def test_it_learns_the_distribution_of_the_data(self):
        """Cells have genes 4 to 7 or 8 to 11. With one in sight the rest are certain: the loss comes near its floor."""
        torch.manual_seed(0)
        model = ScDivaDiffusion(12, 16, 1, 2, dropout=0.0)
        batch = cells([[3, 4, 5, 6, 7], [3, 8, 9, 10, 11]], hidden=[2, 3, 4])
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(150):
            optimizer.zero_grad()
            model(**batch).loss.backward()
            optimizer.step()
        assert model(**batch).loss_terms["hidden_gene"].item() == pytest.approx(math.log(3), abs=0.05)


class TestSampling:
    def test_no_gene_comes_twice_and_none_is_special(self, model):
        found = model.sample(5, num_genes=36, steps=4, generator=torch.Generator().manual_seed(0))
        genes = found.input_ids[:, 1:].sort(dim=1).values
        assert torch.equal(genes, torch.arange(4, 40).expand(5, -1))
        assert (found.values >= 0).all()
        assert found.is_sampled.sum() == 5 * 36

    def test_the_prompt_stays_and_is_not_drawn_again(self, model):
        prompt = torch.tensor([[3, 10, 11], [3, 12, 0]])
        found = model.sample(
            input_ids=prompt, attention_mask=(prompt != 0), values=torch.ones(2, 3), num_genes=8, steps=3
        )
        assert torch.equal(found.input_ids[:, :3], prompt)
        assert not torch.isin(found.input_ids[0, 3:], prompt[0]).any()
        assert torch.equal(found.values[:, :3], torch.tensor([[1.0, 1, 1], [1, 1, 0]]))

    def test_the_same_generator_gives_the_same_cells_and_modes_are_kept(self, model):
        model.train()
        first, second = (model.sample(3, num_genes=6, generator=torch.Generator().manual_seed(1)) for _ in range(2))
        assert torch.equal(first.input_ids, second.input_ids)
        assert model.training

    def test_one_gene_is_drawn_as_often_as_the_model_says(self, model):
        number = 4000
        found = model.sample(number, num_genes=1, steps=1, generator=torch.Generator().manual_seed(2))
        _, scores = model.score_hidden(torch.tensor([[3]]), torch.ones(1, 1), torch.zeros(1, 1), torch.tensor([1]))
        expected = scores[0].softmax(dim=-1)
        shares = torch.bincount(found.input_ids[:, 1], minlength=40) / number
        errors = (expected * (1 - expected) / number).sqrt()
        assert ((shares - expected).abs() <= 4.5 * errors + 1e-9).all()

    @pytest.mark.slow
    def test_data_of_two_kinds_are_not_mixed(self):
        torch.manual_seed(0)
        model = ScDivaDiffusion(12, 16, 1, 2, dropout=0.0)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        draw = torch.Generator().manual_seed(0)
        for _ in range(250):
            batch = cells([[3, 4, 5, 6, 7], [3, 8, 9, 10, 11]] * 32)
            hidden = torch.rand(64, 5, generator=draw) < torch.rand(64, 1, generator=draw)
            hidden[:, 0] = False
            batch["labels"] = torch.where(hidden, batch["input_ids"], -100)
            optimizer.zero_grad()
            model(**batch).loss.backward()
            optimizer.step()
        found = model.sample(100, num_genes=4, steps=4, generator=draw).input_ids[:, 1:]
        kinds = (found < 8).sum(dim=1)
        assert ((kinds == 0) | (kinds == 4)).float().mean() > 0.9
        assert 20 < (kinds == 4).sum() < 80

    @pytest.mark.parametrize("options", [{"num_genes": -1}, {"num_genes": 40}, {"num_genes": 3, "steps": 0}])
    def test_options_out_of_range(self, model, options):
        with pytest.raises(ConfigError):
            model.sample(2, **options)


def test_thinning_asks_for_logarithms():
    with pytest.raises(ValueError, match="log_values: true"):
        ScDivaDiffusionConfig(least_depth=0.5)
