from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.constants import SPECIAL_TOKENS
from scmodelforge.data.genes import human_protein_coding
from scmodelforge.data.types import Panel
from scmodelforge.data.vocab import GeneVocab

A1BG, A2M, CD4 = "ENSG00000121410", "ENSG00000175899", "ENSG00000010610"
HUMAN = GeneVocab.from_name("human_protein_coding")


def panel(*genes: str, name: str = "lung.h5ad") -> Panel:
    return Panel(np.array(genes, dtype=object), name)


def genes_of(vocab: GeneVocab, tokens: np.ndarray) -> list[str | None]:
    return [None if token < 0 else vocab.genes[vocab.gene_numbers[token]] for token in tokens]


class TestTokens:
    def test_special_tokens_come_first_and_genes_follow_in_order(self):
        vocab = GeneVocab.from_genes(["B", "A"], name="two")
        assert list(vocab.special_tokens) == list(SPECIAL_TOKENS)
        assert (vocab.pad_id, vocab.unk_id, vocab.mask_id, vocab.cls_id) == (0, 1, 2, 3)
        assert vocab.special_ids == {0, 1, 2, 3}
        assert len(vocab) == 6
        assert vocab.map(["A", "B"]).tolist() == [5, 4]

    def test_other_special_tokens_move_the_genes(self):
        vocab = GeneVocab(["A"], name="geneformer", special_tokens={"<pad>": 0, "<mask>": 1})
        assert vocab.map(["A"]).tolist() == [2]
        assert vocab.mask_id == 1

    def test_a_token_that_is_not_there_is_said_to_be_missing(self):
        vocab = GeneVocab(["A"], name="geneformer", special_tokens={"<pad>": 0, "<mask>": 1})
        with pytest.raises(DataError, match="'geneformer' has no <cls> token; it has <pad>, <mask>"):
            _ = vocab.cls_id

    def test_genes_take_the_ids_that_special_tokens_leave(self):
        vocab = GeneVocab(["A", "B", "C"], name="last", special_tokens={"<pad>": 3, "<cls>": 1, "<eoc>": 5})
        assert vocab.map(["A", "B", "C"]).tolist() == [0, 2, 4]
        assert (vocab.pad_id, vocab.cls_id, len(vocab)) == (3, 1, 6)
        assert vocab.gene_tokens.tolist() == [0, 2, 4]
        assert vocab.gene_numbers.tolist() == [0, -1, 1, -1, 2, -1]

    @pytest.mark.parametrize("ids", [(0, 3), (0, 0), (-1, 0), (0, 1.0), (0, True)])
    def test_ids_that_no_two_tokens_can_have_are_refused(self, ids):
        with pytest.raises(
            DataError, match="each needs a whole number of its own from 0 to 2, the last of the 3 tokens"
        ):
            GeneVocab(["A"], name="gap", special_tokens=dict(zip(("<pad>", "<mask>"), ids, strict=True)))

    def test_symbols_of_human_genes_are_filled_in(self):
        assert GeneVocab.from_genes([CD4, "gene1"], name="x").symbols == ["CD4", None]

    @pytest.mark.parametrize(
        ("genes", "message"),
        [
            (["A", "B", "A"], "gene 'A' is listed 2 times"),
            ([], "'mine' has no gene"),
            (["A", ""], "'' cannot name a gene"),
            (["A", "<pad>"], "'<pad>' cannot name a gene"),
        ],
    )
    def test_a_list_that_makes_no_vocabulary_is_refused(self, genes, message):
        with pytest.raises(DataError, match=message):
            GeneVocab.from_genes(genes, name="mine")

    def test_one_symbol_a_gene_is_needed(self):
        with pytest.raises(DataError, match="1 symbols for 2 genes"):
            GeneVocab.from_genes(["A", "B"], name="mine", symbols=["a"])


