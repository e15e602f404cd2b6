"""Parts with settings and needs of their own, registered for one test."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from scmodelforge import _registry
from scmodelforge.config.schema import BenchmarkConfig, DataConfig, ModelConfig, TokenizerConfig

MINIMAL = "data:\n  paths: [cells.h5ad]\n"


class ToyDataConfig(DataConfig):
    shards: int


class ToyTokenizerConfig(TokenizerConfig):
    scales: tuple[int, ...] = (1, 2)


class ToyModelConfig(ModelConfig):
    latent_dim: int = Field(8, gt=0)


class ToyBenchmarkConfig(BenchmarkConfig):
    folds: int = 5


class ToySource:
    config_class = ToyDataConfig


class ToyTokens:
    config_class = ToyTokenizerConfig
    expects = "any"
    provides = frozenset({"input_ids"})


class ToyModel:
    config_class = ToyModelConfig
    default_objective = "toy_objective"
    allowed_objectives = ("toy_objective",)
    unused_settings = frozenset({"num_heads", "ffn_dim"})


class PlainModel:
    """A user's own class, which says nothing of itself."""


class ToyObjective:
    needs = frozenset({"input_ids", "bin_ids"})


class EasyObjective:
    """Needs nothing, and does not say so."""


class ToyBenchmark:
    config_class = ToyBenchmarkConfig


@pytest.fixture
def toys(monkeypatch):
    """Register the parts above; they are gone after the test."""
    for registry, name, part in (
        (_registry.SOURCES, "toy_source", ToySource),
        (_registry.TOKENIZERS, "toy_tokens", ToyTokens),
        (_registry.MODELS, "toy", ToyModel),
        (_registry.MODELS, "plain", PlainModel),
        (_registry.OBJECTIVES, "toy_objective", ToyObjective),
        (_registry.OBJECTIVES, "easy_objective", EasyObjective),
        (_registry.BENCHMARKS, "toy_benchmark", ToyBenchmark),
    ):
        registry.names()  # the built-in parts first, so that they cannot be pushed out
        monkeypatch.setitem(registry._parts, name, part)


@pytest.fixture
def write(tmp_path: Path):
    """Return a function that writes a settings file and returns its path."""

    def write_file(text: str, name: str = "run.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


@pytest.fixture
def mistakes(write):
    """Return a function that reads a file with mistakes and returns the lines, without the file's folder."""
    from scmodelforge._errors import ConfigError
    from scmodelforge.config import load_config

    def lines(text: str, overrides=(), name: str = "run.yaml") -> list[str]:
        path = write(text, name)
        with pytest.raises(ConfigError) as caught:
            load_config(path, overrides)
        return str(caught.value).replace(f"{path.parent}/", "").splitlines()

    return lines
