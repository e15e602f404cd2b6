"""A run on brain regions: every fold is fitted and scored once, then the model on all regions."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import scmodelforge
from scmodelforge._errors import ConfigError, Interrupted, RunError
from scmodelforge.config.connectome import load_connectome_config
from scmodelforge.config.connectome_sections import ConnectomeConfig
from scmodelforge.config.given import GivenSettings, path_of
from scmodelforge.connectome.gene_pairs import gene_pairs
from scmodelforge.connectome.metrics import connectivity_matrix
from scmodelforge.connectome.models.settings import DivergedError
from scmodelforge.workflows.connectome.fold import FoldResult, fit_model, make_model, run_fold
from scmodelforge.workflows.connectome.folder import ConnectomeFolder, write_arrays
from scmodelforge.workflows.connectome.inputs import ModelInputs, quiet
from scmodelforge.workflows.connectome.pace import Pace
from scmodelforge.workflows.connectome.plan import Plan, training_pairs
from scmodelforge.workflows.connectome.standing import Standing, comparisons, standings, table_of, verdict
from scmodelforge.workflows.journal import Journal

__all__ = [
    "ConnectomeResult",
    "default_settings",
    "resume_connectome",
    "run_root",
    "score_baselines",
    "start_connectome",
]

_log = logging.getLogger(__name__)
_NAME = "connectome"  # of a run on a planted brain, and of the settings that come along


@dataclass(frozen=True)
class ConnectomeResult:
    """What a run found.

    Attributes
    ----------
    columns, rows
        The table of predictors, the best first.
    lines
        Who is best, in words.
    standings
        The predictors.
    root
        The run's folder; ``None`` if nothing was written.
    title
        What the table is of.
    """

    columns: list[str]
    rows: list[list[str]]
    lines: list[str]
    standings: list[Standing]
    root: Path | None
    title: str


def default_settings() -> Path:
    """Return the settings of a run for which no file is given: a planted brain, and a model that fits a CPU."""
    package = Path(scmodelforge.__file__).parent
    # Installed from a wheel it lies in the package; in a checkout there is one copy of it only.
    inside = package / "connectome" / "default.yaml"
    return inside if inside.is_file() else package.parents[1] / "configs" / "connectome.yaml"


def start_connectome(
    settings: Path | GivenSettings, overrides: Sequence[str] = (), *, force: bool = False
) -> ConnectomeResult:
    """Fit and score a model and baselines on every fold, and keep a model of all regions.

    Parameters
    ----------
    settings
        Settings file, or settings in the place of one.
    overrides
        Changes of settings, ``a.b=c``.
    force
        Replace an existing run folder.

    Raises
    ------
    ConfigError, DataError
        For everything a user can get wrong, before the run folder is made.
    Interrupted
        When the run was asked to stop; folds that are done are kept.
    RunError
        When the model of all regions diverges; the scores are kept.
    """
    with Journal() as journal:
        config = load_connectome_config(settings, overrides)
        folder = ConnectomeFolder(run_root(path_of(settings), config))
        _place_files(config, folder.root)
        plan = Plan.of(config)
        _try(plan)  # before a folder that is in the way: its advice is of no use for data that cannot be used
        folder.check_free(force=force)
        folder.create(config, {"data": plan.facts(), "seeds": config.split.seeds, "seconds": 0.0})
        journal.begin(folder.root, step=0)
        return _execute(plan, folder)


def resume_connectome(root: Path) -> ConnectomeResult:
    """Go on with a run: folds that are done are not fitted again.

    Raises
    ------
    DataError
        If the folder is not such a run.
    ConfigError
        If its settings or its data were changed.
    """
    with Journal() as journal:
        folder, config, facts = ConnectomeFolder.read(root)
        plan = Plan.of(config)
        if plan.facts()["sha256"] != facts.get("data", {}).get("sha256"):
            msg = f"the data of {root} were changed since the run began; restore them, or start a new run."
            raise ConfigError(msg)
        journal.begin(folder.root, step=0)
        return _execute(plan, folder)


def score_baselines(settings: Path | GivenSettings, overrides: Sequence[str] = ()) -> ConnectomeResult:
    """Fit and score the baselines alone, and write nothing.

    Raises
    ------
    ConfigError, DataError
        For everything a user can get wrong.
    """
    plan = Plan.of(load_connectome_config(settings, overrides))
    rows: list[dict[str, Any]] = []
    for number, fold in enumerate(plan.folds, start=1):
        rows += run_fold(plan, fold, with_model=False).rows
        _log.info(f"{number} of {len(plan.folds)} folds: seed {fold.seed}, {fold.split.name}")
    return _result(plan, rows, None)


def run_root(settings: Path, config: ConnectomeConfig) -> Path:
    """Return the folder of a run: as the settings say, else called as their file, or by default as the data."""
    if config.output.run_dir:
        return Path(config.output.run_dir).expanduser()
    if settings.stem not in (_NAME, default_settings().stem):
        return Path("runs") / settings.stem
    return Path("runs") / (_NAME if config.data.path is None else Path(config.data.path).stem)


def _place_files(config: ConnectomeConfig, root: Path) -> None:
    """Make paths of the settings absolute, so that the run can be resumed from any folder."""
    data, model = config.data, config.model
    if data.path is not None:
        data.path = _absolute(data.path)
        if Path(data.path).suffix in (".csv", ".tsv"):
            data.target, data.coords = (
                None if each is None else _absolute(each) for each in (data.target, data.coords)
            )
    vectors = getattr(model, "gene_embeddings", None)
    if vectors is not None:
        setattr(model, "gene_embeddings", _absolute(vectors))  # noqa: B010 - a setting of some models only
    config.output.run_dir = str(root.absolute())


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def _try(plan: Plan) -> None:
    """Make the model of each fold and choose its validation regions: what is wrong is said before hours of it."""
    num_parameters, num_genes = 0, 0
    seen: set[tuple[str, ...]] = set()
    for fold in plan.folds:
        training_pairs(plan.data, fold.split.train_regions, plan.config, fold.seed)
        inputs = ModelInputs.fitted(plan.data, fold.split.train_regions, plan.config.data.max_genes)
        if tuple(inputs.genes) in seen:
            continue
        if seen:
            with quiet():
                make_model(plan.config, inputs.apply(plan.data), fold.seed)
        else:
            model = make_model(plan.config, inputs.apply(plan.data), fold.seed)
            num_parameters, num_genes = sum(tensor.numel() for tensor in model.parameters()), len(inputs.genes)
        seen.add(tuple(inputs.genes))
    _log.info(
        f"{plan.data.num_regions} regions of '{plan.data.dataset}', {plan.data.num_genes:,} genes, {len(plan.folds)} "
        f"folds ({plan.config.split.strategy}); {plan.config.model.name} with {num_parameters:,} parameters and "
        f"{num_genes:,} genes, {len(plan.baselines)} baselines"
    )


def _execute(plan: Plan, folder: ConnectomeFolder) -> ConnectomeResult:
    began = time.perf_counter()
    try:
        results = _folds(plan, folder)
        rows = [row for result in results for row in result.rows]
        _write(plan, folder, results, rows)
        if not folder.model.is_dir():
            _final_model(plan, folder)
    except (Interrupted, KeyboardInterrupt) as stop:
        msg = f"stopped; folds that are done are kept in {folder.root}\ngo on with: {folder.go_on}"
        raise Interrupted(msg) from stop
    finally:
        folder.add_seconds(time.perf_counter() - began)
    return _result(plan, rows, folder.root)


def _folds(plan: Plan, folder: ConnectomeFolder) -> list[FoldResult]:
    found = []
    for number, fold in enumerate(plan.folds, start=1):
        where = f"{number} of {len(plan.folds)} folds: seed {fold.seed}, {fold.split.name}"
        result = folder.read_fold(fold)
        if result is not None:
            _log.info(f"{where}: done before")
        else:
            result = run_fold(plan, fold)
            folder.write_fold(fold, result)
            _log.info(f"{where}: {_in_words(result.rows)}")
        found.append(result)
    return found


def _in_words(rows: list[dict[str, Any]]) -> str:
    """Return the score of the model in a fold, and of the baseline that is best there."""
    found = standings(rows)
    own = next(each for each in found if each.kind == "model")
    best = next((each for each in found if each.kind != "model" and each.num_scored), None)
    text = f"{own.name} r {own.mean:.3f}" if own.num_scored else f"{own.name} has no r"
    return text + ("" if best is None else f", best baseline {best.name} {best.mean:.3f}")


def _write(plan: Plan, folder: ConnectomeFolder, results: list[FoldResult], rows: list[dict[str, Any]]) -> None:
    """Write what follows from the folds."""
    found = standings(rows)
    folder.write_scores(rows)
    folder.write_json("metrics.json", [each.to_dict() for each in found])
    folder.write_json("comparison.json", [gap.to_dict() for gap in comparisons(found, plan.test_share)])
    data = plan.data
    total, count = np.zeros((data.num_regions, data.num_regions)), np.zeros((data.num_regions, data.num_regions))
    for fold, result in zip(plan.folds, results, strict=True):
        assert result.predicted is not None
        matrix = connectivity_matrix(data, fold.split.inner, result.predicted)
        count += np.isfinite(matrix)
        total += np.nan_to_num(matrix)
    arrays = {
        "true": data.Y.numpy().astype(np.float64),
        "predicted": np.where(count > 0, total / np.maximum(count, 1), np.nan),
        "regions": np.asarray(data.region_names, dtype=str),
    }
    if data.coords is not None:
        arrays["coords"] = data.coords.numpy()
    if data.networks is not None:
        arrays["network"] = data.networks
    write_arrays(folder.root / "predictions.npz", arrays)


def _final_model(plan: Plan, folder: ConnectomeFolder) -> None:
    seed, regions = plan.config.split.seeds[0], np.arange(plan.data.num_regions)
    where = f"the model of all {plan.data.num_regions} regions"
    _log.info(f"{where}, seed {seed}")
    try:
        fitted = fit_model(plan.config, plan.data, regions, seed, say=Pace(where).say)
        if not np.isfinite(fitted.predict(np.arange(len(plan.data)))).all():
            raise DivergedError("its predictions are not finite")
    except DivergedError as problem:
        msg = (
            f"{where} diverged ({problem.why}), so none is kept; the scores of the folds are, in "
            f"{folder.root / 'scores.csv'}. Start a new run with a lower training.learning_rate than "
            f"{plan.config.training.learning_rate:g}, or with training.cosine_lr=true, whose rate rises slowly"
        )
        raise RunError(msg) from problem
    pairs = gene_pairs(fitted.model, fitted.data, seed=seed)
    if pairs is not None:
        folder.write_table("gene_pairs.csv", ["gene_i", "gene_j", "attention"], [list(pair) for pair in pairs])
    folder.write_model(fitted)


def _result(plan: Plan, rows: list[dict[str, Any]], root: Path | None) -> ConnectomeResult:
    found = standings(rows)
    gaps = comparisons(found, plan.test_share)
    seeds = len(plan.config.split.seeds)
    title = (
        f"{plan.data.dataset}: Pearson r of pairs of two held-out regions ({plan.config.split.strategy}), mean and "
        f"standard deviation over {len(plan.folds) // seeds} folds of {seeds} seed{'s' if seeds > 1 else ''}"
    )
    columns, cells = table_of(found, gaps)
    return ConnectomeResult(columns, cells, verdict(found, gaps), found, root, title)
