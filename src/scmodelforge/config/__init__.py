"""Settings: a YAML or TOML file becomes typed sections, or one error that says all that is wrong with it."""

from __future__ import annotations

from scmodelforge.config.load import config_schema, dump_config, load_config, load_plugins, parse_config
from scmodelforge.config.schema import (
    BenchmarkConfig,
    DataConfig,
    EarlyStoppingConfig,
    EmaConfig,
    EvalConfig,
    MaskingConfig,
    ModelConfig,
    OptimizerConfig,
    OutputConfig,
    ParameterGroupConfig,
    PreprocessingConfig,
    RunConfig,
    SamplingConfig,
    SchedulerConfig,
    Section,
    SplitConfig,
    TokenizerConfig,
    TrainingConfig,
    UnfreezeConfig,
)

__all__ = [
    "BenchmarkConfig",
    "DataConfig",
    "EarlyStoppingConfig",
    "EmaConfig",
    "EvalConfig",
    "MaskingConfig",
    "ModelConfig",
    "OptimizerConfig",
    "OutputConfig",
    "ParameterGroupConfig",
    "PreprocessingConfig",
    "RunConfig",
    "SamplingConfig",
    "SchedulerConfig",
    "Section",
    "SplitConfig",
    "TokenizerConfig",
    "TrainingConfig",
    "UnfreezeConfig",
    "config_schema",
    "dump_config",
    "load_config",
    "load_plugins",
    "parse_config",
]
