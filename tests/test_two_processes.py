"""Two processes through the command line: the run of one process with the same global batch."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.conftest import make_adata
from tests.test_life_cycle import losses, settings

pytestmark = [pytest.mark.distributed, pytest.mark.slow]


def run_command(*words: object, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return finished(start(*words, launcher=launcher))


def start(*words: object, launcher: tuple[str, ...] = (), **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, *launcher, "-m", "scmodelforge", *map(str, words)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def finished(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    out, err = process.communicate(timeout=600)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def configured(folder: Path, name: str, data: Path, **changes) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(settings(data, folder / name, model__dropout=0.0, **changes)))
    return path


def test_the_loss_curve_is_that_of_one_process_and_everything_is_written_once(tmp_path):
    data = tmp_path / "cells.h5ad"
    make_adata(70, 30).write_h5ad(data)
    one = configured(tmp_path, "one", data, training__batch_size=8)
    two = configured(tmp_path, "two", data, training__batch_size=4, training__devices=2)
    for config in (one, two):
        done = run_command("train", "--config", config)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("Held-out cells (") == 1
        assert done.stderr.count("held out 2 of 5 donors") == 1
    first, second = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert list(first) == list(second)
    # Sums of floats over two processes: 1e-5 is what the order of additions costs in float32 here.
    assert max(abs(first[step] - second[step]) for step in first) < 1e-5
    keys = [(r["representation"], r["metric"], r["benchmark"]) for r in results(tmp_path / "two")]
    assert len(keys) == len(set(keys))
    assert_same_results(tmp_path / "one", tmp_path / "two")


def test_a_head_is_trained_as_by_one_process(tmp_path):
    """The two have labels of unequal numbers of cells, and score with the weights both have."""
    data = tmp_path / "cells.h5ad"
    make_adata(71, 30).write_h5ad(data)
    backbone = {"architecture": "transformer_encoder", "hidden_dim": 16, "num_layers": 2, "num_heads": 2}
    head = {"pooling": "embedding", "hidden_layers": 1, "dropout": 0.0}
    model = {"architecture": "fine_tuned", "backbone": backbone | {"max_seq_len": 24, "dropout": 0.0}, "head": head}
    for name, changes in (("one", {"batch_size": 8}), ("two", {"batch_size": 4, "devices": 2})):
        config = settings(data, tmp_path / name)
        config["model"] = model
        config["training"] |= changes
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config))
        done = run_command("train", "--config", path)
        assert done.returncode == 0, done.stderr
    first, second = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert list(first) == list(second)
    assert max(abs(first[step] - second[step]) for step in first) < 1e-5
    assert len({*first.values()}) > 1
    weights = [load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two")]
    assert any("head" in name for name in weights[0])
    # A bias of keys adds the same to all scores of a query: its gradient is rounding alone, which Adam scales up.
    for name, tensor in weights[0].items():
        if name.endswith(".attention.k.bias"):
            continue
        torch.testing.assert_close(weights[1][name], tensor, rtol=0, atol=1e-5, msg=name)
    assert_same_results(tmp_path / "one", tmp_path / "two")


def test_bad_data_end_both_processes_with_status_2(tmp_path):
    data = tmp_path / "cells.h5ad"
    adata = make_adata(70, 30)
    adata.X = adata.X * 0.5
    adata.write_h5ad(data)
    done = run_command("train", "--config", configured(tmp_path, "two", data, training__devices=2))
    assert done.returncode == 2
    assert sum(line.startswith("error: ") for line in done.stderr.splitlines()) == 1
    assert not (tmp_path / "two").exists()


def test_torchrun_starts_a_sharded_run_that_is_that_of_one_process(tmp_path):
    """Blocks are recomputed, the head is tied; evaluated by both processes, resumed by one with whole weights."""
    data = tmp_path / "cells.h5ad"
    make_adata(71, 30).write_h5ad(data)  # the processes embed unequal numbers of cells
    model = {"num_layers": 2, "tied_head": True, "activation_checkpointing": True}
    changes = {**{f"model__{name}": value for name, value in model.items()}, "eval__every_n_epochs": 1}
    one = configured(tmp_path, "one", data, training__batch_size=8, **changes)
    two = configured(
        tmp_path, "two", data, training__batch_size=4, training__devices=2, training__strategy="fsdp", **changes
    )
    assert run_command("train", "--config", one).returncode == 0
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}")
    refused = run_command("train", "--config", two, "--set", "training.devices=1", launcher=torchrun)
    assert refused.returncode != 0
    assert "training.devices is 1, but torchrun started 2 processes on each node; use --set" in refused.stderr
    done = run_command("train", "--config", two, launcher=torchrun)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Held-out cells (") == 1
    first, second = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert list(first) == list(second)
    assert max(abs(first[step] - second[step]) for step in first) < 1e-5
    assert_same_results(tmp_path / "one", tmp_path / "two")
    assert_same_results(tmp_path / "one", tmp_path / "two", "exported_results.jsonl")
    assert_goes_on_with_one_process(tmp_path / "two", first)


def assert_goes_on_with_one_process(run: Path, expected: dict[int, float]) -> None:
    """Take the last checkpoint away, and the second process, and go on."""
    last = (run / "checkpoints" / "last").read_text().strip()
    for path in (run / "checkpoints" / last).iterdir():
        if path.is_file():
            path.unlink()
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["training"] |= {"devices": 1, "batch_size": 8, "strategy": "auto"}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    done = run_command("train", "--resume", run)
    assert done.returncode == 0, done.stderr
    found = losses(run)
    assert list(found) == list(expected)
    assert max(abs(found[step] - expected[step]) for step in expected) < 1e-5


NOTING = """
import os
from pathlib import Path
from scmodelforge.models.registry import register_model
from scmodelforge.models.transformer_encoder import TransformerEncoder
from scmodelforge.training._sharded import is_sharded

