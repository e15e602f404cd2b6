"""Settings and code of the page on genes are those of the package."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from scmodelforge.config import load_config
from scmodelforge.eval.benchmarks.gene_embedding_quality import GeneEmbeddingQualityConfig
from scmodelforge.eval.benchmarks.gene_network_inference import GeneNetworkInferenceConfig
from scmodelforge.eval.genes.gene_sets import GeneSetConfig
from scmodelforge.eval.networks.config import NetworkConfig

PAGE = (Path(__file__).parents[1] / "docs" / "evaluation" / "genes.md").read_text()
SHARED = {"name", "dataset", "label", "batch"}


def block(language: str) -> str:
    (text,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return text


def test_its_settings_are_valid(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(f"data:\n  paths: [lung.h5ad]\n{block('yaml')}")
    networks, genes = load_config(path).eval.benchmarks
    assert [each.label for each in networks.networks] == ["trrust_rawdata", "dorothea_ab"]
    assert (genes.tf_network.path, genes.vectors) == ("dorothea.tsv", "contextual")


def test_its_code_runs():
    names: dict = {"names": ("MYC", "MAX", "TP53"), "rows": np.array([[1, 0], [1, 0.1], [0, 1]])}
    exec(block("python"), names)
    assert names["table"]["neighbour"] == ["MAX", "TP53"]


@pytest.mark.parametrize(
    "section", [GeneNetworkInferenceConfig, GeneEmbeddingQualityConfig, GeneSetConfig, NetworkConfig]
)
def test_every_setting_is_mentioned(section):
    missing = [name for name in section.model_fields if name not in SHARED and f"`{name}`" not in PAGE]
    assert missing in ([], ["path"])  # ``path`` is that of a table


def test_every_baseline_is_listed():
    names = GeneNetworkInferenceConfig(networks=["x.tsv"]).baselines
    assert all(f"`{name}`" in PAGE for name in [*names, "genie3", "permuted_network"])
