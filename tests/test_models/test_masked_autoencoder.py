"""The masked autoencoder: what the encoder sees, what the decoder is asked, what counts in the loss."""

from __future__ import annotations

import copy
import inspect

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from scmodelforge.config.schema import MaskingConfig, ModelConfig, TokenizerConfig
from scmodelforge.models import MaskedAutoencoder, TransformerConfig, get_model
from scmodelforge.models.masked_autoencoder import MaskedAutoencoderConfig
from scmodelforge.objectives import get_objective
from tests.test_models.batches import masked_value_batch
from tests.test_objectives.tokens import VOCAB, make_tokens, with_measured

REQUIRED = inspect.Parameter.empty
NAN = float("nan")


def make(**settings) -> MaskedAutoencoder:
    torch.manual_seed(0)
    tiny = {"vocab_size": 50, "encoder_dim": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_heads": 2}
    return MaskedAutoencoder(**{**tiny, "dropout": 0.0, "max_seq_len": 32, **settings})


@pytest.fixture
def model():
    return make().eval()


@pytest.fixture
def batch(dummy_batch):
    """Cells with one or two genes hidden of nine or twelve: see ``masked_value_batch``."""
    return masked_value_batch(dummy_batch)


@pytest.fixture
def cells(batch):
    return {key: batch[key] for key in ("attention_mask", "values")} | {"input_ids": batch["gene_ids"]}


def is_same(first, second) -> bool:
    return torch.equal(first.logits, second.logits) and torch.equal(first.embeddings, second.embeddings)


class TestSignature:
    def test_constructor_is_the_documented_one(self):
        parameters = inspect.signature(MaskedAutoencoder).parameters
        documented = {
            "vocab_size": REQUIRED,
            "encoder_dim": 512,
            "decoder_dim": None,
            "encoder_layers": 12,
            "decoder_layers": 4,
            "encoder_heads": 8,
            "decoder_heads": None,
            "ffn_dim": None,
            "dropout": 0.1,
            "max_seq_len": 2048,
            "pooling": "mean",
            "activation": "gelu",
            "use_expression_values": True,
            "layer_norm_eps": 1e-12,
        }
        assert [(name, p.default) for name, p in parameters.items()][:14] == list(documented.items())
        assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in list(parameters.values())[14:])
        assert (parameters["attention_dropout"].default, parameters["use_positions"].default) == (0.0, False)

    def test_forward_and_encode_take_the_documented_arguments_by_position(self):
        forward = inspect.signature(MaskedAutoencoder.forward).parameters
        encode = inspect.signature(MaskedAutoencoder.encode).parameters
        assert list(forward)[1:5] == ["input_ids", "attention_mask", "values", "labels"]
        assert list(encode)[1:4] == ["input_ids", "attention_mask", "values"]
        assert forward["values"].default is forward["labels"].default is encode["values"].default is None
        assert forward["kwargs"].kind is encode["kwargs"].kind is inspect.Parameter.VAR_KEYWORD
        count = inspect.signature(MaskedAutoencoder.num_parameters).parameters
        assert [(name, p.default) for name, p in count.items()][1:] == [("trainable_only", True)]

    def test_the_decoder_is_half_as_wide_with_as_many_heads(self):
        model = make()
        assert (model.encoder_dim, model.decoder_dim) == (16, 8)
        assert model.decoder.layers[0].attention.num_heads == 2
        assert model.decoder.layers[0].ffn.up.out_features == 32
        assert model.encoder.layers[0].ffn.up.out_features == 64
        assert (len(model.encoder.layers), len(model.decoder.layers)) == (2, 2)

    def test_its_width_and_heads_may_be_given(self):
        model = make(decoder_dim=12, decoder_heads=3, decoder_layers=1, ffn_dim=20)
        assert model.decoder_dim == model.mask_token.numel() == 12
        assert model.decoder.layers[0].attention.num_heads == 3
        assert model.decoder.layers[0].ffn.up.out_features == 48
        assert model.encoder.layers[0].ffn.up.out_features == 20
        assert model.encoder.layers[0].attention.num_heads == 2

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            (
                {"decoder_heads": 3},
                r"model.decoder_dim \(8\) is not divisible by model.decoder_heads \(3\); change one",
            ),
            ({"decoder_dim": 9}, r"model.decoder_dim \(9\) is not divisible by model.decoder_heads \(2\)"),
            ({"encoder_heads": 16}, r"model.decoder_dim \(8\) is not divisible by model.decoder_heads \(16\)"),
            ({"encoder_heads": 3}, r"model.hidden_dim \(16\) is not divisible by model.num_heads \(3\)"),
            ({"pooling": "max"}, r"unknown model.pooling 'max'; choose one of cls, mean"),
        ],
    )
    def test_heads_must_share_the_widths(self, settings, message):
        with pytest.raises(ValueError, match=message):
            make(**settings)

    def test_an_odd_width_of_the_decoder_is_fine(self, batch):
        model = make(decoder_dim=9, decoder_heads=3)
        del batch["gene_ids"]
        batch["labels"] = torch.full((4, 12), -100)
        assert model(**batch).logits.isfinite().all()

    def test_the_number_of_parameters_is_that_of_the_layers(self):
        """Counted by hand: embedding, encoder, states and genes to the decoder, mask token, decoder, head."""
        V, H, D, L = 50, 16, 8, 2

        def stack(width: int, layers: int) -> int:
            norm, inner = 2 * width, 4 * width
            block = 4 * (width * width + width) + width * inner + inner + inner * width + width + 2 * norm
            return layers * block + norm

        expected = V * H + 2 * H + 2 * H + stack(H, L) + (H * D + D) + (2 * H + H * D) + D
        expected += stack(D, L) + (D * D + D) + D + 1
        assert make().num_parameters() == expected

    def test_the_mask_token_starts_small_and_not_zero(self):
        token = MaskedAutoencoder(50, encoder_dim=256, encoder_layers=1, decoder_layers=1).mask_token
        assert token.requires_grad
        assert token.std().item() == pytest.approx(0.02, rel=0.3)
        assert token.mean().abs() < 0.01


