"""The training loop: one clock of optimiser steps, which everything else hangs on.

An epoch is a number of steps, after which the run validates, saves and evaluates; the order of the cells knows
nothing of it. Losses are sums over targets: each term of each micro-batch is weighted by its targets over those of
the whole step on all processes, so batch size, accumulation and the number of processes do not change the loss.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from scmodelforge.training import _rng
from scmodelforge.training._epoch_end import keep_outcome, take_up_outcome
from scmodelforge.training._feed import Feed, copies_to
from scmodelforge.training._saving import (
    nothing_under_way,
    save_when_due,
    saved_if_data_fail,
    saved_to_the_end,
    stop,
    told_if_data_fail,
)
from scmodelforge.training._sharded import settle, whole
from scmodelforge.training._signals import stop_on_signals
from scmodelforge.training._targets import (
    StepCounts,
    TermMeans,
    all_reduce,
    count_step,
    to_device,
    total_counts,
    weighted_loss,
)
from scmodelforge.training.compiling import compile_failures, compile_seconds
from scmodelforge.training.ema import averaged
from scmodelforge.training.meter import Meter, device_figures, forget_peak, work_of
from scmodelforge.training.optim import advance_without_step
from scmodelforge.training.out_of_memory import memory_explained
from scmodelforge.training.progress import LineReporter, Reporter, Status
from scmodelforge.training.run import Callback, Loader, Progress, Run
from scmodelforge.training.schedules import base_lr

__all__ = ["Callback", "Loader", "Progress", "Run", "fit", "train_step", "validate"]


def fit(run: Run, callbacks: Sequence[Any] = ()) -> None:
    """Train from where the run is to its last step.

    Parameters
    ----------
    run
        A fresh run, or one that a checkpoint was loaded into.
    callbacks
        Objects with any of the methods of :class:`Callback`, called in this order.

    Raises
    ------
    Interrupted
        If asked to stop (SIGINT, SIGTERM, SIGUSR1, ``run.stop_requested``), after the step is done and the state
        saved. As :class:`~scmodelforge._errors.NotSaved` if it, or that of the last step, could not be saved.
    DataError
        If the next cells cannot be read; the state of the steps done is saved.
    RunError
        If the loss or the gradient is not finite more often than :class:`Guards` allow, or memory runs out.
    """
    run.callbacks, run.stop_requested, run.ends_early = tuple(callbacks), False, False
    reporter, meter = run.reporter or LineReporter(), _meter(run)
    forget_peak(run.fabric.device)
    if run.progress.step == 0:
        _rng.seed_stream(run.config.seed, rank=run.fabric.global_rank)
    run.objective.train()
    try:
        with stop_on_signals(run), nothing_under_way(run), memory_explained(run), compile_failures():
            take_up_outcome(run)
            _call(run, "on_fit_start")
            if run.progress.is_epoch_open:  # it was broken off in the callbacks of an epoch's end
                _end_epoch(run)
            feed = _feed(run)
            while run.progress.step < run.total_steps and not run.ends_early:
                metrics = _timed_step(run, feed, meter)
                with told_if_data_fail(run):
                    _call(run, "on_step_end")
                _after_step(run, metrics, meter, reporter)
            saved_to_the_end(run)
            with averaged(run):
                _call(run, "on_fit_end")
    finally:
        reporter.close()
        for loader in (run.train_loader, run.val_loader):
            if loader is not None:
                loader.close()


def train_step(
    run: Run,
    micro_batches: Sequence[dict[str, Any]],
    *,
    counts: StepCounts | None = None,
    on_device: Iterable[dict[str, Any]] | None = None,
    meanwhile: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Take one optimiser step on all micro-batches of all processes.

    Parameters
    ----------
    run
        The run.
    micro_batches
        This process's share of the step.
    counts
        What the step consists of, if it was counted already.
    on_device
        The same micro-batches, on the device; ``None`` copies them.
    meanwhile
        What the host does while the device computes: called when all was asked of it and nothing has been read.

    Returns
    -------
    ``train/loss``, each term's and its floor where it has one, ``train/lr`` (the one used) and ``train/grad_norm``
    (before clipping); the same on all processes. If the loss or the gradient is not finite, the optimiser does not
    take the step, but the clock, the schedule and the data move on.

    Raises
    ------
    RunError
        If that happens too often in a row.
    """
    run.guards.begin(run, micro_batches)
    tell_step = getattr(run.model, "set_step", None)  # of models whose loss depends on the step
    if tell_step is not None:
        tell_step(run.progress.step)
    counts = counts or count_step(run.fabric, micro_batches)
    means = TermMeans(micro_batches[0]["num_targets"], run.fabric.device)
    for number, sent in enumerate(on_device or micro_batches, start=1):
        batch = to_device(sent, run.fabric.device)
        # Gradients travel between processes once a step, with the last micro-batch.
        with run.fabric.no_backward_sync(run.objective, enabled=number < len(micro_batches)):
            terms = run.objective(batch)
            loss = weighted_loss(terms, batch["num_targets"], counts.targets)
            run.fabric.backward(loss * run.fabric.world_size)  # processes average gradients, sums are wanted
        means.add(terms, batch)
    meanwhile()
    losses = {"loss": 0.0, **means.reduce(run.fabric)}
    limit = run.config.gradient_clip or math.inf
    norm: Any = run.fabric.clip_gradients(run.objective, run.optimizer, max_norm=limit, error_if_nonfinite=False)
    metrics = {f"train/{name}": value for name, value in losses.items()}
    metrics |= {"train/lr": base_lr(run.scheduler, run.config.optimizer.lr), "train/grad_norm": float(whole(norm))}
    if run.guards.admit(run, metrics):
        run.optimizer.step()
        if run.ema is not None:
            run.ema.update(run.model)
        run.scheduler.step()
    else:
        advance_without_step(run.scheduler)
    run.optimizer.zero_grad(set_to_none=True)
    run.train_loader.mark_consumed()
    run.progress.step += 1
    run.progress.cells += counts.cells
    return metrics