class TestFromTokenDict:
    @given(st.permutations(["<pad>", "<cls>", "<eoc>", "A1BG", "CD4", "ENSG00000121410", "TBCE_ENSG00000284770", "x"]))
    def test_every_name_keeps_its_id(self, names):
        published = {name: number for number, name in enumerate(names)}
        vocab = GeneVocab.from_token_dict(published, name="published")
        genes = [name for name in names if not name.startswith("<")]
        assert vocab.genes == genes
        assert vocab.map(genes).tolist() == [published[gene] for gene in genes]
        assert vocab.special_tokens == {name: published[name] for name in ("<pad>", "<cls>", "<eoc>")}
        assert GeneVocab.from_dict(vocab.to_dict()).digest() == vocab.digest()

    def test_special_tokens_may_be_named(self):
        vocab = GeneVocab.from_token_dict({"A": 0, "PAD": 1}, name="own", special=["PAD"])
        assert (vocab.genes, vocab.special_tokens) == (["A"], {"PAD": 1})

    def test_there_may_be_none(self):
        vocab = GeneVocab.from_token_dict({"A": 1, "B": 0}, name="bare")
        assert vocab.map(["A", "B"]).tolist() == [1, 0]
        with pytest.raises(DataError, match="'bare' has no <pad> token; it has none"):
            _ = vocab.pad_id

    @pytest.mark.parametrize(
        ("tokens", "message"),
        [
            ({"A": 0, "B": 2}, "'B' has the id 2, but there are 2 tokens; .* from 0 to 1, each once"),
            ({"A": 0, "B": 0}, "'A' and 'B' both have the id 0"),
            ({"A": 0, "B": -1}, "'B' has the id -1"),
            ({"A": 0.0}, "'A' has the id 0.0"),
            ({"A": True}, "'A' has the id True"),
            ({7: 0}, "7 has the id 0"),
            ({"<pad>": 0}, "has no gene"),
        ],
    )
    def test_ids_that_are_not_dense_are_refused(self, tokens, message):
        with pytest.raises(DataError, match=f"gene_vocab 'bad'.*{message}"):
            GeneVocab.from_token_dict(tokens, name="bad")

    def test_a_special_token_that_is_not_there_is_refused(self):
        with pytest.raises(DataError, match="no token '<mask>' among its 2"):
            GeneVocab.from_token_dict({"A": 0, "<pad>": 1}, name="bad", special=["<pad>", "<mask>"])


class TestExtended:
    def test_new_genes_follow_all_tokens_and_the_old_ones_stay(self):
        vocab = GeneVocab(["A", CD4], name="x", special_tokens={"<pad>": 2, "<cls>": 3})
        more = vocab.extended(["B", A1BG])
        assert more.genes == ["A", CD4, "B", A1BG]
        assert more.map(["A", CD4, "B", "A1BG"]).tolist() == [0, 1, 4, 5]
        assert more.special_tokens == vocab.special_tokens
        assert more.symbols == [None, "CD4", None, "A1BG"]
        assert len(vocab) == 4

    def test_genes_it_has_under_any_name_are_left_out(self, caplog):
        vocab = GeneVocab.from_genes([CD4, "SEPT9", A1BG], name="x")
        with caplog.at_level("INFO"):
            more = vocab.extended(["CD4", f"{A1BG}.3", "B", "SEPTIN9", "B"])
        assert more.genes == [CD4, "SEPT9", A1BG, "B"]
        assert "has 3 of the 4 genes to be added already" in caplog.text

    def test_a_name_that_differs_in_case_is_a_new_gene(self):
        assert GeneVocab.from_genes(["GAPDH"], name="x").extended(["Gapdh"]).genes == ["GAPDH", "Gapdh"]

    def test_nothing_new_is_refused(self):
        with pytest.raises(DataError, match="'x' has all 2 genes that are to be added already; give others"):
            GeneVocab.from_genes([CD4], name="x").extended([CD4, "CD4"])

    def test_two_names_of_one_gene_are_refused(self):
        with pytest.raises(DataError, match="'CD4' and 'ENSG00000010610', which are to be added, are one gene"):
            GeneVocab.from_genes(["A"], name="x").extended(["CD4", CD4])


