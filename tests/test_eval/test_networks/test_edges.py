"""Tables of edges in the layouts that are read, and those that are refused."""

from __future__ import annotations

import gzip

import pandas as pd
import pytest

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.eval.networks.config import NetworkConfig
from scmodelforge.eval.networks.edges import read_edges


def read(path, **settings):
    return read_edges(NetworkConfig(path=str(path), **settings))


def edges(table) -> list[tuple[str, str, int]]:
    return list(zip(table.tfs.tolist(), table.targets.tolist(), table.signs.tolist(), strict=True))


@pytest.fixture
def dorothea(tmp_path):
    path = tmp_path / "dorothea.tsv"
    path.write_text(
        "tf\ttarget\tmor\tconfidence\nGATA1\tKLF1\t1\tA\nGATA1\tSPI1\t-1\tB\nSPI1\tCD19\t0\tC\nSPI1\t\t1\tA\n"
    )
    return path


class TestLayouts:
    def test_one_edge_a_row_with_signs_and_levels(self, dorothea):
        table = read(dorothea)
        assert table.name == "dorothea"
        assert edges(table) == [("GATA1", "KLF1", 1), ("GATA1", "SPI1", -1), ("SPI1", "CD19", 0)]
        assert (table.facts["rows"], table.facts["rows_without_name"]) == (4, 1)

    def test_levels_of_confidence(self, dorothea):
        table = read(dorothea, levels=["A", "B"])
        assert [target for _, target, _ in edges(table)] == ["KLF1", "SPI1"]
        assert table.facts["rows_below_confidence"] == 1

    def test_one_sign_only(self, dorothea):
        table = read(dorothea, sign="repression")
        assert edges(table) == [("GATA1", "SPI1", -1)]
        assert table.facts["edges_of_other_sign"] == 2

    def test_one_factor_a_row(self, tmp_path):
        path = tmp_path / "chip.tsv.gz"
        path.write_bytes(gzip.compress(b"tf\ttarget\nAHR\tB,A\nAR\tC\n"))
        assert edges(read(path)) == [("AHR", "A", 0), ("AHR", "B", 0), ("AR", "C", 0)]

    @pytest.mark.parametrize("heading", ["", "tf\ttarget\tmode\tpmid\n"])
    def test_trrust_with_and_without_headings(self, tmp_path, heading):
        path = tmp_path / "trrust.tsv"
        path.write_text(heading + "AATF\tBAX\tRepression\t1\nAATF\tBAX\tUnknown\t2\nAATF\tMYC\tUnknown\t3\n"
                        "SP1\tMYC\tActivation\t4\nSP1\tMYC\tRepression\t5\n")  # fmt: skip
        table = read(path)
        assert edges(table) == [("AATF", "BAX", -1), ("AATF", "MYC", 0), ("SP1", "MYC", 0)]
        assert table.facts["rows_repeated"] == 2

    def test_target_genes_of_chip_atlas(self, tmp_path):
        path = tmp_path / "POU5F1.5.tsv"
        path.write_text("Target_genes\tPOU5F1|Average\tSRX1|hESC\tSTRING\nNANOG\t812.5\t900\t999\nSOX2\t20\t0\t0\n")
        assert edges(read(path, min_score=50)) == [("POU5F1", "NANOG", 0)]

    def test_a_folder_of_files_is_one_network(self, tmp_path):
        folder = tmp_path / "chip_atlas"
        folder.mkdir()
        for tf in ("MYC", "AR"):
            (folder / f"{tf}.5.tsv").write_text(f"Target_genes\t{tf}|Average\tSTRING\nKLK3\t100\t0\n")
        (folder / "readme.md").write_text("not a table")
        table = read(folder)
        assert (table.name, edges(table)) == ("chip_atlas", [("AR", "KLK3", 0), ("MYC", "KLK3", 0)])

    def test_sets_of_genes_named_after_the_factor(self, tmp_path):
        path = tmp_path / "encode.gmt"
        path.write_text("BHLHE40 A549 hg19\t\tDDX,1.0\tEGR1\nBHLHE40 K562 hg19\t\tEGR1\n")
        assert edges(read(path)) == [("BHLHE40", "DDX", 0), ("BHLHE40", "EGR1", 0)]

    def test_a_table_of_ones_own(self, tmp_path):
        path = tmp_path / "own.csv"
        path.write_text("who,whom,how,sure\nA,B,-,0.9\nA,C,+,0.1\n")
        own = {"tf_column": "who", "target_column": "whom", "sign_column": "how", "confidence_column": "sure"}
        assert edges(read(path, min_score=0.5, name="mine", **own)) == [("A", "B", -1)]

    def test_parquet(self, tmp_path):
        pytest.importorskip("pyarrow")
        path = tmp_path / "own.parquet"
        pd.DataFrame({"source": ["A", "A"], "target": ["B", None], "weight": [1.0, 2.0]}).to_parquet(path)
        assert edges(read(path, min_score=1)) == [("A", "B", 0)]

    def test_genes_called_like_missing_values_stay(self, tmp_path):
        path = tmp_path / "own.csv"
        path.write_text("tf,target\nNA,NAN\n")
        assert edges(read(path)) == [("NA", "NAN", 0)]