class TestSettings:
    def test_they_arrive(self):
        config = MaskedAutoencoderConfig(
            vocab_size=50,
            hidden_dim=16,
            decoder_dim=12,
            num_layers=3,
            decoder_layers=2,
            num_heads=4,
            decoder_heads=6,
            ffn_dim=20,
            dropout=0.25,
            max_seq_len=12,
            pooling="cls",
            activation="relu",
            use_expression_values=False,
            layer_norm_eps=1e-5,
            attention_dropout=0.5,
            use_positions=True,
        )
        model = MaskedAutoencoder.from_config(config)
        assert (model.encoder_dim, model.decoder_dim) == (16, 12)
        assert (len(model.encoder.layers), len(model.decoder.layers)) == (3, 2)
        assert model.pooling == "cls"
        assert model.embedding.value_projection is None
        assert model.embedding.position_embedding.num_embeddings == model.max_seq_len == 12
        for stack, heads, width in ((model.encoder, 4, 20), (model.decoder, 6, 48)):
            for block in stack.layers:
                assert block.attention.num_heads == heads
                assert block.attention.dropout == 0.5
                assert block.dropout.p == 0.25
                assert block.ffn.up.out_features == width
                assert isinstance(block.ffn.activation, torch.nn.ReLU)
        assert {m.eps for m in model.modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-5}

    def test_plain_settings_mean_a_set_and_pooling_mean(self, tiny_config):
        tiny_config.pooling = None
        for model in (
            MaskedAutoencoder.from_config(tiny_config),
            get_model("masked_autoencoder", tiny_config),
            MaskedAutoencoder.from_config(TransformerConfig(**tiny_config.model_dump())),
        ):
            assert model.pooling == "mean"
            assert model.embedding.position_embedding is None
            assert model.encoder.layers[0].attention.dropout == 0.0
            assert (model.decoder_dim, len(model.decoder.layers)) == (8, 4)

    def test_the_share_of_genes_without_expression_is_not_negative(self):
        assert MaskedAutoencoderConfig().zero_target_ratio == 1.0
        with pytest.raises(ValueError, match="zero_target_ratio"):
            MaskedAutoencoderConfig(zero_target_ratio=-0.5)


