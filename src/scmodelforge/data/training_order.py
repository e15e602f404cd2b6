"""From ``data.sampling`` to the order of the training cells."""

from __future__ import annotations

import numpy as np

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import DataConfig, SamplingConfig
from scmodelforge.data.minibatches import Minibatches
from scmodelforge.data.protocols import CellSource
from scmodelforge.data.sampled_order import SampledOrder
from scmodelforge.data.sampling import GlobalOrder
from scmodelforge.data.shares import CellGroups, Draws, cell_groups, group_draws

__all__ = ["describe_sampling", "training_order"]


def training_order(
    source: CellSource, positions: np.ndarray, config: DataConfig, *, seed: int, global_batch_size: int
) -> GlobalOrder:
    """Return the order of the training cells that ``data.sampling`` asks for.

    Parameters
    ----------
    source
        The source of the cells.
    positions
        The training cells, shape (N,), int64, ascending.
    config
        The data settings.
    seed
        The run's seed.
    global_batch_size
        Cells of a global batch, over all devices and micro-batches.

    Raises
    ------
    ConfigError
        If the settings do not fit each other or the data.
    """
    draws, batches = _resolve(source, positions, config, seed, global_batch_size)
    block_size, buffer_size, num_streams = config.block_size, config.buffer_size, config.num_streams
    if draws is None and batches is None:
        return GlobalOrder(
            source.file_sizes,
            positions,
            seed=seed,
            block_size=block_size,
            buffer_size=buffer_size,
            num_streams=num_streams,
            shuffle=True,
        )
    return SampledOrder(
        source.file_sizes,
        positions,
        draws=draws,
        batches=batches,
        sampling=_in_words(config),
        seed=seed,
        block_size=block_size,
        buffer_size=buffer_size,
        num_streams=num_streams,
    )


def describe_sampling(
    source: CellSource, positions: np.ndarray, config: DataConfig, *, global_batch_size: int
) -> str | None:
    """Return one line on how the training cells are sampled, ``None`` if uniformly and in mixed batches.

    Raises
    ------
    ConfigError
        As :func:`training_order`: what is wrong can be said before anything else is done.
    """
    if config.sampling.mode == "uniform" and config.sampling.minibatch == "mixed":
        return None
    order = training_order(source, positions, config, seed=0, global_batch_size=global_batch_size)
    assert isinstance(order, SampledOrder)
    shares = "" if order.draws is None else f": {order.draws.describe()}"
    return f"sampling {order.sampling}{shares}"


def _resolve(
    source: CellSource, positions: np.ndarray, config: DataConfig, seed: int, global_batch_size: int
) -> tuple[Draws | None, Minibatches | None]:
    """Return how often cells are seen and what makes a batch; groups by the same column are one object."""
    sampling = config.sampling
    draws = batches = None
    if sampling.mode != "uniform":
        if sampling.by is None:
            msg = f"data.sampling.mode '{sampling.mode}' needs groups of cells; set data.sampling.by."
            raise ConfigError(msg)
        groups = cell_groups(source, sampling.by, positions, setting="data.sampling.by")
        draws = Draws(groups, group_draws(groups, sampling), seed=seed)
    if sampling.minibatch != "mixed":
        by, setting = sampling.minibatch_by, "data.sampling.minibatch_by"
        if by is None:
            by, setting = config.batch_column, "data.batch_column"
        if by is None:
            msg = (
                f"data.sampling.minibatch '{sampling.minibatch}' needs groups of cells; set "
                "data.sampling.minibatch_by or data.batch_column."
            )
            raise ConfigError(msg)
        is_same = draws is not None and by == sampling.by
        groups = draws.groups if draws is not None and is_same else cell_groups(source, by, positions, setting=setting)
        _check_spread(sampling, groups, draws if is_same else None, by, global_batch_size)
        batches = Minibatches(groups, sampling.minibatch, global_batch_size, sampling.minibatch_groups)
    return draws, batches


def _check_spread(
    config: SamplingConfig, groups: CellGroups, draws: Draws | None, by: str, global_batch_size: int
) -> None:
    if config.minibatch != "several":
        return
    there = len(groups.names) if draws is None else int(np.count_nonzero(draws.num_draws))
    if there < config.minibatch_groups:
        msg = (
            f"data.sampling.minibatch_groups is {config.minibatch_groups}, but the training cells have {there} groups "
            f"of '{by}'; lower it."
        )
        raise ConfigError(msg)
    if global_batch_size < config.minibatch_groups:
        msg = (
            f"data.sampling.minibatch_groups is {config.minibatch_groups}, but a global batch (training.batch_size x "
            f"gradient_accumulation x all devices) has {global_batch_size} cells; lower the former or raise the latter."
        )
        raise ConfigError(msg)


def _in_words(config: DataConfig) -> str:
    """Return the sampling in words: all that the order depends on."""
    sampling = config.sampling
    words: str = sampling.mode
    if sampling.mode != "uniform":
        words += f" by {sampling.by}"
        if sampling.weights is not None:
            words += " with weights " + ", ".join(f"{name} {w!r}" for name, w in sorted(sampling.weights.items()))
        elif sampling.mode == "weighted":
            words += f" at temperature {sampling.temperature!r}"
    by = sampling.minibatch_by or config.batch_column
    if sampling.minibatch == "one":
        words += f" in batches of one {by}"
    elif sampling.minibatch == "several":
        words += f" in batches of {sampling.minibatch_groups} or more of {by}"
    return words