class TestMap:
    def test_finds_ids_versions_and_symbols(self):
        found = HUMAN.map([A1BG, "ENSG00000121410.12", "A1BG", "MT-ND1", "ND1", "nothing", "AC079767.4"])
        assert found.dtype == np.int32
        nd1 = "ENSG00000198888"
        assert genes_of(HUMAN, found) == [A1BG, A1BG, A1BG, nd1, nd1, None, None]

    def test_ignores_case_only_for_what_is_not_found_otherwise(self):
        assert genes_of(HUMAN, HUMAN.map(["a1bg", "ensg00000010610.3"])) == [A1BG, CD4]
        assert genes_of(HUMAN, HUMAN.map(["A1BG", "a1bg"])) == [A1BG, None]

    def test_two_genes_that_differ_in_case_alone_are_kept_apart(self):
        vocab = GeneVocab.from_genes(["Actx", "ACTX"], name="mixed")
        assert genes_of(vocab, vocab.map(["ACTX", "Actx", "actx"])) == ["ACTX", "Actx", None]
        assert vocab.map(["actx"]).tolist() == [-1]

    def test_finds_capitals_in_a_vocabulary_of_another_species(self):
        vocab = GeneVocab.from_genes(["Actx", "gm1"], name="mouse")
        assert genes_of(vocab, vocab.map(["ACTX", "Gm1"])) == ["Actx", "gm1"]

    def test_finds_ensembl_ids_in_a_vocabulary_of_symbols(self):
        vocab = GeneVocab.from_genes(["CD4", "ND1"], name="symbols")
        assert genes_of(vocab, vocab.map([CD4, CD4 + ".2", "ENSG00000198888", "MT-ND1", A1BG])) == [
            "CD4",
            "CD4",
            "ND1",
            "ND1",
            None,
        ]

    def test_finds_bare_ids_in_a_vocabulary_with_versions(self):
        vocab = GeneVocab.from_genes(["ENSMUSG00000024798.3"], name="versions")
        assert vocab.map(["ENSMUSG00000024798", "ENSMUSG00000024798.7"]).tolist() == [4, 4]

    def test_its_own_symbols_go_before_the_shipped_table(self):
        vocab = GeneVocab.from_genes([CD4, "other"], name="own", symbols=[None, "CD4"])
        assert genes_of(vocab, vocab.map(["CD4", CD4])) == ["other", CD4]

    def test_an_id_goes_before_a_symbol(self):
        vocab = GeneVocab.from_genes(["X", "Y"], name="ids", symbols=["Y", "X"])
        assert genes_of(vocab, vocab.map(["X", "Y"])) == ["X", "Y"]

    @given(st.permutations([A1BG, "A2M", "a2m", "cd4", "CD4", "ENSG00000121410.3", "nothing", "ND1", "mt-nd1"]))
    def test_does_not_depend_on_the_order_of_the_genes(self, genes):
        reference = {"a2m": -1, "cd4": -1, "mt-nd1": -1, "nothing": -1}
        assert HUMAN.map(genes).tolist() == [reference.get(g, int(HUMAN.map([g])[0])) for g in genes]

    @given(st.lists(st.sampled_from((*human_protein_coding().symbols[:40], "a1bg", "nothing")), unique=True))
    def test_turning_the_genes_around_turns_the_tokens_around(self, genes):
        assert HUMAN.map(genes[::-1]).tolist() == HUMAN.map(genes)[::-1].tolist()

    def test_takes_an_array_or_a_list_and_none_at_all(self):
        assert HUMAN.map(np.array([CD4], dtype=object)).tolist() == HUMAN.map([CD4]).tolist()
        assert HUMAN.map([]).shape == (0,)

    def test_a_changed_array_is_looked_up_again(self):
        genes = np.array([CD4, "nothing"], dtype=object)
        before = HUMAN.map(genes)
        genes[:] = genes[::-1].copy()
        assert HUMAN.map(genes).tolist() == before[::-1].tolist()

    def test_a_panel_is_looked_up_once(self):
        genes = panel(A1BG, "CD4")
        assert HUMAN.map_panel(genes) is HUMAN.map_panel(genes)
        assert HUMAN.map_panel(genes).tolist() == HUMAN.map(genes.gene_ids).tolist()
        assert not HUMAN.map_panel(genes).flags.writeable


