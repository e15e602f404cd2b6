"""``scmodelforge tokenizer``."""

from __future__ import annotations

import json

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from scmodelforge.hub import save_bundle
from scmodelforge.tokenizers import BaseTokenizer
from tests.conftest import make_adata
from tests.hub_stub import hub_stub, use_hub
from tests.test_hub.published_folders import write_scgpt
from tests.test_hub.test_bundle import make_bundle


def invoke(*words: object):
    return CliRunner().invoke(app, ["tokenizer", *(str(word) for word in words)])


def done(*words: object):
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    return result


def refused(*words: object) -> str:
    result = invoke(*words)
    assert result.exit_code == 2, result.output
    return result.stderr


@pytest.fixture
def two_files(tmp_path):
    """Files with different genes; of gene A the values relative to the cell are 1, 2 and 3 tenths."""
    first, second = tmp_path / "a.h5ad", tmp_path / "b.h5ad"
    for path, counts, genes in (
        (first, [[1, 9, 0], [2, 8, 0]], ["A", "B", "C"]),
        (second, [[3, 7]], ["A", "D"]),
    ):
        adata = ad.AnnData(sp.csr_matrix(np.array(counts, dtype=np.float32)))
        adata.var_names = genes
        adata.write_h5ad(path)
    return first, second


class TestFit:
    def test_medians_are_over_all_cells_of_all_files(self, two_files, tmp_path):
        done("fit", *two_files, "-o", tmp_path / "out")
        medians = json.loads((tmp_path / "out" / "medians.json").read_text())
        assert medians == pytest.approx({"A": 2000.0, "B": 8500.0, "D": 7000.0})  # C is not expressed
        assert BaseTokenizer.from_pretrained(tmp_path / "out").vocab.genes == ["A", "B", "C", "D"]

    def test_a_run_takes_the_medians(self, two_files, tmp_path):
        from scmodelforge.tokenizers.rank_value import RankValueConfig, RankValueTokenizer

        done("fit", *two_files, "-o", tmp_path / "out")
        fitted = BaseTokenizer.from_pretrained(tmp_path / "out")
        config = RankValueConfig(medians=str(tmp_path / "out" / "medians.json"))
        found = RankValueTokenizer(config, fitted.vocab).medians
        np.testing.assert_array_equal(found.divisors(), fitted.medians.divisors())

    def test_settings_reach_the_tokenizer(self, tiny_h5ad, tmp_path):
        done("fit", tiny_h5ad, "-o", tmp_path, "--strategy", "binned_expression", "--set", "tokenizer.n_bins=9")
        found = BaseTokenizer.from_pretrained(tmp_path)
        assert (found.strategy, found.config.n_bins, len(found.centres.values)) == ("binned_expression", 9, 9)

    def test_edges_are_fitted_to_preprocessed_cells_which_inspect_shows(self, tmp_path):
        path, out = tmp_path / "cells.h5ad", tmp_path / "out"
        adata = ad.AnnData(sp.csr_matrix(np.array([[1, 9], [20, 80]], dtype=np.float32)))
        adata.var_names = ["A", "B"]
        adata.write_h5ad(path)
        normalised = ["data.preprocessing.normalize=library_size", "data.preprocessing.target_sum=10"]
        given = ["tokenizer.method=fixed", "tokenizer.n_bins=3", "tokenizer.add_cls=false"]
        words = [word for setting in (*normalised, *given) for word in ("--set", setting)]
        done("fit", path, "-o", out, "--strategy", "binned_expression", *words)
        # 1 and 9, 2 and 8 of 10: the edge between the bins above zero is their median
        np.testing.assert_allclose(BaseTokenizer.from_pretrained(out).edges, [1, 5])
        for cell in (0, 1):
            shown = json.loads(done("inspect", out, "--data", path, "--cell", cell, "--json").stdout)["tokens"]
            assert [row["bin"] for row in shown] == [1, 2]
        (row,) = json.loads(done("compare", path, "--strategy", "binned_expression", *words, "--json").stdout)
        assert row["levels"] == 2

    @pytest.mark.parametrize("setting", ["min_genes_per_cell=3", "hvg_selection=10", "normalize=scran"])
    def test_preprocessing_that_chooses_cells_or_genes_is_refused(self, tiny_h5ad, tmp_path, setting):
        for words in (["fit", tiny_h5ad, "-o", tmp_path / "out"], ["compare", tiny_h5ad, "--strategy", "rank_value"]):
            told = refused(*words, "--set", f"data.preprocessing.{setting}")
            assert f"does not read data.preprocessing.{setting.split('=')[0]}" in told

    def test_a_tokenizer_is_replaced_only_if_asked_to(self, tiny_h5ad, tmp_path):
        done("fit", tiny_h5ad, "-o", tmp_path)
        assert "has a tokenizer; name another folder, or use --force" in refused("fit", tiny_h5ad, "-o", tmp_path)
        done("fit", tiny_h5ad, "-o", tmp_path, "--force")

    def test_mistakes_are_told_and_nothing_is_written(self, tiny_h5ad, tmp_path):
        out = tmp_path / "out"
        assert "must begin with 'tokenizer.'" in refused("fit", tiny_h5ad, "-o", out, "--set", "model.hidden_dim=8")
        assert "tokenizer.max_gene" in refused("fit", tiny_h5ad, "-o", out, "--set", "tokenizer.max_gene=8")
        assert "rank_value" in refused("fit", tiny_h5ad, "-o", out, "--strategy", "rank_valu")
        assert "no file" in refused("fit", tmp_path / "missing.h5ad", "-o", out)
        assert "has nothing to fit" in refused("fit", tiny_h5ad, "-o", out, "--set", "tokenizer.medians=none")
        assert not out.exists()

    def test_medians_of_a_tokenizer_before_do_not_stay(self, tiny_h5ad, tmp_path):
        done("fit", tiny_h5ad, "-o", tmp_path)
        done("fit", tiny_h5ad, "-o", tmp_path, "--strategy", "binned_expression", "--force")
        assert not (tmp_path / "medians.json").exists()


