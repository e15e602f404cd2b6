"""The run folder: where it is, whether it may be written to, what is in it besides checkpoints."""

from __future__ import annotations

import json
import platform
import re
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scmodelforge import __version__
from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config.load import dump_config, load_config
from scmodelforge.config.schema import RunConfig
from scmodelforge.constants import FORMAT_VERSION
from scmodelforge.data.splits import CellSplit
from scmodelforge.hub.plugin_files import check_plugin_names, copy_plugins
from scmodelforge.workflows.provenance import git_state, package_versions

__all__ = ["RunFolder", "check_writable", "facts_of_command", "refuse_used"]

# All that a run or its checkpoints leave in a folder, also when killed at any moment.
_OURS = re.compile(
    r"run\.json|config\.yaml|splits\.json|perturbations\.json|(metrics|results|sessions|exported_results)\.jsonl(\..*)?|metrics\.csv|"
    r"wandb|views|splits|checkpoints|plugins|model(\.writing)?|cells\.png|report\.html|events\.out\.tfevents\..*|last|best|"
    r"epoch_end\.json|step_\d+|\.writing_.*|\..*\.(tmp|writing)|(bad_batch|loss_spike)_step_\d+\.json"
)


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run.

    Attributes
    ----------
    root
        The run's folder.
    checkpoints
        Folder of the checkpoints.
    logs
        Folder of the TensorBoard files.
    """

    root: Path
    checkpoints: Path
    logs: Path

    @classmethod
    def of(cls, config: RunConfig, *, name: str) -> RunFolder:
        """Return the folders that the ``output`` settings name; ``name`` is used where they name none."""
        output = config.output
        root = Path(output.run_dir or output.log_dir or Path("runs") / name)
        return cls(
            root=root,
            checkpoints=Path(output.checkpoint_dir) if output.checkpoint_dir else root / "checkpoints",
            logs=Path(output.log_dir) if output.log_dir else root,
        )

    @property
    def model(self) -> Path:
        """Folder of the exported model."""
        return self.root / "model"

    @property
    def metrics(self) -> Path:
        """File of the metrics of training."""
        return self.root / "metrics.jsonl"

    @property
    def results(self) -> Path:
        """File of the records of evaluation."""
        return self.root / "results.jsonl"

    @property
    def exported_results(self) -> Path:
        """File of the records of the exported model."""
        return self.root / "exported_results.jsonl"

    @property
    def views(self) -> Path:
        """Folder of the cells as the model saw them."""
        return self.root / "views"

    @property
    def report(self) -> Path:
        """The report."""
        return self.root / "report.html"

    @property
    def picture(self) -> Path:
        """Picture of the cells."""
        return self.root / "cells.png"

    def check_free(self, *, force: bool) -> None:
        """Make sure that a new run can be written here, before any work is done.

        Raises
        ------
        ConfigError
            If a folder holds something already and ``force`` is not set, or holds something that is not a run.
        DataError
            If a folder cannot be written.
        """
        self.check_unused(force=force)
        for folder in (self.root, self.checkpoints, self.logs):
            check_writable(folder)

    def check_unused(self, *, force: bool) -> None:
        """Make sure that there is nothing here that a new run may not replace, without writing anything.

        Raises
        ------
        ConfigError
            As of :meth:`check_free`.
        """
        if self.root == self.checkpoints or self.checkpoints in self.root.parents:
            msg = (
                f"output.checkpoint_dir ({self.checkpoints}) holds the run's folder ({self.root}); "
                "choose a folder beside or inside it."
            )
            raise ConfigError(msg)
        is_run = (self.root / "run.json").is_file()
        go_on = f"scmodelforge train --resume {self.root}" if is_run else None
        for folder in (self.root, self.checkpoints):
            refuse_used(folder, _OURS, go_on=go_on, force=force)

    def create(self, config: RunConfig, split: CellSplit, facts: dict[str, Any]) -> None:
        """Make the folder of a new run, deleting the run it replaces, and write its settings, split and facts."""
        check_plugin_names(config.plugins)  # before anything is deleted
        for events in self.logs.glob("events.out.tfevents.*"):  # of the run that is replaced
            events.unlink()
        for folder in (self.root, self.checkpoints):
            if folder.is_dir():
                shutil.rmtree(folder)
        for folder in (self.root, self.checkpoints, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        config = config.model_copy(deep=True)
        config.plugins = copy_plugins(config.plugins, self.root)
        (self.root / "config.yaml").write_text(dump_config(config))
        (self.root / "splits.json").write_text(json.dumps(split.to_dict()) + "\n")
        about = {**facts_of_command(), **facts}
        (self.root / "run.json").write_text(json.dumps(about, indent=1) + "\n")

    @staticmethod
    def read(root: Path) -> tuple[RunFolder, RunConfig, CellSplit, dict[str, Any]]:
        """Return the paths, settings, split and facts of an existing run.

        Raises
        ------
        DataError
            If the folder is not a run.
        """
        missing = [name for name in ("config.yaml", "splits.json", "run.json") if not (root / name).is_file()]
        if missing:
            what = f"{', '.join(missing)} missing" if root.is_dir() else "no such folder"
            msg = f"{root} is not a run folder ({what}); give the folder that scmodelforge train wrote."
            raise DataError(msg)
        config = load_config(root / "config.yaml")
        found = RunFolder.of(config, name=root.name)
        # A run folder may have been moved: what lay inside it is looked for inside it.
        old_root, checkpoints, logs = found.root, found.checkpoints, found.logs
        folder = RunFolder(root, _moved(checkpoints, old_root, root), _moved(logs, old_root, root))
        try:
            facts = json.loads((root / "run.json").read_text())
            split = CellSplit.from_dict(json.loads((root / "splits.json").read_text()))
        except (json.JSONDecodeError, KeyError) as problem:
            msg = f"{root}: run.json or splits.json is damaged ({problem}); start a new run."
            raise DataError(msg) from problem
        return folder, config, split, facts


def _moved(path: Path, old_root: Path, new_root: Path) -> Path:
    return new_root / path.relative_to(old_root) if path.is_relative_to(old_root) else path


def refuse_used(folder: Path, ours: re.Pattern[str], *, go_on: str | None, force: bool) -> None:
    """Refuse a folder for a new run that holds something already.

    Parameters
    ----------
    folder
        The folder, which need not be there.
    ours
        Names of what a run leaves.
    go_on
        The command that goes on with the run that is there; ``None`` if it holds none.
    force
        Allow it to hold what a run leaves.

    Raises
    ------
    ConfigError
        If it does.
    """
    held = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    foreign = [name for name in held if not ours.fullmatch(name)]
    if held and not force:
        advice = ["choose another folder with --set output.run_dir=..."]
        if go_on is not None:
            advice.insert(0, f"go on with that run: {go_on}")
        if not foreign:
            advice.append("replace it with --force")
        words = "; or ".join(advice)
        msg = f"{folder} is not empty. {words[0].upper()}{words[1:]}."
        raise ConfigError(msg)
    if foreign:
        msg = (
            f"{folder} is not empty and is not a run (it holds '{foreign[0]}'); --force does not delete it. "
            "Choose another folder."
        )
        raise ConfigError(msg)


def facts_of_command() -> dict[str, Any]:
    """Return what a run's record says of the command, the machine and the software."""
    return {
        "format_version": FORMAT_VERSION,
        "scmodelforge_version": __version__,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": " ".join(Path(word).name if position == 0 else word for position, word in enumerate(sys.argv)),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git": git_state(),
        "packages": package_versions(),
    }


def check_writable(folder: Path) -> None:
    """Make sure that a folder can be written to, or made.

    Raises
    ------
    DataError
        If it cannot.
    """
    parent = folder
    while not parent.exists():
        parent = parent.parent
    try:
        with tempfile.TemporaryDirectory(dir=parent, prefix=".scmodelforge_"):
            pass
    except OSError as problem:
        reason = problem.strerror or type(problem).__name__
        msg = f"cannot write to {folder} ({parent}: {reason}); choose another folder with --set output.run_dir=..."
        raise DataError(msg) from problem
