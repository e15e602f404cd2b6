"""Text of settings files: what YAML makes of it, and one line for each file that cannot be read."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge._errors import ConfigError
from scmodelforge.config.faults import Faults
from scmodelforge.config.files import read_overrides, read_settings, write_yaml
from scmodelforge.config.load import load_config


def value_of(text: str):
    """Return what a value becomes."""
    faults = Faults("run.yaml")
    value = read_overrides([f"a={text}"], faults)["a"]
    faults.raise_if_any()
    return value


class TestValues:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("1e-4", 1e-4),
            ("1E5", 1e5),
            ("-2e+3", -2e3),
            ("1.5e3", 1.5e3),
            (".5", 0.5),
            ("1_000.5", 1000.5),
            ("3.", 3.0),
        ],
    )
    def test_numbers_with_exponents_and_points_are_numbers(self, text, value):
        assert value_of(text) == value
        assert isinstance(value_of(text), float)

    @pytest.mark.parametrize(("text", "value"), [("0", 0), ("-7", -7), ("10_000", 10_000), ("0x1f", 31)])
    def test_whole_numbers_are_whole(self, text, value):
        assert value_of(text) == value
        assert isinstance(value_of(text), int)

    @pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), ("yes", True), ("off", False)])
    def test_yaml_booleans_stay_booleans(self, text, value):
        assert value_of(text) is value

    @pytest.mark.parametrize("text", ["12:30", "2024-01-31", "007", "1e", "e5", "1e-4x", "nothing"])
    def test_everything_else_is_text(self, text):
        assert value_of(text) == text

    @pytest.mark.parametrize("text", ["", "null", "~"])
    def test_nothing_is_nothing(self, text):
        assert value_of(text) is None

    def test_keys_are_text_as_written(self, write):
        assert read_settings(write("1: a\nyes: b\nnull: c\n"), Faults("run.yaml")) == {
            "1": "a",
            "yes": "b",
            "null": "c",
        }

    def test_anchors_and_merges_work_and_a_merged_key_may_be_set_again(self, write):
        text = "a: &a {lr: 1, eps: 2}\nb:\n  c: &c\n    <<: *a\n    lr: 3\nd:\n  <<: *c\n"
        raw = read_settings(write(text), Faults("run.yaml"))
        assert raw["b"]["c"] == raw["d"] == {"lr": 3, "eps": 2}


class TestUnreadableFiles:
    @pytest.mark.parametrize(
        ("name", "text", "line"),
        [
            ("run.json", "{}", "unknown kind of settings file '.json'; use .yaml, .yml or .toml."),
            ("run", "a: 1", "unknown kind of settings file ''; use .yaml, .yml or .toml."),
            ("run.yaml", "", "the file is empty; it must have at least the section 'data'."),
            ("run.yaml", "# only a comment\n", "the file is empty; it must have at least the section 'data'."),
            ("run.toml", "", "the file is empty; it must have at least the section 'data'."),
            (
                "run.yaml",
                "- a\n- b\n",
                "the file holds ['a', 'b']; it must hold sections such as 'data:' with settings",
            ),
            ("run.yaml", "hello", "the file holds 'hello'; it must hold sections"),
            ("run.yaml", "data:\n\tpaths: [a]\n", "line 2 is indented with a tab; YAML wants spaces."),
            ("run.yaml", "data:\n  paths: [a\nmodel:\n", "not valid YAML"),
            ("run.yaml", "data: !!python/object:os.system x\n", "line 1: not valid YAML: could not determine"),
            ("run.yaml", "a: 1\n---\nb: 2\n", "not valid YAML"),
            ("run.yaml", "? [a]\n: 1\n", "line 1: not valid YAML: found unhashable key"),
            ("run.yaml", "a: \x01\n", "not valid YAML"),
            ("run.yaml", "a: &a [*a]\n", "not valid YAML: Circular reference detected."),
            ("run.toml", "data = \n", "not valid TOML: Invalid value (at line 1, column 8)."),
            ("run.toml", "a = 1\na = 2\n", "not valid TOML: Cannot overwrite a value"),
        ],
    )
    def test_is_one_clear_line_with_the_file(self, mistakes, name, text, line):
        (found,) = mistakes(text, name=name)
        assert found.startswith(f"{name}: ")
        assert line in found

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(ConfigError, match=r"gone\.yaml: no such file; check the path"):
            load_config(tmp_path / "gone.yaml")

    def test_a_folder(self, tmp_path):
        (tmp_path / "folder.yaml").mkdir()
        with pytest.raises(ConfigError, match=r"folder\.yaml: cannot be read \(Is a directory\)"):
            load_config(tmp_path / "folder.yaml")

    def test_another_encoding(self, tmp_path):
        (tmp_path / "latin.yaml").write_bytes("data: {label_column: Zelltyp-Übersicht}".encode("latin-1"))
        with pytest.raises(ConfigError, match=r"latin\.yaml: not a text file in UTF-8"):
            load_config(tmp_path / "latin.yaml")

    def test_every_key_that_is_written_twice_is_told_with_its_lines(self, mistakes):
        text = "data:\n  paths: [a]\n  num_workers: 1\n  num_workers: 2\ndata:\n  paths: [b]\n"
        assert mistakes(text) == [
            "run.yaml: line 4: 'num_workers' is written twice, first in line 3; keep one of them.",
            "run.yaml: line 5: 'data' is written twice, first in line 1; keep one of them.",
        ]


class TestWriting:
    @given(
        st.dictionaries(
            st.text(),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
                lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
                max_leaves=5,
            ),
            min_size=1,
        )
    )
    def test_this_and_any_other_reader_give_back_the_values(self, values):
        text = write_yaml(values)
        faults = Faults("run.yaml")
        assert read_overrides([f"a={text}"], faults) == {"a": values}
        assert not faults
        assert yaml.safe_load(text) == values

    @pytest.mark.parametrize("text", ["1e-4", "yes", "007", "12:30", "2024-01-31", "null", "", "a: b", "[x]", "- a"])
    def test_text_that_looks_like_something_else_is_quoted(self, text):
        assert value_of(write_yaml({"key": text})) == {"key": text}
