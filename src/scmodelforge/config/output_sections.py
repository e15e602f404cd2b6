"""Settings of what a run leaves: folders, checkpoints, and where its figures go."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scmodelforge.config.section import Section

__all__ = ["OutputConfig", "WandbConfig"]


class WandbConfig(Section):
    """Weights & Biases."""

    project: str = Field("scmodelforge", min_length=1)
    """Project of the run."""
    name: str | None = None
    """Name of the run; ``None`` is the name of the run's folder."""
    entity: str | None = None
    """Account or team; ``None`` is the default of whoever is logged in."""
    mode: Literal["offline", "online", "disabled"] = "offline"
    """``offline`` writes to the run's folder and uses no network (``wandb sync`` sends it later), ``online`` sends at
    once, ``disabled`` does nothing."""
    tags: list[str] = Field(default_factory=list)
    """Tags of the run."""


class OutputConfig(Section):
    """Where results go."""

    run_dir: str | None = None
    """The run's folder; ``None`` is ``log_dir``, or ``runs/`` and the name of the settings file."""
    log_dir: str | None = None
    """Folder of the TensorBoard files; ``None`` is the run's folder."""
    checkpoint_dir: str | None = None
    """Folder of the checkpoints; ``None`` is ``checkpoints`` in the run's folder."""
    save_top_k: int = Field(1, ge=0)
    """Checkpoints kept for the best ``best_metric``, beside the last two; the best one is exported."""
    best_metric: str = Field("val/loss", min_length=1)
    """What is best: a figure of the validation, where lower is better, or a score of a benchmark in its own direction,
    such as ``eval/cell_type_annotation/heldout/macro_f1_knn15``. After each evaluation there is a checkpoint then."""
    save_every_n_steps: int | None = Field(None, gt=0)
    """Steps between checkpoints, beside the one at the end of each epoch."""
    tensorboard: bool | None = None
    """Write TensorBoard files; ``None`` does so when the package is installed."""
    wandb: WandbConfig | None = None
    """Log to Weights & Biases; ``{}`` takes the defaults, ``None`` does not log there."""
