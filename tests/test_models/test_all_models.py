"""What every registered model of the package promises, whatever its architecture."""

from __future__ import annotations

import copy

import pytest
import torch

from scmodelforge.config.schema import ModelConfig
from scmodelforge.models import ModelOutput, ScModelForgeModel, get_model

NAMES = ("gene_pooling", "transformer_encoder")


@pytest.fixture(params=NAMES)
def model(request, tiny_config):
    torch.manual_seed(0)
    tiny_config.architecture = request.param
    return get_model(request.param, tiny_config).eval()


def gradients(model) -> dict[str, torch.Tensor]:
    """Return the gradient of every parameter; none may be missing."""
    found = {name: p.grad for name, p in model.named_parameters()}
    assert all(g is not None for g in found.values())
    return found


class TestOutput:
    def test_it_is_a_model_by_shape(self, model):
        assert isinstance(model, ScModelForgeModel)

    def test_shapes_and_terms(self, model, dummy_batch):
        out = model(**dummy_batch)
        assert isinstance(out, ModelOutput)
        assert out.logits.shape == (4, 12, 50)
        assert out.embeddings.shape == (4, 16)
        assert out.loss.shape == ()
        assert set(out.loss_terms) == {"masked_gene"}
        assert torch.equal(out.loss_terms["masked_gene"], out.loss)

    def test_loss_is_the_mean_cross_entropy_over_labelled_positions(self, model, dummy_batch):
        out = model(**dummy_batch)
        labelled = dummy_batch["labels"] != -100
        chosen = out.logits.log_softmax(-1)[labelled].gather(1, dummy_batch["labels"][labelled][:, None])
        assert out.loss.item() == pytest.approx(-chosen.mean().item(), abs=1e-5)

    def test_encode_equals_forward_embeddings(self, model, dummy_batch):
        assert torch.equal(model.encode(**dummy_batch), model(**dummy_batch).embeddings)

    def test_values_are_read(self, model, dummy_batch):
        changed = {**dummy_batch, "values": dummy_batch["values"] + 1}
        assert not torch.allclose(model(**dummy_batch).embeddings, model(**changed).embeddings)

    def test_missing_values_count_as_zeros(self, model, dummy_batch):
        zeros = torch.zeros_like(dummy_batch["values"])
        del dummy_batch["values"]
        assert torch.equal(model(**dummy_batch).logits, model(**dummy_batch, values=zeros).logits)

    def test_values_can_be_left_out_by_a_setting(self, model, tiny_config, dummy_batch):
        tiny_config.use_expression_values = False
        blind = get_model(tiny_config.architecture, tiny_config).eval()
        changed = {**dummy_batch, "values": dummy_batch["values"] + 1}
        assert torch.equal(blind(**dummy_batch).logits, blind(**changed).logits)

    def test_positions_matter(self, model, dummy_batch):
        order = torch.arange(11, -1, -1)
        full = {key: dummy_batch[key][1:] for key in ("input_ids", "attention_mask", "values")}
        turned = {key: tensor[:, order] for key, tensor in full.items()}
        assert not torch.allclose(model(**full).embeddings, model(**turned).embeddings, atol=1e-4)

    @pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float64])
    def test_the_mask_may_be_of_any_type(self, model, dummy_batch, dtype):
        other = {**dummy_batch, "attention_mask": dummy_batch["attention_mask"].to(dtype)}
        assert torch.equal(model(**dummy_batch).logits, model(**other).logits)


