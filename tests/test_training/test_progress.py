from __future__ import annotations

import io
import logging
import re
import sys

import pytest

from scmodelforge.training.progress import BarReporter, LineReporter, Status, terminal_reporter


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def status(step: int = 1284, **changes) -> Status:
    metrics = {"train/loss": 2.8412, "val/loss": 2.905, "train/cells_per_second": 4310.4}
    values = {"metrics": metrics, "seconds_left": 18.2, **changes}
    return Status(epoch=3, max_epochs=10, step=step, total_steps=4280, **values)


class TestLine:
    def test_has_the_same_columns_in_the_same_order(self):
        expected = "epoch 3/10  step 1,284  train/loss 2.841  val/loss 2.905  4,310 cells/s  18 s left"
        assert status().line() == expected

    def test_keeps_its_columns_before_there_are_figures(self):
        expected = "epoch 3/10  step 1,284  train/loss -  val/loss -  - cells/s  - left"
        assert status(metrics={}, seconds_left=None).line() == expected

    @pytest.mark.parametrize(("seconds", "text"), [(59.4, "59 s"), (61, "1 min 1 s"), (7384, "2 h 3 min")])
    def test_says_the_time_left_in_fitting_units(self, seconds, text):
        assert status(seconds_left=seconds).line().endswith(f"  {text} left")

    def test_says_terms_and_floors_of_the_validation_loss_where_there_are_several(self):
        metrics = {"train/loss": 2.0, "train/a": 1.5, "train/b": 0.5, "train/lr": 0.1, "val/loss": 1.75}
        one = status(metrics=metrics | {"val/a": 1.75, "val/a_floor": 1.25})
        assert "  val/loss 1.750 (at least 1.250)  " in one.line()
        two = status(metrics=metrics | {"val/a": 1.25, "val/b": 0.5, "val/b_floor": 0.25})
        assert "  val/loss 1.750 (a 1.250, b 0.500, at least 0.250)  " in two.line()

    def test_goes_to_the_logger_or_where_it_is_told(self, caplog):
        written = []
        with caplog.at_level(logging.INFO, "scmodelforge"):
            LineReporter().update(status())
        LineReporter(written.append).update(status())
        assert caplog.messages == written == [status().line()]


class TestReporterOfATerminal:
    def test_is_a_bar_on_a_terminal_and_lines_elsewhere(self, monkeypatch):
        monkeypatch.setattr(sys, "stderr", Terminal())
        assert isinstance(terminal_reporter(), BarReporter)
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        assert isinstance(terminal_reporter(), LineReporter)

    def test_the_bar_shows_the_line_and_lets_log_messages_pass_above_it(self, monkeypatch):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "200")
        logger = logging.getLogger("scmodelforge")
        handler = logging.StreamHandler()
        logger.addHandler(handler)
        try:
            bar = BarReporter()
            bar.update(status())
            logger.warning("a message")
            bar.update(status(4280))
            bar.close()
            assert handler.stream is terminal
        finally:
            logger.removeHandler(handler)
        text = terminal.getvalue()
        assert status().line() in text
        assert status(4280).line() in text
        assert "\x1b[2Ka message\n" in text  # the bar's line is cleared first
        assert sys.stderr is terminal

    @pytest.mark.parametrize("width", [40, 80, 100, 140, 200])
    def test_the_bar_never_needs_a_second_line(self, width, monkeypatch):
        monkeypatch.setattr(sys, "stderr", terminal := Terminal())
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", str(width))
        metrics = {"train/loss": 2.8412, "train/next_gene": 2.1, "train/expression_bin": 0.74, "val/loss": 2.905}
        terms = {"val/next_gene": 2.15, "val/expression_bin": 0.755, "val/expression_bin_floor": 0.5}
        bar = BarReporter()
        for step in (1, 1284, 4280):
            bar.update(status(step, metrics=metrics | terms, seconds_left=73_840.0))
        bar.close()
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
        assert max(len(line) for line in re.split(r"[\r\n]", text)) <= width
        assert "20 h 30 min left" in text
        assert "1,284" in text
        assert ("next_gene 2.150" in text) == (width >= 200)
        assert text.count("\n") == 1  # the last, when the bar is left

    def test_a_line_that_became_short_stays_short(self, monkeypatch):
        monkeypatch.setattr(sys, "stderr", terminal := Terminal())
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "94")
        bar = BarReporter()
        for seconds in (18.0, 1000.0, 18.0):
            bar.update(status(seconds_left=seconds))
        bar.close()
        drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()).split("\r")
        assert ["epoch" in text for text in drawn if "left" in text][:3] == [True, False, False]

    def test_a_bar_that_never_showed_anything_closes(self):
        BarReporter().close()
