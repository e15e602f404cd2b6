"""Runs all checks on a model class; a crash is a failure of the check in which it happens."""

from __future__ import annotations

import inspect
import logging
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from scmodelforge.workflows.model_check import (
    adapters,
    invariance,
    leaks,
    learning,
    making,
    nothing,
    outputs,
    saving,
)
from scmodelforge.workflows.model_check.results import Check, CheckResult, Failed, NotClaimed
from scmodelforge.workflows.model_check.subject import Subject

__all__ = ["CHECKS", "check_model", "run_checks"]

#: Without these two no other check can be run.
_FIRST = (
    Check("made from its settings", making.made_from_settings),
    Check("its objective makes batches", making.objective_makes_batches),
)

CHECKS: tuple[Check, ...] = (
    *_FIRST,
    *making.CHECKS,
    *outputs.CHECKS,
    *invariance.CHECKS,
    *leaks.CHECKS,
    *nothing.CHECKS,
    *learning.CHECKS,
    *saving.CHECKS,
    *adapters.CHECKS,
)

_HERE = Path(__file__).parent


def check_model(model_class: type, *, name: str | None = None, seed: int = 0) -> list[CheckResult]:
    """Check whether a model keeps the contract that the rest of the package relies on.

    The model is made through ``from_config`` with tiny settings, and called with batches that the collator of its
    default objective makes of synthetic cells.

    Parameters
    ----------
    model_class
        An ``nn.Module`` class with ``from_config``, ``forward`` and ``encode``.
    name
        Name of the architecture in the settings; ``None`` is that of the class.
    seed
        Seed of the cells and of the weights.

    Returns
    -------
    One result a check, always the same ones in the same order. A check that could not be run is not claimed.
    """
    return run_checks(CHECKS, model_class, name=name, seed=seed)


def run_checks(
    checks: Sequence[Check], model_class: type, *, name: str | None = None, seed: int = 0
) -> list[CheckResult]:
    """Run some of the checks, after those that no other can do without, if these pass."""
    with _quiet():
        subject = Subject(model_class, name=name, seed=seed)
        results: list[CheckResult] = []
        for check in dict.fromkeys((*_FIRST, *checks)):
            broken = next((r for r in results[: len(_FIRST)] if r.status == "failed"), None)
            if broken is not None:
                results.append(CheckResult(check.name, "not claimed", f"not run, since '{broken.name}' failed"))
                continue
            results.append(_run(check, subject, results))
        return results


def _run(check: Check, subject: Subject, before: list[CheckResult]) -> CheckResult:
    try:
        check.run(subject)
    except Failed as problem:
        message = str(problem)
    except NotClaimed as reason:
        return CheckResult(check.name, "not claimed", str(reason))
    except Exception as problem:
        message = _crash(problem, subject.model_class)
    else:
        return CheckResult(check.name, "passed")
    same = next((result for result in before if result.message == message), None)
    if same is not None:
        message = f"the same as in '{same.name}'"
    return CheckResult(check.name, "failed", message)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave the random state, warnings and log as they were: what models say of synthetic cells helps nobody."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _crash(problem: Exception, model_class: type) -> str:
    """Return type and text of a crash, and the line of the model's code in which it happened."""
    reason = " ".join(str(problem).split())
    frames = traceback.extract_tb(problem.__traceback__)
    own = {_file(part) for part in model_class.__mro__}
    in_model = [frame for frame in frames if frame.filename in own]
    torch_home = str(Path(torch.__file__).parent)
    outside = [f for f in frames if not f.filename.startswith(torch_home) and Path(f.filename).parent != _HERE]
    frame = (in_model or outside or list(frames))[-1]
    seen = f"{type(problem).__name__}: {reason}" if reason else type(problem).__name__
    return f"crashed with {seen} ({frame.filename}:{frame.lineno}, in {frame.name}); mend it there"


def _file(part: type) -> str | None:
    if part.__module__.partition(".")[0] in ("torch", "builtins"):
        return None
    try:
        return inspect.getsourcefile(part)
    except (TypeError, OSError):
        return None
