"""Preprocessed cells kept on disk: of the right data and settings, and whole, or not used."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scmodelforge._errors import DataError
from scmodelforge.config.schema import PreprocessingConfig
from scmodelforge.data.cached import CachedCells, cached_cells
from scmodelforge.data.preprocess import Preprocessor
from scmodelforge.data.sources.local import LocalDataConfig, LocalSource
from scmodelforge.data.types import RowRange
from tests.conftest import make_adata

from .h5ad_files import write


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    other = make_adata(40, 25, seed=1)
    other.layers["twice"] = other.X * 2
    first = make_adata(70, 30)
    first.layers["twice"] = first.X * 2
    return [write(tmp_path, first, "a.h5ad", compression="gzip"), write(tmp_path, other, "b.h5ad")]


def opened(paths, *, layer="X", **settings) -> tuple[LocalSource, LocalDataConfig]:
    settings = {"normalize": "library_size", "log1p": True, **settings}
    preprocessing = PreprocessingConfig(**settings)
    config = LocalDataConfig(paths=[str(path) for path in paths], layer=layer, preprocessing=preprocessing)
    return LocalSource(config), config


def kept(paths, folder: Path, **settings) -> CachedCells:
    source, config = opened(paths, **settings)
    return cached_cells(source, config, folder, fitted=lambda: Preprocessor(config.preprocessing).fitted(source))


def writes(paths, folder: Path, **settings) -> bool:
    """Open cells, and return whether they had to be written first."""
    source, config = opened(paths, **settings)
    written = []

    def fitted() -> Preprocessor:
        written.append(True)
        return Preprocessor(config.preprocessing).fitted(source)

    cached_cells(source, config, folder, fitted=fitted).close()
    return bool(written)


def entries(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()]


class TestCells:
    @pytest.mark.parametrize("settings", [{}, {"normalize": None}, {"normalize": "scran", "log1p": False}])
    def test_are_those_that_preprocessing_while_reading_gives(self, paths, tmp_path, settings):
        source, config = opened(paths, **settings)
        assert writes(paths, tmp_path / "cache", **settings)
        cells = kept(paths, tmp_path / "cache", **settings)
        preprocess = Preprocessor(config.preprocessing).fitted(source)
        for file, size in enumerate(source.file_sizes):
            rows = np.random.default_rng(file).permutation(size)[: size // 2]
            for found, raw in (
                (cells.read_rows(file, rows), source.read_rows(file, rows)),
                (cells.read(RowRange(file, 3, 20)), source.read(RowRange(file, 3, 20))),
            ):
                expected = preprocess(raw)
                for name in ("data", "indices", "indptr", "positions"):
                    np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
                assert found.panel is cells.panels[file]
        assert cells.panels[1].gene_ids.tolist() == source.panels[1].gene_ids.tolist()

    def test_all_else_is_the_source_s(self, paths, tmp_path):
        source, _ = opened(paths)
        cells = kept(paths, tmp_path / "cache")
        assert cells.fingerprint() == source.fingerprint()
        assert cells.file_sizes == source.file_sizes
        assert cells.obs_columns == source.obs_columns
        assert list(cells.obs_names()) == list(source.obs_names())
        np.testing.assert_array_equal(cells.obs("batch")[0], source.obs("batch")[0])
        cells.close()


class TestEntries:
    def test_are_used_again(self, paths, tmp_path):
        assert writes(paths, tmp_path / "cache")
        assert not writes(paths, tmp_path / "cache")

    @pytest.mark.parametrize(
        "other", [{"target_sum": 1e6}, {"log1p": False}, {"normalize": None}, {"layer": "twice"}], ids=str
    )
    def test_are_of_the_settings_that_change_values(self, paths, tmp_path, other):
        assert writes(paths, tmp_path / "cache")
        assert writes(paths, tmp_path / "cache", **other)
        assert len(entries(tmp_path / "cache")) == 2

    def test_do_not_depend_on_settings_that_do_not(self, paths, tmp_path):
        assert writes(paths, tmp_path / "cache")
        assert not writes(paths, tmp_path / "cache", hvg_selection=5, min_genes_per_cell=3)

    def test_are_of_the_content_of_the_files(self, paths, tmp_path):
        rows = RowRange(0, 0, 70)
        cells = kept(paths, tmp_path / "cache")
        before = cells.read(rows).data.tolist()
        cells.close()
        write(tmp_path, make_adata(70, 30, seed=9), "a.h5ad")
        assert writes(paths, tmp_path / "cache")
        assert kept(paths, tmp_path / "cache").read(rows).data.tolist() != before

    def test_that_are_unfinished_are_not_used(self, paths, tmp_path):
        def fails(block):
            raise KeyboardInterrupt

        source, config = opened(paths)
        with pytest.raises(KeyboardInterrupt):
            cached_cells(source, config, tmp_path / "cache", fitted=lambda: fails)
        assert not entries(tmp_path / "cache")
        assert writes(paths, tmp_path / "cache")
        assert [path.suffix for path in entries(tmp_path / "cache")] == [""]

    def test_that_are_damaged_are_written_again(self, paths, tmp_path, caplog):
        assert writes(paths, tmp_path / "cache")
        (entry,) = entries(tmp_path / "cache")
        (entry / "file_1.zarr/zarr.json").unlink()
        with caplog.at_level(logging.WARNING):
            assert writes(paths, tmp_path / "cache")
        assert "data.preprocessing.cache is damaged and is written again" in caplog.text
        assert len(kept(paths, tmp_path / "cache").read(RowRange(1, 0, 40))) == 40

    def test_a_folder_that_cannot_be_written_is_named(self, paths, tmp_path):
        (tmp_path / "cache").write_text("a file")
        with pytest.raises(DataError, match=r"data.preprocessing.cache: .*cache cannot be written \(File exists\)"):
            kept(paths, tmp_path / "cache")

    def test_are_written_once_by_processes_that_begin_together(self, paths, tmp_path):
        script = f"""
from pathlib import Path
from scmodelforge.config.schema import PreprocessingConfig
from scmodelforge.data.cached import cached_cells
from scmodelforge.data.preprocess import Preprocessor
from scmodelforge.data.sources.local import LocalDataConfig, LocalSource
config = LocalDataConfig(paths={[str(path) for path in paths]!r}, preprocessing=PreprocessingConfig(log1p=True))
cells = cached_cells(
    LocalSource(config), config, Path({str(tmp_path / "cache")!r}), fitted=lambda: Preprocessor(config.preprocessing)
)
print(len(cells.panels))
"""
        running = [
            subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=os.environ)
            for _ in range(2)
        ]
        assert [process.communicate()[0].strip() for process in running] == ["2", "2"]
        assert len(entries(tmp_path / "cache")) == 1
