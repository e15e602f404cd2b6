"""Settings of which genes make a vocabulary."""

from __future__ import annotations

import pytest

from scmodelforge._errors import ConfigError
from scmodelforge.config import dump_config, load_config
from tests.test_config.conftest import MINIMAL


@pytest.mark.parametrize(
    "settings",
    [
        "gene_vocab: from_data\n  gene_vocab_panels: intersection",
        "gene_vocab: from_data\n  gene_vocab_panels: 3",
        "orthologs: {}",
        "orthologs: {species: [mouse, rat.tsv], policy: one_to_many}",
        "orthologs: {policy: drop}",
    ],
)
def test_what_is_right_is_read_and_written_the_same(write, settings):
    config = load_config(write(f"{MINIMAL}  {settings}"))
    assert load_config(write(dump_config(config), "shown.yaml")) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            "gene_vocab_panels: intersection",
            "data.gene_vocab_panels is 'intersection', but data.gene_vocab is not 'from_data'.*; set data",
        ),
        ("gene_vocab: from_data\n  gene_vocab_panels: 0", "data.gene_vocab_panels"),
        ("gene_vocab: from_data\n  gene_vocab_panels: most", "data.gene_vocab_panels"),
        ("orthologs: {policy: all}", "data.orthologs.policy .*one_to_one"),
        ("orthologs: {species: []}", "data.orthologs.species"),
        ("orthologs: {specie: mouse}", "data.orthologs.specie'?.* Did you mean 'species'"),
    ],
)
def test_what_is_wrong_is_refused_by_its_path(write, settings, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(f"{MINIMAL}  {settings}"))


def test_one_species_is_a_list_of_one(write):
    assert load_config(write(f"{MINIMAL}  orthologs: {{}}")).data.orthologs.all_species() == ["mouse"]
