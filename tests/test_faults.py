"""What breaks (kills, full disks, damaged files, vanished data) costs at most the steps since the last checkpoint.

The runs are real: the command in a process of its own, its files on real file systems.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from scmodelforge.training.meter import SPEED
from tests.conftest import make_adata
from tests.test_life_cycle import settings

pytestmark = pytest.mark.slow

WEIGHTS = "model/model.safetensors"
PATIENCE = 300  # seconds until something that must happen has not


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "cells.h5ad"
    make_adata(120, 60).write_h5ad(path)
    return path


def configured(path: Path, data: Path, run: Path, **changes) -> Path:
    """Write the settings of a run of 400 steps in 20 epochs, saved every 5 steps."""
    options = {
        "training__max_epochs": 20,
        "training__steps_per_epoch": 20,
        "training__batch_size": 4,
        "eval__benchmarks": [],
        "output__save_every_n_steps": 5,
        **changes,
    }
    path.write_text(yaml.safe_dump(settings(data, run, **options)))
    return path


class Started:
    """A command in a process of its own, and what it says.

    Processes are forked from one that has imported everything already: a kill is as real, and its test seconds faster.
    """

    def __init__(self, folder: Path, *words: object, file_limit: int | None = None) -> None:
        self.log = folder / f"{time.monotonic_ns()}.log"
        self.log.touch()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["scmodelforge.workflows.pretrain", "scmodelforge.cli.main", __name__])
        self.process = context.Process(target=_work, args=([str(w) for w in words], self.log, file_limit), daemon=True)
        self.process.start()

    @property
    def is_over(self) -> bool:
        return self.process.exitcode is not None

    def said(self) -> list[str]:
        return self.log.read_text().splitlines()

    def send(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def finish(self) -> tuple[int, list[str]]:
        """Return the exit code and the lines said."""
        self.process.join(PATIENCE)
        if not self.is_over:
            self.kill()
            raise TimeoutError(self.log.read_text())
        assert "Traceback" not in self.log.read_text(), self.log.read_text()
        return self.process.exitcode, self.said()


def _work(words: list[str], log: Path, file_limit: int | None) -> None:
    from scmodelforge.cli.main import app

    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if file_limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python itself starts
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    app(words, prog_name="scmodelforge")


def wait_until(is_so: Callable[[], bool], process: Started, *, every: float = 0.01) -> None:
    """Wait for something that a process does, or for its end."""
    for _ in range(int(PATIENCE / every)):
        if is_so() or process.is_over:
            return
        time.sleep(every)
    raise TimeoutError


def records(run: Path) -> list[dict]:
    """Return the metrics of a run without those that are times."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in SPEED} for line in lines]


