"""scVI in our loop: equal to scvi-tools, and a model like the others; .ci/full installs scvi-tools for these tests."""

from __future__ import annotations

import json
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scvi
import torch
import yaml
from safetensors.torch import load_file

from scmodelforge._registry import MODELS
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.hub import load_bundle, save_bundle
from scmodelforge.models import get_model
from scmodelforge.models.components.special_tokens import apply_special_tokens
from scmodelforge.models.scvi import SCVI, SCVIConfig
from scmodelforge.training.objective import Objective
from scmodelforge.workflows.model_check import check_model
from tests.conftest import make_adata
from tests.test_life_cycle import interrupt, invoke, losses, settings
from tests.test_matrix import check_two_steps, train, variants

pytestmark = pytest.mark.filterwarnings("default")  # those of scvi-tools and of what it imports are not ours

NUM_GENES = 20
COUNTS = {"strategy": "continuous_projection", "value_transform": "counts"}
VARIANTS = {
    "plain": {},
    "batches": {"use_batches": True, "num_batches": 2},
    "nb": {"gene_likelihood": "nb", "num_layers": 2, "use_batches": True, "num_batches": 2},
    "poisson": {"gene_likelihood": "poisson", "use_layer_norm": "both", "use_batch_norm": "none"},
    "dispersion of each cell": {"dispersion": "gene-cell", "dropout": 0.0},
}


def config_of(**changes) -> SCVIConfig:
    return SCVIConfig(**{"vocab_size": NUM_GENES + 4, "hidden_dim": 8, "latent_dim": 3, **changes})


def model_of(**changes) -> SCVI:
    torch.manual_seed(0)
    return SCVI(config_of(**changes)).eval()


@pytest.fixture
def adata():
    return make_adata(30, NUM_GENES)


def batch_of(adata) -> dict[str, torch.Tensor]:
    """Return cells as tokens: ``<cls>``, the expressed genes in an order of each cell's own, padding."""
    rng, rows = np.random.default_rng(0), adata.X.toarray()
    ids, values = torch.zeros(len(rows), NUM_GENES + 3, dtype=torch.int64), torch.zeros(len(rows), NUM_GENES + 3)
    ids[:, 0] = 3
    for cell, row in enumerate(rows):
        genes = rng.permutation(np.flatnonzero(row))
        ids[cell, 1 : len(genes) + 1] = torch.from_numpy(genes + 4)
        values[cell, 1 : len(genes) + 1] = torch.from_numpy(row[genes])
    return {
        "input_ids": ids,
        "attention_mask": (ids != 0).long(),
        "values": values,
        "labels": torch.where(ids > 3, ids, -100),
        "batch_labels": torch.tensor(adata.obs["batch"].cat.codes.to_numpy(np.int64)),
    }


def their_model(adata, **changes) -> scvi.model.SCVI:
    """Return a model of scvi-tools with some settings of ours, trained for two epochs."""
    own = config_of(**changes)
    adata = adata.copy()
    scvi.model.SCVI.setup_anndata(adata, batch_key="batch" if own.use_batches else None)
    torch.manual_seed(3)
    model = scvi.model.SCVI(
        adata,
        n_hidden=own.hidden_dim,
        n_latent=own.latent_dim,
        n_layers=own.num_layers,
        dropout_rate=own.dropout,
        dispersion=own.dispersion,
        gene_likelihood=own.gene_likelihood,
        use_batch_norm=own.use_batch_norm,
        use_layer_norm=own.use_layer_norm,
    )
    model.train(max_epochs=2, accelerator="cpu", enable_progress_bar=False, batch_size=10, train_size=1.0)
    return model


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
class TestEqualToScviTools:
    def test_loss_and_gradients_of_a_training_batch(self, adata, changes):
        theirs, ours = their_model(adata, **changes).module, model_of(kl_weight=0.3, **changes)
        ours.module.load_state_dict(theirs.state_dict(), strict=True)
        batch = batch_of(adata)
        codes = batch["batch_labels"][:, None] if ours.num_batches > 1 else torch.zeros(30, 1)
        tensors = {"X": torch.from_numpy(adata.X.toarray()), "batch": codes, "labels": torch.zeros(30, 1)}
        for model in (theirs, ours):
            model.train()
            model.zero_grad()
        torch.manual_seed(5)
        *_, expected = theirs(tensors, loss_kwargs={"kl_weight": 0.3})
        expected.loss.backward()
        torch.manual_seed(5)
        found = ours(**batch, return_logits=False)
        found.loss.backward()
        assert found.loss.item() == pytest.approx(expected.loss.item(), rel=1e-6)
        divergence = expected.kl_local["kl_divergence_z"].mean().item()
        assert found.loss_terms["kl"].item() == pytest.approx(0.3 * divergence, rel=1e-6)
        gradients = {name: p.grad for name, p in theirs.named_parameters()}
        for name, p in ours.module.named_parameters():
            if p.requires_grad:
                assert torch.allclose(p.grad, gradients[name], atol=1e-5), name
        for name, buffer in ours.module.named_buffers():  # running statistics
            assert torch.allclose(buffer, dict(theirs.named_buffers())[name]), name

    def test_embeddings_are_their_latent_representation(self, adata, changes):
        theirs, ours = their_model(adata, **changes), model_of(**changes)
        ours.module.load_state_dict(theirs.module.state_dict(), strict=True)
        found = ours.encode(**batch_of(adata)).detach().numpy()
        np.testing.assert_allclose(found, theirs.get_latent_representation(), atol=1e-6)

    def test_all_that_is_trained_gets_a_gradient(self, adata, changes):
        ours = model_of(**changes).train()
        ours(**batch_of(adata)).loss.backward()
        trained = {name for name, p in ours.named_parameters() if p.grad is not None}
        assert trained == {name for name, p in ours.named_parameters() if p.requires_grad}


