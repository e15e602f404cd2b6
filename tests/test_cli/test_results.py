"""``evaluate`` with baselines, several models and pictures; ``results show`` and ``results compare``."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from scmodelforge.eval.base import Record
from scmodelforge.eval.records import append_records, read_records
from tests.conftest import make_adata
from tests.test_life_cycle import settings


def invoke(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def answer(*words: object) -> str:
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def refusal(*words: object) -> str:
    """Return the one line that a wrong command is answered with."""
    result = invoke(*words)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.strip().splitlines()
    return line


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, Path]:
    """Return two short runs on the same cells, which differ in what they learned."""
    folder = tmp_path_factory.mktemp("runs")
    make_adata(80, 30).write_h5ad(folder / "cells.h5ad")
    for name, seed in (("a", 0), ("b", 1)):
        config = settings(folder / "cells.h5ad", folder / name, training__max_epochs=1, eval__every_n_epochs=1)
        config["training"] |= {"steps_per_epoch": 2, "seed": seed}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
        answer("train", folder / f"{name}.yaml")
    return folder / "a", folder / "b"


class TestEvaluate:
    def test_several_runs_are_in_one_table_with_their_baselines(self, runs, tmp_path):
        out = tmp_path / "both.jsonl"
        table = answer("evaluate", *runs, "--baselines", "pca,hvg", "--eval", "embedding_quality", "--out", out)
        heading = next(line for line in table.splitlines() if line.split()[:1] == ["metric"])
        assert heading.split() == ["metric", "a", "b", "pca", "hvg"]
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        assert {line["run"] for line in lines} == {"a", "b"}
        assert {record.benchmark for record in read_records(out)} == {"embedding_quality"}
        assert answer("results", "show", out).splitlines()[2:] == table.splitlines()[2:]

    @pytest.mark.parametrize("place", ["last", "before an option", "before a run"])
    def test_baselines_without_names_are_those_that_need_no_training(self, runs, place):
        words = {
            "last": ["evaluate", runs[0], "--eval", "embedding_quality", "--json", "--baselines"],
            "before an option": ["evaluate", runs[0], "--baselines", "--eval", "embedding_quality", "--json"],
            "before a run": ["evaluate", "--json", "--eval", "embedding_quality", "--baselines", runs[0]],
        }[place]
        found = [json.loads(line) for line in answer(*words).splitlines()]
        assert {line["representation"] for line in found} == {"model", "pca", "hvg", "random", "untrained"}

    def test_benchmarks_may_be_repeated_or_listed(self, runs):
        words = ["evaluate", runs[0], "--json", "--baselines", "random"]
        listed = answer(*words, "--eval", "embedding_quality,cell_type_annotation")
        repeated = answer(*words, "--benchmark", "embedding_quality", "--benchmark", "cell_type_annotation")
        assert [json.loads(line)["metric"] for line in listed.splitlines()] == [
            json.loads(line)["metric"] for line in repeated.splitlines()
        ]

    def test_draws_what_it_scored(self, runs, tmp_path):
        words = ["evaluate", runs[0], "--eval", "embedding_quality", "--plots", tmp_path / "plots"]
        answer(*words)
        names = sorted(path.name for path in (tmp_path / "plots").iterdir())
        assert names == ["cells_by_batch.png", "cells_by_label.png", "scores_heldout.png"]
        assert "has pictures already (cells_by_batch.png)" in refusal(*words)

    def test_refuses_what_it_does_not_know(self, runs, tmp_path, monkeypatch):
        assert "unknown baseline 'pcaa'. Did you mean 'pca'?" in refusal("evaluate", runs[0], "--baselines", "pcaa")
        assert "no baseline is named" in refusal("evaluate", runs[0], "--baselines", ",")
        assert "no_such" in refusal("evaluate", runs[0], "--eval", "no_such")
        monkeypatch.setitem(__import__("sys").modules, "scvi", None)
        assert "pip install 'scmodelforge[scvi]'" in refusal("evaluate", runs[0], "--baselines", "scvi")

    def test_scores_no_more_cells_than_asked_for_and_says_so(self, runs, tmp_path):
        num_held_out = json.loads((runs[0] / "run.json").read_text())["num_validation"]
        words = ["evaluate", runs[0], "--eval", "embedding_quality", "--baselines", "random"]
        result = invoke(*words, "--max-cells", "12", "--out", tmp_path / "few.jsonl")
        assert result.exit_code == 0, result.output
        records = read_records(tmp_path / "few.jsonl")
        assert {(each.n + each.n_skipped, each.subsample) for each in records} == {(12, num_held_out)}
        said = f"12 of {num_held_out} held-out cells"
        assert result.stdout.lstrip().startswith(said + " (")
        line = f"heldout: {said} are scored, chosen by label and seed 0"
        assert line in result.stderr
        assert line in invoke("results", "show", tmp_path / "few.jsonl").stderr
        assert (
            answer(*words).lstrip().startswith(f"{num_held_out} held-out cells (")
        )  # the run's own limit is above that
        assert "held-out cells are scored" not in invoke(*words).stderr
        assert "--max-cells has no effect with --predictions" in refusal(
            "evaluate", "--predictions", "x.h5ad", "--data", "y.h5ad", "--max-cells", "12"
        )

    def test_scores_of_samples_of_two_sizes_never_share_a_row(self, runs, tmp_path):
        words = ["evaluate", runs[0], "--eval", "embedding_quality", "--baselines", "random", "--json", "--max-cells"]
        for size in (12, 14):
            (tmp_path / f"{size}.jsonl").write_text(answer(*words, size))
        files = [tmp_path / "12.jsonl", tmp_path / "14.jsonl"]
        table = answer("results", "show", *files)
        assert "12 of" in table
        assert "14 of" in table
        assert "different number of cells" in refusal("results", "compare", *files)


class TestShow:
    def test_runs_stand_side_by_side(self, runs):
        table = answer("results", "show", *runs, "--metric", "accuracy_*", "--benchmark", "cell_type_annotation")
        headings = [line.split() for line in table.splitlines() if line.split()[:1] == ["metric"]]
        assert headings[0][:3] == ["metric", "a", "b"]
        # Other first weights, the same counts.
        assert {"a:untrained", "b:untrained", "pca", "hvg"} <= {name for heading in headings for name in heading}
        assert "macro_f1" not in table

    def test_json_can_be_read_again(self, runs, tmp_path):
        both = tmp_path / "both.jsonl"
        both.write_text(answer("results", "show", *runs, "--json"))
        assert {json.loads(line)["run"] for line in both.read_text().splitlines()} == {"a", "b"}
        assert answer("results", "show", both) == answer("results", "show", *runs)

    def test_steps_of_training_are_columns(self, tmp_path):
        records = [Record("b", "d", "model", "m", value, step=step) for step, value in ((10, 0.5), (20, 0.7))]
        append_records(tmp_path / "results.jsonl", records)
        table = answer("results", "show", tmp_path / "results.jsonl", "--step", "all")
        assert "results@10" in table
        assert "results@20" in table
        assert "0.500" in answer("results", "show", tmp_path / "results.jsonl", "--step", 10)
        last = answer("results", "show", tmp_path / "results.jsonl")
        assert "0.700" in last
        assert "0.500" not in last

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            (["--benchmark", "cell_type_anotation"], "Did you mean 'cell_type_annotation'?"),
            (["--metric", "purity"], "no record is of 'purity'"),
            (["--step", "7"], "has no results of step 7; it has those of steps: 2"),
            (["--step", "first"], "--step is 'first'"),
        ],
    )
    def test_nothing_found_is_one_line(self, runs, words, expected):
        assert expected in refusal("results", "show", runs[0], *words)

    def test_what_cannot_be_read_is_one_line(self, tmp_path):
        assert "no such file" in refusal("results", "show", tmp_path / "none.jsonl")
        assert "has no results" in refusal("results", "show", tmp_path)
        newer = {**Record("b", "d", "model", "m", 1.0).to_dict(), "colour": "blue"}
        for name, text, words in [
            ("newer.jsonl", json.dumps(newer) + "\n", "line 1: not a result record of this version: unknown field"),
            ("other.jsonl", "[1, 2]\n", "line 1: not a JSON object"),
            ("empty.jsonl", "", "there are no records"),
        ]:
            (tmp_path / name).write_text(text)
            assert words in refusal("results", "show", tmp_path / name)
        (tmp_path / "cells.h5ad").write_bytes(b"\x89HDF\xff\xfe")
        assert "cannot be read as records" in refusal("results", "show", tmp_path / "cells.h5ad")

    def test_no_line_is_wider_than_a_terminal_and_each_benchmark_has_a_table(self, runs, tmp_path):
        both = tmp_path / "both.jsonl"
        evaluated = answer("evaluate", *runs, "--eval", "embedding_quality,cell_type_annotation", "--out", both)
        for text in (evaluated, answer("results", "show", both, "--details"), answer("results", "compare", both)):
            assert max(len(line) for line in text.splitlines()) <= 100
            for name in ("embedding_quality (heldout)", "cell_type_annotation (heldout)"):
                assert any(line.startswith(name) for line in text.splitlines())
        assert "* the best, and all that cannot be told apart from it" in evaluated

    def test_what_is_left_out_is_said_with_the_way_to_see_it(self, runs):
        assert "results show PATH --details" in invoke("results", "show", runs[0]).stderr
        assert "left out here" not in invoke("results", "show", runs[0], "--details").stderr

    def test_noise_ceiling_and_nearest_genes_are_shown(self, tmp_path):
        table = {"gene": ["CD3E"], "rank": [1], "neighbour": ["CD3D"], "cosine": [0.9]}
        append_records(
            tmp_path / "some.jsonl",
            [
                Record("perturbbench", "screen", "model", "average_rmse", 0.5, noise_ceiling=0.125),
                Record("genes", "screen", "model", "nearest", 0.9, is_detail=True, tables={"nearest": table}),
            ],
        )
        short, long = (answer("results", "show", tmp_path / "some.jsonl", *more) for more in ([], ["--details"]))
        assert "noise ceiling" in short
        assert "0.125" in short
        assert "two halves of the measured cells" in short
        assert "CD3D" not in short
        assert "CD3D 0.90" in long


class TestCompare:
    def test_a_file_of_two_runs_is_enough(self, runs, tmp_path):
        both = tmp_path / "both.jsonl"
        answer("evaluate", *runs, "--eval", "embedding_quality", "--out", both)
        text = answer("results", "compare", both)
        assert "\nA: a\nB: b\n" in text
        assert "3 of 3 metrics can be compared" in text
        line = refusal("results", "compare", runs[0])
        assert "has the records of 1 run (a), and two are compared" in line
        assert "scmodelforge evaluate A B --out both.jsonl" in line

    def test_without_scores_in_common_it_says_what_to_type_and_that_works(self, runs, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name, run in zip("ab", runs, strict=True):
            shutil.copytree(run, tmp_path / name)
            (tmp_path / name / "results.jsonl").unlink()
            (tmp_path / name / "exported_results.jsonl").unlink()
        line = refusal("results", "compare", "a", "b")
        assert line.startswith("error: a and b have no results; score both: ")
        commands = re.findall(r"scmodelforge ([^,]*?)(?=, and|\.$)", line)
        assert commands == ["evaluate a b --out both.jsonl", "results compare both.jsonl"]
        for command in commands:
            answer(*command.split())

    def test_other_cells_need_a_file_that_both_are_scored_on(self, runs, tmp_path):
        other = tmp_path / "run"
        shutil.copytree(runs[1], other)
        records = read_records(other / "exported_results.jsonl")
        for record in records:
            record.split_hash = "f" * 64
        (other / "exported_results.jsonl").unlink()
        append_records(other / "exported_results.jsonl", records)
        line = refusal("results", "compare", runs[0], other)
        assert f"scmodelforge evaluate {runs[0]} {other} --data CELLS.h5ad --out both.jsonl" in line

    def test_of_predictions_it_names_their_own_command(self, tmp_path):
        for name in "ab":
            params = {"scored_conditions": name * 16}
            record = Record("vcc", "screen", "model", "mae", 0.5, dataset_hash="d", split_hash="s", params=params)
            append_records(tmp_path / f"{name}.jsonl", [record])
        line = refusal("results", "compare", tmp_path / "a.jsonl", tmp_path / "b.jsonl")
        assert "scmodelforge evaluate --predictions A.h5ad --data REAL.h5ad" in line
        assert "results compare a.jsonl b.jsonl" in line

    def test_what_it_counts_and_does_not_print_is_said(self, runs):
        short, long = (answer("results", "compare", *runs, *more) for more in ([], ["--details"]))
        left = int(re.search(r"metrics can be compared; (\d+) of these are left out here, --details", short)[1])

        def rows(text):
            return [line for line in text.splitlines() if re.search(r" [+-]\d\.\d{4}  ", line)]

        assert len(rows(short)) + left == len(rows(long)) == 24
        assert "left out" not in long

    def test_says_why_the_baselines_of_two_runs_differ(self, tmp_path):
        for name, value in (("a", 0.7), ("b", 0.75)):
            same = {"dataset_hash": "d", "split_hash": "s", "n": 9}
            model = Record("b", "d", "model", "m", 0.5, baselines={"pca": value}, **same)
            append_records(tmp_path / f"{name}.jsonl", [model, Record("b", "d", "pca", "m", value, **same)])
        files = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
        for more in ([], ["--representation", "pca"]):
            said = invoke("results", "compare", *files, *more).stderr
            assert "pca: not the same in all runs, being made of the counts of the genes in a run's vocabulary" in said
        assert "not the same" not in invoke("results", "compare", files[0], files[0]).stderr

    def test_says_how_far_two_runs_are_apart_and_how_sure_that_is(self, runs):
        result = invoke("results", "compare", *runs)
        assert result.exit_code == 0, result.output
        # Annotation alone was run: eight scores of three probes; those of unknown labels have no value in either.
        assert "24 of 24 metrics can be compared" in result.stdout
        assert "unpaired" in result.stdout
        assert "would mostly be narrower" in result.stderr

    def test_json_has_the_difference_of_the_values(self, runs):
        found = [json.loads(line) for line in answer("results", "compare", *runs, "--json").splitlines()]
        values = [
            {r.key: r.value for r in read_records(run / "exported_results.jsonl") if r.representation == "model"}
            for run in runs
        ]
        assert {each["key"] for each in found} == {key for key, value in values[0].items() if value is not None}
        for each in found:
            assert each["difference"] == pytest.approx(values[1][each["key"]] - values[0][each["key"]])

    def test_of_a_baseline_on_the_same_cells_is_nothing(self, runs):
        found = answer("results", "compare", *runs, "--representation", "pca", "--json").splitlines()
        assert {json.loads(line)["difference"] for line in found} == {0.0}

    def test_nothing_comparable_is_one_line(self, runs, tmp_path):
        other = tmp_path / "other.jsonl"
        records = [r for r in read_records(runs[1] / "exported_results.jsonl") if r.representation == "model"]
        for record in records:
            record.split_hash = "f" * 64
        append_records(other, records)
        line = refusal("results", "compare", runs[0], other)
        assert "no score of" in line
        assert "different split" in line

    def test_what_is_not_comparable_is_listed_beside_what_is(self, runs, tmp_path):
        other = tmp_path / "other.jsonl"
        records = [r for r in read_records(runs[1] / "exported_results.jsonl") if r.representation == "model"]
        for record in records:
            if not record.metric.endswith("linear_probe"):
                record.params["k"] = 99
        append_records(other, records)
        result = invoke("results", "compare", runs[0], other)
        assert "8 of 24 metrics can be compared" in result.stdout
        assert "not comparable: different k (15 and 99): 16 metrics" in result.stderr

    def test_of_other_metrics_is_one_line(self, runs, tmp_path):
        append_records(tmp_path / "other.jsonl", [Record("b", "d", "model", "m", 1.0)])
        assert "no metric of 'model' is in both" in refusal("results", "compare", runs[0], tmp_path / "other.jsonl")