def num_records(run: Path) -> int:
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def assert_same(run: Path, whole: Path) -> None:
    assert records(run) == records(whole)
    assert (run / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()


def has_checkpoint(run: Path) -> bool:
    return (run / "checkpoints" / "last").exists()


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    """Return a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    code, talk = Started(folder, "train", "--config", configured(folder / "run.yaml", data, folder / "run")).finish()
    assert code == 0, talk
    return folder / "run"


class TestKills:
    def test_at_twenty_moments_leave_no_trace(self, data, whole, tmp_path):
        run = tmp_path / "run"
        draw = random.Random(time.time_ns())  # other moments each time: none may matter
        process = Started(tmp_path, "train", "--config", configured(tmp_path / "run.yaml", data, run))
        wait_until(lambda: has_checkpoint(run), process)
        inside = 0
        for number in range(20):
            self.wait_for_a_moment(("any", "step", "write", "write")[number % 4], run, process, draw)
            assert not process.is_over, "the run ended before all kills"
            process.kill()
            inside += any((run / "checkpoints").glob(".writing_step_*"))
            process = Started(tmp_path, "train", "--resume", run)
        code, talk = process.finish()
        assert code == 0, talk
        assert inside >= 5  # of ten that were meant to
        assert_same(run, whole)
        left = {path.name for path in (run / "checkpoints").iterdir() if not path.name.startswith("step_")}
        assert left == {"last", "best", "epoch_end.json"}

    def wait_for_a_moment(self, kind: str, run: Path, process: Started, draw: random.Random) -> None:
        """Wait for any moment (also while starting), one after some steps, or one while a checkpoint is written."""
        if kind == "any":
            time.sleep(draw.uniform(0, 0.4))
            return
        goal = num_records(run) + draw.randint(1, 6)
        # A resumed run first drops the records after its checkpoint.
        size = lambda: num_records(run)  # noqa: E731
        wait_until(lambda: size() < goal - 6 or size() >= goal, process, every=0.002)
        if kind == "write":
            folder = run / "checkpoints"
            wait_until(lambda: any(folder.glob(".writing_step_*")), process, every=0.0002)
            time.sleep(draw.uniform(0, 0.004))


class TestKillInAnEvaluation:
    def test_costs_no_step_and_its_results_are_there_once(self, data, tmp_path):
        changes = {
            "training__max_epochs": 4,
            "training__steps_per_epoch": 10,
            "output__save_every_n_steps": None,
            "eval__benchmarks": ["cell_type_annotation"],
            "eval__every_n_epochs": 1,
        }
        runs = [tmp_path / name for name in ("whole", "run")]
        whole, run = runs
        code, talk = Started(
            tmp_path, "train", "--config", configured(tmp_path / "w.yaml", data, whole, **changes)
        ).finish()
        assert code == 0, talk
        process = Started(tmp_path, "train", "--config", configured(tmp_path / "r.yaml", data, run, **changes))
        inside = 0
        for step in (10, 20, 40):
            saved = run / "checkpoints" / f"step_{step:08d}"
            wait_until(saved.exists, process, every=0.0005)
            process.kill()
            inside += all(record["step"] < step for record in results_of(run))
            process = Started(tmp_path, "train", "--resume", run)
        code, talk = process.finish()
        assert code == 0, talk
        assert inside  # the first evaluation has the baselines to embed
        assert f"after step 40 ({saved})" in "".join(talk)
        assert records(run) == records(whole)
        assert results_of(run) == results_of(whole)


def results_of(run: Path) -> list[dict]:
    path = run / "results.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [{name: value for name, value in record.items() if name != "seconds"} for record in found]


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """Return a file system of 8 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system takes root; the limit on file sizes is tested for everyone")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """Leave no byte in a file system."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return path
    raise AssertionError


class TestFullDisk:
    def test_that_is_mended_in_time_costs_nothing(self, data, whole, small_disk, tmp_path):
        run = small_disk / "run"
        process = Started(tmp_path, "train", "--config", configured(tmp_path / "run.yaml", data, run))
        wait_until(lambda: has_checkpoint(run), process)
        process.send(signal.SIGSTOP)  # so that the disk is full at one moment for the run
        filler = fill(small_disk)
        process.send(signal.SIGCONT)
        wait_until(lambda: "cannot be written" in process.log.read_text(), process, every=0.0005)
        filler.unlink()
        code, talk = process.finish()
        assert code == 0, talk
        (line, *_) = [line for line in talk if "cannot be written" in line]
        assert "it needs " in line
        assert "are free in the file system of" in line
        assert "tries again at the next one" in line
        found = records(run)
        failures = [record["checkpoint/failures"] for record in found if "checkpoint/failures" in record]
        assert failures
        assert [record for record in found if "checkpoint/failures" not in record] == records(whole)
        assert (run / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()

    def test_that_stays_full_ends_the_run_with_one_line_and_what_was_saved(self, data, whole, small_disk, tmp_path):
        run = small_disk / "run"
        process = Started(tmp_path, "train", "--config", configured(tmp_path / "run.yaml", data, run))
        wait_until(lambda: has_checkpoint(run), process)
        filler = fill(small_disk)
        code, talk = process.finish()
        assert code == 1
        (line,) = [line for line in talk if "which is not saved" in line]
        assert "Make room or mend access, then resume. The last checkpoint is" in line
        assert talk[-1] == f"continue with: scmodelforge train --resume {run}"
        filler.unlink()
        code, talk = Started(tmp_path, "train", "--resume", run).finish()
        assert code == 0, talk
        assert_same(run, whole)

    def test_that_no_check_foresaw_leaves_nothing_half_written(self, data, tmp_path):
        """A limit on the size of files strikes in the middle of a write, whatever the file system has free."""
        size = 24 * 1024  # the metrics and settings fit, the weights and moments do not
        options = {"model__hidden_dim": 64, "training__steps_per_epoch": 10, "output__save_every_n_steps": 10}
        config = configured(tmp_path / "run.yaml", data, tmp_path / "run", **options)
        process = Started(tmp_path, "train", "--config", config, file_limit=size)
        code, talk = process.finish()
        assert code == 1, talk
        assert "There is no checkpoint" in talk[-1]
        assert "File too large" in talk[-1]
        left = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
        assert left <= {"epoch_end.json"}  # of what callbacks come to, which fits


class TestFolderThatCannotBeWritten:
    def test_ends_the_run_after_three_attempts_and_keeps_the_earlier(self, data, whole, small_disk, tmp_path):
        run, checkpoints = tmp_path / "run", small_disk / "checkpoints"
        config = configured(tmp_path / "run.yaml", data, run, output__checkpoint_dir=str(checkpoints))
        process = Started(tmp_path, "train", "--config", config)
        wait_until((checkpoints / "last").exists, process)
        for _ in range(1000):  # the system refuses while a file is open for writing
            if not subprocess.run(["mount", "-o", "remount,ro", small_disk], stderr=subprocess.DEVNULL).returncode:
                break
        code, talk = process.finish()
        assert code == 1
        assert len([line for line in talk if "tries again" in line]) == 2
        assert "Read-only file system" in talk[-2]
        assert "The last checkpoint is" in talk[-2]
        subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
        code, talk = Started(tmp_path, "train", "--resume", run).finish()
        assert code == 0, talk
        found = [record for record in records(run) if "checkpoint/failures" not in record]
        assert found == records(whole)

    def test_is_said_before_the_run_begins(self, data, small_disk, tmp_path):
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
        run = small_disk / "run"
        code, talk = Started(tmp_path, "train", "--config", configured(tmp_path / "run.yaml", data, run)).finish()
        assert code == 2
        assert "cannot write to" in talk[-1]


class TestDamage:
    @pytest.mark.parametrize("name", [WEIGHTS, "state.safetensors", "state.json", "MANIFEST.json"])
    def test_of_the_last_checkpoint_costs_the_steps_since_the_one_before(self, data, whole, stopped, tmp_path, name):
        run = shutil.copytree(stopped, tmp_path / "run")
        last = run / "checkpoints" / (run / "checkpoints" / "last").read_text().strip()
        path = last / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        code, talk = Started(tmp_path, "train", "--resume", run).finish()
        assert code == 0, talk
        assert len([line for line in talk if f"{last.name} is damaged ({name}" in line]) == 1
        assert_same(run, whole)

    def test_of_all_checkpoints_is_one_line(self, stopped, tmp_path):
        run = shutil.copytree(stopped, tmp_path / "run")
        for path in (run / "checkpoints").glob("step_*/state.safetensors"):
            path.write_bytes(path.read_bytes()[:-1])
        code, talk = Started(tmp_path, "train", "--resume", run).finish()
        assert code == 2
        assert "checkpoints are damaged, so the run cannot be resumed" in talk[-1]


@pytest.fixture(scope="module")
def stopped(data, tmp_path_factory) -> Path:
    """Return a run that a scheduler stopped."""
    folder = tmp_path_factory.mktemp("stopped")
    run = folder / "run"
    process = Started(folder, "train", "--config", configured(folder / "run.yaml", data, run))
    wait_until(lambda: num_records(run) > 30, process)
    process.send(signal.SIGTERM)
    code, talk = process.finish()
    assert code == 1
    assert "SIGTERM: saving and stopping" in "".join(talk)
    return run


class TestSignals:
    @pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
    def test_while_a_checkpoint_is_written_save_what_was_done_since(self, data, whole, tmp_path, name):
        run = tmp_path / "run"
        process = Started(tmp_path, "train", "--config", configured(tmp_path / "run.yaml", data, run))
        wait_until(lambda: num_records(run) > 60, process)
        wait_until(lambda: any((run / "checkpoints").glob(".writing_step_*")), process, every=0.0002)
        process.send(getattr(signal, name))
        code, talk = process.finish()
        assert code == 1
        (line,) = [line for line in talk if line.startswith("stopped after step")]
        saved = Path(line.split("saved as ")[1])
        assert (saved / "MANIFEST.json").exists()
        assert int(saved.name.removeprefix("step_")) == records(run)[-1]["step"]
        assert not any((run / "checkpoints").glob(".writing*"))
        code, talk = Started(tmp_path, "train", "--resume", run).finish()
        assert code == 0, talk
        assert_same(run, whole)


class TestVanishedData:
    def test_between_stop_and_resume_are_one_line(self, data, tmp_path):
        copy = Path(shutil.copy(data, tmp_path / "cells.h5ad"))
        run = self.stop_one(tmp_path, copy)
        copy.rename(tmp_path / "elsewhere.h5ad")
        code, talk = Started(tmp_path, "train", "--resume", run).finish()
        assert code == 2
        assert len(talk) == 1
        assert str(copy) in talk[0]
        (tmp_path / "elsewhere.h5ad").rename(copy)
        code, talk = Started(tmp_path, "train", "--resume", run).finish()
        assert code == 0, talk

    def test_in_the_middle_cost_no_step(self, data, whole, tmp_path):
        copy = Path(shutil.copy(data, tmp_path / "cells.h5ad"))
        run = tmp_path / "run"
        process = Started(tmp_path, "train", "--config", configured(tmp_path / "run.yaml", copy, run))
        wait_until(lambda: num_records(run) > 30, process)
        size = copy.stat().st_size
        os.truncate(copy, 0)  # a file that was only unlinked can still be read by those who have it open
        code, talk = process.finish()
        assert code == 2, talk
        (line,) = [line for line in talk if line.startswith("error:")]
        assert copy.name in line
        assert "Mend the data, then resume." in line
        if "saved as" in line:  # else it was met between two steps, when held-out cells were read
            assert int(line.split("saved as ")[1].split("step_")[1][:8]) == records(run)[-1]["step"]
        else:
            assert "The last checkpoint is" in line
        shutil.copy(data, copy)
        assert copy.stat().st_size == size
        code, talk = Started(tmp_path, "train", "--resume", run).finish()
        assert code == 0, talk
        assert [r["train/loss"] for r in records(run) if "train/loss" in r] == [
            r["train/loss"] for r in records(whole) if "train/loss" in r
        ]

    def stop_one(self, folder: Path, data: Path) -> Path:
        run = folder / "run"
        config = configured(folder / "run.yaml", data, run, training__max_epochs=4)
        process = Started(folder, "train", "--config", config)
        wait_until(lambda: num_records(run) > 20, process)
        process.send(signal.SIGTERM)
        assert process.finish()[0] == 1
        return run