def note(what, model):
    # Of blocks alone: a forward pass has all else in one piece.
    parameters = list(model.encoder.layers.parameters())
    here = sum(p.numel() for p in parameters if not p.is_meta and not is_sharded(p))
    with Path(os.environ["NOTES"], os.environ.get("LOCAL_RANK", "0")).open("a") as file:
        print(what, "whole" if here == sum(p.numel() for p in parameters) else here, file=file)

@register_model("noting")
class Noting(TransformerEncoder):
    def __init__(self, vocab_size, *args, **kwargs):
        super().__init__(vocab_size, *args, **kwargs)
        if vocab_size > 16:  # larger than what settings are tried with
            note("made", self)

    def encode(self, *args, **kwargs):
        note("encodes", self)
        return super().encode(*args, **kwargs)
"""


def test_no_process_of_a_sharded_run_evaluates_a_whole_model_nor_reads_one_to_go_on(tmp_path):
    data, plugin = tmp_path / "cells.h5ad", tmp_path / "noting.py"
    make_adata(71, 30).write_h5ad(data)
    plugin.write_text(NOTING)
    changes = {"training__max_epochs": 1, "training__devices": 2, "training__strategy": "fsdp"}
    config = configured(tmp_path, "two", data, model__architecture="noting", **changes)
    config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), "plugins": [str(plugin)]}))
    for number, words in enumerate((("--config", config), ("--resume", tmp_path / "two"))):
        notes = tmp_path / str(number)
        notes.mkdir()
        done = finished(start("train", *words, NOTES=str(notes)))
        assert done.returncode == 0, done.stderr
        assert "exported: step" in done.stderr
        first, second = ((notes / rank).read_text().splitlines() for rank in "01")
        # Cells are embedded by the model and the untrained one: in training, if there is any, and at the end.
        assert sum(line.startswith("encodes") for line in second) >= 2
        assert {line for line in first + second if line.startswith("encodes")} == {"encodes 0"}
        # The first one draws the weights; the second has none that it did not get as a share.
        assert {line for line in first if line.startswith("made")} == {"made whole"}
        assert {line for line in second if line.startswith("made")} == {"made 0"}


@pytest.mark.parametrize("kind", ["torchrun", "slurm"])
def test_two_nodes_of_one_process_each_train_together(tmp_path, kind):
    data = tmp_path / "cells.h5ad"
    make_adata(70, 30).write_h5ad(data)
    config = configured(tmp_path, "two", data, training__num_nodes=2, training__max_epochs=1)
    port = free_port()
    nodes = []
    for node in ("0", "1"):
        if kind == "torchrun":
            where = (f"--node-rank={node}", "--master-addr=127.0.0.1", f"--master-port={port}")
            launcher = ("-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", *where)
            nodes.append(start("train", "--config", config, launcher=launcher))
        else:
            slurm = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "2", "SLURM_JOB_ID": "77"}
            place = {"SLURM_PROCID": node, "SLURM_NODEID": node, "SLURM_LOCALID": "0"}
            address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            nodes.append(start("train", "--config", config, **slurm, **place, **address))
    first, second = map(finished, nodes)
    assert first.returncode == 0, first.stderr
    assert second.returncode == 0, second.stderr
    assert first.stdout.count("Held-out cells (") == 1
    assert "accuracy_linear_probe" not in second.stdout
    assert "on 2 x cpu" in first.stderr


@pytest.mark.parametrize("victim", [0, 1])
def test_the_death_of_a_process_ends_the_other_with_one_line(tmp_path, victim):
    data = tmp_path / "cells.h5ad"
    make_adata(70, 30).write_h5ad(data)
    config = configured(tmp_path, "two", data, training__devices=2, training__max_epochs=100_000)
    process = start("train", "--config", config)
    other = wait_for(lambda: children(process.pid))[0]
    wait_for(lambda: list((tmp_path / "two" / "checkpoints").glob("step_*")))
    os.kill(other if victim else process.pid, signal.SIGKILL)
    began = time.monotonic()
    done = finished(process)  # waits for both, which write to the same pipes
    assert time.monotonic() - began < 60
    assert done.returncode == (1 if victim else -signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{other}").exists())
    lines = [line for line in done.stderr.splitlines() if line.startswith(("error: ", "(process 1: "))]
    assert len(lines) == 1, done.stderr
    assert ("process 1 was killed by SIGKILL" if victim else "another process of this run has ended") in lines[0]
    assert "Traceback" not in done.stderr


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def wait_for(condition, seconds: float = 400):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    pytest.fail("waited in vain")


def results(run: Path, file: str = "results.jsonl") -> list[dict]:
    return [json.loads(line) for line in (run / file).read_text().splitlines()]


def assert_same_results(first: Path, second: Path, file: str = "results.jsonl") -> None:
    """Scores count cells, so embeddings that differ in the last digits give the same ones, or one cell more or less."""
    names = ("step", "representation", "benchmark", "dataset", "metric")
    one, two = ({tuple(r[name] for name in names): r["value"] for r in results(run, file)} for run in (first, second))
    assert set(one) == set(two)
    assert all(one[key] == pytest.approx(two[key], abs=0.05) for key in one)
