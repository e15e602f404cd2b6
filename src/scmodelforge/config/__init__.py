"""Settings: a YAML or TOML file becomes typed sections, or one error that says all that is wrong with it."""

from __future__ import annotations

from scmodelforge.config.load import config_schema, dump_config, load_config, load_plugins, parse_config
from scmodelforge.config.schema import (
    BenchmarkConfig,
    DataConfig,
    EvalConfig,
    MaskingConfig,
    ModelConfig,
    OptimizerConfig,
    OutputConfig,
    PreprocessingConfig,
    RunConfig,
    SamplingConfig,
    SchedulerConfig,
    Section,
    SplitConfig,
    TokenizerConfig,
    TrainingConfig,
)

__all__ = [
    "BenchmarkConfig",
    "DataConfig",
    "EvalConfig",
    "MaskingConfig",
    "ModelConfig",
    "OptimizerConfig",
    "OutputConfig",
    "PreprocessingConfig",
    "RunConfig",
    "SamplingConfig",
    "SchedulerConfig",
    "Section",
    "SplitConfig",
    "TokenizerConfig",
    "TrainingConfig",
    "config_schema",
    "dump_config",
    "load_config",
    "load_plugins",
    "parse_config",
]