class TestPredictions:
    def test_logits_are_shares_of_genes(self, adata):
        shares = model_of()(**batch_of(adata)).logits
        assert shares.shape == (30, NUM_GENES + 4)
        assert torch.equal(shares[:, :4], torch.zeros(30, 4))
        assert torch.allclose(shares.sum(dim=1), torch.ones(30))

    def test_logits_are_what_scvi_tools_decodes_of_the_mean(self, adata):
        model, batch = model_of(use_batches=True, num_batches=2), batch_of(adata)
        z, library = model.encode(**batch), torch.from_numpy(adata.X.toarray()).sum(1, keepdim=True).log()
        decoded = model.module.generative(z=z, library=library, batch_index=batch["batch_labels"][:, None])
        assert torch.allclose(model(**batch).logits[:, 4:], decoded["px"].scale, atol=1e-6)

    def test_in_evaluation_the_loss_is_that_of_the_mean(self, adata):
        model, batch = model_of(), batch_of(adata)
        counts = torch.from_numpy(adata.X.toarray())
        total = counts.sum(1, keepdim=True).log()
        px = model.module.generative(z=model.encode(**batch), library=total, batch_index=torch.zeros(30, 1))["px"]
        expected = -px.log_prob(counts).sum(dim=1).mean()
        assert torch.allclose(model(**batch).loss_terms["reconstruction"], expected)

    def test_evaluation_leaves_what_training_draws_alone(self, adata):
        model, batch = model_of(), batch_of(adata)
        torch.manual_seed(1)
        expected = torch.rand(3)
        torch.manual_seed(1)
        model(**batch)
        model.encode(**batch)
        assert torch.equal(torch.rand(3), expected)


class TestBatches:
    def test_they_reach_the_decoder_and_not_the_embedding(self, adata):
        model, batch = model_of(use_batches=True, num_batches=2), batch_of(adata)
        other = {**batch, "batch_labels": 1 - batch["batch_labels"]}
        assert not torch.allclose(model(**batch).logits, model(**other).logits)
        assert torch.equal(model(**batch).embeddings, model(**other).embeddings)

    def test_a_cell_without_one_is_decoded_as_the_mean_over_all(self, adata):
        model, batch = model_of(use_batches=True, num_batches=2), batch_of(adata)
        each = [model(**{**batch, "batch_labels": torch.full((30,), code)}).logits for code in (0, 1)]
        none = {**batch, "batch_labels": torch.full((30,), -100)}
        assert torch.allclose(model(**none).logits, (each[0] + each[1]) / 2, atol=1e-6)
        del none["batch_labels"]
        assert torch.allclose(model(**none).logits, (each[0] + each[1]) / 2, atol=1e-6)

    def test_a_cell_without_one_adds_nothing_to_the_loss(self, adata):
        model, batch = model_of(use_batches=True, num_batches=2), batch_of(adata)
        batch["batch_labels"][10:] = -100
        first = {name: tensor[:10] for name, tensor in batch.items()}
        assert torch.allclose(model(**batch).loss, model(**first).loss)
        batch["batch_labels"][:] = -100
        assert model(**batch).loss.item() == 0

    def test_terms_are_counted_by_cells_that_have_one(self):
        assert set(config_of().counted_terms.values()) == {"cells"}
        assert set(config_of(use_batches=True).counted_terms.values()) == {"batch_labels"}

    def test_their_number_is_needed(self):
        with pytest.raises(ValueError, match=r"model.num_batches is not set, but model.use_batches is true; set it to"):
            get_model("scvi", config_of(use_batches=True))


