"""The page that says where to start: the metrics it names are those that benchmarks give."""

from __future__ import annotations

import re
from pathlib import Path

from scmodelforge.eval.annotation.scoring import metric_names
from scmodelforge.eval.embedding.catalogue import all_names
from scmodelforge.eval.ranking import RANKING_METRICS
from tests.test_eval.test_perturbation.screens import HELD_OUT, only, read, run, screen

FOLDER = Path(__file__).parents[1] / "docs" / "evaluation"
PAGE = (FOLDER / "README.md").read_text()


def named(part: str) -> list[str]:
    """Return the metrics that the table of a part looks at."""
    own = PAGE.split(f"## {part}")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", own, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


def test_each_part_names_a_few_metrics_that_there_are():
    predictions = read(only(screen(), HELD_OUT), screen())
    of_predictions = {*run("perturbation_prediction", predictions), *run("vcc", predictions)}
    probes = {f"{name}_{probe}" for name in metric_names() for probe in ("linear_probe", "knn15", "head")}
    known = {"Embeddings": set(all_names()), "Cell types": probes, "Perturbations": of_predictions}
    for part, there in known.items():
        assert 5 <= len(named(part)) <= 7, part
        assert set(named(part)) <= there, part
    stems = {*RANKING_METRICS, "auroc_per_tf", "auroc_input"}
    assert {name.replace("_...", "").replace("_NAME", "") for name in named("Genes and networks")} <= stems


def test_every_page_is_linked_from_it():
    pages = {path.name for path in FOLDER.glob("*.md")} - {"README.md"}
    assert pages == set(re.findall(r"\]\((\w+\.md)\)", PAGE))
