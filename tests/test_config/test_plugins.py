"""A user's own parts: imported before the sections are read, once, and blamed by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scmodelforge import _registry
from scmodelforge._errors import ConfigError
from scmodelforge.config import load_config, load_plugins
from tests.test_config.conftest import MINIMAL

MODEL = """
from __future__ import annotations

from pydantic import Field

from scmodelforge._registry import MODELS
from scmodelforge.config.schema import ModelConfig


class MineConfig(ModelConfig):
    depth: int | None = Field(3, gt=0)


@MODELS.register("mine")
class Mine:
    config_class = MineConfig
    unused_settings = frozenset({"num_heads"})
"""


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    """Leave registries and modules as they were."""
    _registry.MODELS.names()
    monkeypatch.setattr(_registry.MODELS, "_parts", dict(_registry.MODELS._parts))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


class TestFiles:
    def test_lie_beside_the_settings_file_and_bring_settings_of_their_own(self, write, tmp_path, monkeypatch):
        monkeypatch.chdir("/")
        write(MODEL, "my_model.py")
        path = write("plugins: [my_model.py]\nmodel: {architecture: mine, depth: 5}\n" + MINIMAL)
        config = load_config(path)
        assert config.plugins == ["my_model.py"]
        assert config.model.depth == 5
        assert load_config(path, ["model.depth=null"]).model.depth is None

    def test_a_copy_elsewhere_is_the_same_plugin(self, write, tmp_path):
        first = write(MODEL, "my_model.py")
        load_plugins(["my_model.py"], tmp_path)
        (tmp_path / "model" / "plugins").mkdir(parents=True)
        (tmp_path / "model" / "plugins" / "my_model.py").write_bytes(first.read_bytes())
        load_plugins(["plugins/my_model.py", str(first)], tmp_path / "model")
        assert "mine" in _registry.MODELS.names()

    def test_that_are_not_there(self, mistakes, tmp_path):
        assert mistakes("plugins: [gone.py]\n" + MINIMAL) == [
            "run.yaml: plugin 'gone.py' cannot be read (gone.py: No such file or directory); "
            "paths are relative to the settings file."
        ]

    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            ("x = 1\nimport nothing_of_this_name\n", "in line 2 when it was imported: ModuleNotFoundError: No module"),
            ("def f(:\n", "in line 1 when it was imported: SyntaxError: invalid syntax"),
            ("def f():\n    raise KeyError('x')\nf()\n", "in line 2 when it was imported: KeyError: 'x'"),
            (MODEL.replace('"mine"', '"gene_pooling"'), "ValueError: model 'gene_pooling' is already registered, by"),
        ],
    )
    def test_that_fail(self, mistakes, write, code, reason):
        write(code, "broken.py")
        (line,) = mistakes("plugins: [broken.py]\nmodel: {architecture: mine}\n" + MINIMAL)
        assert line.startswith("run.yaml: plugin 'broken.py' failed ")
        assert reason in line
        assert not [name for name in sys.modules if name.startswith("scmodelforge_plugin_broken")]

    def test_that_were_mended_work_in_the_same_process(self, mistakes, write, tmp_path):
        write("1 / 0\n", "my_model.py")
        mistakes("plugins: [my_model.py]\n" + MINIMAL)
        write(MODEL, "my_model.py")
        load_plugins(["my_model.py"], tmp_path)
        assert "mine" in _registry.MODELS.names()


class TestModules:
    def test_are_imported_by_name(self, write, tmp_path, monkeypatch):
        write(MODEL, "installed_model.py")
        monkeypatch.syspath_prepend(tmp_path)
        load_plugins(["installed_model"], Path())
        assert _registry.MODELS.get("mine").__module__ == "installed_model"

    @pytest.mark.parametrize("name", ["nothing_of_this_name", "json.nothing", "my-model", "", "..", "run.yml"])
    def test_that_are_not_installed(self, name):
        with pytest.raises(ConfigError, match=r"is no installed module; write a file with its ending, \.py, or"):
            load_plugins([name], Path())

    def test_that_fail(self, write, tmp_path, monkeypatch):
        write("import nothing_of_this_name\n", "broken_module.py")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(ConfigError, match="'broken_module' failed when it was imported: ModuleNotFoundError"):
            load_plugins(["broken_module"], Path())


@pytest.mark.parametrize("value", ["my_model.py", "[3]", "{a: 1}"])
def test_plugins_are_a_list_of_names(mistakes, value):
    (line,) = mistakes(f"plugins: {value}\n{MINIMAL}")
    assert line.startswith("run.yaml: plugins is ")
    assert line.endswith("; it must be a list of Python files or module names.")
