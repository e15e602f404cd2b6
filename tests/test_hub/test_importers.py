"""Published folders become whole models, or are refused with what is wrong with them."""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from scmodelforge._errors import ConfigError, DataError
from scmodelforge._registry import IMPORTERS
from scmodelforge.hub.bundle import load_bundle, save_bundle
from scmodelforge.hub.importers import geneformer
from scmodelforge.hub.importers.base import LoadReport, find_importer
from scmodelforge.tokenizers import presets
from scmodelforge.tokenizers.dictionaries import GeneformerRelease, Published
from scmodelforge.workflows.dictionaries import fetch_dictionaries
from tests.test_models.test_published import test_geneformer, test_scgpt
from tests.test_tokenizers.small_dictionaries import write_pickles, write_tables

from .published_folders import GENES, MEDIANS, TOKENS, bundle_batch, write_geneformer, write_scgpt

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
        LoadReport(["body.a"], unexpected=["pooler.a"], body=("body.",)).check("file")
        assert caplog.text == ""
        LoadReport(["body.a"], missing=["head.a", "head.b", "more.a"], body=("body.",)).check("file")
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

    def test_a_missing_head_is_told_of_and_changes_no_embedding(self, tmp_path, kind, caplog):
        whole = load(kind, WRITE[kind](tmp_path / "whole")).bundle
        folder = WRITE[kind](tmp_path / "bare", without(kind, HEAD[kind]))
        with caplog.at_level(logging.WARNING):
            imported = load(kind, folder)
        assert f"has no weights of {HEAD[kind][:-1]} (" in caplog.text
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


