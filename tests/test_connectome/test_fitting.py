"""Training: by the loop, the same for a seed, and by nothing that is learned from test pairs."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from scmodelforge.connectome import RegionPairDataset, region_pair_collate, region_wise_split
from scmodelforge.connectome.models import fitting
from scmodelforge.connectome.models.pair_batches import PairBatches
from tests.test_connectome.brains import arguments, brain
from tests.test_connectome.small_models import CROSS, FLAT, MODELS, POOLED, answers, make, weights


@pytest.fixture(scope="module")
def data() -> RegionPairDataset:
    return brain(12, 5)


@pytest.fixture(scope="module")
def split(data) -> tuple[np.ndarray, np.ndarray]:
    return region_wise_split(data, seed=1)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("cls", MODELS)
class TestEveryModel:
    def test_history_has_a_value_an_epoch(self, data, split, cls):
        history = make(cls, data).fit(data, *split, verbose=False)
        assert set(history) == {"train_loss", "test_loss", "test_corr"}
        assert all(len(values) == 2 and np.isfinite(values).all() for values in history.values())

    def test_a_seed_gives_the_same_weights_and_another_one_others(self, data, split, cls):
        found = []
        for seed in (3, 3, 4):
            torch.rand(len(found) + 1)  # what was drawn before does not matter
            model = make(cls, data, seed=seed)
            model.fit(data, *split, verbose=False)
            found.append(weights(model))
        assert same(found[0], found[1])
        assert not same(found[0], found[2])

    def test_it_learns(self, split, cls):
        given = arguments(12, 5)
        gene = given["X"][:, 0].round()
        data = RegionPairDataset(**{**given, "Y": 2 * np.add.outer(gene, gene)})
        options = {"epochs": 15, "learning_rate": 0.02, "dropout_rate": 0.0, "transformer_dropout": 0.0}
        losses = make(cls, data, **options).fit(data, *split, verbose=False)["train_loss"]
        assert losses[-1] < 0.3 * losses[0]


class TestNothingLeaks:
    def test_targets_of_test_pairs_change_nothing_but_their_own_error(self, data, split):
        train, test = split
        found, histories = [], []
        for shift in (0.0, 9.0):
            moved = data.Y.clone()
            rows, columns = data.pairs(test).T
            moved[rows, columns] += shift
            other = RegionPairDataset(**{**arguments(12, 5), "Y": moved})
            model = make(CROSS, other)
            histories.append(model.fit(other, train, test, verbose=False))
            found.append(weights(model))
        assert same(*found)
        assert histories[0]["train_loss"] == histories[1]["train_loss"]
        assert histories[0]["test_loss"] != histories[1]["test_loss"]

    def test_nor_does_it_matter_which_they_are(self, data, split):
        found = []
        for test in (split[1], []):
            model = make(CROSS, data)
            model.fit(data, split[0], test, verbose=False)
            found.append(weights(model))
        assert same(*found)

    def test_quantiles_are_those_of_training_regions(self, split):
        given = arguments(12, 5)
        train_regions = np.unique(RegionPairDataset(**given).pairs(split[0]))
        x = given["X"].copy()
        x[np.setdiff1d(np.arange(12), train_regions)] = 0.5
        found = []
        for each in (given["X"], x):
            data = RegionPairDataset(**{**given, "X": each})
            model = make(CROSS, data, binning="quantile", epochs=1)
            model.fit(data, split[0], [], verbose=False)
            found.append(model.encoder.tokens.bins.edges)
        torch.testing.assert_close(*found)
        expected = np.quantile(given["X"][train_regions].astype(np.float32), [0.2, 0.4, 0.6, 0.8], axis=0).T
        np.testing.assert_allclose(found[0].numpy(), expected, rtol=1e-6)

    def test_pairs_on_both_sides_are_told(self, data, split, caplog):
        make(CROSS, data, epochs=1).fit(data, split[0], split[0][:4] ^ 1, verbose=False)
        assert "2 pairs are both in train_indices and in test_indices" in caplog.text


class TestWhichEpoch:
    def test_without_validation_pairs_it_is_the_last(self, data, split):
        history = make(CROSS, data).fit(data, *split, verbose=False)
        assert "val_loss" not in history

    def test_with_them_it_is_their_best(self, data, split):
        train, val = split
        model = make(CROSS, data, epochs=6, learning_rate=0.3)  # far too much
        history = model.fit(data, train, [], verbose=False, val_indices=val)
        losses = history["val_loss"]
        assert np.argmin(losses) < 5
        kept = ((answers(model, data, val).numpy() - data.targets(val)) ** 2).mean()
        assert kept == pytest.approx(min(losses), rel=1e-4)


class TestHowItIsTrained:
    def test_by_the_loop_that_all_models_are_trained_by(self, data, split, monkeypatch):
        runs, loop = [], fitting.fit

        def noted(run, callbacks):
            runs.append(run)
            loop(run, callbacks)

        monkeypatch.setattr(fitting, "fit", noted)
        make(CROSS, data, cosine_lr=True, weight_decay=0.1).fit(data, *split, verbose=False)
        (run,) = runs
        assert run.progress.step == run.total_steps == 2 * -(-len(split[0]) // 16)
        rates = [run.scheduler.lr_lambdas[0](step) for step in range(run.total_steps)]
        assert rates[0] < 1
        assert max(rates) == pytest.approx(1)
        assert rates[-1] == pytest.approx(0, abs=1e-9)
        assert {group["weight_decay"] for group in run.optimizer.param_groups} == {0.0, 0.1}

    def test_draws_of_the_caller_stay_as_they_are(self, data, split):
        torch.manual_seed(7)
        before = torch.get_rng_state()
        make(CROSS, data).fit(data, *split, verbose=False)
        assert torch.equal(before, torch.get_rng_state())

    def test_a_line_an_epoch_is_logged_if_asked_for(self, data, split, caplog):
        with caplog.at_level(logging.INFO):
            make(CROSS, data).fit(data, *split)
            assert "epoch 2/2  train_loss" in caplog.text
            caplog.clear()
            make(CROSS, data).fit(data, *split, verbose=False)
        assert "epoch" not in caplog.text

    def test_lambda_sym_weighs_what_mirror_images_differ_by(self, data, split):
        model, indices = make(CROSS, data, lambda_sym=3.0), split[0]
        pairs = torch.from_numpy(data.pairs(indices))
        training = fitting.PairTraining(model, data).eval()
        terms = training(pairs, data.Y[pairs[:, 0], pairs[:, 1]]).loss_terms
        found, mirrored = answers(model, data, indices), answers(model, data, indices ^ 1)
        torch.testing.assert_close(terms["symmetry"], 3 * (found - mirrored).square().mean())
        targets = torch.from_numpy(data.targets(indices)).float()
        torch.testing.assert_close(terms["mse"], (found - targets).square().mean())

    def test_it_is_part_of_the_loss_but_no_epoch_is_chosen_by_it(self, data, split):
        train, val = split
        plain, drawn = make(CROSS, data), make(CROSS, data, lambda_sym=5.0)
        for model in (plain, drawn):
            history = model.fit(data, train, val, verbose=False, val_indices=val)
            assert history["val_loss"] == pytest.approx(history["test_loss"], rel=1e-5)
        assert not same(weights(plain), weights(drawn))

    def test_a_symmetric_model_sees_each_pair_once_an_epoch(self, data, split):
        found = []
        for train in (split[0], split[0][::2]):
            model = make(CROSS, data, bidirectional=True)
            model.fit(data, train, [], verbose=False)
            found.append(weights(model))
        assert same(*found)

    def test_learned_boundaries_move_and_are_used_in_order(self, data, split):
        model = make(CROSS, data, binning="learned", epochs=3, learning_rate=0.05)
        before = model.encoder.tokens.bins.boundaries.detach().clone()
        model.fit(data, *split, verbose=False)
        assert (model.encoder.tokens.bins.boundaries - before).abs().min() > 1e-4


class TestBatches:
    def test_each_pass_has_every_pair_once_in_another_order(self, data):
        batches = PairBatches(data, np.arange(30), 8, 0, ("mse",))
        stream, passes = iter(batches), []
        for _ in range(2):
            steps = [next(stream)[0] for _ in range(batches.steps_per_pass)]
            passes.append(torch.cat([step["pairs"] for step in steps]).tolist())
            for step in steps:
                rows, columns = step["pairs"].T
                torch.testing.assert_close(step["targets"], data.Y[rows, columns])
                assert step["num_targets"] == {"mse": len(rows)}
        assert sorted(passes[0]) == sorted(passes[1]) == sorted(data.pairs(np.arange(30)).tolist())
        assert passes[0] != passes[1]

    def test_a_pair_alone_joins_the_batch_before(self, data):
        steps = [len(step[0]["pairs"]) for step in PairBatches(data, np.arange(33), 8, 0, ("mse",)).one_pass()]
        assert steps == [8, 8, 8, 9]

    def test_it_goes_on_from_a_state(self, data):
        batches = PairBatches(data, np.arange(30), 8, 0, ("mse",))
        stream = iter(batches)
        for _ in range(5):
            next(stream)
            batches.mark_consumed()
        other = PairBatches(data, np.arange(30), 8, 0, ("mse",))
        other.load_state_dict(batches.state_dict())
        assert torch.equal(next(stream)[0]["pairs"], next(iter(other))[0]["pairs"])


class TestPredictions:
    @pytest.mark.parametrize("cls", MODELS)
    def test_of_a_loader_they_are_those_of_the_pairs_in_its_order(self, data, split, cls):
        model, test = make(cls, data), split[1]
        expected = answers(model, data, test).numpy()
        for loader in (
            DataLoader(Subset(data, test), batch_size=5),
            DataLoader(Subset(Subset(data, test[::-1]), range(len(test))[::-1]), batch_size=4),
            DataLoader(Subset(data, test), batch_size=5, collate_fn=region_pair_collate),
            DataLoader([data[index] for index in test], batch_size=5),
        ):
            found, targets = model.predict(loader)
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(targets, data.targets(test), rtol=1e-6)

    def test_a_loader_over_all_pairs(self, data):
        model = make(FLAT, data)
        found, targets = model.predict(DataLoader(data, batch_size=50))
        assert found.shape == targets.shape == (len(data),)
        np.testing.assert_allclose(found, answers(model, data, np.arange(len(data))).numpy(), rtol=1e-4, atol=1e-6)

    def test_of_a_loader_that_shuffles_targets_go_along(self, data):
        model = make(POOLED, data)
        loader = DataLoader(data, batch_size=50, shuffle=True, generator=torch.Generator().manual_seed(0))
        found, targets = model.predict(loader)
        answer = answers(model, data, np.arange(len(data))).numpy()
        for value, target in list(zip(found, targets, strict=True))[:10]:
            same_target = np.isclose(data.targets(), target)
            assert np.isclose(answer[same_target], value, atol=1e-5).any()