class TestEncoderSeesVisibleTokensOnly:
    def test_its_sequence_is_that_of_the_most_visible_tokens(self, model, batch):
        seen = []
        model.encoder.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], inputs[1])))
        model(**batch)
        states, kept = seen[0]
        assert states.shape == (4, 10, 16)
        assert kept.tolist() == [[1] * 8 + [0] * 2] + [[1] * 10] * 3

    def test_they_come_in_their_order(self, model, batch):
        seen = []
        model.embedding.register_forward_hook(lambda module, inputs, output: seen.append(inputs))
        model(**batch)
        ids, values = seen[0]
        for cell in range(4):
            visible = batch["attention_mask"][cell].bool() & ~batch["masked_positions"][cell]
            count = int(visible.sum())
            assert ids[cell, :count].tolist() == batch["gene_ids"][cell, visible].tolist()
            assert torch.equal(values[cell, :count], batch["values"][cell, visible])
            assert (ids[cell, count:] == 0).all()
            assert (values[cell, count:] == 0).all()

    def test_with_nothing_masked_it_sees_all(self, model, cells):
        seen = []
        model.encoder.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
        model(**cells)
        model.encode(**cells)
        assert seen == [torch.Size([4, 12, 16])] * 2

    @pytest.mark.parametrize("token_id", [0, 9, 49, 50, 10**6, -7])
    @pytest.mark.parametrize("value", [4.0, NAN, float("inf")])
    @pytest.mark.parametrize("told", ["gene_ids", "labels", "nothing"])
    def test_ids_and_values_at_masked_positions_are_never_read(self, model, batch, token_id, value, told):
        if told != "gene_ids":
            del batch["gene_ids"]
        if told == "nothing":
            batch["labels"] = torch.full((4, 12), -100)
        masked = batch["masked_positions"]
        odd = {
            **batch,
            "input_ids": batch["input_ids"].masked_fill(masked, token_id),
            "values": batch["values"].masked_fill(masked, value),
        }
        clean, strange = model(**batch), model(**odd)
        assert is_same(clean, strange)
        assert torch.equal(clean.loss, strange.loss)
        del odd["labels"]
        if told == "gene_ids":
            assert is_same(clean, model(**odd))

    def test_the_place_of_a_masked_gene_tells_nothing(self, batch):
        """With positions too: they are counted among visible tokens."""
        model = make(use_positions=True).eval()
        before = model(**batch).embeddings
        moved = {}
        for key, tensor in batch.items():
            last = tensor[1:, [0, 1, 3, 4, 5, 6, 8, 9, 10, 11, 2, 7]]
            moved[key] = torch.cat([tensor[:1], last])
        assert torch.equal(model(**moved).embeddings, before)

    def test_predictions_of_masked_genes_do_not_reach_each_other_s_values(self, model, batch):
        before = model(**batch)
        batch["targets"] = torch.where(batch["masked_positions"], 100.0, batch["targets"])
        assert is_same(before, model(**batch))

    def test_visible_values_reach_the_predictions(self, model, batch):
        before = model(**batch).logits
        batch["values"][:, 0] += 1
        masked = batch["masked_positions"]
        assert ((model(**batch).logits - before)[masked].abs() > 1e-6).all()


