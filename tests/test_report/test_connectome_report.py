"""The page and the pictures of a connectome run: true to its files, whole without network, safe whatever they say."""

from __future__ import annotations

import re
import shutil
import statistics

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.spatial.distance import cdist
from scipy.stats import pearsonr

from scmodelforge._errors import DataError
from scmodelforge.report.connectome import draw_connectome_plots, write_connectome_report
from scmodelforge.report.connectome_matrix import draw_matrix, network_order, scale_of
from scmodelforge.report.connectome_plots import distance_picture, predicted_pairs, scatter_picture
from scmodelforge.report.connectome_run import read_connectome_run
from scmodelforge.report.picture_text import shortened, shown
from tests.test_report.connectome_runs import KINDS, NETWORKS, REGIONS, difference, make_arrays, make_connectome_run
from tests.test_report.connectome_runs import score_rows as rows_around
from tests.test_report.test_html import Page

GENE_PAIRS = [("LIG1", "REC1", 0.25), ("REC1", "LIG1", 0.125), ("APOE", "<i>GENE</i>", 0.0625)]


def page_of(root) -> Page:
    return Page(write_connectome_report(root).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_connectome_run(tmp_path_factory.mktemp("runs") / "brain", gene_pairs=GENE_PAIRS)


@pytest.fixture(scope="module")
def page(run) -> Page:
    return page_of(run)


def table_with(page: Page, *columns: str) -> list[list[str]]:
    found = [table for table in page.tables if set(columns) <= {cell.strip() for cell in table[0]}]
    assert found, [table[0] for table in page.tables]
    return found[0]


def mean_and_sd(name: str, where: str, metric: str) -> str:
    means = {"mean": 0.0, "bilinear": 0.5, "cross_attention": 0.61, "places_kernel": 0.8}
    rows = rows_around(means, {**KINDS, "mean": ("baseline", "nothing")})
    values = [row[where][metric] for row in rows if row["name"] == name]
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


class TestPage:
    def test_loads_nothing_and_has_no_scripts(self, run, page):
        assert {"script", "link", "iframe", "object", "embed", "base"}.isdisjoint(tag for tag, _ in page.elements)
        sources = [given["src"] for _, given in page.elements if "src" in given]
        assert sources
        assert all(source.startswith("data:image/png;base64,") for source in sources)
        assert all(given.get("alt") for tag, given in page.elements if tag == "img")
        assert not any(name.startswith("on") for _, given in page.elements for name in given)

    def test_says_what_was_predicted_and_how_regions_were_held_out(self, page):
        assert "The connectivity (fc) of pairs of 12 brain regions of 'atlas' was predicted." in page.text
        assert "together with their twins in the other hemisphere, 3 folds for each of 2 seeds" in page.text

    def test_has_inner_and_cross_scores_apart_with_the_best_first(self, page):
        tables = [table for table in page.tables if "knows" in table[0]]
        assert len(tables) == 2
        for table, where in zip(tables, ("inner", "cross"), strict=True):
            assert [cell.partition(" (")[0] for cell in table[0]] == [
                "predictor", "kind", "knows", "folds", "Pearson r", "MSE", "MAE"]  # fmt: skip
            assert [row[0] for row in table[1:]] == ["places_kernel", "cross_attention", "bilinear", "mean"]
            for row in table[1:4]:
                assert row[4].replace("\xa0*", "") == mean_and_sd(row[0], where, "pearson_r")
                assert row[3] == "6"
            assert table[4][4] == "-"
            assert [row[4].endswith("*") for row in table[1:]] == [True, False, False, False]
        assert tables[0][2][1:3] == ["model", "genes"]
        assert tables[0][1][1:3] == ["baseline", "coordinates"]

    def test_lower_is_better_for_errors(self, page):
        table = next(table for table in page.tables if "knows" in table[0])
        values = [float(row[5].partition(" ")[0]) for row in table[1:]]
        assert [row[5].endswith("*") for row in table[1:]] == [value == min(values) for value in values]

    def test_names_the_winner_and_the_rank_of_the_model(self, page):
        assert "Best on pairs of two held-out regions: places_kernel (coordinates), r 0.8" in page.text
        r = mean_and_sd("cross_attention", "inner", "pearson_r")
        assert f"The model cross_attention is number 2 of 3, r {r}." in page.text

    def test_has_paired_differences_with_intervals(self, page):
        assert table_with(page, "against", "95 % interval")[1:] == [
            ["bilinear", "better", "+0.110", "+0.060 to +0.160", "4 of 6"],
            ["places_kernel", "worse", "-0.190", "-0.240 to -0.140", "4 of 6"],
        ]
        (figure,) = [each for each in page.figures if each["caption"].startswith("cross_attention against others")]
        assert figure["described"] == ["cross_attention: differences in Pearson r to others"]

    def test_has_every_fold(self, run, page):
        table = table_with(page, "seed 0, fold 0", "seed 1, fold 2")
        rows = read_connectome_run(run).scores
        for row in table[1:]:
            values = [score.inner["pearson_r"] for score in rows if score.name == row[0]]
            shown = ["-" if np.isnan(value) else f"{value:.3f}" for value in values]
            assert [cell.replace("\xa0*", "") for cell in row[1:]] == shown
        assert [row[0] for row in table if row[1].endswith("*")] == ["places_kernel"]

    def test_has_the_pairs_of_genes_and_says_what_attention_is_not(self, page):
        table = table_with(page, "gene of one region", "attention")
        assert table[1:] == [
            ["LIG1", "REC1", "0.250"], ["REC1", "LIG1", "0.125"], ["APOE", "<i>GENE</i>", "0.0625"]]  # fmt: skip
        assert "Attention is no proof of an interaction" in page.text

    def test_has_the_pairs_that_are_furthest_off(self, run, page):
        arrays = make_arrays()
        error = np.triu(np.nan_to_num(np.abs(arrays["true"] - arrays["predicted"])))
        i, j = np.unravel_index(error.argmax(), error.shape)
        first = table_with(page, "other region", "distance (mm)")[1]
        assert first[:2] == [f"region{i} ({NETWORKS[i]})", f"region{j} ({NETWORKS[j]})"]
        assert first[4] == f"{cdist(arrays['coords'], arrays['coords'])[i, j]:.0f}"

    def test_has_the_settings_without_folders(self, page):
        assert "strategy: homotopic" in page.text
        assert "…/atlas.npz" in page.text
        assert "somebody" not in page.text


class TestPictures:
    def test_leave_out_pairs_without_a_prediction(self, run, tmp_path):
        arrays = make_arrays()
        has = np.isfinite(arrays["predicted"])
        expected = [(i, j) for i in range(REGIONS) for j in range(i + 1, REGIONS) if has[i, j]]
        read = read_connectome_run(run)
        assert [tuple(pair) for pair in predicted_pairs(read)] == expected
        r = pearsonr([arrays["true"][pair] for pair in expected], [arrays["predicted"][pair] for pair in expected])
        caption = scatter_picture(read).caption
        assert f"one of {len(expected)} pairs with a prediction by the model cross_attention, the mean" in caption
        assert f"r = {r.statistic:.3f}" in caption
        arrays["true"][~has] = 1e6
        other = read_connectome_run(make_connectome_run(tmp_path / "run", arrays=arrays))
        assert scatter_picture(other).png == scatter_picture(read).png
        assert distance_picture(other).png == distance_picture(read).png

    def test_take_both_directions_of_pairs_that_differ(self, tmp_path):
        arrays = make_arrays()
        arrays["true"] = arrays["true"] + np.triu(np.ones((REGIONS, REGIONS)))
        run = read_connectome_run(make_connectome_run(tmp_path / "run", arrays=arrays))
        assert len(predicted_pairs(run)) == np.isfinite(arrays["predicted"]).sum()

    def test_matrices_share_order_and_colours_and_miss_what_has_no_prediction(self, run):
        read = read_connectome_run(run)
        order, blocks = network_order(read)
        assert order.tolist() == [0, 2, 5, 8, 11, 1, 4, 7, 10, 3, 6, 9]  # within a network as in the file
        assert blocks == [("Vis", 0, 5), ("Mot", 5, 9), ("Lim", 9, 12)]
        drawn = []
        for which in ("true", "predicted"):
            axes = Figure().subplots()
            draw_matrix(axes, read, which, scale_of(read))
            drawn.append(axes.images[0])
            assert {text.get_text() for text in axes.texts} == set(NETWORKS)
        assert drawn[0].get_clim() == drawn[1].get_clim()
        for image, expected in zip(drawn, (read.true, read.predicted), strict=True):
            shown = np.ma.filled(image.get_array(), np.nan)
            wanted = expected[np.ix_(order, order)].copy()
            np.fill_diagonal(wanted, np.nan)
            np.testing.assert_array_equal(shown, wanted)

    def test_matrices_without_networks_are_in_the_order_of_the_file(self, tmp_path):
        run = read_connectome_run(make_connectome_run(tmp_path / "run", arrays=make_arrays(network=None)))
        assert network_order(run)[0].tolist() == list(range(REGIONS))
        axes = Figure().subplots()
        draw_matrix(axes, run, "true", scale_of(run))
        assert [label.get_text() for label in axes.get_yticklabels()] == run.regions

    def test_names_of_small_networks_are_moved_apart(self, tmp_path):
        true = np.random.default_rng(0).random((60, 60))
        arrays = {"true": true, "predicted": true, "regions": np.arange(60).astype(str)}
        arrays["network"] = np.array(["big"] * 56 + ["one", "two", "three", "four"])
        run = read_connectome_run(make_connectome_run(tmp_path / "run", arrays=arrays))
        axes = Figure().subplots()
        draw_matrix(axes, run, "true", scale_of(run))
        rows = sorted(text.xyann[1] for text in axes.texts if text.get_rotation() == 0)
        assert len(rows) == 5
        assert min(np.diff(rows)) > 1.9  # of 60 rows, where they are one apart
        assert rows[-1] < 59.5

    def test_zero_is_in_the_middle_of_the_colours_where_connectivity_has_two_signs(self, tmp_path):
        arrays = make_arrays()
        arrays["true"] = arrays["true"] - 0.5
        scale = scale_of(read_connectome_run(make_connectome_run(tmp_path / "run", arrays=arrays)))
        assert scale.low == -scale.high

    def test_are_written_as_files(self, run):
        names = ["matrices", "predictors_inner", "predictors_cross", "scatter", "error_over_distance", "gene_pairs"]
        written = draw_connectome_plots(run)
        assert [path.name for path in written] == [f"{name}.png" for name in names]
        assert all(path.parent == run and path.read_bytes().startswith(b"\x89PNG") for path in written)


class TestWhatMayBeAbsent:
    def test_without_coordinates_and_genes_the_page_says_so(self, tmp_path):
        root = make_connectome_run(tmp_path / "run", arrays=make_arrays(coords=None, network=None))
        page = page_of(root)
        assert "The error over distance is left out: the run has no coordinates of regions." in page.text
        assert "Error over distance" not in page.text
        assert "Attention" not in page.text
        assert "distance (mm)" not in {cell for table in page.tables for cell in table[0]}
        names = {path.name for path in draw_connectome_plots(root)}
        assert names == {"matrices.png", "predictors_inner.png", "predictors_cross.png", "scatter.png"}

    def test_without_any_prediction_the_page_says_so(self, tmp_path):
        arrays = make_arrays(predicted=np.full((REGIONS, REGIONS), np.nan))
        page = page_of(make_connectome_run(tmp_path / "run", arrays=arrays, comparison=[]))
        assert "no fold held out two regions together" in page.text
        assert "No pair has a prediction, so there is nothing to draw." in page.text
        assert "No predictors were compared" in page.text

    def test_one_fold_has_no_spread_and_no_interval(self, tmp_path):
        rows = [
            row for row in rows_around({"cross_attention": 0.5, "bilinear": 0.4}) if row["seed"] == row["fold"] == 0
        ]
        root = make_connectome_run(
            tmp_path / "run", rows=rows, comparison=[difference("cross_attention", "bilinear", 0.1, None)]
        )
        page = page_of(root)
        assert table_with(page, "knows")[1][4].replace("\xa0*", "") == f"{rows[0]['inner']['pearson_r']:.3f}"
        assert table_with(page, "against")[1][1] == "too few folds to tell"


class TestHostileNames:
    def test_are_text(self, tmp_path):
        evil = '<script>alert("1")</script>'
        arrays = make_arrays(
            regions=np.array([f"{evil}{n}" for n in range(REGIONS)]),
            network=np.array(["<img src=x onerror=y>", r"$\frac$", "脳"] * (REGIONS // 3)),
        )
        rows = rows_around(
            {evil: 0.5, "$x$ \ud800": 0.4}, {evil: ("model", "genes"), "$x$ \ud800": ("baseline", "both")}
        )
        root = make_connectome_run(
            tmp_path / "<b>run",
            rows=rows,
            comparison=[difference(evil, "$x$ \ud800", 0.1)],
            gene_pairs=[(evil, "$_{$", 0.5), ("a\x07b", "{{ 7 * 7 }}", 0.25)],
            arrays=arrays,
            config={"data": {"target": evil}, evil: evil},
        )
        page = page_of(root)
        assert "script" not in {tag for tag, _ in page.elements}
        assert "b" not in {tag for tag, _ in page.elements[:20]}
        assert not any("onerror" in given for _, given in page.elements)
        for table in (
            table_with(page, "knows"),
            table_with(page, "gene of one region"),
            table_with(page, "seed 0, fold 0"),
        ):
            assert evil in {row[0] for row in table}
        assert table_with(page, "other region")[1][0].startswith(evil)
        assert "{{ 7 * 7 }}" in page.text
        assert len(draw_connectome_plots(root)) == 6

    def test_that_are_long_are_cut_in_the_middle(self):
        assert shortened("lh_superior_frontal_12", 13) == "lh_sup…tal_12"
        assert shortened("lh_insula", 9) == "lh_insula"
        assert shown("$x$", 9) == r"\$x\$"


class TestTheSameFolder:
    def test_gives_the_same_bytes(self, run, tmp_path):
        copy = tmp_path / "elsewhere" / run.name
        shutil.copytree(run, copy)
        found = [
            [path.read_bytes() for path in (write_connectome_report(root), *draw_connectome_plots(root))]
            for root in (run, copy)
        ]
        assert found[0] == found[1]

    def test_leaves_nothing_else_behind(self, tmp_path):
        root = make_connectome_run(tmp_path / "run")
        before = {path.name for path in root.iterdir()}
        write_connectome_report(root)
        assert {path.name for path in root.iterdir()} == before | {"report.html"}


class TestFaults:
    def test_a_page_that_cannot_be_written_is_one_line(self, tmp_path):
        root = make_connectome_run(tmp_path / "run")
        (root / "report.html").mkdir()
        with pytest.raises(DataError, match=re.escape("report.html is a folder")):
            write_connectome_report(root)