class TestRefused:
    def test_no_such_file(self, tmp_path):
        with pytest.raises(ConfigError, match=r"network 'x': no file or folder.*name a table of edges"):
            read(tmp_path / "x.tsv")

    def test_a_kind_of_file_that_is_not_read(self, tmp_path):
        (tmp_path / "x.xlsx").write_text("")
        with pytest.raises(ConfigError, match=r"'x.xlsx' is not read; save it as"):
            read(tmp_path / "x.xlsx")

    def test_an_empty_folder(self, tmp_path):
        with pytest.raises(ConfigError, match="no table of edges in"):
            read(tmp_path)

    def test_a_missing_column(self, dorothea):
        with pytest.raises(ConfigError, match="no column 'TF'; set tf_column to one of tf, target, mor"):
            read(dorothea, tf_column="TF")

    def test_headings_that_say_nothing(self, tmp_path):
        (tmp_path / "x.csv").write_text("a,b\nMYC,KLK3\n")
        with pytest.raises(ConfigError, match="no column that is known to hold the tf; set tf_column to one of a, b"):
            read(tmp_path / "x.csv")

    def test_a_source_that_may_be_the_gene(self, tmp_path):
        (tmp_path / "x.tsv").write_text("source\tsource_desc\ttarget\nKLK3\tna\tAR\n")
        with pytest.raises(ConfigError, match="known to hold the tf"):
            read(tmp_path / "x.tsv")
        table = read(tmp_path / "x.tsv", tf_column="target", target_column="source")
        assert edges(table) == [("AR", "KLK3", 0)]

    def test_a_filter_without_a_column_to_read(self, tmp_path):
        (tmp_path / "x.tsv").write_text("tf\ttarget\nA\tB\n")
        with pytest.raises(ConfigError, match="known to hold the confidence"):
            read(tmp_path / "x.tsv", levels=["A"])
        with pytest.raises(ConfigError, match="known to hold the sign"):
            read(tmp_path / "x.tsv", sign="activation")

    def test_words_where_numbers_are_needed(self, dorothea):
        with pytest.raises(DataError, match=r"min_score is 2, but a confidence is no number.*'levels'"):
            read(dorothea, min_score=2)

    def test_a_network_of_which_nothing_is_left(self, dorothea):
        with pytest.raises(DataError, match=r"no edge of .* is left .4 rows, 1 rows without name, 3 rows below conf"):
            read(dorothea, levels=["Z"])

    def test_a_file_that_is_no_table(self, tmp_path):
        (tmp_path / "x.tsv").write_bytes(b"\xff\xfe\x00tf")
        with pytest.raises(DataError, match="not readable as a table of edges"):
            read(tmp_path / "x.tsv")
