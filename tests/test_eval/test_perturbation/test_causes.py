"""What is not defined says the one cause that was seen, and of how many perturbations."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from tests.test_eval.test_perturbation.screens import DOUBLES, HELD_OUT, SINGLES, only, read, run, screen

ALL = ["perturbation_prediction", "perturbbench", "vcc"]
REAL = screen()


def first_cells(adata: ad.AnnData, condition: str, count: int) -> ad.AnnData:
    """Return the data with a few cells of one condition."""
    rows = np.flatnonzero(adata.obs["condition"] == condition)
    return adata[np.setdiff1d(np.arange(adata.n_obs), rows[count:])].copy()


def with_profile(adata: ad.AnnData, condition: str, profile: np.ndarray) -> ad.AnnData:
    """Return the data with the same profile for all cells of a condition."""
    values = adata.X.toarray()
    values[(adata.obs["condition"] == condition).to_numpy()] = profile
    return ad.AnnData(sp.csr_matrix(values), obs=adata.obs.copy(), var=adata.var.copy())


@pytest.mark.parametrize(
    ("side", "condition", "reason"),
    [
        ("predicted", HELD_OUT[0], "only 1 predicted cell; two are needed"),
        ("predicted", "control", "only 1 predicted control cell; two are needed"),
        ("real", HELD_OUT[0], "only 1 real cell; two are needed"),
        ("real", "control", "only 1 real control cell; two are needed"),
    ],
)
def test_cells_that_are_lacking_are_named_by_side(side, condition, reason):
    files = {"predicted": only(screen(seed=1), HELD_OUT), "real": REAL}
    files[side] = first_cells(files[side], condition, 1)
    record = run("vcc", read(**files))["overlap_at_N"]
    assert record.skipped_reason == reason
    assert record.n_skipped == (5 if condition == "control" else 1)


def test_real_data_of_means_are_said_to_be_that():
    names = ["control", *SINGLES, *DOUBLES]
    rows = [np.asarray(REAL.X[(REAL.obs["condition"] == name).to_numpy()].mean(axis=0)) for name in names]
    means = ad.AnnData(sp.csr_matrix(np.concatenate(rows)), obs={"condition": names}, var=REAL.var)
    found = run("perturbation_prediction", read(only(screen(seed=1), HELD_OUT), means))
    for metric in ("edistance", "mse_top20"):
        assert found[metric].skipped_reason == "the real data are means, one row a condition; real cells are needed"


def test_flat_profiles_and_missing_changes_are_told_apart_by_side():
    predicted = only(screen(seed=1), HELD_OUT)
    control = np.asarray(REAL.X[(REAL.obs["condition"] == "control").to_numpy()].mean(axis=0)).ravel()
    flat = with_profile(predicted, HELD_OUT[0], np.full(REAL.n_vars, 1.5))
    found = run("perturbation_prediction", read(flat, REAL))
    assert found["pearson"].skipped_reason == "the predicted profile is the same number for every gene"
    assert found["pearson"].n_skipped == 1
    assert found["pearson_distance"].skipped_reason == found["pearson"].skipped_reason
    assert found["cosine_distance"].skipped_reason is None
    zero = run("perturbbench", read(with_profile(predicted, HELD_OUT[0], np.zeros(REAL.n_vars)), REAL))
    assert zero["average_cosine"].skipped_reason == "the predicted profile is zero for every gene"
    real = run("perturbation_prediction", read(predicted, with_profile(REAL, HELD_OUT[0], np.full(REAL.n_vars, 1.5))))
    assert real["r2"].skipped_reason == "the measured profile is the same number for every gene"
    both = run("vcc", read(with_profile(predicted, "control", control), with_profile(REAL, "control", control)))
    assert both["pearson_delta"].skipped_reason is None


def test_several_causes_have_their_numbers():
    predicted = first_cells(only(screen(seed=1), HELD_OUT), HELD_OUT[0], 1)
    real = first_cells(first_cells(REAL, HELD_OUT[1], 1), HELD_OUT[2], 1)
    record = run("vcc", read(predicted, real))["overlap_at_N"]
    assert record.skipped_reason == (
        "1 perturbation: only 1 predicted cell; two are needed; 2 perturbations: only 1 real cell; two are needed"
    )


def test_a_score_without_its_baseline_says_so_though_there_are_cells():
    found = run("vcc", read(only(screen(seed=1), HELD_OUT), only(REAL, HELD_OUT)))
    assert found["overlap_at_N"].skipped_reason is None
    assert found["vcc_score"].skipped_reason == "there are no training conditions to make the mean baseline of"


def test_correlations_over_perturbations_say_what_does_not_differ():
    found = run("vcc", read(only(screen(seed=1), HELD_OUT[:1]), REAL))
    expected = "1 perturbation has such numbers, and a correlation over perturbations takes two"
    assert found["pearson_edistance"].skipped_reason == expected
    assert found["de_spearman_sig"].skipped_reason == expected


@pytest.mark.parametrize("name", ALL)
def test_no_reason_leaves_a_choice(name):
    """Of every damage above, no reason says that it is this or that."""
    predicted = only(screen(seed=1), HELD_OUT)
    damaged = first_cells(with_profile(predicted, HELD_OUT[1], np.zeros(REAL.n_vars)), HELD_OUT[0], 1)
    for record in run(name, read(damaged, first_cells(REAL, HELD_OUT[2], 1))).values():
        assert record.value is not None or record.skipped_reason
        assert " or " not in (record.skipped_reason or "")
        assert "not defined" not in (record.skipped_reason or "")