class TestMaskedPositions:
    @pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.float32, torch.bool])
    def test_they_may_be_of_any_type(self, model, batch, dtype):
        other = {**batch, "masked_positions": batch["masked_positions"].to(dtype)}
        assert is_same(model(**batch), model(**other))
        assert torch.equal(model(**batch).loss, model(**other).loss)

    def test_without_them_labels_tell(self, model, batch):
        expected = model(**batch)
        del batch["masked_positions"]
        found = model(**batch)
        assert is_same(expected, found)
        assert torch.equal(expected.loss, found.loss)

    def test_labels_do_not_hide_more_than_they_do(self, model, batch):
        batch["labels"] = batch["gene_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        everywhere = model(**batch)
        batch["labels"] = torch.full((4, 12), -100)
        assert is_same(everywhere, model(**batch))
        assert torch.equal(everywhere.loss, model(**batch).loss)

    def test_without_either_nothing_is_masked(self, model, batch):
        del batch["masked_positions"], batch["labels"]
        out = model(**batch)
        assert out.loss is None
        assert torch.equal(out.embeddings, model.encode(**batch))

    def test_padding_is_never_a_target(self, model, batch):
        expected = model(**batch)
        padding = batch["attention_mask"] == 0
        odd = {
            **batch,
            "masked_positions": batch["masked_positions"] | padding,
            "labels": batch["labels"].masked_fill(padding, 10**6),
            "gene_ids": batch["gene_ids"].masked_fill(padding, 10**6),
            "targets": batch["targets"].masked_fill(padding, NAN),
        }
        for unsaid in ("cell_index", "masked_positions", "gene_ids"):
            found = model(**{key: tensor for key, tensor in odd.items() if key != unsaid})
            assert is_same(expected, found)
            assert torch.equal(expected.loss, found.loss)


class TestQuestion:
    def masked_logits(self, model, batch) -> torch.Tensor:
        return model(**batch).logits[batch["masked_positions"]]

    def test_it_is_gene_ids(self, model, batch):
        before = self.masked_logits(model, batch)
        batch["gene_ids"] = torch.where(batch["masked_positions"], 4 + (batch["gene_ids"] - 3) % 46, batch["gene_ids"])
        assert ((self.masked_logits(model, batch) - before).abs() > 1e-5).all()

    def test_labels_do_not_count_beside_gene_ids(self, model, batch):
        before = self.masked_logits(model, batch)
        batch["labels"] = batch["labels"].masked_fill(batch["masked_positions"], 9)
        assert torch.equal(self.masked_logits(model, batch), before)

    def test_without_gene_ids_it_is_the_labels(self, model, batch):
        expected = model(**batch)
        del batch["gene_ids"]
        assert is_same(model(**batch), expected)
        batch["labels"] = batch["labels"].masked_fill(batch["masked_positions"], 9)
        assert not torch.allclose(
            self.masked_logits(model, batch), expected.logits[batch["masked_positions"]], atol=1e-5
        )

    def test_a_label_for_some_masked_positions_names_those(self, model, batch):
        """The others are asked for by place."""
        del batch["gene_ids"]
        some = {**batch, "labels": batch["labels"].clone()}
        some["labels"][1, 2] = -100
        other = {**some, "labels": some["labels"].clone()}
        other["labels"][1, 7] = 4 + (other["labels"][1, 7] - 3) % 46
        assert not torch.allclose(model(**some).logits[1, 7], model(**other).logits[1, 7], atol=1e-5)
        assert not torch.allclose(model(**some).logits[1, 2], model(**batch).logits[1, 2], atol=1e-5)

    def test_without_both_it_is_the_place_alone(self, model, batch):
        del batch["gene_ids"], batch["labels"]
        logits = model(**batch).logits
        assert not torch.isclose(logits[1, 2], logits[1, 7], atol=1e-5)
        mixed = {key: tensor[:, torch.arange(12).roll(1)] for key, tensor in batch.items() if tensor.ndim == 2}
        assert not torch.allclose(model(**mixed).logits[1:, 3], logits[1:, 2], atol=1e-5)

    def test_two_genes_asked_for_get_their_own_answers_wherever_they_stand(self, model, batch):
        """A decoder without places: exchanging two masked genes exchanges their predictions."""
        swapped = {key: tensor.clone() for key, tensor in batch.items()}
        for key in ("gene_ids", "labels", "targets"):
            swapped[key][1:, [2, 7]] = batch[key][1:, [7, 2]]
        first, second = model(**batch), model(**swapped)
        assert torch.allclose(first.logits[1:, [2, 7]], second.logits[1:, [7, 2]], atol=1e-6)
        assert not torch.allclose(first.logits[1:, 2], first.logits[1:, 7], atol=1e-5)
        assert torch.allclose(first.loss, second.loss, atol=1e-6)

    @pytest.mark.parametrize("key", ["gene_ids", "labels"])
    @pytest.mark.parametrize("token_id", [50, -1])
    def test_a_gene_outside_the_vocabulary_is_refused(self, model, batch, key, token_id):
        if key == "labels":
            del batch["gene_ids"]
        batch[key][1, 2] = token_id
        with pytest.raises(ValueError, match=rf"token id {token_id} is not in the vocabulary of 50 tokens"):
            model(**batch)


class TestLoss:
    @pytest.mark.parametrize("return_logits", [True, False])
    def test_it_is_the_mean_squared_error_over_masked_positions(self, model, batch, return_logits):
        logits = model(**batch).logits
        errors = [
            (logits[cell, place] - batch["targets"][cell, place]).item() ** 2
            for cell, place in batch["masked_positions"].nonzero().tolist()
        ]
        out = model(**batch, return_logits=return_logits)
        assert out.loss.item() == pytest.approx(sum(errors) / len(errors), abs=1e-5)
        assert len(errors) == 7

    @pytest.mark.parametrize("return_logits", [True, False])
    def test_without_targets_the_truth_is_in_the_values(self, model, batch, return_logits):
        expected = model(**batch, return_logits=return_logits).loss
        batch["values"] = torch.where(batch["masked_positions"], batch.pop("targets"), batch["values"])
        assert torch.equal(model(**batch, return_logits=return_logits).loss, expected)

    def test_targets_come_before_values(self, model, batch):
        expected = model(**batch).loss
        batch["values"] = batch["values"].masked_fill(batch["masked_positions"], 9.0)
        assert torch.equal(model(**batch).loss, expected)
        del batch["targets"]
        assert model(**batch).loss > 10 * expected

    def test_what_stands_elsewhere_in_the_targets_has_no_effect(self, model, batch):
        expected = model(**batch).loss
        batch["targets"] = batch["targets"].masked_fill(~batch["masked_positions"], NAN)
        assert torch.equal(model(**batch).loss, expected)

    @pytest.mark.parametrize("return_logits", [True, False])
    def test_labels_without_any_target_are_training_mode(self, model, batch, return_logits):
        """As documented: labels of -100 everywhere ask for a loss at the masked positions."""
        batch["labels"] = torch.full((4, 12), -100)
        out = model(**batch, return_logits=return_logits)
        difference = model(**batch).logits[batch["masked_positions"]] - batch["targets"][batch["masked_positions"]]
        assert out.loss.item() == pytest.approx(difference.square().mean().item(), abs=1e-5)
        assert out.loss > 0

    def test_predictions_are_given_with_and_without_labels(self, model, batch):
        with_loss = model(**batch)
        del batch["labels"]
        without = model(**batch)
        assert without.loss is None
        assert is_same(with_loss, without)
        assert without.logits.shape == (4, 12)

    def test_integer_truth_is_taken(self, model, batch):
        batch["targets"] = batch["targets"].mul(10).long()
        assert torch.allclose(
            model(**batch).loss, model(**{**batch, "targets": batch["targets"].double()}).loss.float()
        )


class TestEverythingMasked:
    @pytest.mark.parametrize("pooling", ["cls", "mean"])
    @pytest.mark.parametrize("return_logits", [True, False])
    def test_such_a_cell_stays_finite(self, batch, pooling, return_logits):
        model = make(pooling=pooling)
        batch["masked_positions"][2] = True
        batch["targets"][2] = 1.0
        out = model(**batch, return_logits=return_logits)
        assert out.embeddings.isfinite().all()
        assert out.logits is None or out.logits.isfinite().all()
        out.loss.backward()
        assert all(p.grad.isfinite().all() for p in model.parameters())

    def test_so_does_a_batch_of_them(self, model, batch):
        batch["masked_positions"][:] = True
        out = model(**batch)
        assert out.logits.isfinite().all()
        assert (out.embeddings == 0).all()
        out.loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())

    def test_it_does_not_change_the_other_cells(self, model, batch):
        before = model(**batch)
        batch["masked_positions"][2] = True
        after = model(**batch)
        others = [0, 1, 3]
        assert torch.allclose(before.logits[others], after.logits[others], atol=1e-5)
        assert torch.allclose(before.embeddings[others], after.embeddings[others], atol=1e-5)


