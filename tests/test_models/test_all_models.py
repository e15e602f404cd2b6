"""What every registered model of the package promises, whatever its architecture."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from scmodelforge._registry import MODELS
from scmodelforge.config.schema import ModelConfig
from scmodelforge.models import ModelOutput, ScDiVa, ScModelForgeModel, get_model, list_models, register_model
from tests.conftest import OPTIONAL_MODELS
from tests.test_models.batches import batch_for

TRANSFORMERS = (
    "autoregressive_transformer",
    "masked_autoencoder",
    "scdiva",
    "scdiva_diffusion",
    "scgpt",
    "transcriptformer",
    "transformer_encoder",
)
NAMES = tuple(sorted(("gene_pooling", *TRANSFORMERS)))
VALUES = (
    "masked_autoencoder",
    "scdiva",
    "scdiva_diffusion",
    "scgpt",
)  # which learn values: labels say where, and of which gene
SETS = (
    "autoregressive_transformer",
    "masked_autoencoder",
    "scdiva",
    "scdiva_diffusion",
    "scgpt",
)  # no order among the tokens of a cell
OF_GENES = (
    "scdiva",
    "scdiva_diffusion",
)  # whose logits are one for each gene, (B, V), with nothing at a position or at padding
EMBEDDING_DIM = {"scdiva": 128}  # its latent dimension

TERMS = {
    "autoregressive_transformer": {"next_gene", "expression_bin"},
    "gene_pooling": {"masked_gene"},
    "masked_autoencoder": {"masked_value"},
    "transcriptformer": {"next_gene", "expression_count"},
    "scgpt": {"masked_value", "gepc"},
    "scdiva": {"masked_value", "kl"},
    "scdiva_diffusion": {"hidden_gene", "hidden_value"},
    "transformer_encoder": {"masked_gene"},
}
#: Keys of a batch, beside the documented arguments, that a model reads.
READ = {
    "autoregressive_transformer": {"bin_ids", "prefix_len", "no_repeats"},
    "gene_pooling": set(),
    "masked_autoencoder": {"masked_positions", "gene_ids", "targets"},
    "transcriptformer": {"targets"},
    "scgpt": {"masked_positions", "gene_ids", "targets"},
    "scdiva": {"masked_positions", "targets"},
    "scdiva_diffusion": {"masked_positions", "targets", "loss_weights"},
    "transformer_encoder": set(),
}


@pytest.fixture(params=NAMES)
def model(request, tiny_config):
    torch.manual_seed(0)
    tiny_config.architecture = request.param
    return get_model(request.param, tiny_config).eval()


@pytest.fixture
def name(model, tiny_config):
    return tiny_config.architecture


@pytest.fixture
def batch(name, dummy_batch):
    return batch_for(name, dummy_batch)


def gradients(model) -> dict[str, torch.Tensor]:
    """Return the gradient of every parameter; none may be missing."""
    found = {name: p.grad for name, p in model.named_parameters()}
    assert all(g is not None for g in found.values())
    return found


def head_of(model) -> torch.nn.Module:
    names = ("head", "gene_head", "integration_head")
    return next(getattr(model, name) for name in names if hasattr(model, name))


def padded(batch, more: int) -> dict[str, torch.Tensor]:
    """Return the batch with more padding, as a collator fills it up."""
    fill = {"labels": -100, "bin_ids": -100}
    pad = torch.nn.functional.pad
    return {k: pad(t, (0, more), value=fill.get(k, 0)) if t.ndim == 2 else t for k, t in batch.items()}


def real(name: str, logits: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Return logits without those at padding."""
    return logits if name in OF_GENES else logits[:, : attention_mask.shape[1]][attention_mask.bool()]


def seen_whole(name: str, batch) -> dict[str, torch.Tensor]:
    """Return the batch as ``encode`` sees it: the whole cell as prefix, or nothing masked."""
    if name == "autoregressive_transformer":
        return {**batch, "prefix_len": torch.full((len(batch["input_ids"]),), batch["input_ids"].shape[1])}
    if name in VALUES:
        return {key: batch[key] for key in ("input_ids", "attention_mask", "values")}
    return batch


def test_all_built_in_models_are_tested_here():
    assert set(NAMES) <= set(list_models())
    built_in = {name for name in list_models() if MODELS.get(name).__module__.startswith("scmodelforge.")}
    # What stands around another model is tested with each of them, in test_fine_tuned.py.
    assert built_in - OPTIONAL_MODELS - {"fine_tuned"} == set(NAMES)


