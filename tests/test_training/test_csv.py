from __future__ import annotations

import csv
import json

import pytest

from scmodelforge._errors import Interrupted
from scmodelforge.training.loop import fit
from scmodelforge.training.metrics import MetricsLog

from .parts import StopAfter, make_run, records, settings


def table(folder) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))


class TestTable:
    def test_has_a_row_a_step_and_a_column_for_every_name(self, tmp_path):
        with MetricsLog(tmp_path, tensorboard=False) as log:
            log.log(5, {"epoch": 0, "train/loss": 2.5})
            log.log(10, {"epoch": 0, "train/loss": 1.25})
            log.log(10, {"epoch": 1, "val/loss": 1.5})
            log.log(10, {"eval/annotation/own/accuracy": 0.75})
        text = (tmp_path / "metrics.csv").read_text()
        assert text.splitlines() == [
            "step,epoch,train/loss,val/loss,eval/annotation/own/accuracy",
            "5,0,2.5,,",
            "10,1,1.25,1.5,0.75",
        ]

    def test_a_figure_that_is_not_finite_is_empty(self, tmp_path):
        with MetricsLog(tmp_path, tensorboard=False) as log:
            log.log(1, {"train/loss": float("nan"), "train/lr": 0.1})
        assert table(tmp_path) == [{"step": "1", "train/loss": "", "train/lr": "0.1"}]

    def test_is_what_the_lines_are_when_a_run_goes_back(self, tmp_path):
        with MetricsLog(tmp_path, tensorboard=False) as log:
            for step in (1, 2, 3):
                log.log(step, {"x/y": float(step)})
        log = MetricsLog(tmp_path, tensorboard=False)
        log.truncate(2)
        assert [row["step"] for row in table(tmp_path)] == ["1", "2"]
        log.log(3, {"x/y": 30.0})
        log.close()
        assert [row["x/y"] for row in table(tmp_path)] == ["1.0", "2.0", "30.0"]

    def test_that_cannot_be_written_is_one_warning(self, tmp_path, caplog):
        log = MetricsLog(tmp_path, tensorboard=False)
        log.log(1, {"x/y": 1.0})
        (tmp_path / "metrics.csv").mkdir()
        log.close()
        assert "metrics.csv cannot be written" in caplog.text
        assert len(records(tmp_path)) == 1

    def test_of_a_run_is_there_at_its_end_and_when_it_was_stopped(self, tmp_path):
        for name, callbacks in (("whole", []), ("stopped", [StopAfter(4)])):
            run = make_run(tmp_path / name, config=settings(max_epochs=2))
            try:
                fit(run, callbacks)
            except Interrupted:
                assert name == "stopped"
            run.metrics.close()
        assert [row["step"] for row in table(tmp_path / "whole")] == ["1", "2", "3", "4", "5", "6"]
        assert [row["step"] for row in table(tmp_path / "stopped")] == ["1", "2", "3", "4"]
        last = table(tmp_path / "whole")[-1]
        lines = {k: v for record in records(tmp_path / "whole") if record["step"] == 6 for k, v in record.items()}
        assert {name: json.loads(value) for name, value in last.items()} == pytest.approx(lines)
