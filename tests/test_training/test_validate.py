from __future__ import annotations

import pytest

from scmodelforge.training.loop import validate

from .parts import NUM_CELLS, UNEQUAL, WHOLE, StandInLoader, cells, make_run


class TestValidate:
    def test_counts_every_cell_once_whatever_the_batches(self):
        expected = make_run().objective.module.eval()(cells(range(NUM_CELLS)))
        for split in (WHOLE, UNEQUAL):
            found = validate(make_run(split=split, dropout=0.5))
            assert set(found) == {"val/loss", "val/genes", "val/values"}
            for name, value in expected.items():
                assert found[f"val/{name}"] == pytest.approx(value.item(), abs=1e-6)
            assert found["val/loss"] == pytest.approx(found["val/genes"] + found["val/values"], abs=1e-12)

    def test_puts_every_module_back_into_its_mode(self):
        run = make_run(dropout=0.5)
        run.model.norm.eval()  # as a frozen part would be
        modes = {name: module.training for name, module in run.objective.named_modules()}
        validate(run)
        assert {name: module.training for name, module in run.objective.named_modules()} == modes
        assert not modes["_forward_module.model.norm"]
        assert modes["_forward_module.model.dropout"]

    def test_terms_apart_are_given_and_do_not_count_for_the_loss(self):
        run = make_run()
        terms = {name for name in validate(run) if name != "val/loss"}
        assert len(terms) > 1
        run.model.terms_apart = frozenset({min(terms).removeprefix("val/")})
        found = validate(run)
        assert found.keys() == {*terms, "val/loss"}
        assert found["val/loss"] == pytest.approx(sum(found[name] for name in terms - {min(terms)}), rel=1e-12)
        run.model.terms_apart = frozenset(name.removeprefix("val/") for name in terms)
        assert validate(run).keys() == terms  # given, though there is nothing to sum

    def test_without_cells_gives_nothing(self):
        assert validate(make_run(val_loader=None)) == {}

    def test_without_targets_gives_nothing_rather_than_a_perfect_loss(self):
        run = make_run()
        run.val_loader = StandInLoader(((),), shuffle=False)
        assert validate(run) == {}
        run.val_loader = StandInLoader((((),),), shuffle=False)
        assert validate(run) == {}
