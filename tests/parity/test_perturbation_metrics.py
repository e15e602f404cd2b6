"""Scores of predicted perturbations against those of PerturBench d357dfa, cell-eval 0.8.2 and pertpy 1.0.3.

The predictions are those of four methods on a part of Norman et al. (2019) and on a synthetic screen with many DE
genes. Made with scanpy 1.11.5, pdex 0.3.0 and numpy 2.4.6; see README.md beside the files.
"""

from __future__ import annotations

import csv
import json
import math
from functools import cache

import anndata as ad
import numpy as np
import pytest

from scmodelforge.eval.perturbation import means
from scmodelforge.eval.perturbation.conditions import Group
from scmodelforge.eval.perturbation.de import overestimated_t, rank_sums, top_genes
from scmodelforge.eval.perturbation.distances import DISTANCES, edistance
from scmodelforge.eval.perturbation.inputs import PerturbationPredictions, read_predictions
from scmodelforge.eval.perturbation.linear import solve_gkp
from scmodelforge.eval.perturbation.perturbench import perturbench_scores
from scmodelforge.eval.perturbation.vcc import vcc_scores
from tests.parity.golden import golden_folder, needs

FOLDER = golden_folder("eval")
pytestmark = needs(FOLDER)

SCREENS = ["norman", "synthetic"]
METHODS = ["no_change", "train_perturbed_mean", "additive", "noisy_additive"]
#: Metrics of cell-eval that are not computed here: see docs/evaluation/perturbation.md.
LEFT_OUT = {"perturbation", "clustering_agreement"}
#: Distances of pertpy that are not, and what ours are called.
NOT_OURS = {"wasserstein"}
NAMES = {"mmd": "mmd_linear", "root_mean_squared_error": "euclidean"}


@cache
def expected(screen: str) -> dict:
    return json.loads((FOLDER / f"{screen}_perturbation_expected.json").read_text())


@cache
def predictions(screen: str, method: str) -> PerturbationPredictions:
    read = [ad.read_h5ad(FOLDER / f"{screen}_{name}.h5ad") for name in (f"pred_{method}", "real")]
    return read_predictions(*read, scale="log1p", condition="condition", control="control")


def genes_of(screen: str) -> np.ndarray:
    return np.sort(ad.read_h5ad(FOLDER / f"{screen}_real.h5ad", backed="r").var_names.to_numpy(str))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("screen", SCREENS)
class TestEveryPrediction:
    def test_perturbench(self, screen, method):
        theirs = expected(screen)["perturbench"]["results"]
        comparison = predictions(screen, method).comparison
        ours = {score.metric: score for score in perturbench_scores(comparison)}
        for name, golden in theirs.items():
            found = ours[name.replace(".", "_").replace("r2_score", "r2")].values
            wanted = [golden[method][f"k562_{group.perturbation}"] for group in comparison.groups]
            np.testing.assert_allclose(found, wanted, atol=1e-6, err_msg=name)

    def test_cell_eval(self, screen, method):
        rows = {row["perturbation"]: row for row in expected(screen)["cell_eval"][method]["per_pert"]}
        comparison = predictions(screen, method).comparison
        everything = np.arange(len(comparison.groups))
        ours = {score.metric: score for score in vcc_scores(comparison)}
        assert set(ours) == set(next(iter(rows.values()))) - LEFT_OUT
        for name, score in ours.items():
            whole = None if score.of_rows is None else score.of_rows(everything)
            for group, value in zip(comparison.groups, score.values, strict=True):
                golden = rows[group.perturbation][name]
                golden = math.nan if golden is None else golden
                found = value if whole is None else whole
                np.testing.assert_allclose(found, golden, atol=1e-4, err_msg=f"{name} of {group.label}")

    def test_pertpy(self, screen, method):
        comparison = predictions(screen, method).comparison
        for name, golden in expected(screen)["pertpy_distance_pred_vs_real"].items():
            if name in NOT_OURS or method not in golden or (screen, name) == ("norman", "sym_kldiv"):
                continue
            distance = DISTANCES[NAMES.get(name, name)]
            for group in comparison.groups:
                found = distance(comparison.predicted, group, comparison.real, group)
                assert found == pytest.approx(golden[method][group.perturbation], rel=1e-4, abs=1e-4), name

    def test_plain_formulas(self, screen, method):
        stored = np.load(FOLDER / f"{screen}_pred_means.npz")
        order = np.argsort(stored["genes"])
        comparison = predictions(screen, method).comparison
        genes = genes_of(screen)
        for row, target in enumerate(stored["targets"]):
            golden = expected(screen)["plain_formulas_on_means"][str(target).strip("|")]
            predicted, truth, control = (stored[name][row][order] for name in (method, "real", "control"))
            group = Group("", str(target).strip("|"))
            top = top_genes(overestimated_t(comparison.real, group), 20)
            assert genes[top].tolist() == golden["top20_de_t_test_overestim_var_vs_control"]
            most = means.top_expressed(control, 250)
            found = {
                "mse": means.mse(predicted, truth),
                "mae": means.mae(predicted, truth),
                "l2": means.l2(predicted, truth),
                "pearson": means.pearson(predicted, truth),
                "pearson_delta": means.pearson_delta(predicted, truth, control),
                "mse_top20": means.mse(predicted[top], truth[top]),
                "pearson_delta_top20": means.pearson_delta(predicted[top], truth[top], control[top]),
                "direction_agreement_top20": means.direction_agreement(predicted[top], truth[top], control[top]),
                "l2_top250_expressed_in_control": means.l2(predicted[most], truth[most]),
            }
            for name, value in golden[method].items():
                wanted = math.nan if value is None else value
                if (screen, name) == ("norman", "l2_top250_expressed_in_control"):
                    continue  # 397 of the 500 genes are in no control cell: which 250 are the most expressed is by lot
                np.testing.assert_allclose(found[name], wanted, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("screen", SCREENS)
def test_de_of_pdex(screen):
    for side, name in (("real", "real_de"), ("predicted", "pred_de_additive")):
        cells = getattr(predictions(screen, "additive").comparison, side)
        with (FOLDER / f"{screen}_celleval_{name}.csv").open() as file:
            rows = list(csv.DictReader(file))
        for group in predictions(screen, "additive").comparison.groups:
            own = sorted((row for row in rows if row["target"] == group.perturbation), key=lambda row: row["feature"])
            found = rank_sums(cells, group)
            columns = {"statistic": found.u, "p_value": found.p, "fdr": found.fdr, "log2_fold_change": found.log2_fold}
            for column, values in columns.items():
                golden = np.array([float(row[column]) for row in own])
                np.testing.assert_allclose(values, golden, atol=1e-5, err_msg=column)


@pytest.mark.parametrize("screen", SCREENS)
def test_energy_distance_to_control_of_pertpy(screen):
    real = predictions(screen, "additive").comparison.real
    for name, golden in expected(screen)["pertpy_edistance_real_vs_control"].items():
        group = Group("", name)
        assert edistance(real, group, real, group.control) == pytest.approx(golden, rel=1e-4)


def test_linear_model():
    stored = np.load(FOLDER / "linear_gkp_solver.npz")
    solution, offset = solve_gkp(stored["Y"], stored["G"], stored["P"], ridge=float(stored["ridge"]))
    np.testing.assert_allclose(solution, stored["K"], atol=1e-10)
    np.testing.assert_allclose(offset, stored["b"][:, 0], atol=1e-12)
    predicted = stored["G"] @ solution @ stored["P"] + offset[:, None]
    np.testing.assert_allclose(predicted, stored["pred"], atol=1e-10)
