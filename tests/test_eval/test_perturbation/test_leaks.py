"""What is held out reaches no baseline and no choice of genes; a run in which it could fails."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.eval.perturbation.baselines import Training, baseline_cells, baseline_means, baseline_names
from scmodelforge.eval.perturbation.conditions import Group
from scmodelforge.eval.perturbation.headline import de_genes
from scmodelforge.eval.perturbation.inputs import PerturbationPredictions
from tests.test_eval.test_perturbation.screens import HELD_OUT, SINGLES, only, read, screen

REAL = screen()
TRAIN = [("", name) for name in SINGLES if name not in HELD_OUT]


def altered(adata, conditions):
    """Return the cells with other values in some conditions."""
    values = adata.X.toarray()
    chosen = adata.obs["condition"].isin(conditions).to_numpy()
    values[chosen] = values[chosen][:, ::-1] + 1
    return type(adata)(sp.csr_matrix(values), obs=adata.obs.copy(), var=adata.var.copy())


@pytest.mark.parametrize("name", ["no_change", "perturbed_mean", "additive", "linear", "linear_random", "nearest"])
class TestBaselines:
    def test_do_not_depend_on_held_out_cells(self, name):
        found = []
        for real in (REAL, altered(REAL, HELD_OUT)):
            each = read(only(REAL, HELD_OUT), real, train=TRAIN)
            assert name in baseline_names(each.training, each.comparison.groups)
            means = baseline_means(name, each.training, each.comparison.groups)
            cells = baseline_cells(means, each.comparison.real)
            found.append([*means.values(), *(cells.cells(group).toarray() for group in each.comparison.groups)])
        for first, second in zip(*found, strict=True):
            np.testing.assert_array_equal(first, second)

    def test_do_not_depend_on_predictions(self, name):
        found = []
        for predicted in (only(REAL, HELD_OUT), altered(only(REAL, HELD_OUT), HELD_OUT)):
            each = read(predicted, REAL)
            found.append(baseline_means(name, each.training, each.comparison.groups))
        for group, mean in found[0].items():
            np.testing.assert_array_equal(mean, found[1][group])


def test_some_baselines_depend_on_training_cells():
    """So that the tests above can fail."""
    means = []
    for real in (REAL, altered(REAL, ["GENE001"])):
        each = read(only(REAL, HELD_OUT), real, train=TRAIN)
        means.append(baseline_means("additive", each.training, each.comparison.groups))
    assert not np.array_equal(*(each[Group("", "GENE001+GENE002")] for each in means))


class TestRunsThatCouldLeakFail:
    @pytest.mark.parametrize("spelling", ["GENE001+GENE002", "GENE002+GENE001", " GENE001 + GENE002"])
    def test_a_scored_condition_among_the_training_ones(self, spelling):
        with pytest.raises(DataError, match=r"1 of 5 conditions that would be scored were trained on"):
            read(only(REAL, HELD_OUT), REAL, train=[*TRAIN, ("", spelling)])

    def test_predictions_with_a_training_that_has_seen_them(self):
        good = read(only(REAL, HELD_OUT), REAL)
        group = good.comparison.groups[0]
        bad = Training(good.training.genes, {group: good.comparison.real.mean(group)}, good.training.controls)
        with pytest.raises(DataError, match="baselines made of them would have seen the answers"):
            PerturbationPredictions(good.comparison, bad)

    def test_a_baseline_of_what_it_was_trained_on(self):
        training = read(only(REAL, HELD_OUT), REAL).training
        with pytest.raises(DataError, match="scored and trained on"):
            baseline_means("additive", training, [Group("", "GENE001")])

    def test_training_conditions_that_are_not_recognised(self):
        with pytest.raises(DataError, match=r"none of the 1 training conditions .* is in the real data"):
            read(only(REAL, HELD_OUT), REAL, train=[("", "GENE01")])

    @pytest.mark.parametrize(("covariates", "line"), [(["line"], ""), ([], "k562")])
    def test_training_conditions_with_a_covariate_on_one_side_only(self, covariates, line):
        real = screen(lines=("k562", "rpe1"))
        with pytest.raises(ConfigError, match=r"training condition 'GENE001' names (no|a) covariate"):
            read(only(real, HELD_OUT), real, covariates=covariates, train=[(line, "GENE001")])


class TestTrainingConditions:
    def test_without_a_list_are_those_without_a_prediction(self):
        predicted = only(screen((*HELD_OUT, "GENE009")), [*HELD_OUT, "GENE009"])  # one of them was not measured
        training = read(predicted, REAL).training
        assert sorted(group.perturbation for group in training.means) == ["GENE001", "GENE002", "GENE003", "GENE004"]

    def test_of_a_list_are_no_others(self):
        training = read(only(REAL, HELD_OUT), REAL, train=TRAIN[:2]).training
        assert sorted(group.perturbation for group in training.means) == ["GENE001", "GENE002"]

    def test_of_a_split_leave_its_validation_alone(self):
        found = read(only(REAL, HELD_OUT), REAL, train=TRAIN, test=[("", "GENE005")])
        assert [group.perturbation for group in found.comparison.groups] == ["GENE005"]
        assert found.facts["num_predicted_not_scored"] == 4
        assert not {"GENE006", "GENE003+GENE004"} & {group.perturbation for group in found.training.means}


def test_de_genes_are_those_of_the_real_cells():
    found = []
    for predicted in (only(REAL, HELD_OUT), altered(only(REAL, HELD_OUT), [*HELD_OUT, "control"])):
        comparison = read(predicted, REAL).comparison
        found.append([de_genes(comparison, group, 5).tolist() for group in comparison.groups])
    assert found[0] == found[1]
    real = read(only(REAL, HELD_OUT), altered(REAL, HELD_OUT)).comparison
    assert found[0] != [de_genes(real, group, 5).tolist() for group in real.groups]
