"""Weights in the published form give what that form means, or are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from scmodelforge._errors import DataError
from scmodelforge.models.published import load_geneformer

SETTINGS: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": 23,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 10,
    "hidden_dropout_prob": 0.02,
    "attention_probs_dropout_prob": 0.02,
    "layer_norm_eps": 1e-12,
    "hidden_act": "relu",
    "position_embedding_type": "absolute",
}
WORDS = "bert.embeddings.word_embeddings.weight"


def published() -> dict[str, torch.Tensor]:
    """Return random weights under the published names."""
    torch.manual_seed(0)
    width, inner, size = 8, 12, 23
    shapes: dict[str, tuple[int, ...]] = {
        WORDS: (size, width),
        "bert.embeddings.position_embeddings.weight": (10, width),
        "bert.embeddings.token_type_embeddings.weight": (2, width),
        "bert.embeddings.LayerNorm.weight": (width,),
        "bert.embeddings.LayerNorm.bias": (width,),
        "cls.predictions.bias": (size,),
        "cls.predictions.transform.dense.weight": (width, width),
        "cls.predictions.transform.dense.bias": (width,),
        "cls.predictions.transform.LayerNorm.weight": (width,),
        "cls.predictions.transform.LayerNorm.bias": (width,),
    }
    for layer in range(2):
        start = f"bert.encoder.layer.{layer}."
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes |= {f"{start}{part}.weight": (width, width), f"{start}{part}.bias": (width,)}
        for part in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{start}{part}.weight": (width,), f"{start}{part}.bias": (width,)}
        shapes |= {f"{start}intermediate.dense.weight": (inner, width), f"{start}intermediate.dense.bias": (inner,)}
        shapes |= {f"{start}output.dense.weight": (width, inner), f"{start}output.dense.bias": (width,)}
    return {name: torch.randn(shape) * 0.5 for name, shape in shapes.items()}


def logits_by_hand(weights: dict[str, torch.Tensor], ids: list[int]) -> torch.Tensor:
    """Score the genes at each position of one cell, written down from the definition."""

    def norm(states: torch.Tensor, name: str) -> torch.Tensor:
        centred = states - states.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-12).sqrt()
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def linear(states: torch.Tensor, name: str) -> torch.Tensor:
        return states @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    states = weights[WORDS][ids] + weights["bert.embeddings.position_embeddings.weight"][: len(ids)]
    states = norm(states + weights["bert.embeddings.token_type_embeddings.weight"][0], "bert.embeddings.LayerNorm")
    for layer in range(2):
        start = f"bert.encoder.layer.{layer}."
        parts = (linear(states, f"{start}attention.self.{part}").split(4, -1) for part in ("query", "key", "value"))
        heads = [(q @ k.T / 4**0.5).softmax(-1) @ v for q, k, v in zip(*parts, strict=True)]
        mixed = linear(torch.cat(heads, -1), f"{start}attention.output.dense")
        states = norm(states + mixed, f"{start}attention.output.LayerNorm")
        inside = linear(states, f"{start}intermediate.dense").clamp(min=0)
        states = norm(states + linear(inside, f"{start}output.dense"), f"{start}output.LayerNorm")
    features = linear(states, "cls.predictions.transform.dense").clamp(min=0)
    features = norm(features, "cls.predictions.transform.LayerNorm")
    return features @ weights[WORDS].T + weights["cls.predictions.bias"]


def write(folder: Path, weights: dict[str, torch.Tensor], *, as_bin: bool = False, **changes: Any) -> Path:
    (folder / "config.json").write_text(json.dumps({**SETTINGS, **changes}))
    if as_bin:
        torch.save(weights, folder / "pytorch_model.bin")
    else:
        save_file({name: weight.contiguous().clone() for name, weight in weights.items()}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("as_bin", [False, True])
def test_scores_are_those_of_the_definition(tmp_path, as_bin):
    weights = published()
    model = load_geneformer(write(tmp_path, weights, as_bin=as_bin))
    cells = [[2, 9, 4, 22, 7], [2, 5, 11]]
    ids = torch.tensor([cells[0], [*cells[1], 0, 0]])
    mask = torch.tensor([[1] * 5, [1, 1, 1, 0, 0]])
    found = model(ids, mask).logits
    assert not model.training
    for row, cell in enumerate(cells):
        torch.testing.assert_close(found[row, : len(cell)], logits_by_hand(weights, cell), rtol=1e-4, atol=1e-4)


def test_rates_of_dropout_are_those_of_its_settings(tmp_path):
    model = load_geneformer(write(tmp_path, published(), hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.4))
    assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} == {0.3}
    assert {layer.attention.dropout for layer in model.encoder.layers} == {0.4}


def test_second_names_and_numbers_of_positions_may_be_there(tmp_path):
    weights = published()
    more = {
        "cls.predictions.decoder.weight": weights[WORDS],
        "cls.predictions.decoder.bias": weights["cls.predictions.bias"],
        "bert.embeddings.position_ids": torch.arange(10)[None],
    }
    model, plain = load_geneformer(write(tmp_path, {**weights, **more})), load_geneformer(write(tmp_path, weights))
    for own, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(own, other)


def without(name: str) -> dict[str, torch.Tensor]:
    return {key: weight for key, weight in published().items() if key != name}


@pytest.mark.parametrize(
    ("weights", "changes", "words"),
    [
        (
            without(WORDS),
            {},
            "bert.embeddings.word_embeddings.weight missing; a BertForMaskedLM with 2 layers is needed",
        ),
        (published() | {"bert.pooler.dense.bias": torch.ones(8)}, {}, r"bert\.pooler\.dense\.bias unknown"),
        (published(), {"num_hidden_layers": 3}, r"and 13 more missing; a BertForMaskedLM with 3 layers"),
        (published(), {"num_hidden_layers": 1}, r"and 13 more unknown; a BertForMaskedLM with 1 layers"),
        (published(), {"vocab_size": 24}, r"has shape \(23, 8\), config\.json asks for \(24, 8\); take both files"),
        (published() | {"cls.predictions.decoder.weight": torch.ones(23, 8)}, {}, r"differs from 'bert\.embeddings"),
        (
            published(),
            {"model_type": "gpt2"},
            r"config\.json: model_type is 'gpt2', not 'bert' with absolute positions",
        ),
        (published(), {"position_embedding_type": "relative_key"}, "not 'bert' with absolute positions"),
        (published(), {"hidden_act": "tanh"}, r"hidden_act is 'tanh'; one of relu, gelu, silu, swish is needed"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, weights, changes, words):
    with pytest.raises(DataError, match=words):
        load_geneformer(write(tmp_path, weights, **changes))


def test_files_that_are_missing_or_damaged_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"config\.json: cannot be read \(No such file or directory\); give the folder"):
        load_geneformer(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(SETTINGS))
    with pytest.raises(DataError, match=r"has neither model\.safetensors nor pytorch_model\.bin"):
        load_geneformer(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(DataError, match=r"model\.safetensors: damaged, or no weights"):
        load_geneformer(tmp_path)
    incomplete = {name: value for name, value in SETTINGS.items() if name != "hidden_size"}
    (tmp_path / "config.json").write_text(json.dumps(incomplete))
    with pytest.raises(DataError, match=r"config\.json has no 'hidden_size'; take the file as it was published"):
        load_geneformer(tmp_path)


class _Runs:
    def __reduce__(self):
        return (print, ("this code must not run",))


def test_code_in_a_file_of_weights_is_not_run(tmp_path, capsys):
    write(tmp_path, {**published(), "more": _Runs()}, as_bin=True)
    with pytest.raises(DataError, match=r"pytorch_model\.bin: damaged, or no weights"):
        load_geneformer(tmp_path)
    assert capsys.readouterr().out == ""


def test_by_its_formula_a_gene_is_scored_by_its_own_vector(tmp_path):
    weights = published()
    model = load_geneformer(write(tmp_path, weights))
    ids, mask = torch.tensor([[2, 9, 4]]), torch.ones(1, 3)
    features = model.head.features(model(ids, mask, output_hidden_states=True).hidden_states[-1])
    torch.testing.assert_close(
        model(ids, mask).logits, F.linear(features, weights[WORDS], weights["cls.predictions.bias"])
    )