class TestOutput:
    def test_it_is_a_model_by_shape(self, model):
        assert isinstance(model, ScModelForgeModel)

    def test_shapes_and_terms(self, model, name, batch):
        out = model(**batch)
        assert isinstance(out, ModelOutput)
        shapes = {"masked_autoencoder": (4, 12), "scgpt": (4, 12), "scdiva": (4, 50), "scdiva_diffusion": (4, 50)}
        assert out.logits.shape == shapes.get(name, (4, 12, 50))
        assert out.embeddings.shape == (4, EMBEDDING_DIM.get(name, 16))
        assert out.loss.shape == ()
        assert out.hidden_states is None
        assert set(out.loss_terms) == TERMS[name]
        assert torch.allclose(sum(out.loss_terms.values()), out.loss, atol=1e-6)

    def test_without_labels_there_is_no_loss(self, model, batch):
        del batch["labels"]
        out = model(**batch)
        assert out.loss is None
        assert out.loss_terms is None

    @pytest.mark.parametrize("pooling", ["cls", "mean"])
    def test_encode_equals_forward_embeddings(self, model, name, batch, tiny_config, pooling):
        if name not in ("gene_pooling", "scdiva", "transcriptformer"):  # which average always
            tiny_config.pooling = pooling
            model = get_model(name, tiny_config).eval()
        whole = seen_whole(name, batch)
        assert torch.allclose(model.encode(**batch), model(**whole).embeddings, atol=1e-6)

    def test_encode_reads_nothing_but_ids_mask_and_values(self, model, batch):
        bare = {key: batch[key] for key in ("input_ids", "attention_mask", "values")}
        assert torch.equal(model.encode(**batch), model.encode(**bare))

    def test_logits_do_not_depend_on_whether_a_loss_is_asked_for(self, model, name, batch):
        with_loss = model(**batch)
        del batch["labels"]
        assert torch.equal(model(**batch).logits, with_loss.logits)
        assert torch.equal(model(**batch).embeddings, with_loss.embeddings)

    def test_values_are_read(self, model, batch):
        changed = {**batch, "values": batch["values"] + 1}
        assert not torch.allclose(model(**batch).embeddings, model(**changed).embeddings)

    def test_missing_values_count_as_zeros(self, model, batch):
        zeros = torch.zeros_like(batch["values"])
        del batch["values"]
        assert torch.equal(model(**batch).logits, model(**batch, values=zeros).logits)
        assert torch.equal(model(**batch).loss, model(**batch, values=zeros).loss)

    def test_values_can_be_left_out_by_a_setting(self, model, name, tiny_config, batch):
        tiny_config.use_expression_values = False
        reasons = {"scdiva": "scdiva reads nothing else", "scgpt": "scgpt predicts values from values"}
        if name in reasons:
            with pytest.raises(ValueError, match=f"use_expression_values is false, but {reasons[name]}"):
                get_model(name, tiny_config)
            return
        blind = get_model(tiny_config.architecture, tiny_config).eval()
        changed = {**batch, "values": batch["values"] + 1}
        assert torch.equal(blind(**batch).logits, blind(**changed).logits)

    def test_positions_matter_unless_a_cell_is_a_set(self, model, name, dummy_batch):
        order = torch.arange(11, -1, -1)
        full = {key: dummy_batch[key][1:] for key in ("input_ids", "attention_mask", "values")}
        turned = {key: tensor[:, order] for key, tensor in full.items()}
        is_same = torch.allclose(model.encode(**full), model.encode(**turned), atol=1e-4)
        assert is_same == (name in SETS)

    @pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float64])
    def test_the_mask_may_be_of_any_type(self, model, batch, dtype):
        other = {**batch, "attention_mask": batch["attention_mask"].to(dtype)}
        assert torch.equal(model(**batch).logits, model(**other).logits)
        assert torch.equal(model.encode(**batch), model.encode(**other))