class TestEncode:
    def test_it_is_forward_with_nothing_masked(self, model, cells):
        assert torch.equal(model.encode(**cells), model(**cells).embeddings)
        nothing = torch.zeros(4, 12)
        assert torch.equal(model.encode(**cells), model(**cells, masked_positions=nothing).embeddings)

    def test_it_masks_nothing_whatever_the_batch_says(self, model, batch, cells):
        told = {**cells, "masked_positions": batch["masked_positions"], "labels": batch["labels"]}
        assert torch.equal(model.encode(**told), model.encode(**cells))
        assert not torch.allclose(model(**told).embeddings, model.encode(**cells), atol=1e-4)

    @pytest.mark.parametrize("use_positions", [True, False])
    @pytest.mark.parametrize("pooling", ["cls", "mean"])
    def test_the_order_of_genes_matters_only_with_positions(self, cells, pooling, use_positions):
        model = make(pooling=pooling, use_positions=use_positions).eval()
        order = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(11)])
        full = {key: tensor[1:] for key, tensor in cells.items()}
        turned = {key: tensor[:, order] for key, tensor in full.items()}
        difference = (model.encode(**full) - model.encode(**turned)).abs().max()
        assert difference > 1e-4 if use_positions else difference < 1e-5

    def test_poolings(self, cells):
        states = []
        mean, first = make(pooling="mean").eval(), make(pooling="cls").eval()
        mean.encoder.register_forward_hook(lambda module, inputs, output: states.append(output))
        embedded = mean.encode(**cells)
        expected = torch.stack([states[0][0, :9].mean(0), *(states[0][i].mean(0) for i in (1, 2, 3))])
        assert torch.allclose(embedded, expected, atol=1e-6)
        assert torch.equal(first.encode(**cells), states[0][:, 0])

    def test_a_mask_with_holes_hides_the_holes(self, model, cells):
        cells["attention_mask"][:, 4] = 0
        before = model.encode(**cells)
        cells["input_ids"][:, 4] = 17
        cells["values"][:, 4] = NAN
        assert torch.equal(before, model.encode(**cells))