class TestJsonFiles:
    def test_a_published_mapping_keeps_its_ids(self, tmp_path):
        (tmp_path / "tokens.json").write_text('{"<pad>": 2, "CD4": 0, "CD8A": 1}')
        vocab = GeneVocab.from_file(tmp_path / "tokens.json")
        assert (vocab.name, vocab.map(["CD8A", "CD4"]).tolist(), vocab.pad_id) == ("tokens.json", [1, 0], 2)

    def test_a_vocabulary_of_a_model_is_that(self, tmp_path):
        HUMAN.save(tmp_path / "vocab.json")
        assert GeneVocab.from_file(tmp_path / "vocab.json").digest() == HUMAN.digest()

    @pytest.mark.parametrize("content", ["", "[]", "3", '{"CD4": 1}', '{"CD4": "0"}'])
    def test_anything_else_is_refused(self, tmp_path, content):
        (tmp_path / "tokens.json").write_text(content)
        with pytest.raises(DataError, match=r"tokens\.json"):
            GeneVocab.from_file(tmp_path / "tokens.json")


class TestOutdatedNames:
    def test_an_alias_or_previous_symbol_finds_its_gene(self):
        septin9, tp53 = "ENSG00000184640", "ENSG00000141510"
        assert genes_of(HUMAN, HUMAN.map(["SEPT9", "P53"])) == [septin9, tp53]

    def test_aliases_find_nothing_in_a_vocabulary_that_says_so(self):
        vocab = GeneVocab(["TP53", "CD8A"], name="published", aliases=False)
        again = GeneVocab.from_dict(vocab.to_dict())
        for each in (vocab, again, again.extended(["CD4"]), again.restrict(["TP53"])):
            assert genes_of(each, each.map(["P53", "ENSG00000141510"])) == [None, "TP53"]
        assert vocab.digest() != GeneVocab(["TP53", "CD8A"], name="published").digest()

    def test_a_proper_name_wins_over_an_alias(self):
        assert genes_of(HUMAN, HUMAN.map(["SEPT9", "SEPTIN9"])) == [None, "ENSG00000184640"]
        assert genes_of(HUMAN, HUMAN.map(["ENSG00000184640", "SEPT9"])) == ["ENSG00000184640", None]

    def test_two_aliases_of_one_gene_find_nothing(self):
        assert HUMAN.map(["P53", "LFS1", "SEPT9"]).tolist()[:2] == [-1, -1]

    def test_a_vocabulary_of_old_symbols_is_found_by_new_names(self):
        vocab = GeneVocab.from_genes(["SEPT9", "CD4", "A1BG"], name="old")
        assert genes_of(vocab, vocab.map(["SEPTIN9", CD4])) == ["SEPT9", "CD4"]
        assert genes_of(vocab, vocab.map(["ENSG00000184640", "SEPT9", "SINT1"])) == ["SEPT9", "SEPT9", None]

    def test_a_vocabulary_that_is_not_human_has_no_human_names(self):
        assert GeneVocab.from_genes(["SEPT9", "yfg1", "yfg2"], name="yeast").map(["SEPTIN9"]).tolist() == [-1]

    def test_the_id_in_a_name_counts_and_its_symbol_only_where_nobody_else_has_it(self):
        named = f"OLD_{A1BG}"
        assert genes_of(HUMAN, HUMAN.map([named, f"CD4_{CD4}.7"])) == [A1BG, CD4]
        symbols = GeneVocab.from_genes(["TBCE"], name="symbols")
        assert symbols.map(["TBCE_ENSG00000999999"]).tolist() == [4]
        assert symbols.map(["TBCE_ENSG00000999999", "TBCE"]).tolist() == [-1, 4]
        assert symbols.map(["TBCE_ENSG00000999999", "TBCE_ENSG00000999998"]).tolist() == [-1, -1]

    def test_a_named_gene_of_a_vocabulary_is_found_by_its_id(self):
        vocab = GeneVocab.from_genes(["TBCE", "TBCE_ENSG00000284770"], name="named")
        assert vocab.map(["ENSG00000284770.2", "TBCE", "TBCE_ENSG00000284770"]).tolist() == [5, 4, 5]

    def test_other_genes_than_coding_ones_have_both_names(self):
        vocab = GeneVocab.from_genes(["XIST"], name="x")
        assert vocab.map(["ENSG00000229807"]).tolist() == [4]
        assert GeneVocab.from_genes(["ENSG00000229807"], name="x").symbols == ["XIST"]


