"""A few settings tried on the same folds of the cells: each try is a run of its own, and a table tells them apart."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import math
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scmodelforge._errors import ConfigError, Interrupted
from scmodelforge.config.aliases import drop_other_spellings
from scmodelforge.config.faults import Faults
from scmodelforge.config.files import read_overrides, set_values
from scmodelforge.config.given import GivenSettings
from scmodelforge.config.load import load_config
from scmodelforge.config.schema import RunConfig
from scmodelforge.eval.harness import MODEL
from scmodelforge.finetuning.held_out import TaskFolds
from scmodelforge.training._files import write_text
from scmodelforge.workflows.pretrain import check_training, make_absolute, resume_training, start_training
from scmodelforge.workflows.runfolder import RunFolder
from scmodelforge.workflows.sweep_folds import SweepFolds, chosen_on, open_folds
from scmodelforge.workflows.sweep_table import SweepResult, Tried
from scmodelforge.workflows.training_run import TrainResult

__all__ = ["sweep"]

_log = logging.getLogger(__name__)


def sweep(
    settings: GivenSettings,
    sweeps: Sequence[str],
    *,
    folds: int,
    out: Path,
    overrides: Sequence[str] = (),
    force: bool = False,
) -> SweepResult:
    """Train with each of some settings on each fold; what is there already is not trained again.

    Parameters
    ----------
    settings
        Settings of a run.
    sweeps
        What is tried, ``section.setting=value,value,...``; of several each with each.
    folds
        Folds of the cells: whole groups of ``data.split.by``, by default donors, or single cells where there are none;
        and of what the task holds out beside them.
    out
        Folder of the sweep: each run has a folder in it.
    overrides
        Changes of settings that hold for all runs, ``a.b=c``.
    force
        Replace another sweep that is there.

    Raises
    ------
    ConfigError, DataError
        For everything a user can get wrong.
    Interrupted
        When it was asked to stop; the same command goes on.
    """
    base, tries = _plan(settings, sweeps, overrides)
    config = load_config(base)
    if config.training.devices * config.training.num_nodes > 1:
        msg = "a sweep trains one run after another on one device; set training.devices to 1, or start single runs."
        raise ConfigError(msg)
    for values in tries:  # all are checked before the first is trained
        load_config(_with(base, values))
    folds_of = open_folds(_placed(config, base.path), folds)
    try:
        _begin(folds_of, base, tries, out, force=force)
        parts, own = folds_of.write(out / "folds")
    finally:
        folds_of.source.close()
    found, total = [], len(tries) * folds
    for number, values in enumerate(tries):
        scores = []
        for fold, part in enumerate(parts):
            _log.info(f"sweep {number * folds + fold + 1}/{total}: {_name(values)}, fold {fold + 1} of {folds}")
            place = out / _folder_name(values) / f"fold_{fold + 1}"
            scores.append(_scores_of(_with(base, values, part=part, root=place), place, config.output.best_metric))
        found.append((_name(values), scores))
    return _result(found, config.output.best_metric, out, own)


def _begin(folds: SweepFolds, base: GivenSettings, tries: list[dict[str, Any]], out: Path, *, force: bool) -> None:
    """Make the folder of a sweep, once its first run is known to begin, or take up the one that is there."""
    plan = {"settings": base.values, "tries": tries, "folds": folds.number, **folds.identity}
    digest = hashlib.sha256(json.dumps(plan, sort_keys=True, default=str).encode()).hexdigest()
    if _is_taken_up(out, digest, force=force):
        return
    with TemporaryDirectory() as folder:
        parts, own = folds.write(Path(folder))
        folds.check(own, list(tries[0]))
        _log.info("checking the first run")
        check_training(_with(base, tries[0], part=parts[0], root=out / "fold"))
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    write_text(out / "sweep.json", json.dumps({"hash": digest, **plan}, indent=1, default=str) + "\n")


def _is_taken_up(out: Path, digest: str, *, force: bool) -> bool:
    """Return whether a folder is of this sweep; refuse it if it is of another one that began, or of none."""
    about = out / "sweep.json"
    if about.is_file():
        if json.loads(about.read_text()).get("hash") == digest:
            return True
        if not force and any(out.glob("*/fold_*/run.json")):
            msg = (
                f"{out} holds a sweep of other settings, of another base model or of other data; choose another --out, "
                "or replace it with --force."
            )
            raise ConfigError(msg)
    elif out.is_dir() and any(out.iterdir()):
        msg = f"{out} is not empty and holds no sweep; choose another folder with --out."
        raise ConfigError(msg)
    return False


def _plan(
    settings: GivenSettings, sweeps: Sequence[str], overrides: Sequence[str]
) -> tuple[GivenSettings, list[dict[str, Any]]]:
    """Return the settings that all runs share, and what each try changes in them."""
    faults = Faults(str(settings.path))
    shared = read_overrides(overrides, faults)
    raw = set_values(drop_other_spellings(dict(settings.values), shared), shared, faults)
    listed = read_overrides([_as_list(text) for text in sweeps], faults)
    faults.raise_if_any()
    for path in listed:
        if path.startswith(("data.split", "output.")):
            msg = f"--sweep {path}: folds and folders are the sweep's own; sweep another setting."
            raise ConfigError(msg)
    tries = [dict(zip(listed, values, strict=True)) for values in itertools.product(*listed.values())]
    return GivenSettings(raw, settings.path), tries


def _as_list(text: str) -> str:
    path, equals, values = text.partition("=")
    if not equals or not values.strip():
        msg = f"--sweep {text} is not of the form section.setting=value,value."
        raise ConfigError(msg)
    return f"{path}=[{values}]"


def _with(
    base: GivenSettings, values: dict[str, Any], *, part: dict[str, Any] | None = None, root: Path | None = None
) -> Any:
    """Return the settings of one run: those of a try, and of its fold."""
    faults = Faults(str(base.path))
    changes = dict(values)
    if part is not None and root is not None:
        changes |= {**part, "output.run_dir": str(root), "output.log_dir": None, "output.checkpoint_dir": None}
    raw = set_values(drop_other_spellings(dict(base.values), changes), changes, faults)
    faults.raise_if_any()
    return GivenSettings(raw, base.path)


def _placed(config: RunConfig, path: Path) -> RunConfig:
    config = config.model_copy(deep=True)
    make_absolute(config, RunFolder.of(config, name=path.stem), base=path.parent)
    return config


def _scores_of(settings: GivenSettings, root: Path, metric: str) -> dict[str, Any]:
    """Return the scores of a run, which is trained unless it was, or gone on with if it was begun."""
    kept = root.with_name(f"{root.name}.json")
    if kept.is_file():
        scores: dict[str, Any] = json.loads(kept.read_text())
        return scores
    try:
        result = _trained(settings, root)
    except Interrupted as stop:
        first = str(stop).splitlines()[0]
        msg = f"{first}\nthe sweep stopped in {root}; the same command goes on from there"
        raise Interrupted(msg) from stop
    assert result is not None  # on one device
    scores = _found(result, metric)
    if metric not in scores["scores"]:
        msg = (
            f"output.best_metric is {metric}, which {root} does not have; it has: {', '.join(scores['scores'])}. "
            "Choose one of them, and replace this sweep with --force."
        )
        raise ConfigError(msg)
    write_text(kept, json.dumps(scores) + "\n")
    return scores


def _trained(settings: GivenSettings, root: Path) -> TrainResult | None:
    if (root / "run.json").is_file() and (root / "checkpoints" / "last").is_file():
        return resume_training(root)
    return start_training(settings, force=True)


def _found(result: TrainResult, metric: str) -> dict[str, Any]:
    """Return the scores of the exported model, and which of them are better when lower."""
    step = json.loads((result.folder.model / "fingerprint.json").read_text())["step"]
    lines = [json.loads(line) for line in result.folder.metrics.read_text().splitlines()]
    losses = {name: line[name] for line in lines if line["step"] == step for name in line if name.startswith("val/")}
    own = [record for record in result.records if record.representation == MODEL and record.value is not None]
    short = [record for record in own if not record.is_detail]
    heads = [record for record in short if record.metric.endswith("_head")]
    shown = {record.key: record for record in (heads or short[:3])}
    shown |= {record.key: record for record in own if record.key == metric}
    names = ["val/loss", *([metric] if metric in losses else [])]
    scores = {name: losses[name] for name in names if name in losses}
    return {
        "scores": {**scores, **{key: record.value for key, record in shown.items()}},
        "lower": [*scores, *(key for key, record in shown.items() if not record.higher_is_better)],
    }


def _result(
    found: list[tuple[str, list[dict[str, Any]]]], metric: str, out: Path, own: TaskFolds | None
) -> SweepResult:
    names = list(dict.fromkeys(name for _, scores in found for each in scores for name in each["scores"]))
    names.sort(key=lambda name: name != metric)
    sign = 1 if any(metric in each["lower"] for _, scores in found for each in scores) else -1
    tried = [
        Tried(name, {key: [each["scores"].get(key, math.nan) for each in scores] for key in names})
        for name, scores in found
    ]
    tried.sort(key=lambda each: (math.isnan(each.mean(metric)), sign * each.mean(metric)))
    num_folds, held_out = len(found[0][1]), "cells" if own is None else own.held_out
    result = SweepResult(tried, metric, num_folds, out, held_out=held_out, chosen_on=chosen_on(own))
    headings, rows = result.table()
    write_text(out / "table.tsv", "\n".join("\t".join(row) for row in [headings, *rows]) + "\n")
    return result


def _name(values: dict[str, Any]) -> str:
    return ", ".join(f"{path}={json.dumps(value).strip(chr(34))}" for path, value in values.items()) or "as given"


def _folder_name(values: dict[str, Any]) -> str:
    return shlex.quote(_name(values)).strip("'").replace("/", "_").replace(" ", "")
