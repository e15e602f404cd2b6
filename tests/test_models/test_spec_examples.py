"""The documented examples of models, as they stand, one file a block.

What a comment claims of shapes holds; numbers of parameters and lists of models in comments are only examples.
"""

from __future__ import annotations

import ast
import runpy
from pathlib import Path

import pytest
import torch

from scmodelforge import models
from scmodelforge._registry import MODELS
from scmodelforge.models import list_models

FOLDER = Path(__file__).parent.parent / "fixtures" / "spec_001"
FILES = sorted(path.name for path in FOLDER.glob("*.py"))
IMPORTS = [name for name in FILES if "_import_" in name]


@pytest.fixture
def run(capsys):
    """Run a file of the folder; return its variables and the lines it printed."""

    def run_file(name: str) -> tuple[dict, list[str]]:
        found = runpy.run_path(str(FOLDER / name))
        return found, capsys.readouterr().out.splitlines()

    torch.manual_seed(0)
    return run_file


@pytest.fixture
def same_models():
    """Forget the models that a test registers."""
    before = set(list_models())
    yield before
    for name in set(MODELS.names()) - before:
        MODELS._parts.pop(name)


def test_no_block_is_left_out():
    assert [name[:2] for name in FILES] == [f"{number:02d}" for number in range(1, 33)]
    tested = set(IMPORTS) | {name for name in FILES if name in Path(__file__).read_text()}
    assert tested == set(FILES)


@pytest.mark.parametrize("name", IMPORTS)
def test_the_documented_import(run, name):
    (statement,) = ast.parse((FOLDER / name).read_text()).body
    found, _ = run(name)
    (alias,) = statement.names
    assert callable(found[alias.name])
    assert statement.module in ("scmodelforge.models", "scmodelforge.models.components")


def test_model_output(run):
    found, lines = run("02_model_output.py")
    assert lines[0].startswith("tensor(")
    assert lines[1:] == ["torch.Size([4, 128, 5000])", "torch.Size([4, 512])", "None"]
    assert found["output"].logits.shape == (4, 128, 5000)


@pytest.mark.slow
def test_transformer_encoder(run):
    found, lines = run("04_transformer_encoder.py")
    assert lines[0].startswith("Model has ")
    assert lines[1:] == ["torch.Size([16, 512])"]
    assert found["loss"].ndim == 0
    assert all(p.grad is not None for p in found["model"].parameters())
    assert found["model"].pooling == "mean"


@pytest.mark.slow
def test_autoregressive_transformer(run):
    found, lines = run("06_autoregressive_transformer.py")
    assert lines[0].startswith("tensor(")
    assert lines[1:] == ["torch.Size([8, 200, 5000])", "torch.Size([8, 512])"]
    terms = found["output"].loss_terms
    gene = torch.nn.functional.cross_entropy(found["output"].logits.flatten(0, 1), found["batch"]["labels"].flatten())
    assert torch.allclose(terms["next_gene"], gene, atol=1e-4)
    assert terms["expression_bin"].item() == pytest.approx(0.5 * 3.93, abs=0.5)  # half of log 51
    assert torch.allclose(found["output"].loss, sum(terms.values()))


@pytest.mark.slow
def test_masked_autoencoder(run):
    """Without gradients, which the block does not use: its two graphs of 12 layers take 8 GiB."""
    with torch.no_grad():
        found, lines = run("08_masked_autoencoder.py")
    assert lines[0] == "Encoder dim: 768, Decoder dim: 384"
    assert lines[1].startswith("tensor(")
    assert lines[2:] == ["torch.Size([16, 300])", "torch.Size([16, 768])"]
    output, batch = found["output"], found["batch"]
    masked = batch["masked_positions"]
    expected = torch.nn.functional.mse_loss(output.logits[masked], batch["values"][masked])
    assert torch.allclose(output.loss, expected, atol=1e-5)
    assert len(found["model"].encoder.layers) == 12
    assert len(found["model"].decoder.layers) == 4


def test_gene_expression_embedding(run):
    assert run("10_gene_expression_embedding.py")[1] == ["torch.Size([8, 256, 512])"] * 2


def test_masked_gene_prediction_head(run):
    found, lines = run("12_masked_gene_prediction_head.py")
    assert lines == ["torch.Size([4, 128, 5000])"]
    assert found["loss"].item() > 0


def test_bin_prediction_head(run):
    found, lines = run("14_bin_prediction_head.py")
    assert lines == ["torch.Size([8, 200, 51])"]
    assert found["loss"].item() > 0


def test_expression_prediction_head(run):
    found, lines = run("16_expression_prediction_head.py")
    assert lines == ["torch.Size([16, 300])"]
    assert found["loss"].item() > 0


def test_cls_pool(run):
    found, lines = run("18_cls_pool.py")
    assert lines == ["torch.Size([8, 512])"]
    assert torch.equal(found["cell_embeddings"], found["hidden_states"][:, 0])


def test_mean_pool(run):
    found, lines = run("20_mean_pool.py")
    assert lines == ["torch.Size([8, 512])"] * 2
    assert torch.allclose(found["cell_embeddings"], found["hidden_states"].mean(1), atol=1e-6)


def test_generate_causal_mask(run):
    found, lines = run("22_generate_causal_mask.py")
    documented = [
        "tensor([[ 0., -inf, -inf, -inf, -inf],",
        "        [ 0.,  0., -inf, -inf, -inf],",
        "        [ 0.,  0.,  0., -inf, -inf],",
        "        [ 0.,  0.,  0.,  0., -inf],",
        "        [ 0.,  0.,  0.,  0.,  0.]])",
    ]
    assert [line.replace(" ", "") for line in lines] == [line.replace(" ", "") for line in documented]
    assert found["causal_mask"].shape == (200, 200)


def test_register_model(run, same_models):
    found, lines = run("24_register_model.py")
    assert "my_custom_model" not in same_models
    assert ast.literal_eval(lines[0]) == sorted(same_models | {"my_custom_model"})
    assert MODELS.get("my_custom_model") is found["MyCustomModel"]


def test_the_registered_model_is_forgotten():
    assert "my_custom_model" not in list_models()


def test_get_model(run):
    _, lines = run("26_get_model.py")
    assert lines == ["TransformerEncoder", "AutoregressiveTransformer"]


def test_list_models(run):
    listed = ast.literal_eval(run("28_list_models.py")[1][0])
    assert listed == sorted(listed)
    assert {"autoregressive_transformer", "masked_autoencoder", "transformer_encoder"} <= set(listed)


def test_init_weights(run):
    found, lines = run("30_init_weights.py")
    assert len(lines) == 3
    weight = found["model"].embedding.weight
    assert weight.mean().abs() < 1e-3
    assert weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert found["model"].linear.bias.abs().max() == 0


def test_count_parameters(run):
    found, lines = run("32_count_parameters.py")
    total, trainable, frozen = (int(line.rsplit(" ", 1)[1].replace(",", "")) for line in lines)
    embedding = sum(p.numel() for p in found["model"].embedding.parameters())
    assert total == trainable == sum(p.numel() for p in found["model"].parameters())
    assert frozen == total - embedding
    assert models.count_parameters(found["model"], trainable_only=False) == total