def validate(run: Run) -> dict[str, float]:
    """Return ``val/loss`` and ``val/<term>``: means over all targets of all validation cells, each counted once.

    The sum leaves out what a model names as ``terms_apart``: terms that say nothing of how good it is, by which no
    checkpoint may be chosen. Neither the mode of any module nor a random number generator is changed. Without
    validation cells, or without a target in them, nothing is returned.
    """
    if run.val_loader is None:
        return {}
    means: TermMeans | None = None
    with _evaluation(run), torch.no_grad():
        for micro_batches in run.val_loader.one_pass():
            for host_batch in micro_batches:
                batch = to_device(host_batch, run.fabric.device)
                means = means or TermMeans(batch["num_targets"], run.fabric.device)
                means.add(run.objective(batch), batch)
    if means is None:
        return {}
    apart: frozenset[str] = getattr(run.model, "terms_apart", frozenset())
    return {f"val/{name}": value for name, value in means.reduce(run.fabric, apart=apart).items()}


def _meter(run: Run) -> Meter:
    fabric = run.fabric
    return Meter.of(fabric.device, fabric.world_size, total=lambda numbers: total_counts(fabric, numbers))


def _feed(run: Run) -> Feed:
    return Feed(
        iter(run.train_loader),
        measure=lambda batches: work_of(run.model, batches),
        copies=copies_to(run.fabric.device),
        most=run.total_steps - run.progress.step,
    )


