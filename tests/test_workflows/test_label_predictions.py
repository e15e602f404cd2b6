"""A model that was trained to annotate says itself what cells are, and is scored like any probe."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.eval.base import BenchmarkInputs, Cells
from scmodelforge.hub import load_bundle
from scmodelforge.objectives.collate import collate_for_encoding
from scmodelforge.workflows.evaluation_sets import split_for_evaluation
from scmodelforge.workflows.label_predictions import LabelHead, label_head, predict_labels
from scmodelforge.workflows.prepare import sequential_loader
from scmodelforge.workflows.runfolder import RunFolder
from scmodelforge.workflows.team import Team
from tests.conftest import make_adata
from tests.test_eval.scoring import run as run_benchmark
from tests.test_life_cycle import invoke, settings
from tests.test_models.test_scgpt import made

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Return a run that learned cell types."""
    folder = tmp_path_factory.mktemp("runs")
    make_adata(120, 30).write_h5ad(folder / "cells.h5ad")
    config = settings(folder / "cells.h5ad", folder / "run", training__max_epochs=6, eval__benchmarks=[])
    config["training"]["optimizer"] = {"lr": 1e-2}
    config["model"] = {"architecture": "scdiva", "hidden_dim": 16, "num_layers": 1, "num_heads": 2, "max_seq_len": 24}
    config["model"] |= {"pretraining_task": "cell_type_annotation", "beta": 1e-3}
    config["tokenizer"] = {"strategy": "binned_expression", "max_genes": 24}
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    invoke("train", "--config", folder / "run.yaml")
    return folder / "run"


@pytest.fixture(scope="module")
def bundle(run):
    return load_bundle(run / "model")


@pytest.fixture(scope="module")
def cells(run, bundle):
    """Return the run's data, prepared, and a way to read batches of it."""
    _, config, split, _ = RunFolder.read(run)
    data = replace(split_for_evaluation(config.data, bundle), split=split)

    def batches(positions, size=7):
        loader = sequential_loader(
            data,
            positions,
            collate=lambda tokens: collate_for_encoding(tokens, pad_id=data.vocab.pad_id),
            config=config.data,
            batch_size=size,
            seed=0,
        )
        with loader as opened:
            yield from (batch for group in opened.one_pass() for batch in group)

    return data, batches


class TestHeadOfARun:
    def test_gives_what_the_model_says_of_each_cell(self, bundle, cells):
        data, batches = cells
        positions = data.split.validation
        head = label_head(bundle.model, bundle.model_config, bundle.labels)
        found = predict_labels(head, batches(positions), positions=positions, device=CPU)
        (batch,) = batches(positions, size=len(positions))
        tensors = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
        with torch.no_grad():
            logits = bundle.model.eval()(**tensors, task="annotation").logits
        np.testing.assert_allclose(found.probabilities, logits.softmax(dim=1), atol=1e-5)
        assert found.names.tolist() == ["type0", "type1", "type2"]

    def test_is_scored_on_cells_the_run_held_out(self, bundle, cells):
        data, batches = cells
        head = label_head(bundle.model, bundle.model_config, bundle.labels)
        labels = np.array(make_adata(120, 30).obs["cell_type"])
        places = {"train": data.split.train, "heldout": data.split.validation}
        found = {}
        for name, positions in places.items():
            probabilities = Team.alone(CPU).embed(
                head, lambda some: nullcontext(batches(some)), positions=positions, batch_size=7, device=CPU
            )
            found[name] = Cells(probabilities, labels[positions], positions=positions)
        inputs = BenchmarkInputs("cells", **found, label_key="cell_type")
        inputs = replace(inputs, predictions=head.predictions(found["heldout"].embeddings))
        record = run_benchmark("cell_type_annotation", inputs, min_class_size=1)["accuracy_head"]
        assert record.n == len(data.split.validation)
        assert record.value > 0.6
        assert record.baselines["majority"] < 0.55

    def test_needs_the_names_it_was_trained_with(self, bundle, cells):
        _, batches = cells
        head = LabelHead(bundle.model, ["type0", "type1"])
        with pytest.raises(DataError, match="scores 3 cell types and 2 are named"):
            predict_labels(head, batches(np.arange(4)), positions=np.arange(4), device=CPU)

    def test_leaves_the_model_in_the_mode_it_was_in(self, bundle, cells):
        _, batches = cells
        bundle.model.train()
        predict_labels(LabelHead(bundle.model, "abc"), batches(np.arange(4)), positions=np.arange(4), device=CPU)
        assert bundle.model.training
        bundle.model.eval()


class TestWhichModelsHaveOne:
    def test_one_that_did_not_learn_types_has_none(self, bundle):
        config = bundle.model_config.model_copy(update={"pretraining_task": "masked_value_prediction"})
        assert bundle.model.annotation_head is not None  # but without training
        assert label_head(bundle.model, config, bundle.labels) is None

    def test_one_whose_labels_have_no_names_has_none(self, bundle):
        assert label_head(bundle.model, bundle.model_config, {}) is None

    def test_scgpt_has_the_one_it_learns_with(self, dummy_batch):
        model = made(cls_weight=2.0, num_cell_types=3, l2_embeddings=True).eval()
        cells = {name: dummy_batch[name] for name in ("input_ids", "attention_mask", "values")}
        types = torch.tensor([0, 2, 1, 1])
        nothing = torch.full_like(cells["input_ids"], -100)
        with torch.no_grad():
            scores = model.score_cell_types(**cells)
            terms = model(**cells, labels=nothing, targets=cells["values"], cell_types=types).loss_terms
        expected = 2 * torch.nn.functional.cross_entropy(scores, types)
        assert terms["cls"].item() == pytest.approx(expected.item(), rel=1e-5)
        assert label_head(model, model.config, {"categories": ["a", "b", "c"]}).names.tolist() == ["a", "b", "c"]

    def test_scgpt_without_one_says_so(self, dummy_batch):
        model = made()
        assert label_head(model, model.config, {"categories": ["a"]}) is None
        with pytest.raises(ConfigError, match=r"no head for cell types \(model.cls_weight is 0\)"):
            model.score_cell_types(dummy_batch["input_ids"], dummy_batch["attention_mask"])
