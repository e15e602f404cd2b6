"""Genes of other species in one vocabulary with human ones."""

from __future__ import annotations

import gzip
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.data.genes import human_genes
from scmodelforge.data.orthologs import human_genes_of, read_orthologs
from scmodelforge.data.types import Panel
from scmodelforge.data.vocab import GeneVocab

HUMAN = GeneVocab.from_name("human_protein_coding")
TP53, GAPDH, CD4 = "ENSG00000141510", "ENSG00000111640", "ENSG00000010610"
TRP53_MOUSE, GAPDH_MOUSE = "ENSMUSG00000059552", "ENSMUSG00000057666"
#: One pair alone, one human gene with two others, one other gene with three human ones.
TABLE = """\
human\thuman_symbol\tgene\tsymbol\tconfidence
H1\tHA\tR1\tra\t1
H2\tHB\tR2\trb\t1
H2\tHB\tR3\trc\t0
H3\tHC\tR4\trd\t0
H5\tHE\tR4\trd\t1
H4\tHD\tR4\trd\t1
"""


def panel(*genes: str, name: str = "lung.h5ad") -> Panel:
    return Panel(np.array(genes, dtype=object), name)


@pytest.fixture
def table(tmp_path) -> str:
    path = tmp_path / "rat.tsv"
    path.write_text(TABLE)
    return str(path)


def tokens_of(vocab: GeneVocab, *names: str) -> list[str | None]:
    return [None if token < 0 else vocab.genes[vocab.gene_numbers[token]] for token in vocab.map(names)]


class TestShippedTable:
    @pytest.mark.parametrize(
        ("human", "mouse", "ids"),
        [("TP53", "Trp53", (TP53, TRP53_MOUSE)), ("GAPDH", "Gapdh", (GAPDH, GAPDH_MOUSE)), ("CD4", "Cd4", None)],
    )
    def test_known_pairs(self, human, mouse, ids):
        found = [pair for pair in read_orthologs("mouse") if pair.symbol == mouse]
        assert [pair.human_symbol for pair in found] == [human]
        assert ids is None or (found[0].human, found[0].gene) == ids

    def test_each_pair_is_there_once_with_ids_of_both_species(self):
        pairs = read_orthologs("mouse")
        assert len({(pair.human, pair.gene) for pair in pairs}) == len(pairs) > 25_000
        assert all(pair.human.startswith("ENSG") and pair.gene.startswith("ENSMUSG") for pair in pairs)
        assert {pair.confidence for pair in pairs} == {0.0, 1.0}

    def test_most_genes_are_alone_with_their_ortholog(self):
        one = human_genes_of(["mouse"], "one_to_one")
        targets = Counter(human[0] for name, human in one.items() if human and name.startswith("ENSMUSG"))
        assert max(targets.values()) == 1
        assert 17_000 < len(targets) < 18_500

    def test_no_human_name_is_read_as_a_mouse_gene(self):
        assert not human_genes_of(["mouse"], "one_to_many").keys() & human_genes().ensembl_of.keys()


class TestPolicies:
    def test_one_to_one_reads_only_genes_that_are_alone(self, table):
        found = human_genes_of([table], "one_to_one")
        assert found == {
            "R1": ("H1", "HA"), "ra": ("H1", "HA"), "R2": (), "rb": (), "R3": (), "rc": (), "R4": (), "rd": ()
        }  # fmt: skip

    def test_one_to_many_takes_the_surest_human_gene_and_of_these_the_lowest_id(self, table):
        found = human_genes_of([table], "one_to_many")
        assert (found["R1"], found["R2"], found["R3"]) == (("H1", "HA"), ("H2", "HB"), ("H2", "HB"))
        assert found["R4"] == found["rd"] == ("H4", "HD")

    def test_drop_reads_none(self, table):
        assert set(human_genes_of([table], "drop").values()) == {()}

    @given(order=st.permutations(TABLE.splitlines()[1:]), policy=st.sampled_from(["one_to_one", "one_to_many"]))
    def test_the_order_of_the_table_does_not_matter(self, order, policy, tmp_path_factory):
        path = tmp_path_factory.mktemp("tables") / "rat.tsv"
        path.write_text("\n".join([TABLE.splitlines()[0], *order]))
        straight = tmp_path_factory.mktemp("tables") / "rat.tsv"
        straight.write_text(TABLE)
        assert human_genes_of([str(path)], policy) == human_genes_of([str(straight)], policy)

    def test_a_symbol_of_two_genes_is_read_only_if_they_are_one_token(self, tmp_path):
        path = tmp_path / "rat.tsv"
        path.write_text("human\tgene\tsymbol\nH1\tR1\tsame\nH2\tR2\tsame\nH3\tR3\talike\nH3\tR4\talike\n")
        found = human_genes_of([str(path)], "one_to_many")
        assert (found["same"], found["alike"]) == ((), ("H3",))