class TestFromPanels:
    def test_is_the_sorted_union_without_versions(self):
        vocab = GeneVocab.from_panels([panel("b", "a"), panel("c", "a", "ENSMUSG00000024798.2")])
        assert vocab.genes == ["ENSMUSG00000024798", "a", "b", "c"]
        assert vocab.name == "from_data"

    def test_symbols_and_ensembl_ids_of_a_gene_become_one_token(self):
        files = [panel("CD4", "A2M", "LINC1"), panel(A1BG + ".4", CD4)]
        vocab = GeneVocab.from_panels(files)
        assert vocab.genes == sorted([A1BG, A2M, CD4, "LINC1"])
        assert vocab.map(["CD4"]).tolist() == vocab.map([CD4]).tolist()

    def test_symbols_stay_when_no_file_has_human_ensembl_ids(self):
        assert GeneVocab.from_panels([panel("CD4", "ENSMUSG00000024798")]).genes == ["CD4", "ENSMUSG00000024798"]

    def test_does_not_depend_on_the_order_of_the_files(self):
        files = [panel("CD4", "x"), panel(A1BG), panel("y")]
        assert GeneVocab.from_panels(files).digest() == GeneVocab.from_panels(files[::-1]).digest()


class TestFromFile:
    def test_reads_one_gene_a_line(self, tmp_path):
        path = tmp_path / "genes.txt"
        path.write_text("# mine\n\nCD4\n  A1BG \n")
        vocab = GeneVocab.from_file(path)
        assert vocab.genes == ["CD4", "A1BG"]
        assert vocab.name == "genes.txt"

    @pytest.mark.parametrize(("suffix", "separator"), [("tsv", "\t"), ("csv", ",")])
    @pytest.mark.parametrize("heading", ["gene", "ensembl", "Ensembl_ID", None])
    def test_reads_the_first_column_of_a_table(self, tmp_path, suffix, separator, heading):
        path = tmp_path / f"genes.{suffix}"
        lines = [] if heading is None else [separator.join([heading, "score"])]
        path.write_text("\n".join([*lines, separator.join([CD4, "1"]), separator.join([A1BG, "2"])]))
        assert GeneVocab.from_file(path).genes == [CD4, A1BG]

    def test_a_gene_twice_is_refused_with_both_lines(self, tmp_path):
        path = tmp_path / "genes.txt"
        path.write_text("CD4\nA1BG\nCD4\n")
        with pytest.raises(DataError, match=r"genes.txt, line 3: gene 'CD4' stands in line 1 already"):
            GeneVocab.from_file(path)

    def test_a_missing_file_with_a_name_like_a_vocabulary_gets_a_hint(self):
        with pytest.raises(DataError, match=r"no file 'human_protien_coding'. Did you mean 'human_protein_coding'"):
            GeneVocab.from_file("human_protien_coding")

    def test_a_file_without_genes_is_refused(self, tmp_path):
        path = tmp_path / "genes.txt"
        path.write_text("# nothing\n")
        with pytest.raises(DataError, match=r"genes.txt: no gene in it; data.gene_vocab needs a text file"):
            GeneVocab.from_file(path)

    def test_a_binary_file_is_refused(self, tmp_path):
        path = tmp_path / "cells.h5ad"
        path.write_bytes(b"\x89HDF\r\n\x1a\n\xff\xff")
        with pytest.raises(DataError, match=r"cells.h5ad: not a text file; data.gene_vocab needs one gene a line"):
            GeneVocab.from_file(path)


class TestFromName:
    def test_has_the_genes_and_symbols_of_the_shipped_table(self):
        table = human_protein_coding()
        assert HUMAN.genes == list(table.ensembl)
        assert HUMAN.symbols == list(table.symbols)

    def test_an_unknown_name_is_refused_with_the_nearest(self):
        with pytest.raises(ConfigError, match=r"no vocabulary 'from_dat'. Did you mean 'from_data'"):
            GeneVocab.from_name("from_dat")


