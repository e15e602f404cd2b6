"""A saved model says what it said, and what cannot be used is refused in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from scmodelforge._errors import RunError
from scmodelforge.connectome import RegionPairDataset
from scmodelforge.connectome.models import ConnectomeModel, saved
from tests.test_connectome.brains import arguments, brain
from tests.test_connectome.small_models import CROSS, FLAT, MODELS, POOLED, SINGLE, make, vectors


@pytest.fixture(scope="module")
def data() -> RegionPairDataset:
    return brain(12, 5)


class TestSaved:
    @pytest.mark.parametrize(
        ("cls", "options"),
        [
            *((cls, {}) for cls in MODELS),
            (CROSS, {"cls_init": ["spatial", "random"], "num_cls_tokens": 2, "pooling_mode": "cls", "use_alibi": True}),
            (CROSS, {"binning": "quantile", "bidirectional": True, "gene_embeddings": vectors(["G1", "G3"])}),
            (CROSS, {"binning": "learned", "pooling_mode": "attention"}),
            (SINGLE, {"gene_embeddings": vectors(["G1", "G3"])}),
            (POOLED, {"chunk_vectors": False, "use_alibi": False}),
        ],
    )
    def test_it_predicts_the_same(self, data, cls, options, tmp_path):
        model = make(cls, data, **options)
        model.fit(data, np.arange(60), [], save_model=tmp_path / "a" / "model.pt", verbose=False)
        expected, _ = model.predict(DataLoader(data, batch_size=50))
        for again in (cls.load(tmp_path / "a" / "model.pt", data), ConnectomeModel.load(tmp_path / "a" / "model.pt")):
            found, _ = again.predict(DataLoader(data, batch_size=50))
            np.testing.assert_array_equal(found, expected)
            assert again.valid_genes == data.valid_genes

    def test_it_is_a_folder_of_plain_files(self, data, tmp_path):
        make(CROSS, data).save(tmp_path / "model")
        assert {path.name for path in (tmp_path / "model").iterdir()} == {"model.json", "model.safetensors"}
        facts = json.loads((tmp_path / "model" / "model.json").read_text())
        assert (facts["format_version"], facts["model"]) == (1, "cross_attention_gene2vec")
        assert facts["genes"] == data.valid_genes
        assert facts["arguments"]["d_model"] == 8

    def change(self, folder: Path, **changes: object) -> None:
        path = folder / "model.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"format_version": 9}, "of format 9, this version reads 1"),
            ({"model": "none_such"}, "unknown connectome model 'none_such'"),
            ({"arguments": {"wrong": 1}}, "not what CrossAttentionGene2VecModel is made from"),
            ({"input_dim": 7}, "twice the number of genes"),
        ],
    )
    def test_a_file_that_says_something_else(self, data, tmp_path, changes, words):
        make(CROSS, data).save(tmp_path)
        self.change(tmp_path, **changes)
        with pytest.raises(ValueError, match=words):
            CROSS.load(tmp_path, data)

    def test_of_another_kind_or_with_other_genes(self, data, tmp_path):
        make(CROSS, data).save(tmp_path)
        with pytest.raises(ValueError, match="has a CrossAttentionGene2VecModel, not a SharedSelfAttentionModel"):
            FLAT.load(tmp_path, data)
        other = RegionPairDataset(**{**arguments(12, 5), "valid_genes": ["G0", "G1", "X", "G3", "G4"]})
        with pytest.raises(ValueError, match="has gene 'X' where the model was made for 'G2'"):
            CROSS.load(tmp_path, other)

    def test_what_is_missing_or_damaged(self, data, tmp_path):
        with pytest.raises(ValueError, match=r"model\.json: cannot be read"):
            CROSS.load(tmp_path / "none", data)
        make(CROSS, data).save(tmp_path)
        (tmp_path / "model.safetensors").write_bytes(b"nothing")
        with pytest.raises(ValueError, match=r"model\.safetensors: damaged"):
            CROSS.load(tmp_path, data)

    def test_a_file_in_the_place_of_the_folder(self, data, tmp_path):
        (tmp_path / "model").write_text("")
        with pytest.raises(ValueError, match="is a file; give the name of a folder"):
            make(CROSS, data).save(tmp_path / "model")

    def test_a_save_that_is_broken_off_leaves_the_model_that_was_there(self, data, tmp_path, monkeypatch):
        before, after = make(CROSS, data), make(CROSS, data, num_layers=2)
        before.save(tmp_path / "model")

        def broken(*_: object) -> None:
            raise OSError("no space left")

        monkeypatch.setattr(saved, "write_text", broken)
        with pytest.raises(OSError, match="no space left"):
            after.save(tmp_path / "model")
        again = CROSS.load(tmp_path / "model", data)
        assert again.arguments == before.arguments
        monkeypatch.undo()
        after.save(tmp_path / "model")
        assert CROSS.load(tmp_path / "model", data).arguments == after.arguments
        assert [path.name for path in tmp_path.iterdir()] == ["model"]

    def test_a_folder_with_something_else_is_left_alone(self, data, tmp_path):
        for name in ("thesis.tex", "inputs.json"):  # the latter scales what the model of a run reads
            (tmp_path / name).write_text("mine")
            with pytest.raises(ValueError, match=f"holds '{re.escape(name)}', which is no part of a model"):
                make(CROSS, data).save(tmp_path)
            assert [path.name for path in tmp_path.iterdir()] == [name]
            (tmp_path / name).unlink()

    def test_training_that_diverges_says_what_to_change(self, data):
        model = make(CROSS, data, learning_rate=1e30, epochs=9, batch_size=16)
        with pytest.raises(RunError, match=r"training diverged: .* Lower learning_rate"):
            model.fit(data, np.arange(60), np.arange(60, 80), verbose=False)


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"pooling_mode": "max"}, "pooling_mode is 'max'; one of mean, attention, cls"),
            ({"cls_init": "places"}, "cls_init is 'places'; 'random' or 'spatial'"),
            ({"cls_init": ["random"], "num_cls_tokens": 2}, "one for each of the 2 CLS tokens"),
            ({"binning": "log"}, "binning is 'log'; one of uniform, quantile, learned"),
            ({"expression_bins": 1}, "expression_bins is 1; a whole number of at least 2"),
            ({"num_cls_tokens": 0}, "num_cls_tokens is 0"),
            ({"d_model": 9}, r"d_model \(9\) is not divisible by nhead \(2\)"),
            ({"num_layers": 0}, "num_layers is 0"),
            ({"dropout_rate": 1.0}, r"dropout_rate is 1\.0; a share"),
            ({"transformer_dropout": -0.1}, r"transformer_dropout is -0\.1"),
            ({"deep_hidden_dims": 8}, "deep_hidden_dims is 8; a list of widths"),
            ({"deep_hidden_dims": [8, 0]}, "a width of deep_hidden_dims is 0"),
            ({"learning_rate": 0}, "learning_rate is 0; a number above 0"),
            ({"weight_decay": float("nan")}, "weight_decay is nan"),
            ({"lambda_sym": -1}, "lambda_sym is -1"),
            ({"batch_size": 1}, "batch_size is 1; a whole number of at least 2"),
            ({"epochs": 0}, "epochs is 0"),
            ({"seed": -1}, "seed is -1"),
            ({"accelerator": "tpu"}, "accelerator is 'tpu'; one of auto, cpu, gpu, mps"),
        ],
    )
    def test_an_argument(self, data, changes, words):
        with pytest.raises(ValueError, match=words):
            make(CROSS, data, **changes)

    def test_an_input_that_is_not_that_of_the_data_set(self, data):
        with pytest.raises(ValueError, match="input_dim is 12 and the data set has 5 genes; twice that, 10, is needed"):
            CROSS(12, data)
        with pytest.raises(ValueError, match="input_dim is 11; twice the number of genes"):
            FLAT(11)
        with pytest.raises(ValueError, match="region_pair_dataset is NoneType"):
            CROSS(10, None)

    def test_places_that_are_not_there(self):
        blind = RegionPairDataset(**{**arguments(12, 5), "coords": None})
        with pytest.raises(ValueError, match="cls_init='spatial' reads coordinates and the data set has none"):
            make(CROSS, blind, cls_init="spatial")
        placed = make(CROSS, brain(12, 5), cls_init="spatial")
        with pytest.raises(ValueError, match="reads coordinates and the data set has none"):
            placed.fit(blind, [0, 1, 2], [])
        with pytest.raises(ValueError, match="coords are missing; 2 x 6"):
            placed(blind.batch([0, 1])["x"])

    def test_genes_that_no_vector_has(self, data):
        with pytest.raises(ValueError, match="none of the 5 genes of the data set, named like 'G0'"):
            make(CROSS, data, gene_embeddings=vectors(["ENSG1"]))

    @pytest.mark.parametrize("cls", MODELS)
    def test_batches_of_another_shape_or_with_nan(self, data, cls):
        model, batch = make(cls, data), data.batch([0, 1])
        with pytest.raises(ValueError, match=r"x has the shape \(2, 9\); pairs x 10"):
            model(batch["x"][:, :9], batch["coords"])
        with pytest.raises(ValueError, match="x has NaN or infinite values"):
            model(batch["x"].masked_fill(batch["x"] > 0.9 * batch["x"].max(), torch.nan), batch["coords"])

    def test_pairs_that_are_not_there(self, data):
        model = make(CROSS, data)
        with pytest.raises(ValueError, match="train_indices: there is no pair 500"):
            model.fit(data, [0, 500], [])
        with pytest.raises(ValueError, match="test_indices: there is no pair -1"):
            model.fit(data, [0, 1], [-1])
        with pytest.raises(ValueError, match="train_indices has 1 pairs"):
            model.fit(data, [3], [])
        with pytest.raises(ValueError, match="val_indices has 0 pairs"):
            model.fit(data, [0, 1], [], val_indices=[])

    def test_mirror_images_of_directed_pairs(self):
        directed = brain(12, 5, directed=True)
        with pytest.raises(ValueError, match=r"lambda_sym .* Y has a direction"):
            make(CROSS, directed, lambda_sym=0.1).fit(directed, [0, 1], [])

    def test_what_is_no_loader(self, data):
        with pytest.raises(ValueError, match="predict was given RegionPairDataset; a DataLoader"):
            make(CROSS, data).predict(data)

    def test_workers_that_would_do_nothing_are_told(self, data, caplog):
        make(CROSS, data, num_workers=2)
        assert "num_workers is 2: pairs are gathered in memory" in caplog.text