class TestWithOrthologs:
    def test_ids_and_symbols_of_mouse_genes_have_the_human_tokens(self):
        vocab = HUMAN.with_orthologs(["mouse"], "one_to_one")
        assert tokens_of(vocab, "Trp53", f"{TRP53_MOUSE}.4", "Gapdh", GAPDH_MOUSE, "TP53") == [
            TP53,
            TP53,
            GAPDH,
            GAPDH,
            TP53,
        ]
        assert len(vocab) == len(HUMAN)
        assert vocab.map(HUMAN.genes[:50]).tolist() == HUMAN.map(HUMAN.genes[:50]).tolist()

    def test_policies_differ_in_genes_with_several_orthologs(self, table):
        vocab = GeneVocab.from_genes(["H1", "H2", "H3", "H4"], name="small")
        names = ("R1", "R2", "rc", "R4")
        assert tokens_of(vocab.with_orthologs([table], "one_to_one"), *names) == ["H1", None, None, None]
        assert tokens_of(vocab.with_orthologs([table], "one_to_many"), *names) == ["H1", "H2", "H2", "H4"]
        assert tokens_of(vocab.with_orthologs([table], "drop"), *names) == [None] * 4

    def test_a_vocabulary_of_symbols_is_found_too(self, table):
        vocab = GeneVocab.from_genes(["HA", "TP53"], name="symbols").with_orthologs([table, "mouse"], "one_to_one")
        assert tokens_of(vocab, "R1", "ra", "Trp53", TRP53_MOUSE) == ["HA", "HA", "TP53", "TP53"]

    def test_letter_case_tells_species_apart(self):
        """Without a table, mouse genes that look like human ones are read as these, orthologs or not."""
        found = human_genes_of(["mouse"], "one_to_one")
        several = [name for name, human in found.items() if not human and not name.startswith("ENS")]
        alike = [name for name, token in zip(several, HUMAN.map(several), strict=True) if token >= 0]
        assert len(alike) > 100
        assert (HUMAN.with_orthologs(["mouse"], "one_to_one").map(alike) == -1).all()
        assert (HUMAN.with_orthologs(["mouse"], "drop").map(["Trp53", "Gapdh", "Cd4"]) == -1).all()

    def test_the_vocabularys_own_genes_keep_their_tokens(self, table):
        vocab = GeneVocab.from_genes(["R1", "H1"], name="both").with_orthologs([table], "one_to_one")
        assert tokens_of(vocab, "R1", "ra", "H1") == ["R1", "H1", "H1"]

    def test_they_are_saved_and_count_in_the_digest(self, table, tmp_path):
        vocab = GeneVocab.from_genes(["H1", "H2"], name="x")
        both = vocab.with_orthologs([table], "one_to_many")
        both.save(tmp_path / "vocab.json")
        loaded = GeneVocab.load(tmp_path / "vocab.json")
        assert loaded.digest() == both.digest() != vocab.digest()
        assert tokens_of(loaded, "R2", "rc", "R4") == ["H2", "H2", None]

    def test_restricting_and_extending_keep_them(self, table):
        vocab = GeneVocab.from_genes(["H1", "H2"], name="x").with_orthologs([table], "one_to_many")
        assert tokens_of(vocab.restrict(["H2"]), "R1", "R2") == [None, "H2"]
        assert tokens_of(vocab.extended(["H9", "R4"]), "R1", "R2", "R4") == ["H1", "H2", "R4"]


