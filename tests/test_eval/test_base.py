from __future__ import annotations

import json

import numpy as np
import pytest

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.eval.base import Record, check_columns, get_benchmark, list_benchmarks
from scmodelforge.eval.records import append_records, read_records, truncate_records
from tests.test_eval.scoring import clustered


def a_record(**fields) -> Record:
    given = {"benchmark": "b", "dataset": "d", "representation": "model", "metric": "m", "value": 0.5, **fields}
    return Record(**given)


class TestRegistry:
    def test_finds_every_benchmark_of_the_package(self):
        assert {"batch_integration", "cell_type_annotation", "embedding_quality"} <= set(list_benchmarks())

    def test_refuses_an_unknown_one_with_the_nearest(self):
        with pytest.raises(ConfigError, match="Did you mean 'embedding_quality'"):
            get_benchmark("embeding_quality")

    def test_says_which_column_is_not_set(self):
        check_columns("embedding_quality", label_key="cell_type", batch_key=None)
        with pytest.raises(ConfigError, match=r"'batch_integration' needs a batch column.*data\.batch_column"):
            check_columns("batch_integration", label_key="cell_type", batch_key=None)


class TestRecord:
    def test_is_plain_and_comes_back_whole(self):
        record = clustered().record("b", "m", np.float64(0.25), library="numpy", params={"k": 3}, interval=[0.1, 0.4])
        again = Record.from_dict(json.loads(json.dumps(record.to_dict(), allow_nan=False)))
        assert again == record
        assert record.key == "eval/b/cells/m"
        assert record.library.startswith("scmodelforge ")

    def test_keeps_intervals_over_groups_and_what_it_is_made_of(self):
        fields = {"group_interval": [0.1, 0.9], "group_key": "donor", "noise_ceiling": 0.8, "subsample": 9}
        record = clustered().record("b", "m", 0.5, library="numpy", tables={"confusion": [[1, 0], [0, 2]]}, **fields)
        again = Record.from_dict(json.loads(json.dumps(record.to_dict())))
        assert again.tables == {"confusion": [[1, 0], [0, 2]]}
        assert {name: getattr(again, name) for name in fields} == fields

    def test_never_holds_nan(self):
        record = clustered().record("b", "m", float("nan"), library="numpy")
        assert (record.value, record.skipped_reason) == (None, "it is not defined for these cells")

    def test_refuses_fields_of_another_version(self):
        with pytest.raises(DataError, match="unknown field 'colour'"):
            Record.from_dict({**a_record().to_dict(), "colour": "red"})
        with pytest.raises(DataError, match="no field 'metric'"):
            Record.from_dict({"benchmark": "b", "dataset": "d", "representation": "model", "value": 1.0})


class TestFile:
    def test_holds_one_record_a_line_and_grows(self, tmp_path):
        path = tmp_path / "results.jsonl"
        records = [a_record(step=step) for step in (1, 2)]
        append_records(path, records[:1])
        append_records(path, records[1:])
        assert read_records(path) == records
        assert len(path.read_text().splitlines()) == 2

    def test_truncated_loses_later_steps_and_a_line_cut_off(self, tmp_path):
        path = tmp_path / "results.jsonl"
        append_records(path, [a_record(step=step) for step in (1, 2, 3)])
        path.write_text(path.read_text() + '{"benchmark": "b", "da')
        truncate_records(path, 2)
        assert [record.step for record in read_records(path)] == [1, 2]
        assert [each.name for each in tmp_path.iterdir()] == ["results.jsonl"]

    def test_need_not_be_there_to_be_truncated(self, tmp_path):
        truncate_records(tmp_path / "results.jsonl", 0)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("line", ["nonsense", "[1, 2]", '{"benchmark": "b"}'])
    def test_with_a_wrong_line_is_refused_with_its_number(self, tmp_path, line):
        path = tmp_path / "results.jsonl"
        append_records(path, [a_record()])
        path.write_text(path.read_text() + line + "\n")
        with pytest.raises(DataError, match=r"results\.jsonl, line 2"):
            read_records(path)

    def test_that_is_missing_is_named(self, tmp_path):
        with pytest.raises(DataError, match="no such file"):
            read_records(tmp_path / "results.jsonl")
