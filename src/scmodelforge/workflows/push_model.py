"""A model or a run put on the hub, with a card and a score that the copy there must reach."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from scmodelforge._errors import ConfigError, DataError, UserError
from scmodelforge.hub.addresses import LocalFolder
from scmodelforge.hub.bundle import load_bundle
from scmodelforge.hub.locate import locate
from scmodelforge.hub.push import push_bundle, repository_of
from scmodelforge.hub.upload import Target, look_at
from scmodelforge.workflows.card_files import card_of_folder, require_our_folder, run_of
from scmodelforge.workflows.reproduce import Reproduction, on_other_cells, on_own_cells

__all__ = ["push_model"]


def push_model(
    model: Path,
    repository: str,
    *,
    private: bool = False,
    revision: str | None = None,
    data: Path | None = None,
    label: str | None = None,
    licence: str | None = None,
    force: bool = False,
    trust_plugins: bool = False,
) -> list[str]:
    """Put a model on the hub, load it back from there, and compare.

    Before anything is made on the hub, the model here must reach the score that the copy there has to.
    What comes back must have the same files and weights, give drawn cells the same embeddings, and reach one score
    again: of a run that was evaluated the first of its results on its own held-out cells, with ``data`` one on these
    cells, else that of the drawn cells (:mod:`scmodelforge.hub.push_check`).

    Parameters
    ----------
    model
        Model folder, or run folder (its exported model).
    repository
        ``owner/name``.
    private, revision, force
        As ``private``, ``branch`` and ``force`` of :class:`~scmodelforge.hub.push.Target`.
    data, label
        AnnData file and its obs column with cell types.
    licence
        Of the weights; ``None`` is that of the folder's card.
    trust_plugins
        Import the Python files the model folder names; those of a run are.

    Returns
    -------
    Lines for the user.

    Raises
    ------
    ConfigError, DataError
        If nothing was pushed, and why; or if what is on the hub is not the model: the message has the revision, and
        what was there before.
    """
    if (data is None) != (label is None):
        msg = "--data and --label go together: cells, and their obs column with cell types, on which a score is made."
        raise ConfigError(msg)
    place = repository_of(repository)
    address = str(replace(place, revision=revision))
    folder = locate(LocalFolder(model)).folder
    require_our_folder(folder)
    run = run_of(folder.resolve())
    bundle = load_bundle(folder, trust_plugins=trust_plugins or run is not None)
    card = card_of_folder(bundle, folder, address=address, licence=licence)
    target = Target(place.repo_id, private=private or None, branch=revision, force=force)
    look_at(place, target)  # nobody waits for scores to learn that the hub refuses
    again, notes = _score_to_reach(folder, run, data, label, trust_plugins=trust_plugins)
    pushed = push_bundle(bundle, card.text, target, further=None if again is None else again.differences)
    trial = pushed.trial
    lines = [
        *card.notes,
        *notes,
        f"pushed: {address}, revision {pushed.revision}, {pushed.num_files} files",
        f"loaded back: the same files and weights, and the same embeddings of {len(trial.embeddings)} drawn cells "
        f"(neighbours of the same kind {trial.score:.4f})",
    ]
    if again is not None:
        lines.append(f"reproduced: {again.describe()}")
    return [*lines, f"next: scmodelforge embed cells.h5ad embedded.h5ad --model {address}"]


def _score_to_reach(
    folder: Path, run: Path | None, data: Path | None, label: str | None, *, trust_plugins: bool
) -> tuple[Reproduction | None, list[str]]:
    """Return the score that the copy on the hub must reach, which the model here reaches.

    Raises
    ------
    DataError
        If it does not, or cannot be scored.
    """
    if data is not None and label is not None:
        return on_other_cells(folder, data, label, trust_plugins=trust_plugins or run is not None), []
    found = None if run is None else on_own_cells(run)
    if run is not None and found is not None:
        _require_reached(found, folder, run)
        return found, []
    why = "the model is in no run folder" if run is None else "the run was not evaluated"
    return None, [f"{why}: the score that is compared is that of drawn cells; name others with --data and --label"]


def _require_reached(again: Reproduction, folder: Path, run: Path) -> None:
    """Refuse a run whose score the model here does not reach: the copy on the hub could not either."""
    try:
        found = again.differences(folder)
    except UserError as problem:
        msg = (
            f"nothing was pushed: {problem} Name other cells with --data and --label, or push the model without the "
            f"run's scores: scmodelforge hub export {shlex.quote(str(run))} exported, and push exported."
        )
        raise DataError(msg) from problem
    if found:
        msg = (
            f"nothing was pushed: the model here does not reach the score of its run: {'; '.join(found)}. Evaluate it "
            f"again: scmodelforge evaluate {shlex.quote(str(run))}"
        )
        raise DataError(msg)
