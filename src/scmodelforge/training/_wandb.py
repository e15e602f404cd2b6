"""Metrics in Weights & Biases."""

from __future__ import annotations

import logging
import uuid
from pathlib import Path
from typing import Any

import torch

from scmodelforge._errors import ConfigError
from scmodelforge._optional import require
from scmodelforge.config.schema import WandbConfig
from scmodelforge.training import _rng
from scmodelforge.training._files import write_text

__all__ = ["WeightsAndBiases", "check_wandb"]

_log = logging.getLogger(__name__)


def check_wandb(config: WandbConfig | None) -> None:
    """Make sure that a run can log there, before any work is done.

    Raises
    ------
    ImportError
        If the package is not installed.
    ConfigError
        If the run is to be sent at once and nobody is logged in.
    """
    if config is None or config.mode == "disabled":
        return
    wandb: Any = require("wandb", extra="log", why="output.wandb")
    if config.mode == "online" and not wandb.login(prompt=False, verify=False):
        msg = (
            "output.wandb.mode is 'online', but there is no key of Weights & Biases here; run wandb login, or use "
            "--set output.wandb.mode=offline and send the run later with wandb sync."
        )
        raise ConfigError(msg)


class WeightsAndBiases:
    """Logs a run, which begins with the first values; a resumed run goes on as the same one.

    Its identity is kept in ``wandb/run_id`` in the run's folder, beside what the package itself writes there. The
    clock of the run there is the step of the optimiser, which can only rise: what was sent of the steps after a
    checkpoint before a run broke off stays.

    Parameters
    ----------
    config
        Settings.
    folder
        The run's folder.
    settings
        The settings of the run, shown as its ``config``.
    """

    name = "Weights & Biases"

    def __init__(self, config: WandbConfig, folder: Path, settings: dict[str, Any]) -> None:
        self._config, self._folder, self._settings = config, Path(folder), settings
        self._run: Any = None

    def log(self, step: int, values: dict[str, float]) -> None:
        """Send the values whose names have a slash, and the step."""
        if self._run is None:
            with _rng.preserved(torch.device("cpu")):  # a resumed run begins once more, and must draw the same
                self._run = self._begin()
        # A record for each step: further values of a step are added to it.
        self._run.log({"step": step, **{name: value for name, value in values.items() if "/" in name}}, step=step)

    def truncate(self, step: int) -> None:
        """Do nothing: what was sent cannot be taken back."""

    def close(self) -> None:
        """Finish the run. A later value goes on with it."""
        if self._run is None:
            return
        import wandb

        run, self._run = self._run, None
        run.finish()
        wandb.teardown()  # finish may return before the package's own process has written everything

    def _begin(self) -> Any:
        import wandb

        config = self._config
        run = wandb.init(
            project=config.project,
            name=config.name or self._folder.resolve().name,
            entity=config.entity,
            mode=config.mode,
            tags=config.tags,
            config=self._settings,
            dir=str(self._folder),
            id=self._run_id(),
            resume="allow",
            # Our lines and bars are left alone, and code of the working folder stays where it is.
            settings=wandb.Settings(console="off", quiet=True, silent=True, save_code=False),
        )
        run.define_metric("*", step_metric="step")
        _log.info(f"Weights & Biases: {run.url if config.mode == 'online' else Path(run.dir).parent}")
        return run

    def _run_id(self) -> str:
        path = self._folder / "wandb" / "run_id"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, f"{uuid.uuid4().hex}\n")
        return path.read_text(encoding="utf-8").strip()