class TestPadding:
    def test_amount_changes_nothing(self, model, name, batch):
        wider = padded(batch, 7)
        short, long = model(**batch), model(**wider)
        mask = batch["attention_mask"]
        assert torch.allclose(short.embeddings, long.embeddings, atol=1e-5)
        assert torch.allclose(real(name, short.logits, mask), real(name, long.logits, mask), atol=1e-5)
        assert torch.allclose(short.loss, long.loss, atol=1e-5)
        assert torch.allclose(model.encode(**batch), model.encode(**wider), atol=1e-5)

    @pytest.mark.parametrize("token_id", [1, 49, 50, 10**6, -3])
    @pytest.mark.parametrize("value", [7.0, float("nan"), float("inf")])
    def test_content_changes_nothing(self, model, batch, token_id, value):
        padding = batch["attention_mask"] == 0
        odd = {
            **batch,
            "input_ids": batch["input_ids"].masked_fill(padding, token_id),
            "values": batch["values"].masked_fill(padding, value),
        }
        clean, strange = model(**batch), model(**odd)
        assert torch.equal(clean.embeddings, strange.embeddings)
        assert torch.equal(clean.logits, strange.logits)
        assert torch.equal(clean.loss, strange.loss)
        assert torch.equal(model.encode(**batch), model.encode(**odd))

    def test_the_batch_handed_in_is_not_changed(self, model, batch):
        before = copy.deepcopy(batch)
        model(**batch)
        assert all(torch.equal(before[key], batch[key]) for key in before)

    def test_a_cell_without_real_tokens_stays_finite(self, model, batch):
        batch["attention_mask"][2] = 0
        batch["labels"][2] = -100
        assert model.encode(**batch).isfinite().all()
        out = model(**batch)
        assert out.embeddings.isfinite().all()
        assert out.logits.isfinite().all()
        out.loss.backward()
        assert all(g.isfinite().all() for g in gradients(model).values())

    def test_in_bf16_the_amount_changes_little(self, model, name, batch):
        wider = padded(batch, 7)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            short, long = model(**batch), model(**wider)
            few, many = model.encode(**batch).float(), model.encode(**wider).float()
        mask = batch["attention_mask"]
        assert torch.allclose(few, many, atol=2e-2, rtol=2e-2)
        assert torch.allclose(short.embeddings.float(), long.embeddings.float(), atol=2e-2, rtol=2e-2)
        found, expected = real(name, long.logits, mask).float(), real(name, short.logits, mask).float()
        assert torch.allclose(found, expected, atol=2e-2, rtol=2e-2)
        assert torch.allclose(short.loss, long.loss, atol=2e-2)


class TestLeaks:
    def test_labels_do_not_reach_the_predictions(self, model, name, batch):
        hidden = batch["labels"] != -100
        other = {**batch, "labels": batch["labels"].masked_fill(hidden, 9)}
        seen, changed = model(**batch), model(**other)
        assert torch.equal(seen.logits, changed.logits)
        assert torch.equal(seen.embeddings, changed.embeddings)
        asks_for_genes = name not in ("masked_autoencoder", "scgpt")  # whose labels only say that they learn
        assert torch.equal(seen.loss, changed.loss) != asks_for_genes

    def test_true_genes_and_values_that_a_model_does_not_read_are_ignored(self, model, name, batch):
        truth = {
            "gene_ids": torch.full((4, 12), 7),
            "targets": torch.full((4, 12), 3.0),
            "bin_ids": torch.full((4, 12), 5),
            "masked_positions": torch.ones(4, 12, dtype=torch.bool),
            "prefix_len": torch.full((4,), 5),
            "no_repeats": torch.tensor(True),
            "num_targets": {"masked_gene": 7},
        }
        told = {**batch, **{key: value for key, value in truth.items() if key not in READ[name]}}
        assert torch.equal(model(**batch).logits, model(**told).logits)
        assert torch.equal(model(**batch).loss, model(**told).loss)

    def test_the_truth_reaches_the_loss_only(self, model, batch):
        """What is asked for (values, bins) may stand in the batch: predictions and embeddings are the same."""
        before = model(**batch)
        for key in ("targets", "bin_ids"):
            if key in batch:
                batch[key] = torch.where(batch["labels"] != -100, batch[key] + 1, batch[key]).clamp(max=50)
        after = model(**batch)
        assert torch.equal(before.logits, after.logits)
        assert torch.equal(before.embeddings, after.embeddings)
        assert torch.equal(before.loss, after.loss) != bool({"targets", "bin_ids"} & set(batch))

    def test_which_genes_are_asked_for_does_not_reach_the_embedding(self, model, name, batch):
        before = model(**batch).embeddings
        if "gene_ids" in batch:
            batch["gene_ids"] = torch.where(batch["masked_positions"], 9, batch["gene_ids"])
        batch["labels"] = batch["labels"].masked_fill(batch["labels"] != -100, 11)
        # Of scgpt all tokens see all genes, and only values are hidden.
        assert torch.equal(model(**batch).embeddings, before) == (name != "scgpt")

    def test_cells_do_not_see_each_other(self, model, batch):
        before, encoded = model(**batch), model.encode(**batch)
        batch["input_ids"][0] = 11
        batch["values"][0] = 4.0
        after = model(**batch)
        for old, new in (
            (before.embeddings, after.embeddings),
            (before.logits, after.logits),
            (encoded, model.encode(**batch)),
        ):
            assert torch.allclose(old[1:], new[1:], atol=1e-6)
            assert not torch.allclose(old[0], new[0], atol=1e-3)


