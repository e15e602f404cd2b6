"""Where data lie and how they are fetched is no part of what a run is; a run finds its cache from any folder."""

from __future__ import annotations

from pathlib import Path

from scmodelforge.config import parse_config
from scmodelforge.workflows.config_hash import config_hash
from scmodelforge.workflows.pretrain import make_absolute
from scmodelforge.workflows.runfolder import RunFolder


def settings(**data):
    return parse_config({"data": {"source": "local", **data}}, origin="test")


def test_a_run_may_be_resumed_with_the_data_elsewhere_and_other_settings_of_fetching():
    here = settings(paths=["cells.h5ad"])
    there = settings(paths=["s3://lung/cells.h5ad"], remote={"cache": "blocks", "max_in_flight": 4})
    assert config_hash(here) == config_hash(there)


def test_the_folder_of_the_cache_becomes_absolute_and_addresses_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = settings(paths=["s3://lung/cells.h5ad", "cells.h5ad"], remote={"cache": "blocks"})
    make_absolute(config, RunFolder.of(config, name="run"), base=tmp_path)
    assert config.data.remote.cache == str(Path("blocks").absolute())
    assert config.data.paths == ["s3://lung/cells.h5ad", str(tmp_path / "cells.h5ad")]
