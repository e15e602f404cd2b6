"""A compiled model is trained as the plain one, and its checkpoints are those of the plain one."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from scmodelforge.config.schema import ModelConfig, UnfreezeConfig
from scmodelforge.models.registry import get_model
from scmodelforge.training.loop import fit
from scmodelforge.training.recipe import compile_model, recipe_callbacks

from .parts import NUM_GENES, StandInLoader, curve, make_run, settings


class Genes(StandInLoader):
    """The cells of the stand-in, as a model of the package reads them; a quarter of each batch is padding."""

    def batch(self, step: int) -> list[dict]:
        batches = super().batch(step)
        for batch in batches:
            batch["attention_mask"] = torch.ones_like(batch["input_ids"])
            batch["attention_mask"][::2, 3:] = 0
            batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
            batch["values"] = batch.pop("truth").abs()
            del batch["wanted"]
            batch["num_targets"] = {"masked_gene": int((batch["labels"] != -100).sum())}
        return batches


def encoder():
    sizes = {"vocab_size": NUM_GENES, "hidden_dim": 16, "num_layers": 2, "num_heads": 2, "max_seq_len": 8}
    return get_model("transformer_encoder", ModelConfig(architecture="transformer_encoder", dropout=0.0, **sizes))


def trained(folder, name: str, config, compiling=None, **options) -> dict[str, torch.Tensor]:
    """Return the weights of the last checkpoint of a run."""
    options.setdefault("val_loader", Genes(shuffle=False))
    run = make_run(folder / name, config=config, model=encoder, train_loader=Genes(), **options)
    if compiling is not None:
        compiling(run.model)
    fit(run, recipe_callbacks(config, []))
    return load_file(run.checkpoints.path_of(run.progress.step) / "model" / "model.safetensors")


def assert_close(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler
def test_a_compiled_step_equals_the_plain_one_and_names_stay_bare(tmp_path, caplog):
    config = settings(max_epochs=1, steps_per_epoch=1)
    plain = trained(tmp_path, "plain", config, val_loader=None)
    compiled = trained(tmp_path, "compiled", config, lambda m: compile_model(m, torch.device("cpu")), val_loader=None)
    assert "rarely pays on the CPU" in caplog.text
    assert_close(plain, compiled)
    assert curve(tmp_path / "compiled")[0] == pytest.approx(curve(tmp_path / "plain")[0], rel=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_is_traced_has_no_breaks_and_follows_unfreezing(tmp_path):
    """Traced only, not made into kernels: with validation, and with parameters that are frozen at first."""
    stages = [UnfreezeConfig(epoch=0, parameters=["head*"]), UnfreezeConfig(epoch=1, parameters=["*"])]
    config = settings(max_epochs=2, unfreeze=stages)
    plain = trained(tmp_path, "plain", config)
    traced = trained(tmp_path, "traced", config, lambda m: m.compile(backend="eager", fullgraph=True))
    assert_close(plain, traced)
    validated = [[r["val/loss"] for r in curve(tmp_path / n) if "val/loss" in r] for n in ("plain", "traced")]
    assert validated[0] == pytest.approx(validated[1], rel=1e-4)
