from __future__ import annotations

import numpy as np
import pytest

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.tokenizers.dictionaries import read_geneformer
from scmodelforge.tokenizers.presets import GENEFORMER_V1, GENEFORMER_V2, PRESETS, get_preset

from .small_dictionaries import GENES, MAPPING, MEDIANS, NAMES, token_ids, write_pickles, write_tables


def check(found) -> None:
    assert found.vocab.special_tokens == {"<pad>": 0, "<mask>": 1, "<cls>": 2, "<eos>": 3}
    assert found.vocab.genes == GENES
    assert found.vocab.map(GENES).tolist() == list(range(4, 16))
    assert found.vocab.symbols == [NAMES[gene] for gene in GENES]
    np.testing.assert_array_equal(found.medians.values, [np.nan] * 4 + [MEDIANS[gene] for gene in GENES])
    assert found.medians.method == "file"
    assert found.id_mapping == {key: gene for key, gene in MAPPING.items() if gene in GENES}


class TestForms:
    def test_tables_give_vocabulary_medians_and_mapping(self, tmp_path):
        check(read_geneformer(write_tables(tmp_path), GENEFORMER_V2))

    def test_pickles_give_the_same(self, tmp_path):
        found = read_geneformer(tmp_path, write_pickles(tmp_path))
        check(found)
        assert found.origin == "medians.pkl"
        tables = read_geneformer(write_tables(tmp_path / "tables"), GENEFORMER_V2)
        assert found.vocab.digest() == tables.vocab.digest()

    def test_the_first_version_has_two_special_tokens(self, tmp_path):
        found = read_geneformer(write_tables(tmp_path, "V1"), GENEFORMER_V1)
        assert found.vocab.special_tokens == {"<pad>": 0, "<mask>": 1}
        assert found.vocab.map(GENES[:1]).tolist() == [2]

    def test_pickles_go_before_tables(self, tmp_path):
        release = write_pickles(write_tables(tmp_path))
        assert read_geneformer(tmp_path, release).origin == "medians.pkl"