def _timed_step(run: Run, feed: Feed, meter: Meter) -> dict[str, float]:
    began, cells, compiling = time.perf_counter(), run.progress.cells, compile_seconds()
    waited = run.train_loader.wait_seconds - feed.hidden_seconds
    with saved_if_data_fail(run):
        group = feed.take()
    if group is None:
        msg = f"the training loader ended after step {run.progress.step:,} of {run.total_steps:,}; it must be endless"
        raise RuntimeError(msg)
    counts = count_step(run.fabric, group.micro_batches, asks_to_stop=run.stop_requested)
    if counts.num_asking:  # after the step before
        stop(run)
    metrics = train_step(
        run, group.micro_batches, counts=counts, on_device=feed.on_device(group), meanwhile=feed.prepare
    )
    waited = run.train_loader.wait_seconds - feed.hidden_seconds - waited
    seconds, compiling = time.perf_counter() - began, compile_seconds() - compiling
    meter.forget(compiling)
    meter.add(cells=run.progress.cells - cells, seconds=seconds - compiling, waited=max(0.0, waited), work=group.work)
    return metrics


def _after_step(run: Run, metrics: dict[str, float], meter: Meter, reporter: Reporter) -> None:
    step = run.progress.step
    is_epoch_end = step % run.steps_per_epoch == 0
    is_logged = is_epoch_end or step % run.config.log_every_n_steps == 0
    if is_logged:
        metrics = metrics | meter.read() | device_figures(run.fabric.device)
        _record(run, metrics)
    if is_epoch_end:
        _validate_epoch(run)
    if is_logged and run.fabric.is_global_zero:
        epoch = math.ceil(step / run.steps_per_epoch)
        left = meter.seconds_left(run.total_steps - step)
        shown = metrics | run.validation
        reporter.update(Status(epoch, run.config.max_epochs, step, run.total_steps, shown, left))
    is_saved = is_epoch_end or (run.save_every_n_steps is not None and step % run.save_every_n_steps == 0)
    is_saved |= run.checkpoints is not None and run.checkpoints.follows_evaluation and run.scores_step == step
    save_when_due(run, is_due=is_saved)
    if is_epoch_end:
        _end_epoch(run)
    if _is_stop_requested(run):
        stop(run)


def _validate_epoch(run: Run) -> None:
    run.progress.epoch += 1
    with told_if_data_fail(run), averaged(run):
        run.validation, run.validation_step = validate(run), run.progress.step
    if run.validation:
        _record(run, run.validation)
    run.progress.is_epoch_open = True


def _end_epoch(run: Run) -> None:
    """Call what may take long, such as an evaluation: the epoch is saved by now."""
    with told_if_data_fail(run), averaged(run):
        _call(run, "on_epoch_end")
    keep_outcome(run)


def _is_stop_requested(run: Run) -> bool:
    """Tell whether to stop here. A signal may reach one process only: of several, all learn of it in the next step."""
    is_last = run.progress.step >= run.total_steps or run.ends_early
    if run.fabric.world_size == 1 or not is_last:
        return run.stop_requested and run.fabric.world_size == 1
    flag = torch.tensor(int(run.stop_requested), device=run.fabric.device)
    return bool(all_reduce(run.fabric, flag).item())


def _record(run: Run, values: dict[str, float]) -> None:
    if run.metrics is not None and run.fabric.is_global_zero:
        epoch = round(run.progress.step / run.steps_per_epoch, 6)  # whole at its end: it is in epoch 2/3 up to 2.0
        clock = {"epoch": epoch, "cells": run.progress.cells}
        run.metrics.log(run.progress.step, clock | values)


def _call(run: Run, event: str) -> None:
    for callback in run.callbacks:
        method = getattr(callback, event, None)
        if method is not None:
            with _rng.preserved(run.fabric.device):
                method(run)


@contextmanager
def _evaluation(run: Run) -> Iterator[None]:
    """Switch to evaluation, and back to the mode that each module had (a frozen part may be in evaluation always)."""
    training = [module for module in run.objective.modules() if module.training]
    run.objective.eval()
    try:
        with _rng.preserved(run.fabric.device):
            yield
    finally:
        settle(run.model)
        for module in training:
            module.training = True
