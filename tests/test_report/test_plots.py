from __future__ import annotations

import sys

import numpy as np
import pytest

from scmodelforge._errors import DataError
from scmodelforge.report.plots import cells_picture, project_2d, scatter


def cells(num_labels: int = 3, num_cells: int = 60):
    rng = np.random.default_rng(0)
    labels = np.array([f"type{i % num_labels}" for i in range(num_cells)])
    return rng.normal(size=(num_cells, 5)), labels


def pixels(path):
    from matplotlib.image import imread

    return imread(path)[:, :, :3]


def has_colour(picture, colour: str) -> bool:
    from matplotlib.colors import to_rgb

    return bool((np.abs(picture - np.array(to_rgb(colour))).max(axis=2) < 0.02).any())


class TestProject:
    def test_gives_principal_components_where_umap_is_not_wanted(self):
        points, _ = cells()
        plane, name = project_2d(points, method="pca")
        variances = np.linalg.eigvalsh(np.cov(points.T))[::-1]
        assert name == "PCA"
        np.testing.assert_allclose(plane.var(axis=0, ddof=1), variances[:2])
        assert abs(np.corrcoef(plane.T)[0, 1]) < 1e-9

    def test_gives_principal_components_where_umap_is_not_installed(self, monkeypatch):
        monkeypatch.setattr("scmodelforge.report.plots.find_spec", lambda name: None)
        assert project_2d(cells()[0])[1] == "PCA"

    def test_leaves_two_columns_as_they_are(self):
        points = cells()[0][:, :2]
        plane, name = project_2d(points)
        np.testing.assert_array_equal(plane, points)
        assert name == ""

    def test_does_not_depend_on_the_sign_of_the_embedding(self):
        points, _ = cells()
        np.testing.assert_allclose(project_2d(points, method="pca")[0], project_2d(-points, method="pca")[0])

    def test_gives_one_column_a_second_of_zeros(self):
        assert (project_2d(cells()[0][:, :1], method="pca")[0][:, 1] == 0).all()

    def test_refuses_a_single_cell(self):
        with pytest.raises(DataError, match="two cells are needed"):
            project_2d(np.ones((1, 4)))


class TestPictures:
    def test_show_every_label_in_a_colour_of_its_own(self, tmp_path):
        points, labels = cells()
        scatter(points[:, :2], labels, tmp_path / "cells.png", title="cells", axes_name="PCA")
        picture = pixels(tmp_path / "cells.png")
        for colour in ("#332288", "#DDCC77", "#117733"):
            assert has_colour(picture, colour)
        assert not has_colour(picture, "#CC6677")

    def test_show_cells_without_a_label_in_grey(self, tmp_path):
        points, labels = cells()
        labels[::3] = ""
        scatter(points[:, :2], labels, tmp_path / "cells.png")
        assert has_colour(pixels(tmp_path / "cells.png"), "#BBBBBB")

    def test_stand_side_by_side_and_grow_with_the_legend(self, tmp_path):
        points, labels = cells()
        cells_picture({"model": points}, labels, tmp_path / "one.png", method="pca")
        cells_picture({"model": points, "PCA": -points}, labels, tmp_path / "two.png", title="both", method="pca")
        many = np.array([f"a long name of a cell type {i}" for i in range(60)])
        cells_picture({"model": points}, many, tmp_path / "many.png", method="pca")
        one, two, wide = (pixels(tmp_path / f"{name}.png") for name in ("one", "two", "many"))
        assert two.shape[1] > 1.5 * one.shape[1]
        assert wide.shape[1] > 1.5 * one.shape[1]

    def test_are_the_same_again_and_leave_matplotlib_alone(self, tmp_path):
        import matplotlib as mpl

        points, labels = cells()
        before = dict(mpl.rcParams)
        for name in ("first.png", "again.png"):
            scatter(points[:, :2], labels, tmp_path / name)
        assert (tmp_path / "first.png").read_bytes() == (tmp_path / "again.png").read_bytes()
        assert dict(mpl.rcParams) == before

    def test_refuse_labels_of_other_cells(self, tmp_path):
        points, labels = cells()
        with pytest.raises(DataError, match="there are 59 labels"):
            scatter(points[:, :2], labels[1:], tmp_path / "cells.png")
        assert not (tmp_path / "cells.png").exists()

    def test_say_what_to_install(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        points, labels = cells()
        with pytest.raises(ImportError, match=r"pip install 'scmodelforge\[report\]'"):
            scatter(points[:, :2], labels, tmp_path / "cells.png")
