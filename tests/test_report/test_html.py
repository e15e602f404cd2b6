"""The page: whole without network and scripts, true to the run's files, safe whatever these say."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from typer.testing import CliRunner

from scmodelforge._errors import DataError
from scmodelforge.cli.main import app
from scmodelforge.eval.records import append_records, read_records
from scmodelforge.report.html import render_report, write_report
from scmodelforge.workflows.run_record import RunRecord
from tests.test_report.conftest import make_records, make_run, write_lines

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """All elements with their attributes and texts; fails on a tag that is not closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict]] = []
        self.tables: list[list[list[str]]] = []
        self.figures: list[dict] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.elements.append((tag, given))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "figure":
            self.figures.append({"caption": "", "described": []})
        if "figure" in self._open and (tag == "img" or (tag == "svg" and "aria-hidden" not in given)):
            self.figures[-1]["described"].append(given.get("alt") or given.get("aria-label") or "")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open and "title" not in self._open[1:]:
            self.words.append(data)
        if "td" in self._open or "th" in self._open:
            self.tables[-1][-1][-1] += data
        if "figcaption" in self._open:
            self.figures[-1]["caption"] += data


def page_of(root) -> Page:
    return Page(render_report(RunRecord.read(root), method="pca"))


class TestPage:
    def test_loads_nothing_and_has_no_scripts(self, run_folder):
        text = render_report(RunRecord.read(run_folder), method="pca")
        page = Page(text)
        assert {"script", "link", "iframe", "object", "embed", "base"}.isdisjoint(tag for tag, _ in page.elements)
        loading = [
            v for _, given in page.elements for name, v in given.items() if name in ("src", "href", "srcset", "data")
        ]
        assert loading
        assert all(value.startswith(("data:image/png;base64,", "#")) for value in loading)
        assert not re.search(r"https?://|@import|url\(", text)
        assert not any(name.startswith("on") for _, given in page.elements for name in given)

    def test_every_figure_has_a_caption_and_says_what_it_shows(self, run_folder):
        figures = page_of(run_folder).figures
        assert len(figures) > 10
        for figure in figures:
            assert figure["caption"].strip()
            assert len(figure["described"]) == 1
            assert figure["described"][0].strip()

    def test_values_of_the_table_are_those_of_the_results(self, run_folder):
        (table,) = (t for t in page_of(run_folder).tables if t[0][0] == "metric")
        last = {(r.metric, r.representation): r for r in read_records(run_folder / "results.jsonl") if r.step == 40}
        columns = {
            "model": "model",
            "PCA of the counts": "pca",
            "random vectors": "random",
            "untrained model": "untrained",
        }
        assert len(table) == 3
        for row in table[1:]:
            records = {name: last[row[0].replace(" ", "_"), name] for name in columns.values()}
            best = max(record.value for record in records.values())
            for heading, cell in zip(table[0][1:-1], row[1:-1], strict=True):
                record = records[columns[heading]]
                low, high = record.interval
                star = "\xa0*" if record.value == best else ""
                assert cell == f"{record.value:.3f}{star}{low:.3f} to {high:.3f}"
            assert row[-1] == "50"

    def test_scores_of_the_exported_model_go_before_those_of_training(self, run_folder):
        records = make_records(20, seed=9)
        append_records(run_folder / "exported_results.jsonl", records)
        page = page_of(run_folder)
        assert "The exported model, from step 20" in page.text
        assert f"{records[0].value:.3f}" in str(page.tables)

    def test_the_noise_ceiling_and_what_does_not_compete_are_in_the_table(self, run_folder):
        records = make_records(60)
        for record in records:
            record.noise_ceiling = 0.9375
            if record.baselines:
                record.baselines["tf_degree"] = 2.0
                record.params["trained_on"] = True
        append_records(run_folder / "results.jsonl", records)
        page = page_of(run_folder)
        (table,) = (t for t in page.tables if t[0][0] == "metric")
        assert table[0][-3:] == ["tf degree †", "noise ceiling", "cells"]
        for row in table[1:]:
            assert row[-3:] == ["2.000", "0.938", "50"]
            assert "‡" in row[1]
            assert "*" not in row[1]
        assert "two halves of the measured cells" in page.text
        assert "tf degree: counted from the known edges that are scored" in page.text

    def test_nearest_genes_are_there(self, run_folder):
        record = make_records(40)[0]
        record.metric, record.is_detail = "nearest_cosine_input", True
        record.tables = {"nearest": {"gene": ["CD3E"], "rank": [1], "neighbour": ["CD3D"], "cosine": [0.9]}}
        append_records(run_folder / "results.jsonl", [record])
        assert ["CD3E", "CD3D 0.90"] in [row for table in page_of(run_folder).tables for row in table]

    def test_says_who_won(self, tmp_path):
        root = make_run(tmp_path / "run", is_evaluated=False)
        records = make_records(40)
        for record in records:
            record.value = {"model": 0.5, "pca": 0.7, "random": 0.1, "untrained": 0.3}[record.representation]
            record.interval = [record.value - 0.05, record.value + 0.05]
            if record.baselines:
                record.baselines = {"pca": 0.7, "random": 0.1, "untrained": 0.3}
        append_records(root / "results.jsonl", records)
        expected = (
            "the model scored best in 0 of 2 metrics, PCA of the counts in 2. It beats its untrained self in 2 of 2."
        )
        assert expected in page_of(root).text

    def test_the_same_run_gives_the_same_bytes_but_for_the_time(self, run_folder):
        first, second = (render_report(RunRecord.read(run_folder), method="pca", now=now) for now in ("1 May", "2 May"))
        assert first != second
        assert first.replace("1 May", "2 May") == second

    @pytest.mark.parametrize("where", ["label", "column"])
    def test_what_files_say_is_text_never_markup(self, tmp_path, where):
        bad = "<script>alert(1)</script>\"'&"
        labels = [bad, "B cell"] if where == "label" else None
        root = make_run(tmp_path / "run", labels=labels, label_key=bad if where == "column" else "cell_type")
        records = [{**r.to_dict(), "metric": bad, "baselines": {bad: 0.1}} for r in make_records(40)]
        write_lines(root / "results.jsonl", records)
        write_lines(root / "sessions.jsonl", [{"event": "start", "step": 0}, {"event": "warning", "text": bad}])
        text = render_report(RunRecord.read(root), method="pca")
        assert "<script" not in text
        assert bad in Page(text).text

    def test_folders_of_the_machine_are_left_out(self, run_folder):
        text = render_report(RunRecord.read(run_folder), method="pca")
        assert "lung.yaml" in text
        assert "somebody" not in text
        assert str(run_folder.parent) not in text

    def test_shows_the_first_and_the_last_evaluation_beside_pca(self, run_folder):
        captions = [figure["caption"] for figure in page_of(run_folder).figures]
        for name in ("model, step 20", "model, step 40", "PCA of the counts"):
            assert sum(name == caption for caption in captions) == 2  # by label and by batch

    def test_says_what_is_known_of_the_data_and_the_code(self, run_folder):
        page = page_of(run_folder)
        assert "whole groups of 'donor_id': 1 of 4 (d1), seed 0" in page.text
        assert "150 (50 %)" in page.text
        assert f"{'a' * 40}, with changes that are not committed" in page.text
        assert ["model.hidden_dim", "32"] in [row for table in page.tables for row in table]


