"""``scmodelforge perturb`` and ``tl.perturb``: what is written, and what is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import scmodelforge as smf
from scmodelforge._errors import ConfigError, DataError
from scmodelforge.cli.main import app
from scmodelforge.hub import save_bundle
from scmodelforge.workflows import perturb as workflow
from tests.test_cli.test_predict import fails
from tests.test_life_cycle import invoke
from tests.test_tl import assert_same, cells
from tests.test_workflows.ready_models import BINNED, COUNTS, GENES, ready_model

FIRST, SECOND = GENES[0], GENES[4]  # the second has the symbol TNMD
COLUMNS = [
    "gene",
    "symbol",
    "kind",
    "num_cells",
    *("shift", "shift_low", "shift_high"),
    *("goal_shift", "goal_shift_low", "goal_shift_high"),
    *("random_shift", "p_value", "fdr"),
]
OF_GOAL = {name for name in COLUMNS if name.startswith("goal_shift")}


@pytest.fixture(scope="module")
def adata() -> ad.AnnData:
    found = cells(40)
    counts = found.X.toarray()
    counts[:, 20] = 0  # a gene that no cell expresses
    counts[3] = 0
    found.X = type(found.X)(counts)
    found.obs["single"] = ["a", *["b"] * 39]
    return found


@pytest.fixture(scope="module")
def data(adata, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "cells.h5ad"
    adata.write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def bundle():
    return ready_model()


@pytest.fixture(scope="module")
def model(bundle, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "model"
    save_bundle(folder, bundle, card="")
    return folder


class TestCommand:
    def test_writes_the_table_and_where_it_comes_from(self, data, adata, bundle, model, tmp_path):
        out = tmp_path / "effects.csv"
        said = invoke(
            "perturb", data, out, "--model", model, "--genes", f"{FIRST},TNMD", "--to-state", "cell_type=type1"
        )
        assert f"effects: {out} (2 rows)" in said
        table = pd.read_csv(out)
        assert list(table.columns) == COLUMNS
        assert set(table["gene"]) == {FIRST, SECOND}
        assert table.loc[table["gene"] == SECOND, "symbol"].item() == "TNMD"
        facts = json.loads((tmp_path / "effects.csv.json").read_text())
        assert (facts["model"], facts["model_id"]) == (str(model), "000000000000@7")
        assert facts["cells_without_known_genes"] == 1
        assert facts["goal_cells"] + facts["cells_perturbed"] == 39
        assert json.loads(facts["perturbation"])["to_state"] == "cell_type=type1"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["effects.csv", "effects.csv.json"]
        expected = smf.tl.perturb(adata.copy(), bundle, genes=[FIRST, "TNMD"], to_state="cell_type=type1")
        pd.testing.assert_frame_equal(table, expected, atol=1e-9)

    def test_or_a_copy_of_the_cells_with_both(self, data, model, tmp_path):
        out = tmp_path / "out.h5ad"
        invoke("perturb", data, out, "--model", model, "--genes", FIRST, "--kind", "activate", "--per", "cell_type")
        written = ad.read_h5ad(out)
        facts = written.uns.pop("scmodelforge_perturb")
        table = facts.pop("table")
        assert list(table["cell_type"]) == ["type0", "type1", "type2"]
        assert list(table.columns) == [
            *COLUMNS[:3],
            "cell_type",
            *(name for name in COLUMNS[3:] if name not in OF_GOAL),
        ]
        assert facts["architecture"] == "transformer_encoder"
        assert_same(written, ad.read_h5ad(data))

    def test_nothing_is_written_after_ctrl_c(self, data, model, tmp_path, monkeypatch):
        def stopped(*given, **more):
            raise KeyboardInterrupt

        monkeypatch.setattr(workflow, "steady_batch", stopped)
        words = ["perturb", data, tmp_path / "out.csv", "--model", model, "--genes", "all"]
        result = CliRunner().invoke(app, list(map(str, words)))
        assert result.exit_code == 130
        assert result.stderr.splitlines()[-1] == "stopped by Ctrl-C"
        assert list(tmp_path.iterdir()) == []

    def test_an_output_is_replaced_only_if_asked(self, data, model, tmp_path):
        out = tmp_path / "out.csv"
        words = ["perturb", data, out, "--model", model, "--genes", FIRST]
        (tmp_path / "out.csv.json").write_text("mine")
        assert "out.csv.json exists" in fails(*words)
        (tmp_path / "out.csv.json").rename(out)
        assert "out.csv exists" in fails(*words)
        invoke(*words, "--force")
        assert len(pd.read_csv(out)) == 1

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            (["--genes", "GATA99,all,TNMD"], "does not have GATA99, all (2 of 3 named)"),
            (["--genes", ","], "--genes names no gene"),
            (["--genes", GENES[20]], f"--genes: no chosen cell expresses {GENES[20]}"),
            (["--genes", FIRST, "--kind", "remove"], "--kind is 'remove'; choose one of delete, overexpress, activate"),
            (["--genes", FIRST, "--method", "fast"], "--method is 'fast'; choose one of exact, gradient"),
            (["--genes", FIRST, "--combine", "pair"], "--combine is 'pair'; choose one of each, pairs, together"),
            (["--genes", FIRST, "--combine", "pairs"], "--genes names one gene; name at least two"),
            (["--genes", "all", "--combine", "pairs"], "--combine is 'pairs' and --genes 'all'"),
            (["--genes", FIRST, "--per", "tissue"], "--per names the obs column 'tissue'"),
            (["--genes", FIRST, "--to-state", "tissue=x"], "--to-state names the obs column 'tissue'"),
            (["--genes", FIRST, "--to-state", "cell_type=type9"], "no cell has 'type9' in obs column 'cell_type'"),
            (["--genes", FIRST, "--to-state", "single=a"], "--to-state 'single=a' holds for 1 of 40 cells"),
            (["--genes", FIRST, "--from-state", "single=b"], "--from-state needs --to-state"),
            (
                ["--genes", FIRST, "--from-state", "single=b", "--to-state", "cell_type=type1"],
                "are in --from-state and in --to-state",
            ),
            (["--genes", FIRST, "--cells", "single == 'c'"], "the perturbed cells are 0 of 40 cells"),
            (["--genes", FIRST, "--cells", "n_genes >"], "--cells is 'n_genes >'"),
            (["--genes", FIRST, "--kind", "activate", "--method", "gradient"], "'gradient' has no activate"),
        ],
    )
    def test_what_cannot_be_done_is_said_in_one_line(self, data, model, tmp_path, words, expected):
        line = fails("perturb", data, tmp_path / "out.csv", "--model", model, *words)
        assert expected in line
        assert list(tmp_path.iterdir()) == []

    def test_only_tables_and_copies_are_written(self, data, model, tmp_path):
        line = fails("perturb", data, tmp_path / "out.tsv", "--model", model, "--genes", FIRST)
        assert "is neither a .csv file" in line


class TestFunction:
    def test_gives_the_table_and_keeps_it_and_changes_nothing_else(self, adata, bundle):
        given = adata.copy()
        table = smf.tl.perturb(given, bundle, genes="all", key_added="mine", max_cells=6, seed=3)
        assert (np.diff(table["shift"]) <= 0).all()
        assert table["num_cells"].max() == 6
        kept = given.uns.pop("mine")
        pd.testing.assert_frame_equal(kept["table"], table)
        assert kept["cells_perturbed"] == 6
        assert_same(given, adata)

    def test_names_arguments_in_errors_and_leaves_the_object(self, adata, bundle):
        given = adata.copy()
        with pytest.raises(ConfigError, match=r"^genes: the model's vocabulary does not have NOT1"):
            smf.tl.perturb(given, bundle, genes=["NOT1"])
        with pytest.raises(DataError, match=r"^to_state 'single=a' holds for 1 of"):
            smf.tl.perturb(given, bundle, genes=[FIRST], to_state="single=a")
        assert_same(given, adata)

    def test_one_by_one_pairs_and_together(self, adata, bundle):
        three = GENES[:3]
        genes = {
            combine: set(smf.tl.perturb(adata.copy(), bundle, genes=three, combine=combine)["gene"])
            for combine in ("each", "pairs", "together")
        }
        assert genes["each"] == set(three)
        assert genes["pairs"] - genes["each"] == {f"{three[a]}+{three[b]}" for a, b in ((0, 1), (0, 2), (1, 2))}
        assert genes["together"] == {"+".join(three)}

    def test_genes_are_found_under_all_their_names_once(self, adata, bundle):
        table = smf.tl.perturb(adata.copy(), bundle, genes=[SECOND, "TNMD", f"{SECOND}.3"])
        assert list(table["gene"]) == [SECOND]

    def test_states_may_be_expressions(self, adata, bundle):
        options = {"genes": [FIRST], "random_genes": 0}
        one = smf.tl.perturb(adata.copy(), bundle, to_state="cell_type=type1", from_state="cell_type=type0", **options)
        two = smf.tl.perturb(
            adata.copy(), bundle, to_state="cell_type == 'type1'", from_state="cell_type in ['type0']", **options
        )
        pd.testing.assert_frame_equal(one, two)

    def test_cells_of_each_value_are_those_of_a_screen_of_its_own(self, adata, bundle):
        options = {"genes": GENES[:4], "random_genes": 3}
        table = smf.tl.perturb(adata.copy(), bundle, per="cell_type", **options)
        alone = smf.tl.perturb(adata.copy(), bundle, cells="cell_type=type2", **options)
        part = table[table["cell_type"] == "type2"].drop(columns=["cell_type", "fdr"]).reset_index(drop=True)
        pd.testing.assert_frame_equal(part, alone.drop(columns="fdr"), atol=1e-7)

    @pytest.mark.parametrize(("name", "tokenizer"), [("gene_pooling", None), ("scdiva", BINNED)])
    def test_models_without_a_transformer_have_no_gradient(self, adata, name, tokenizer):
        with pytest.raises(ConfigError, match=r"needs a transformer over tokens; .* transformer_encoder"):
            smf.tl.perturb(adata.copy(), ready_model(name, tokenizer), genes="all", method="gradient")

    def test_a_model_that_sees_zeros_deletes_expressed_genes_only(self, adata):
        zeros = ready_model("scgpt", {**BINNED, "include_zeros": True, "max_genes": 31}, max_seq_len=40)
        found = [
            smf.tl.perturb(adata.copy(), each, genes=[FIRST, SECOND], random_genes=0).set_index("gene")["num_cells"]
            for each in (zeros, ready_model("transcriptformer", COUNTS))
        ]
        expressed = (adata[:, [FIRST, SECOND]].X.toarray() > 0).sum(axis=0)
        for counted in found:
            assert counted[[FIRST, SECOND]].tolist() == expressed.tolist()
