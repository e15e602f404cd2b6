"""Tables of scores as a newcomer reads them: one for each benchmark, narrow, with the meaning of every sign."""

from __future__ import annotations

import pytest

from scmodelforge import _console
from scmodelforge.eval.base import Record
from scmodelforge.eval.merging import Result, about_baselines, merged
from scmodelforge.eval.tables import about_details, broken, terminal_tables

WIDTH = 100  # of a pipe


def records(benchmark: str = "b", *, names=("model", "pca"), metrics=("m",), **fields) -> list[Record]:
    return [
        Record(benchmark, "d", name, metric, 0.5, [0.4, 0.6], n=9, **fields) for metric in metrics for name in names
    ]


def printed(shown, capsys) -> list[str]:
    _console.tables(shown.tables, title="title", legend=shown.legend)
    return capsys.readouterr().out.splitlines()


class TestBlocks:
    def test_each_benchmark_has_a_table_with_the_columns_that_it_has(self):
        mixed = [*records("x"), *records("y", names=("model", "target"))]
        found = terminal_tables(mixed).tables
        assert [(table.title, table.columns) for table in found] == [
            ("x (d)", ["metric", "model", "pca"]),
            ("y (d)", ["metric", "model", "target"]),
        ]

    def test_no_line_is_wider_than_a_terminal_and_nothing_is_lost(self, capsys):
        names = ["model", *(f"baseline_{number}" for number in range(12)), "a_run_with_a_very_long_name_of_its_own"]
        metrics = ["auroc", "auprc_ratio_cosine_contextual_" + "tf_target_dorothea_ABC_human_with_confidence"]
        shown = terminal_tables(records(names=names, metrics=metrics, group_interval=[0.1, 0.9], group_key="donor"))
        lines = printed(shown, capsys)
        assert max(map(len, lines)) <= WIDTH
        assert len(shown.tables) > 2
        headings = [name.replace("\n", "") for table in shown.tables for name in table.columns]
        assert set(headings) == {"metric", *names}
        assert all(headings.count(name) == 1 for name in names[1:])
        for table in shown.tables:  # each can be read by itself
            assert table.columns[:2] == ["metric", "model"]
            assert [row[0].replace("\n", "") for row in table.rows] == metrics

    def test_a_narrower_terminal_has_more_tables(self):
        names = ["model", *(f"baseline_{number}" for number in range(4))]
        wide, narrow = (terminal_tables(records(names=names), width=width).tables for width in (100, 60))
        assert len(narrow) > len(wide) == 1

    def test_title_and_signs_are_broken_into_lines(self, capsys):
        long = Record("b", f"cells [{', '.join(['split abcdefgh'] * 12)}]", "model", "m", 0.5, noise_ceiling=0.9)
        assert max(map(len, printed(terminal_tables([long]), capsys))) <= WIDTH

    @pytest.mark.parametrize("text", ["macro_f1_linear_probe", "x" * 50, "runs/a/b-c:pca", "", "_____"])
    def test_a_broken_name_is_the_same_name(self, text):
        lines = broken(text, 9).split("\n")
        assert "".join(lines) == text
        assert max(map(len, lines)) <= 9


class TestCeiling:
    def test_is_a_column_that_says_what_it_is(self, capsys):
        found = [*records(metrics=["m"], noise_ceiling=0.875), *records(metrics=["other"])]
        shown = terminal_tables(found)
        (table,) = shown.tables
        assert table.columns[-1] == "noise ceiling"
        assert [row[-1] for row in table.rows] == ["0.875", "-"]
        assert "two halves of the measured cells" in " ".join(printed(shown, capsys))

    def test_stands_there_where_the_model_has_no_score(self):
        model, pca = records(noise_ceiling=0.75)
        model.value = model.interval = None
        assert terminal_tables([model, pca]).tables[0].rows == [["m", "skipped", "0.500* ±0.100", "0.750"]]

    def test_has_no_column_where_none_is_known(self, capsys):
        shown = terminal_tables(records())
        assert shown.tables[0].columns == ["metric", "model", "pca"]
        assert "ceiling" not in " ".join(printed(shown, capsys))


class TestSigns:
    def test_only_those_that_are_used_are_explained(self):
        plain = terminal_tables([Record("b", "d", "model", "m", 0.5)])
        assert [line[0] for line in plain.legend] == ["*"]
        low = Record("b", "d", "model", "m", 0.5, higher_is_better=False, params={"trained_on": True})
        found = terminal_tables([low, Record("b", "d", "model", "n", 0.5, baselines={"tf_degree": 0.9})])
        assert found.tables[0].rows == [["m ↓", "0.500‡", "-"], ["n", "0.500*", "0.900"]]
        assert found.tables[0].columns == ["metric", "model", "tf_degree†"]
        assert {line[0] for line in found.legend} == {"*", "↓", "‡", "†"}
        assert any("tf_degree: counted from the known edges" in line for line in found.legend)

    def test_of_several_runs_the_one_trained_on_the_cells_has_no_star_beside_one_that_was_not(self):
        ours, theirs = (
            Record("b", "d", "model", "m", value, params={"trained_on": is_trained})
            for value, is_trained in ((0.9, True), (0.7, False))
        )
        pca = Record("b", "d", "pca", "m", 0.6, params={"trained_on": True})
        found = merged([Result("a", ours), Result("a", pca), Result("b", theirs)])
        assert terminal_tables(found).tables[0].rows == [["m", "0.900‡", "0.700*", "0.600"]]


class TestDetails:
    def nearest(self, name: str = "model") -> Record:
        table = {"gene": ["CD3E", "CD3E", "LYZ"], "rank": [1, 2, 1], "neighbour": ["CD3D", "CD2", "CST3"],
                 "cosine": [0.912, 0.7, 0.5]}  # fmt: skip
        return Record("gene_embedding_quality", "d", name, "nearest_cosine_input", 0.7, is_detail=True,
                      params={"vectors": "input"}, tables={"nearest": table})  # fmt: skip

    def test_nearest_genes_are_a_table_with_a_row_for_each_gene_asked_for(self):
        found = terminal_tables([*records(), self.nearest()], details=True).tables
        assert found[-1].title == "nearest genes of model, by the cosine of input vectors (d)"
        assert found[-1].rows == [["CD3E", "CD3D 0.91, CD2 0.70"], ["LYZ", "CST3 0.50"]]

    def test_short_tables_say_how_to_see_them(self):
        found = [*records(), self.nearest()]
        assert "LYZ" not in str(terminal_tables(found))
        (line,) = about_details(found)
        assert "1 more metric and the nearest genes" in line
        assert "results show PATH --details" in line
        assert about_details(records()) == []


class TestOtherBaselines:
    def test_that_differ_between_runs_are_explained(self):
        def of(run, value):
            return [Result(run, Record("b", "d", name, "m", value)) for name in ("model", "pca")]

        (line,) = about_baselines(merged([*of("a", 0.6), *of("b", 0.7)]))
        assert line.startswith("pca: not the same in all runs")
        assert "vocabulary" in line
        assert about_baselines(merged([*of("a", 0.6), *of("b", 0.6)])) == []
        assert about_baselines(merged(of("a", 0.6))) == []
