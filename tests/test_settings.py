"""Every setting is read: each key of every section is used by code outside the settings themselves."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from scmodelforge import _registry
from scmodelforge.config import schema

SRC = Path(schema.__file__).parents[1]


@cache
def sections() -> list[type[schema.Section]]:
    for registry in (_registry.MODELS, _registry.TOKENIZERS, _registry.SOURCES, _registry.BENCHMARKS):
        registry.names()  # imports every part, and with it the sections the parts add

    def below(section: type[schema.Section]) -> list[type[schema.Section]]:
        return [section, *(each for child in section.__subclasses__() for each in below(child))]

    found = below(schema.Section)
    return [section for section in found if section.__module__.startswith("scmodelforge.")]


def own_fields() -> list[tuple[str, str]]:
    return sorted({(s.__name__, name) for s in sections() for name in s.__annotations__ if name in s.model_fields})


# Where each section is read. A name such as ``seed`` stands in many places; only these count for its section.
READERS = {
    "SplitConfig": ["data/splits.py", "data/selection.py"],
    "SamplingConfig": ["data/shares.py", "data/training_order.py"],
    "PreprocessingConfig": ["data/preprocess.py", "data/filters.py", "workflows/vocabulary.py", "workflows/prepare.py"],
    "MaskingConfig": ["objectives/masked_gene.py", "objectives/hiding.py"],
    "AutoregressiveConfig": ["models/autoregressive.py", "objectives/next_gene.py"],
    "ScGPTConfig": ["models/scgpt.py", "models/base.py", "models/components/scgpt_terms.py", "objectives/*.py"],
    "MaskedAutoencoderConfig": ["models/masked_autoencoder.py", "objectives/masked_value.py"],
    "BinnedExpressionConfig": ["tokenizers/binned_expression.py"],
    "ContinuousProjectionConfig": ["tokenizers/continuous_projection.py"],
    "GeneEmbeddingConfig": ["tokenizers/gene_embedding.py", "config/parts.py"],
    "OptimizerConfig": ["training/optim.py"],
    "SchedulerConfig": ["training/schedules.py"],
    "ParameterGroupConfig": ["training/optim.py"],
    "EmaConfig": ["training/ema.py"],
    "EarlyStoppingConfig": ["training/early_stopping.py"],
    "UnfreezeConfig": ["training/unfreezing.py"],
    "TrainingConfig": ["training/*.py", "workflows/training_run.py", "workflows/prepare.py"],
    "GuardsConfig": ["training/guards.py"],
    "EvalConfig": ["workflows/evaluation_sets.py", "workflows/training_run.py"],
    "BenchmarkConfig": ["workflows/eval*.py"],
    "OutputConfig": ["workflows/*.py"],
    "WandbConfig": ["training/_wandb.py"],
    "DataConfig": ["workflows/*.py", "data/training_order.py"],
    "OrthologsConfig": ["workflows/*.py"],
    "LocalDataConfig": ["data/sources/local.py"],
    "CensusDataConfig": ["data/sources/census.py"],
    "RankValueConfig": ["tokenizers/rank_value.py"],
    "RunConfig": ["workflows/*.py"],
    "ConnectomeConfig": ["workflows/connectome/*.py"],
    "ConnectomeDataConfig": ["workflows/connectome/*.py"],
    "ConnectomeModelConfig": ["workflows/connectome/*.py"],
    "ConnectomeOutputConfig": ["workflows/connectome/*.py"],
    "ConnectomeSplitConfig": ["workflows/connectome/*.py"],
    "ConnectomeTrainingConfig": ["connectome/models/settings.py", "workflows/connectome/*.py"],
    "PlantedConfig": ["workflows/connectome/*.py"],
}


@cache
def code_of(patterns: tuple[str, ...]) -> str:
    paths = [path for pattern in patterns for path in SRC.glob(pattern)]
    return "\n".join(path.read_text() for path in paths if path.parent.name != "config")


@pytest.mark.parametrize(("section", "name"), own_fields())
def test_setting_is_read(section, name):
    code = code_of(tuple(READERS.get(section, ["**/*.py"])))
    is_read = re.search(rf'\.{name}\b|getattr\(\w+, "{name}"', code) is not None
    # A flat model section has settings of other architectures; each model names those it has no use for, and setting
    # one is answered with a warning (see test_config).
    models = [_registry.MODELS.get(model) for model in _registry.MODELS.names()]
    is_declared_unused = section == "ModelConfig" and all(name in model.unused_settings for model in models)
    assert is_read or is_declared_unused, f"{section}.{name} is never read"


@pytest.mark.parametrize(("section", "name"), own_fields())
def test_setting_is_explained_or_plain(section, name):
    field = next(s for s in sections() if s.__name__ == section).model_fields[name]
    plain = {"preprocessing", "split", "sampling", "masking", "optimizer", "scheduler", "data", "tokenizer", "model",
             "training", "eval", "output", "name", "beta1", "beta2", "eps", "accelerator", "num_nodes",
             "guards"}  # fmt: skip
    assert field.description or name in plain, f"{section}.{name} has no description"
