"""What is exported is read by cell-eval, whose numbers are ours. Needs the package: pip install cell-eval."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scmodelforge._errors import DataError
from scmodelforge.eval.perturbation.export import export_for_cell_eval
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
