from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config.schema import SplitConfig
from scmodelforge.data.selection import choose_cells, filtered_out
from scmodelforge.data.split_files import read_split, write_split
from scmodelforge.data.splits import CellSplit, split_cells, split_digest

from .sources import MemorySource

NONE = np.zeros(0, dtype=np.int64)
OBS = {"donor_id": [f"d{cell // 10}" for cell in range(60)], "kind": ["a", "b", "c"] * 20}


class HashedSource(MemorySource):
    """A source whose files have content to tell them by."""

    def __init__(self, sizes=(25, 35), contents=("one", "two"), names=None) -> None:
        super().__init__(sizes, obs=OBS)
        self.contents = contents
        self.names = names or [panel.name for panel in self.panels]

    def fingerprint(self) -> list[dict]:
        facts = zip(self.names, self.file_sizes, self.contents, strict=True)
        return [{"name": name, "cells": cells, "bytes": 9, "sha256": content} for name, cells, content in facts]


def stored(folder: Path, source=None, *, excluded=NONE, expression=None, **settings) -> tuple[Path, CellSplit]:
    source = source or HashedSource()
    split = split_cells(source, SplitConfig(**{"by": "donor_id", "validation_fraction": 0.3, **settings}),
                        excluded=excluded)  # fmt: skip
    write_split(folder / "splits.json", split, source, expression=expression)
    return folder / "splits.json", split


class TestFilter:
    def test_without_one_no_cell_is_left_out(self):
        assert filtered_out(HashedSource(), None).tolist() == []

    def test_leaves_out_the_others_and_says_how_many_are_kept(self, caplog):
        with caplog.at_level(logging.INFO):
            found = filtered_out(HashedSource(), "kind != 'b'")
        assert found.tolist() == list(range(1, 60, 3))
        assert caplog.messages == ["data.filter keeps 40 of 60 cells (kind != 'b')"]

    def test_one_that_holds_for_no_cell_is_refused(self):
        with pytest.raises(DataError, match=r"data\.filter \(kind == 'z'\) holds for none of the 60 cells; widen it"):
            filtered_out(HashedSource(), "kind == 'z'")

    def test_filtered_cells_are_on_neither_side(self):
        found = choose_cells(HashedSource(), SplitConfig(by="donor_id"), expression="kind == 'a'")
        assert not (np.concatenate([found.train, found.validation]) % 3).any()
        assert len(found.train) + len(found.validation) == 20

    def test_groups_without_a_cell_that_is_kept_are_not_drawn(self):
        found = choose_cells(HashedSource(), SplitConfig(by="donor_id"), expression="donor_id in ['d0', 'd1']")
        assert found.num_groups == 2
        assert set(found.groups) < {"d0", "d1"}

    def test_what_cannot_be_read_is_refused(self):
        with pytest.raises(ConfigError, match=r"data\.filter is 'kind = 1'"):
            choose_cells(HashedSource(), SplitConfig(), expression="kind = 1")


