"""The processes of a run: what starts them must agree with the settings, and when one dies the others end."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from subprocess import Popen
from typing import TYPE_CHECKING, Any

import torch

from scmodelforge._errors import ConfigError, LostProcess
from scmodelforge.config.schema import TrainingConfig
from scmodelforge.training._background import wait_for_all

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["PATIENCE", "check_launcher", "leave_group", "one_line_if_lost", "part_ways", "watch"]

#: Longest that a process waits for the others: longer than what the first one does alone (it scores, and writes).
PATIENCE = timedelta(minutes=15)
#: What a checkpoint under way gets to reach the disk when another process is lost.
_MOST_SECONDS_OF_A_WRITE = 600
_SECONDS_BETWEEN_LOOKS = 0.5
#: What a process gets to say itself why it ends, when another one ended with a message of its own.
_GRACE_SECONDS = 5.0
_PARENT = "SCMODELFORGE_PARENT"
_NEEDED_NO_MORE = threading.Event()
#: How the libraries under torch.distributed say that the other end of a connection is gone.
_SIGNS = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out waiting", "remote process")


def check_launcher(config: TrainingConfig) -> None:
    """Refuse to train on other processes than those that torchrun or SLURM started, or to wait for nodes that none did.

    Raises
    ------
    ConfigError
        If the settings and the launcher disagree.
    """
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env:
        per_node, nodes = env.get("LOCAL_WORLD_SIZE"), env.get("GROUP_WORLD_SIZE")
        _compare(config, per_node, nodes, started_by="torchrun")
    elif "SLURM_NTASKS" in env and env.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        if env["SLURM_NTASKS"] != "1" and "SLURM_NTASKS_PER_NODE" not in env:
            msg = (
                f"SLURM started {env['SLURM_NTASKS']} tasks without saying how many on each node; "
                f"use #SBATCH --ntasks-per-node={config.devices} instead of --ntasks."
            )
            raise ConfigError(msg)
        _compare(config, env.get("SLURM_NTASKS_PER_NODE"), env.get("SLURM_NNODES"), started_by="SLURM")
    elif config.num_nodes > 1 and "MASTER_ADDR" not in env:
        msg = (
            f"training.num_nodes is {config.num_nodes}, but no launcher started this process on several nodes; start "
            f"it with: torchrun --nnodes={config.num_nodes} --nproc-per-node={config.devices} -m scmodelforge train "
            "..., or by SLURM, or use --set training.num_nodes=1."
        )
        raise ConfigError(msg)


def watch(fabric: Fabric) -> None:
    """See to it that processes which Lightning starts end together, soon and with one line.

    Lightning itself looks every five seconds and kills all without a word, and leaves processes alone whose first one
    is gone. Those of torchrun and SLURM are watched by these.
    """
    from lightning_fabric.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

    launcher: Any = fabric.strategy.launcher
    is_its_own = isinstance(launcher, _SubprocessScriptLauncher)
    if is_its_own and not launcher.cluster_environment.creates_processes_externally:
        fabric.strategy._launcher = _launcher(launcher)
    elif _PARENT in os.environ and os.environ.get("LOCAL_RANK", "0") != "0":
        _in_background(_end_with_parent, int(os.environ[_PARENT]))


def _compare(config: TrainingConfig, per_node: str | None, nodes: str | None, *, started_by: str) -> None:
    started = {"devices": per_node, "num_nodes": nodes}
    wrong = {name: int(n) for name, n in started.items() if n is not None and int(n) != getattr(config, name)}
    if wrong:
        seen = " and ".join(f"training.{name} is {getattr(config, name)}" for name in wrong)
        found = {"devices": f"{per_node} processes on each node", "num_nodes": f"{nodes} nodes"}
        mend = " ".join(f"--set training.{name}={number}" for name, number in wrong.items())
        msg = f"{seen}, but {started_by} started {' and '.join(found[name] for name in wrong)}; use {mend}."
        raise ConfigError(msg)


@contextmanager
def one_line_if_lost(fabric: Fabric) -> Iterator[None]:
    """Turn the error of a collective whose other end is gone into one line.

    Raises
    ------
    LostProcess
        If another process of the run ended, or did not answer in time.
    """
    try:
        yield
    except RuntimeError as problem:
        is_lost = fabric.world_size > 1 and any(sign in str(problem) for sign in _SIGNS)
        if not is_lost:
            raise
        time.sleep(3 * _SECONDS_BETWEEN_LOOKS)  # what watches the processes knows more, and ends this one
        msg = (
            "another process of this run has ended or does not answer, so this one ends too; its own message, or the "
            "system's log (was memory short?), says why."
        )
        raise LostProcess(msg) from problem


def part_ways(fabric: Fabric) -> None:
    """Let each process end on its own from here: what becomes of the others no longer matters to this one.

    All processes call it; after it none may wait for another.
    """
    fabric.barrier()
    _NEEDED_NO_MORE.set()
    leave_group(fabric)


def leave_group(fabric: Fabric) -> None:
    """Leave the process group, if there is one: its threads may abort a process that ends with them at work."""
    if fabric.world_size > 1 and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _launcher(given: Any) -> Any:
    from lightning_fabric.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
    from lightning_fabric.utilities.distributed import _set_num_threads_if_needed

    class Launcher(_SubprocessScriptLauncher):
        """Starts the other processes of this node and watches them."""

        def launch(self, function: Any, *args: Any, **kwargs: Any) -> Any:
            os.environ[_PARENT] = str(os.getpid())
            _NEEDED_NO_MORE.clear()
            self._call_children_scripts()
            _in_background(_end_with_children, self.procs)
            _set_num_threads_if_needed(num_processes=self.num_processes)
            return function(*args, **kwargs)

    return Launcher(given.cluster_environment, given.num_processes, given.num_nodes)


def _in_background(function: Any, *args: Any) -> None:
    threading.Thread(target=function, args=args, daemon=True, name=function.__name__).start()


def _end_with_children(children: Sequence[Popen[bytes]]) -> None:
    """End this process and the others when one of them failed before the run was through."""
    while any(child.poll() is None for child in children) and not _NEEDED_NO_MORE.is_set():
        time.sleep(_SECONDS_BETWEEN_LOOKS)
        for number, child in enumerate(children, start=1):
            if child.poll():
                # The end of one that was through may be seen before this process knows that all are.
                time.sleep(_GRACE_SECONDS if child.returncode > 0 else _SECONDS_BETWEEN_LOOKS)
                if not _NEEDED_NO_MORE.is_set():
                    _end(_obituary(number, child.returncode), children)


def _end_with_parent(parent: int) -> None:
    """End this process when the one that started it is gone."""
    while os.getppid() == parent:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    time.sleep(_GRACE_SECONDS)
    _end(f"(process {os.environ.get('LOCAL_RANK')}: the first process of this run is gone, so this one ends too)\n", ())


def _obituary(number: int, status: int) -> str:
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    hint = " (was memory short?)" if status == -signal.SIGKILL else ""
    return f"error: process {number} {how}{hint}, so the run stops; go on from its last checkpoint with --resume.\n"


def _end(line: str, children: Sequence[Popen[bytes]]) -> None:
    sys.stderr.write(line)
    sys.stderr.flush()
    for child in children:
        child.kill()
    wait_for_all(_MOST_SECONDS_OF_A_WRITE)  # a checkpoint on its way to the disk
    os._exit(1)