class TestLabelledRowsOnly:
    def test_loss_and_gradients_are_those_of_all_logits(self, model, batch):
        twin = copy.deepcopy(model)
        full, few = model(**batch), twin(**batch, return_logits=False)
        assert few.logits is None
        assert torch.allclose(full.loss, few.loss, atol=1e-6)
        assert torch.equal(full.embeddings, few.embeddings)
        full.loss.backward()
        few.loss.backward()
        expected, found = gradients(model), gradients(twin)
        assert any(g.abs().sum() > 0 for g in expected.values())
        for name, gradient in expected.items():
            assert torch.allclose(gradient, found[name], atol=1e-6), name

    def test_the_head_sees_the_labelled_rows_only(self, model, name, batch):
        if name == "scdiva":
            assert len(model.reconstruct(model.encode(**batch))) == len(batch["input_ids"])  # a row is a cell
            return
        seen = []
        head_of(model).register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[:-1]))
        model(**batch, return_logits=False)
        rows = len(batch["labels"]) if name in OF_GENES else int((batch["labels"] != -100).sum())
        assert seen == [torch.Size([rows])]

    def test_without_labels_there_are_embeddings_only(self, model, batch):
        expected = model(**batch).embeddings
        calls = []
        head_of(model).register_forward_hook(lambda *_: calls.append(1))
        del batch["labels"]
        out = model(**batch, return_logits=False)
        assert out.logits is None
        assert out.loss is None
        assert out.loss_terms is None
        assert torch.equal(out.embeddings, expected)
        assert not calls


class TestNothingToPredict:
    @pytest.mark.parametrize("return_logits", [True, False])
    def test_loss_is_zero_with_gradients_of_zero(self, model, name, batch, return_logits):
        batch["labels"] = torch.full_like(batch["labels"], -100)
        batch.pop("masked_positions", None)
        terms = model(**batch, return_logits=return_logits).loss_terms
        of_cells = {"scdiva": {"kl"}}.get(name, set())  # such terms need no target
        loss = sum(term for term_name, term in terms.items() if term_name not in of_cells)
        assert loss.item() == 0.0
        loss = loss + 0.0 * sum(terms.values())  # all weights take part in the loss as a whole
        loss.backward()
        assert all((g == 0).all() for g in gradients(model).values())

    @pytest.mark.parametrize("return_logits", [True, False])
    def test_a_batch_without_cells(self, model, name, batch, return_logits):
        empty = {key: tensor[:0, :1] if tensor.ndim == 2 else tensor[:0] for key, tensor in batch.items()}
        out = model(**empty, return_logits=return_logits)
        assert out.embeddings.shape == (0, EMBEDDING_DIM.get(name, 16))
        assert out.loss.item() == 0.0
        out.loss.backward()
        assert all((g == 0).all() for g in gradients(model).values())

    def test_embedding_no_cells(self, model, name, batch):
        found = model.encode(batch["input_ids"][:0], batch["attention_mask"][:0])
        assert found.shape == (0, EMBEDDING_DIM.get(name, 16))

    def test_a_cell_of_one_token(self, model, name, batch):
        out = model(**{key: tensor[:1, :1] if tensor.ndim == 2 else tensor[:1] for key, tensor in batch.items()})
        assert out.logits.shape[:2] == ((1, 50) if name in OF_GENES else (1, 1))
        assert out.logits.isfinite().all()
        assert out.loss.isfinite()


