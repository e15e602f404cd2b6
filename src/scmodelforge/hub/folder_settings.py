"""``config.json`` of a model folder: what it must say, and one line where it says something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scmodelforge._errors import ConfigError, DataError, listed
from scmodelforge._json_files import read_json_object
from scmodelforge._registry import MODELS, OBJECTIVES
from scmodelforge.config.schema import ModelConfig
from scmodelforge.constants import FORMAT_VERSION

__all__ = ["FolderSettings", "check_objective", "read_folder_settings", "read_model_settings"]

_AGAIN = "copy or export the model again"
_MOST = 3


class FolderSettings(BaseModel):
    """What ``config.json`` of a model folder holds."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    format_version: int
    """Version of the folder's form."""
    scmodelforge_version: str
    """What wrote it."""
    objective: str
    """Registered name of what the model was trained on."""
    vocab_digest: str | None = None
    """Digest of its vocabulary; folders of early versions have none."""
    plugins: list[str] = Field(default_factory=list)
    """Its Python files, and names of modules."""
    model: dict[str, Any]
    """Settings of the model."""

    @property
    def architectures(self) -> list[str]:
        """The architectures of the model and of its backbone, as far as they are texts."""
        backbone = self.model.get("backbone")
        parts = [self.model, backbone] if isinstance(backbone, dict) else [self.model]
        return [name for part in parts if isinstance(name := part.get("architecture"), str)]


def read_folder_settings(folder: Path) -> FolderSettings:
    """Read ``config.json`` of a model folder.

    Raises
    ------
    DataError
        If it is damaged, of another format, or its fields are not those that are needed.
    """
    path = folder / "config.json"
    found = read_json_object(path, _AGAIN)
    version = found.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:  # True is 1
        msg = (
            f"{folder}: model folder of format {_shown(version)}, this version reads format {FORMAT_VERSION}; install "
            f"the version that wrote it, scmodelforge {_shown(found.get('scmodelforge_version'))}."
        )
        raise DataError(msg)
    try:
        return FolderSettings.model_validate(found)
    except ValidationError as problem:
        raise DataError(_in_words(path, problem)) from problem


def read_model_settings(settings: FolderSettings, folder: Path) -> ModelConfig:
    """Return the settings of the model of a folder, as those of its architecture.

    Raises
    ------
    DataError
        If there is no such architecture, or they do not fit it.
    """
    path, architecture = folder / "config.json", settings.model.get("architecture")
    if not isinstance(architecture, str):
        msg = f"{path}: model.architecture is {_shown(architecture)}; the name of an architecture is needed; {_AGAIN}."
        raise DataError(msg)
    try:
        config_class = getattr(MODELS.get(architecture), "config_class", ModelConfig)
    except ConfigError as problem:
        msg = f"{path}: model.architecture: {problem}"
        raise DataError(msg) from problem
    try:
        # By way of JSON, as settings files are read: a list can become a tuple there.
        found: ModelConfig = config_class.model_validate_json(json.dumps(settings.model))
    except ValidationError as problem:
        raise DataError(_in_words(path, problem, below="model")) from problem
    return found


def check_objective(settings: FolderSettings, folder: Path, *, is_own_possible: bool) -> None:
    """Refuse an objective that is none.

    Parameters
    ----------
    settings
        What ``config.json`` says.
    folder
        Where it is.
    is_own_possible
        Whether it may be registered by a plugin that was not imported.

    Raises
    ------
    DataError
        If there is no such objective.
    """
    names = OBJECTIVES.names()
    if settings.objective not in names and not is_own_possible:
        msg = (
            f"{folder / 'config.json'}: objective is '{settings.objective}'; one of {', '.join(names)} is needed; "
            f"{_AGAIN}."
        )
        raise DataError(msg)


def _in_words(path: Path, problem: ValidationError, *, below: str = "") -> str:
    faults = []
    for each in problem.errors(include_url=False):
        where = ".".join(map(str, ([below] if below else []) + list(each["loc"])))
        if each["type"] == "missing":
            faults.append(f"{where} is missing")
        elif each["type"] == "extra_forbidden":
            faults.append(f"{where} is unknown")
        else:
            reason = " ".join(each["msg"].split()).removeprefix("Value error, ").rstrip(".")
            faults.append(f"{where} is {_shown(each['input'])} ({reason})")
    return f"{path}: {listed(faults, _MOST)}; {_AGAIN}, or install the version of scmodelforge that wrote it."


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:56]} ..."
