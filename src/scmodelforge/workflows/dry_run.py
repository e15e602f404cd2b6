"""``scmodelforge train --dry-run``: the first steps of a run, to learn what it will need. Nothing is written."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge._optional import require
from scmodelforge.config.given import GivenSettings, path_of
from scmodelforge.config.guard_sections import known_batch_size
from scmodelforge.config.load import load_config
from scmodelforge.config.schema import DataConfig, RunConfig
from scmodelforge.data.sources.mixture import MixtureDataConfig
from scmodelforge.training import _rng
from scmodelforge.training._launch import part_ways
from scmodelforge.training._memory_use import free_memory
from scmodelforge.training._targets import all_reduce
from scmodelforge.training.compiling import compile_failures, compile_seconds
from scmodelforge.training.loop import Run, train_step
from scmodelforge.training.memory import StepMemory
from scmodelforge.training.out_of_memory import gib, has_checkpointing_off, memory_explained
from scmodelforge.training.setup import make_fabric
from scmodelforge.workflows.base_model import load_task, require_columns, with_base
from scmodelforge.workflows.batch_size import resolve_batch_size
from scmodelforge.workflows.config_hash import config_hash
from scmodelforge.workflows.longest_cells import measure_run
from scmodelforge.workflows.prepare import global_batch_size, prepare_data
from scmodelforge.workflows.pretrain import make_absolute, try_model
from scmodelforge.workflows.run_needs import NUM_MEASURED, NUM_WARM_UP, DryRun, Speed
from scmodelforge.workflows.runfolder import RunFolder
from scmodelforge.workflows.training_run import TrainingRun

__all__ = ["dry_run"]

#: Checkpoints beside the best: the last two, and the one that is being written.
_NUM_RECENT = 3


def dry_run(settings: Path | GivenSettings, overrides: Sequence[str] = (), *, force: bool = False) -> DryRun | None:
    """Take the first steps of a run and say what the whole of it will need; nothing is written.

    Parameters
    ----------
    settings, overrides, force
        As of :func:`~scmodelforge.workflows.pretrain.start_training`.

    Returns
    -------
    The figures, or ``None`` on devices other than the first.

    Raises
    ------
    ConfigError, DataError
        For everything that training would refuse, except a run folder that is not empty: that is said in the figures.
    RunError
        If memory runs out, or step after step is not finite.
    """
    config, config_path = load_config(settings, overrides), path_of(settings)
    folder = RunFolder.of(config, name=config_path.stem)
    make_absolute(config, folder, base=config_path.parent)
    if config.output.tensorboard:
        require("tensorboard", extra="log", why="Writing TensorBoard files")
    if config.training.strategy == "fsdp":
        msg = (
            "training.strategy is 'fsdp', and a dry run measures whole models on one device: try it with --set "
            "training.strategy=auto and fewer model.num_layers, or start the run."
        )
        raise ConfigError(msg)
    require_columns(config)
    task = load_task(config)
    if task is not None:
        config = with_base(config, task, origin=str(config_path))
    try_model(config)
    fabric = make_fabric(config.training)
    fabric.launch()
    free = free_memory(fabric.device)
    with _without_caches(config.data):
        data = prepare_data(config, task)
    try:
        resolve_batch_size(config, data, fabric)
        training = TrainingRun(config, folder, data, fabric, {"config_hash": config_hash(config)}, task=task)
        memory = measure_run(config, data, fabric, training.objective)
        run, _ = training.assemble()
        run.checkpoints = run.metrics = None
        with run.train_loader, memory_explained(run), compile_failures():  # type: ignore[attr-defined]
            speed = _measure(run)
        part_ways(fabric)
    finally:
        data.source.close()
    return _summary(config, run, training, speed, memory, free, force=force) if fabric.is_global_zero else None


def _measure(run: Run) -> Speed:
    """Take some steps, of which the last are measured."""
    _rng.seed_stream(run.config.seed, rank=run.fabric.global_rank)
    run.objective.train()
    batches, lengths = iter(run.train_loader), list[np.ndarray]()
    began = waited = cells = compiling = 0.0
    for number in range(NUM_WARM_UP + NUM_MEASURED):
        if number == NUM_WARM_UP:
            began, waited, cells = time.perf_counter(), run.train_loader.wait_seconds, run.progress.cells
            compiling = compile_seconds()
            lengths.clear()
        micro_batches = next(batches)
        lengths += [batch["lengths"] for batch in micro_batches if "lengths" in batch]
        train_step(run, micro_batches)
    seconds = time.perf_counter() - began - (compile_seconds() - compiling)
    cells = run.progress.cells - cells
    own = np.concatenate([np.zeros(0, dtype=np.int64), *lengths])
    tokens = int(all_reduce(run.fabric, torch.tensor(own.sum(), device=run.fabric.device)))
    return Speed(
        seconds_per_step=seconds / NUM_MEASURED,
        cells_per_second=cells / seconds,
        tokens_per_second=tokens / seconds,
        data_wait_share=min(1.0, (run.train_loader.wait_seconds - waited) / seconds),
        tokens_per_cell=tokens / cells,
        longest_cell=int(own.max(initial=0)),
    )


def _summary(
    config: RunConfig, run: Run, training: TrainingRun, speed: Speed, memory: StepMemory, free: int, *, force: bool
) -> DryRun:
    split, cells = training.data.split, known_batch_size(config.training)
    return DryRun(
        config=config,
        device=str(run.fabric.device),
        parameters=sum(parameter.numel() for parameter in run.model.parameters()),
        trainable=sum(parameter.numel() for parameter in run.model.parameters() if parameter.requires_grad),
        parts=_parts(run.model),
        train_cells=len(split.train),
        validation_cells=len(split.validation),
        cells_per_step=global_batch_size(config.training),
        steps_per_epoch=run.steps_per_epoch,
        total_steps=run.total_steps,
        speed=speed,
        memory=memory.to_dict(cells),
        free=free,
        knob=_knob(memory, config, run.model),
        checkpoint_bytes=(1 if config.training.ema is None else 2) * memory.weights + memory.optimizer,
        num_checkpoints=_NUM_RECENT + config.output.save_top_k,
        export_bytes=memory.weights,
        folder=str(training.folder.root),
        refusal=_refusal(training.folder, force=force),
    )


def _refusal(folder: RunFolder, *, force: bool) -> str | None:
    """Return why a run would not be written to its folder, if it would not."""
    try:
        folder.check_unused(force=force)
    except ConfigError as problem:
        return str(problem)
    return None


def _parts(model: nn.Module) -> dict[str, int]:
    """Return the parameters of each part of a model, tied ones in the first that has them, and its own."""
    seen: set[int] = set()

    def new(parameters: Iterator[nn.Parameter]) -> int:
        fresh = {id(p): p.numel() for p in parameters if id(p) not in seen}
        seen.update(fresh)
        return sum(fresh.values())

    parts = {name: new(child.parameters()) for name, child in model.named_children()}
    parts["(beside these)"] = new(model.parameters())
    return {name: number for name, number in parts.items() if number}


def _knob(memory: StepMemory, config: RunConfig, model: nn.Module) -> str:
    """Return the change that lowers the memory of a step most."""
    training = config.training
    cells = known_batch_size(training)
    activations = memory.per_cell * cells
    if activations < memory.fixed:
        return f"a smaller model (model.hidden_dim, model.num_layers): {gib(memory.fixed)} do not depend on the cells"
    if has_checkpointing_off(model):
        return f"model.activation_checkpointing: true, which keeps only the ends of blocks of {gib(activations)}"
    if cells > 1:
        half = -(-cells // 2)
        return (
            f"training.batch_size: {half} with training.gradient_accumulation: {2 * training.gradient_accumulation}, "
            f"which saves {gib(memory.per_cell * (cells - half))}"
        )
    return f"tokenizer.max_genes: {config.tokenizer.max_genes // 2}, which halves {gib(activations)} at least"


@contextmanager
def _without_caches(config: DataConfig) -> Iterator[None]:
    """Turn off what keeps data in folders, and put the settings back."""
    parts: list[Any] = config.sources if isinstance(config, MixtureDataConfig) else [config]
    remotes = [part.remote for part in parts if getattr(part, "remote", None) is not None]
    places = [(config.preprocessing, config.preprocessing.cache), *((each, each.cache) for each in remotes)]
    for section, _ in places:
        section.cache = None
    try:
        yield
    finally:
        for section, folder in places:
            section.cache = folder
