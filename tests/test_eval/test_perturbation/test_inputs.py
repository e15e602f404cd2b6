"""Reading predictions: names of conditions and genes, scales, what is refused and what is counted."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.data.genes import human_genes
from scmodelforge.eval.perturbation.cells import dense
from scmodelforge.eval.perturbation.conditions import CONTROL, Conditions, Group, gene_key
from tests.test_eval.test_perturbation.screens import GENES, HELD_OUT, only, read, screen

REAL = screen()


def counts_of(adata):
    found = adata.copy()
    found.X = sp.csr_matrix(np.rint(np.expm1(adata.X.toarray())).astype(np.float32))
    return found


class TestConditions:
    def test_of_a_combination_have_one_name(self):
        names = Conditions.of(["ctrl", "TP53+KRAS", "KRAS+TP53", "KRAS+ctrl"], control="ctrl")
        assert names.names(["TP53+KRAS", "KRAS+TP53", " KRAS + TP53+ctrl"]) == ["KRAS+TP53"] * 3
        assert names.names(["KRAS+ctrl", "ctrl+KRAS", "KRAS"]) == ["KRAS"] * 3
        assert names.name("ctrl") == CONTROL

    def test_of_a_gene_under_two_schemes_are_one(self):
        names = Conditions.of(["NT", "KRAS", "ENSG00000133703"], control="NT")
        assert names.names(["KRAS", "ENSG00000133703", "ENSG00000133703.14"]) == ["KRAS"] * 3
        ensembl, older = next(iter(human_genes().other_symbol_of.items()))
        assert gene_key(older) == gene_key(ensembl) == human_genes().symbol_of[ensembl] != older

    def test_may_be_joined_by_another_sign(self):
        names = Conditions.of(["control", "B", "A", "B_A"], control="control")
        assert names.name("B_A") == "A+B"

    def test_a_second_control_is_a_condition_of_its_own(self):
        assert Conditions.of(["NT", "non-targeting_2", "A"], control="NT").name("non-targeting_2") == "non-targeting_2"

    def test_need_the_control(self):
        with pytest.raises(ConfigError, match=r"no cell has the condition 'ctrl' \(--control\).*There are: A, control"):
            Conditions.of(["A", "control"], control="ctrl")

    def test_have_targets_and_a_control_of_their_covariate(self):
        group = Group("k562", "A+B")
        assert (group.targets, group.control, group.label) == (("A", "B"), Group("k562", CONTROL), "k562|A+B")


class TestGenes:
    def test_are_aligned_by_name_and_missing_ones_counted(self):
        predicted = only(REAL, HELD_OUT)[:, 5:][:, ::-1].copy()
        found = read(predicted, REAL)
        assert (found.facts["num_genes"], found.facts["num_genes_not_predicted"]) == (35, 5)
        np.testing.assert_array_equal(found.comparison.predicted_means, found.comparison.real_means)

    def test_may_have_ids_on_one_side_and_symbols_on_the_other(self):
        real, predicted = screen(["GENE001"]), screen(["GENE001"])
        symbols, ids = ["KRAS", "TP53"], ["ENSG00000133703", "ENSG00000141510"]
        real, predicted = real[:, :2].copy(), predicted[:, :2].copy()
        real.var_names, predicted.var_names = symbols, ids
        assert read(predicted, real).comparison.genes == ("KRAS", "TP53")

    def test_are_matched_by_what_they_stand_for_where_some_have_one_name(self):
        """A gene without a symbol, say, is called by its id in both files."""
        real, predicted = self.named(["KRAS", "ENSG00000280441", "TP53"], ["ENSG00000280441", "ENSG00000141510"])
        found = read(predicted, real)
        assert found.comparison.genes == ("ENSG00000280441", "TP53")
        assert (found.facts["num_genes_not_predicted"], found.facts["num_genes_not_measured"]) == (1, 0)
        columns = found.comparison.real.columns, found.comparison.predicted.columns
        assert [each.tolist() for each in columns] == [[1, 2], [0, 1]]

    @pytest.mark.parametrize(
        ("real", "predicted"),
        [
            (["ACTB", "KRAS"], ["ACTB", "ENSG00000133703", "ENSG00000133703.14"]),
            (["ACTB", "ENSG00000133703", "ENSG00000133703.14"], ["ACTB", "KRAS"]),
            (["ACTB", "KRAS", "ENSG00000133703.13"], ["ACTB", "KRAS", "ENSG00000133703"]),
        ],
    )
    def test_that_stand_under_two_names_in_a_file_are_matched_by_name_alone(self, real, predicted):
        found = read(*reversed(self.named(real, predicted)))
        by_name = len({*real} & {*predicted})
        assert len(found.comparison.genes) == by_name
        assert found.facts["num_genes_not_predicted"] == len(real) - by_name
        assert found.facts["num_genes_not_measured"] == len(predicted) - by_name

    @staticmethod
    def named(*names):
        made = [screen(["GENE001"])[:, : len(own)].copy() for own in names]
        for each, own in zip(made, names, strict=True):
            each.var_names = own
        return made

    def test_that_have_nothing_in_common_are_refused(self):
        predicted = only(REAL, HELD_OUT)
        predicted.var_names = [f"other{i}" for i in range(predicted.n_vars)]
        with pytest.raises(DataError, match="none of the genes of the real data: other0"):
            read(predicted, REAL)

    def test_that_one_file_lacks_do_not_count_in_the_total_of_a_cell(self):
        counts = counts_of(REAL)
        found = read(only(counts, HELD_OUT)[:, :4].copy(), counts, scale="counts").comparison
        assert found.genes == tuple(GENES[:4])
        for group in found.groups:
            np.testing.assert_array_equal(found.predicted.mean(group), found.real.mean(group))
            np.testing.assert_array_equal(dense(found.predicted.cells(group)), dense(found.real.cells(group)))
        chosen = counts.X[(counts.obs["condition"] == "GENE005").to_numpy()].toarray()[:, :4]
        expected = np.log1p(chosen / chosen.sum(axis=1, keepdims=True) * 1e4).mean(axis=0)
        np.testing.assert_allclose(found.real.mean(Group("", "GENE005")), expected, rtol=1e-6)

    def test_that_are_there_twice_are_refused(self):
        predicted = only(REAL, HELD_OUT)
        predicted.var_names = ["GENE000", "GENE000", *predicted.var_names[2:]]
        with pytest.raises(DataError, match="two genes of the predictions have the name 'GENE000'"):
            read(predicted, REAL)


class TestScope:
    """As many other genes or perturbations are told apart, and the same ones are not, however they are listed."""

    def test_of_other_genes_and_perturbations_is_another(self):
        predicted = only(REAL, HELD_OUT)
        whole = read(predicted, REAL).facts
        some = [read(predicted[:, part].copy(), REAL).facts for part in (slice(20), slice(20, 40))]
        others = [read(only(REAL, part), REAL).facts for part in (HELD_OUT[1:], HELD_OUT[:-1])]
        assert some[0]["num_genes"] == some[1]["num_genes"]
        assert len({each["scored_genes"] for each in (whole, *some)}) == 3
        assert {each["scored_conditions"] for each in some} == {whole["scored_conditions"]}
        assert len({each["scored_conditions"] for each in (whole, *others)}) == 3
        assert {each["scored_genes"] for each in others} == {whole["scored_genes"]}

    def test_of_the_same_is_the_same(self):
        predicted = only(REAL, HELD_OUT)
        first, second = (read(each, REAL).facts for each in (predicted, predicted[::-1, ::-1].copy()))
        for name in ("scored_genes", "scored_conditions"):
            assert first[name] == second[name]

    def test_of_another_covariate_is_another(self):
        real = screen(["GENE001"], lines=("k562", "rpe1"))
        facts = [
            read(real[real.obs["line"] == line].copy(), real, covariates=["line"]).facts for line in ("k562", "rpe1")
        ]
        assert facts[0]["scored_conditions"] != facts[1]["scored_conditions"]


class TestScale:
    def test_of_counts_is_made_that_of_logarithms(self):
        counts = counts_of(REAL)
        found = read(only(counts, HELD_OUT), counts, scale="counts").comparison
        chosen = counts.X[(counts.obs["condition"] == "GENE005").to_numpy()].toarray()
        expected = np.log1p(chosen / chosen.sum(axis=1, keepdims=True) * 1e4).mean(axis=0)
        np.testing.assert_allclose(found.real.mean(Group("", "GENE005")), expected, rtol=1e-6)

    @pytest.mark.parametrize("scale", [None, "guess"])
    def test_must_be_declared(self, scale):
        with pytest.raises(ConfigError, match="say what the values are: log1p"):
            read(only(REAL, HELD_OUT), REAL, scale=scale)

    @pytest.mark.parametrize(("factor", "what"), [(1, "only whole numbers"), (10.5, "values of [0-9.]+")])
    def test_that_the_values_contradict_is_refused(self, factor, what):
        counts = counts_of(REAL)
        counts.X = counts.X * factor
        with pytest.raises(DataError, match=f"{what}, which logarithms of counts do not have, and --scale says log1p"):
            read(only(counts, HELD_OUT), counts)

    def test_of_counts_cannot_be_negative(self):
        wrong = REAL.copy()
        wrong.X = wrong.X * -1
        with pytest.raises(DataError, match="negative"):
            read(only(wrong, HELD_OUT), wrong, scale="counts")

    def test_of_counts_is_not_that_of_measured_cells_with_small_fractions(self):
        with pytest.raises(DataError, match=r"real cells .* have values such as \d\S* and none above \d.*logarithms"):
            read(only(REAL, HELD_OUT), REAL, scale="counts")

    def test_of_counts_is_not_that_of_predictions_which_never_come_near_the_measured_counts(self):
        counts = counts_of(REAL)
        assert counts.X.max() > 15
        predicted = only(REAL, HELD_OUT)
        controls = (predicted.obs["condition"] == "control").to_numpy()
        predicted.X = sp.csr_matrix(
            np.where(controls[:, None], only(counts, HELD_OUT).X.toarray(), predicted.X.toarray())
        )
        with pytest.raises(DataError, match=r"the predictions have .* and none above .* with \d+.* counts in the mean"):
            read(predicted, counts, scale="counts")

    def test_of_counts_may_have_predictions_of_expected_counts(self):
        counts = counts_of(REAL)
        expected = only(counts, HELD_OUT)
        expected.X = expected.X * 0.93
        found = read(expected, counts, scale="counts")
        assert "largest_prediction" not in found.facts
        np.testing.assert_allclose(found.comparison.predicted_means, found.comparison.real_means, rtol=1e-6)

    def test_of_small_counts_cannot_be_told_from_logarithms_and_that_is_said(self):
        counts = counts_of(REAL)
        counts.X.data = np.minimum(counts.X.data, 9)
        expected = only(counts, HELD_OUT)
        expected.X = expected.X * 0.93
        assert read(expected, counts, scale="counts").facts["largest_prediction"] == pytest.approx(9 * 0.93)

    def test_values_that_are_no_numbers_are_refused(self):
        predicted = only(REAL, HELD_OUT)
        predicted.X.data[-1] = np.nan
        with pytest.raises(DataError, match=r"predictions of '.*' have values that are NaN"):
            read(predicted, REAL)


class TestX:
    @pytest.mark.parametrize("which", [0, 1])
    def test_that_a_file_lacks_is_said_with_its_layers(self, which):
        files = [only(REAL, HELD_OUT), REAL.copy()]
        files[which].layers["counts"] = files[which].X
        files[which].X = None
        with pytest.raises(DataError, match=r"have no X, .* its layers are 'counts': set adata.X to them"):
            read(*files)


class TestControls:
    def test_of_the_real_data_are_taken_for_predictions_without(self):
        predicted = REAL[REAL.obs["condition"].isin(HELD_OUT)].copy()
        found = read(predicted, REAL)
        assert found.facts["predicted_control"] == "real"
        np.testing.assert_array_equal(found.comparison.predicted_control, found.comparison.real_control)

    def test_are_needed_in_the_real_data_of_every_covariate(self):
        real = screen(["GENE001"], lines=("k562", "rpe1"))
        lacking = real[~((real.obs["line"] == "rpe1") & (real.obs["condition"] == "control"))].copy()
        with pytest.raises(DataError, match=r"no control for rpe1\|GENE001"):
            read(real, lacking, covariates=["line"])

    def test_belong_to_their_covariate(self):
        real = screen(["GENE001", "GENE002"], lines=("k562", "rpe1"))
        found = read(real, real, covariates=["line"]).comparison
        assert [group.label for group in found.groups][:2] == ["k562|GENE001", "k562|GENE002"]
        assert not np.allclose(found.real_control[0], found.real_control[2], atol=0.05)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"condition": "conditon"}, "no obs column 'conditon'. Did you mean 'condition'"),
        ({"covariates": ["donor"]}, "no obs column 'donor'"),
        ({"test": [("", "GENE001")]}, "no condition is predicted, measured and held out"),
    ],
)
def test_what_cannot_be_scored_is_said(settings, message):
    with pytest.raises((ConfigError, DataError), match=message):
        read(only(REAL, HELD_OUT), REAL, **settings)
