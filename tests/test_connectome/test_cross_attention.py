"""What the cross-attention model depends on, and what it does not."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

from scmodelforge.connectome import RegionPairDataset
from scmodelforge.models.components.alibi import alibi_slopes
from tests.test_connectome.brains import arguments, brain
from tests.test_connectome.small_models import CROSS, answers, make, vectors

POOLINGS = ["mean", "attention", "cls"]
EVERY = list(range(10))


@pytest.fixture(scope="module")
def data() -> RegionPairDataset:
    return brain(12, 5)


def test_its_arguments_have_the_defaults_of_the_specification():
    defaults = {name: each.default for name, each in inspect.signature(CROSS).parameters.items()}
    said = {
        "expression_bins": 5,
        "d_model": 128,
        "nhead": 4,
        "num_layers": 4,
        "cls_init": "random",
        "pooling_mode": "mean",
        "use_alibi": False,
        "transformer_dropout": 0.1,
        "dropout_rate": 0.1,
        "learning_rate": 0.001,
        "batch_size": 512,
        "epochs": 100,
        "cosine_lr": False,
    }
    assert {name: defaults[name] for name in said} == said
    assert list(defaults["deep_hidden_dims"]) == [512, 256, 128]


def test_its_blocks_have_the_size_that_they_should(data):
    model = CROSS(10, data)
    blocks = [sum(each.numel() for each in block.parameters()) for block in model.encoder.blocks]
    width = 128
    per_block = 4 * (width * width + width) + (8 * width * width + 5 * width) + 4 * width
    assert blocks == [per_block] * 4
    assert model.encoder.cls_token_proj.in_features == 6


class TestWhatMatters:
    @pytest.mark.parametrize("pooling", POOLINGS)
    @pytest.mark.parametrize("region", [0, 1])
    def test_genes_of_either_region_do(self, data, pooling, region):
        model = make(CROSS, data, pooling_mode=pooling)
        batch = data.batch(EVERY)
        other = batch["x"].clone()
        other[:, 5 * region] = 1 - other[:, 5 * region].round()
        with torch.no_grad():
            assert (model(batch["x"], batch["coords"]) - model(other, batch["coords"])).abs().min() > 1e-6

    @pytest.mark.parametrize("pooling", POOLINGS)
    @pytest.mark.parametrize("layer", [0, 1, 2])
    def test_every_layer_does(self, data, pooling, layer):
        model = make(CROSS, data, pooling_mode=pooling, num_layers=3)
        before = answers(model, data, EVERY)
        with torch.no_grad():
            for parameter in model.encoder.blocks[layer].parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        assert (answers(model, data, EVERY) - before).abs().min() > 1e-6

    def test_with_cls_pooling_and_no_attention_among_queries_region_i_does_not(self, data):
        model = make(CROSS, data, pooling_mode="cls", query_self_attention=False)
        batch = data.batch(EVERY)
        other = batch["x"].clone()
        other[:, :5] = torch.rand(10, 5)
        with torch.no_grad():
            torch.testing.assert_close(model(batch["x"]), model(other))

    def test_places_do_only_where_cls_tokens_are_made_of_them(self, data):
        batch = data.batch(EVERY)
        for init, matters in (("random", False), ("spatial", True)):
            model = make(CROSS, data, cls_init=init)
            with torch.no_grad():
                moved = model(batch["x"], batch["coords"] + 10) - model(batch["x"], batch["coords"])
            assert bool((moved.abs() > 1e-6).all()) is matters
            assert model.needs_coords is matters


class TestOrderOfGenes:
    def shuffled(self, use_alibi: bool) -> float:
        given = arguments(12, 6)
        order = [3, 0, 5, 1, 4, 2]
        genes = given["valid_genes"]
        moved = {**given, "X": given["X"][:, order], "valid_genes": [genes[gene] for gene in order]}
        found = []
        for each in (given, moved):
            data = RegionPairDataset(**each)
            model = make(CROSS, data, use_alibi=use_alibi, pooling_mode="cls", gene_embeddings=vectors(genes)).double()
            with torch.no_grad():
                found.append(model(data.batch(EVERY)["x"].double()))
        return float((found[0] - found[1]).abs().max())

    def test_without_alibi_it_does_not_matter(self):
        assert self.shuffled(use_alibi=False) < 1e-12

    def test_with_alibi_it_does(self):
        assert self.shuffled(use_alibi=True) > 1e-6

    def test_attention_fades_by_the_slopes_and_cls_rows_do_not(self, data):
        model = make(CROSS, data, use_alibi=True)
        at = torch.arange(5)
        distance = (at[:, None] - at).abs().float()
        for head, slope in enumerate(alibi_slopes(2)):
            torch.testing.assert_close(model.encoder.bias[0, head, 1:], -slope * distance)
        assert not model.encoder.bias[0, :, 0].any()

    def test_the_genes_kept_are_in_the_order_of_the_data_set(self, data):
        given = vectors(["G3", "G0", "ELSE", "G2"])
        model = make(CROSS, data, gene_embeddings=given)
        assert model.encoder.shared_genes == ["G0", "G2", "G3"]
        assert model.encoder.shared_gene_indices == [0, 2, 3]
        kept = np.stack([given[gene] for gene in ("G0", "G2", "G3")])
        np.testing.assert_allclose(model.encoder.tokens.gene_vectors.numpy(), kept, rtol=1e-6)


class TestBatches:
    @pytest.mark.parametrize("pooling", POOLINGS)
    def test_a_prediction_does_not_depend_on_its_batch(self, data, pooling):
        model = make(CROSS, data, pooling_mode=pooling, cls_init="spatial")
        together = answers(model, data, EVERY)
        alone = torch.cat([answers(model, data, [index]) for index in EVERY])
        assert alone.shape == (10,)
        torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-6)

    def test_places_are_standardised_by_constants_of_the_data_set(self, data):
        summary = make(CROSS, data, cls_init="spatial").encoder.summary
        coords = data.coords.numpy()
        np.testing.assert_allclose(summary.mean.numpy(), coords.mean(axis=0), rtol=1e-4)
        np.testing.assert_allclose(summary.scale.numpy(), coords.std(axis=0), rtol=1e-5)

    def test_places_are_standardised_by_training_regions_when_fitted(self, data):
        model = make(CROSS, data, cls_init="spatial", epochs=1)
        train = np.flatnonzero((data.pairs() < 5).all(axis=1))
        model.fit(data, train, [], verbose=False)
        coords = data.coords.numpy()[:5]
        np.testing.assert_allclose(model.encoder.summary.mean.numpy(), coords.mean(axis=0), rtol=1e-4)
        np.testing.assert_allclose(model.encoder.summary.scale.numpy(), coords.std(axis=0), rtol=1e-5)

    def test_a_flat_atlas_gives_no_nan(self):
        given = arguments(8, 4)
        data = RegionPairDataset(**{**given, "coords": given["coords"] * (1, 1, 0)})
        assert answers(make(CROSS, data, cls_init="spatial"), data, EVERY).isfinite().all()


class TestBothWays:
    @pytest.mark.parametrize("pooling", POOLINGS)
    def test_a_pair_and_its_mirror_image_get_the_same(self, data, pooling):
        model = make(CROSS, data, bidirectional=True, pooling_mode=pooling, cls_init="spatial", use_alibi=True)
        pairs = np.array(EVERY)
        torch.testing.assert_close(answers(model, data, pairs), answers(model, data, pairs ^ 1), rtol=0, atol=0)

    def test_else_they_differ(self, data):
        pairs = np.array(EVERY)
        model = make(CROSS, data)
        assert (answers(model, data, pairs) - answers(model, data, pairs ^ 1)).abs().min() > 1e-6


class TestSeveralClsTokens:
    def test_each_is_a_projection_of_the_same_numbers(self, data):
        summary = make(CROSS, data, num_cls_tokens=3, cls_init="spatial").encoder.summary
        coords = data.batch(EVERY)["coords"]
        numbers = (coords - summary.mean.repeat(2)) / summary.scale.repeat(2)
        for token in range(3):
            weight, bias = (
                part[8 * token : 8 * token + 8] for part in (summary.projection.weight, summary.projection.bias)
            )
            torch.testing.assert_close(summary(coords, 10)[:, token], numbers @ weight.T + bias)

    def test_they_may_be_of_several_kinds(self, data):
        summary = make(CROSS, data, num_cls_tokens=2, cls_init=["random", "spatial"]).encoder.summary
        tokens = summary(data.batch(EVERY)["coords"], 10)
        assert tokens[:, 0].unique(dim=0).shape[0] == 1
        assert tokens[:, 1].unique(dim=0).shape[0] > 1

    def test_cls_pooling_is_their_mean(self, data):
        model = make(CROSS, data, num_cls_tokens=2, pooling_mode="cls")
        read: list[torch.Tensor] = []
        hook = model.encoder.blocks[-1].register_forward_hook(lambda _, __, out: read.append(out))
        pooled: list[torch.Tensor] = []
        model.head.register_forward_hook(lambda _, given, __: pooled.append(given[0]))
        answers(model, data, EVERY)
        hook.remove()
        torch.testing.assert_close(pooled[0], read[0][:, :2].mean(dim=1))


class TestAttentionMaps:
    @pytest.mark.parametrize(("num_cls", "layer"), [(1, -1), (2, 0)])
    def test_the_shares_of_each_query_sum_to_one(self, data, num_cls, layer):
        model = make(CROSS, data, num_cls_tokens=num_cls, use_alibi=True)
        batch = data.batch(EVERY)
        maps = model.attention_maps(batch["x"], batch["coords"], layer=layer)
        assert maps.shape == (10, 2, num_cls + 5, 5)
        torch.testing.assert_close(maps.sum(dim=-1), torch.ones(10, 2, num_cls + 5))

    def test_they_are_what_the_layer_weighs_values_by(self, data):
        model = make(CROSS, data, num_layers=1)
        batch = data.batch(EVERY)
        maps = model.attention_maps(batch["x"], batch["coords"])
        attention, seen = model.encoder.blocks[0].cross.attention, []
        attention.register_forward_hook(lambda _, __, out: seen.append(out))
        answers(model, data, EVERY)
        value = model.encode(batch["x"][:, 5:]).keys_values[0][1]
        with torch.no_grad():
            torch.testing.assert_close(seen[0], attention.o((maps @ value).transpose(1, 2).flatten(2)))

    def test_predictions_stay_as_they_are(self, data):
        model = make(CROSS, data).train()
        batch, before = data.batch(EVERY), torch.get_rng_state()
        model.attention_maps(batch["x"], batch["coords"])
        assert model.training
        torch.testing.assert_close(torch.get_rng_state(), before)

    def test_a_layer_that_is_not_there(self, data):
        batch = data.batch(EVERY)
        with pytest.raises(ValueError, match="there is no layer 2; the model has 2"):
            make(CROSS, data).attention_maps(batch["x"], batch["coords"], layer=2)
