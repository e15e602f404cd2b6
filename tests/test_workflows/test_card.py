"""Cards of models: what they say, that hubs can read it, and that what someone wrote is not lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from scmodelforge.eval.base import Record
from scmodelforge.hub import save_bundle
from scmodelforge.workflows.card import model_card
from scmodelforge.workflows.card_metadata import licence_fields
from scmodelforge.workflows.card_text import body_of, is_edited, kept_scores, stated_licence, with_licence
from tests.test_hub.test_bundle import make_bundle

SCORES = [
    Record("cell_type_annotation", "heldout", "model", "accuracy_knn15", 0.8, interval=[0.78, 0.82], n=40),
    Record("cell_type_annotation", "heldout", "pca", "accuracy_knn15", 0.9, interval=[0.88, 0.92], n=40),
    Record("cell_type_annotation", "heldout", "model", "kappa_knn15", 0.7, n=40, is_detail=True),
    Record("cell_type_annotation", "heldout", "model", "macro_f1_knn15", None, n=40, skipped_reason="no reason"),
]
FACTS = {
    "config_hash": "c" * 64,
    "split_hash": "5" * 64,
    "step": 1200,
    "data": [{"name": "lung.h5ad", "cells": 5000, "genes": 20000, "sha256": "a" * 64}],
    "num_train": 4000,
    "num_validation": 1000,
    "num_empty": 3,
    "num_dropped": 7,
}


def bundle_with(**facts):
    bundle = make_bundle()
    bundle.fingerprint = {**FACTS, **facts}
    return bundle


def saved(folder: Path, card: str = "", **facts) -> Path:
    bundle = bundle_with(**facts)
    save_bundle(folder, bundle, card=card or model_card(bundle))
    return folder


def run_with_scores(tmp_path: Path) -> Path:
    saved(tmp_path / "run/model")
    (tmp_path / "run/run.json").write_text("{}")
    lines = [json.dumps(each.to_dict()) + "\n" for each in SCORES]
    (tmp_path / "run/exported_results.jsonl").write_text("".join(lines))
    return tmp_path / "run"


def invoke(*words, code: int = 0):
    result = CliRunner().invoke(app, ["hub", "card", *map(str, words)])
    assert result.exit_code == code, result.output
    return result


class TestWhatItSays:
    def test_data_with_their_fingerprint(self):
        card = model_card(bundle_with())
        assert "| lung.h5ad | 5,000 | 20,000 | `aaaaaaaaaaaaaaaa` |" in card
        assert "4,000 cells trained on, 1,000 held out, 3 without a known gene,\n7 outside the limits" in card
        assert f"settings `{'c' * 16}`, split `{'5' * 16}`" in card

    def test_scores_beside_baselines_with_intervals(self):
        card = model_card(bundle_with(), records=SCORES)
        row = (
            "| eval/cell_type_annotation/heldout/accuracy_knn15 | 0.800 [0.780, 0.820] | 0.900* [0.880, 0.920] | pca |"
        )
        assert row in card
        assert "kappa_knn15" not in card

    def test_how_it_is_used_by_its_address(self):
        card = model_card(bundle_with(), address="hf://me/lung")
        assert 'smf.tl.embed(adata, "hf://me/lung")' in card
        assert "--model hf://me/lung\n" in card

    def test_code_of_its_own_is_named(self):
        bundle = bundle_with()
        bundle.plugins = ["somewhere/own_model.py"]
        card = model_card(bundle)
        assert "trust_plugins=True" in card
        assert "--trust-plugins" in card
        assert "read `own_model.py` before you trust it" in card
        assert "somewhere" not in card

    def test_what_is_hidden_and_held_out(self):
        card = model_card(bundle_with(repeated_cells={"found": 9, "checked": 900}))
        assert "Objective `masked_gene_prediction`: Hide genes and ask which they were." in card
        assert "Each gene is hidden with probability 0.15 (mode `gene`)." in card
        assert "Held out from training: 1,000 cells (20%)." in card
        assert "Of these 9 of 900 looked for are training cells as well." in card
        assert "No cell was held out" in model_card(bundle_with(num_validation=0))

    def test_preprocessing_that_the_model_does_itself(self):
        assert "Done by the model itself: normalize library_size, target_sum 10000.0." in model_card(bundle_with())

    def test_that_a_score_chose_the_step(self):
        record = Record(**{**SCORES[0].to_dict(), "params": {"chosen_by": "eval/a/heldout/b"}})
        assert "`eval/a/heldout/b` was exported, so that this score is too good" in model_card(
            bundle_with(), records=[record]
        )

    def test_no_licence_unless_one_is_stated(self):
        card = model_card(bundle_with())
        assert stated_licence(card) is None
        assert "None is stated: ask those who made the model" in card

    def test_what_is_known_of_published_weights(self):
        published = {
            "importer": "geneformer", "title": "A published model", "licence": "Apache-2.0", "citation": "10.1000/1",
            "repository": "them/model", "files": {"model.safetensors": "b" * 64}, "species": ["human"],
        }  # fmt: skip
        bundle = make_bundle()
        bundle.fingerprint = {"imported_from": published}
        card = model_card(bundle)
        fields = ModelCard(card).data
        assert (fields.license, fields.base_model) == ("apache-2.0", "them/model")
        assert "# A published model\n\nPublished by others; imported with scModelForge" in card
        assert f"| model.safetensors | `{'b' * 64}` |" in card
        assert "doi:10.1000/1" in card


class TestMetadata:
    def test_the_base_model_of_a_fine_tuned_one(self):
        own = {"task": "regression", "adaptation": "full", "base": "hf://them/model@v1", "trained_parameters": 10}
        card = model_card(bundle_with(fine_tuned_from="a@1", fine_tuning={**own, "base_repository": "them/model"}))
        assert ModelCard(card).data.base_model == "them/model"
        assert "Fine-tuned from hf://them/model@v1 (model a@1) for regression" in card
        assert "scmodelforge predict cells.h5ad numbers.h5ad" in card
        assert (
            getattr(ModelCard(model_card(bundle_with(fine_tuned_from="a@1", fine_tuning=own))).data, "base_model", None)
            is None
        )

    def test_is_read_by_the_hubs_own_parser(self):
        fields = ModelCard(model_card(bundle_with(), records=SCORES, licence="mit")).data
        assert fields.library_name == "scmodelforge"
        assert {"single-cell", "transformer_encoder"} <= set(fields.tags)
        assert fields.license == "mit"
        (result,) = fields.eval_results
        assert (result.task_type, result.metric_type, result.metric_value) == (
            "cell-type-annotation",
            "accuracy_knn15",
            0.8,
        )
        assert result.dataset_name == "held-out cells of lung.h5ad"

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("Apache-2.0", {"license": "apache-2.0"}),
            ("My Lab's Terms 2", {"license": "other", "license_name": "my-lab-s-terms-2"}),
            (None, {}),
        ],
    )
    def test_of_licences(self, given, expected):
        assert licence_fields(given) == expected


class TestEditedCards:
    def test_are_told_from_those_that_were_made(self):
        card = model_card(bundle_with())
        assert not is_edited(card)
        assert is_edited(card.replace("Limits", "limits"))
        assert is_edited("# Mine\n")
        assert is_edited("")

    def test_a_licence_is_put_into_one_without_touching_the_rest(self):
        assert with_licence("# Mine\n\nWords.\n", "mit") == "---\nlicense: mit\n---\n\n# Mine\n\nWords.\n"
        card = with_licence("---\ntags: [a]\nlicense: other\nlicense_name: x\n---\n\n# Mine\n", "mit")
        assert yaml.safe_load(card.split("---\n")[1]) == {"license": "mit", "tags": ["a"]}
        assert card.endswith("---\n\n# Mine\n")

    def test_damaged_metadata_are_no_metadata(self):
        assert stated_licence("---\na: [\n---\n# Mine\n") is None
        assert kept_scores("---\na: [\n---\n# Mine\n") is None

    def test_the_body_has_neither_metadata_nor_checksum(self):
        body = body_of(model_card(bundle_with()))
        assert body.startswith("# transformer_encoder")
        assert "sha256 " not in body.splitlines()[-1]


class TestCommand:
    def test_prints_the_card_of_a_run_with_its_scores_and_writes_nothing(self, tmp_path):
        run = run_with_scores(tmp_path)
        before = (run / "model/README.md").read_bytes()
        assert "0.800 [0.780, 0.820]" in invoke(run).stdout
        assert (run / "model/README.md").read_bytes() == before

    def test_renews_the_card_of_a_run(self, tmp_path):
        run = run_with_scores(tmp_path)
        invoke(run, "--write", "--licence", "cc-by-4.0")
        card = (run / "model/README.md").read_text()
        assert card == invoke(run).stdout
        assert stated_licence(card) == "cc-by-4.0"

    def test_scores_and_licence_that_are_only_in_the_card_stay(self, tmp_path):
        run = run_with_scores(tmp_path)
        invoke(run, "--write", "--licence", "my terms")
        (run / "exported_results.jsonl").unlink()
        card = invoke(run / "model").stdout
        assert card == (run / "model/README.md").read_text()
        assert len(ModelCard(card).data.eval_results) == 1

    def test_an_edited_card_is_not_replaced_unasked(self, tmp_path):
        folder = saved(tmp_path / "model", card="# Mine\n")
        result = invoke(folder, "--write", code=2)
        assert "README.md was edited, and would be made anew; keep it, or replace it with --force." in result.stderr
        assert (folder / "README.md").read_text() == "# Mine\n"
        invoke(folder, "--write", "--force")
        assert not is_edited((folder / "README.md").read_text())

    def test_what_cannot_be_written_is_refused(self, tmp_path):
        assert "only the card of a folder on this machine" in invoke("hf://me/toy", "--write", code=2).stderr
        (tmp_path / "empty").mkdir()
        assert "is no model folder of ours, nor a run folder" in invoke(tmp_path / "empty", code=2).stderr
        assert "no such folder" in invoke(tmp_path / "nothing", code=2).stderr
