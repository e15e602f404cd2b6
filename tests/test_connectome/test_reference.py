"""The figures of the reference on real data, within the noise of folds: other regions are drawn there."""

from __future__ import annotations

import numpy as np
import pytest

from scmodelforge.connectome import RegionPairDataset, get_baseline, read_regions, region_folds
from tests.test_connectome.brains import SCHAEFER, needs_schaefer

pytestmark = needs_schaefer


@pytest.fixture(scope="module")
def schaefer() -> RegionPairDataset:
    return read_regions(SCHAEFER, "fc").pairs()


def mean_r(name: str, data: RegionPairDataset, strategy: str) -> float:
    scores = []
    for split in region_folds(data, 4, strategy):
        found = get_baseline(name).fit(data, split.train).predict(data, split.inner)
        scores.append(np.corrcoef(found, data.targets(split.inner))[0, 1])
    return float(np.mean(scores))


def test_the_file_is_read_as_it_is_described(schaefer):
    assert (schaefer.num_regions, schaefer.num_genes, len(schaefer)) == (114, 810, 12_882)
    assert not schaefer.is_directed
    assert len(set(schaefer.networks.tolist())) == 8


def test_correlated_expression_by_network_has_nothing_to_draw_and_equals_the_reference(schaefer):
    assert mean_r("cge", schaefer, "network") == pytest.approx(0.309, abs=0.001)


@pytest.mark.parametrize(("name", "reference"), [("cge", 0.469), ("exponential_decay", 0.329)])
def test_simple_baselines_are_near_the_reference(schaefer, name, reference):
    assert mean_r(name, schaefer, "random") == pytest.approx(reference, abs=0.07)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "reference"), [("ridge", 0.568), ("bilinear", 0.585), ("pls", 0.555), ("kronecker_ridge", 0.644)]
)
def test_other_baselines_are_near_the_reference(schaefer, name, reference):
    assert mean_r(name, schaefer, "random") == pytest.approx(reference, abs=0.07)


@pytest.mark.slow
def test_coordinates_alone_beat_genes(schaefer):
    coords, genes = (mean_r(name, schaefer, "random") for name in ("kronecker_ridge_coords", "kronecker_ridge"))
    assert coords > genes + 0.05
