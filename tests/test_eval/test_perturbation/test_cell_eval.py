"""What is exported is read by cell-eval, whose numbers are ours. Needs the package: pip install cell-eval."""

from __future__ import annotations

import math

import anndata as ad
import numpy as np
import pytest

from scmodelforge._errors import DataError
from scmodelforge.eval.perturbation.export import check_export, export_covariates, export_for_cell_eval
from scmodelforge.eval.perturbation.vcc import vcc_scores
from tests.test_eval.test_perturbation.screens import HELD_OUT, only, read, screen


@pytest.fixture
def predictions():
    return read(only(screen(seed=1), HELD_OUT), screen())


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_numbers_of_cell_eval_are_ours(predictions, tmp_path):
    cell_eval = pytest.importorskip("cell_eval")
    pred, real = export_for_cell_eval(predictions, tmp_path / "files")
    evaluator = cell_eval.MetricsEvaluator(
        adata_pred=str(pred),
        adata_real=str(real),
        control_pert="non-targeting",
        pert_col="target_gene",
        num_threads=1,
        outdir=str(tmp_path / "out"),
    )
    rows = {row["perturbation"]: row for row in evaluator.compute(profile="full")[0].to_dicts()}
    groups = predictions.comparison.groups
    for score in vcc_scores(predictions.comparison):
        whole = None if score.of_rows is None else score.of_rows(np.arange(len(groups)))
        for group, value in zip(groups, score.values, strict=True):
            theirs = rows[group.perturbation][score.metric]
            theirs = math.nan if theirs is None else theirs
            np.testing.assert_allclose(value if whole is None else whole, theirs, atol=1e-4, err_msg=score.metric)


class TestExport:
    def test_replaces_nothing(self, predictions, tmp_path):
        export_for_cell_eval(predictions, tmp_path)
        with pytest.raises(DataError, match=r"pred\.h5ad exists"):
            export_for_cell_eval(predictions, tmp_path)

    def test_needs_a_covariate_that_is_there(self, predictions, tmp_path):
        with pytest.raises(DataError, match="nothing is predicted for the covariate 'k562'"):
            export_for_cell_eval(predictions, tmp_path, covariate="k562")

    def test_refuses_a_scored_condition_that_is_called_as_the_controls_are(self, tmp_path):
        real = screen()
        real.obs["condition"] = real.obs["condition"].replace("GENE005", "non-targeting").astype(str)
        found = read(only(real, ["GENE006", "non-targeting"]), real)
        for write in (export_for_cell_eval, export_covariates, check_export):
            with pytest.raises(DataError, match="the condition 'non-targeting' is scored, and files for cell-eval"):
                write(found, tmp_path / "files")
        export_for_cell_eval(found, tmp_path / "files", control="control")

    def test_leaves_nothing_of_a_pair_that_could_not_be_written(self, tmp_path, broken_write):
        found, folder = self.of_lines("k562"), tmp_path / "files"
        broken_write(2)
        with pytest.raises(DataError, match=r"cannot be written \(no space\)"):
            export_for_cell_eval(found, folder, covariate="k562")
        assert list(folder.iterdir()) == []
        export_for_cell_eval(found, folder, covariate="k562")
        assert sorted(path.name for path in folder.iterdir()) == ["pred.h5ad", "real.h5ad"]

    def test_of_covariates_is_whole_or_is_not(self, tmp_path, broken_write):
        found = self.of_lines("k562", "rpe1")
        broken_write(4)
        with pytest.raises(DataError, match=r"cannot be written \(no space\)"):
            export_covariates(found, tmp_path / "files")
        assert list(tmp_path.iterdir()) == []
        lines = export_covariates(found, tmp_path / "files")
        assert [line.split()[-1] for line in lines] == [
            str(tmp_path / "files" / line / "real.h5ad") for line in ("k562", "rpe1")
        ]

    @pytest.mark.parametrize(
        ("lines", "words"),
        [
            (("..",), "the covariate '..' cannot be the name of a folder"),
            ((".", "k562"), "the covariate '.' cannot be the name of a folder"),
            (("k" * 300,), "cannot be the name of a folder"),
            (("K562 a", "K562_a"), "the covariates 'K562 a' and 'K562_a' would both be written to 'K562_a'"),
            (("K562", "k562"), "the covariates 'K562' and 'k562' would both be written to 'k562'"),
        ],
    )
    def test_needs_covariates_that_can_be_folders_before_it_writes_any(self, tmp_path, lines, words):
        for write in (check_export, export_covariates):
            with pytest.raises(DataError, match=words):
                write(self.of_lines(*lines), tmp_path / "in" / "files")
        assert list(tmp_path.iterdir()) == []

    @staticmethod
    def of_lines(*lines):
        real = screen(["GENE001", "GENE002"], cells=3, controls=3, lines=lines)
        predicted = real[real.obs["condition"] != "GENE002"].copy()
        return read(predicted, real, covariates=["line"])

    @pytest.fixture
    def broken_write(self, monkeypatch):
        """Return a function after which one of the next files, by its number, is begun and not ended, once."""
        write = ad.AnnData.write_h5ad

        def after(number: int) -> None:
            seen = []

            def broken(adata, path):
                seen.append(path)
                if len(seen) == number:
                    path.write_bytes(b"half")
                    msg = "no space"
                    raise OSError(msg)
                write(adata, path)

            monkeypatch.setattr(ad.AnnData, "write_h5ad", broken)

        return after