class TestUnusualRuns:
    def test_under_way(self, tmp_path):
        text = page_of(make_run(tmp_path / "run", steps=20, state="under way")).text
        assert "The run is under way" in text
        assert "20 of 40 steps (1 of 2 epochs)" in text

    def test_interrupted_says_how_to_go_on(self, tmp_path, monkeypatch):
        make_run(tmp_path / "run", state="interrupted")
        monkeypatch.chdir(tmp_path)
        result = CliRunner().invoke(app, ["report", "run", "--pca"])
        assert result.exit_code == 0, result.output
        text = Page((tmp_path / "run" / "report.html").read_text()).text
        assert "The run was interrupted" in text
        assert "stopped by someone" in text
        assert "scmodelforge train --resume run" in text

    def test_without_evaluation_validation_or_labels(self, tmp_path):
        page = page_of(make_run(tmp_path / "run", is_evaluated=False, has_validation=False))
        assert "It was not evaluated: eval.benchmarks is empty" in page.text
        assert "no cells were held out" in page.text
        assert page.figures
        assert "Scores" not in page.text

    def test_cells_without_labels_are_drawn_without_colours(self, run_folder):
        cells = (run_folder / "views" / "cells.json").read_text()
        cells = re.sub(r'"(labels|batches)": \{.*?\}', r'"\1": null', cells)
        (run_folder / "views" / "cells.json").write_text(cells)
        assert "not coloured" in str(page_of(run_folder).figures)

    @pytest.mark.parametrize(
        "records",
        [
            [],
            [{"step": 1, "epoch": 0, "train/loss": 3.0, "train/lr": 1e-3}],
            [{"step": 1, "epoch": 0, "train/loss": None, "val/loss": None}] * 3,
        ],
        ids=["nothing", "one record", "no figure is finite"],
    )
    def test_little_or_nothing_logged(self, tmp_path, records):
        root = make_run(tmp_path / "run", is_evaluated=False, state="under way")
        write_lines(root / "metrics.jsonl", records)
        assert page_of(root).text.startswith("scModelForge training report run under way")

    def test_scores_that_are_not_defined(self, run_folder):
        records = make_records(40)
        for record in records:
            record.value, record.interval, record.baselines = None, None, {}
            record.skipped_reason = "too few cells"
        (run_folder / "results.jsonl").unlink()
        append_records(run_folder / "results.jsonl", records)
        page = page_of(run_folder)
        assert "None of its metrics could be computed." in page.text
        assert "too few cells" in page.text

    def test_cells_left_out_are_said_in_a_sentence(self, run_folder):
        records = make_records(60)
        for record in records:
            record.n, record.n_skipped, record.skipped_reason = 48, 2, "labels with fewer than 10 cells: B cell"
        append_records(run_folder / "results.jsonl", records)
        assert (
            "Cell type annotation, held-out cells: 2 metrics are without 2 of the 50 cells (labels with fewer than 10 "
            "cells: B cell)."
        ) in page_of(run_folder).text

    @pytest.mark.parametrize(("steps", "is_a_dot"), [(20, True), (40, False)], ids=["one evaluation", "two"])
    def test_a_legend_shows_a_dot_where_the_chart_does(self, tmp_path, steps, is_a_dot):
        text = render_report(RunRecord.read(make_run(tmp_path / "run", steps=steps)), method="pca")
        _, _, over_training = text.partition("Scores over training")
        figure = over_training[: over_training.index("</figure>")]
        legend = figure[figure.index("<ul") :]
        assert ('<polyline class="line model"' not in figure) == is_a_dot
        assert ('<circle class="dot model"' in legend) == is_a_dot
        assert ('<line class="line model"' in legend) == (not is_a_dot)

    def test_what_never_happened_is_said_and_not_drawn(self, tmp_path):
        root = make_run(tmp_path / "run")
        for leaps, is_drawn in ((0, False), (2, True)):
            record = {"step": 10, "train/loss": 3.0, "train/skipped_steps": 0, "train/loss_spikes": leaps}
            write_lines(root / "metrics.jsonl", [record])
            page = page_of(root)
            drawn = [figure["caption"] for figure in page.figures]
            assert any("Leaps of the loss" in caption for caption in drawn) == is_drawn
            assert not any("Skipped steps" in caption for caption in drawn)
            said = "No step was skipped." if is_drawn else "No step was skipped and the loss never leapt."
            assert said in page.text

    def test_many_benchmarks_are_all_there(self, run_folder):
        for number in range(12):
            append_records(run_folder / "results.jsonl", make_records(40, benchmark=f"bench{number}"))
        assert sum(table[0][0] == "metric" for table in page_of(run_folder).tables) == 13

    def test_more_labels_than_can_be_told_apart(self, tmp_path):
        root = make_run(tmp_path / "run", labels=[f"a rather long name of a cell type, number {i}" for i in range(60)])
        assert "20 rarer values, or none" in page_of(root).text

    def test_damaged_files_are_named_and_the_rest_is_shown(self, run_folder):
        with (run_folder / "metrics.jsonl").open("a") as file:
            file.write("damaged\n")
        (run_folder / "views" / "step_00000020.safetensors").write_bytes(b"damaged")
        text = page_of(run_folder).text
        assert "metrics.jsonl: 1 lines are not records" in text
        assert "views of the cells cannot be read" in text


class TestCommand:
    def test_a_folder_that_is_not_a_run_is_one_line(self, tmp_path):
        result = CliRunner().invoke(app, ["report", str(tmp_path)])
        assert result.exit_code == 2
        (line,) = result.output.strip().splitlines()
        assert line.startswith(f"error: {tmp_path} is not a run folder (config.yaml, run.json missing)")

    def test_keeps_an_existing_file_without_force(self, run_folder):
        out = run_folder / "report.html"
        out.write_text("mine")
        with pytest.raises(DataError, match="exists; choose another name, or replace it with --force"):
            write_report(run_folder)
        assert out.read_text() == "mine"
        write_report(run_folder, force=True, method="pca")
        assert out.read_text().startswith("<!DOCTYPE html>")

    def test_says_what_to_install(self, run_folder, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
        with pytest.raises(ImportError, match=r"pip install 'scmodelforge\[report\]'"):
            write_report(run_folder)
