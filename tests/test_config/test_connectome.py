"""The section ``connectome``: its defaults are those of the classes it is for, and nothing of it is lost on the way."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import get_args

import pytest
import yaml
from typer.testing import CliRunner

from scmodelforge._errors import ConfigError
from scmodelforge.cli.main import app
from scmodelforge.config import load_config
from scmodelforge.config.connectome import dump_connectome_config, load_connectome_config, model_section
from scmodelforge.config.connectome_sections import (
    ConnectomeFile,
    ConnectomeModelConfig,
    ConnectomeSplitConfig,
    ConnectomeTrainingConfig,
)
from scmodelforge.config.given import GivenSettings
from scmodelforge.connectome import get_connectome_model, list_connectome_models
from scmodelforge.connectome.splits import STRATEGIES
from scmodelforge.workflows.connectome.train import default_settings

ROOT = Path(__file__).parents[2]


def load(values: dict, *overrides: str):
    return load_connectome_config(GivenSettings({"connectome": values}, Path("brain.yaml")), overrides)


def arguments(name: str) -> dict:
    """Return the arguments of a model with their defaults, but for the data and what follows from the seeds."""
    parameters = list(inspect.signature(get_connectome_model(name)).parameters.values())[2:]
    return {each.name: each.default for each in parameters if each.name not in ("seed", "num_workers")}


@pytest.mark.parametrize("name", list_connectome_models())
def test_defaults_are_those_of_the_class(name):
    given = arguments(name)
    training = ConnectomeTrainingConfig().model_dump(exclude={"validation_share"})
    assert {key: given[key] for key in training} == training
    section = model_section(name)(name=name).model_dump(exclude={"name"})
    own = {key: list(value) if isinstance(value, tuple) else value for key, value in given.items()}
    assert section == {key: value for key, value in own.items() if key not in training}


def test_strategies_are_those_there_are():
    assert get_args(ConnectomeSplitConfig.model_fields["strategy"].annotation) == STRATEGIES


@pytest.mark.parametrize("name", list_connectome_models())
def test_what_is_written_is_read_again(name):
    config = load({"model": {"name": name}, "split": {"seeds": [3, 1]}}, "training.epochs=7", "baselines=[cge, mean]")
    again = load(yaml.safe_load(dump_connectome_config(config))["connectome"])
    assert again == config
    assert type(again.model) is type(config.model) is model_section(name)
    assert (again.training.epochs, again.split.seeds, again.baselines) == (7, [3, 1], ["cge", "mean"])


def test_several_mistakes_are_told_together():
    with pytest.raises(ConfigError) as error:
        load({"training": {"epoch": 3}, "model": {"nam": "x"}, "split": {"folds": 1}}, "data.paht=x")
    lines = str(error.value).splitlines()
    assert len(lines) == 4
    assert "--set connectome.data.paht=x: unknown setting 'connectome.data.paht'. Did you mean 'path'?" in lines
    assert "brain.yaml: connectome.split.folds is 1; it must be at least 2." in lines


def test_the_default_is_the_file_of_the_repository_and_fits_a_cpu():
    assert default_settings() == ROOT / "configs" / "connectome.yaml"
    config = load_connectome_config(default_settings())
    assert config.data.path is None
    assert config.data.max_genes <= 64
    assert config.model.d_model <= 32


def test_a_file_for_cells_and_one_for_regions_are_told_apart():
    with pytest.raises(ConfigError, match="give the file to scmodelforge connectome train"):
        load_config(ROOT / "configs" / "connectome.yaml")
    with pytest.raises(ConfigError, match="'data' is a setting of 'connectome'"):
        load_connectome_config(ROOT / "configs" / "quickstart.yaml")


class TestCommands:
    def ask(self, *words: object) -> str:
        result = CliRunner().invoke(app, ["config", *map(str, words)])
        assert result.exit_code == 0, result.output
        return result.stdout

    def test_show_prints_all_settings(self):
        shown = yaml.safe_load(self.ask("show", default_settings(), "--set", "training.epochs=2"))
        assert shown["connectome"]["training"]["epochs"] == 2
        assert set(shown["connectome"]) == set(ConnectomeFile.model_fields["connectome"].annotation.model_fields)

    def test_validate_takes_it(self):
        assert "is valid" in self.ask("validate", default_settings())

    def test_the_schema_has_every_setting_of_every_model(self):
        schema = json.loads(self.ask("schema"))
        section = schema["$defs"][schema["properties"]["connectome"]["$ref"].rpartition("/")[2]]
        forms = [form["allOf"][0]["$ref"].rpartition("/")[2] for form in section["properties"]["model"]["anyOf"]]
        found = [set(schema["$defs"][form]["properties"]) for form in forms]
        assert found == [set(model_section(name).model_fields) for name in list_connectome_models()]
        assert all(set(ConnectomeModelConfig.model_fields) < each for each in found)
