"""Outputs and losses are those of the official scGPT code for a checkpoint in the published form.

Main at cebd6fae, the generative part of branch dev-temp at 4068d67c; how the values were made stands in the README
beside them.
"""

from __future__ import annotations

import json
import shutil
from typing import Any

import numpy as np
import pytest
import torch

from scmodelforge.data.types import CellBlock, Panel
from scmodelforge.models.components.cell_losses import cell_contrast_loss, elastic_similarity_loss
from scmodelforge.models.published import load_scgpt, load_scgpt_vocab
from scmodelforge.models.scgpt import ScGPT
from scmodelforge.objectives import collate_for_encoding
from scmodelforge.tokenizers.presets import get_preset

from .golden import golden_folder, needs

GOLDEN = golden_folder("scgpt")
FOLDER = GOLDEN / "ckpt_tiny"

pytestmark = needs(FOLDER)


def close(found: torch.Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def expected() -> Any:
    return np.load(GOLDEN / "ckpt_tiny_io.npz")


@pytest.fixture(scope="module")
def model() -> ScGPT:
    return load_scgpt(FOLDER)


@pytest.fixture(scope="module")
def torch_names(tmp_path_factory) -> ScGPT:
    """Return the same model from the file that names weights as ``nn.TransformerEncoder`` does."""
    folder = tmp_path_factory.mktemp("torch_names")
    for name in ("args.json", "vocab.json"):
        shutil.copy(FOLDER / name, folder / name)
    shutil.copy(GOLDEN / "best_model_torchnames.pt", folder / "best_model.pt")
    return load_scgpt(folder)


@pytest.fixture(scope="module")
def cells(expected) -> dict[str, torch.Tensor]:
    """Return the batch: some values are -1, which stands for hidden ones, and padding."""
    return {
        "input_ids": torch.tensor(expected["src"]),
        "attention_mask": ~torch.tensor(expected["key_padding_mask"]),
        "values": torch.tensor(expected["values"]),
    }


@pytest.fixture(scope="module")
def batch(expected, cells) -> dict[str, torch.Tensor]:
    """Return the batch as an objective makes it."""
    is_hidden = cells["values"] == -1
    return {
        **cells,
        "masked_positions": is_hidden,
        "labels": cells["input_ids"].masked_fill(~is_hidden, -100),
        "targets": torch.tensor(expected["target_values"]),
        "gene_ids": cells["input_ids"],
    }


def real(values: Any, expected: Any) -> np.ndarray:
    return np.asarray(values)[~expected["key_padding_mask"]]


class TestOutputs:
    @pytest.mark.parametrize("kind", ["model", "torch_names"])
    def test_hidden_states_and_predictions(self, kind, request, expected, cells):
        out = request.getfixturevalue(kind)(**cells, output_hidden_states=True)
        found = real(out.hidden_states[-1].detach(), expected)
        np.testing.assert_allclose(found, real(expected["transformer_output"], expected), rtol=0, atol=1e-5)
        predicted = real(out.logits.detach(), expected)
        np.testing.assert_allclose(predicted, real(expected["mlm_output"], expected), rtol=0, atol=1e-5)

    def test_vectors_of_cells(self, model, expected, cells):
        out = model(**cells, output_hidden_states=True)
        close(out.hidden_states[-1][:, 0], expected["cell_emb"])
        close(out.embeddings, expected["cell_emb_l2"])
        close(model.encode(**cells), expected["cell_emb_l2"])

    def test_predictions_from_vectors_of_cells(self, model, expected, cells):
        found = model.predict_from_cells(cells["input_ids"], torch.tensor(expected["cell_emb"])).detach()
        np.testing.assert_allclose(real(found, expected), real(expected["mvc_output"], expected), rtol=0, atol=1e-5)


class TestLosses:
    def test_of_hidden_values(self, model, expected, batch):
        terms = model(**batch).loss_terms
        assert terms["masked_value"].item() == pytest.approx(float(expected["loss_mse_masked"]), rel=1e-6)
        assert terms["gepc"].item() == pytest.approx(float(expected["loss_mvc_masked"]), rel=1e-6)
        assert model(**batch).loss.item() == pytest.approx(float(expected["train_loss_mse_plus_mvc"]), rel=1e-6)

    @pytest.mark.parametrize("threshold", [0.3, 0.8])
    def test_of_similar_cells(self, expected, threshold):
        found = elastic_similarity_loss(torch.tensor(expected["cell_emb"]), threshold)
        assert found.item() == pytest.approx(float(expected[f"loss_ecs_thres{threshold}"]), abs=1e-5)

    def test_of_contrast(self, expected):
        cells = torch.tensor(expected["cell_emb"])
        found = cell_contrast_loss(cells, cells, 0.5)
        assert found.item() == pytest.approx(float(expected["loss_cce_temp0.5"]), abs=1e-5)

    def test_gradients(self, torch_names, expected, batch):
        """Without dropout, of the sum of both losses; names are those of ``nn.TransformerEncoder``."""
        norms = json.loads((GOLDEN / "ckpt_tiny_io.json").read_text())["grad_norms_dropout0_mse_plus_mvc"]
        torch_names.zero_grad()
        terms = torch_names(**batch, cell_types=torch.zeros(6, dtype=torch.int64)).loss_terms
        (terms["masked_value"] + terms["gepc"]).backward()
        own = dict(torch_names.named_parameters())
        for name, ours in {
            "encoder.embedding.weight": "embedding.gene_embedding.weight",
            "value_encoder.linear1.weight": "embedding.value_projection.linear1.weight",
            "transformer_encoder.layers.1.self_attn.out_proj.weight": "encoder.layers.1.attention.o.weight",
            "mvc_decoder.W.weight": "terms.value_head.weight.weight",
            "decoder.fc.0.weight": "head.0.weight",
        }.items():
            assert own[ours].grad.norm().item() == pytest.approx(norms[name], rel=1e-4), name


def test_embeddings_from_expression(model, expected):
    genes = json.loads((GOLDEN / "ckpt_tiny_io.json").read_text())["embed_genes"]
    tokenizer = get_preset("scgpt").make(FOLDER, {})
    assert tokenizer.vocab.digest() == load_scgpt_vocab(FOLDER).digest()
    values = expected["embed_X"]
    rows, columns = np.nonzero(values)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(values)))]).astype(np.int64)
    panel = Panel(np.array(genes, dtype=object), "cells")
    block = CellBlock(values[rows, columns], columns.astype(np.int32), indptr, panel, np.arange(len(values)))
    tokens = tokenizer.bind(panel).encode(block, np.arange(len(values), dtype=np.uint64))
    batch = collate_for_encoding(tokens, pad_id=tokenizer.vocab.pad_id)
    with torch.no_grad():
        found = model.encode(batch["input_ids"], batch["attention_mask"], batch["values"])
    close(found, expected["embed_X_scGPT"])


