"""``scmodelforge data bench``."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from scmodelforge.cli.main import app


def invoke(*words: object):
    return CliRunner().invoke(app, ["data", "bench", *(str(word) for word in words)])


class TestBench:
    def test_prints_rates_stages_and_what_limits(self, tiny_h5ad):
        result = invoke(tiny_h5ad, "--batch-size", 16)
        assert result.exit_code == 0, result.output
        lines = {line[:22].strip(): line[23:] for line in result.stdout.splitlines()}
        assert lines["cells"] == "60 in batches of 16, 2 threads"
        assert float(lines["cells/s"].replace(",", "")) > 0
        assert lines["bottleneck"] in ("reading", "tokenising", "the consumer", "waiting")
        assert lines["advice"]

    @pytest.mark.parametrize("tokens", ["rank_value", "none"])
    @pytest.mark.parametrize("threads", [0, 1])
    def test_json_has_all_numbers(self, tiny_h5ad, tokens, threads):
        result = invoke(tiny_h5ad, "--tokens", tokens, "--threads", threads, "--json")
        found = json.loads(result.stdout)
        assert found["cells"] == 60
        assert found["tokens"] == tokens
        assert found["cells_per_second"] == pytest.approx(60 / found["seconds"], rel=0.01)
        assert 0 < found["first_batch_seconds"] <= found["seconds"]
        assert set(found["stages"]) == {"reading", "tokenising", "the consumer", "waiting"}
        assert min(found["stages"].values()) >= 0

    def test_a_missing_file_has_status_2(self, tmp_path):
        result = invoke(tmp_path / "missing.h5ad")
        assert result.exit_code == 2
        assert "no file" in result.stderr
