from __future__ import annotations

import json
import math
import sys

import pytest

from scmodelforge._errors import DataError
from scmodelforge.training.metrics import MetricsLog


class TestJsonLines:
    def test_one_object_a_line_in_order(self, tmp_path):
        log = MetricsLog(tmp_path / "run", tensorboard=False)
        log.log(1, {"epoch": 0, "train/loss": 2.5})
        log.log(2, {"epoch": 0, "train/loss": 2.0})
        lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == [
            {"step": 1, "epoch": 0, "train/loss": 2.5},
            {"step": 2, "epoch": 0, "train/loss": 2.0},
        ]

    def test_what_is_not_finite_is_null_and_the_file_stays_json(self, tmp_path):
        log = MetricsLog(tmp_path, tensorboard=False)
        log.log(1, {"val/loss": math.nan, "train/loss": math.inf})
        record = json.loads(log.path.read_text(), parse_constant=pytest.fail)
        assert record == {"step": 1, "val/loss": None, "train/loss": None}

    def test_nothing_is_written_before_the_first_record(self, tmp_path):
        MetricsLog(tmp_path / "run", tensorboard=True, log_dir=tmp_path / "logs").close()
        assert list(tmp_path.iterdir()) == []


class TestTruncate:
    def test_drops_what_is_past_the_step_and_goes_on_after_it(self, tmp_path):
        log = MetricsLog(tmp_path, tensorboard=False)
        for step in (1, 2, 2, 3):
            log.log(step, {"x": 1.0})
        log.truncate(2)
        log.log(3, {"x": 2.0})
        assert [(r["step"], r["x"]) for r in map(json.loads, log.path.read_text().splitlines())] == [
            (1, 1.0),
            (2, 1.0),
            (2, 1.0),
            (3, 2.0),
        ]
        assert {path.name for path in tmp_path.iterdir()} == {"metrics.csv", "metrics.jsonl"}

    def test_drops_a_line_torn_by_a_kill(self, tmp_path, caplog):
        log = MetricsLog(tmp_path, tensorboard=False)
        log.log(1, {"x": 1.0})
        with log.path.open("a") as file:
            file.write('{"step": 2, "x"')
        log.truncate(5)
        log.log(2, {"x": 2.0})
        assert [json.loads(line)["step"] for line in log.path.read_text().splitlines()] == [1, 2]
        assert "metrics.jsonl: line 2 is not a record" in caplog.text

    def test_of_a_run_that_logged_nothing_does_nothing(self, tmp_path):
        MetricsLog(tmp_path, tensorboard=False).truncate(3)
        assert list(tmp_path.iterdir()) == []


class TestTensorBoard:
    def test_gets_the_metrics_but_not_the_clock_and_no_step_twice(self, tmp_path):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        for first, last in [(1, 4), (3, 5)]:  # stopped after 4, resumed after 2
            with MetricsLog(tmp_path / "run", tensorboard=True, log_dir=tmp_path / "logs") as log:
                if first > 1:
                    log.truncate(first - 1)
                for step in range(first, last + 1):
                    log.log(step, {"epoch": 0, "train/loss": float(first)})
        events = EventAccumulator(str(tmp_path / "logs")).Reload()
        assert events.Tags()["scalars"] == ["train/loss"]
        assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(1, 1), (2, 1), (3, 3), (4, 3), (5, 3)]

    def test_asked_for_and_not_installed_says_how_to_install_it(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "tensorboard", None)
        with pytest.raises(ImportError, match=r"tensorboard.* pip install 'scmodelforge\[log\]'"):
            MetricsLog(tmp_path, tensorboard=True)

    def test_not_asked_for_and_not_installed_is_left_out(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "tensorboard", None)
        with MetricsLog(tmp_path, tensorboard=None) as log:
            log.log(1, {"train/loss": 1.0})
        assert {path.name for path in tmp_path.iterdir()} == {"metrics.csv", "metrics.jsonl"}


class Broken:
    """A place for metrics that fails from some step on."""

    name = "Somewhere"

    def __init__(self, step: int) -> None:
        self.step, self.taken = step, []

    def log(self, step: int, values: dict[str, float]) -> None:
        if step >= self.step:
            raise ConnectionError("no\nroute")
        self.taken.append(step)

    def truncate(self, step: int) -> None:
        raise AssertionError

    def close(self) -> None:
        raise AssertionError


class TestWhatBreaks:
    def test_elsewhere_is_left_out_from_there_on_with_one_warning(self, tmp_path, caplog):
        log = MetricsLog(tmp_path, tensorboard=False)
        log._sinks.append(broken := Broken(3))
        for step in range(1, 6):
            log.log(step, {"x/y": 1.0})
        log.close()
        assert broken.taken == [1, 2]
        assert [record["step"] for record in map(json.loads, log.path.read_text().splitlines())] == [1, 2, 3, 4, 5]
        (message,) = caplog.messages
        assert message == (
            f"Somewhere failed and gets no more metrics (no route); the run goes on, and {log.path} has them all"
        )

    def test_a_full_disk_of_tensorboard_does_not_end_the_run(self, tmp_path, caplog):
        (tmp_path / "logs").write_text("a file where the folder would be")
        with MetricsLog(tmp_path, tensorboard=True, log_dir=tmp_path / "logs") as log:
            log.log(1, {"train/loss": 1.0})
            log.log(2, {"train/loss": 1.0})
        assert len(log.path.read_text().splitlines()) == 2
        assert [message.partition(" (")[0] for message in caplog.messages] == [
            "TensorBoard failed and gets no more metrics"
        ]

    def test_in_the_file_itself_ends_the_run_in_one_line(self, tmp_path):
        log = MetricsLog(tmp_path / "run", tensorboard=False)
        (tmp_path / "run").write_text("a file where the folder would be")
        with pytest.raises(DataError, match=r"metrics.jsonl: metrics cannot be written \(.*\). Make room"):
            log.log(1, {"x/y": 1.0})