class TestFewCells:
    @pytest.mark.parametrize("return_logits", [True, False])
    def test_one_cell_trains_with_the_running_statistics(self, adata, return_logits):
        model, batch = model_of(dropout=0.0).train(), batch_of(adata)
        one = {name: tensor[:1] for name, tensor in batch.items()}
        before = {name: buffer.clone() for name, buffer in model.named_buffers()}
        found = model(**one, return_logits=return_logits)
        assert found.loss.isfinite()
        assert torch.allclose(found.embeddings, model.eval().encode(**one), atol=1e-6)
        assert all(torch.equal(before[name], buffer) for name, buffer in model.named_buffers())
        assert all(module.training for module in model.train().modules())

    def test_no_cells_leave_the_statistics_alone(self, adata):
        model = model_of().train()
        model(**{name: tensor[:0] for name, tensor in batch_of(adata).items()}).loss.backward()
        assert all(buffer.isfinite().all() for buffer in model.buffers())
        assert all((p.grad == 0).all() for p in model.parameters() if p.requires_grad)

    def test_a_step_with_a_rank_without_targets_is_zero(self, adata):
        terms = Objective(model_of())({**batch_of(adata), "num_targets": {"reconstruction": 0, "kl": 0}})
        assert torch.stack(list(terms.values())).sum().item() == 0


class TestWarmUp:
    @pytest.mark.parametrize(("step", "share"), [(0, 0.0), (1, 0.25), (4, 1.0), (9, 1.0)])
    def test_the_weight_rises_with_the_step(self, adata, step, share):
        batch, model = batch_of(adata), model_of(kl_warmup_steps=4, kl_weight=2.0, dropout=0.0).train()
        model.set_step(step)
        full = model_of(kl_weight=2.0, dropout=0.0).train()
        assert torch.allclose(model(**batch).loss_terms["kl"], share * full(**batch).loss_terms["kl"])

    def test_in_evaluation_it_is_whole(self, adata):
        batch, model = batch_of(adata), model_of(kl_warmup_steps=4)
        assert torch.equal(model(**batch).loss, model_of()(**batch).loss)

    def test_the_step_must_be_told(self, adata):
        with pytest.raises(ValueError, match=r"model.kl_warmup_steps is 4, but the model was not told the step; call"):
            model_of(kl_warmup_steps=4).train()(**batch_of(adata))


class TestContract:
    def test_models_check_passes(self):
        results = check_model(MODELS.get("scvi"), name="scvi")
        assert [result for result in results if result.status == "failed"] == []
        assert {result.name for result in results if result.status == "not claimed"} == {
            "later tokens are not seen",
            "what is hidden does not leak",  # nothing is hidden
            "the loss depends on what is asked for",
            "the loss is that of the logits",
        }

    def test_the_order_of_genes_and_padding_have_no_effect(self, adata):
        model, batch = model_of(), batch_of(adata)
        batch = {name: tensor for name, tensor in batch.items() if tensor.ndim == 2}
        turned = {name: tensor.flip(1) for name, tensor in batch.items()}
        assert torch.allclose(model(**batch).loss, model(**turned).loss, atol=1e-4)
        odd = {**batch, "values": batch["values"].masked_fill(batch["attention_mask"] == 0, float("nan"))}
        assert torch.equal(model(**batch).loss, model(**odd).loss)

    def test_every_setting_is_read_or_named_unused(self):
        asked: set[str] = set()

        class Recorder(SCVIConfig):
            def __getattribute__(self, name):
                if name in SCVIConfig.model_fields:
                    asked.add(name)
                return super().__getattribute__(name)

        config = Recorder(**config_of(use_batches=True, num_batches=2).model_dump())
        asked.clear()
        SCVI.from_config(config)
        others = {"architecture", "pretraining_task", "mask_ratio"}  # read by registry, objective and masking
        assert asked - others == set(SCVIConfig.model_fields) - SCVI.unused_settings - others

    def test_values_must_be_read(self):
        with pytest.raises(ValueError, match=r"model.use_expression_values is false, but scvi reads nothing else than"):
            get_model("scvi", config_of(use_expression_values=False))

    def test_plain_settings_are_completed(self, tiny_config):
        assert get_model("scvi", tiny_config).encode(torch.full((2, 3), 7), torch.ones(2, 3)).shape == (2, 10)

    def test_other_special_tokens(self, adata):
        """A vocabulary whose only special token stands behind its genes."""
        tokens = {gene: number for number, gene in enumerate(adata.var_names)} | {"<pad>": NUM_GENES}
        vocab = GeneVocab.from_token_dict(tokens, name="published")
        model = model_of(vocab_size=NUM_GENES + 1)
        apply_special_tokens(model, vocab)
        batch, plain = batch_of(adata), model_of()
        plain.module.load_state_dict(model.module.state_dict())
        moved = {
            "input_ids": torch.where(batch["input_ids"] < 4, NUM_GENES, batch["input_ids"] - 4),
            "attention_mask": batch["attention_mask"],
            "values": batch["values"],
        }
        assert torch.equal(model.eval().encode(**moved), plain.encode(**batch))

    def test_it_can_be_built_without_memory(self):
        with torch.device("meta"):
            model = SCVI(SCVIConfig(vocab_size=2004))
        assert {p.device.type for p in model.parameters()} == {"meta"}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "cells.h5ad"
    make_adata(80, 30).write_h5ad(path)
    return path


