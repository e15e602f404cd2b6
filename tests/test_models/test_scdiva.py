"""ScDiVa: sizes, shapes, losses and ways of reading a cell, as its specification and its reference page say."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from typer.testing import CliRunner

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.cli.main import app
from scmodelforge.config.load import load_config
from scmodelforge.config.schema import ModelConfig
from scmodelforge.hub import load_bundle
from scmodelforge.models import ModelOutput, ScDiVa, get_model, list_models
from scmodelforge.models.scdiva import ScDiVaConfig, active_units, kl_divergence
from tests.conftest import make_adata
from tests.test_models.batches import masked_value_batch

G, H, LATENT = 50, 16, 8
PRESETS = Path(__file__).parents[2] / "configs/presets"


def make(*, seed: int = 0, scale: float = 1.0, **changes) -> ScDiVa:
    """Return a small model; ``scale`` makes its first weights larger, so that cells differ."""
    torch.manual_seed(seed)
    sizes = {"vocab_size": G, "hidden_dim": H, "num_layers": 2, "num_heads": 2, "latent_dim": LATENT, "dropout": 0.0}
    model = ScDiVa(**{**sizes, **changes})
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(scale)
    return model


def profiles(number: int = 4, *, seed: int = 1) -> torch.Tensor:
    """Return profiles, shape (number, G), with nothing at special tokens and half of the genes expressed."""
    draw = torch.Generator().manual_seed(seed)
    values = torch.rand(number, G, generator=draw) * (torch.rand(number, G, generator=draw) < 0.5)
    values[:, :4] = 0
    return values


def tokens_of(expression: torch.Tensor, *, order_seed: int = 0) -> dict[str, torch.Tensor]:
    """Return the expressed genes of profiles as tokens in some order, ``<cls>`` first, padded with nonsense."""
    draw = torch.Generator().manual_seed(order_seed)
    length = int((expression > 0).sum(1).max()) + 3
    ids = torch.full((len(expression), length), 9)
    values, mask = torch.full(ids.shape, 5.0), torch.zeros(ids.shape, dtype=torch.int64)
    for cell, row in enumerate(expression):
        genes = row.nonzero().flatten()
        genes = genes[torch.randperm(len(genes), generator=draw)]
        ids[cell, 0], values[cell, 0] = 3, 7.0
        ids[cell, 1 : len(genes) + 1], values[cell, 1 : len(genes) + 1] = genes, row[genes]
        mask[cell, : len(genes) + 1] = 1
    return {"input_ids": ids, "attention_mask": mask, "values": values}


class TestSizes:
    @pytest.mark.parametrize(
        ("preset", "exact", "stated"), [("base", 343_921_540, 350e6), ("large", 1_501_749_140, 1.5e9)]
    )
    def test_presets_have_the_stated_number_of_parameters(self, preset, exact, stated):
        with torch.device("meta"):
            model = ScDiVa.from_preset(preset, num_cell_types=100)
        assert model.num_parameters(trainable_only=False) == model.num_parameters() == exact
        assert abs(exact - stated) < 0.03 * stated

    def test_four_times_the_width_would_make_large_too_large(self):
        with torch.device("meta"):
            model = ScDiVa.from_preset("large", num_cell_types=100, ffn_dim=8192)
        assert model.num_parameters() == 1_736_687_508

    @pytest.mark.parametrize("types", [None, 3])
    def test_the_count_is_that_of_the_formula(self, types):
        g, h, d, f, n = G, H, LATENT, 24, 2
        c = 0 if types is None else d * h + h + h * types + types
        layers = n * (4 * (h * h + h) + 4 * h + 2 * h * f + f + h)
        expected = g * h + h + 2 * h + layers + 2 * (h * d + d) + c + (d * h + h + h * g + g)
        assert make(ffn_dim=f, num_cell_types=types).num_parameters() == expected

    def test_patches_add_a_vector_each_and_nothing_else(self):
        assert make(tokenization="patch", num_patches=5).num_parameters() == make().num_parameters() + 5 * H

    @pytest.mark.parametrize("preset", ["base", "large"])
    def test_settings_files_are_the_presets(self, preset):
        config = load_config(PRESETS / f"scdiva-{preset}.yaml").model
        with torch.device("meta"):
            expected = ScDiVa.from_preset(preset)
            config.vocab_size = expected.vocab_size
            found = get_model("scdiva", config)
        shapes = [{name: p.shape for name, p in model.named_parameters()} for model in (found, expected)]
        assert shapes[0] == shapes[1]
        assert found.beta == expected.beta
        heads, rates = ([x.num_heads for x in m.encoder.transformer.modules() if hasattr(x, "num_heads")] for m in
                        (found, expected))  # fmt: skip
        assert heads == rates
        drops = [[m.p for m in model.modules() if isinstance(m, nn.Dropout)] for model in (found, expected)]
        assert drops[0] == drops[1]

    def test_an_override_wins_and_an_unknown_preset_is_refused(self):
        with torch.device("meta"):
            assert len(ScDiVa.from_preset("base", num_layers=1).encoder.transformer.layers) == 1
        with pytest.raises(ValueError, match=r"unknown preset 'bass'. Did you mean 'base'\? Choose one of base, large"):
            ScDiVa.from_preset("bass")


class TestParts:
    def test_first_weights(self):
        model = make(vocab_size=400, hidden_dim=64, num_cell_types=5, tokenization="patch", num_patches=4)
        for module in model.modules():
            if isinstance(module, nn.Linear):
                assert abs(module.weight.mean()) < 0.004
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.2)
                assert not module.bias.any()
            if isinstance(module, nn.LayerNorm):
                assert module.eps == 1e-12
                assert (module.weight == 1).all()
                assert not module.bias.any()
        assert model.encoder.gene_encoder.patch_embedding.std().item() == pytest.approx(0.02, rel=0.3)

    def test_the_encoder_is_what_the_specification_says(self):
        """Written out: linear, norm, then per layer attention of one token and a feed-forward layer, post-norm."""
        model, x = make(scale=10.0).eval(), profiles()
        encoder = model.encoder
        hidden = encoder.gene_encoder.layer_norm(encoder.gene_encoder.projection(x))
        for layer in encoder.transformer.layers:
            hidden = layer.attention_norm(hidden + layer.attention.o(layer.attention.v(hidden)))
            inner = nn.functional.gelu(layer.ffn.up(hidden))
            hidden = layer.ffn_norm(hidden + layer.ffn.down(inner))
        mu, logvar = model.posterior(expression=x)
        torch.testing.assert_close(mu, encoder.to_mu(hidden))
        torch.testing.assert_close(logvar, encoder.to_logvar(hidden))

    def test_heads_are_two_linear_layers_with_gelu(self):
        model, z = make(num_cell_types=3).eval(), torch.randn(2, LATENT)
        for head, found in ((model.integration_head, model.reconstruct(z)), (model.annotation_head, model.classify(z))):
            first, last = (layer for layer in head if isinstance(layer, nn.Linear))
            torch.testing.assert_close(found, last(nn.functional.gelu(first(z))))
        assert model.reconstruct(z).shape == (2, G)
        assert model.classify(z).shape == (2, 3)

    def test_dropout_is_where_it_should_be(self):
        model = make(dropout=0.3, num_cell_types=3)
        assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == {0.3}
        assert any(isinstance(m, nn.Dropout) for m in model.annotation_head)
        assert isinstance(model.encoder.gene_encoder.dropout, nn.Dropout)

    def test_it_is_registered(self):
        assert "scdiva" in list_models()
        config = ScDiVaConfig(vocab_size=G, hidden_dim=H, num_heads=2, num_layers=1, latent_dim=5, beta=0.5)
        model = get_model("scdiva", config)
        assert (type(model), model.latent_dim, model.beta) == (ScDiVa, 5, 0.5)

    def test_plain_settings_get_its_defaults(self):
        model = get_model("scdiva", ModelConfig(vocab_size=G, hidden_dim=H, num_heads=2, num_layers=1))
        assert (model.latent_dim, model.beta, model.num_cell_types) == (128, 0.01, None)


class TestLatent:
    def test_evaluation_takes_the_mean_and_training_draws(self):
        model = make(scale=10.0)
        mu, logvar = model.posterior(expression=profiles())
        assert torch.equal(model.eval().reparameterize(mu, logvar), mu)
        torch.manual_seed(3)
        noise = torch.randn_like(mu)
        torch.manual_seed(3)
        torch.testing.assert_close(model.train().reparameterize(mu, logvar), mu + (logvar / 2).exp() * noise)

    @pytest.mark.parametrize("is_training", [True, False])
    def test_embeddings_are_the_posterior_mean_in_both_modes(self, is_training):
        model, x = make(scale=10.0).train(is_training), profiles()
        embeddings = model(expression=x).embeddings
        assert embeddings.shape == (4, LATENT)
        assert torch.equal(embeddings, model.encode(expression=x))
        assert torch.equal(embeddings, model.posterior(expression=x)[0])

    def test_active_units_are_those_that_vary_between_cells(self):
        mu = torch.zeros(100, 3)
        mu[:, 1] = torch.arange(100) % 2  # variance 1/4
        mu[:, 2] = 5 + 0.1 * (torch.arange(100) % 2)  # 1/400
        assert active_units(mu) == 1
        assert active_units(mu, threshold=1e-3) == 2


class TestLosses:
    def test_divergence_is_that_of_normal_distributions(self):
        mu, logvar = torch.randn(6, 3), torch.randn(6, 3)
        posterior = torch.distributions.Normal(mu, (logvar / 2).exp())
        each = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0))
        torch.testing.assert_close(kl_divergence(mu, logvar), each.sum(1).mean())
        torch.testing.assert_close(kl_divergence(mu, logvar, free_bits=0.7), each.clamp(min=0.7).sum(1).mean())
        assert kl_divergence(torch.zeros(2, 3), torch.zeros(2, 3)) == 0
        assert kl_divergence(mu[:0], logvar[:0]) == 0

    @pytest.mark.parametrize("given", ["expression", "tokens", "cell_types"])
    def test_the_loss_grows_with_beta_by_the_divergence(self, given, dummy_batch):
        batch = {"expression": profiles()}
        if given == "tokens":
            batch = masked_value_batch(dummy_batch)
        if given == "cell_types":
            batch["cell_types"] = torch.tensor([0, 2, -100, 1])
        model = make(num_cell_types=3, scale=10.0).eval()
        losses = []
        for model.beta in (0.0, 0.3):
            losses.append(model(**batch).loss)
        read = {key: tensor for key, tensor in batch.items() if key != "cell_types"}
        if given == "tokens":
            read["values"] = read["values"].masked_fill(read["masked_positions"], 0)
        torch.testing.assert_close(losses[1] - losses[0], 0.3 * kl_divergence(*model.posterior(**read)))

    def test_a_dense_batch_is_scored_at_all_genes(self):
        model, x = make().eval(), profiles()
        out = model(expression=x)
        assert isinstance(out, ModelOutput)
        assert set(out.loss_terms) == {"recon", "kl"}
        torch.testing.assert_close(out.loss_terms["recon"], (out.logits - x).square().mean())
        torch.testing.assert_close(out.loss, sum(out.loss_terms.values()))

    def test_annotation_is_scored_at_cells_with_a_class(self):
        model = make(num_cell_types=3, scale=10.0).eval()
        out = model(expression=profiles(), cell_types=torch.tensor([0, 2, -100, 1]))
        assert out.logits.shape == (4, 3)
        assert set(out.loss_terms) == {"annotation", "kl"}
        expected = nn.functional.cross_entropy(out.logits[[0, 1, 3]], torch.tensor([0, 2, 1]))
        torch.testing.assert_close(out.loss_terms["annotation"], expected)

    def test_more_blocks_than_genes_are_refused(self):
        settings = ScDiVaConfig(tokenization="patch", num_patches=61)
        settings.check_vocab_size(61)
        with pytest.raises(ConfigError, match="num_patches is 61, but the vocabulary has 60 tokens; lower it"):
            settings.check_vocab_size(60)

    @pytest.mark.parametrize("name", ["input_ids", "masked_positions"])
    def test_a_profile_stands_alone(self, name):
        with pytest.raises(DataError, match=f"both expression and {name} are given; give the profile or its tokens"):
            make()(expression=profiles(), **{name: torch.ones(4, 3, dtype=torch.int64)})

    def test_weights_have_the_same_names_without_dropout(self):
        assert make(num_cell_types=3).state_dict().keys() == make(num_cell_types=3, dropout=0.1).state_dict().keys()

    def test_without_any_class_annotation_counts_nothing(self):
        out = make(num_cell_types=3)(expression=profiles(), cell_types=torch.full((4,), -100))
        assert out.loss_terms["annotation"].item() == 0

    def test_the_task_may_be_named(self):
        model = make(num_cell_types=3).eval()
        classes = torch.tensor([0, 1, 2, 0])
        assert model(expression=profiles(), cell_types=classes, task="integration").logits.shape == (4, G)
        out = model(expression=profiles(), task="annotation")
        assert (out.logits.shape, out.loss) == ((4, 3), None)

    def test_tokens_without_labels_give_no_loss(self):
        out = make().eval()(**tokens_of(profiles()))
        assert (out.loss, out.loss_terms) == (None, None)
        assert out.logits.shape == (4, G)

    @pytest.mark.parametrize("task", ["annotation", "integration"])
    def test_the_head_that_is_idle_takes_part_in_the_graph(self, task):
        model = make(num_cell_types=3)
        model(expression=profiles(), cell_types=torch.tensor([0, 1, 2, 0]), task=task).loss.backward()
        assert all(p.grad is not None for p in model.parameters())
        idle = model.integration_head if task == "annotation" else model.annotation_head
        assert all(not p.grad.any() for p in idle.parameters())


class TestWarmUp:
    def weight(self, model: ScDiVa) -> float:
        torch.manual_seed(0)
        x = profiles()
        divergence = kl_divergence(*model.posterior(expression=x))
        return (model(expression=x).loss_terms["kl"] / divergence).item()

    def test_the_weight_rises_to_beta_in_training_only(self):
        model = make(beta=0.4, kl_warmup_steps=10, scale=10.0)
        found = []
        for step in (0, 5, 10, 99):
            model.set_step(step)
            found.append(self.weight(model))
        assert found == pytest.approx([0.0, 0.2, 0.4, 0.4])
        model.set_step(0)
        assert self.weight(model.eval()) == pytest.approx(0.4)

    def test_a_loop_that_does_not_tell_the_step_is_refused(self):
        model = make(kl_warmup_steps=10)
        with pytest.raises(ValueError, match=r"model.kl_warmup_steps is 10, but the model was not told the step; call"):
            model(expression=profiles())
        assert model.eval()(expression=profiles()).loss is not None

    def test_free_bits_reach_the_loss(self):
        model = make(beta=1.0, free_bits=0.5).eval()
        assert model(expression=profiles()).loss_terms["kl"].item() == pytest.approx(0.5 * LATENT)  # near the prior


class TestOneTokenQuestion:
    def test_with_one_token_queries_and_keys_are_never_trained(self):
        model = make(scale=10.0)
        for _ in range(3):
            model(expression=profiles()).loss.backward()
        for layer in model.encoder.transformer.layers:
            for part in (layer.attention.q, layer.attention.k):
                assert not part.weight.grad.any()
                assert not part.bias.grad.any()
            assert layer.attention.v.weight.grad.any()

    def test_with_patches_they_are(self):
        model = make(tokenization="patch", num_patches=5, scale=10.0)
        model(expression=profiles()).loss.backward()
        for layer in model.encoder.transformer.layers:
            assert layer.attention.q.weight.grad.abs().max() > 1e-6
            assert layer.attention.k.weight.grad.abs().max() > 1e-6

    @pytest.mark.parametrize("patches", [1, 3, 7, 16])
    def test_patches_are_consecutive_blocks_of_the_same_map(self, patches):
        model, x = make(tokenization="patch", num_patches=patches).eval(), profiles()
        part = model.encoder.gene_encoder
        found = part(x)
        assert found.shape == (4, patches, H)
        for number, columns in enumerate(torch.arange(G).tensor_split(patches)):
            only = torch.zeros_like(x)
            only[:, columns] = x[:, columns]
            expected = part.layer_norm(part.projection(only) + part.patch_embedding[number])
            torch.testing.assert_close(found[:, number], expected)

    def test_hidden_states_and_attention_maps_on_request(self):
        model = make(tokenization="patch", num_patches=5).eval()
        out = model(expression=profiles(), output_hidden_states=True, output_attentions=True)
        assert [states.shape for states in out.hidden_states] == [(4, 5, H)] * 3
        assert [maps.shape for maps in out.attentions] == [(4, 2, 5, 5)] * 2
        torch.testing.assert_close(model.encoder.to_mu(out.hidden_states[-1].mean(1)), out.embeddings)

    def test_patches_learn_three_planted_types(self):
        draw = torch.Generator().manual_seed(0)
        types = torch.arange(48) % 3
        x = torch.rand(48, G, generator=draw)
        x[torch.arange(G)[None] % 3 == types[:, None]] += 1.0
        model = make(tokenization="patch", num_patches=4, num_cell_types=3, beta=1e-3)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        for _ in range(60):
            optimizer.zero_grad()
            model(expression=x, cell_types=types).loss.backward()
            optimizer.step()
        assert (model.eval()(expression=x, cell_types=types).logits.argmax(1) == types).float().mean() > 0.9


class TestInput:
    @pytest.mark.parametrize("tokenization", ["profile", "patch"])
    def test_tokens_are_the_profile_they_stand_for(self, tokenization):
        model, x = make(tokenization=tokenization, num_patches=4, scale=10.0).eval(), profiles()
        for seed in (0, 1):
            tokens = tokens_of(x, order_seed=seed)
            torch.testing.assert_close(model.encode(**tokens), model.encode(expression=x), rtol=1e-5, atol=1e-6)
        assert model.encode(expression=x).std(dim=0).min() > 1e-3

    def test_a_gene_that_comes_twice_is_added_up(self):
        model, x = make(scale=10.0).eval(), torch.zeros(1, G)
        x[0, 7] = 3.0
        ids, values = torch.tensor([[7, 7]]), torch.tensor([[1.0, 2.0]])
        torch.testing.assert_close(model.encode(ids, torch.ones(1, 2), values), model.encode(expression=x))

    def test_special_tokens_contribute_nothing_on_either_path(self):
        model, x = make(scale=10.0).eval(), profiles()
        loud = x.clone()
        loud[:, :4] = 9.0
        assert torch.equal(model.encode(expression=loud), model.encode(expression=x))
        ids = torch.arange(G).expand(4, G)
        torch.testing.assert_close(model.encode(ids, None, loud), model.encode(expression=loud))

    def test_without_a_mask_all_tokens_are_real(self):
        model, tokens = make().eval(), tokens_of(profiles())
        tokens["values"] *= tokens["attention_mask"]
        assert torch.equal(model.encode(tokens["input_ids"], None, tokens["values"]), model.encode(**tokens))

    @pytest.mark.parametrize("mask", [None, "ones"])
    def test_gradients_reach_the_columns_of_expressed_genes_only(self, mask):
        model = make()
        ids = torch.tensor([[7, 9]])
        model.encode(ids, None if mask is None else torch.ones(1, 2), torch.ones(1, 2)).sum().backward()
        columns = model.encoder.gene_encoder.projection.weight.grad.abs().sum(0).nonzero().flatten()
        assert columns.tolist() == [7, 9]

    def test_16_bit_models_take_single_precision_input(self):
        model = make().to(torch.bfloat16).eval()
        assert model.encode(expression=profiles()).dtype == torch.bfloat16
        assert model.encode(**tokens_of(profiles())).dtype == torch.bfloat16


class TestHiddenGenes:
    @pytest.fixture
    def batch(self, dummy_batch):
        return masked_value_batch(dummy_batch)

    @pytest.mark.parametrize("is_training", [False, True])
    @pytest.mark.parametrize("told_by", ["labels", "masked_positions"])
    def test_nothing_of_a_hidden_gene_reaches_an_output(self, batch, is_training, told_by):
        """Neither its value nor what is shown in its place: <mask>, a random gene or the gene itself."""
        if told_by == "labels":
            del batch["masked_positions"]
        model = make(scale=10.0).train(is_training)
        torch.manual_seed(0)
        before = model(**batch)
        hidden = batch["labels"] != -100
        if told_by == "masked_positions":
            del batch["labels"]
            torch.manual_seed(0)
            before = model(**batch)
        for key, changes in (("values", {"values": 8.0, "input_ids": 17}), ("targets", {"targets": 5.0})):
            torch.manual_seed(0)
            after = model(**{**batch, **{name: batch[name].masked_fill(hidden, new) for name, new in changes.items()}})
            assert torch.equal(before.logits, after.logits), key
            assert torch.equal(before.embeddings, after.embeddings), key
            if told_by == "labels":
                assert (before.loss == after.loss) == (key != "targets")

    def test_a_hidden_gene_of_a_whole_profile_too(self):
        model, x = make(scale=10.0).eval(), profiles()
        labels = torch.tensor([[10, 11], [12, -100], [13, 14], [-100, -100]])
        other = x.clone()
        for cell, gene in ((0, 10), (0, 11), (1, 12), (2, 13), (2, 14)):
            other[cell, gene] += 4.0
        before, after = (model(expression=each, labels=labels) for each in (x, other))
        assert torch.equal(before.logits, after.logits)
        assert torch.equal(before.embeddings, after.embeddings)
        errors = [(before.logits[c, g] - x[c, g]).square() for c, g in ((0, 10), (0, 11), (1, 12), (2, 13), (2, 14))]
        torch.testing.assert_close(before.loss_terms["masked_value"], torch.stack(errors).mean())
        assert before.loss != after.loss

    def test_only_hidden_genes_are_scored_at_the_column_of_their_label(self, batch):
        model = make().eval()
        out = model(**batch)
        cells, places = (batch["labels"] != -100).nonzero(as_tuple=True)
        genes = batch["labels"][cells, places]
        expected = (out.logits[cells, genes] - batch["targets"][cells, places]).square().mean()
        torch.testing.assert_close(out.loss_terms["masked_value"], expected)

    def test_without_targets_the_values_are_the_truth(self, batch):
        model = make().eval()
        told = {**batch, "values": torch.where(batch["labels"] != -100, batch["targets"], batch["values"])}
        del told["targets"]
        assert torch.equal(model(**told).loss, model(**batch).loss)


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"num_heads": 3}, r"model.hidden_dim \(16\) is not divisible by model.num_heads \(3\)"),
            ({"tokenization": "patches"}, r"unknown model.tokenization 'patches'. Did you mean 'patch'\?"),
            ({"beta": -0.1}, r"model.beta is -0.1; a weight of 0 or more"),
            ({"beta": float("nan")}, r"model.beta is nan"),
        ],
    )
    def test_arguments(self, changes, words):
        with pytest.raises(ValueError, match=words):
            make(**changes)

    def test_settings(self):
        with pytest.raises(ValueError, match="vocab_size must be set"):
            ScDiVa.from_config(ScDiVaConfig())
        for wrong in ({"beta": -1.0}, {"tokenization": "gene"}, {"latent_dim": 0}, {"num_patches": 0}):
            with pytest.raises(ValueError, match=next(iter(wrong))):
                ScDiVaConfig(**wrong)
        with pytest.raises(ValueError, match=r"model.pooling is 'cls', but scdiva always averages"):
            ScDiVa.from_config(ScDiVaConfig(vocab_size=G, pooling="cls"))

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({}, "neither expression nor input_ids are given"),
            ({"expression": torch.zeros(2, G - 1)}, r"expression has shape \(2, 49\), but the model reads 50 genes"),
            ({"expression": torch.zeros(G)}, r"expression has shape \(50,\), but"),
            ({"expression": torch.zeros(2, G), "task": "annotate"}, r"unknown task 'annotate'. Did you mean 'annotat"),
            ({"expression": torch.zeros(2, G), "task": "annotation"}, "model.num_cell_types is not set; set it"),
            ({"expression": torch.zeros(1, G), "cell_types": torch.tensor([0])}, "model.num_cell_types is not set"),
            ({"expression": torch.zeros(1, G), "labels": torch.tensor([[50]])}, "token id 50 is not in the vocabulary"),
        ],
    )
    def test_input(self, given, words):
        with pytest.raises(ValueError, match=words):
            make()(**given)

    @pytest.mark.parametrize("wrong", [3, -1])
    def test_a_class_that_does_not_exist(self, wrong):
        with pytest.raises(ValueError, match=rf"cell type {wrong} is not one of 3 \(model.num_cell_types\)"):
            make(num_cell_types=3)(expression=profiles(2), cell_types=torch.tensor([0, wrong]))

    def test_patches_cannot_take_more_genes(self):
        assert make().fixed_vocabulary is None
        assert "'patch', whose blocks of genes would be others" in make(tokenization="patch").fixed_vocabulary


def write_run(folder: Path, name: str, *, model: dict | None = None, data: dict | None = None, **training) -> Path:
    path = folder / "cells.h5ad"
    if not path.exists():
        adata = make_adata(80, 30)
        labels = adata.obs["cell_type"].astype(str).to_numpy()
        labels[::7] = np.nan
        adata.obs["partly"] = labels
        adata.write_h5ad(path)
    sizes = {"architecture": "scdiva", "hidden_dim": 16, "num_layers": 1, "num_heads": 2, "latent_dim": 6,
             "max_seq_len": 64}  # fmt: skip
    config = {
        "data": {"paths": [str(path)], "gene_vocab": "from_data", "num_workers": 0, **(data or {})},
        "tokenizer": {"max_genes": 40},
        "model": {**sizes, **(model or {})},
        "training": {"batch_size": 8, "max_epochs": 2, "precision": "32-true", "log_every_n_steps": 1, **training},
        "output": {"run_dir": str(folder / name), "tensorboard": False},
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    return folder / f"{name}.yaml"


def trained(path: Path) -> list[dict]:
    result = CliRunner().invoke(app, ["train", "--config", str(path)])
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in (path.with_suffix("") / "metrics.jsonl").read_text().splitlines()]


class TestRuns:
    def test_annotation_trains_saves_the_names_and_loads(self, tmp_path):
        task = {"pretraining_task": "cell_type_annotation", "beta": 1e-3}
        path = write_run(tmp_path, "types", model=task, data={"label_column": "cell_type"}, max_epochs=6,
                         optimizer={"lr": 1e-2})  # fmt: skip
        records = trained(path)
        found = [record["train/annotation"] for record in records if "train/annotation" in record]
        assert found[-1] < 0.7 * found[0]
        assert {"train/kl", "train/annotation"} <= {key for record in records for key in record}
        bundle = load_bundle(tmp_path / "types/model")
        assert bundle.model.num_cell_types == bundle.model_config.num_cell_types == 3
        assert bundle.labels["categories"] == ["type0", "type1", "type2"]

    def test_annotation_without_labels_is_refused_with_one_line(self, tmp_path):
        path = write_run(tmp_path, "none", model={"pretraining_task": "cell_type_annotation"})
        result = CliRunner().invoke(app, ["train", "--config", str(path)])
        assert result.exit_code == 2
        assert "data.label_column is not set, but model.architecture 'scdiva' with these settings learns" in " ".join(
            result.output.split()
        )
        assert not (tmp_path / "none").exists()

    def test_accumulation_does_not_change_the_warm_up(self, tmp_path):
        model = {"kl_warmup_steps": 6, "beta": 1.0, "dropout": 0.0, "tokenization": "patch", "num_patches": 4}
        weights = {}
        for name, changes in (("whole", {"batch_size": 8}), ("parts", {"batch_size": 4, "gradient_accumulation": 2})):
            records = trained(write_run(tmp_path, name, model=model, max_epochs=1, **changes))
            kl = [record["train/kl"] for record in records if "train/kl" in record]
            weights[name] = kl[:3]
        assert weights["whole"][0] == weights["parts"][0] == 0
        assert 0 < weights["whole"][1] < weights["whole"][2]
        assert weights["whole"][1] == pytest.approx(weights["parts"][1], rel=0.2)  # other draws of latent vectors

    def test_a_resumed_run_goes_on_in_its_warm_up(self, tmp_path, monkeypatch):
        from scmodelforge.training import loop

        model = {"kl_warmup_steps": 12, "beta": 0.5}
        whole = trained(write_run(tmp_path, "whole", model=model))
        path, real = write_run(tmp_path, "broken", model=model), loop.train_step

        def stop(run, batches, **options):
            metrics = real(run, batches, **options)
            run.stop_requested = run.progress.step == 5
            return metrics

        with monkeypatch.context() as patch:
            patch.setattr(loop, "train_step", stop)
            assert CliRunner().invoke(app, ["train", "--config", str(path)]).exit_code == 1
        assert CliRunner().invoke(app, ["train", "--resume", str(tmp_path / "broken")]).exit_code == 0
        broken = [json.loads(line) for line in (tmp_path / "broken/metrics.jsonl").read_text().splitlines()]
        for name in ("train/kl", "train/masked_value"):
            assert [r[name] for r in broken if name in r] == [r[name] for r in whole if name in r]

    def test_settings_that_have_no_effect_are_named(self, tmp_path, caplog):
        model = {"num_patches": 4, "pretraining_task": "cell_type_annotation"}
        path = write_run(tmp_path, "run", model=model, data={"label_column": "cell_type"})
        text = path.read_text().replace("max_genes: 40", "max_genes: 40\n  masking: {mask_ratio: 0.5}")
        path.write_text(text)
        load_config(path)
        assert "model.num_patches has no effect without model.tokenization: patch" in caplog.text
        assert "tokenizer.masking.mask_ratio has no effect on what 'scdiva' is trained on" in caplog.text


def test_a_copy_has_the_same_outputs():
    model = make(scale=10.0).eval()
    assert torch.equal(copy.deepcopy(model).encode(expression=profiles()), model.encode(expression=profiles()))