class TestGeneformer:
    def test_genes_are_ranked_by_counts_over_medians(self, tmp_path):
        bundle = load("geneformer", write_geneformer(tmp_path)).bundle
        counts = np.zeros(len(GENES) + 1)
        counts[[3, 7, 11]] = [4, 5, 9]
        ranked = sorted((3, 7, 11), key=lambda gene: -counts[gene] / MEDIANS[GENES[gene]])
        found = bundle.tokenizer.tokenize(counts, [*GENES, "ENSG00000000099"])["input_ids"]
        assert found.tolist() == [TOKENS["<cls>"], *(TOKENS[GENES[gene]] for gene in ranked), TOKENS["<eos>"]]
        assert bundle.tokenizer.config.max_genes == 10  # as many as the model has positions
        assert bundle.objective == "masked_gene_prediction"

    def test_cells_are_means_over_genes_after_the_layer_before_the_last(self, tmp_path):
        bundle = load("geneformer", write_geneformer(tmp_path)).bundle
        batch = bundle_batch(bundle)
        with torch.no_grad():
            states = bundle.model(**batch, output_hidden_states=True).hidden_states[-2]
            found = bundle.model.encode(**batch)
        for row, length in enumerate(batch["attention_mask"].sum(1)):
            torch.testing.assert_close(found[row], states[row, 1 : length - 1].mean(0))

    def test_the_first_version_has_neither_cls_nor_eos(self, tmp_path):
        folder = write_geneformer(tmp_path)
        tokens = {token: number for number, token in enumerate(["<pad>", "<mask>", "A", "B", *GENES])}
        (folder / "token_dictionary.json").write_text(json.dumps(tokens))
        (folder / "gene_median_dictionary.json").write_text(json.dumps(MEDIANS | {"A": 1.0, "B": 2.0}))
        bundle = load("geneformer", folder).bundle
        assert bundle.tokenizer.tokenize([1.0, 3.0], ["A", "B"])["input_ids"].tolist() == [tokens["B"], tokens["A"]]

    def test_a_model_saved_without_a_head_is_read(self, tmp_path):
        whole = load("geneformer", write_geneformer(tmp_path / "whole")).bundle
        bare = {name.removeprefix("bert."): weight for name, weight in without("geneformer", "cls.").items()}
        bare |= {"pooler.dense.weight": torch.ones(8, 8), "pooler.dense.bias": torch.ones(8)}
        imported = load("geneformer", write_geneformer(tmp_path / "bare", bare, architectures=["BertModel"]))
        assert imported.report.unexpected == ["bert.pooler.dense.bias", "bert.pooler.dense.weight"]
        assert torch.equal(outputs(imported.bundle)[0], outputs(whole)[0])

    def test_other_layers_and_unknown_weights_are_refused(self, tmp_path):
        with pytest.raises(DataError, match=r"13 more unknown; a BertForMaskedLM with 1 layers"):
            load("geneformer", write_geneformer(tmp_path / "a", num_hidden_layers=1))
        with pytest.raises(DataError, match=r"odd\.weight unknown; a BertForMaskedLM"):
            load(
                "geneformer", write_geneformer(tmp_path / "b", published("geneformer") | {"odd.weight": torch.ones(1)})
            )

    def test_classifiers_of_cells_and_other_folders_are_not_recognised(self, tmp_path):
        importer = IMPORTERS.get("geneformer")()
        folder = write_geneformer(tmp_path, architectures=["BertForSequenceClassification"])
        assert not importer.recognises(folder)
        for content in ('{"model_type": "gpt2"}', "{}", "no JSON", "[]"):
            (folder / "config.json").write_text(content)
            assert not importer.recognises(folder)
        assert not importer.recognises(tmp_path / "nothing")

    def test_dictionaries_may_be_pickles_in_another_folder(self, tmp_path):
        folder, place = write_geneformer(tmp_path / "model", with_dictionaries=False), tmp_path / "dictionaries"
        place.mkdir()
        (place / "token_dictionary.pkl").write_bytes(pickle.dumps(TOKENS))
        (place / "gene_median_dictionary.pkl").write_bytes(pickle.dumps(MEDIANS))
        mapping = {**{gene: gene for gene in GENES}, "ENSG00000000099": GENES[4], "OTHER": "ENSG00000000098"}
        (place / "ensembl_mapping_dict.pkl").write_bytes(pickle.dumps(mapping))
        bundle = load("geneformer", folder, dictionaries=place).bundle
        found = bundle.tokenizer.tokenize([1.0, 2.0], ["ENSG00000000099", "OTHER"])["input_ids"]
        assert found.tolist() == [2, TOKENS[GENES[4]], 3]
        (place / "gene_median_dictionary.pkl").write_bytes(pickle.dumps({**MEDIANS, GENES[0]: _Runs()}))
        with pytest.raises(DataError, match=r"gene_median_dictionary\.pkl"):
            load("geneformer", folder, dictionaries=place)

    @pytest.mark.parametrize(
        ("tokens", "medians", "words"),
        [
            ({t: i for t, i in TOKENS.items() if i < 22}, MEDIANS, "weights have 23 tokens and the dictionaries 22"),
            (TOKENS, {GENES[0]: 1.0}, r"has no median above 0 \(18 such\)"),
            (TOKENS, MEDIANS | {GENES[0]: "1"}, "holds something else than numbers"),
            (TOKENS | {GENES[0]: 4.5}, MEDIANS, "holds something else than numbers"),
            ({t: i + 1 for t, i in TOKENS.items()}, MEDIANS, "token ids of geneformer are not 0, 1, 2"),
            ({t.replace("<eos>", "<end>"): i for t, i in TOKENS.items()}, MEDIANS, "it is of another version"),
        ],
    )
    def test_dictionaries_that_are_not_those_of_the_weights(self, tmp_path, tokens, medians, words):
        folder = write_geneformer(tmp_path)
        (folder / "token_dictionary.json").write_text(json.dumps(tokens))
        (folder / "gene_median_dictionary.json").write_text(json.dumps(medians))
        with pytest.raises(DataError, match=words):
            load("geneformer", folder)

    def test_numbers_of_tokens_that_no_release_has(self, tmp_path):
        folder = write_geneformer(tmp_path, with_dictionaries=False)
        words = r"have 23 tokens, which no release has: 25,426 \(geneformer-v1\), 20,275 \(geneformer-v2\)\. Put the"
        with pytest.raises(DataError, match=words):
            load("geneformer", folder)

    def test_models_with_other_medians_are_told_of(self, tmp_path, caplog):
        config = geneformer.read_geneformer_config(write_geneformer(tmp_path, vocab_size=20_275, hidden_size=896))
        with pytest.raises(DataError, match="20,275 tokens and the dictionaries 16"):
            geneformer.geneformer_tokenizer(tmp_path / "model", config, dictionaries=write_tables(tmp_path / "tables"))
        assert "models of width 896 with 20,275 tokens were published in 2024 with other medians" in caplog.text


