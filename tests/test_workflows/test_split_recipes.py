"""The same cells of a data set are held out for everybody."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from scmodelforge import datasets
from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config.schema import SplitConfig
from scmodelforge.data.selection import choose_cells
from scmodelforge.data.sources.local import LocalDataConfig
from scmodelforge.data.split_files import read_split
from scmodelforge.datasets import SplitRecipe
from scmodelforge.datasets.entries import DATASETS
from scmodelforge.workflows.prepare import open_source
from scmodelforge.workflows.split_recipes import held_out_groups, recipe_split, write_recipe
from tests.conftest import make_adata

NOTHING = np.zeros(0, dtype=np.int64)
SIZES = {f"d{number}": 10 + number for number in range(20)}
SCREEN = SplitRecipe("perturbation", fraction=0.25, share_of="groups", keep=("control",), separator="_")
SINGLES = [f"G{number}" for number in range(12)]
DOUBLES = [f"G{number}_G{number + 1}" for number in range(11)] + ["G3_G2", "G0_G9"]
CONDITIONS = dict.fromkeys([*SINGLES, *DOUBLES], 5) | {"control": 400}


@pytest.fixture
def blood():
    source = open_source(LocalDataConfig(paths=["dataset://pbmc68k_reduced"]))
    yield source
    source.close()


@pytest.fixture
def cells(tmp_path):
    """Return a source of 60 cells of five donors."""
    make_adata().write_h5ad(tmp_path / "cells.h5ad")
    source = open_source(LocalDataConfig(paths=[str(tmp_path / "cells.h5ad")]))
    yield source
    source.close()


class TestGroups:
    def test_their_order_does_not_matter(self):
        turned = dict(reversed(SIZES.items()))
        recipe = SplitRecipe("donor_id")
        assert held_out_groups(recipe, turned, "x") == held_out_groups(recipe, SIZES, "x")

    def test_the_share_is_reached_and_no_group_more_is_taken(self):
        groups = held_out_groups(SplitRecipe("donor_id", fraction=0.4), SIZES, "x")
        held = sum(SIZES[group] for group in groups)
        wanted = 0.4 * sum(SIZES.values())
        assert wanted <= held < wanted + max(SIZES.values())

    def test_a_group_more_in_the_data_changes_the_draw_of_no_other(self):
        recipe = SplitRecipe("donor_id", share_of="groups", fraction=0.5)
        before = set(held_out_groups(recipe, SIZES, "x"))
        after = set(held_out_groups(recipe, SIZES | {"new": 10}, "x"))
        assert len(before ^ (after - {"new"})) <= 1  # the one at the edge of the share

    def test_another_seed_holds_out_others(self):
        drawn = {tuple(held_out_groups(SplitRecipe("d", seed=seed), SIZES, "x")) for seed in range(5)}
        assert len(drawn) == 5

    @pytest.mark.parametrize("fraction", [0.0001, 0.9999])
    def test_two_are_held_out_at_least_and_never_all(self, fraction):
        groups = held_out_groups(SplitRecipe("donor_id", fraction=fraction), SIZES, "x")
        assert len(groups) == (2 if fraction < 0.5 else len(SIZES) - 1)

    def test_too_few_are_refused(self):
        with pytest.raises(DataError, match="data set 'x' has 2 groups of 'donor_id' to hold out; more than 2"):
            held_out_groups(SplitRecipe("donor_id"), {"a": 1, "b": 2}, "x")


class TestPerturbations:
    def test_controls_and_single_ones_are_never_held_out(self):
        groups = held_out_groups(SCREEN, CONDITIONS, "screen")
        assert set(groups) <= set(DOUBLES)
        without = SplitRecipe("perturbation", fraction=0.999, share_of="groups", keep=("control",))
        assert "control" not in held_out_groups(without, CONDITIONS, "screen")

    def test_a_quarter_of_the_combinations_is_held_out(self):
        held = {"_".join(sorted(group.split("_"))) for group in held_out_groups(SCREEN, CONDITIONS, "screen")}
        assert len(held) == 3  # of twelve, as G2_G3 and G3_G2 are one

    def test_both_spellings_of_a_combination_are_on_one_side(self):
        sides = set()
        for seed in range(12):
            recipe = SplitRecipe("p", seed=seed, fraction=0.5, share_of="groups", keep=("control",), separator="_")
            held = held_out_groups(recipe, CONDITIONS, "screen")
            assert ("G2_G3" in held) == ("G3_G2" in held)
            sides.add("G2_G3" in held)
        assert sides == {True, False}

    def test_data_without_the_controls_are_refused(self):
        with pytest.raises(DataError, match="data set 'screen': no cell has 'control' in 'perturbation'"):
            held_out_groups(SCREEN, dict.fromkeys(DOUBLES, 5), "screen")


class TestSplit:
    def test_the_shipped_data_set_is_split_as_its_recipe_says(self, blood, caplog):
        recipe = datasets.info("pbmc68k_reduced").split
        found = recipe_split(blood, recipe, "pbmc68k_reduced", excluded=NOTHING)
        channel = datasets.load("pbmc68k_reduced").obs["channel"].astype(str).to_numpy()
        assert (len(found.train), len(found.validation)) == (recipe.train, recipe.heldout)
        assert sorted([*found.train, *found.validation]) == list(range(700))
        assert set(channel[found.validation]) == set(found.groups)
        assert not set(channel[found.train]) & set(found.groups)
        assert not caplog.records

    def test_every_type_of_the_shipped_data_set_is_on_both_sides(self, blood):
        found = recipe_split(blood, datasets.info("pbmc68k_reduced").split, "pbmc68k_reduced", excluded=NOTHING)
        types = datasets.load("pbmc68k_reduced").obs["bulk_labels"].astype(str).to_numpy()
        assert set(types[found.train]) == set(types[found.validation]) == set(types)

    def test_other_sizes_than_expected_are_one_clear_line(self, cells, caplog):
        caplog.set_level(logging.WARNING)
        recipe_split(cells, SplitRecipe("donor_id", train=30, heldout=31), "tiny", excluded=NOTHING)
        assert [record.message for record in caplog.records] == [
            "data set 'tiny': its split has 36 cells to fit on and 24 held out, 30 and 31 were expected: the data "
            "differ, so scores do not compare"
        ]

    def test_cells_without_use_change_no_other_cell_s_side(self, cells):
        recipe = SplitRecipe("donor_id")
        whole = recipe_split(cells, recipe, "tiny", excluded=NOTHING)
        excluded = np.array([0, 1, 2, 30, 41])
        found = recipe_split(cells, recipe, "tiny", excluded=excluded)
        assert found.groups == whole.groups
        assert found.train.tolist() == [cell for cell in whole.train if cell not in excluded]
        assert found.validation.tolist() == [cell for cell in whole.validation if cell not in excluded]

    def test_a_side_without_usable_cells_is_refused(self, cells):
        whole = recipe_split(cells, SplitRecipe("donor_id"), "tiny", excluded=NOTHING)
        with pytest.raises(DataError, match="none of the held-out cells of its split has a gene of the vocabulary"):
            recipe_split(cells, SplitRecipe("donor_id"), "tiny", excluded=whole.validation)

    def test_a_column_that_is_not_there_is_named(self, cells):
        with pytest.raises(DataError, match=r"'donor'.*donor_id"):
            recipe_split(cells, SplitRecipe("donor"), "tiny", excluded=NOTHING)


class TestFile:
    def test_can_be_read_as_a_run_s_split(self, blood, tmp_path):
        out = tmp_path / "split.json"
        lines = write_recipe("pbmc68k_reduced", out, force=False)
        assert f"next: set data.split.file to {out}" in lines
        read = read_split(out, blood)
        direct = recipe_split(blood, datasets.info("pbmc68k_reduced").split, "pbmc68k_reduced", excluded=NOTHING)
        assert read.to_dict() == direct.to_dict()
        chosen = choose_cells(blood, SplitConfig(file=str(out)), expression=None)
        assert chosen.validation.tolist() == direct.validation.tolist()
        assert json.loads(out.read_text())["split_hash"] == direct.to_dict()["hash"]

    def test_is_not_replaced_without_being_told(self, tmp_path):
        out = tmp_path / "split.json"
        out.write_text("mine")
        with pytest.raises(DataError, match="--force"):
            write_recipe("pbmc68k_reduced", out, force=False)
        assert out.read_text() == "mine"

    def test_a_data_set_without_a_recipe_says_what_to_do(self, tmp_path, monkeypatch):
        monkeypatch.setitem(DATASETS, "pbmc68k_reduced", replace(DATASETS["pbmc68k_reduced"], split=None))
        with pytest.raises(ConfigError, match="scmodelforge data split dataset://pbmc68k_reduced -o"):
            write_recipe("pbmc68k_reduced", tmp_path / "split.json", force=False)