class TestPadding:
    def test_amount_changes_nothing(self, model, dummy_batch):
        wider = {key: torch.nn.functional.pad(t, (0, 7)) for key, t in dummy_batch.items()}
        wider["labels"][:, 12:] = -100
        short, long = model(**dummy_batch), model(**wider)
        is_real = dummy_batch["attention_mask"].bool()
        assert torch.allclose(short.embeddings, long.embeddings, atol=1e-5)
        assert torch.allclose(short.logits[is_real], long.logits[:, :12][is_real], atol=1e-5)
        assert torch.allclose(short.loss, long.loss, atol=1e-5)

    @pytest.mark.parametrize("token_id", [1, 49, 50, 10**6, -3])
    @pytest.mark.parametrize("value", [7.0, float("nan"), float("inf")])
    def test_content_changes_nothing(self, model, dummy_batch, token_id, value):
        padding = dummy_batch["attention_mask"] == 0
        odd = {
            **dummy_batch,
            "input_ids": dummy_batch["input_ids"].masked_fill(padding, token_id),
            "values": dummy_batch["values"].masked_fill(padding, value),
        }
        clean, strange = model(**dummy_batch), model(**odd)
        assert torch.equal(clean.embeddings, strange.embeddings)
        assert torch.equal(clean.logits, strange.logits)
        assert torch.equal(model.encode(**dummy_batch), model.encode(**odd))

    def test_the_batch_handed_in_is_not_changed(self, model, dummy_batch):
        before = copy.deepcopy(dummy_batch)
        model(**dummy_batch)
        assert all(torch.equal(before[key], dummy_batch[key]) for key in before)

    def test_a_cell_without_real_tokens_stays_finite(self, model, dummy_batch):
        dummy_batch["attention_mask"][2] = 0
        dummy_batch["labels"][2] = -100
        out = model(**dummy_batch)
        assert out.embeddings.isfinite().all()
        assert out.logits.isfinite().all()
        out.loss.backward()
        assert all(g.isfinite().all() for g in gradients(model).values())

    def test_in_bf16_the_amount_changes_little(self, model, dummy_batch):
        wider = {key: torch.nn.functional.pad(t, (0, 7)) for key, t in dummy_batch.items()}
        with torch.autocast("cpu", dtype=torch.bfloat16):
            short, long = model.encode(**dummy_batch).float(), model.encode(**wider).float()
        assert torch.allclose(short, long, atol=2e-2, rtol=2e-2)


class TestLeaks:
    def test_labels_do_not_reach_the_predictions(self, model, dummy_batch):
        hidden = dummy_batch["labels"] != -100
        other = {**dummy_batch, "labels": dummy_batch["labels"].masked_fill(hidden, 9)}
        seen, changed = model(**dummy_batch), model(**other)
        assert torch.equal(seen.logits, changed.logits)
        assert torch.equal(seen.embeddings, changed.embeddings)
        assert not torch.equal(seen.loss, changed.loss)

    def test_true_genes_and_values_in_the_batch_are_ignored(self, model, dummy_batch):
        truth = {
            "gene_ids": torch.full((4, 12), 7),
            "targets": torch.full((4, 12), 3.0),
            "bin_ids": torch.full((4, 12), 5),
            "masked_positions": torch.ones(4, 12, dtype=torch.bool),
            "num_targets": {"masked_gene": 7},
        }
        plain, told = model(**dummy_batch), model(**{**dummy_batch, **truth})
        assert torch.equal(plain.logits, told.logits)
        assert torch.equal(plain.loss, told.loss)

    def test_cells_do_not_see_each_other(self, model, dummy_batch):
        before = model(**dummy_batch).embeddings
        dummy_batch["input_ids"][0] = 11
        after = model(**dummy_batch).embeddings
        assert torch.allclose(before[1:], after[1:], atol=1e-6)
        assert not torch.allclose(before[0], after[0])


class TestLabelledRowsOnly:
    def test_loss_and_gradients_are_those_of_all_logits(self, model, dummy_batch):
        twin = copy.deepcopy(model)
        full, few = model(**dummy_batch), twin(**dummy_batch, return_logits=False)
        assert few.logits is None
        assert torch.allclose(full.loss, few.loss, atol=1e-6)
        assert torch.equal(full.embeddings, few.embeddings)
        full.loss.backward()
        few.loss.backward()
        expected, found = gradients(model), gradients(twin)
        assert any(g.abs().sum() > 0 for g in expected.values())
        for name, gradient in expected.items():
            assert torch.allclose(gradient, found[name], atol=1e-6), name

    def test_the_head_sees_the_labelled_rows_only(self, model, dummy_batch):
        seen = []
        model.head.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
        model(**dummy_batch, return_logits=False)
        assert seen == [torch.Size([7, 16])]

    def test_without_labels_there_are_embeddings_only(self, model, dummy_batch):
        expected = model.encode(**dummy_batch)
        del dummy_batch["labels"]
        out = model(**dummy_batch, return_logits=False)
        assert out.logits is None
        assert out.loss is None
        assert out.loss_terms is None
        assert torch.equal(out.embeddings, expected)


class TestNothingToPredict:
    @pytest.mark.parametrize("return_logits", [True, False])
    def test_loss_is_zero_with_gradients_of_zero(self, model, dummy_batch, return_logits):
        dummy_batch["labels"] = torch.full_like(dummy_batch["labels"], -100)
        loss = model(**dummy_batch, return_logits=return_logits).loss
        assert loss.item() == 0.0
        loss.backward()
        assert all((g == 0).all() for g in gradients(model).values())

    @pytest.mark.parametrize("return_logits", [True, False])
    def test_a_batch_without_cells(self, model, dummy_batch, return_logits):
        empty = {key: tensor[:0, :1] for key, tensor in dummy_batch.items()}
        out = model(**empty, return_logits=return_logits)
        assert out.embeddings.shape == (0, 16)
        assert out.loss.item() == 0.0
        out.loss.backward()
        assert all((g == 0).all() for g in gradients(model).values())

    def test_a_cell_of_one_token(self, model, dummy_batch):
        out = model(**{key: tensor[:1, :1] for key, tensor in dummy_batch.items()})
        assert out.logits.shape == (1, 1, 50)
        assert out.logits.isfinite().all()