@pytest.fixture(scope="module")
def generated() -> Any:
    return np.load(GOLDEN / "generative_io.npz")


@pytest.fixture(scope="module")
def asked(generated) -> dict[str, torch.Tensor]:
    """Return known genes and those to generate side by side, the former with their padding between."""
    known, wanted = generated["pcpt_gene"], generated["gen_gene"]
    ids = torch.tensor(np.concatenate([known, wanted], axis=1))
    values = np.concatenate([generated["pcpt_expr"], np.zeros(wanted.shape, np.float32)], axis=1)
    is_real = ids != load_scgpt_vocab(FOLDER).pad_id
    is_asked = is_real & (torch.arange(ids.shape[1]) >= known.shape[1])
    targets = np.concatenate([np.zeros(known.shape, np.float32), generated["gen_expr_target"]], axis=1)
    return {
        "input_ids": ids,
        "attention_mask": is_real,
        "values": torch.tensor(values),
        "prefix_len": torch.full((len(ids),), known.shape[1]),
        "labels": ids.masked_fill(~is_asked, -100),
        "targets": torch.tensor(targets),
        "gene_ids": ids,
    }


class TestGeneration:
    def test_predictions(self, model, generated, asked):
        out, is_real = model(**asked, output_hidden_states=True), asked["attention_mask"]
        expected = np.concatenate([generated["pcpt_preds"], generated["gen_preds"]], axis=1)
        close(out.logits[is_real], expected[is_real])
        cells = out.hidden_states[-1][:, 0]
        close(cells, generated["cell_emb"])
        close(model.predict_from_cells(asked["input_ids"], cells)[is_real], generated["mvc_output"][is_real])

    def test_losses(self, model, generated, asked):
        terms = model(**asked).loss_terms
        assert terms["generative_value"].item() == pytest.approx(float(generated["loss_gen_mse"]), rel=1e-6)
        assert terms["gepc"].item() == pytest.approx(float(generated["loss_mvc"]), rel=1e-6)

    def test_second_pass_with_the_vector_of_the_cell(self, model, generated, asked):
        out = model(**asked, cell_vectors=torch.tensor(generated["cell_emb"]))
        width, is_real = generated["pcpt_gene"].shape[1], asked["attention_mask"]
        is_real = is_real[:, width:]
        close(out.logits[:, width:][is_real], generated["gen_preds_with_cell_emb"][is_real])
        config = model.config.model_copy(update={"second_pass_weight": 2.0})
        learner = ScGPT.from_config(config).eval()
        learner.load_state_dict(model.state_dict())
        found = learner(**asked).loss_terms["second_pass"].item()
        assert found == pytest.approx(2 * float(generated["loss_gen_second_pass"]), rel=1e-6)

    def test_differs_where_attention_is_whole(self, model, generated, asked):
        """The published rows to generate leave out the output projection; without that they are others."""
        whole = ScGPT.from_config(model.config.model_copy(update={"skip_output_projection": False})).eval()
        whole.load_state_dict(model.state_dict())
        width = generated["pcpt_gene"].shape[1]
        found, quirk = whole(**asked).logits, model(**asked).logits
        close(
            found[:, :width][asked["attention_mask"][:, :width]],
            quirk[:, :width][asked["attention_mask"][:, :width]].detach().numpy(),
        )
        assert (found - quirk)[:, width:].abs().max() > 1e-2
