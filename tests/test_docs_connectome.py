"""What the page on connectomes says runs, and its names are those of the package."""

from __future__ import annotations

import re
from pathlib import Path

from scmodelforge.connectome import list_baselines
from scmodelforge.connectome.splits import STRATEGIES

PAGE = (Path(__file__).parents[1] / "docs" / "connectome.md").read_text()


def test_its_first_code_runs(capsys):
    code = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0]
    exec(code, {})
    assert "pearson_r" in capsys.readouterr().out


def test_its_table_has_every_baseline():
    table = PAGE[PAGE.index("| name | knows") :]
    rows = table[: table.index("\n\n")]
    named = re.findall(r"`(\w+)`", rows)
    full = {f"kronecker_ridge{name}" if name.startswith("_") else name for name in named}
    assert set(list_baselines()) <= full


def test_its_table_has_every_strategy():
    assert all(f"| `{strategy}` |" in PAGE for strategy in STRATEGIES)
