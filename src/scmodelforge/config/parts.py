"""Which registered part a section belongs to, and which class of settings that part has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from scmodelforge._errors import ConfigError
from scmodelforge._registry import BENCHMARKS, HEADS, MODELS, SOURCES, TASKS, TOKENIZERS, Registry
from scmodelforge.config.head import HeadConfig
from scmodelforge.config.schema import (
    BenchmarkConfig,
    DataConfig,
    FinetuneConfig,
    ModelConfig,
    Section,
    TokenizerConfig,
)

__all__ = ["HEAD", "PARTS", "Part", "allowed_objectives", "objective_of", "token_maker", "tokenizer_fact"]

_DEFAULT_OBJECTIVE = "masked_gene_prediction"  # of models that name none, such as the tutorial's


@dataclass(frozen=True)
class Part:
    """A section that a registered part may extend.

    Attributes
    ----------
    registry
        Where the part is looked up.
    key
        The setting that names it.
    base
        The section's class if the part has none of its own.
    """

    registry: Registry
    key: str
    base: type[Section]

    @property
    def key_in_words(self) -> str:
        """What the part is called in messages."""
        return "benchmark" if self.base is BenchmarkConfig else self.key

    def name_in(self, raw: Mapping[str, Any]) -> Any:
        """Return the part's name in a section, the default if it is not set."""
        return raw.get(self.key, self.base.model_fields[self.key].default)

    def section_class(self, name: str) -> type[Section]:
        """Return the class of a part's settings.

        Raises
        ------
        ConfigError
            If no such part is registered, or its ``config_class`` is not a section of this kind.
        """
        part = self.registry.get(name)
        section: type[Section] = getattr(part, "config_class", self.base)
        if not (isinstance(section, type) and issubclass(section, self.base)):
            msg = f"{self.registry.kind} '{name}': its config_class must be a subclass of {self.base.__name__}."
            raise ConfigError(msg)
        return section

    def owners_of(self, key: str) -> list[str]:
        """Return the parts that have a setting of their own with this name."""
        owners = []
        for name in self.registry.names():
            # Only a hint is wanted here: another package's part that cannot be imported must not replace the message.
            with suppress(Exception):
                if key in self.section_class(name).model_fields and key not in self.base.model_fields:
                    owners.append(name)
        return owners


PARTS = {
    "data": Part(SOURCES, "source", DataConfig),
    "tokenizer": Part(TOKENIZERS, "strategy", TokenizerConfig),
    "model": Part(MODELS, "architecture", ModelConfig),
    "finetune": Part(TASKS, "task", FinetuneConfig),
    "eval.benchmarks": Part(BENCHMARKS, "name", BenchmarkConfig),
}


#: The section ``model.head``, of a model around another one.
HEAD = Part(HEADS, "kind", HeadConfig)


def token_maker(tokenizer: TokenizerConfig) -> TokenizerConfig:
    """Return the settings of the tokenizer that makes the tokens: those under ``base``, if a tokenizer has a base.

    Raises
    ------
    pydantic.ValidationError
        If what stands under ``base`` is wrong; a tokenizer with a base refuses that when it is made.
    """
    base = getattr(tokenizer, "base", None)
    if not isinstance(base, dict):
        return tokenizer
    shared = {"max_genes": tokenizer.max_genes, "masking": tokenizer.masking.model_dump()}
    section: Any = PARTS["tokenizer"].section_class(base["strategy"])
    made: TokenizerConfig = section.model_validate_json(json.dumps({**base, **shared}))
    return made


def tokenizer_fact(tokenizer: TokenizerConfig, name: str, default: Any) -> Any:
    """Return what a tokenizer says of itself (``expects``, ``provides``, ``normalizes``).

    Parameters
    ----------
    tokenizer
        Its settings: where the answer depends on them, they have it.
    name
        What is asked for.
    default
        The answer of a tokenizer that does not say.
    """
    maker = token_maker(tokenizer)
    return getattr(maker, name, getattr(TOKENIZERS.get(maker.strategy), name, default))


def objective_of(model: ModelConfig) -> str:
    """Return the objective that settings of a model name, by default the model's own."""
    if model.pretraining_task is not None:
        return model.pretraining_task
    architecture = MODELS.get(model.architecture)
    own = getattr(model, "default_objective", None) or getattr(architecture, "default_objective", _DEFAULT_OBJECTIVE)
    return str(own)


def allowed_objectives(model: ModelConfig) -> tuple[str, ...] | None:
    """Return the objectives that a model with some settings can be trained on; ``None`` if it does not say."""
    own: tuple[str, ...] | None = getattr(model, "allowed_objectives", None)
    return own or getattr(MODELS.get(model.architecture), "allowed_objectives", None)