def write_settings(folder: Path, data: Path, name: str, **changes) -> Path:
    config = settings(data, folder / name, training__max_epochs=2, eval__every_n_epochs=2, **changes)
    config["tokenizer"] = {**COUNTS, "max_genes": 31}
    config["model"] = {"architecture": "scvi", "hidden_dim": 16, "latent_dim": 4, "use_batches": True}
    config["model"] |= {"kl_warmup_steps": 5}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


class TestRuns:
    def test_life_cycle(self, data, tmp_path):
        """Train, interrupt, resume, embed, evaluate, save, load; each on what the step before wrote."""
        whole = write_settings(tmp_path, data, "whole")
        broken = write_settings(tmp_path, data, "broken", eval__benchmarks=[])
        invoke("train", "--config", whole)
        interrupt("train", "--config", broken, after=8)
        invoke("train", "--resume", tmp_path / "broken")
        assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
        weights = [load_file(tmp_path / name / "model/model.safetensors") for name in ("whole", "broken")]
        assert weights[0].keys() == weights[1].keys()
        assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])

        embedded = tmp_path / "embedded.h5ad"
        invoke("embed", data, embedded, "--model", tmp_path / "broken")
        rows = ad.read_h5ad(embedded).obsm["X_scmodelforge"]
        assert rows.shape == (80, 4)
        assert np.isfinite(rows).all()
        assert rows.std(axis=0).min() > 0
        lines = invoke("evaluate", tmp_path / "broken", "--json").strip().splitlines()
        records = [json.loads(line) for line in lines if line.startswith("{")]
        assert {"model", "pca", "random", "untrained"} <= {record["representation"] for record in records}

        bundle = load_bundle(tmp_path / "broken" / "model")
        assert bundle.model.num_batches == 2
        assert bundle.labels["batch_labels"] == {"column": "batch", "categories": ["b0", "b1"]}
        save_bundle(tmp_path / "again", bundle, card="a card")
        invoke("embed", data, tmp_path / "again.h5ad", "--model", tmp_path / "again")
        np.testing.assert_array_equal(ad.read_h5ad(tmp_path / "again.h5ad").obsm["X_scmodelforge"], rows)

    def test_counts_train_two_steps(self, data, tmp_path):
        result = train({**COUNTS, "max_genes": 31}, {"architecture": "scvi"}, data, tmp_path)
        check_two_steps(result, tmp_path / "run")

    @pytest.mark.parametrize("variant", list(variants()))
    def test_other_tokenizers_are_refused(self, variant, data, tmp_path):
        tokenizer = {**variants()[variant], "max_genes": 31}
        result = train(tokenizer, {"architecture": "scvi"}, data, tmp_path)
        assert result.exit_code == 2
        assert "architecture 'scvi'" in result.output
        assert not (tmp_path / "run").exists()

    def test_tokens_cannot_be_cut(self, data, tmp_path):
        result = train({**COUNTS, "max_genes": 30}, {"architecture": "scvi"}, data, tmp_path)
        assert result.exit_code == 2
        assert "tokenizer.max_genes is 30, but cells are to be reconstructed whole" in result.output

    def test_gene_vectors_are_refused(self, data, tmp_path):
        tokenizer = {"strategy": "gene_embedding", "base": COUNTS, "max_genes": 31}
        result = train(tokenizer, {"architecture": "scvi"}, data, tmp_path)
        assert result.exit_code == 2
        assert "brings gene vectors but SCVI has no GeneExpressionEmbedding" in " ".join(result.output.split())

    def test_the_preset_trains(self, tmp_path):
        preset = Path(__file__).parents[2] / "configs" / "presets" / "scvi.yaml"
        small = ["training.max_epochs=1", "training.steps_per_epoch=2", "eval.benchmarks=[]", "data.num_workers=0"]
        changes = [word for change in (*small, f"output.run_dir={tmp_path / 'run'}") for word in ("--set", change)]
        invoke("train", "--config", preset, *changes)
        assert load_bundle(tmp_path / "run" / "model").model.num_genes == 765
