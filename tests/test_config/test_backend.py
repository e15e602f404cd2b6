"""``backend`` is a setting of benchmarks; BioLLM is refused wherever it is asked for."""

from __future__ import annotations

import pytest

from scmodelforge._errors import ConfigError
from scmodelforge.config import load_config


def load(tmp_path, text: str):
    path = tmp_path / "run.yaml"
    path.write_text(f"data:\n  paths: [lung.h5ad]\neval:\n{text}")
    return load_config(path)


@pytest.mark.parametrize(
    "text", ["  backend: biollm\n", "  benchmarks:\n    - {name: batch_integration, backend: biollm}\n"]
)
def test_biollm_is_refused_in_one_line(text, tmp_path):
    with pytest.raises(ConfigError, match=r"backend 'biollm' is not there.*not on PyPI.*scmodelforge embed") as error:
        load(tmp_path, text)
    assert "\n" not in str(error.value)


def test_a_backend_of_all_is_refused_and_one_of_a_benchmark_is_read(tmp_path):
    with pytest.raises(ConfigError, match=r"eval has no setting 'backend'.*eval.benchmarks"):
        load(tmp_path, "  backend: scib-metrics\n")
    config = load(tmp_path, "  benchmarks:\n    - {name: batch_integration, backend: scib-metrics}\n")
    assert config.eval.benchmarks[0].backend == "scib-metrics"