class TestTraining:
    @pytest.mark.parametrize("return_logits", [True, False])
    def test_loss_decreases(self, model, batch, return_logits):
        model.train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        losses = []
        for _ in range(15):
            optimizer.zero_grad()
            loss = model(**batch, return_logits=return_logits).loss
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.8 * losses[0]

    def test_every_parameter_is_trained(self, model, batch):
        """But for the biases of keys, which softmax cancels, and values, which tell no masked gene of the others."""
        model(**batch).loss.backward()
        untrained = {name for name, g in gradients(model).items() if (g == 0).all() and not name.endswith("k.bias")}
        if isinstance(model, ScDiVa):  # whose one token sees nothing but itself
            untrained = {name for name in untrained if not name.endswith((".q.weight", ".q.bias", ".k.weight"))}
        assert untrained <= ({"embedding.value_projection.weight"} if hasattr(model, "layers") else set())

    def test_the_first_loss_is_near_that_of_a_blind_guess(self, model, name, batch):
        guesses = {"masked_gene": math.log(50), "next_gene": math.log(50), "expression_bin": math.log(51)}
        guesses["hidden_gene"] = math.log(50)
        guesses["expression_count"] = 1.6  # four counts that are all alike from 1 to 5, told their mean
        for term, loss in model(**batch).loss_terms.items():
            assert loss.item() == pytest.approx(guesses.get(term, 1.0), abs=1.5)

    def test_bf16_autocast_trains(self, model, batch):
        exact = model(**batch).loss
        with torch.autocast("cpu", dtype=torch.bfloat16):
            for return_logits in (True, False):
                loss = model(**batch, return_logits=return_logits).loss
                assert loss.dtype == torch.float32
                assert loss.item() == pytest.approx(exact.item(), abs=5e-2)
        loss.backward()
        assert all(g.isfinite().all() for g in gradients(model).values())

    def test_dropout_acts_in_training_only(self, name, tiny_config, batch):
        tiny_config.dropout = 0.5
        model = get_model(name, tiny_config)
        assert not torch.equal(model.encode(**batch), model.encode(**batch))
        model.eval()
        assert torch.equal(model.encode(**batch), model.encode(**batch))
        assert torch.equal(model(**batch).loss, model(**batch).loss)

    def test_evaluation_equals_training_without_dropout(self, model, name, batch):
        evaluated = model(**batch)
        trained = model.train()(**batch)
        if name == "scdiva":  # draws the latent vector in training
            assert not torch.allclose(evaluated.logits, trained.logits, atol=1e-3)
        else:
            assert torch.allclose(evaluated.logits, trained.logits, atol=1e-6)
        assert torch.allclose(evaluated.embeddings, trained.embeddings, atol=1e-6)


class TestWeights:
    def test_a_safetensors_round_trip_keeps_the_outputs(self, model, tiny_config, batch, tmp_path):
        from safetensors.torch import load_model, save_model

        save_model(model, str(tmp_path / "model.safetensors"))
        torch.manual_seed(99)
        other = get_model(tiny_config.architecture, tiny_config).eval()
        assert not torch.equal(model(**batch).logits, other(**batch).logits)
        load_model(other, str(tmp_path / "model.safetensors"), strict=True)
        assert torch.equal(model(**batch).logits, other(**batch).logits)

    def test_the_same_seed_gives_the_same_weights(self, model, tiny_config):
        torch.manual_seed(0)
        twin = get_model(tiny_config.architecture, tiny_config)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))

    def test_padding_starts_as_a_zero_vector(self, model, name):
        if name == "scdiva":  # has no vector for a token
            assert not any(isinstance(module, torch.nn.Embedding) for module in model.modules())
            return
        assert (model.embedding.gene_embedding.weight[0] == 0).all()


