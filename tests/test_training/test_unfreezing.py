"""What is trained in which epoch."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from scmodelforge._errors import ConfigError, Interrupted
from scmodelforge.config.schema import EmaConfig, OptimizerConfig, SchedulerConfig, UnfreezeConfig
from scmodelforge.training.checkpoint import Checkpoints
from scmodelforge.training.loop import fit
from scmodelforge.training.recipe import recipe_callbacks
from scmodelforge.training.unfreezing import check_stages

from .parts import StopAfter, TwoTermModel, curve, make_run, settings, weights

STAGES = [
    UnfreezeConfig(epoch=0, parameters=["value.*", "embedding.*"]),
    UnfreezeConfig(epoch=2, parameters=["hid*"]),
    UnfreezeConfig(epoch=3, parameters=["*"]),
]
CONFIG = settings(
    max_epochs=4,
    unfreeze=STAGES,
    optimizer=OptimizerConfig(lr=1e-2, weight_decay=0.5),
    scheduler=SchedulerConfig(name="constant"),
)
FIRST, SECOND = {"value.weight", "value.bias", "embedding.weight"}, {"hidden.weight", "hidden.bias"}
ALL = FIRST | SECOND | {"norm.weight", "norm.bias"}


class Epochs:
    """Keeps the weights at the beginning and after each epoch, and what the optimiser has moments of."""

    def __init__(self) -> None:
        self.weights: list[dict[str, torch.Tensor]] = []
        self.moments: list[set[str]] = []

    def on_fit_start(self, run) -> None:
        self.weights.append(weights(run))

    def on_epoch_end(self, run) -> None:
        self.weights.append(weights(run))
        names = {id(parameter): name for name, parameter in run.model.named_parameters()}
        self.moments.append({names[id(parameter)] for parameter in run.optimizer.state})


def run_through(folder=None, **options):
    run, epochs = make_run(folder, config=CONFIG, **options), Epochs()
    fit(run, recipe_callbacks(CONFIG, [epochs]))
    return run, epochs


class TestEpochs:
    def test_change_what_is_trained_and_not_a_byte_of_the_rest(self):
        _, epochs = run_through()
        changed = [
            {name for name, value in after.items() if not torch.equal(value, before[name])}
            for before, after in zip(epochs.weights[:-1], epochs.weights[1:], strict=True)
        ]
        assert changed == [FIRST, FIRST, FIRST | SECOND, ALL]

    def test_give_no_moments_to_what_is_frozen(self):
        _, epochs = run_through()
        assert epochs.moments == [FIRST, FIRST, FIRST | SECOND, ALL]

    def test_that_train_all_from_the_first_on_are_as_without(self, tmp_path):
        plain = CONFIG.model_copy(update={"unfreeze": []})
        fit(make_run(tmp_path / "plain", config=plain))
        whole = CONFIG.model_copy(update={"unfreeze": [UnfreezeConfig(epoch=0, parameters=["*"])]})
        fit(make_run(tmp_path / "whole", config=whole), recipe_callbacks(whole, []))
        assert curve(tmp_path / "whole") == curve(tmp_path / "plain")

    def test_say_how_much_is_trained(self, caplog):
        caplog.set_level("INFO")
        run_through()
        lines = [record.message for record in caplog.records if "training" in record.message]
        # 12 x 8 genes, 8 + 1 of the values, 8 x 8 + 8 hidden, 2 x 8 of the norm.
        assert lines == [
            "epoch 1/4  training 105 of 193 parameters",
            "epoch 3/4  training 177 of 193 parameters",
            "epoch 4/4  training 193 of 193 parameters",
        ]

    def test_say_so_after_the_line_of_the_epoch_before(self, caplog):
        caplog.set_level("INFO")
        run_through()
        lines = [record.message for record in caplog.records if record.message.startswith("epoch ")]
        at = lines.index("epoch 3/4  training 177 of 193 parameters")
        assert lines[at - 1].startswith("epoch 2/4  step 6  train/loss")
        assert lines[at + 1].startswith("epoch 3/4  step 7  train/loss")

    def test_leave_frozen_what_the_model_itself_freezes(self):
        def frozen() -> TwoTermModel:
            model = TwoTermModel()
            model.norm.requires_grad_(False)
            return model

        _, epochs = run_through(model=frozen)
        assert all(torch.equal(each["norm.weight"], epochs.weights[0]["norm.weight"]) for each in epochs.weights)


class TestResumed:
    @pytest.mark.parametrize("step", [2, 6, 8, 9, 10])
    def test_runs_equal_the_unbroken_one(self, tmp_path, step):
        """With averages too, and in the middle of an epoch or where one begins."""
        config = CONFIG.model_copy(update={"ema": EmaConfig(decay=0.5)})
        unbroken = make_run(tmp_path / "unbroken", config=config, dropout=0.3)
        fit(unbroken, recipe_callbacks(config, []))
        with pytest.raises(Interrupted):
            fit(make_run(tmp_path / "run", config=config, dropout=0.3), recipe_callbacks(config, [StopAfter(step)]))
        run, callbacks = make_run(tmp_path / "run", config=config, dropout=0.3), recipe_callbacks(config, [])
        run.checkpoints.load(run, Checkpoints.find_last(run.checkpoints.folder), callbacks)
        fit(run, callbacks)
        assert curve(tmp_path / "run") == curve(tmp_path / "unbroken")
        assert all(torch.equal(weights(unbroken)[name], value) for name, value in weights(run).items())
        files = [load_file(each.checkpoints.path_of(12) / "state.safetensors") for each in (run, unbroken)]
        assert files[0].keys() == files[1].keys()
        assert all(torch.equal(value, files[1][name]) for name, value in files[0].items())


def test_a_pattern_that_fits_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"unfreeze\[1\].parameters is 'layers.\*', which fits no parameter of TwoT"):
        check_stages(TwoTermModel(), [STAGES[0], UnfreezeConfig(epoch=1, parameters=["layers.*"])])
