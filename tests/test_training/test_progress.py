from __future__ import annotations

import io
import logging
import sys

import pytest

from scmodelforge.training.progress import BarReporter, LineReporter, Meter, Status, terminal_reporter


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

    def test_a_bar_that_never_showed_anything_closes(self):
        BarReporter().close()


class TestMeter:
    def test_speed_and_waiting_are_since_the_last_reading(self):
        meter = Meter()
        meter.add(cells=8, seconds=2.0, waited=1.0)
        meter.add(cells=8, seconds=2.0, waited=0.0)
        assert meter.read() == {"train/cells_per_second": 4.0, "train/data_wait_share": 0.25}
        meter.add(cells=10, seconds=1.0, waited=1.0)
        assert meter.read() == {"train/cells_per_second": 10.0, "train/data_wait_share": 1.0}

    def test_the_time_left_is_in_proportion_to_the_steps(self):
        meter = Meter()
        assert meter.seconds_left(10) is None
        meter.add(cells=1, seconds=1.0, waited=0.0)
        assert meter.seconds_left(0) == 0.0
        assert 0 < meter.seconds_left(10) <= meter.seconds_left(1000)
