"""Splits are by condition, the same for the same seed, and refuse what was edited."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.eval.perturbation.conditions import CONTROL, Group
from scmodelforge.eval.perturbation.splits import fold_perturbations, read_conditions, split_perturbations

GENES = [f"G{i:02d}" for i in range(20)]
SINGLES = [Group("", gene) for gene in GENES]
DOUBLES = [Group("", f"{one}+{other}") for one, other in pairwise(GENES)]
ALL = [*SINGLES, *DOUBLES, Group("", CONTROL)]
LINES = [Group(line, gene) for line in ("k562", "rpe1", "jurkat") for gene in GENES]


def parts(split):
    return set(split.train), set(split.validation), set(split.test)


@pytest.mark.parametrize(("kind", "groups"), [("unseen", ALL), ("combination", ALL), ("transfer", LINES)])
class TestEveryKind:
    def test_puts_each_perturbation_into_one_part_and_controls_into_none(self, kind, groups):
        train, validation, test = parts(split_perturbations(groups, kind))
        assert train | validation | test == {group for group in groups if group.perturbation != CONTROL}
        assert len(train) + len(validation) + len(test) == len(train | validation | test)
        assert train
        assert test

    def test_depends_on_the_seed_and_not_on_the_order(self, kind, groups):
        split = split_perturbations(groups, kind, seed=1)
        assert split_perturbations(groups[::-1], kind, seed=1) == split
        assert split_perturbations(groups, kind, seed=2).test != split.test

    def test_is_the_same_after_a_file(self, kind, groups, tmp_path):
        split = split_perturbations(groups, kind)
        assert split.write(tmp_path / "split.json") == split.to_dict()["hash"]
        found = read_conditions(tmp_path / "split.json")
        assert [Group(*pair) for pair in found["train"]] == list(split.train)
        assert [Group(*pair) for pair in found["test"]] == list(split.test)

    def test_folds_hold_out_each_unit_once(self, kind, groups):
        folds = fold_perturbations(groups, kind, folds=3, seed=1)
        known = {group for group in groups if group.perturbation != CONTROL}
        for fold in folds:
            train, validation, test = parts(fold)
            assert train
            assert validation
            assert train | validation | test == known
            assert len(train) + len(validation) + len(test) == len(known)
        tested = [group for fold in folds for group in fold.test]
        single = [group for group in tested if len(group.targets) == 1]
        if kind == "unseen":  # genes: what the parts have of several genes may be in two
            assert sorted(single) == sorted(SINGLES)
            for fold in folds:
                hidden = {group.perturbation for group in fold.test if len(group.targets) == 1}
                assert not hidden & {gene for group in fold.train + fold.validation for gene in group.targets}
        else:
            assert len(tested) == len(set(tested))
            assert {group.perturbation for group in tested} == (
                {group.perturbation for group in DOUBLES} if kind == "combination" else set(GENES)
            )
        assert fold_perturbations(groups[::-1], kind, folds=3, seed=1) == folds
        with pytest.raises(DataError, match="--folds 99 is more than the"):
            fold_perturbations(groups, kind, folds=99)


class TestUnseen:
    def test_trains_on_no_perturbation_of_a_held_out_gene(self):
        split = split_perturbations(ALL, "unseen", held_out=0.25)
        trained = {gene for group in split.train for gene in group.targets}
        hidden = {group.perturbation for group in (*split.validation, *split.test) if len(group.targets) == 1}
        assert len(hidden) == 5
        assert not trained & hidden

    def test_has_combinations_of_which_none_one_and_both_genes_are_seen(self):
        split = split_perturbations(ALL, "unseen", held_out=0.5)
        singles = {group.perturbation for group in split.train if len(group.targets) == 1}
        held_out = [group for group in (*split.validation, *split.test) if len(group.targets) == 2]
        assert {len(singles & set(group.targets)) for group in held_out} == {0, 1, 2}


def test_combinations_are_held_out_and_singles_trained_on():
    split = split_perturbations(ALL, "combination", held_out=0.3)
    assert set(SINGLES) <= set(split.train)
    assert len(split.validation) + len(split.test) == round(0.3 * len(DOUBLES))


def test_transfer_holds_a_perturbation_out_in_one_covariate():
    split = split_perturbations(LINES, "transfer", held_out=0.4)
    held_out = [group.perturbation for group in (*split.validation, *split.test)]
    assert len(held_out) == len(set(held_out)) == 8
    trained = [group.perturbation for group in split.train]
    assert all(trained.count(name) == 2 for name in held_out)


def test_more_conditions_do_not_change_the_order_of_the_lots():
    few, many = (split_perturbations(groups, "combination", held_out=0.5) for groups in ([*SINGLES, *DOUBLES[:9]], ALL))
    assert set(few.train) & set(DOUBLES) & set(many.train)


def test_conditions_of_genes_that_are_not_measured_can_be_dropped():
    split = split_perturbations(ALL, "unseen", measured=GENES[:10])
    assert {gene for part in parts(split) for group in part for gene in group.targets} <= set(GENES[:10])


class TestRefused:
    def test_unknown_kind(self):
        with pytest.raises(ConfigError, match="kind of split is 'cells'; it must be unseen, combination, transfer"):
            split_perturbations(ALL, "cells")

    @pytest.mark.parametrize("share", [0, 1, -0.5])
    def test_share(self, share):
        with pytest.raises(ConfigError, match="a share between 0 and 1"):
            split_perturbations(ALL, "unseen", held_out=share)

    def test_nothing_to_hold_out(self):
        with pytest.raises(DataError, match="leaves nothing to hold out"):
            split_perturbations(SINGLES, "combination")

    def test_edited_file(self, tmp_path):
        path = tmp_path / "split.json"
        split_perturbations(ALL, "unseen").write(path)
        stored = json.loads(path.read_text())
        stored["train"].append(stored["test"].pop())
        path.write_text(json.dumps(stored))
        with pytest.raises(DataError, match="damaged or was edited"):
            read_conditions(path)

    @pytest.mark.parametrize(
        ("text", "message"), [("", "names no condition"), ("{}", "is no split"), ("{", "is no split")]
    )
    def test_file_of_something_else(self, text, message, tmp_path):
        (tmp_path / "split.json").write_text(text)
        with pytest.raises(DataError, match=message):
            read_conditions(tmp_path / "split.json")

    def test_missing_file(self, tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read_conditions(tmp_path / "none.txt")


def test_a_list_may_name_covariates(tmp_path):
    (tmp_path / "train.txt").write_text("A\n\nk562\tA+B\n")
    assert read_conditions(tmp_path / "train.txt") == {"train": [("", "A"), ("k562", "A+B")]}


@pytest.mark.parametrize(
    ("line", "what"),
    [("k562\tA\t12", "has 3 columns"), ("k562\t", "has an empty column"), ("\tA", "has an empty column")],
)
def test_a_line_of_a_list_with_other_columns_is_refused_with_its_number(line, what, tmp_path):
    (tmp_path / "train.txt").write_text(f"k562\tB\n\n{line}\n")
    with pytest.raises(DataError, match=f"train.txt, line 3 .* {what}; write a condition, or covariate, tab and cond"):
        read_conditions(tmp_path / "train.txt")


def test_a_list_may_begin_with_the_mark_of_an_editor(tmp_path):
    (tmp_path / "train.txt").write_text("A\nB\n", encoding="utf-8-sig")
    assert read_conditions(tmp_path / "train.txt") == {"train": [("", "A"), ("", "B")]}
