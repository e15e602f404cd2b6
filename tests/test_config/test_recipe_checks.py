"""Settings of a recipe that need or contradict others."""

from __future__ import annotations

import pytest

from scmodelforge._errors import ConfigError
from scmodelforge.config import dump_config, load_config
from scmodelforge.config.load import parse_config


def parsed(training: dict, **sections):
    return parse_config({"data": {"paths": ["a.h5ad"]}, "training": training, **sections}, origin="run.yaml")


@pytest.mark.parametrize(
    ("training", "sections", "words"),
    [
        ({"unfreeze": [{"epoch": 1, "parameters": ["head*"]}]}, {}, "unfreeze begins with epoch 1, so nothing is"),
        (
            {"unfreeze": [{"epoch": epoch, "parameters": ["*"]} for epoch in (0, 3, 3)]},
            {},
            "has the epochs 0, 3, 3; each must be later than the one before",
        ),
        (
            {"max_epochs": 4, "unfreeze": [{"epoch": epoch, "parameters": ["*"]} for epoch in (0, 4)]},
            {},
            "has an entry of epoch 4, but training.max_epochs is 4",
        ),
        (
            {"early_stopping": {}},
            {"data": {"paths": ["a.h5ad"], "split": {"validation_fraction": 0.0}}},
            "metric is 'val/loss', but data.split holds out no cells",
        ),
        (
            {"early_stopping": {"metric": "accuracy"}},
            {},
            "is neither of the validation .* since eval.benchmarks is emp",
        ),
        (
            {"early_stopping": {"metric": "eval/x"}},
            {"eval": {"benchmarks": ["embedding_quality"]}},
            "mode is needed for the metric 'eval/x'",
        ),
        ({"scheduler": {"warmup_steps": 5, "warmup_fraction": 0.1}}, {}, "both say how long the warm-up is"),
        ({"optimizer": {"groups": [{"parameters": "head*"}]}}, {}, "has neither lr nor weight_decay"),
        ({"ema": {"decay": 1.0}}, {}, "training.ema.decay"),
        ({"early_stopping": {"patience": 0}}, {}, "training.early_stopping.patience"),
        ({"unfreeze": [{"epoch": 0, "parameters": []}]}, {}, "training.unfreeze"),
    ],
)
def test_are_refused_in_one_line(training, sections, words):
    with pytest.raises(ConfigError, match=words) as raised:
        parsed(training, **sections)
    assert len(str(raised.value).splitlines()) == 1


def test_settings_that_the_schedule_does_not_read_are_told(caplog):
    parsed({"scheduler": {"name": "linear", "decay_factor": 0.5, "decay_shape": "linear", "min_lr_ratio": 0.1}})
    told = [record.message for record in caplog.records]
    assert len(told) == 2
    assert all(f"scheduler.{name} has no effect on scheduler 'linear'" in "".join(told) for name in
               ("decay_factor", "decay_shape"))  # fmt: skip


def test_all_of_a_recipe_is_kept_with_a_run(tmp_path):
    config = parsed(
        {
            "max_epochs": 5,
            "optimizer": {"layer_decay": 0.8, "groups": [{"parameters": "head*", "lr": 1e-3}]},
            "scheduler": {"name": "wsd", "warmup_fraction": 0.1},
            "ema": {"decay": 0.99},
            "early_stopping": {"patience": 2},
            "unfreeze": [{"epoch": 0, "parameters": ["head*"]}, {"epoch": 1, "parameters": ["*"]}],
        }
    )
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config))
    assert load_config(path).to_dict() == config.to_dict()


def test_a_metric_that_validation_does_not_give_is_refused_with_those_there_are():
    with pytest.raises(ConfigError) as caught:
        parsed({"early_stopping": {"metric": "val/lose"}})
    assert "training.early_stopping.metric is 'val/lose', which validation does not give." in str(caught.value)
    assert "Did you mean 'val/loss'?" in str(caught.value)
    assert "val/masked_gene" in str(caught.value)
