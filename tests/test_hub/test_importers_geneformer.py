"""A published Geneformer becomes a whole model: tokens, dictionaries of its release, embeddings of cells."""

from __future__ import annotations

import hashlib
import json
import pickle

import numpy as np
import pytest
import torch

from scmodelforge._errors import DataError
from scmodelforge.hub.importers import geneformer
from scmodelforge.hub.importers.geneformer import GeneformerImporter
from scmodelforge.tokenizers import presets
from scmodelforge.tokenizers.dictionaries import GeneformerRelease, Published
from scmodelforge.workflows.dictionaries import fetch_dictionaries
from tests.test_models.test_published.test_geneformer import WORDS, published
from tests.test_tokenizers.small_dictionaries import write_pickles, write_tables

from .published_folders import GENES, MEDIANS, TOKENS, bundle_batch, write_geneformer


def load(folder, **options):
    return GeneformerImporter().load(folder, **options)


def embeddings(bundle) -> torch.Tensor:
    with torch.no_grad():
        return bundle.model.encode(**bundle_batch(bundle))


class _Runs:
    def __reduce__(self):
        return (print, ("this code must not run",))


class TestModels:
    def test_genes_are_ranked_by_counts_over_medians(self, tmp_path):
        bundle = load(write_geneformer(tmp_path)).bundle
        counts = np.zeros(len(GENES) + 1)
        counts[[3, 7, 11]] = [4, 5, 9]
        ranked = sorted((3, 7, 11), key=lambda gene: -counts[gene] / MEDIANS[GENES[gene]])
        found = bundle.tokenizer.tokenize(counts, [*GENES, "ENSG00000000099"])["input_ids"]
        assert found.tolist() == [TOKENS["<cls>"], *(TOKENS[GENES[gene]] for gene in ranked), TOKENS["<eos>"]]
        assert bundle.tokenizer.config.max_genes == 10  # as many as the model has positions
        assert bundle.objective == "masked_gene_prediction"

    def test_cells_are_means_over_genes_after_the_layer_before_the_last(self, tmp_path):
        bundle = load(write_geneformer(tmp_path)).bundle
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
        bundle = load(folder).bundle
        assert bundle.tokenizer.tokenize([1.0, 3.0], ["A", "B"])["input_ids"].tolist() == [tokens["B"], tokens["A"]]

    def test_a_model_saved_without_a_head_is_read(self, tmp_path):
        whole = load(write_geneformer(tmp_path / "whole")).bundle
        bare = {
            name.removeprefix("bert."): weight for name, weight in published().items() if not name.startswith("cls.")
        }
        bare |= {"pooler.dense.weight": torch.ones(8, 8), "pooler.dense.bias": torch.ones(8)}
        imported = load(write_geneformer(tmp_path / "bare", bare, architectures=["BertModel"]))
        assert imported.report.unexpected == ["bert.pooler.dense.bias", "bert.pooler.dense.weight"]
        assert torch.equal(embeddings(imported.bundle), embeddings(whole))

    def test_other_layers_and_unknown_weights_are_refused(self, tmp_path):
        with pytest.raises(DataError, match=r"13 more unknown; a BertForMaskedLM with 1 layers"):
            load(write_geneformer(tmp_path / "a", num_hidden_layers=1))
        with pytest.raises(DataError, match=r"odd\.weight unknown; a BertForMaskedLM"):
            load(write_geneformer(tmp_path / "b", published() | {"odd.weight": torch.ones(1)}))

    def test_classifiers_of_cells_and_other_folders_are_not_recognised(self, tmp_path):
        importer = GeneformerImporter()
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
        bundle = load(folder, dictionaries=place).bundle
        found = bundle.tokenizer.tokenize([1.0, 2.0], ["ENSG00000000099", "OTHER"])["input_ids"]
        assert found.tolist() == [2, TOKENS[GENES[4]], 3]
        (place / "gene_median_dictionary.pkl").write_bytes(pickle.dumps({**MEDIANS, GENES[0]: _Runs()}))
        with pytest.raises(DataError, match=r"gene_median_dictionary\.pkl"):
            load(folder, dictionaries=place)

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
            load(folder)

    def test_numbers_of_tokens_that_no_release_has(self, tmp_path):
        folder = write_geneformer(tmp_path, with_dictionaries=False)
        words = r"have 23 tokens, which no release has: 25,426 \(geneformer-v1\), 20,275 \(geneformer-v2\)\. Put the"
        with pytest.raises(DataError, match=words):
            load(folder)

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
        weights = published()
        for name in (WORDS, "cls.predictions.bias"):
            weights[name] = weights[name][:num_tokens]
        return write_geneformer(tmp_path / "model", weights, with_dictionaries=False, vocab_size=num_tokens)

    def test_the_number_of_tokens_decides(self, tmp_path):
        for num_tokens, place, special in ((14, "v1", 2), (16, "v2", 4)):
            bundle = load(self.folder(tmp_path, num_tokens), dictionaries=tmp_path / place).bundle
            assert list(bundle.vocab.special_tokens) == ["<pad>", "<mask>", "<cls>", "<eos>"][:special]
            assert bundle.tokenizer.config.max_genes == 10
            files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / place).iterdir()}
            assert bundle.fingerprint["imported_from"]["dictionaries"] == files

    def test_dictionaries_that_were_fetched_or_are_beside_the_weights_are_found(self, tmp_path):
        folder = self.folder(tmp_path, 16)
        words = "of small-v2 are not on this machine; fetch them with: scmodelforge tokenizer fetch small-v2 --from hub"
        with pytest.raises(DataError, match=words):
            load(folder)
        fetch_dictionaries("small-v2", str(tmp_path / "v2"))
        assert len(load(folder).bundle.vocab) == 16
        (tmp_path / "cache").rename(tmp_path / "elsewhere")
        write_pickles(folder)
        assert len(load(folder).bundle.vocab) == 16

    def test_those_of_another_release_are_refused(self, tmp_path):
        folder = self.folder(tmp_path, 16)
        words = r"v1 has the dictionaries of small-v1, and the weights in .*model are of small-v2; take both from one"
        with pytest.raises(DataError, match=words):
            load(folder, dictionaries=tmp_path / "v1")
        with pytest.raises(DataError, match="does not hold the dictionaries of small-v2"):
            load(folder, dictionaries=tmp_path)
