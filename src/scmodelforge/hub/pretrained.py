"""Published models by name: a list in JSON that other tools can read without this package.

``pretrained.json`` beside this file has the models, ``pretrained.schema.json`` the JSON Schema of the list. Both are
part of every release; ``format_version`` changes when a field changes its meaning or goes. Checksums and sizes were
taken of the published files; what is not known is ``null``. After a change of the fields below, in the folder
``src/scmodelforge/hub``::

    python -c "from scmodelforge.hub.pretrained import schema_text; print(end=schema_text())" > pretrained.schema.json
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from scmodelforge._errors import ConfigError, nearest
from scmodelforge._places import cache_folder
from scmodelforge.hub.addresses import HubRepository

__all__ = [
    "HubPlace",
    "PretrainedList",
    "PretrainedModel",
    "PublishedFile",
    "Sizes",
    "Vocabulary",
    "find_pretrained",
    "get_pretrained",
    "list_pretrained",
    "own_folder",
    "schema_text",
]

FILE = Path(__file__).with_name("pretrained.json")
SCHEMA_FILE = Path(__file__).with_name("pretrained.schema.json")

_Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class HubPlace(_Entry):
    """Where files are on the Hugging Face hub."""

    repository: str = Field(pattern=r"^[^/]+/[^/]+$")
    """``owner/name``."""
    revision: str | None = None
    """Commit, tag or branch; ``null`` is the main branch."""
    folder: str = ""
    """Folder in the repository; empty is its top."""

    @property
    def address(self) -> str:
        """The place as :func:`~scmodelforge.hub.addresses.parse_address` reads it."""
        return str(HubRepository(self.repository, self.revision, self.folder))

    @model_validator(mode="after")
    def _stays_in_the_repository(self) -> HubPlace:
        HubRepository(self.repository, self.revision, self.folder)
        return self


class PublishedFile(_Entry):
    """A published file."""

    path: str
    """Relative to the folder that it is in."""
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """``null`` if it is not known."""
    bytes: int | None = Field(None, gt=0)
    """Size; ``null`` if it is not known."""

    @field_validator("path")
    @classmethod
    def _stays_in_the_folder(cls, path: str) -> str:
        HubRepository("owner/name", None, path)
        return path


class Vocabulary(_Entry):
    """The tokens of a model."""

    preset: str | None = None
    """Representation that they are of: a name of ``scmodelforge tokenizer fetch``."""
    num_tokens: int = Field(gt=0)
    """Special ones included."""
    hub: HubPlace | None = None
    """Where its dictionaries are on the hub; ``null`` if they are among the model's own files."""
    files: list[PublishedFile] = Field(min_length=1)
    """Its dictionaries."""


class Sizes(_Entry):
    """The sizes of a transformer."""

    num_layers: int = Field(gt=0)
    """Blocks."""
    hidden_dim: int = Field(gt=0)
    """Width, also of its embeddings."""
    num_heads: int = Field(gt=0)
    """Heads of attention in a block."""
    ffn_dim: int = Field(gt=0)
    """Width inside its feed-forward networks."""
    max_tokens: int = Field(gt=0)
    """Most tokens of a cell, special ones included."""


class PretrainedModel(_Entry):
    """A published model."""

    name: _Name
    """What stands behind ``scmodelforge://``, in any case."""
    aliases: list[_Name] = []
    """Further names."""
    title: str
    """What it is, in words."""
    importer: str
    """What reads its files here: a registered importer."""
    hub: HubPlace | None = None
    """Where its files are on the hub; ``null`` if they are not there, or their place is not known."""
    page: str
    """Where people find it."""
    files: list[PublishedFile] = Field(min_length=1)
    """Files that are read."""
    vocabulary: Vocabulary
    """Its tokens."""
    sizes: Sizes
    """Its sizes."""
    num_parameters: int = Field(gt=0)
    """Numbers in its weights, those of tied ones once."""
    species: list[str] = Field(min_length=1)
    """Species it was trained on."""
    licence: str
    """Of the repository that publishes it."""
    citation: str
    """DOI."""
    note: str = ""
    """What a user has to know."""

    @property
    def names(self) -> tuple[str, ...]:
        """All its names."""
        return (self.name, *self.aliases)

    @property
    def checksums(self) -> dict[str, str]:
        """The sha256 of its files by path, of those that are known."""
        return {file.path: file.sha256 for file in self.files if file.sha256 is not None}


class PretrainedList(_Entry):
    """Published single-cell models: where they are, what they are made of, and how to tell their files."""

    format_version: Literal[1]
    """Version of these fields."""
    models: list[PretrainedModel]
    """The models."""

    @model_validator(mode="after")
    def _has_each_name_once(self) -> PretrainedList:
        names = [name for model in self.models for name in model.names]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            msg = f"names that stand twice: {', '.join(twice)}"
            raise ValueError(msg)
        return self


@cache
def list_pretrained() -> tuple[PretrainedModel, ...]:
    """Return the published models, in the order of the list."""
    return tuple(PretrainedList.model_validate_json(FILE.read_text(encoding="utf-8")).models)


def get_pretrained(name: str) -> PretrainedModel:
    """Return a published model by its name or another name of it, in any case.

    Raises
    ------
    ConfigError
        If there is none; the message lists the names there are.
    """
    wanted = name.lower()
    for model in list_pretrained():
        if wanted in model.names:
            return model
    known = [each for model in list_pretrained() for each in model.names]
    names = ", ".join(model.name for model in list_pretrained())
    msg = f"no published model '{name}'.{nearest(wanted, known)} There are: {names}."
    raise ConfigError(msg)


def find_pretrained(model: PretrainedModel) -> Path | None:
    """Return the folder on this machine that has all files of a model; nothing is fetched or read.

    That is ``pretrained/NAME`` in :func:`~scmodelforge._places.cache_folder`, or a folder in the cache of the hub's
    client. ``None`` if a file is missing.
    """
    from huggingface_hub import try_to_load_from_cache

    own = own_folder(model)
    if all((own / file.path).is_file() for file in model.files):
        return own
    if model.hub is None:
        return None
    place = f"{model.hub.folder}/" if model.hub.folder else ""
    found = [
        try_to_load_from_cache(model.hub.repository, f"{place}{file.path}", revision=model.hub.revision)
        for file in model.files
    ]
    last = found[-1]
    return Path(last).parent if isinstance(last, str) and all(isinstance(each, str) for each in found) else None


def own_folder(model: PretrainedModel) -> Path:
    """Return the folder where a model is looked for before the hub is asked, whether it is there or not."""
    return cache_folder() / "pretrained" / model.name


def schema_text() -> str:
    """Return the JSON Schema of the list, as it is published."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **PretrainedList.model_json_schema()}
    return json.dumps(schema, indent=1) + "\n"