class TestWork:
    def flops(self, share: float) -> int:
        torch.manual_seed(0)
        model = MaskedAutoencoder(60, 32, None, 4, 1, 4, max_seq_len=64)
        ids = torch.randint(4, 60, (2, 64))
        masked = torch.arange(64).expand(2, 64) >= 64 - int(64 * share)
        with FlopCounterMode(display=False) as counter:
            model(ids, torch.ones(2, 64), torch.rand(2, 64), ids, masked_positions=masked).loss.backward()
        return counter.get_total_flops()

    def test_it_shrinks_as_masking_grows(self):
        full, half, quarter = (self.flops(share) for share in (0.0, 0.5, 0.75))
        assert full > half > quarter
        assert quarter < 0.5 * full

    def test_the_work_of_the_encoder_is_that_of_what_it_sees(self):
        """Masked tokens cost the encoder nothing at all: three quarters masked leave a quarter of its work."""
        model = make().eval()
        ids, values = torch.randint(4, 50, (2, 32)), torch.rand(2, 32)
        masked = torch.arange(32).expand(2, 32) >= 8
        with FlopCounterMode(display=False) as counter:
            model(ids, torch.ones(2, 32), values, masked_positions=masked, return_logits=False)
        masked_flops = counter.get_total_flops()
        with FlopCounterMode(display=False) as counter:
            model.encode(ids[:, :8], torch.ones(2, 8), values[:, :8])
        assert masked_flops == counter.get_total_flops()

    def test_nothing_is_decoded_for_embeddings_alone(self, model, batch):
        decoded = []
        model.decoder.register_forward_hook(lambda *_: decoded.append(1))
        del batch["labels"]
        model(**batch, return_logits=False)
        model.encode(**batch)
        assert not decoded


class TestTraining:
    def objective_batch(self, ratio: float = 0.5):
        objective = get_objective(
            "masked_value_prediction",
            vocab=VOCAB,
            tokenizer_config=TokenizerConfig(masking=MaskingConfig(mask_ratio=ratio)),
            model_config=ModelConfig(max_seq_len=64),
        )
        return objective(with_measured(make_tokens([20, 5, 30, 12])))

    def test_a_batch_of_the_objective_is_learned(self):
        """Each masked gene gets its own value and absent ones 0: a decoder that knew no gene could not."""
        torch.manual_seed(0)
        model = MaskedAutoencoder(len(VOCAB), 32, None, 1, 1, 2, dropout=0.0, max_seq_len=64)
        batch = self.objective_batch()
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
        for _ in range(120):
            optimizer.zero_grad()
            loss = model(**batch, return_logits=False).loss
            loss.backward()
            optimizer.step()
        truth = batch["targets"][batch["masked_positions"]]
        assert (truth == 0).any()
        assert loss.item() < 0.05 * truth.var().item()

    def test_labelled_rows_only_give_the_same_loss_and_gradients(self):
        torch.manual_seed(0)
        model = MaskedAutoencoder(len(VOCAB), 16, None, 1, 1, 2, dropout=0.0, max_seq_len=64)
        twin, batch = copy.deepcopy(model), self.objective_batch()
        full, few = model(**batch), twin(**batch, return_logits=False)
        assert torch.allclose(full.loss, few.loss, atol=1e-5)
        full.loss.backward()
        few.loss.backward()
        for (name, a), b in zip(model.named_parameters(), twin.parameters(), strict=True):
            assert torch.allclose(a.grad, b.grad, atol=1e-5), name

    @pytest.mark.parametrize("told", [True, False])
    def test_bf16_autocast(self, model, batch, told):
        if not told:
            del batch["gene_ids"]
            batch["labels"] = torch.full((4, 12), -100)
        exact = model(**batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            for return_logits in (True, False):
                out = model(**batch, return_logits=return_logits)
                assert out.loss.dtype == torch.float32
                assert out.loss.item() == pytest.approx(exact.loss.item(), abs=5e-2)
            out.loss.backward()
        assert all(p.grad.isfinite().all() for p in model.parameters())

    def test_weights_in_bf16(self, batch):
        model = make().bfloat16()
        out = model(**batch)
        assert out.loss.dtype == torch.float32
        out.loss.backward()
        assert out.embeddings.isfinite().all()
