"""Published folders become whole models, or are refused with what is wrong with them."""

from __future__ import annotations

import hashlib
import logging
import pickle
from pathlib import Path

import pytest
import torch

from scmodelforge._errors import ConfigError, DataError
from scmodelforge._registry import IMPORTERS
from scmodelforge.hub.bundle import load_bundle, save_bundle
from scmodelforge.hub.extend import extend_vocabulary
from scmodelforge.hub.importers.base import LoadReport, find_importer
from scmodelforge.hub.load import import_published
from scmodelforge.hub.locate import Located
from tests.test_models.test_published import test_geneformer, test_scgpt

from .published_folders import bundle_batch, write_geneformer, write_scgpt

WRITE = {"geneformer": write_geneformer, "scgpt": write_scgpt}
WEIGHTS = {"geneformer": "model.safetensors", "scgpt": "best_model.pt"}
HEAD = {"geneformer": "cls.", "scgpt": "decoder."}


@pytest.fixture(params=sorted(WRITE))
def kind(request) -> str:
    return request.param


def published(kind: str) -> dict[str, torch.Tensor]:
    return {"geneformer": test_geneformer.published, "scgpt": test_scgpt.published}[kind]()


def without(kind: str, *starts: str) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in published(kind).items() if not name.startswith(starts)}


def load(kind: str, folder: Path, **options):
    return IMPORTERS.get(kind)().load(folder, **options)


def outputs(bundle) -> list[torch.Tensor]:
    batch = bundle_batch(bundle)
    with torch.no_grad():
        out = bundle.model(**batch, output_hidden_states=True)
        return [bundle.model.encode(**batch), out.logits, out.embeddings, *out.hidden_states]


class TestReport:
    def test_it_is_told_in_words(self):
        names = [f"head.{number}" for number in range(5)]
        report = LoadReport(["body.a", "body.b"], missing=names, unexpected=["pooler.a"], reshaped=["body.b"])
        assert report.lines() == [
            "weights read: 2, of these put into another form: 1",
            "missing, as they were drawn: 5 (head.0, head.1, head.2 and 2 more)",
            "left over: 1 (pooler.a)",
        ]

    @pytest.mark.parametrize(
        ("report", "words"),
        [
            (LoadReport([], missing=["body.a", "head.a"], body=("body.",)), r"the body .* not read: body\.a missing;"),
            (LoadReport(["body.a"], unexpected=["body.b"], body=("body.",)), r"was not read: body\.b left over; take"),
            (
                LoadReport(["body.a", "head.a"], missing=["head.b"], body=("body.",)),
                r"a head is there in part: head\.b missing; take all files of one model",
            ),
            (LoadReport(["head.a"], unexpected=["head.b"], body=("body.",)), r"in part: head\.b left over"),
        ],
    )
    def test_what_is_refused(self, report, words):
        with pytest.raises(DataError, match=rf"^file: .*{words}"):
            report.check("file")

    def test_missing_heads_are_warned_of_and_other_heads_are_nothing(self, caplog):
        for report in (
            LoadReport(["body.a"], unexpected=["pooler.a"], body=("body.",)),
            LoadReport(["body.a"], missing=["head.a", "head.b", "more.a"], body=("body.",)),
        ):
            assert caplog.text == ""
            report.check("file")
            report.warn("file")
        assert "file has no weights of head, more (3): what these predict means nothing" in caplog.text