class TestRefused:
    def test_a_pickle_that_is_not_the_published_one(self, tmp_path):
        release = write_pickles(tmp_path)
        (tmp_path / "medians.pkl").write_bytes((tmp_path / "tokens.pkl").read_bytes())
        message = (
            r"medians\.pkl is not the published file: its sha256 is \w{12}\.{3}, not \w{12}\.{3}; fetch it again\.$"
        )
        with pytest.raises(DataError, match=message):
            read_geneformer(tmp_path, release)

    def test_folders_without_dictionaries(self, tmp_path):
        with pytest.raises(DataError, match="no such folder; name the one with the dictionaries of geneformer-v2"):
            read_geneformer(tmp_path / "absent", GENEFORMER_V2)
        with pytest.raises(DataError, match=r"dictionaries of geneformer-v2: neither token_.*nor vocab_V2\.tsv and "):
            read_geneformer(tmp_path, GENEFORMER_V2)
        release = write_pickles(tmp_path)
        (tmp_path / "names.pkl").unlink()
        with pytest.raises(DataError, match=r"small-v2 \(of the former it lacks names\.pkl\): neither"):
            read_geneformer(tmp_path, release)

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"tokens": {**token_ids("V2"), GENES[0]: 99}}, r"the token ids of small-v2 are not 0, 1, 2, \.\.\.; take"),
            ({"tokens": {**token_ids("V2"), "more": 1}}, "the token ids of small-v2 are not 0, 1, 2"),
            (
                {"medians": {**MEDIANS, GENES[3]: 0.0}},
                rf"medians\.pkl: gene '{GENES[3]}' has no median above 0 \(",
            ),
            ({"medians": {GENES[0]: 1.0}}, rf"gene '{GENES[1]}' has no median above 0 \(11 such\); take the published"),
        ],
    )
    def test_content_that_does_not_fit_together(self, tmp_path, changes, words):
        with pytest.raises(DataError, match=words):
            read_geneformer(tmp_path, write_pickles(tmp_path, **changes))

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (
                ("token_id\t", "id\t"),
                r"vocab_V2\.tsv: its columns are id, token, .*; token_id, token, nonzero_",
            ),
            (
                ("\n5\t", "\nfive\t"),
                r"vocab_V2\.tsv, line 7: not a new token with its id, median and name; take",
            ),
            (("\t<mask>", "\t<pad>"), r"vocab_V2\.tsv, line 3: not a new token"),
            (("\tNAME2", ""), r"vocab_V2\.tsv, line 8: not a new token"),
        ],
    )
    def test_damaged_tables(self, tmp_path, change, words):
        path = write_tables(tmp_path) / "vocab_V2.tsv"
        path.write_text(path.read_text().replace(*change, 1))
        with pytest.raises(DataError, match=words):
            read_geneformer(tmp_path, GENEFORMER_V2)

    def test_tables_of_the_other_version_under_its_names(self, tmp_path):
        write_tables(tmp_path, "V2")
        for name in ("vocab_{}.tsv", "id_mapping_{}.parquet"):
            (tmp_path / name.format("V2")).rename(tmp_path / name.format("V1"))
        words = (
            "geneformer-v1 has the special tokens <pad>, <mask> first, the file has <pad>, <mask>, <cls>, <eos>; it is"
        )
        with pytest.raises(DataError, match=words):
            read_geneformer(tmp_path, GENEFORMER_V1)

    @pytest.mark.parametrize("more", [b"\xff\xfe\n", b"x" * 200_000 + b"\n"])
    def test_tables_that_are_no_text_or_have_endless_fields(self, tmp_path, more):
        path = write_tables(tmp_path) / "vocab_V2.tsv"
        path.write_bytes(path.read_bytes() + more)
        with pytest.raises(DataError, match=r"vocab_V2\.tsv cannot be read as a table of tokens \("):
            read_geneformer(tmp_path, GENEFORMER_V2)

    @pytest.mark.parametrize("genes", [[1, 2], [["a"], ["b"]]])
    def test_a_mapping_of_something_else_than_text(self, tmp_path, genes):
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(
            pa.table({"key": ["A", "B"], "ensembl_id": genes}), write_tables(tmp_path) / "id_mapping_V2.parquet"
        )
        with pytest.raises(DataError, match="the columns key and ensembl_id hold something else than text"):
            read_geneformer(tmp_path, GENEFORMER_V2)

    def test_a_damaged_mapping(self, tmp_path):
        (write_tables(tmp_path) / "id_mapping_V2.parquet").write_bytes(b"nothing")
        with pytest.raises(DataError, match=r"id_mapping_V2\.parquet cannot be read as a table with the columns "):
            read_geneformer(tmp_path, GENEFORMER_V2)


class TestPresets:
    def test_their_settings_are_those_of_the_published_models(self, tmp_path):
        first = get_preset("geneformer-v1").make(write_tables(tmp_path, "V1"), {}).config
        second = get_preset("geneformer-v2").make(write_tables(tmp_path), {"ties": "stable"}).config
        assert (first.max_genes, first.add_cls, first.add_eos, first.ties) == (2048, False, False, "token")
        assert (second.max_genes, second.add_cls, second.add_eos, second.ties) == (4096, True, True, "stable")
        assert (first.medians, first.compat) == ("vocab_V1.tsv", None)

    def test_their_tokens_are_put_together_so(self, tmp_path):
        tokenizer = get_preset("geneformer-v2").make(write_tables(tmp_path), {})
        found = tokenizer.tokenize(np.array([1, 4, 0]), GENES[:3])
        assert found["input_ids"].tolist() == [2, 5, 4, 3]
        assert tokenizer.describe() == "rank_value, at most 4,096 tokens; medians of 12 genes from vocab_V2.tsv"
        bare = get_preset("geneformer-v1").make(write_tables(tmp_path, "V1"), {})
        assert bare.tokenize(np.array([1, 4, 0]), GENES[:3])["input_ids"].tolist() == [3, 2]

    def test_an_unknown_one_is_refused(self):
        with pytest.raises(ConfigError, match=r"unknown preset 'geneformer_v2'\. Did you mean 'geneformer-v2'\? T"):
            get_preset("geneformer_v2")

    def test_every_published_file_has_a_checksum(self):
        for preset in PRESETS.values():
            assert bool(preset.published) is bool(preset.repository)
            assert len({file.sha256 for file in preset.published}) == len(preset.published)
            assert all(len(file.sha256) == 64 for file in preset.published)
