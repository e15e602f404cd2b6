"""Settings on the page of recipes are valid, and fit the models they are for."""

from __future__ import annotations

import pytest

from scmodelforge.config import load_config
from scmodelforge.config.schema import ModelConfig
from scmodelforge.models.registry import get_model
from scmodelforge.training.recipe import check_recipe_fits
from tests.test_docs import blocks

RECIPES = blocks("recipes.md", "yaml")


@pytest.mark.parametrize("text", RECIPES)
def test_a_recipe_is_valid_and_fits_a_transformer_of_six_layers(text, tmp_path, caplog):
    path = tmp_path / "run.yaml"
    path.write_text(f"data:\n  paths: [lung.h5ad]\n{text}")
    config = load_config(path)
    sizes = {"vocab_size": 20, "hidden_dim": 16, "num_layers": 6, "num_heads": 2, "max_seq_len": 32}
    model = get_model("transformer_encoder", ModelConfig(architecture="transformer_encoder", **sizes))
    check_recipe_fits(model, config.training)
    assert "has no effect" not in caplog.text


def test_the_page_has_the_published_ones(tmp_path):
    def recipe(words: str):
        (text,) = (text for text in RECIPES if words in text)
        path = tmp_path / "run.yaml"
        path.write_text(f"data:\n  paths: [lung.h5ad]\n{text}")
        return load_config(path).training

    geneformer = recipe("batch_size: 144")
    assert (geneformer.scheduler.name, geneformer.scheduler.warmup_steps) == ("linear", 10_000)
    assert (geneformer.optimizer.lr, geneformer.optimizer.weight_decay) == (1e-3, 0.001)
    scgpt = recipe("epoch_decay")
    assert (scgpt.scheduler.decay_factor, scgpt.optimizer.lr, scgpt.optimizer.weight_decay) == (0.9, 1e-4, 0)