class TestSplitFile:
    def test_comes_back_the_same(self, tmp_path):
        path, split = stored(tmp_path)
        back = read_split(path, HashedSource())
        assert back.to_dict() == split.to_dict()
        chosen = choose_cells(HashedSource(), SplitConfig(file=str(path)), expression=None)
        assert chosen.to_dict() == split.to_dict()

    def test_is_a_run_s_split_and_the_files_it_is_of(self, tmp_path):
        path, split = stored(tmp_path, expression="kind == 'a'")
        content = json.loads(path.read_text())
        files = [
            {"name": "file0", "cells": 25, "bytes": 9, "sha256": "one"},
            {"name": "file1", "cells": 35, "bytes": 9, "sha256": "two"},
        ]
        ours = {key: value for key, value in split.to_dict().items() if key != "hash"}
        assert content.pop("hash") == split_digest(content)
        assert content == {**ours, "split_hash": split.to_dict()["hash"], "filter": "kind == 'a'", "files": files}
        assert [each.name for each in tmp_path.iterdir()] == ["splits.json"]

    def test_names_of_files_do_not_matter(self, tmp_path):
        path, split = stored(tmp_path)
        assert read_split(path, HashedSource(names=["x", "y"])).to_dict() == split.to_dict()

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            (
                HashedSource(contents=("one", "other")),
                "is a split of other data: file 2 is file1 with 35 cells, it was file1 with 35 cells and other content",
            ),
            (HashedSource((60,), ("one",)), r"is a split of 2 files \(file0, file1\), but the data have 1"),
            (
                HashedSource((35, 25), ("two", "one")),
                r"is a split of the same files in another order; list them in data\.paths as: file0, file1\.",
            ),
        ],
    )
    def test_other_data_are_refused_with_what_differs(self, tmp_path, source, words):
        path, _ = stored(tmp_path)
        with pytest.raises(DataError, match=rf"splits\.json {words}"):
            choose_cells(source, SplitConfig(file=str(path)), expression=None)

    def test_a_file_that_is_known_by_something_else_there_is_told_so(self, tmp_path):
        class Elsewhere(HashedSource):
            def fingerprint(self) -> list[dict]:
                return [{**entry, "sha256": "x", "sha256_of": "ETag and size"} for entry in super().fingerprint()]

        path, _ = stored(tmp_path, Elsewhere())

        class Here(HashedSource):
            def fingerprint(self) -> list[dict]:
                return [{**entry, "sha256_of": "content"} for entry in super().fingerprint()]

        words = r"splits\.json knows file0 by its ETag and size, and here it is known by its content; split the data"
        with pytest.raises(DataError, match=words):
            read_split(path, Here())

    @pytest.mark.parametrize(("key", "value"), [("validation", [[0, 3]]), ("files", []), ("filter", "x"), ("seed", 4)])
    def test_one_that_was_edited_is_refused(self, tmp_path, key, value):
        path, _ = stored(tmp_path)
        path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
        with pytest.raises(DataError, match=r"The stored split \(.*splits\.json\) is damaged or was edited: its hash"):
            read_split(path, HashedSource())

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (None, "no file '.*'; correct the path, or make one with: scmodelforge data split"),
            ("{", r"cannot be read \(.*\); make one with: scmodelforge data split"),
            ("[]", "is no split; make one with: scmodelforge data split"),
            ('{"train": []}', "is no split; make one with: scmodelforge data split"),
        ],
    )
    def test_what_is_no_split_is_refused(self, tmp_path, content, words):
        path = tmp_path / "s.json"
        if content is not None:
            path.write_text(content)
        with pytest.raises(DataError, match=rf"data\.split\.file: .*{words}"):
            read_split(path, HashedSource())

    def test_a_run_s_own_split_away_from_its_run_does_not_say_of_which_files(self, tmp_path):
        split = split_cells(HashedSource(), SplitConfig(), excluded=NONE)
        (tmp_path / "splits.json").write_text(json.dumps(split.to_dict()))
        with pytest.raises(DataError, match=r"does not say which files it is a split of, and no run\.json beside"):
            read_split(tmp_path / "splits.json", HashedSource())

    def test_cells_that_the_filter_leaves_out_are_taken_from_both_sides(self, tmp_path):
        path, split = stored(tmp_path)
        found = choose_cells(HashedSource(), SplitConfig(file=str(path)), expression="kind == 'a'")
        assert np.array_equal(found.train, split.train[split.train % 3 == 0])
        assert np.array_equal(found.validation, split.validation[split.validation % 3 == 0])

    def test_a_filter_that_leaves_a_side_without_cells_is_refused(self, tmp_path):
        path, _ = stored(tmp_path, validation_groups=["d1"])
        words = r"data\.filter \(donor_id != 'd1'\) leaves none of the 10 held-out cells of .*splits\.json; widen it"
        with pytest.raises(DataError, match=words):
            choose_cells(HashedSource(), SplitConfig(file=str(path)), expression="donor_id != 'd1'")

    def test_cells_that_the_file_has_on_neither_side_are_counted(self, tmp_path, caplog):
        path, _ = stored(tmp_path, excluded=np.arange(7))
        with caplog.at_level(logging.INFO):
            choose_cells(HashedSource(), SplitConfig(file=str(path)), expression=None)
        assert caplog.messages == [f"{path} has 7 further cells of the data on neither side; they are left out"]
