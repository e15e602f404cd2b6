"""The siblings, and that a region that is encoded once gives what it gives when encoded with every pair."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch

from scmodelforge.connectome import (
    RegionPairDataset,
    get_connectome_model,
    list_connectome_models,
    register_connectome_model,
)
from scmodelforge.connectome.models import ConnectomeModel
from scmodelforge.connectome.models.head import PlaceCode
from tests.test_connectome.brains import arguments, brain
from tests.test_connectome.small_models import CROSS, FLAT, MODELS, POOLED, SINGLE, answers, make, vectors, weights

EVERY = list(range(0, 40))
SIBLINGS = [FLAT, POOLED, SINGLE]


@pytest.fixture(scope="module")
def data() -> RegionPairDataset:
    return brain(12, 5)


@pytest.mark.parametrize("cls", MODELS)
@pytest.mark.parametrize("bidirectional", [False, True])
class TestOnceOrEachTime:
    def test_values_and_gradients_are_the_same(self, data, cls, bidirectional):
        options = {"cls_init": "spatial"} if cls is CROSS else {}
        model = make(cls, data, bidirectional=bidirectional, use_alibi=True, **options).double()
        batch, pairs = data.batch(EVERY), torch.from_numpy(data.pairs(EVERY))
        found = []
        for step in (
            lambda: model.score_pairs(data.X.double(), data.coords.double(), pairs),
            lambda: model(batch["x"].double(), batch["coords"].double()),
        ):
            model.zero_grad()
            values = step()
            (values * torch.arange(40)).sum().backward()
            found.append(
                [values.detach(), *(each.grad.clone() for each in model.parameters() if each.grad is not None)]
            )
        for once, each in zip(*found, strict=True):
            torch.testing.assert_close(once, each, rtol=1e-8, atol=1e-9)

    def test_each_region_of_a_batch_is_encoded_once(self, data, cls, bidirectional):
        model = make(cls, data, bidirectional=bidirectional)
        seen: list[int] = []
        model.encoder.tokens.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
        model.score_pairs(data.X, None, torch.from_numpy(data.pairs(EVERY)))
        assert seen == [len(np.unique(data.pairs(EVERY)))]


@pytest.mark.parametrize("cls", SIBLINGS)
class TestProductsAndPlaces:
    OPTIONS: ClassVar = {"bilinear": True, "place_dim": 4}

    @pytest.mark.parametrize("bidirectional", [False, True])
    def test_a_region_encoded_once_gives_what_it_gives_with_every_pair(self, data, cls, bidirectional):
        model = make(cls, data, bidirectional=bidirectional, **self.OPTIONS)
        pairs = torch.from_numpy(data.pairs(EVERY))
        with torch.no_grad():
            once = model.score_pairs(data.X, data.coords, pairs)
        torch.testing.assert_close(once, answers(model, data, EVERY), rtol=1e-5, atol=1e-6)
        loader = torch.utils.data.DataLoader(torch.utils.data.Subset(data, EVERY), batch_size=7)
        np.testing.assert_allclose(model.predict(loader)[0], once.numpy(), rtol=1e-5, atol=1e-6)

    def test_both_orders_are_the_same_if_asked_for(self, data, cls):
        swapped = [index ^ 1 for index in EVERY]
        model = make(cls, data, bidirectional=True, **self.OPTIONS)
        torch.testing.assert_close(answers(model, data, EVERY), answers(model, data, swapped), rtol=1e-5, atol=1e-6)
        model = make(cls, data, **self.OPTIONS)
        assert (answers(model, data, EVERY) - answers(model, data, swapped)).abs().median() > 1e-4

    def test_places_reach_the_prediction_and_the_side_too(self, data, cls):
        model, batch = make(cls, data, **self.OPTIONS), data.batch(EVERY)
        with torch.no_grad():
            there = model(batch["x"], batch["coords"])
            assert (model(batch["x"], batch["coords"].roll(1, dims=1)) - there).abs().median() > 1e-4
            assert (model(batch["x"], batch["coords"] * torch.tensor([-1.0, 1, 1, 1, 1, 1])) - there).abs().min() > 0

    def test_units_of_places_and_what_is_level_with_what_do_not_matter(self, data, cls):
        moved = brain(12, 5, coords=10 * (data.coords.numpy() + np.array([0, 30, -20])))
        found = [answers(make(cls, each, **self.OPTIONS), each, EVERY) for each in (data, moved)]
        torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)

    def test_genes_and_places_add_up(self, data, cls):
        model, batch = make(cls, data, **self.OPTIONS), data.batch(EVERY)
        other = 1 - batch["x"]
        moved = batch["coords"].roll(1, dims=0)
        with torch.no_grad():
            here, there = (model(batch["x"], at) - model(other, at) for at in (batch["coords"], moved))
        assert here.abs().median() > 1e-4
        torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-5)

    def test_regions_at_one_place_begin_with_a_half_and_those_far_apart_with_none(self, data, cls):
        model = make(cls, data, **{**self.OPTIONS, "place_dim": 16})
        codes = model.places(torch.cat([data.coords[:1], data.coords[:1] + 1000.0]))
        codes = torch.cat([codes, torch.ones(2, 1)], dim=1)
        worth = model.place_products(codes, torch.tensor([0, 0]), torch.tensor([0, 1]))
        torch.testing.assert_close(worth, torch.tensor([0.5, 0.0]), rtol=0, atol=0.06)

    def test_places_are_described_by_the_regions_of_training_and_once(self, data, cls, tmp_path):
        train = np.flatnonzero((data.pairs() < 9).all(axis=1))
        far = data.coords.numpy().copy()
        far[9:] *= 3  # held out
        found = []
        for each in (data, brain(12, 5, coords=far)):
            model = make(cls, each, epochs=1, **self.OPTIONS)
            model.fit(each, train, [], verbose=False)
            found.append(weights(model))
        assert all(torch.equal(one, other) for one, other in zip(*(each.values() for each in found), strict=True))
        model.save(tmp_path)
        again = cls.load(tmp_path, data)
        again.fit(data, np.flatnonzero((data.pairs() > 3).all(axis=1)), [], verbose=False)
        torch.testing.assert_close(again.places.components, model.places.components, rtol=0, atol=0)

    def test_regions_without_places_are_refused(self, data, cls):
        with pytest.raises(ValueError, match="place_dim above 0 reads coordinates and the data set has none"):
            make(cls, brain(12, 5, coords=None), **self.OPTIONS)

    def test_a_saved_model_says_the_same(self, data, cls, tmp_path):
        model = make(cls, data, **self.OPTIONS)
        model.save(tmp_path)
        assert torch.equal(answers(cls.load(tmp_path).eval(), data, EVERY), answers(model, data, EVERY))

    def test_products_are_found_that_layers_do_not_find(self, cls):
        random = np.random.default_rng(0)
        x = random.uniform(size=(24, 4))
        y = np.outer(x[:, 0] - 0.5, x[:, 0] - 0.5) * 12
        product = RegionPairDataset(x, (y + y.T) / 2, None, None, "product", "none", list("abcd"))
        train = np.flatnonzero((product.pairs() < 16).all(axis=1))
        held = np.flatnonzero((product.pairs() >= 16).all(axis=1))
        options = {"deep_hidden_dims": [], "bidirectional": True, "num_layers": 1, "dropout_rate": 0.0}
        options |= {"transformer_dropout": 0.0, "epochs": 60, "batch_size": 64, "learning_rate": 1e-2}
        found = {}
        for bilinear in (False, True):
            model = make(cls, product, bilinear=bilinear, **options)
            model.fit(product, train, [], verbose=False)
            found[bilinear] = np.corrcoef(answers(model, product, held), product.targets(held))[0, 1]
        assert found[True] > max(0.6, found[False] + 0.3)


class TestPlaceCode:
    def places(self, count: int = 40) -> torch.Tensor:
        random = np.random.default_rng(0)
        return torch.from_numpy(random.uniform(-60, 60, size=(count, 3)).astype(np.float32))

    def test_products_are_a_gaussian_of_the_distance_where_there_are_as_many_numbers_as_places(self):
        places = self.places()
        code = PlaceCode(40)
        code.describe(places)
        found = code(places) @ code(places).T
        at = torch.cat([places[:, :1].abs(), places[:, 1:]], dim=1)
        apart = torch.cdist(at, at) / (at - at.mean(dim=0)).square().mean().sqrt()
        expected = sum((-apart.square() / (2 * length**2)).exp() for length in (0.5, 1.0)) / 2
        side = places[:, 0].sign()
        torch.testing.assert_close(found, expected + 0.01 * torch.outer(side, side), rtol=0, atol=0.11)

    def test_few_numbers_are_the_best_of_so_many(self):
        places, codes = self.places(), []
        for width in (5, 40):
            code = PlaceCode(width)
            code.describe(places)
            codes.append(code(places).double())
        few, every = codes
        best = np.linalg.svd(every.numpy(), compute_uv=False)
        np.testing.assert_allclose(np.linalg.svd(few.numpy(), compute_uv=False), best[:5], rtol=1e-4)

    def test_numbers_that_training_regions_do_not_tell_are_zero(self):
        code = PlaceCode(8)
        code.fit(self.places(3))
        assert code(self.places())[:, 3:].abs().max() == 0
        assert code(self.places())[:, :3].abs().min() > 0

    def test_nothing_is_said_of_a_place_far_from_all(self):
        code = PlaceCode(8)
        code.fit(self.places())
        assert code(torch.tensor([[900.0, 900, 900]])).norm() < 0.11  # the side alone


@pytest.mark.parametrize("cls", SIBLINGS)
class TestSiblings:
    def test_both_regions_and_every_layer_matter(self, data, cls):
        model = make(cls, data, num_layers=3)
        before, batch = answers(model, data, EVERY), data.batch(EVERY)
        for region in (0, 1):
            other = batch["x"].clone()
            other[:, 5 * region : 5 * region + 5] = 1 - other[:, 5 * region : 5 * region + 5]
            with torch.no_grad():
                assert (model(other) - before).abs().median() > 1e-6
        for layer in range(3):
            fresh = make(cls, data, num_layers=3)
            with torch.no_grad():
                for parameter in fresh.encoder.stack.layers[layer].parameters():
                    parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
            assert (answers(fresh, data, EVERY) - before).abs().median() > 1e-6

    def test_a_prediction_does_not_depend_on_its_batch(self, data, cls):
        model = make(cls, data)
        alone = torch.cat([answers(model, data, [index]) for index in EVERY])
        torch.testing.assert_close(alone, answers(model, data, EVERY), rtol=1e-5, atol=1e-6)

    def test_places_do_not_matter(self, data, cls):
        model, batch = make(cls, data), data.batch(EVERY)
        with torch.no_grad():
            torch.testing.assert_close(model(batch["x"], batch["coords"]), model(batch["x"], batch["coords"] + 5))

    def test_predictions_are_not_cut_off(self, data, cls):
        model = make(cls, data)
        with torch.no_grad():
            model.head.layers[-1].bias.fill_(7.0)
        assert answers(model, data, EVERY).min() > 2

    def test_both_ways_are_exactly_symmetric(self, data, cls):
        model, pairs = make(cls, data, bidirectional=True), np.array(EVERY)
        torch.testing.assert_close(answers(model, data, pairs), answers(model, data, pairs ^ 1), rtol=0, atol=0)


class TestChunks:
    def test_the_last_one_is_filled_up_with_zeros(self, data):
        chunks = make(FLAT, data).encoder.tokens  # 5 genes in chunks of 2
        with torch.no_grad():
            longer = torch.cat([data.X, torch.zeros(12, 1)], dim=1)
            expected = longer.reshape(12, 3, 2) @ chunks.projection.weight.T + chunks.projection.bias
            torch.testing.assert_close(chunks(data.X), expected + chunks.chunk_embedding.weight)

    def test_genes_are_standardised_over_the_regions_of_training(self, data):
        model, train = make(FLAT, data, epochs=1), np.array([0, 2, 4, 6, 22, 24, 26])
        model.fit(data, train, [], verbose=False)
        regions = np.unique(data.pairs(train))
        assert len(regions) == 5
        chunks, seen = model.encoder.tokens, []
        chunks.projection.register_forward_hook(lambda _, given, __: seen.append(given[0]))
        with torch.no_grad():
            chunks(data.X[regions])
        genes = seen[0].flatten(1)[:, :5]
        torch.testing.assert_close(genes.mean(dim=0), torch.zeros(5), atol=1e-5, rtol=0)
        torch.testing.assert_close(genes.std(dim=0, correction=0), torch.ones(5))

    def swapped(self, **options: bool) -> float:
        """Return what it matters to a pooled model, without ALiBi, that two chunks change places."""
        given = arguments(12, 6)
        swapped = RegionPairDataset(**{**given, "X": given["X"][:, [2, 3, 0, 1, 4, 5]]})
        plain = RegionPairDataset(**given)
        model = make(POOLED, plain, use_alibi=False, **options)
        return float((answers(model, plain, EVERY) - answers(model, swapped, EVERY)).abs().max())

    def test_a_vector_of_their_own_tells_chunks_apart(self):
        assert self.swapped() > 1e-3
        assert self.swapped(chunk_vectors=False) < 1e-5

    def test_alibi_changes_what_attention_sees(self, data):
        plain, faded = (answers(make(FLAT, data, use_alibi=use), data, EVERY) for use in (False, True))
        assert (plain - faded).abs().max() > 1e-4


def test_single_genes_use_given_vectors_and_leave_out_genes_without(data):
    model = make(SINGLE, data, gene_embeddings=vectors(["G4", "G1"]))
    assert model.shared_genes == ["G1", "G4"]
    batch = data.batch(EVERY)
    other = batch["x"].clone()
    other[:, 0] = 1 - other[:, 0]  # G0 has none
    with torch.no_grad():
        torch.testing.assert_close(model(batch["x"]), model(other))


class TestRegistry:
    def test_every_model_has_a_name(self):
        assert {get_connectome_model(name) for name in list_connectome_models()} >= set(MODELS)
        assert all(get_connectome_model(cls.name) is cls for cls in MODELS)

    def test_an_unknown_name(self):
        with pytest.raises(ValueError, match=r"unknown connectome model 'shared_self_atention'\. Did you mean"):
            get_connectome_model("shared_self_atention")

    def test_a_name_that_is_taken(self):
        with pytest.raises(ValueError, match="already registered"):
            register_connectome_model("shared_self_attention")(ConnectomeModel)
