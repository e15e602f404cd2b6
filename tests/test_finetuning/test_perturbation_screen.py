"""What is read of a screen before anything is learned: conditions, controls, doses, means, noise and splits."""

from __future__ import annotations

import re

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scmodelforge._errors import DataError
from scmodelforge.data.sources.in_memory import AnnDataSource
from scmodelforge.eval.perturbation.conditions import Group
from scmodelforge.finetuning.perturbation.examples import _by_dose, _may_know
from scmodelforge.finetuning.perturbation.expression import condition_means
from scmodelforge.finetuning.perturbation.hold_out import split_screen
from scmodelforge.finetuning.perturbation.screen import Columns, Screen, control_values, read_screen, without


def screen_of(conditions: list[str], control: str, *, left_out=None, **columns) -> Screen:
    obs = pd.DataFrame({"condition": conditions, **columns}, index=[f"c{n}" for n in range(len(conditions))])
    counts = np.random.default_rng(0).poisson(2.0, (len(conditions), 5)).astype(np.float32)
    adata = ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"G{n}" for n in range(5)]))
    dose = "dose" if "dose" in columns else None
    source = AnnDataSource(adata, layer=None, gene_id_column=None)
    return read_screen(source, Columns("condition", control, dose=dose), left_out)


class TestControls:
    NAMES = ("non-targeting_1", "non-targeting_2", "non-targeting_1+non-targeting_2", "A", "B+non-targeting_2", "C")

    def test_all_that_are_one_by_name_are_one(self, caplog):
        screen = screen_of([*self.NAMES, "non-targeting_2"], "non-targeting_1")
        assert [group.perturbation for group in screen.groups] == ["A", "B", "C"]
        assert screen.controls.tolist() == [0, 1, 2, 6]
        assert "3 values of obs column 'condition' mean control by their names" in caplog.text
        assert "non-targeting_2" in caplog.text

    def test_one_alone_is_not_told_of(self, caplog):
        screen_of(["ctrl", "A", "B", "C"], "ctrl")
        assert not caplog.records

    def test_the_one_that_is_named_may_have_any_name(self):
        assert control_values(["cells", "A", "NT"], "cells") == ("NT", "cells")


def test_cells_that_are_left_out_make_no_condition():
    screen = screen_of(["ctrl", "A", "B", "C", "D", "ctrl"], "ctrl", left_out=np.array([4, 5]))
    assert [group.perturbation for group in screen.groups] == ["A", "B", "C"]
    assert screen.codes.tolist() == [-1, 0, 1, 2, -2, -2]


def test_perturbed_cells_without_dose_are_of_no_condition():
    screen = screen_of(["ctrl", "A", "A", "B", "C", "D"], "ctrl", dose=[np.nan, 1, np.nan, 2, 3, np.nan])
    assert screen.codes.tolist() == [-1, 0, -2, 1, 2, -2]
    assert screen.doses_of(0) == [[1.0, 1.0]]


def test_cells_are_found_by_perturbation_and_dose():
    rng = np.random.default_rng(1)
    names = ["ctrl", *rng.choice(["A", "B", "C", "D"], 60)]
    doses = [0.0, *rng.choice([0.0, 1.0, 10.0], 60)]
    screen = screen_of(names, "ctrl", dose=doses)
    keys, codes = _by_dose(screen, [2, 0])
    expected = sorted({pair for pair in zip(names, doses, strict=True) if pair[0] == "C"})
    expected += sorted({pair for pair in zip(names, doses, strict=True) if pair[0] == "A"})
    assert [(screen.groups[number].perturbation, dose) for number, dose in keys] == expected
    place = {key: number for number, key in enumerate(expected)}
    assert codes.tolist() == [place.get(pair, -1) for pair in zip(names, doses, strict=True)]


class TestFile:
    SCREEN = screen_of(["ctrl", "A", "B", "C", "A+B", "B+C", "A+C"], "ctrl")

    def split(self, tmp_path, text: str, screen: Screen = SCREEN, **options):
        (tmp_path / "train.txt").write_text(text)
        return split_screen(screen, None, file=str(tmp_path / "train.txt"), held_out=0.3, seed=0, **options)

    def test_names_that_fit_nothing_are_listed(self, tmp_path):
        message = re.escape("names 2 perturbation(s) that no cell of the data has: D_typo, c. There are: A, A+B, ")
        with pytest.raises(DataError, match=message):
            self.split(tmp_path, "A\nB\nc\nD_typo\nA+B\n")

    def test_controls_and_other_spellings_fit(self, tmp_path):
        found = self.split(tmp_path, "ctrl\nA\nB+A\nctrl+C\n")
        assert [group.perturbation for group in found.train] == ["A", "A+B", "C"]
        assert found.held_out == 0.5

    def test_what_was_dropped_may_be_named(self, tmp_path):
        found = self.split(tmp_path, "A\nB\nC\nA+B\n", without(self.SCREEN, ["B"]), dropped=self.SCREEN.groups)
        assert found.train == (Group("", "A"), Group("", "C"))


class TestMeans:
    class Cells:
        """Expression in two blocks."""

        def __init__(self, values: np.ndarray) -> None:
            self.values, self.tokens = sp.csr_matrix(values), np.arange(values.shape[1])

        def blocks(self, wanted):
            for rows in np.array_split(np.arange(self.values.shape[0]), 2):
                own = rows[wanted[rows]]
                if len(own):
                    yield own, self.values[own]

    def test_are_those_of_each_condition(self):
        values = np.random.default_rng(0).poisson(2.0, (50, 6)).astype(float)
        codes = np.random.default_rng(1).integers(-1, 9, 50)
        found = condition_means(self.Cells(values), codes, 10)
        for number in range(9):
            assert np.allclose(found.means[number], values[codes == number].mean(axis=0))
        assert not found.means[9].any()
        assert found.sizes.tolist() == np.bincount(codes[codes >= 0], minlength=10).tolist()

    def test_of_one_cell_have_the_noise_of_a_cell(self):
        values = np.random.default_rng(0).normal(size=(4001, 30))
        codes = np.array([0] + [1] * 1000 + [2] * 3000)
        noises = condition_means(self.Cells(values), codes, 3).noises
        assert np.allclose(noises * [1, 1000, 3000], 30.0, rtol=0.05)  # 30 genes of variance 1

    def test_of_few_cells_have_about_the_noise_of_the_others(self):
        values = np.random.default_rng(0).normal(size=(1004, 30)) * np.repeat([3.0, 1.0], [4, 1000])[:, None]
        noises = condition_means(self.Cells(values), np.repeat([0, 1], [4, 1000]), 2).noises
        own = values[:4].var(axis=0, ddof=1).sum() / 4
        assert noises[1] * 1000 / 4 < noises[0] < own


def test_doses_are_no_further_conditions():
    tokens, covariates = np.array([[1, -1], [1, -1], [2, 3], [2, 4], [5, -1], [5, -1]]), np.array([0, 0, 0, 0, 0, 1])
    found = _may_know(tokens, covariates)[0]
    assert found[:, 0].tolist() == [False, False, True, True, True, True]
    assert not found[:, 1].any()
