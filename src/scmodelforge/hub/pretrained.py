"""Published models by name: a list in JSON that other tools can read without this package.

``pretrained.json`` beside this file has the models, ``pretrained.schema.json`` the JSON Schema of the list. Both are
part of every release; ``format_version`` changes when a field changes its meaning or goes.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from scmodelforge._errors import ConfigError, nearest

__all__ = ["HubPlace", "PretrainedModel", "PublishedFile", "Vocabulary", "get_pretrained", "list_pretrained"]

FILE = Path(__file__).with_name("pretrained.json")
SCHEMA_FILE = Path(__file__).with_name("pretrained.schema.json")


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HubPlace(_Entry):
    """Where a model is on the Hugging Face hub."""

    repository: str = Field(pattern=r"^[^/]+/[^/]+$")
    """``owner/name``."""
    revision: str | None = None
    """Commit, tag or branch; ``null`` is the main branch."""
    folder: str = ""
    """Folder in the repository; empty is its top."""


class PublishedFile(_Entry):
    """A file of a model."""

    path: str
    """Relative to the model's folder."""
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """``null`` if it is not known to us."""
    bytes: int | None = Field(None, gt=0)
    """Size; ``null`` if it is not known to us."""


class Vocabulary(_Entry):
    """The tokens of a model."""

    preset: str | None = None
    """Representation with its dictionaries: a name of ``scmodelforge tokenizer fetch``; ``null`` if a file of the
    model has them."""
    num_tokens: int = Field(gt=0)
    """Special ones included."""


class PretrainedModel(_Entry):
    """A published model."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    """What stands behind ``scmodelforge://``."""
    aliases: list[str] = []
    """Further names."""
    title: str
    """What it is, in words."""
    importer: str
    """What reads its files: a registered importer."""
    hub: HubPlace | None = None
    """``null`` if it is not on the hub, or its place there is not known to us."""
    page: str
    """Where people find it."""
    files: list[PublishedFile] = Field(min_length=1)
    """Files that are read."""
    vocabulary: Vocabulary
    """Its tokens."""
    num_parameters: int = Field(gt=0)
    """Weights, tied ones once."""
    species: list[str] = Field(min_length=1)
    """Species it was trained on."""
    licence: str
    """Of the weights, as their publishers state it."""
    citation: str
    """DOI."""
    note: str = ""
    """What a user has to know."""


class PretrainedList(_Entry):
    """Published models."""

    format_version: Literal[1]
    """Version of these fields."""
    models: list[PretrainedModel]
    """The models."""

    @model_validator(mode="after")
    def _has_each_name_once(self) -> PretrainedList:
        names = [name for model in self.models for name in (model.name, *model.aliases)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            msg = f"names that stand twice: {', '.join(twice)}"
            raise ValueError(msg)
        return self


@cache
def list_pretrained() -> tuple[PretrainedModel, ...]:
    """Return the published models, in the order of the list."""
    return tuple(PretrainedList.model_validate_json(FILE.read_text()).models)


def get_pretrained(name: str) -> PretrainedModel:
    """Return a published model by its name or another name of it, in any case.

    Raises
    ------
    ConfigError
        If there is none; the message lists the names there are.
    """
    wanted = name.lower()
    for model in list_pretrained():
        if wanted in (model.name, *model.aliases):
            return model
    names = [model.name for model in list_pretrained()]
    msg = f"no published model '{name}'.{nearest(wanted, names)} There are: {', '.join(names)}."
    raise ConfigError(msg)
