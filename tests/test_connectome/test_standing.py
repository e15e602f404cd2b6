"""Who is best is said as the figures have it: no winner by chance, none left out, places always beside."""

from __future__ import annotations

import numpy as np
import pytest

from scmodelforge.workflows.connectome.standing import comparisons, standings, table_of, verdict


def rows(**scores: tuple[str, str, list[float | None]]) -> list[dict]:
    """Return rows of predictors: kind, what they know, and r of each fold."""
    return [
        {
            "name": name,
            "kind": kind,
            "uses": uses,
            "seed": 0,
            "fold": fold,
            "num_pairs": 30 + fold,
            "inner": {"pearson_r": r, "mse": 1.0},
            "cross": {"pearson_r": r, "mse": 1.0},
        }
        for name, (kind, uses, values) in scores.items()
        for fold, r in enumerate(values, start=1)
    ]


def said(*, share: float = 0.25, **scores) -> list[str]:
    found = standings(rows(**scores))
    return verdict(found, comparisons(found, share))


NET = ("model", "genes", [0.80, 0.82, 0.79, 0.81])
PLACES = ("baseline", "coordinates", [0.30, 0.31, 0.29, 0.30])
NOISE = ("baseline", "genes", [0.70, 0.95, 0.60, 0.91])


def test_a_model_that_is_ahead_on_every_fold():
    best, rival = said(net=NET, places=PLACES)
    assert best == "best on pairs of two held-out regions: net (genes), r 0.805 ± 0.013 over 4 folds of 31 to 34 pairs"
    assert rival.startswith("net is 0.505 above places (coordinates); the 95 % interval [+0.")
    assert rival.endswith("does not hold 0 (better in 4 of 4 folds)")


def test_a_difference_that_may_be_chance_is_called_so():
    best, rival, places = said(net=NET, noisy=NOISE, places=PLACES)
    assert best.startswith("best on pairs of two held-out regions: net ")
    assert "net is 0.015 above noisy (genes)" in rival
    assert "holds 0: it may be chance" in rival
    assert "places (coordinates)" in places


def test_a_model_that_is_behind_is_not_the_winner():
    best, rank, rival = said(net=("model", "genes", [0.1, 0.2, 0.1, 0.2]), places=PLACES)
    assert best.startswith("best on pairs of two held-out regions: places (coordinates)")
    assert rank == "the model net is number 2 of 2, r 0.150 ± 0.058"
    assert rival.startswith("net is 0.150 below places (coordinates)")


def test_baselines_alone_and_no_coordinates():
    best, places = said(cge=NOISE)
    assert best.startswith("best on pairs of two held-out regions: cge (genes), r 0.790 ± 0.168 over 4 folds")
    assert places.startswith("coordinates alone: not known, since the regions have no coordinates")
    assert places.endswith("these scores do not show that genes matter")
    assert said(cge=("baseline", "genes", [0.9, 0.8]), places=(*PLACES[:2], [0.1, 0.2]))[1] == (
        "coordinates alone: places, r 0.150 ± 0.071"
    )


def test_predictors_without_a_correlation_come_last_and_none_is_none():
    found = standings(rows(mean=("baseline", "nothing", [None, None]), net=("model", "genes", [0.1, 0.2])))
    assert [each.name for each in found] == ["net", "mean"]
    assert found[1].to_dict()["pearson_r_mean"] is None
    assert found[1].to_dict()["mse_mean"] == 1.0
    assert comparisons(found, 0.25) == []  # with a constant there is nothing to compare
    assert "no predictor has a correlation" in verdict(standings(rows(mean=("baseline", "nothing", [None]))), [])[0]


def test_a_difference_of_one_fold_has_no_interval():
    found = standings(rows(net=("model", "genes", [0.5]), cge=("baseline", "genes", [0.25])))
    (gap,) = comparisons(found, 0.25)
    assert gap.to_dict() == {
        "name": "net", "against": "cge", "mean": 0.25, "low": None, "high": None, "num_better": 1, "num_folds": 1
    }  # fmt: skip


def test_a_predictor_that_lacks_a_fold_is_not_ranked_by_the_others():
    lines = said(net=("model", "genes", [0.9, None, 0.9, 0.9]), places=PLACES, mean=("baseline", "nothing", [None] * 4))
    assert lines[0].startswith("best on pairs of two held-out regions: places (coordinates)")
    assert lines[1:] == ["net has an r on 3 of 4 folds and is not ranked"]


def test_pairs_that_are_not_known_are_not_told():
    made = [{name: value for name, value in row.items() if name != "num_pairs"} for row in rows(net=NET, places=PLACES)]
    found = standings(made)
    assert verdict(found, comparisons(found, 0.25))[0].endswith("r 0.805 ± 0.013 over 4 folds")


def test_the_best_is_compared_with_all_and_so_is_the_model():
    found = standings(rows(net=NET, good=("baseline", "genes", [0.9, 0.91, 0.9, 0.9]), places=PLACES))
    pairs = {(each.name, each.against) for each in comparisons(found, 0.25)}
    assert pairs == {("net", "good"), ("net", "places"), ("good", "net"), ("good", "places")}


@pytest.mark.parametrize("with_model", [True, False])
def test_every_row_of_the_table_has_every_column(with_model):
    scores = {"cge": NOISE, "mean": ("baseline", "nothing", [None] * 4), **({"net": NET} if with_model else {})}
    found = standings(rows(**scores))
    columns, cells = table_of(found, comparisons(found, 0.25))
    assert {len(row) for row in cells} == {len(columns)}
    assert cells[-1][0] == "coordinates alone"
    assert ("model minus it" in columns) == with_model


def test_means_are_over_the_folds_that_have_one():
    (only,) = standings(rows(cge=("baseline", "genes", [0.5, None, 0.7])))
    assert only.mean == pytest.approx(0.6)
    assert only.to_dict()["pearson_r_sd"] == pytest.approx(np.std([0.5, 0.7], ddof=1))


def test_a_model_and_a_baseline_of_one_name_stand_apart():
    both = rows(mlp=("model", "genes", [0.9, 0.9])) + rows(mlp=("baseline", "genes", [0.1, 0.1]))
    assert [(each.kind, each.mean, len(each.r)) for each in standings(both)] == [
        ("model", pytest.approx(0.9), 2),
        ("baseline", pytest.approx(0.1), 2),
    ]