class TestFromPanels:
    def test_human_and_mouse_files_share_the_tokens_of_orthologs(self):
        files = [panel("TP53", "GAPDH", "LINC9"), panel(TRP53_MOUSE, GAPDH_MOUSE, "ENSMUSG00000099999")]
        vocab = GeneVocab.from_panels(files, species=["mouse"])
        assert vocab.genes == sorted([TP53, GAPDH, "LINC9", "ENSMUSG00000099999"])
        assert tokens_of(vocab, *files[1].gene_ids) == [TP53, GAPDH, "ENSMUSG00000099999"]

    def test_symbols_stay_symbols(self):
        vocab = GeneVocab.from_panels([panel("TP53", "CD4"), panel("Trp53", "Gapdh")], species=["mouse"])
        assert vocab.genes == ["CD4", "GAPDH", "TP53"]
        assert tokens_of(vocab, "Trp53", "TP53") == ["TP53", "TP53"]

    def test_genes_without_a_partner_keep_their_own_token_unless_they_are_dropped(self, table):
        files = [panel("H1", "H2"), panel("R1", "R2", "unknown")]
        made = GeneVocab.from_panels(files, species=[table], policy="one_to_one")
        assert made.genes == ["H1", "H2", "HA", "R2", "unknown"]
        assert GeneVocab.from_panels(files, species=[table], policy="drop").genes == ["H1", "H2", "unknown"]

    def test_only_genes_of_enough_files_are_taken(self):
        files = [panel("TP53", "CD4", "x"), panel("CD4", "TP53"), panel("CD4", "y")]
        assert GeneVocab.from_panels(files).genes == ["CD4", "TP53", "x", "y"]
        assert GeneVocab.from_panels(files, min_files=2).genes == ["CD4", "TP53"]
        assert GeneVocab.from_panels(files, min_files=3).genes == ["CD4"]

    def test_orthologs_count_as_the_same_gene(self):
        files = [panel("TP53", "CD4"), panel("Trp53", "Gapdh")]
        assert GeneVocab.from_panels(files, min_files=2, species=["mouse"]).genes == ["TP53"]

    def test_files_without_a_common_gene_are_refused(self):
        message = r"data.gene_vocab_panels: no gene is in 2 of the 2 files, the most shared one is in 1; give a smaller"
        with pytest.raises(DataError, match=message):
            GeneVocab.from_panels([panel("A"), panel("B")], min_files=2)

    def test_an_alias_is_its_gene_unless_the_file_has_that_too(self):
        old, new, both = (
            panel("SEPT9", "CD4", "A1BG"),
            panel("SEPTIN9", "CD4"),
            panel("SEPT9", "SEPTIN9", "CD4", "A1BG"),
        )
        assert GeneVocab.from_panels([old, new]).genes == ["A1BG", "CD4", "SEPTIN9"]
        assert GeneVocab.from_panels([both]).genes == ["A1BG", "CD4", "SEPT9", "SEPTIN9"]
        assert GeneVocab.from_panels([panel("SEPT9", "yfg1", "yfg2")]).genes == ["SEPT9", "yfg1", "yfg2"]

    def test_every_gene_of_the_files_has_a_token(self):
        files = [panel("SEPT9", "CD4", "TBCE_ENSG00000284770", "P53"), panel(f"{CD4}.3", "ENSG00000284770", "Trp53")]
        vocab = GeneVocab.from_panels(files, species=["mouse"])
        assert all((vocab.map(file.gene_ids) >= 0).all() for file in files)


class TestTables:
    def test_a_packed_table_without_symbols_or_confidence_is_read(self, tmp_path):
        path = tmp_path / "rat.tsv.gz"
        path.write_bytes(gzip.compress(b"extra\tgene\thuman\nx\tENSRNOG00000000001.4\tENSG00000141510.2\n"))
        assert human_genes_of([str(path)], "one_to_one") == {"ENSRNOG00000000001": (TP53,)}

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (
                b"human\tsymbol\nH1\tra\n",
                "no column 'gene' in its first line; a table of orthologs has the columns human",
            ),
            (b"", "no column 'human' in its first line"),
            (b"human\tgene\n", "no pair of genes in it"),
            (b"human\tgene\nH1\tR1\n\nH2\n", "line 4: 'H2' is no pair; give ids of both genes"),
            (b"human\tgene\tconfidence\nH1\tR1\thigh\n", "line 2: 'H1' is no pair; .* a number as confidence"),
            (b"\x1f\x8bnothing", "not readable as a table of orthologs"),
            (b"human\xff\tgene\n", "not readable as a table of orthologs"),
        ],
    )
    def test_another_file_is_refused(self, tmp_path, content, message):
        path = tmp_path / "rat.tsv"
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"rat.tsv.*{message}"):
            read_orthologs(str(path))

    def test_an_unknown_species_is_refused_with_the_nearest(self):
        with pytest.raises(ConfigError, match=r"data.orthologs.species: no table for 'mose' .* Did you mean 'mouse'"):
            read_orthologs("mose")