class TestRestrict:
    @given(st.lists(st.integers(0, 30), min_size=1, unique=True))
    def test_keeps_the_order_of_the_vocabulary(self, chosen):
        vocab = GeneVocab.from_genes(
            [f"g{(7 * i) % 31}" for i in range(31)], name="x", symbols=[f"s{i}" for i in range(31)]
        )
        genes = [vocab.genes[i] for i in chosen]
        small = vocab.restrict(genes)
        assert small.genes == [gene for gene in vocab.genes if gene in genes]
        assert [vocab.symbols[vocab.genes.index(g)] for g in small.genes] == small.symbols
        assert small.map(small.genes).tolist() == list(range(4, 4 + len(genes)))

    def test_a_gene_it_does_not_have_is_refused(self):
        with pytest.raises(DataError, match="'x' has no gene 'C'"):
            GeneVocab.from_genes(["A", "B"], name="x").restrict(["A", "C"])

    def test_special_tokens_stay_first_or_last(self):
        vocab = GeneVocab.from_token_dict({"<bos>": 0, "A": 1, "B": 2, "C": 3, "<pad>": 4, "<cls>": 5}, name="x")
        small = vocab.restrict(["C", "A"])
        assert small.special_tokens == {"<bos>": 0, "<pad>": 3, "<cls>": 4}
        assert small.map(["A", "C"]).tolist() == [1, 2]


class TestFiles:
    def test_a_file_of_before_is_read_and_keeps_its_digest(self, tmp_path):
        content = {
            "format": "scmodelforge.vocab",
            "format_version": 1,
            "name": "old",
            "special_tokens": {"<pad>": 0, "<unk>": 1, "<mask>": 2, "<cls>": 3},
            "genes": ["A", "B"],
            "symbols": [None, "b"],
        }
        (tmp_path / "vocab.json").write_text(json.dumps(content))
        vocab = GeneVocab.load(tmp_path / "vocab.json")
        assert vocab.map(["A", "B", "b"]).tolist() == [4, 5, 5]
        hashed = json.dumps({key: value for key, value in content.items() if key != "name"}, sort_keys=True)
        assert vocab.digest() == hashlib.sha256(hashed.encode()).hexdigest()

    def test_what_is_saved_is_loaded(self, tmp_path):
        vocab = GeneVocab(["B", CD4], name="x", special_tokens={"<pad>": 0, "<mask>": 1})
        vocab.save(tmp_path / "vocab.json")
        loaded = GeneVocab.load(tmp_path / "vocab.json")
        assert loaded.to_dict() == vocab.to_dict()
        assert loaded.digest() == vocab.digest()
        assert loaded.map(["CD4", "B"]).tolist() == [3, 2]

    def test_the_digest_is_of_the_content(self):
        digests = {
            GeneVocab(["A", "B"], name="x").digest(),
            GeneVocab(["B", "A"], name="x").digest(),
            GeneVocab(["A", "B"], name="x", symbols=["a", None]).digest(),
            GeneVocab(["A", "B"], name="x", special_tokens={"<pad>": 0, "<mask>": 1}).digest(),
        }
        assert len(digests) == 4
        assert GeneVocab(["A", "B"], name="y").digest() in digests

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("no json", "vocab.json: not JSON; a vocab.json written by scmodelforge is needed"),
            ('{"A": 4}', "vocab.json: not a gene vocabulary"),
            ("[1]", "vocab.json: not a gene vocabulary"),
        ],
    )
    def test_another_file_is_refused(self, tmp_path, content, message):
        path = tmp_path / "vocab.json"
        path.write_text(content)
        with pytest.raises(DataError, match=message):
            GeneVocab.load(path)

    def test_a_missing_file_is_refused(self, tmp_path):
        with pytest.raises(DataError, match=r"vocab.json: cannot be read \(No such file"):
            GeneVocab.load(tmp_path / "vocab.json")

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("genes", None, "'genes' is missing or of the wrong kind"),
            ("genes", ["A", "A"], "gene 'A' is listed 2 times"),
            ("special_tokens", {"<pad>": 9}, "each needs a whole number of its own from 0 to 2"),
            ("other_names", ["A"], "'other_names' is missing or of the wrong kind"),
            ("other_names", {"a": "C"}, "has names of 'C', which is none of its genes; the file is damaged"),
            ("format_version", 99, "format_version 99, not 1; use a newer scmodelforge"),
        ],
    )
    def test_a_damaged_file_is_refused(self, tmp_path, key, value, message):
        path = tmp_path / "vocab.json"
        path.write_text(json.dumps({**GeneVocab(["A", "B"], name="x").to_dict(), key: value}))
        with pytest.raises(DataError, match=rf"vocab.json: .*{message}"):
            GeneVocab.load(path)