class TestEach:
    def test_it_is_recognised(self, tmp_path, kind):
        name, importer = find_importer(WRITE[kind](tmp_path))
        assert (name, type(importer)) == (kind, IMPORTERS.get(kind))

    def test_all_that_a_model_needs_is_there(self, tmp_path, kind):
        folder = WRITE[kind](tmp_path / "theirs")
        imported = load(kind, folder)
        bundle = imported.bundle
        assert imported.report.missing == imported.report.unexpected == []
        assert sorted(imported.report.matched) == sorted(published(kind))
        assert len(bundle.vocab) == bundle.model_config.vocab_size == 23
        assert bundle.tokenizer.vocab is bundle.vocab
        assert bundle.preprocessor.scale == "counts"
        assert not bundle.model.training

    def test_where_it_comes_from(self, tmp_path, kind):
        folder = WRITE[kind](tmp_path / "theirs")
        facts = load(kind, folder).bundle.fingerprint
        files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
        origin = facts["imported_from"]
        assert (origin["importer"], origin["folder"]) == (kind, "theirs")
        assert origin["files"] | origin.get("dictionaries", {}) == files
        (folder / WEIGHTS[kind]).rename(tmp_path / "old")
        WRITE[kind](folder, {name: weight * 2 for name, weight in published(kind).items()})
        assert load(kind, folder).bundle.fingerprint["config_hash"] != facts["config_hash"]

    def test_saved_and_loaded_it_gives_the_same_numbers(self, tmp_path, kind):
        bundle = load(kind, WRITE[kind](tmp_path / "theirs")).bundle
        save_bundle(tmp_path / "first", bundle, card="")
        again = load_bundle(tmp_path / "first")
        save_bundle(tmp_path / "second", again, card="")
        for other in (again, load_bundle(tmp_path / "second")):
            assert all(torch.equal(a, b) for a, b in zip(outputs(bundle), outputs(other), strict=True))
            assert (other.vocab.digest(), other.fingerprint, other.objective) == (
                bundle.vocab.digest(),
                bundle.fingerprint,
                bundle.objective,
            )
            assert other.tokenizer.to_dict() == bundle.tokenizer.to_dict()
        assert (tmp_path / "first/model.safetensors").read_bytes() == (
            tmp_path / "second/model.safetensors"
        ).read_bytes()

    def test_it_learns_of_new_genes(self, tmp_path, kind):
        bundle = load(kind, WRITE[kind](tmp_path / "theirs")).bundle
        more = extend_vocabulary(bundle, ["ENSG00000000419", "ENSG00000000457"])
        assert torch.equal(more.model.encode(**bundle_batch(bundle)), bundle.model.encode(**bundle_batch(bundle)))
        save_bundle(tmp_path / "ours", more, card="")
        again = load_bundle(tmp_path / "ours")
        assert len(again.vocab) == 25
        found = again.tokenizer.tokenize([5.0, 2.0], ["ENSG00000000457", bundle.vocab.genes[3]])["input_ids"]
        assert {*again.vocab.map(["ENSG00000000457", bundle.vocab.genes[3]])} <= {*found.tolist()}

    def test_a_missing_head_is_told_of_and_changes_no_embedding(self, tmp_path, kind, caplog):
        whole = load(kind, WRITE[kind](tmp_path / "whole")).bundle
        folder = WRITE[kind](tmp_path / "bare", without(kind, HEAD[kind]))
        with caplog.at_level(logging.WARNING):
            _, imported = import_published(Located(folder, str(folder)))
        assert caplog.text.count(f"has no weights of {HEAD[kind][:-1]} (") == 1
        assert imported.report.missing == sorted(n for n in published(kind) if n.startswith(HEAD[kind]))
        assert torch.equal(outputs(imported.bundle)[0], outputs(whole)[0])
        again = outputs(load(kind, folder).bundle)  # the head is drawn alike
        assert all(torch.equal(a, b) for a, b in zip(outputs(imported.bundle), again, strict=True))

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"geneformer": ("bert.encoder.layer.1.",), "scgpt": ("transformer_encoder.layers.1.",)}, "body"),
            ({"geneformer": ("bert.embeddings.token_type",), "scgpt": ("encoder.enc_norm.bias",)}, "body"),
            ({"geneformer": ("bert.",), "scgpt": ("encoder.", "value_", "transformer_", "flag_")}, "body"),
            ({"geneformer": ("cls.predictions.bias",), "scgpt": ("decoder.fc.4.bias",)}, "a head is there in part"),
        ],
    )
    def test_a_missing_body_or_part_of_a_head_is_refused(self, tmp_path, kind, change, words):
        folder = WRITE[kind](tmp_path, without(kind, *change[kind]))
        with pytest.raises(DataError, match=rf"{WEIGHTS[kind]}: .*{words}.* missing; take all files of one") as refused:
            load(kind, folder)
        assert "\n" not in str(refused.value)

    def test_checksums_are_compared_before_anything_is_read(self, tmp_path, kind):
        folder = WRITE[kind](tmp_path)
        right = {WEIGHTS[kind]: hashlib.sha256((folder / WEIGHTS[kind]).read_bytes()).hexdigest()}
        load(kind, folder, sha256=right)
        for path in folder.iterdir():
            path.write_bytes(b"nothing that could be read")
        words = rf"{WEIGHTS[kind]} is not the published file: its sha256 is {'[0-9a-f]' * 12}\.\.\., not"
        with pytest.raises(DataError, match=words):
            load(kind, folder, sha256=right)
        with pytest.raises(DataError, match=r"more\.bin is not the published file: no such file"):
            load(kind, folder, sha256={"more.bin": "0" * 64})

    def test_files_that_are_damaged_are_refused(self, tmp_path, kind):
        folder = WRITE[kind](tmp_path)
        for path in sorted(folder.iterdir()):
            whole = path.read_bytes()
            for content in (whole[: len(whole) // 2], b"", b"\x80\x04" + bytes(40)):
                path.write_bytes(content)
                with pytest.raises(DataError, match=path.name) as refused:
                    load(kind, folder)
                assert "\n" not in str(refused.value)
            path.write_bytes(whole)
        load(kind, folder)

    def test_weights_that_are_missing_are_refused(self, tmp_path, kind):
        folder = WRITE[kind](tmp_path)
        (folder / WEIGHTS[kind]).unlink()
        with pytest.raises(DataError, match=rf"{WEIGHTS[kind]}"):
            load(kind, folder)

    def test_code_in_weights_is_not_run(self, tmp_path, kind, capsys):
        folder = WRITE[kind](tmp_path)
        for pack in (torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))):
            pack({**published(kind), "more": _Runs()}, folder / WEIGHTS[kind])
            with pytest.raises(DataError, match="damaged, or no weights"):
                load(kind, folder)
        assert capsys.readouterr().out == ""


class _Runs:
    def __reduce__(self):
        return (print, ("this code must not run",))


class TestFinding:
    def test_importers_are_found_by_name_or_by_what_they_recognise(self, tmp_path):
        assert find_importer(tmp_path, "scgpt")[0] == "scgpt"
        with pytest.raises(ConfigError, match=r"unknown importer 'scgptt'\. Did you mean 'scgpt'\? There are: gene"):
            find_importer(tmp_path, "scgptt")
        with pytest.raises(
            DataError, match=r"nor of a published model that can be imported \(gene.*\): it is empty; give"
        ):
            find_importer(tmp_path)
