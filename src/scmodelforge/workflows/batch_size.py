"""``training.batch_size: auto``: the most cells that fit into a forward pass, the global batch as it was."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import RunConfig
from scmodelforge.training import _rng
from scmodelforge.training._memory_use import free_memory, total_memory
from scmodelforge.training._targets import all_gather
from scmodelforge.training.memory import Trial, measure_memory
from scmodelforge.training.out_of_memory import gib, is_out_of_memory
from scmodelforge.workflows.longest_cells import run_trial
from scmodelforge.workflows.objective import chosen_objective
from scmodelforge.workflows.prepare import PreparedData

__all__ = ["largest_that_fits", "resolve_batch_size"]

_log = logging.getLogger(__name__)

#: Share of the free memory that a step may take: on a GPU, which training has for itself, and on the host.
_SHARE_OF_DEVICE, _SHARE_OF_HOST = 0.9, 0.5


def resolve_batch_size(config: RunConfig, data: PreparedData, fabric: Any) -> None:
    """Replace ``batch_size: auto`` by the largest number that fits; all processes must call this.

    It divides the cells that each device has in a step, so that gradient accumulation keeps the global batch. On a
    GPU steps on the longest possible cells are tried, ever more of them; on the CPU, where the system would swap
    rather than refuse, what a step needs is measured on a few cells and half of the free memory is used. Neither
    weights, nor random generators, nor the place in the data change.

    Parameters
    ----------
    config
        Settings; ``training`` is replaced. Nothing is done if the batch size is a number.
    data
        What the run is trained on.
    fabric
        A launched Fabric.

    Raises
    ------
    ConfigError
        If not even one cell fits.
    """
    training = config.training
    if training.batch_size != "auto":
        return
    assert training.global_batch_size is not None
    if training.strategy not in ("auto", "ddp"):
        msg = f"training.batch_size 'auto' does not work with strategy '{training.strategy}' yet; give a number."
        raise ConfigError(msg)
    share = training.global_batch_size // fabric.world_size
    candidates = [number for number in range(1, share + 1) if share % number == 0]
    fabric.barrier()  # so that all look at the free memory before any takes some
    limit = _limit(fabric.device, training.devices)
    fabric.barrier()
    with _rng.preserved(fabric.device):
        trial = run_trial(config, data, fabric, chosen_objective(config, data)[1])
        keeps = config.training.ema is not None
        found, needs = _search(trial, candidates, limit, num_processes=fabric.world_size, keeps_averages=keeps)
        length = len(trial.make_batch(1).get("gene_ids", [[]])[0])
        del trial
    _let_go(fabric.device)
    found = _least(fabric, found)
    if not found:
        msg = (
            f"training.batch_size 'auto': a step on one cell of {length:,} tokens does not fit into the {gib(limit)} "
            f"that may be used on {fabric.device}; lower tokenizer.max_genes or the size of the model."
        )
        raise ConfigError(msg)
    accumulation = share // found
    config.training = training.model_copy(
        update={"batch_size": found, "gradient_accumulation": accumulation, "global_batch_size": None}
    )
    _log.info(
        f"batch_size: {found:,} cells in a forward pass, {accumulation:,} passes for a step of "
        f"{training.global_batch_size:,} cells ({needs} with {length:,} tokens a cell; {gib(limit)} may be used)"
    )


def largest_that_fits(candidates: Sequence[int], fits: Callable[[int], bool]) -> int:
    """Return the largest of some ascending numbers that fits, or 0: at least doubled each time, then bisected.

    Parameters
    ----------
    candidates
        Numbers of cells.
    fits
        Tries one. Whatever is larger than one that does not fit is not tried.
    """
    low, high = -1, len(candidates)  # places of one that fits and of one that does not
    while low + 1 < high:
        wanted = 2 * candidates[low] if low >= 0 else 1
        place = next((p for p in range(low + 1, high) if candidates[p] >= wanted), high - 1)
        if high < len(candidates):
            place = (low + high) // 2
        if fits(candidates[place]):
            low = place
        else:
            high = place
    return candidates[low] if low >= 0 else 0


def _search(
    trial: Trial, candidates: Sequence[int], limit: int, *, num_processes: int, keeps_averages: bool
) -> tuple[int, str]:
    """Return the number found, and words on the memory it needs."""
    if trial.device.type == "cuda":
        spare = sum(p.numel() * p.element_size() for p in trial.objective.parameters()) if num_processes > 1 else 0
        if keeps_averages:  # and the weights they stand for while they are in use
            spare += 2 * sum(4 * p.numel() for p in trial.objective.parameters())
        found = largest_that_fits(candidates, lambda cells: _fits_on_device(trial, cells, limit - spare))
        return found, "tried"
    memory = measure_memory(trial, num_processes=num_processes, keeps_averages=keeps_averages)
    found = largest_that_fits(candidates, lambda cells: memory.of(cells) <= limit)
    return found, f"about {gib(memory.of(found))}"


def _fits_on_device(trial: Trial, num_cells: int, limit: int) -> bool:
    """Take two steps on a device: the first makes the optimiser's state, the second is as all others."""
    _let_go(trial.device)
    torch.cuda.reset_peak_memory_stats(trial.device)
    try:
        trial.step(num_cells)
        trial.step(num_cells)
        torch.cuda.synchronize(trial.device)
    except (RuntimeError, MemoryError) as problem:
        if not is_out_of_memory(problem):
            raise
        return False
    finally:
        trial.optimizer.zero_grad(set_to_none=True)
    return torch.cuda.max_memory_reserved(trial.device) <= limit


def _limit(device: torch.device, num_neighbours: int) -> int:
    """Return the bytes that a process may use; those on the CPU of one machine share its memory."""
    if device.type == "cuda":
        return int(_SHARE_OF_DEVICE * free_memory(device))
    if device.type != "cpu":
        return int(_SHARE_OF_HOST * total_memory(device))
    return int(_SHARE_OF_HOST * free_memory(device)) // num_neighbours


def _let_go(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _least(fabric: Any, number: int) -> int:
    """Return the least of all processes' numbers."""
    if fabric.world_size == 1:
        return number
    return int(all_gather(fabric, torch.tensor(number, device=fabric.device)).min())