class TestValues:
    @pytest.fixture
    def negative(self, tmp_path):
        adata = ad.AnnData(sp.csr_matrix(np.array([[1, 2], [3, 4], [2, -1.5]], dtype=np.float32)))
        adata.var_names, adata.obs_names = ["A", "B"], ["c0", "c1", "c2"]
        adata.write_h5ad(tmp_path / "negative.h5ad")
        return tmp_path / "negative.h5ad"

    @pytest.mark.parametrize("strategy", ["rank_value", "binned_expression"])
    def test_below_0_are_refused_by_all_commands(self, negative, two_files, tmp_path, strategy):
        told = "negative.h5ad: cell 'c2' (row 2) has a negative value (-1.5) for gene B; "
        assert told in refused("fit", negative, "-o", tmp_path / "out", "--strategy", strategy)
        assert told in refused("compare", negative, "--strategy", strategy)
        assert told in refused("compare", two_files[0], negative, "--strategy", strategy)
        done("fit", *two_files, "-o", tmp_path / "out", "--strategy", strategy)
        assert told in refused("inspect", tmp_path / "out", "--data", negative, "--cell", 2)

    def test_that_are_logged_are_refused_where_counts_are_needed(self, two_files, tmp_path):
        adata = ad.read_h5ad(two_files[0])
        adata.X = adata.X.log1p()
        adata.write_h5ad(tmp_path / "log.h5ad")
        assert "not a whole number" in refused("compare", tmp_path / "log.h5ad", "--strategy", "rank_value")
        done("compare", tmp_path / "log.h5ad", "--strategy", "binned_expression")


class TestInspect:
    def test_takes_ids_from_a_column_and_shows_the_first_tokens_only(self, two_files, tmp_path):
        done("fit", *two_files, "-o", tmp_path / "out")
        adata = ad.read_h5ad(two_files[0])
        adata.var["gid"], adata.var_names = list(adata.var_names), ["x", "y", "z"]
        adata.write_h5ad(tmp_path / "column.h5ad")
        words = ["inspect", tmp_path / "out", "--data", tmp_path / "column.h5ad", "--json", "--first", 2]
        shown = json.loads(done(*words, "--gene-id-column", "gid").stdout)["tokens"]
        assert [row["gene"] for row in shown] == ["<cls>", "B"]  # 9,000 / 8,500 and 1,000 / 2,000

    def test_says_what_it_is(self, tiny_h5ad, tmp_path):
        done("fit", tiny_h5ad, "-o", tmp_path)
        lines = {line[:15].strip(): line[16:] for line in done("inspect", tmp_path).stdout.splitlines()}
        assert lines["tokenizer"].startswith("rank_value, at most 2,048 tokens; medians of")
        assert lines["vocabulary"] == "from_data, 40 genes, 44 tokens"
        assert lines["special tokens"] == "<pad> 0, <unk> 1, <mask> 2, <cls> 3"

    def test_shows_the_tokens_of_a_cell_of_the_second_file(self, two_files, tmp_path):
        done("fit", *two_files, "-o", tmp_path / "out")
        data = [word for path in two_files for word in ("--data", path)]
        found = json.loads(done("inspect", tmp_path / "out", *data, "--cell", 2, "--json").stdout)["tokens"]
        assert [row["gene"] for row in found] == ["<cls>", "A", "D"]  # 3,000 / 2,000 and 7,000 / 7,000
        assert found[1]["value"] == pytest.approx(np.log1p(3000))
        assert [row["place"] for row in found] == [0, 1, 2]

    def test_a_cell_that_is_not_there(self, two_files, tmp_path):
        done("fit", *two_files, "-o", tmp_path / "out")
        words = refused("inspect", tmp_path / "out", "--data", two_files[0], "--cell", 2)
        assert "there is no cell 2; the files have cells 0 to 1" in words


