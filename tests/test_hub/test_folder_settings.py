"""``config.json`` of a model folder: whatever stands in it, there is a model or one line that says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from scmodelforge._errors import DataError
from scmodelforge.hub import Bundle, fine_tuned_from, load_bundle, save_bundle
from scmodelforge.hub.bundle import load_parts
from scmodelforge.hub.folder_settings import check_objective, read_folder_settings, read_model_settings

from .test_bundle import make_bundle

WRONG: list[Any] = [None, "foo", 0, -3, 1.5, True, [], [None], {"a": {"b": None}}, float("nan"), 2**70]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where each value of an object is, objects before what is in them."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield (*path, key)
            yield from places(below, (*path, key))


def changed(settings: dict[str, Any], path: tuple[Any, ...], value: Any = None, *, drop: bool = False) -> str:
    new = json.loads(json.dumps(settings))
    target = new
    for key in path[:-1]:
        target = target[key]
    if drop:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return json.dumps(new)


@pytest.fixture
def folder(tmp_path) -> Path:
    save_bundle(tmp_path / "model", make_bundle(), card="A card.\n")
    return tmp_path / "model"


@pytest.fixture
def tuned(tmp_path) -> Path:
    """Make a folder of a model around another one, whose settings are nested."""
    body = make_bundle()
    save_bundle(tmp_path / "tuned", fine_tuned_from(body, ["a", "b"]), card="")
    return tmp_path / "tuned"


def refusal_of(folder: Path, *, whole: bool) -> str | Bundle | None:
    """Return why a folder is refused, or its model; without ``whole`` its settings alone are read."""
    try:
        settings = read_folder_settings(folder)
        read_model_settings(settings, folder)
        check_objective(settings, folder, is_own_possible=False)
        return load_bundle(folder) if whole else None
    except DataError as problem:
        return str(problem)


def try_all(folder: Path, *, whole: bool = False) -> list[str]:
    """Change every value of ``config.json`` in every way; return the lines of refusals."""
    path = folder / "config.json"
    settings, state = json.loads(path.read_text()), load_bundle(folder).model.state_dict()
    texts = [(where, changed(settings, where, drop=True)) for where in places(settings)]
    texts += [(where, changed(settings, where, value)) for where in places(settings) for value in WRONG]
    texts += [((*where, "unheard_of"), changed(settings, (*where, "unheard_of"), 1)) for where in [(), ("model",)]]
    lines = []
    for where, text in texts:
        path.write_text(text)
        found = refusal_of(folder, whole=whole)
        if isinstance(found, str):
            assert "\n" not in found, where
            assert str(folder) in found, where
            lines.append(found)
        elif found is not None:  # the change says the same, or is about training or numbers alone
            assert all(torch.equal(weight, state[name]) for name, weight in found.model.state_dict().items()), where
            assert found.objective == settings["objective"], where
    path.write_text(json.dumps(settings))
    return lines


class TestWhateverStandsInIt:
    def test_is_a_model_or_one_line(self, folder):
        lines = try_all(folder)
        assert len(lines) > 100
        assert any("objective is missing" in line for line in lines)

    def test_also_around_another_model(self, tuned):
        assert any("model.backbone" in line for line in try_all(tuned))

    @pytest.mark.slow
    def test_a_model_that_is_loaded_has_the_weights_of_the_file(self, folder, tuned):
        assert any("no model can be made" in line for line in try_all(folder, whole=True))
        try_all(tuned, whole=True)

    @pytest.mark.parametrize("content", ["[]", "null", '"text"', "3", "", "{", '{"format_version": 1}'])
    def test_also_if_it_is_no_object(self, folder, content):
        (folder / "config.json").write_text(content)
        with pytest.raises(DataError, match=r"config\.json"):
            load_parts(folder)


class TestWhatIsSaid:
    def refusal(self, folder: Path, *path: str, value: Any = None, drop: bool = False) -> str:
        settings = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(changed(settings, path, value, drop=drop))
        with pytest.raises(DataError) as caught:
            load_parts(folder)
        return str(caught.value)

    def test_an_objective_that_is_none(self, folder):
        found = self.refusal(folder, "objective", value="foo")
        assert found.startswith(f"{folder}/config.json: objective is 'foo'; one of ")
        assert "masked_gene_prediction" in found

    def test_plugins_that_are_a_text(self, folder):
        assert 'plugins is "x.py" (Input should be a valid list)' in self.refusal(folder, "plugins", value="x.py")

    def test_what_is_missing_or_unknown(self, folder):
        assert "config.json: model is missing; copy or export" in self.refusal(folder, "model", drop=True)

    def test_what_is_unknown(self, folder):
        assert "config.json: model.hiden_dim is unknown; " in self.refusal(folder, "model", "hiden_dim", value=3)

    def test_an_architecture_that_is_none(self, folder):
        found = self.refusal(folder, "model", "architecture", value="transformer_encodr")
        assert "model.architecture: unknown model 'transformer_encodr'. Did you mean 'transformer_encoder'" in found

    def test_settings_that_do_not_go_together(self, folder):
        settings = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(changed(settings, ("model", "num_heads"), 3))
        with pytest.raises(DataError, match=r"config\.json: no model can be made of its settings \(.*heads"):
            load_bundle(folder)

    def test_true_is_no_version(self, folder):
        assert "model folder of format true, this version reads format 1" in self.refusal(
            folder, "format_version", value=True
        )
