from __future__ import annotations

from pathlib import Path

import pytest

from scmodelforge.report.charts import Level, Line, line_chart, nice_ticks
from scmodelforge.report.text import command_path, duration, number, size, without_places


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train --config /home/me/a.yaml", "train --config …/a.yaml"),
        ("--set output.run_dir=/data/x/runs/b --force", "--set output.run_dir=…/b --force"),
        ("~/cells/a.h5ad", "…/a.h5ad"),
        (r"C:\Users\me\a.h5ad", "…/a.h5ad"),
        ("s3://bucket/atlas/a.h5ad", "s3://bucket/atlas/a.h5ad"),
        ("https://server/a.h5ad?sig=secret&x=1", "https://server/a.h5ad?…"),
        ("runs/a/b", "runs/a/b"),
        ("eval/x/heldout/accuracy", "eval/x/heldout/accuracy"),
    ],
)
def test_folders_and_secrets_are_left_out_and_urls_kept(text, expected):
    assert without_places(text) == expected


def test_figures_have_the_digits_that_matter():
    assert [number(v) for v in (0.12345, 12.345, 12345.6, 0, 2e-4, None, float("nan"))] == [
        "0.123", "12.3", "12,346", "0", "2.00e-4", "-", "-",
    ]  # fmt: skip
    assert size(1_234_567) == "1.23 million"
    assert [duration(s) for s in (5, 65, 3725, None)] == ["5 s", "1 min 5 s", "1 h 2 min", "-"]


def test_commands_name_no_folder_of_the_machine():
    assert command_path(Path("/home/me/my run")) == "'my run'"
    assert command_path(Path("runs/lung")) == "runs/lung"


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (5.0, 5.0), (-3.2, 1e4), (1e-9, 3e-9), (0.0, 0.0)])
def test_ticks_are_few_and_hold_all_values(low, high):
    ticks = nice_ticks(low, high, 5)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 2 <= len(ticks) <= 8


def test_a_long_line_is_averaged_and_a_single_point_drawn():
    long = line_chart([Line("a", [(i, i % 7) for i in range(5000)], "train")], x_name="x", y_name="y", title="t")
    _, points = long.split('points="')
    assert len(points.partition('"')[0].split()) == 300
    single = line_chart([Line("a", [(3, 1.0)], "train")], [Level("b", 2.0, "pca")], x_name="x", y_name="y", title="t")
    assert "<circle" in single
    assert "nan" not in single