class TestInspectOfModels:
    def test_ours_are_found_in_their_folder_and_on_the_hub(self, tmp_path, monkeypatch):
        save_bundle(tmp_path / "run/model", make_bundle(), card="")
        here = done("inspect", tmp_path / "run/model").stdout
        assert done("inspect", tmp_path / "run").stdout == here  # of a run it is the exported model
        monkeypatch.setenv("SCMODELFORGE_CACHE", str(tmp_path / "cache"))
        with hub_stub() as hub:
            use_hub(monkeypatch, hub.url, tmp_path / "hf")
            hub.add("me/toy", {path.name: path.read_bytes() for path in (tmp_path / "run/model").iterdir()})
            assert done("inspect", "hf://me/toy").stdout == here

    def test_published_ones_are_described_too(self, tmp_path):
        lines = {line[:15].strip(): line[16:] for line in done("inspect", write_scgpt(tmp_path)).stdout.splitlines()}
        assert lines["vocabulary"].endswith("20 genes, 23 tokens")
        assert lines["tokenizer"].startswith("binned_expression")

    def test_a_name_that_is_none_is_one_line(self):
        assert "no published model 'genformer'. Did you mean 'geneformer'" in refused(
            "inspect", "scmodelforge://genformer"
        )

    def test_a_folder_without_any_says_what_it_holds(self, tmp_path):
        assert "it is empty" in refused("inspect", tmp_path)


class TestCompare:
    def test_shares_are_those_of_a_count_by_hand(self, tmp_path):
        path = tmp_path / "cells.h5ad"
        adata = ad.AnnData(sp.csr_matrix(np.array([[4, 3, 2, 1, 0], [0, 0, 5, 0, 5]], dtype=np.float32)))
        adata.var_names = ["A", "B", "C", "D", "E"]
        adata.write_h5ad(path)
        genes = tmp_path / "genes.txt"
        genes.write_text("A\nB\nC\nE\n")
        words = ["--gene-vocab", genes, "--set", "tokenizer.max_genes=3", "--set", "tokenizer.medians=none"]
        (found,) = json.loads(done("compare", path, *words, "--strategy", "rank_value", "--json").stdout)
        # six genes are expressed; D is not known, and of the first cell C has no room beside <cls>, A and B
        assert found["genes_unknown"] == pytest.approx(1 / 6)
        assert found["genes_cut"] == pytest.approx(1 / 6)
        assert found["genes_kept"] == pytest.approx(4 / 6)
        assert found["counts_kept"] == pytest.approx(17 / 20)
        assert found["cells_cut"] == 0.5
        assert found["tokens"] == 3
        assert found["levels"] == 2.5  # 0, 4 and 3; 0 and 5 twice
        assert found["microseconds"] > 0

    def test_all_tokenizers_unless_some_are_named(self, tiny_h5ad):
        from scmodelforge._registry import TOKENIZERS

        result = done("compare", tiny_h5ad, "--cells", 20, "--json")
        left_out = [name for name in TOKENIZERS.names() if f"{name} is left out: " in result.stderr]
        assert left_out == ["gene_embedding"]  # needs vectors
        compared = [row["strategy"] for row in json.loads(result.stdout)]
        assert sorted([*compared, *left_out]) == TOKENIZERS.names()
        assert "tokenizer.path" in refused("compare", tiny_h5ad, "--strategy", "gene_embedding")

    def test_settings_that_none_has(self, tiny_h5ad):
        assert "no tokenizer takes these settings" in refused("compare", tiny_h5ad, "--set", "tokenizer.nothing=1")

    def test_a_table_for_people(self, tmp_path):
        path = tmp_path / "cells.h5ad"
        make_adata(30, 20).write_h5ad(path)
        result = done("compare", path, "--cells", 10, "--strategy", "rank_value")
        assert "rank_value" in result.stdout
        assert "10 of 30 cells" in result.stderr
