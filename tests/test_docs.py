"""Settings and code in the documents are those of the package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scmodelforge.config import load_config
from tests.conftest import make_adata

DOCS = Path(__file__).parents[1] / "docs"


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / name).read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", blocks("data.md", "yaml"))
def test_settings_of_the_data_page_are_valid(text, tmp_path):
    if "paths:" not in text and "source:" not in text:
        text = text.replace("data:\n", "data:\n  paths: [lung.h5ad]\n", 1)
    path = tmp_path / "run.yaml"
    path.write_text(text)
    assert load_config(path).data.source in ("local", "cellxgene_census", "mixture")


def test_code_of_the_data_page_runs(tmp_path, monkeypatch):
    (code,) = blocks("data.md", "python")
    monkeypatch.chdir(tmp_path)
    make_adata(70, 30).write_h5ad("lung.h5ad")
    names: dict = {}
    exec(code, names)
    assert names["batch"]["input_ids"].shape[0] == 70 % 32
