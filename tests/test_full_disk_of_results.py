"""Results that find no room on the disk cost one line: nothing half written stays, and no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_eval.test_perturbation.screens import HELD_OUT, only, screen
from tests.test_faults import Started, fill, small_disk

__all__ = ["small_disk"]  # a fixture

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> list[object]:
    folder = tmp_path_factory.mktemp("screen")
    lines = {"lines": ("A549", "K562")}
    screen(**lines).write_h5ad(folder / "screen.h5ad")
    only(screen(seed=1, **lines), HELD_OUT).write_h5ad(folder / "predicted.h5ad")
    own = ["--condition", "condition", "--control", "control", "--scale", "log1p", "--covariate", "line"]
    files = ["--predictions", folder / "predicted.h5ad", "--data", folder / "screen.h5ad"]
    return ["evaluate", *files, *own, "--eval", "perturbbench"]


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


class TestFullDisk:
    @pytest.mark.parametrize("option", ["--out", "--export-cell-eval"])
    def test_is_one_line_and_leaves_nothing(self, words, small_disk, tmp_path, option):
        fill(small_disk)
        code, talk = Started(tmp_path, *words, option, small_disk / "results").finish()
        assert code == 2, talk
        (line,) = [line for line in talk if line.startswith("error: ")]
        assert talk[-1] == line
        assert "cannot be written (No space left on device)" in line
        assert files_in(small_disk) == {"filler"}

    def test_that_one_of_several_files_fits_on_leaves_none(self, words, small_disk, tmp_path):
        filler = fill(small_disk)
        with filler.open("r+b") as file:
            file.truncate(filler.stat().st_size - 3 * 2**16)  # one covariate's predictions fit, its real cells do not
        code, talk = Started(tmp_path, *words, "--export-cell-eval", small_disk / "results").finish()
        assert code == 2, talk
        assert files_in(small_disk) == {"filler"}


class TestLimitOnFiles:
    @pytest.mark.parametrize("option", ["--out", "--export-cell-eval"])
    def test_is_one_line_and_leaves_nothing(self, words, tmp_path, option):
        """A limit on the size of files strikes whatever the disk has free."""
        target = tmp_path / "own"
        target.mkdir()
        code, talk = Started(tmp_path, *words, option, target / "results", file_limit=24 * 1024).finish()
        assert code == 2, talk
        assert "cannot be written (File too large)" in talk[-1]
        assert files_in(target) == set()
