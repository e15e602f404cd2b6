"""The tokens of Geneformer's official tokenizer (version of 2026-02, numpy 2.4.6 on a processor with AVX-512).

The files and how they were made are described in the folder they are read from. Where several genes of a cell have
exactly equal values, their order in those files is that of an unstable sort on one processor.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from scmodelforge.workflows.tokenize import tokenize_file

from .golden import golden_folder, needs

GOLDEN = golden_folder("geneformer")
pytestmark = needs(GOLDEN)
NAMES = [
    "dtype_csr_f32", "dtype_csr_f32_n32", "dtype_csr_i64", "dtype_dense_f32", "dtype_dense_f64_n32", "pbmc68k",
    "synth_clean", "synth_crop_tie", "synth_exact_dup", "synth_explicit_zeros", "synth_long", "synth_messy",
    "synth_ties",
]  # fmt: skip
CASES = [f"{name}.{version}" for name in NAMES for version in ("V1", "V2")]
#: Files in which some order is left to the sort.
TIED = [
    "synth_clean.V2", "synth_crop_tie.V1", "synth_crop_tie.V2", "synth_explicit_zeros.V1", "synth_explicit_zeros.V2",
    "synth_long.V2", "synth_ties.V1", "synth_ties.V2",
]  # fmt: skip
#: Some of the files in which no two columns are one gene, and no zero is stored: there nothing needs ``compat``.
PLAIN = ["dtype_dense_f64_n32.V1", "dtype_csr_f32_n32.V2", "pbmc68k.V1", "pbmc68k.V2", "synth_crop_tie.V2"]


def tokens_of(case: str, folder: Path, **settings) -> dict[int, list[int]]:
    import pyarrow.parquet as pq

    name, version = case.rsplit(".", 1)
    out = folder / f"{case}.parquet"
    tokenize_file(
        GOLDEN / "inputs" / f"{name}.h5ad",
        out,
        preset=f"geneformer-{version.lower()}",
        dictionaries=GOLDEN / "dictionaries",
        **settings,
    )
    rows = pq.read_table(out).to_pylist()
    assert all(row["length"] == len(row["input_ids"]) for row in rows)
    return {row["cell_index"]: row["input_ids"] for row in rows}


@cache
def expected(case: str) -> dict[int, dict]:
    import pyarrow.parquet as pq

    columns = ["cell_index", "input_ids", "tie_group", "input_ids_stable", "input_ids_nosimd", "crop_tie_tokens"]
    table = pq.read_table(GOLDEN / "expected" / f"{case}.parquet", columns=columns)
    return {row["cell_index"]: row for row in table.to_pylist()}


def groups(row: dict) -> list[tuple[int, int]]:
    """Return where each stretch of equal values begins and ends."""
    marks = row["tie_group"]
    starts = [i for i in range(len(marks)) if i == 0 or marks[i] != marks[i - 1] or marks[i] < 0]
    return list(zip(starts, [*starts[1:], len(marks)], strict=True))


def is_same_but_for_ties(row: dict, found: list[int]) -> bool:
    wanted = row["input_ids"]
    if len(found) != len(wanted):
        return False
    stretches = groups(row)
    body = [stretch for stretch in stretches if row["tie_group"][stretch[0]] >= 0]
    for stretch in stretches:
        here = slice(*stretch)
        if row["crop_tie_tokens"] and stretch == body[-1]:  # any of the genes that are cut through may be kept
            if Counter(found[here]) - Counter(row["crop_tie_tokens"]):
                return False
        elif Counter(found[here]) != Counter(wanted[here]):
            return False
    return True


def has_ties(row: dict) -> bool:
    if row["crop_tie_tokens"]:
        return True
    return any(len(set(row["input_ids"][start:stop])) > 1 for start, stop in groups(row))


def test_all_files_are_here():
    assert sorted(path.stem for path in GOLDEN.glob("expected/*.parquet")) == sorted(CASES)


@pytest.mark.parametrize("case", CASES)
def test_every_cell_has_the_official_tokens(case, tmp_path):
    wanted, found = expected(case), tokens_of(case, tmp_path, compat=True)
    assert found.keys() == wanted.keys()
    for cell, row in wanted.items():
        assert is_same_but_for_ties(row, found[cell]), cell
        if not has_ties(row):
            assert found[cell] == row["input_ids"], cell
    assert any(map(has_ties, wanted.values())) == (case in TIED)


@pytest.mark.parametrize("case", TIED)
def test_stable_ties_are_in_the_order_of_the_file(case, tmp_path):
    wanted, found = expected(case), tokens_of(case, tmp_path, compat=True, ties="stable")
    assert found == {cell: row["input_ids_stable"] or row["input_ids"] for cell, row in wanted.items()}


@pytest.mark.slow
def test_numpy_ties_are_the_official_ones_on_a_processor_of_the_same_kind(tmp_path):
    # The official code ran once more without the instructions that are turned off here.
    import pyarrow.parquet as pq
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    code = f"""
from pathlib import Path
from tests.parity.test_geneformer import TIED, tokens_of
for case in TIED:
    tokens_of(case, Path({str(tmp_path)!r}), compat=True, ties="numpy")
"""
    turned_off = " ".join(name for name in __cpu_dispatch__ if __cpu_features__[name])
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": turned_off}
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, check=True, capture_output=True)
    for case in TIED:
        found = pq.read_table(tmp_path / f"{case}.parquet").to_pylist()
        wanted = {cell: row["input_ids_nosimd"] or row["input_ids"] for cell, row in expected(case).items()}
        assert {row["cell_index"]: row["input_ids"] for row in found} == wanted, case


@pytest.mark.parametrize("case", PLAIN)
def test_files_without_oddities_need_no_compat(case, tmp_path, caplog):
    with caplog.at_level(logging.ERROR):
        wanted, found = expected(case), tokens_of(case, tmp_path)
    assert found.keys() == wanted.keys()
    assert all(is_same_but_for_ties(row, found[cell]) for cell, row in wanted.items())


@pytest.mark.parametrize("version", ["V1", "V2"])
def test_without_compat_messy_files_lose_less(version, tmp_path):
    official, found = expected(f"synth_messy.{version}"), tokens_of(f"synth_messy.{version}", tmp_path)
    assert found.keys() > official.keys()  # filter_pass is a column like any other
    assert all(len(set(found[cell])) == len(found[cell]) for cell in found)
    assert sum(len(found[cell]) for cell in official) > sum(len(set(row["input_ids"])) for row in official.values())