class TestReleases:
    @pytest.fixture(autouse=True)
    def _small_releases(self, tmp_path, monkeypatch):
        """Let there be two releases, of 16 and 14 tokens."""
        monkeypatch.setenv("SCMODELFORGE_CACHE", str(tmp_path / "cache"))
        second = write_pickles(tmp_path / "v2")
        none = [Published(f"{name}_gc30M.pkl", "", "0" * 64) for name in ("a", "b", "c", "d")]
        write_tables(tmp_path / "v1", "V1")
        for release, version in ((GeneformerRelease("small-v1", "V1", *none), "V1"), (second, "V2")):
            preset = presets.geneformer(release, presets.GENEFORMER_SETTINGS[version], compat="geneformer_v1")
            monkeypatch.setitem(presets.PRESETS, preset.name, preset)
        monkeypatch.setattr(geneformer, "_RELEASES", {14: "small-v1", 16: "small-v2"})

    def folder(self, tmp_path, num_tokens):
        weights = published("geneformer")
        for name in (test_geneformer.WORDS, "cls.predictions.bias"):
            weights[name] = weights[name][:num_tokens]
        return write_geneformer(tmp_path / "model", weights, with_dictionaries=False, vocab_size=num_tokens)

    def test_the_number_of_tokens_decides(self, tmp_path):
        for num_tokens, place, special in ((14, "v1", 2), (16, "v2", 4)):
            bundle = load("geneformer", self.folder(tmp_path, num_tokens), dictionaries=tmp_path / place).bundle
            assert list(bundle.vocab.special_tokens) == ["<pad>", "<mask>", "<cls>", "<eos>"][:special]
            assert bundle.tokenizer.config.max_genes == 10
            files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / place).iterdir()}
            assert bundle.fingerprint["imported_from"]["dictionaries"] == files

    def test_dictionaries_that_were_fetched_or_are_beside_the_weights_are_found(self, tmp_path):
        folder = self.folder(tmp_path, 16)
        words = "of small-v2 are not on this machine; fetch them with: scmodelforge tokenizer fetch small-v2 --from hub"
        with pytest.raises(DataError, match=words):
            load("geneformer", folder)
        fetch_dictionaries("small-v2", str(tmp_path / "v2"))
        assert len(load("geneformer", folder).bundle.vocab) == 16
        (tmp_path / "cache").rename(tmp_path / "elsewhere")
        write_pickles(folder)
        assert len(load("geneformer", folder).bundle.vocab) == 16

    def test_those_of_another_release_are_refused(self, tmp_path):
        folder = self.folder(tmp_path, 16)
        words = r"v1 has the dictionaries of small-v1, and the weights in .*model are of small-v2; take both from one"
        with pytest.raises(DataError, match=words):
            load("geneformer", folder, dictionaries=tmp_path / "v1")
        with pytest.raises(DataError, match="does not hold the dictionaries of small-v2"):
            load("geneformer", folder, dictionaries=tmp_path)


class TestScGPT:
    def test_bins_are_those_of_the_cell_and_drawn_by_nobody(self, tmp_path):
        bundle = load("scgpt", write_scgpt(tmp_path)).bundle
        genes = ["GENE3", "GENE5", "GENE9", "NONE"]
        cells = [bundle.tokenizer.tokenize([7.0, 1.0, 3.0, 9.0], genes, key=key) for key in range(2)]
        # 50 quantiles of 1, 3, 7: the least is in bin 1, the middle one in 25, the largest in 50, of which it has all
        assert dict(zip(cells[0]["input_ids"].tolist(), cells[0]["values"].tolist(), strict=True)) == {
            test_scgpt.VOCAB["<cls>"]: -2.0,
            test_scgpt.VOCAB["GENE3"]: 50.0,
            test_scgpt.VOCAB["GENE5"]: 1.0,
            test_scgpt.VOCAB["GENE9"]: 25.0,
        }
        assert np.array_equal(cells[0]["values"], cells[1]["values"])
        assert bundle.tokenizer.config.max_genes == 30
        assert bundle.objective == "generative_value_prediction"

    def test_without_the_flag_of_values_to_generate_values_are_hidden(self, tmp_path):
        bundle = load("scgpt", write_scgpt(tmp_path, without("scgpt", "flag_encoder."))).bundle
        assert bundle.objective == bundle.model_config.pretraining_task == "masked_value_prediction"

    def test_a_vocabulary_of_another_release_is_refused(self, tmp_path):
        folder = write_scgpt(tmp_path, vocab={**test_scgpt.VOCAB, "MORE": 23})
        with pytest.raises(DataError, match=r"embedding\.weight \(23, 8\), not \(24, 8\)"):
            load("scgpt", folder)

    def test_weights_that_are_of_no_part_are_refused(self, tmp_path):
        folder = write_scgpt(tmp_path, published("scgpt") | {"sim.weight": torch.ones(2)})
        with pytest.raises(DataError, match=r"unexpected: sim\.weight\. Take all files of one model"):
            load("scgpt", folder)

    def test_a_head_that_the_settings_do_not_know_in_full_is_refused(self, tmp_path):
        folder = write_scgpt(tmp_path, test_scgpt.published(classes=3), n_layers_cls=2)
        with pytest.raises(DataError, match=r"a head is there in part: cls_decoder\._decoder\.3\.bias, .* left over"):
            load("scgpt", folder)


class TestFinding:
    def test_importers_are_found_by_name_or_by_what_they_recognise(self, tmp_path):
        assert find_importer(tmp_path, "scgpt")[0] == "scgpt"
        with pytest.raises(ConfigError, match=r"unknown importer 'scgptt'\. Did you mean 'scgpt'\? There are: gene"):
            find_importer(tmp_path, "scgptt")
        with pytest.raises(DataError, match=r"no published model that is known here; there are importers for gene"):
            find_importer(tmp_path)