class TestDeclarations:
    def test_default_objective_is_allowed(self, model):
        assert model.default_objective in model.allowed_objectives

    def test_unused_settings_are_settings(self, model):
        assert model.unused_settings <= set(ModelConfig.model_fields)

    def test_every_other_setting_is_read(self, model, name):
        """Settings given to the model under a name that records what is asked of it."""
        # read by registry, objective and masking
        others = {"architecture", "pretraining_task", "mask_ratio", "zero_target_ratio", "gene_order"}
        others |= {"least_masked", "least_depth"}
        config_class = type(model).config_class
        asked: set[str] = set()

        class Recorder(config_class):
            def __getattribute__(self, name):
                if name in config_class.model_fields:
                    asked.add(name)
                return super().__getattribute__(name)

        type(model).from_config(Recorder(vocab_size=50, hidden_dim=16, num_layers=1, num_heads=2))
        assert asked - others == set(config_class.model_fields) - model.unused_settings - others

    def test_num_parameters_counts_what_is_trained_by_default(self, model):
        total = sum(p.numel() for p in model.parameters())
        assert model.num_parameters() == model.num_parameters(trainable_only=False) == total
        part = next(iter(model.children()))
        part.requires_grad_(False)
        frozen = sum(p.numel() for p in part.parameters())
        assert model.num_parameters() == total - frozen
        assert model.num_parameters(trainable_only=False) == total


class TestRefusals:
    def test_a_sequence_that_is_too_long(self, model):
        ids = torch.full((1, 33), 5)
        mask = torch.ones(1, 33)
        for call in (model, model.encode):
            with pytest.raises(ValueError, match=r"33 tokens exceed model.max_seq_len \(32\); raise it or lower"):
                call(ids, mask)

    def test_a_sequence_that_is_too_long_where_much_is_masked(self, model):
        masked = torch.arange(33)[None] > 3
        with pytest.raises(ValueError, match=r"33 tokens exceed model.max_seq_len \(32\)"):
            model(torch.full((1, 33), 5), torch.ones(1, 33), masked_positions=masked)

    def test_the_longest_sequence_is_taken(self, model, name):
        found = model.encode(torch.full((1, 32), 5), torch.ones(1, 32))
        assert found.shape == (1, EMBEDDING_DIM.get(name, 16))

    @pytest.mark.parametrize("return_logits", [True, False])
    def test_a_label_outside_the_vocabulary(self, model, batch, return_logits):
        batch["labels"][1, 4] = 50
        for key in ("masked_positions", "gene_ids"):  # without them the autoencoder takes genes from labels too
            batch.pop(key, None)
        with pytest.raises(ValueError, match="token id 50 is not in the vocabulary of 50 tokens"):
            model(**batch, return_logits=return_logits)

    @pytest.mark.parametrize("token_id", [50, 1000, -1])
    def test_a_token_outside_the_vocabulary(self, model, batch, token_id):
        batch["input_ids"][1, 4] = token_id
        for call in (model, model.encode):
            with pytest.raises(ValueError, match=rf"token id {token_id} is not in the vocabulary of 50 tokens"):
                call(**batch)

    def test_settings_without_a_vocabulary_size(self, name, tiny_config):
        model_class = type(get_model(name, tiny_config))
        tiny_config.vocab_size = None
        for make in (model_class.from_config, lambda config: get_model(name, config)):
            with pytest.raises(ValueError, match="vocab_size must be set"):
                make(tiny_config)

    @pytest.mark.parametrize("transformer", TRANSFORMERS)
    def test_heads_that_do_not_share_the_width(self, transformer, tiny_config):
        tiny_config.num_heads = 3
        with pytest.raises(ValueError, match=r"model.hidden_dim \(16\) is not divisible by model.num_heads \(3\)"):
            get_model(transformer, tiny_config)

    @pytest.mark.parametrize("transformer", [name for name in TRANSFORMERS if name != "scdiva"])
    def test_an_unknown_activation(self, transformer, tiny_config):
        tiny_config.activation = "gelo"
        with pytest.raises(ValueError, match=r"unknown model.activation 'gelo'. Did you mean 'gelu'"):
            get_model(transformer, tiny_config)

    def test_a_name_with_a_mistake_is_corrected(self, name, tiny_config):
        names = ", ".join(sorted({*NAMES, *OPTIONAL_MODELS, "fine_tuned"}))
        with pytest.raises(ValueError, match=rf"unknown model '{name}x'. Did you mean '{name}'\?.*{names}"):
            get_model(f"{name}x", tiny_config)

    def test_a_registered_name_is_taken(self, name, model):
        with pytest.raises(ValueError, match=f"model '{name}' is already registered, by .*{type(model).__name__}"):
            register_model(name)(torch.nn.Linear)
        assert type(model).__name__ != "Linear"
