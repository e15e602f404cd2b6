"""What a run will need, as a dry run finds it: figures, and the same in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from scmodelforge.config.load import dump_config
from scmodelforge.config.schema import RunConfig
from scmodelforge.training.out_of_memory import gib

__all__ = ["NUM_MEASURED", "NUM_WARM_UP", "DryRun", "Speed"]

#: Steps that are measured, and steps before them.
NUM_MEASURED, NUM_WARM_UP = 20, 3


@dataclass(frozen=True)
class Speed:
    """What the measured steps took.

    Attributes
    ----------
    seconds_per_step, cells_per_second, tokens_per_second
        Over all devices; real tokens only.
    data_wait_share
        Share of the time in which the step waited for data.
    tokens_per_cell
        Mean of the measured cells.
    longest_cell
        Tokens of the longest of them.
    """

    seconds_per_step: float
    cells_per_second: float
    tokens_per_second: float
    data_wait_share: float
    tokens_per_cell: float
    longest_cell: int


@dataclass(frozen=True)
class DryRun:
    """What a run will need.

    Attributes
    ----------
    config
        The resolved settings.
    device
        Where it was measured.
    parameters, trainable, parts
        Parameters, how many of them learn, and how many are in each part of the model.
    train_cells, validation_cells, cells_per_step, steps_per_epoch, total_steps
        Sizes of the run.
    speed
        Of the first steps.
    memory, free
        Terms of the memory of a step at the longest possible cells, in bytes, and what is free on the device.
    knob
        The setting that lowers the memory most.
    checkpoint_bytes, num_checkpoints, export_bytes
        A checkpoint's size, how many are on the disk at most, and the size of the exported model.
    folder, refusal
        Where the run would be written, and why it would refuse to, if it would.
    """

    config: RunConfig
    device: str
    parameters: int
    trainable: int
    parts: dict[str, int]
    train_cells: int
    validation_cells: int
    cells_per_step: int
    steps_per_epoch: int
    total_steps: int
    speed: Speed
    memory: dict[str, int]
    free: int
    knob: str
    checkpoint_bytes: int
    num_checkpoints: int
    export_bytes: int
    folder: str
    refusal: str | None

    @property
    def cells_per_epoch(self) -> int:
        """Cells of an epoch: those of a pass, or of ``training.steps_per_epoch`` steps."""
        steps = self.config.training.steps_per_epoch
        return self.train_cells if steps is None else steps * self.cells_per_step

    @property
    def tokens_per_epoch(self) -> int:
        """Real tokens of an epoch, from the mean of the measured cells."""
        return round(self.cells_per_epoch * self.speed.tokens_per_cell)

    @property
    def hours(self) -> float:
        """Hours of all steps, without validation, evaluation and checkpoints."""
        return self.total_steps * self.speed.seconds_per_step / 3600

    @property
    def disk_bytes(self) -> int:
        """Bytes of all checkpoints at a time, and of the model while it is exported."""
        return self.num_checkpoints * self.checkpoint_bytes + 2 * self.export_bytes

    def to_dict(self) -> dict[str, Any]:
        """Return all figures and the settings as JSON values."""
        figures = {name: value for name, value in vars(self).items() if name not in ("config", "speed")}
        derived = ("cells_per_epoch", "tokens_per_epoch", "hours", "disk_bytes")
        return {
            **figures,
            **{name: getattr(self, name) for name in derived},
            "speed": asdict(self.speed),
            "config": self.config.to_dict(),
        }

    def lines(self) -> list[str]:
        """Return all figures in words, and the settings as YAML."""
        speed, memory = self.speed, self.memory
        frozen = self.parameters - self.trainable
        terms = [name for name in memory if name not in ("total", "tokens_per_cell")]
        return [
            f"parameters  {self.parameters:,}, of which {self.trainable:,} are trained"
            f"{f' and {frozen:,} frozen' if frozen else ''}",
            *(f"  {name:<20} {number:>14,}" for name, number in self.parts.items()),
            f"cells       {self.train_cells:,} to train on, {self.validation_cells:,} held out",
            f"tokens      {self.tokens_per_epoch:,} an epoch ({speed.tokens_per_cell:,.1f} a cell, the longest "
            f"{speed.longest_cell:,}, over {NUM_MEASURED} steps)",
            f"steps       {self.total_steps:,} ({self.config.training.max_epochs:,} x {self.steps_per_epoch:,}) of "
            f"{self.cells_per_step:,} cells",
            f"memory      {gib(memory['total'])} on {self.device} for cells of {memory['tokens_per_cell']:,} tokens, "
            f"{gib(self.free)} free",
            *(f"  {name:<20} {gib(memory[name]):>14}" for name in terms),
            f"  helps most: {self.knob}",
            f"speed       {speed.cells_per_second:,.0f} cells/s, {speed.tokens_per_second:,.0f} tokens/s, "
            f"{speed.data_wait_share:.0%} of the time waiting for data",
            f"time        {self.hours:,.2f} h for all steps ({speed.seconds_per_step:.3f} s a step, mean of "
            f"{NUM_MEASURED} after {NUM_WARM_UP}), validation, evaluation and checkpoints not counted",
            f"disk        {gib(self.disk_bytes)}: {self.num_checkpoints} checkpoints of {gib(self.checkpoint_bytes)} "
            f"at most, and the model",
            f"folder      {self.folder}",
            *([] if self.refusal is None else [f"  the run would be refused: {self.refusal}"]),
            "settings",
            *(f"  {line}" for line in dump_config(self.config).splitlines()),
        ]
