"""Settings and code on the page of annotation are those of the package."""

from __future__ import annotations

import pytest

from scmodelforge._registry import BENCHMARKS
from scmodelforge.config import load_config
from scmodelforge.eval.annotation.scoring import metric_names
from tests.test_docs import DOCS, blocks

PAGE = "evaluation/annotation.md"


@pytest.mark.parametrize("text", blocks(PAGE, "yaml"))
def test_settings_are_valid(text, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(f"data:\n  paths: [lung.h5ad]\n{text}")
    for config in load_config(path).eval.benchmarks:
        benchmark = BENCHMARKS.get(config.name)(config)
        assert type(config) is benchmark.config_class


def test_every_score_is_explained():
    text = (DOCS / PAGE).read_text()
    assert [name for name in metric_names() if f"`{name}`" not in text] == []


def test_code_runs(capsys):
    (code,) = blocks(PAGE, "python")
    names: dict = {}
    exec(code, names)
    assert names["scores"]["accuracy_head"] > 0.9
    assert capsys.readouterr().out
