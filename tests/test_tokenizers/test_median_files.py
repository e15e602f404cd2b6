from __future__ import annotations

import pytest

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.tokenizers.medians import read_medians
from scmodelforge.tokenizers.rank_value import RankValueConfig, RankValueTokenizer

from .cells import VOCAB, encode, genes_of, make_block


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return str(path)


class TestReading:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("m.json", '{"g00": 10, "g01": 0.5, "other": 3}'),
            ("m.tsv", "gene\tmedian\ng00\t10\ng01\t0.5\nother\t3\n"),
            ("m.txt", "# medians\ng00\t10\n\ng01\t5e-1\n"),
        ],
    )
    def test_json_and_text_files_are_read(self, tmp_path, caplog, name, text):
        tokenizer = RankValueTokenizer(RankValueConfig(medians=write(tmp_path, name, text)), VOCAB)
        tokens = encode(tokenizer, make_block([[4, 1, 1]], ["g00", "g01", "g02"]))
        assert genes_of(tokens, 0) == ["g01", "g00", "g02"]  # 1 / 0.5, 4 / 10, 1 / 5.25
        assert f"medians of 2 genes from {name}, the middle one of these for 18 genes without" in tokenizer.describe()
        assert tokenizer.visitor(lambda positions: positions >= 0) is None
        assert "lacks 18 genes of the vocabulary; they count with the middle one of its medians" in caplog.text

    def test_genes_are_found_under_other_names(self, tmp_path):
        path = write(tmp_path, "m.json", '{"ENSG00000000003.14": 1.5}')
        vocab = GeneVocab.from_genes(["ENSG00000000003"], name="one")
        assert read_medians(path, vocab).values[4] == 1.5


class TestRefusing:
    @pytest.mark.parametrize(
        ("name", "text", "words"),
        [
            ("m.json", '{"g00": 0}', r"the median of gene 'g00' is 0\.0; a number above 0 is needed"),
            ("m.json", '{"g00": NaN}', "the median of gene 'g00' is nan"),
            ("m.json", "[1, 2]", "not readable as medians .* a JSON object"),
            ("m.json", '{"g00": null}', "not readable as medians"),
            ("m.json", "{", "not readable as medians"),
            ("m.tsv", "g00\t1\ng01\tmany\n", "line 2: 'g01\tmany' is not a gene, a tab and its median"),
            ("m.tsv", "g00 1\n", "line 1: 'g00 1' is not a gene, a tab and its median"),
            ("m.tsv", "g00\t1\ng00\t2\n", r"gene 'g00' has two medians, 1\.0 and 2\.0; list each gene once"),
            ("m.tsv", "", "none of its 0 genes are in gene_vocab 'twenty'"),
            (
                "m.json",
                '{"ENSG00000000003": 1}',
                "none of its 1 genes are in gene_vocab 'twenty'; use its kind of gene ids",
            ),
        ],
    )
    def test_files_without_usable_medians(self, tmp_path, name, text, words):
        with pytest.raises(DataError, match=words):
            read_medians(write(tmp_path, name, text), VOCAB)

    def test_two_names_of_a_gene_with_two_medians(self, tmp_path):
        path = write(tmp_path, "m.json", '{"ENSG00000000003": 1, "ENSG00000000003.14": 2}')
        vocab = GeneVocab.from_genes(["ENSG00000000003"], name="one")
        with pytest.raises(DataError, match=r"gene 'ENSG00000000003\.14' has two medians, 1\.0 and 2\.0"):
            read_medians(path, vocab)

    def test_a_file_that_is_not_text(self, tmp_path):
        (tmp_path / "m.tsv").write_bytes(b"\xff\xfe\x80\x81")
        with pytest.raises(DataError, match="not readable as medians"):
            read_medians(str(tmp_path / "m.tsv"), VOCAB)

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(ConfigError, match=r"tokenizer\.medians: no file '.*absent\.tsv'; give 'fit', 'none'"):
            RankValueTokenizer(RankValueConfig(medians=str(tmp_path / "absent.tsv")), VOCAB)
