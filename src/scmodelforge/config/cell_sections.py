"""Settings of which cells are trained on, how often, and together with which."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scmodelforge.config.section import Section

__all__ = ["SamplingConfig", "SplitConfig"]


class SplitConfig(Section):
    """Which cells are held out from training."""

    by: str = "auto"
    """An obs column whose groups stay together, ``cells`` for single cells, or ``auto``: the donor column if the
    data have one, else single cells."""
    validation_fraction: float = Field(0.1, ge=0, lt=1)
    """Share of the cells held out; whole groups are taken until it is reached. 0 holds out nothing."""
    validation_groups: list[str] | None = None
    """Exactly these groups of the ``by`` column are held out, whatever their share."""
    seed: int = Field(0, ge=0)
    """Seed of the choice."""
    file: str | None = None
    """A file that ``scmodelforge data split`` wrote for these very data, or the ``splits.json`` of a run on them; the
    settings above must then be left out."""


class SamplingConfig(Section):
    """How often each training cell is seen, and which cells make a batch. A pass has as many cells as there are."""

    mode: Literal["uniform", "weighted", "balanced"] = "uniform"
    """``uniform``: each cell once a pass. ``weighted``: groups in the shares of ``temperature`` or ``weights``.
    ``balanced``: all groups in equal shares. The cells of a group are always seen equally often."""
    by: str | None = None
    """What the groups of ``weighted`` and ``balanced`` are: an obs column, ``file`` (the file a cell comes from) or
    ``source`` (the entry of ``data.sources``)."""
    temperature: float = Field(1.0, gt=0)
    """Share of a group of n cells: proportional to n ** (1 / temperature); 1 leaves them as they are."""
    weights: dict[str, float] | None = None
    """Shares by group, relative to their sum, instead of a temperature; every group must be named. 0 leaves one out."""
    minibatch: Literal["mixed", "one", "several"] = "mixed"
    """Which cells may make a global batch (``training.batch_size`` x ``gradient_accumulation`` x all devices):
    any (``mixed``), those of one group, or those of several groups in shares as equal as can be."""
    minibatch_by: str | None = None
    """What the groups of ``minibatch`` are, as in ``by``; ``None`` is ``data.batch_column``."""
    minibatch_groups: int = Field(4, gt=1)
    """Groups of a global batch with ``minibatch: several``; fewer where fewer have cells left in a pass."""
