"""What the page on connectomes says runs, and its names are those of the package."""

from __future__ import annotations

import re
from pathlib import Path

from scmodelforge.connectome import get_connectome_model, list_baselines, list_connectome_models
from scmodelforge.connectome.splits import STRATEGIES

PAGE = (Path(__file__).parents[1] / "docs" / "connectome.md").read_text()


def test_its_first_code_runs(capsys):
    code = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0]
    exec(code, {})
    assert "pearson_r" in capsys.readouterr().out


def test_its_model_is_trained_saved_and_asked(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, *others = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    model = next(code for code in others if "CrossAttentionGene2VecModel(" in code)
    exec(f"{first}\n{model}", {})
    assert "([8, 4, 33, 32]) ['GENE00', 'GENE01', 'GENE02']" in capsys.readouterr().out
    assert (tmp_path / "planted_model" / "model.safetensors").is_file()


def test_its_table_has_every_model():
    assert all(f"| `{name}` | `{get_connectome_model(name).__name__}` |" in PAGE for name in list_connectome_models())


def test_its_table_has_every_baseline():
    table = PAGE[PAGE.index("| name | knows") :]
    rows = table[: table.index("\n\n")]
    named = re.findall(r"`(\w+)`", rows)
    full = {f"kronecker_ridge{name}" if name.startswith("_") else name for name in named}
    assert set(list_baselines()) <= full


def test_its_table_has_every_strategy():
    assert all(f"| `{strategy}` |" in PAGE for strategy in STRATEGIES)
