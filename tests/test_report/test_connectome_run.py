"""Folders of connectome runs that are broken or not whole give one line that names the file."""

from __future__ import annotations

import json

import numpy as np
import pytest

from scmodelforge._errors import DataError
from scmodelforge.report.connectome import draw_connectome_plots, write_connectome_report
from scmodelforge.report.connectome_run import read_connectome_run
from tests.test_report.connectome_runs import REGIONS, difference, make_arrays, make_connectome_run

NEEDED = ("predictions.npz", "scores.json", "comparison.json", "config.yaml", "record.json")


def fault_of(root) -> str:
    with pytest.raises(DataError) as caught:
        read_connectome_run(root)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.fixture
def root(tmp_path):
    return make_connectome_run(tmp_path / "run", gene_pairs=[("A", "B", 0.5)])


class TestFiles:
    @pytest.mark.parametrize("name", NEEDED)
    def test_that_are_missing_are_named(self, root, name):
        (root / name).unlink()
        text = fault_of(root)
        assert text.startswith(f"{root / name}: cannot be read (No such file")
        assert text.endswith("the folder of a connectome run is needed, as the run left it.")

    @pytest.mark.parametrize("name", [*NEEDED, "gene_pairs.csv"])
    @pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe{", b"PK\x03\x04 broken", b"[1, 2", b"7"])
    def test_that_are_broken_are_named(self, root, name, content):
        (root / name).write_bytes(content)
        if name == "gene_pairs.csv" and not content:
            assert read_connectome_run(root).gene_pairs == []
        elif name == "gene_pairs.csv" and content in (b"[1, 2", b"7", b"PK\x03\x04 broken"):
            assert read_connectome_run(root).gene_pairs == []  # a table without rows
        else:
            assert str(root / name) in fault_of(root)

    def test_that_are_cut_off_are_named(self, root):
        path = root / "predictions.npz"
        path.write_bytes(path.read_bytes()[:700])
        assert str(path) in fault_of(root)

    def test_that_hold_one_array_are_named(self, root):
        with (root / "predictions.npz").open("wb") as file:
            np.save(file, np.zeros(3))
        assert "predictions.npz: not readable as arrays" in fault_of(root)

    def test_no_folder(self, tmp_path):
        assert "nowhere: is no folder" in fault_of(tmp_path / "nowhere")

    def test_nothing_is_written_where_one_is_broken(self, root):
        (root / "comparison.json").unlink()
        before = sorted(path.name for path in root.iterdir())
        for write in (write_connectome_report, draw_connectome_plots):
            with pytest.raises(DataError, match=r"comparison\.json: cannot be read"):
                write(root)
        assert sorted(path.name for path in root.iterdir()) == before


class TestPredictions:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"true": None}, "has no array 'true'"),
            ({"regions": None}, "has no array 'regions'"),
            ({"predicted": np.zeros((3, 3))}, "predicted has the shape (3, 3), needs (12, 12) as there are 12 regions"),
            ({"coords": np.zeros((REGIONS, 2))}, "coords has the shape (12, 2), needs (12, 3)"),
            ({"coords": np.full((REGIONS, 3), np.nan)}, "coords has NaN"),
            ({"network": np.array(["a", "b"])}, "network has the shape (2,)"),
            ({"true": np.full((REGIONS, REGIONS), np.nan)}, "true has NaN between regions"),
            ({"predicted": np.full((REGIONS, REGIONS), np.inf)}, "predicted has infinite values"),
            ({"true": np.full((REGIONS, REGIONS), "x")}, "true holds <U1, needs numbers"),
            ({"regions": np.array(["alone"])}, "needs the names of two regions or more"),
        ],
    )
    def test_that_do_not_fit(self, tmp_path, changes, words):
        root = make_connectome_run(tmp_path / "run", arrays=make_arrays(**changes))
        assert words in fault_of(root)

    def test_with_objects_are_refused(self, tmp_path):
        arrays = make_arrays(regions=np.array([{"a": 1}] * REGIONS, dtype=object))
        assert "not readable as arrays" in fault_of(make_connectome_run(tmp_path / "run", arrays=arrays))


def change_first_row(path, changes: dict) -> None:
    rows = json.loads(path.read_text())
    rows[0] = {name: value for name, value in (rows[0] | changes).items() if value != "gone"}
    path.write_text(json.dumps(rows))


class TestTables:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"name": "gone"}, "row 0: 'name' is missing"),
            ({"name": ""}, "'name' is '', needs a name"),
            ({"kind": "oracle"}, "'kind' is 'oracle', needs one of model, baseline"),
            ({"uses": ["genes"]}, "'uses' is ['genes'], needs one of nothing, genes"),
            ({"fold": "1"}, "'fold' is '1', needs a whole number"),
            ({"seed": True}, "'seed' is True, needs a whole number"),
            ({"inner": 0.5}, "'inner' is 0.5, needs an object of metrics"),
            ({"cross": {"mse": "low"}}, "'mse' is 'low', needs a number"),
            ({"fold": 1}, "'mean' has two rows of seed 0, fold 1"),
            ({"kind": "model"}, "'mean' has rows of different kinds or uses"),
        ],
    )
    def test_rows_of_scores(self, root, changes, words):
        change_first_row(root / "scores.json", changes)
        text = fault_of(root)
        assert "scores.json" in text
        assert words in text

    def test_scores_that_are_none(self, root):
        (root / "scores.json").write_text("[]")
        assert "has no scores" in fault_of(root)

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"mean": "much"}, "row 0: 'mean' is 'much', needs a number"),
            ({"num_folds": None}, "'num_folds' is None, needs a whole number"),
            ({"against": "stranger"}, "'stranger' has no row in scores.json"),
        ],
    )
    def test_rows_of_comparisons(self, root, changes, words):
        change_first_row(root / "comparison.json", changes)
        assert words in fault_of(root)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("gene_i,attention\nA,0.5\n", "has no column 'gene_j'"),
            ("gene_i,gene_j,attention\nA,B,much\n", "not readable as a table of gene pairs"),
            ("gene_i,gene_j,attention\nA,B\n", "not readable as a table of gene pairs"),
            ("gene_i,gene_j,attention\nA,B,nan\n", "has attention that is no number"),
        ],
    )
    def test_gene_pairs(self, root, text, words):
        (root / "gene_pairs.csv").write_text(text)
        assert words in fault_of(root)

    def test_gene_pairs_are_taken_by_attention(self, tmp_path):
        root = make_connectome_run(tmp_path / "run", gene_pairs=[("A", "B", 0.1), ("C", "D", 0.3), ("E", "F", 0.2)])
        assert [pair.gene_i for pair in read_connectome_run(root).gene_pairs or []] == ["C", "E", "A"]

    def test_numbers_that_json_has_no_word_for(self, tmp_path):
        rows = [difference("cross_attention", "bilinear", float("nan"))]
        (found,) = read_connectome_run(make_connectome_run(tmp_path / "run", comparison=rows)).comparisons
        assert np.isnan(found.gap[:3]).all()
