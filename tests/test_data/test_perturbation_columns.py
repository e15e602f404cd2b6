"""Columns about perturbations, controls and combinations, told by convention."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from scmodelforge.data import perturbation
from scmodelforge.data.perturbation import (
    PerturbationColumns,
    columns_of_source,
    find_perturbation_columns,
    is_control,
    targets_of,
)
from tests.conftest import make_adata
from tests.test_data.h5ad_files import open_files, write


def obs(**columns) -> pd.DataFrame:
    return pd.DataFrame({name: list(values) for name, values in columns.items()})


class TestControls:
    @pytest.mark.parametrize(
        "name",
        ["control", "ctrl", "Control", "NT", "non-targeting", "Non_Targeting", "non-targeting_00012", "NT-1", "NTg3",
         "sgNT_2", "negCtrl0", "safe-targeting", "DMSO", "untreated", "ctrl 4"],
    )  # fmt: skip
    def test_are_recognised_by_name(self, name):
        assert is_control(name)

    @pytest.mark.parametrize(
        "name", ["NT5E", "CTRL1A", "KLF1", "ctrl+KLF1", "stim", "", "7", "NTRK1", "SGK1", "MOCK-A"]
    )
    def test_and_genes_are_none(self, name):
        assert not is_control(name)


class TestColumns:
    def test_a_telling_name_is_enough(self):
        assert find_perturbation_columns(obs(batch="aab", perturbation=["A", "B", "C"])) == PerturbationColumns(
            "perturbation"
        )

    def test_a_general_name_needs_a_control(self):
        assert find_perturbation_columns(obs(condition=["A", "B", "C"])) is None
        found = find_perturbation_columns(obs(condition=["A", "ctrl", "C"]))
        assert found == PerturbationColumns("condition", control="ctrl")

    def test_case_and_punctuation_do_not_count(self):
        found = find_perturbation_columns(obs(**{"Gene Target": ["A", "NT", "B"], "sgRNA-ID": ["a1", "n1", "b1"]}))
        assert found == PerturbationColumns("Gene Target", control="NT", guide="sgRNA-ID")

    def test_what_was_perturbed_says_more_than_whether(self):
        cells = obs(perturbation=["NT", "Perturbed", "Perturbed"], target=["NT", "STAT1", "IRF1"])
        assert find_perturbation_columns(cells) == PerturbationColumns("target", control="NT")

    def test_a_column_with_controls_comes_before_one_without(self):
        cells = obs(perturbation=["A", "B", "C"], condition=["control", "A", "B"])
        assert find_perturbation_columns(cells) == PerturbationColumns("condition", control="control")

    def test_guides_and_their_number_are_found(self):
        cells = obs(gene_target=["A", "NT", "B"], guide_ID=["A1", "NT1", "B1"], nperts=[1, 0, 1])
        found = find_perturbation_columns(cells)
        assert (found.guide, found.num_guides) == ("guide_ID", "nperts")

    def test_of_several_controls_the_one_without_number_is_named(self):
        cells = obs(perturbation=["NT_2", "NT_1", "A", "control"])
        assert find_perturbation_columns(cells).control == "control"

    def test_nothing_is_found_where_nothing_is(self):
        assert find_perturbation_columns(make_adata().obs) is None

    def test_missing_values_do_not_count(self):
        assert find_perturbation_columns(obs(condition=[np.nan, None, "A"])) is None
        assert find_perturbation_columns(obs(perturbation=[np.nan, np.nan])) is None

    def test_those_of_files_are_found_without_reading_cells(self, tmp_path):
        adata = make_adata(6, 5)
        adata.obs["condition"] = pd.Categorical(["control", "A", "B", "A+B", "A+ctrl", "A"])
        source = open_files(write(tmp_path, adata))
        assert columns_of_source(source) == PerturbationColumns("condition", control="control", separator="+")


class TestCombinations:
    @pytest.mark.parametrize(
        ("values", "separator"),
        [
            (["ctrl", "A+ctrl", "A+B"], "+"),
            (["control", "A", "B", "A_B"], "_"),
            (["control", "A", "B", "A|B"], "|"),
            (["control", "HLA_A", "B", "HLA_C"], None),
            (["control", "A", "NKX2-1"], None),
            (["neg_ctrl", "A", "B"], None),
        ],
    )
    def test_the_sign_between_targets_is_found(self, values, separator):
        assert find_perturbation_columns(obs(perturbation=values)).separator == separator

    @pytest.mark.parametrize(
        ("name", "targets"),
        [("A+B", ("A", "B")), ("A+ctrl", ("A",)), ("ctrl+A", ("A",)), ("A", ("A",)), ("ctrl", ()), ("NT_1", ())],
    )
    def test_targets_are_what_is_no_control(self, name, targets):
        assert targets_of(name, PerturbationColumns("condition", control="ctrl", separator="+")) == targets

    def test_without_combinations_a_name_is_one_target(self):
        assert targets_of("A+B", PerturbationColumns("condition", control="ctrl")) == ("A+B",)


class TestPackage:
    def test_it_has_every_public_name(self):
        for name in perturbation.__all__:
            assert getattr(perturbation, name).__name__ == name

    def test_another_name_it_has_not(self):
        with pytest.raises(AttributeError, match="has no attribute 'mixscope'"):
            _ = perturbation.mixscope

    def test_importing_it_is_light(self):
        heavy = "{'anndata', 'pandas', 'torch'} & set(sys.modules)"
        code = f"import sys, scmodelforge.data.perturbation.columns; sys.exit(bool({heavy}))"
        assert subprocess.run([sys.executable, "-c", code]).returncode == 0
