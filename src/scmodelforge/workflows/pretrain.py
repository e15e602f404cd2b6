"""Training from a settings file, or on from the last checkpoint of a run: all is checked before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from scmodelforge._console import is_first_process
from scmodelforge._errors import ConfigError
from scmodelforge._optional import require
from scmodelforge.config.cell_labels import CELL_LABELS, needed_labels
from scmodelforge.config.given import GivenSettings, path_of
from scmodelforge.config.load import load_config
from scmodelforge.config.schema import RunConfig
from scmodelforge.data.sources.mixture import MixtureDataConfig
from scmodelforge.hub.bundle import load_parts
from scmodelforge.models.registry import get_model
from scmodelforge.training._wandb import check_wandb
from scmodelforge.training.checkpoint import Checkpoints
from scmodelforge.training.recipe import check_recipe_fits
from scmodelforge.training.setup import keep_precision, make_fabric
from scmodelforge.workflows.base_model import load_task, require_columns, with_base
from scmodelforge.workflows.batch_size import resolve_batch_size
from scmodelforge.workflows.cell_labels import learned_labels
from scmodelforge.workflows.config_hash import config_hash
from scmodelforge.workflows.evaluation_sets import require_data_sets
from scmodelforge.workflows.journal import Journal
from scmodelforge.workflows.prepare import PreparedData, check_resumable, keep_preprocessed, open_source, prepare_data
from scmodelforge.workflows.runfolder import RunFolder
from scmodelforge.workflows.trained_cells import cells_of_base, repeated_cells
from scmodelforge.workflows.training_run import TrainingRun, TrainResult

__all__ = [
    "TrainResult",
    "check_training",
    "make_absolute",
    "make_fingerprint",
    "resume_training",
    "start_training",
    "try_model",
]

#: What the fingerprint of a run's models has of its run.json; runs made by older versions lack the last.
_FACTS = (
    "config_hash",
    "data",
    "split_hash",
    "num_train",
    "num_validation",
    "num_empty",
    "num_dropped",
    "repeated_cells",
    "fine_tuned_from",
    "cells_of_base",
    "scored_cells_of_base",
)


def start_training(
    settings: Path | GivenSettings, overrides: Sequence[str] = (), *, force: bool = False
) -> TrainResult | None:
    """Train a new model.

    Parameters
    ----------
    settings
        Settings file, or settings in the place of one.
    overrides
        Changes of settings, ``a.b=c``.
    force
        Replace an existing run folder.

    Returns
    -------
    The result, or ``None`` on devices other than the first.

    Raises
    ------
    ConfigError, DataError
        For everything a user can get wrong, before the run folder is made.
    Interrupted
        When the run was asked to stop; its state is saved.
    """
    with Journal() as journal:
        return _start(settings, overrides, force=force, journal=journal)


def check_training(settings: Path | GivenSettings) -> None:
    """Prepare a run as :func:`start_training` does, and write nothing.

    Raises
    ------
    ConfigError, DataError
        For everything a user can get wrong.
    """
    config, config_path = load_config(settings), path_of(settings)
    folder = RunFolder.of(config, name=config_path.stem)
    make_absolute(config, folder, base=config_path.parent)
    _prepared(config, folder, origin=str(config_path)).data.source.close()


def _start(
    settings: Path | GivenSettings, overrides: Sequence[str], *, force: bool, journal: Journal
) -> TrainResult | None:
    config, config_path = load_config(settings, overrides), path_of(settings)
    folder = RunFolder.of(config, name=config_path.stem)
    make_absolute(config, folder, base=config_path.parent)
    is_first = is_first_process()
    if is_first:
        folder.check_free(force=force)
    training = _prepared(config, folder, origin=str(config_path))
    config, data = training.config, training.data
    if is_first:
        folder.create(config, data.split, {**training.fingerprint, "torch": torch.__version__, **training.facts()})
        if training.task is not None:
            training.task.write(folder.root)
    journal.begin(folder.root, step=0)
    training.fabric.barrier()
    return training.execute(checkpoint=None)


def _prepared(config: RunConfig, folder: RunFolder, *, origin: str) -> TrainingRun:
    """Return a run that can begin; nothing is written."""
    if config.output.tensorboard:
        require("tensorboard", extra="log", why="Writing TensorBoard files")
    check_wandb(config.output.wandb)
    require_columns(config)
    task = load_task(config)
    if task is not None:
        config = with_base(config, task, origin=origin)
    try_model(config)
    require_data_sets(config)
    fabric = make_fabric(config.training)
    fabric.launch()
    data = prepare_data(config, task)
    resolve_batch_size(config, data, fabric)
    return TrainingRun(config, folder, data, fabric, make_fingerprint(config, data), task=task)


def make_fingerprint(config: RunConfig, data: PreparedData) -> dict[str, Any]:
    """Return what identifies a run: its settings, its data and what is trained on of them."""
    return {
        "config_hash": config_hash(config),
        "data": data.source.fingerprint(),
        "split_hash": data.split.to_dict()["hash"],
        "num_train": len(data.split.train),
        "num_validation": len(data.split.validation),
        "num_empty": data.num_empty,
        "repeated_cells": None if data.repeated is None else asdict(data.repeated),
        "num_dropped": data.num_dropped,
        **({} if config.finetune is None else _facts_of_base(config.finetune.base_model_id, data)),
    }


def _facts_of_base(model_id: str | None, data: PreparedData) -> dict[str, Any]:
    seen, scored = (None if shared is None else asdict(shared) for shared in (data.base_cells, data.base_scored))
    more = {} if scored is None else {"scored_cells_of_base": scored}
    return {"fine_tuned_from": model_id, "cells_of_base": seen, **more}


def resume_training(root: Path) -> TrainResult | None:
    """Continue a run from its last intact checkpoint, exactly as if it had not stopped.

    Raises
    ------
    DataError
        If the folder is not a run, has no intact checkpoint, or its data changed.
    """
    with Journal() as journal:
        return _resume(root, journal)


def _resume(root: Path, journal: Journal) -> TrainResult | None:
    folder, config, split, facts = RunFolder.read(root)
    checkpoint = Checkpoints.find_last(folder.checkpoints)
    bundle = load_parts(checkpoint / "model", trust_plugins=True)
    if config_hash(config) != facts["config_hash"]:
        msg = f"{root / 'config.yaml'} was changed since the run began; restore it, or start a new run with it."
        raise ConfigError(msg)
    check_wandb(config.output.wandb)
    task = load_task(config)
    source = open_source(config.data, None if task is None else task.base.vocab)
    check_resumable(source, facts)
    keep_precision(config.training, facts.get("precision"))
    fabric = make_fabric(config.training)
    fabric.launch()
    preprocessor, kept = keep_preprocessed(source, config.data, bundle.preprocessor)
    labels = learned_labels(config, source, split.train)
    data = PreparedData(
        source, bundle.tokenizer, preprocessor, bundle.vocab, split, facts["num_empty"], kept=kept, labels=labels
    )
    data.trained_cells, data.repeated, data.task = bundle.trained_cells, repeated_cells(facts), task
    data.base_cells, data.base_scored = cells_of_base(facts)
    if task is not None:
        task.read(config, data, reopen=partial(open_source, vocab=task.base.vocab))
    fingerprint = {name: facts[name] for name in _FACTS if name in facts}
    training = TrainingRun(config, folder, data, fabric, fingerprint, task=task)
    journal.begin(folder.root, step=bundle.fingerprint["step"])
    return training.execute(checkpoint=checkpoint)


def make_absolute(config: RunConfig, folder: RunFolder, *, base: Path) -> None:
    """Turn relative paths of the settings into absolute ones, so that the run can be resumed from any folder.

    Parameters
    ----------
    config
        Settings, changed in place.
    folder
        The run's folders.
    base
        Folder of the settings file, which plugins are relative to; all else is relative to the working directory.
    """
    config.plugins = [str((base / name).resolve()) if name.endswith(".py") else name for name in config.plugins]
    for part in config.data.sources if isinstance(config.data, MixtureDataConfig) else [config.data]:
        if hasattr(part, "paths"):
            paths = part.paths
            part.paths = [path if "://" in path else str(Path(path).expanduser().absolute()) for path in paths]
        remote = getattr(part, "remote", None)
        if remote is not None and remote.cache is not None:
            remote.cache = str(Path(remote.cache).expanduser().absolute())
        uri = getattr(part, "uri", None)
        if uri is not None and "://" not in uri:
            setattr(part, "uri", str(Path(uri).expanduser().absolute()))  # noqa: B010 - a setting of some only
    if config.data.preprocessing.cache is not None:
        config.data.preprocessing.cache = str(Path(config.data.preprocessing.cache).expanduser().absolute())
    if config.data.split.file is not None:
        config.data.split.file = str(Path(config.data.split.file).expanduser().absolute())
    if isinstance(config.data.gene_vocab, str) and Path(config.data.gene_vocab).is_file():
        config.data.gene_vocab = str(Path(config.data.gene_vocab).absolute())
    if config.data.orthologs is not None:
        config.data.orthologs.species = [
            str(Path(species).expanduser().absolute()) if Path(species).expanduser().is_file() else species
            for species in config.data.orthologs.all_species()
        ]
    _make_tokenizer_absolute(config.tokenizer)
    if config.finetune is not None:
        for name in ("base_model", "dictionaries", "gene_labels"):
            given = getattr(config.finetune, name, None)
            if given is not None and Path(given).expanduser().exists():
                setattr(config.finetune, name, str(Path(given).expanduser().absolute()))
    config.output.run_dir = str(folder.root.absolute())
    config.output.log_dir = str(folder.logs.absolute())
    config.output.checkpoint_dir = str(folder.checkpoints.absolute())


def _make_tokenizer_absolute(tokenizer: Any) -> None:
    """Do so for the files that some tokenizers read: medians, their own or their base's, and gene vectors."""
    base = getattr(tokenizer, "base", {})
    if "medians" in base and Path(base["medians"]).is_file():
        base["medians"] = str(Path(base["medians"]).absolute())
    if Path(getattr(tokenizer, "medians", "")).is_file():
        tokenizer.medians = str(Path(tokenizer.medians).absolute())
    if hasattr(tokenizer, "path"):
        tokenizer.path = str(Path(tokenizer.path).expanduser().absolute())


def try_model(config: RunConfig) -> None:
    """Make a small copy of the model: what is wrong with its settings is said before hours of reading data."""
    sizes = {CELL_LABELS[name].size: 2 for name in needed_labels(config.model)}
    given = {name: size for name, size in sizes.items() if getattr(config.model, name, None) is None}
    small = config.model.model_copy(update={"vocab_size": 16, **given})
    with torch.random.fork_rng():
        check_recipe_fits(get_model(small.architecture, small), config.training)
