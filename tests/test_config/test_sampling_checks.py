"""Settings of sampling and of a split's file that are right by themselves and wrong together."""

from __future__ import annotations

import pytest

from scmodelforge.config import dump_config, load_config
from tests.test_config.conftest import MINIMAL


class TestSampling:
    @pytest.mark.parametrize(
        "sampling",
        [
            "mode: balanced, by: cell_type",
            "mode: weighted, by: file, temperature: 2",
            "mode: weighted, by: file, weights: {a.h5ad: 1, b.h5ad: 0.5}",
            "minibatch: several, minibatch_by: donor, minibatch_groups: 2",
            "mode: balanced, by: donor, minibatch: one, minibatch_by: donor",
            "mode: balanced, by: donor, minibatch: several, minibatch_by: chip",
        ],
    )
    def test_what_fits_together_is_read_and_written_the_same(self, write, sampling):
        config = load_config(write(f"{MINIMAL}  sampling: {{{sampling}}}"))
        assert load_config(write(dump_config(config), "shown.yaml")) == config

    @pytest.mark.parametrize(
        ("sampling", "message"),
        [
            ("by: x", "by has no effect with mode 'uniform'; set data.sampling.mode to 'weighted', or leave it out."),
            ("temperature: 2", "temperature has no effect with mode 'uniform'; set data.sampling.mode to 'weighted', "
             "or leave it out."),
            ("mode: balanced, by: x, weights: {a: 1}", "weights has no effect with mode 'balanced'; set "
             "data.sampling.mode to 'weighted', or leave it out."),
            ("mode: weighted", "mode 'weighted' needs groups of cells; set data.sampling.by."),
            ("mode: weighted, by: x, temperature: 2, weights: {a: 1}", "weights and data.sampling.temperature both "
             "say what the shares of the groups are; keep one of them."),
            ("minibatch_groups: 2", "minibatch_groups has no effect with minibatch 'mixed'; set "
             "data.sampling.minibatch to 'several'."),
            ("minibatch_by: x", "minibatch_by has no effect with minibatch 'mixed'; set data.sampling.minibatch, or "
             "leave it out."),
            ("minibatch: one", "minibatch 'one' needs groups of cells; set data.sampling.minibatch_by or "
             "data.batch_column."),
            ("mode: balanced, by: x, minibatch: one, minibatch_by: y", "minibatch is 'one' by 'y', but cells are drawn "
             "by 'x', so passes would differ in length; group both by the same column, or set data.sampling.minibatch "
             "to 'several'."),
            ("mode: weighted, by: x, temperature: 0", "temperature is 0; it must be greater than 0."),
            ("mode: balance, by: x", "mode is 'balance'; it must be 'uniform', 'weighted' or 'balanced'. Did you mean "
             "'balanced'?"),
        ],
    )  # fmt: skip
    def test_what_does_not_is_refused(self, mistakes, sampling, message):
        assert mistakes(f"{MINIMAL}  sampling: {{{sampling}}}") == [f"run.yaml: data.sampling.{message}"]

    def test_the_batch_column_stands_in_for_minibatch_by(self, write, mistakes):
        load_config(write(f"{MINIMAL}  batch_column: chip\n  sampling: {{minibatch: one}}"))
        text = f"{MINIMAL}  batch_column: chip\n  sampling: {{minibatch: one, mode: balanced, by: x}}"
        assert "minibatch is 'one' by 'chip', but cells are drawn by 'x'" in mistakes(text)[0]


class TestSplitFile:
    @pytest.mark.parametrize(
        ("setting", "shown"),
        [
            ("by: donor", "by ('donor')"),
            ("validation_fraction: 0.2", "validation_fraction (0.2)"),
            ("validation_groups: [d1]", "validation_groups (['d1'])"),
            ("seed: 3", "seed (3)"),
        ],
    )
    def test_says_alone_what_is_held_out(self, mistakes, setting, shown):
        assert mistakes(f"{MINIMAL}  split: {{file: s.json, {setting}}}") == [
            f"run.yaml: data.split.{shown} and data.split.file both say which cells are held out; keep one of them."
        ]

    def test_is_read_and_written_the_same(self, write):
        config = load_config(write(f"{MINIMAL}  split: {{file: s.json}}"))
        assert load_config(write(dump_config(config), "shown.yaml")) == config
