"""Predictions whose scores are known: perfect ones, no change, noise, and the right ones under wrong names."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from scmodelforge.eval.perturbation.baselines import baseline_cells, baseline_means
from tests.test_eval.test_perturbation.screens import GENES, HELD_OUT, only, read, run, screen, values

ALL = ["perturbation_prediction", "perturbbench", "vcc"]
#: Metrics whose best value is no plain 0 or 1: counts, and the spread of the cells.
NO_BEST = {"de_nsig_counts_real", "de_nsig_counts_pred", "mean_pairwise", "edistance_scperturb"}
REAL = screen()


def best_of(record) -> float:
    if record.metric.startswith(("vcc_",)):
        return 1.0
    return 1.0 if record.higher_is_better else 0.0


class TestPerfectPrediction:
    @pytest.mark.parametrize("name", ALL)
    def test_scores_perfectly_in_every_metric(self, name):
        found = run(name, read(only(REAL, HELD_OUT), REAL))
        scored = {metric: record for metric, record in found.items() if metric not in NO_BEST}
        assert len(scored) > 10
        for metric, record in scored.items():
            assert record.value == pytest.approx(best_of(record), abs=1e-6), metric
            assert record.n_skipped == 0

    def test_has_as_many_de_genes_as_there_are(self):
        found = run("vcc", read(only(REAL, HELD_OUT), REAL))
        assert found["de_nsig_counts_real"].value == found["de_nsig_counts_pred"].value > 4

    def test_is_above_the_noise_ceiling_and_this_below_a_perfect_score(self):
        found = run("perturbation_prediction", read(only(REAL, HELD_OUT), REAL))
        assert 0.8 < found["pearson_delta"].noise_ceiling < 1
        assert found["rmse"].noise_ceiling > 0.02
        assert found["discrimination_score_l1"].noise_ceiling == 1

    @pytest.mark.parametrize("name", ALL)
    def test_has_the_noise_ceiling_of_the_measured_cells_whatever_is_predicted(self, name):
        """Predictions of means have one row for each perturbation, and no controls."""
        cells = only(REAL, HELD_OUT)
        conditions = cells.obs["condition"].to_numpy()
        rows = np.concatenate([np.asarray(cells[conditions == each].X.mean(axis=0)) for each in HELD_OUT])
        means = ad.AnnData(rows.astype(np.float32), var=cells.var, obs={"condition": list(HELD_OUT)})
        of_cells, of_means = (run(name, read(predicted, REAL)) for predicted in (cells, means))
        assert {metric: each.noise_ceiling for metric, each in of_cells.items()} == {
            metric: each.noise_ceiling for metric, each in of_means.items()
        }
        assert all(record.noise_ceiling is not None for record in of_means.values())

    def test_has_no_noise_ceiling_where_a_mean_is_all_that_was_measured(self):
        conditions = REAL.obs["condition"].to_numpy()
        names = list(dict.fromkeys(conditions))
        rows = np.concatenate([np.asarray(REAL[conditions == each].X.mean(axis=0)) for each in names])
        means = ad.AnnData(rows.astype(np.float32), var=REAL.var, obs={"condition": names})
        found = run("perturbbench", read(only(means, HELD_OUT), means))
        assert {record.noise_ceiling for record in found.values()} == {None}


class TestNoChange:
    def predictions(self):
        found = read(only(REAL, HELD_OUT), REAL)
        groups = found.comparison.groups
        means = baseline_means("no_change", found.training, groups)
        return found.predicting(baseline_cells(means, found.comparison.real))

    def test_has_a_change_of_exactly_zero(self):
        comparison = self.predictions().comparison
        assert (comparison.predicted_means == comparison.real_control).all()

    @pytest.mark.parametrize("name", ["perturbation_prediction", "vcc"])
    def test_correlation_of_changes_is_undefined_and_counted(self, name):
        record = run(name, self.predictions())["pearson_delta"]
        assert (record.value, record.n, record.n_skipped) == (None, 0, 5)
        assert "no change" in record.skipped_reason
        assert record.tables["per_perturbation"]["pearson_delta"] == [None] * 5

    def test_agrees_in_no_direction_and_has_no_de_gene(self):
        assert run("perturbation_prediction", self.predictions())["direction_agreement_top20"].value == 0
        found = run("vcc", self.predictions())
        assert found["de_nsig_counts_pred"].value <= 1
        assert found["overlap_at_N"].value < 0.1

    def test_ranks_by_similarity_are_at_chance(self):
        assert run("perturbbench", self.predictions())["rank_logfc_cosine"].value == pytest.approx(0.4)
        assert run("vcc", self.predictions())["discrimination_score_cosine"].value == pytest.approx(0.6)

    def test_scores_its_own_error_as_that_of_the_truth_from_control(self):
        found = self.predictions()
        truth = found.comparison.real_means - found.comparison.real_control
        assert run("vcc", found)["mae"].value == pytest.approx(np.abs(truth).mean())


class TestNoise:
    def noise(self, seed):
        predicted = only(REAL, HELD_OUT)
        rng = np.random.default_rng(seed)
        is_control = (predicted.obs["condition"] == "control").to_numpy()
        control = predicted.X[is_control].toarray().mean(axis=0)
        shift = {name: rng.normal(0, 0.4, len(GENES)) for name in HELD_OUT}
        dense = predicted.X.toarray()
        for row, name in enumerate(predicted.obs["condition"]):
            if name != "control":
                dense[row] = np.maximum(control + shift[name] + rng.normal(0, 0.3, len(GENES)), 0)
        predicted.X = sp.csr_matrix(dense.astype(np.float32))
        return read(predicted, REAL)

    def test_is_at_chance(self):
        """Means over eight predictions: ranks from 0 to 0.8, so 0.4 by chance; no correlation of changes."""
        found = [self.noise(seed) for seed in range(8)]
        bench = [run("perturbbench", each) for each in found]
        assert np.mean([each["rank_average_rmse"].value for each in bench]) == pytest.approx(0.4, abs=0.1)
        assert abs(np.mean([each["logfc_pearson"].value for each in bench])) < 0.1
        headline = [run("perturbation_prediction", each) for each in found[:3]]
        assert abs(np.mean([each["pearson_delta"].value for each in headline])) < 0.15
        assert np.mean([each["direction_agreement_top20"].value for each in headline]) == pytest.approx(0.5, abs=0.12)


def renamed() -> ad.AnnData:
    """Return perfect predictions, each under the name of the next perturbation."""
    predicted = only(REAL, HELD_OUT)
    other = dict(zip(HELD_OUT, [*HELD_OUT[1:], HELD_OUT[0]], strict=True))
    predicted.obs["condition"] = [other.get(name, name) for name in predicted.obs["condition"]]
    return predicted


def test_permuted_labels_destroy_the_scores():
    wrong = read(renamed(), REAL)
    of_cells, bench = run("vcc", wrong), run("perturbbench", wrong)
    assert of_cells["discrimination_score_l1"].value < 0.75
    assert of_cells["overlap_at_N"].value < 0.6
    assert bench["logfc_cosine"].value < 0.5
    assert bench["rank_average_rmse"].value > 0.15
    assert run("perturbation_prediction", wrong)["edistance"].value > 0.5


@pytest.mark.parametrize("name", ALL)
def test_order_of_cells_and_genes_never_matters(name):
    predicted = only(screen(seed=1), HELD_OUT)
    rng = np.random.default_rng(0)
    shuffled = [each[rng.permutation(each.n_obs)][:, rng.permutation(each.n_vars)].copy() for each in (predicted, REAL)]
    assert values(run(name, read(*shuffled))) == values(run(name, read(predicted, REAL)))


@pytest.mark.parametrize("name", ALL)
def test_dense_and_sparse_files_give_the_same_numbers(name):
    predicted = only(screen(seed=1), HELD_OUT)
    dense = [each.copy() for each in (predicted, REAL)]
    for each in dense:
        each.X = each.X.toarray()
    first, second = run(name, read(*dense)), run(name, read(predicted, REAL))
    for metric, record in first.items():
        assert record.value == pytest.approx(second[metric].value, abs=1e-6), metric


def test_means_instead_of_cells_are_scored_where_no_cells_are_needed():
    predicted = only(screen(seed=1), HELD_OUT)
    names = [*HELD_OUT, "control"]
    rows = [np.asarray(predicted.X[(predicted.obs["condition"] == name).to_numpy()].mean(axis=0)) for name in names]
    means = ad.AnnData(sp.csr_matrix(np.concatenate(rows)), obs={"condition": names}, var=predicted.var)
    of_means, of_cells = run("vcc", read(means, REAL)), run("vcc", read(predicted, REAL))
    assert of_means["mae"].value == pytest.approx(of_cells["mae"].value, rel=1e-5)
    assert of_means["overlap_at_N"].value is None
    headline = run("perturbation_prediction", read(means, REAL))
    of_cells = [of_means[metric] for metric in ("overlap_at_N", "vcc_score", "pearson_edistance")]
    for record in (*of_cells, headline["edistance"]):
        assert record.value is None
        assert record.skipped_reason == "these are means, one row a condition; predicted cells are needed"
