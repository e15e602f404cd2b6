"""When a run is evaluated, and what makes a checkpoint its best: settings that are checked before anything runs."""

from __future__ import annotations

import pytest

from scmodelforge._errors import ConfigError
from scmodelforge.config.load import parse_config
from scmodelforge.eval.annotation.transfer import transfer_name

KEY = "eval/embedding_quality/heldout/nmi_kmeans"


def parse(evaluation=None, output=None, training=None, split=None):
    raw = {
        "data": {"paths": ["a.h5ad"], "split": split or {}},
        "eval": {"benchmarks": ["embedding_quality"], **(evaluation or {})},
        "output": output or {},
        "training": training or {},
    }
    return parse_config(raw, origin="run.yaml")


class TestClock:
    def test_steps_take_the_place_of_epochs(self):
        config = parse({"every_n_steps": 50})
        assert (config.eval.every_n_steps, config.eval.every_n_epochs) == (50, None)
        again = parse_config(config.to_dict() | {"model": {}}, origin="again.yaml")
        assert (again.eval.every_n_steps, again.eval.every_n_epochs) == (50, None)

    def test_two_clocks_are_refused(self):
        with pytest.raises(ConfigError, match=r"every_n_steps \(50\) and every_n_epochs \(1\) are two clocks"):
            parse({"every_n_steps": 50, "every_n_epochs": 1})

    def test_no_clock_is_refused(self):
        with pytest.raises(ConfigError, match="every_n_epochs is null and every_n_steps is not set"):
            parse({"every_n_epochs": None})

    def test_stopping_early_by_a_score_needs_epochs(self):
        stopping = {"early_stopping": {"metric": KEY, "mode": "max"}}
        with pytest.raises(ConfigError, match=r"looked at when epochs end, but evaluation goes by eval.every_n_steps"):
            parse({"every_n_steps": 50}, training=stopping)


class TestBaselines:
    def test_of_a_run_are_those_that_need_no_training(self):
        assert parse().eval.baselines == ["pca", "hvg", "random", "untrained"]
        with pytest.raises(ConfigError, match=r"eval.baselines.*scvi"):
            parse({"baselines": ["scvi"]})
        with pytest.raises(ConfigError, match=r"eval.baselines"):
            parse({"baselines": []})


class TestBestMetric:
    @pytest.mark.parametrize("metric", ["val/loss", "val/masked_gene", KEY])
    def test_is_of_the_validation_or_of_a_benchmark(self, metric):
        assert parse(output={"best_metric": metric}).output.best_metric == metric

    @pytest.mark.parametrize(
        ("metric", "words"),
        [
            ("val/los", "which validation does not give. Did you mean 'val/loss'?"),
            ("loss", "it must be val/loss or eval/BENCHMARK/DATASET/METRIC"),
            ("eval/embedding_qualty/heldout/nmi_kmeans", "Did you mean 'eval/embedding_quality/heldout'?"),
            ("eval/embedding_quality/heldout", "This run's scores begin with: eval/embedding_quality/heldout."),
            ("eval/embedding_quality/lung/nmi_kmeans", "This run's scores begin with"),
        ],
    )
    def test_that_will_not_be_there_is_refused(self, metric, words):
        with pytest.raises(ConfigError) as refused:
            parse(output={"best_metric": metric})
        assert words in str(refused.value)
        assert "\n" not in str(refused.value)

    def test_needs_a_benchmark(self):
        with pytest.raises(ConfigError, match=r"since eval.benchmarks is empty"):
            parse({"benchmarks": []}, output={"best_metric": KEY})

    def test_of_the_validation_needs_held_out_cells(self):
        with pytest.raises(ConfigError, match="holds out no cells to validate on"):
            parse({"benchmarks": []}, output={"best_metric": "val/masked_gene"}, split={"validation_fraction": 0.0})

    def test_needs_a_checkpoint_that_is_kept(self):
        with pytest.raises(ConfigError, match=r"output.save_top_k is 0"):
            parse(output={"best_metric": KEY, "save_top_k": 0})

    def test_of_two_data_sets_has_the_name_of_both(self):
        transfer = {"name": "label_transfer", "reference": "a/first.h5ad", "dataset": "b/second.h5ad"}
        name = transfer_name(transfer["reference"], transfer["dataset"])
        config = parse({"benchmarks": [transfer]}, output={"best_metric": f"eval/label_transfer/{name}/accuracy_knn15"})
        assert config.output.best_metric.split("/")[2] == name
        with pytest.raises(ConfigError, match=f"Did you mean 'eval/label_transfer/{name}'?"):
            parse({"benchmarks": [transfer]}, output={"best_metric": "eval/label_transfer/second/accuracy_knn15"})
