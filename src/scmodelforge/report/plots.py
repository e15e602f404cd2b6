"""Pictures of cells. They need the extra ``report``; nothing of matplotlib's global state is touched."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge._optional import require
from scmodelforge.data.draws import generator, mix

__all__ = ["cells_picture", "panel_png", "project_2d", "scatter", "style_of"]

# The "muted" scheme of Paul Tol (sronpersonalpages.nl/~pault), nine colours that colour-blind readers tell apart, and
# three more of his schemes for the labels beyond.
_COLOURS = ("#332288", "#DDCC77", "#117733", "#CC6677", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499",
            "#EE7733", "#0077BB", "#555555")  # fmt: skip
_MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")  # more labels than colours differ by shape
_AREAS = (1.0, 1.5, 1.0, 1.0, 1.5, 1.5, 1.4, 2.2)  # that make the shapes look equally large
_MISSING = "#BBBBBB"
_ROWS_OF_LEGEND = 22
_MIN_CELLS_FOR_UMAP = 30
_PANEL = 4.6  # inches
_SMALL_PANEL = 3.0
_SMALL_DPI = 180
_TURNS = 8


def cells_picture(
    views: Mapping[str, np.ndarray],
    labels: np.ndarray,
    path: Path,
    *,
    title: str = "",
    seed: int = 0,
    method: Literal["auto", "pca"] = "auto",
) -> None:
    """Draw several embeddings of the same cells side by side, coloured by label.

    Parameters
    ----------
    views
        Embeddings, each shape (n, H), by the title of their panel.
    labels
        Shape (n,), str; cells with an empty one are grey and below the others.
    path
        The .png file to write.
    title
        Title of the whole picture.
    seed
        Seed of the projection and of the order in which cells are drawn.
    method
        As for :func:`project_2d`.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    DataError
        If the arrays do not fit each other.
    """
    panels = {name: project_2d(embeddings, seed=seed, method=method) for name, embeddings in views.items()}
    _draw(panels, labels, path, title=title, seed=seed)


def scatter(
    coords: np.ndarray, labels: np.ndarray, path: Path, *, title: str = "", axes_name: str = "", seed: int = 0
) -> None:
    """Draw cells in a plane, coloured by label.

    Parameters
    ----------
    coords
        Shape (n, 2).
    labels
        Shape (n,), str; cells with an empty one are grey and below the others.
    path
        The .png file to write.
    title
        Title.
    axes_name
        What the axes are: ``UMAP`` gives ``UMAP 1`` and ``UMAP 2``.
    seed
        Seed of the order in which cells are drawn, so that no label covers the others.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    DataError
        If the arrays do not fit each other.
    """
    _draw({title: (np.asarray(coords), axes_name)}, labels, path, title="", seed=seed)


def panel_png(
    coords: np.ndarray, labels: np.ndarray, *, names: np.ndarray, axes_name: str = "", seed: int = 0
) -> bytes:
    """Return a small picture of cells in a plane, without title and legend.

    Parameters
    ----------
    coords
        Shape (n, 2).
    labels
        Shape (n,), str; cells with an empty one are grey and below the others.
    names
        All labels, sorted; the colour of one is that of its place (:func:`style_of`).
    axes_name, seed
        As of :func:`scatter`.
    """
    require("matplotlib", extra="report", why="Drawing a picture")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_SMALL_PANEL, _SMALL_PANEL), layout="constrained")
    axes = figure.subplots()
    _draw_cells(axes, coords, labels, names, seed)
    if axes_name:
        axes.set_xlabel(f"{axes_name} 1", fontsize=8, color="#555555")
        axes.set_ylabel(f"{axes_name} 2", fontsize=8, color="#555555")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_SMALL_DPI, metadata={"Software": None})
    return file.getvalue()


def project_2d(
    embeddings: np.ndarray, *, seed: int = 0, method: Literal["auto", "pca"] = "auto"
) -> tuple[np.ndarray, str]:
    """Project embeddings to a plane.

    Parameters
    ----------
    embeddings
        Shape (n, H). Two columns are returned as they are.
    seed
        Seed of the projection.
    method
        ``auto`` is UMAP where umap-learn is installed and there are enough cells for it, else PCA.

    Returns
    -------
    Coordinates, shape (n, 2), float64, and what they are: ``UMAP``, ``PCA`` or nothing.

    Raises
    ------
    DataError
        If there are fewer than two cells.
    """
    if embeddings.ndim != 2 or len(embeddings) < 2:
        msg = f"embeddings of shape {embeddings.shape} cannot be drawn; two cells are needed, shape (n, H)."
        raise DataError(msg)
    points = embeddings.astype(np.float64)
    if points.shape[1] == 2:
        return points, ""
    if method == "auto" and len(points) >= _MIN_CELLS_FOR_UMAP and find_spec("umap") is not None:
        return _umap(points, seed), "UMAP"
    return _pca(points), "PCA"


def _draw(
    panels: Mapping[str, tuple[np.ndarray, str]], labels: np.ndarray, path: Path, *, title: str, seed: int
) -> None:
    require("matplotlib", extra="report", why="Drawing a picture")
    from matplotlib.figure import Figure

    labels = np.asarray(labels, dtype=str)
    for coordinates, _ in panels.values():
        if coordinates.shape != (len(labels), 2):
            msg = f"coordinates have shape {coordinates.shape} and there are {len(labels):,} labels; (n, 2) is needed."
            raise DataError(msg)
    names, counts = np.unique(labels[labels != ""], return_counts=True)
    columns = -(-len(names) // _ROWS_OF_LEGEND)
    width = _PANEL * len(panels) + 0.6 + columns * (0.6 + 0.065 * max([len(name) + 8 for name in names], default=0))
    figure = Figure(figsize=(width, _PANEL + (0.7 if title else 0.4)), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (name, (coordinates, axes_name)) in zip(grid, panels.items(), strict=True):
        _draw_cells(axes, coordinates, labels, names, seed)
        axes.set_title(name, fontsize=11)
        axes.set(xlabel=f"{axes_name} 1" if axes_name else "", ylabel=f"{axes_name} 2" if axes_name else "")
    figure.legend(
        handles=[_legend_entry(code, name, count) for code, (name, count) in enumerate(zip(names, counts, strict=True))]
        + ([_legend_entry(None, "no label", int((labels == "").sum()))] if (labels == "").any() else []),
        loc="outside right center",
        ncols=max(columns, 1),
        frameon=False,
        fontsize=9,
        handletextpad=0.2,
    )
    if title:
        figure.suptitle(title, fontsize=12)
    figure.savefig(path, format="png", dpi=150, bbox_inches="tight", metadata={"Software": None})


def _draw_cells(axes: Any, coordinates: np.ndarray, labels: np.ndarray, names: np.ndarray, seed: int) -> None:
    smallest = 4 if len(names) <= len(_COLOURS) else 9  # shapes need some room to be told apart
    size = float(np.clip(9000 / len(labels), smallest, 26))
    is_missing = labels == ""
    axes.scatter(*coordinates[is_missing].T, s=size * 0.6, c=_MISSING, linewidths=0, zorder=1)
    codes = np.searchsorted(names, labels)
    shapes = codes // len(_COLOURS) % len(_MARKERS)
    colours = np.array(_COLOURS)[codes % len(_COLOURS)]
    # Small random portions in turn, each in random order: no label lies on top of all others.
    portion = generator(seed, "drawing order").integers(_TURNS, size=len(labels))
    order = np.argsort(generator(seed, "drawing order within").random(len(labels)), kind="stable")
    for turn in range(_TURNS):
        for shape in np.unique(shapes[~is_missing]):
            rows = order[(~is_missing & (shapes == shape) & (portion == turn))[order]]
            axes.scatter(
                *coordinates[rows].T,
                s=size * _AREAS[shape],
                c=colours[rows],
                marker=_MARKERS[shape],
                linewidths=0.2,
                edgecolors="white",
                zorder=2,
            )
    axes.set(xticks=[], yticks=[])
    axes.set_box_aspect(1)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#888888")


def style_of(code: int) -> tuple[str, str]:
    """Return the colour and the marker of the label with a number, counted in the order of their names."""
    return _COLOURS[code % len(_COLOURS)], _MARKERS[code // len(_COLOURS) % len(_MARKERS)]


def _legend_entry(code: int | None, name: str, count: int) -> Any:
    from matplotlib.lines import Line2D

    colour, marker = (_MISSING, "o") if code is None else style_of(code)
    text = f"{name} ({count:,})"
    return Line2D([], [], color=colour, marker=marker, linestyle="", markersize=6, markeredgewidth=0, label=text)


def _umap(points: np.ndarray, seed: int) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of optional parts it was installed without
        from umap import UMAP

        reducer = UMAP(n_neighbors=15, n_jobs=1, random_state=int(mix(seed, "umap")) % 2**31)
        with _threads_kept():
            return np.asarray(reducer.fit_transform(points), dtype=np.float64)


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Put the number of OpenMP threads back: numba changes it for everybody, and sums of floats depend on it."""
    from threadpoolctl import ThreadpoolController

    before = [(pool, pool.num_threads) for pool in ThreadpoolController().lib_controllers]
    try:
        yield
    finally:
        for pool, threads in before:
            pool.set_num_threads(threads)


def _pca(points: np.ndarray) -> np.ndarray:
    """Return the first two principal components, signs chosen so that the largest coordinate is positive."""
    centred = points - points.mean(axis=0)
    left, scale, _ = np.linalg.svd(centred, full_matrices=False)
    plane = np.zeros((len(points), 2))
    found = left[:, :2] * scale[:2]
    plane[:, : found.shape[1]] = found
    largest = plane[np.abs(plane).argmax(axis=0), [0, 1]]
    return np.where(largest < 0, -plane, plane)