class TestTraining:
    @pytest.mark.parametrize("return_logits", [True, False])
    def test_loss_decreases(self, model, dummy_batch, return_logits):
        model.train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        losses = []
        for _ in range(15):
            optimizer.zero_grad()
            loss = model(**dummy_batch, return_logits=return_logits).loss
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.8 * losses[0]

    def test_the_first_loss_is_near_that_of_a_blind_guess(self, model, dummy_batch):
        assert model(**dummy_batch).loss.item() == pytest.approx(torch.tensor(50.0).log().item(), abs=1.5)

    def test_bf16_autocast_trains(self, model, dummy_batch):
        exact = model(**dummy_batch).loss
        with torch.autocast("cpu", dtype=torch.bfloat16):
            for return_logits in (True, False):
                loss = model(**dummy_batch, return_logits=return_logits).loss
                assert loss.dtype == torch.float32
                assert loss.item() == pytest.approx(exact.item(), abs=5e-2)
        loss.backward()
        assert all(g.isfinite().all() for g in gradients(model).values())

    def test_dropout_acts_in_training_only(self, tiny_config, dummy_batch):
        for name in NAMES:
            tiny_config.dropout = 0.5
            model = get_model(name, tiny_config)
            assert not torch.equal(model.encode(**dummy_batch), model.encode(**dummy_batch))
            model.eval()
            assert torch.equal(model.encode(**dummy_batch), model.encode(**dummy_batch))


class TestWeights:
    def test_a_safetensors_round_trip_keeps_the_outputs(self, model, tiny_config, dummy_batch, tmp_path):
        from safetensors.torch import load_model, save_model

        save_model(model, str(tmp_path / "model.safetensors"))
        torch.manual_seed(99)
        other = get_model(tiny_config.architecture, tiny_config).eval()
        assert not torch.equal(model(**dummy_batch).logits, other(**dummy_batch).logits)
        load_model(other, str(tmp_path / "model.safetensors"), strict=True)
        assert torch.equal(model(**dummy_batch).logits, other(**dummy_batch).logits)

    def test_the_same_seed_gives_the_same_weights(self, model, tiny_config):
        torch.manual_seed(0)
        twin = get_model(tiny_config.architecture, tiny_config)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))

    def test_padding_starts_as_a_zero_vector(self, model):
        assert (model.embedding.gene_embedding.weight[0] == 0).all()


class TestDeclarations:
    def test_default_objective_is_allowed(self, model):
        assert model.default_objective in model.allowed_objectives

    def test_unused_settings_are_settings(self, model):
        assert model.unused_settings <= set(ModelConfig.model_fields)

    def test_every_other_setting_is_read(self, model):
        """Settings given to the model under a name that records what is asked of it."""
        others = {"architecture", "pretraining_task", "mask_ratio"}  # read by registry, objective and masking
        asked: set[str] = set()

        class Recorder(type(model).config_class):
            def __getattribute__(self, name):
                if name in ModelConfig.model_fields:
                    asked.add(name)
                return super().__getattribute__(name)

        type(model).from_config(Recorder(vocab_size=50, hidden_dim=16, num_layers=1, num_heads=2))
        assert asked == set(ModelConfig.model_fields) - model.unused_settings - others


class TestRefusals:
    def test_a_sequence_that_is_too_long(self, model):
        ids = torch.full((1, 33), 5)
        with pytest.raises(ValueError, match=r"33 tokens exceed model.max_seq_len \(32\)"):
            model(ids, torch.ones(1, 33))

    @pytest.mark.parametrize("token_id", [50, 1000, -1])
    def test_a_token_outside_the_vocabulary(self, model, dummy_batch, token_id):
        dummy_batch["input_ids"][1, 4] = token_id
        with pytest.raises(ValueError, match=rf"token id {token_id} is not in the vocabulary of 50 tokens"):
            model(**dummy_batch)

    def test_settings_without_a_vocabulary_size(self, model, tiny_config):
        tiny_config.vocab_size = None
        with pytest.raises(ValueError, match="vocab_size must be set"):
            type(model).from_config(tiny_config)
