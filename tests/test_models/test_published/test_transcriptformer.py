"""Weights in the published form give what that form means, or are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from scmodelforge._errors import DataError
from scmodelforge.models.published import load_transcriptformer

SETTINGS: dict[str, Any] = {
    "embed_dim": 8,
    "model_dim": 12,
    "num_layers": 2,
    "num_heads": 2,
    "seq_len": 9,
    "aux_len": 1,
    "dropout": 0.1,
    "activation": "gelu",
    "attn_bias": False,
    "fw_bias": False,
    "mu_link_fn": "softmax",
    "softcap": 10,
    "gene_head_hidden_dim": 6,
}
VOCAB, ASSAYS, VECTORS = 14, 3, 5


def mlp_shapes(start: str, width: int, inner: int, outer: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{start}.layers.0.weight": (inner, width),
        f"{start}.layers.0.bias": (inner,),
        f"{start}.layers.2.weight": (inner,),
        f"{start}.layers.2.bias": (inner,),
        f"{start}.layers.4.weight": (outer, inner),
        f"{start}.layers.4.bias": (outer,),
    }


def published() -> dict[str, torch.Tensor]:
    """Return random weights under the published names."""
    torch.manual_seed(0)
    shapes = {
        "gene_embeddings.embedding.weight": (VOCAB, VECTORS),
        "aux_embeddings.assay.weight": (ASSAYS, 8),
        "mu.gene_embedding.weight": (VOCAB, 1),
    }
    shapes |= mlp_shapes("gene_embeddings.mlp", VECTORS, 8, 8)
    shapes |= mlp_shapes("mu.mlp", 16, 4, 1) | mlp_shapes("gene_id_head", 8, 6, VOCAB)
    for layer in range(2):
        start = f"transformer_encoder.encoder_layers.{layer}."
        shapes |= {f"{start}self_attn.linears.{part}.weight": (8, 8) for part in range(4)}
        shapes |= {f"{start}linear1.weight": (12, 8), f"{start}linear2.weight": (8, 12)}
        shapes |= {f"{start}norm{part}.{kind}": (8,) for part in (1, 2) for kind in ("weight", "bias")}
    return {name: torch.randn(shape) * 0.7 for name, shape in shapes.items()}


def scores_by_hand(weights: dict[str, torch.Tensor], ids: list[int], counts: list[float], assay: int) -> torch.Tensor:
    """Score the next gene at each token of one cell, written down from the definition."""

    def norm(states: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(states, states.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-5)

    def mlp(states: torch.Tensor, name: str) -> torch.Tensor:
        inner = (states @ weights[f"{name}.layers.0.weight"].T + weights[f"{name}.layers.0.bias"]).clamp(min=0)
        last = f"{name}.layers.4"
        return norm(inner, f"{name}.layers.2") @ weights[f"{last}.weight"].T + weights[f"{last}.bias"]

    genes = mlp(weights["gene_embeddings.embedding.weight"][ids], "gene_embeddings.mlp")
    states = torch.cat([weights["aux_embeddings.assay.weight"][assay][None], genes])
    log_counts = torch.tensor([1.0, *counts]).log1p()
    size = len(states)
    for layer in range(2):
        start = f"transformer_encoder.encoder_layers.{layer}."
        states = norm(states, f"{start}norm1")
        query, key, value = (states @ weights[f"{start}self_attn.linears.{part}.weight"].T for part in range(3))
        mixed = []
        for head in (slice(0, 4), slice(4, 8)):
            scores = query[:, head] @ key[:, head].T / 2
            scores = scores + log_counts * (1 - torch.eye(size))
            scores = (10 * torch.tanh(scores / 10)).masked_fill(torch.ones(size, size).triu(1) == 1, float("-inf"))
            mixed.append(scores.softmax(-1) @ value[:, head])
        states = states + torch.cat(mixed, -1) @ weights[f"{start}self_attn.linears.3.weight"].T
        states = norm(states, f"{start}norm2")
        inner = F.gelu(states @ weights[f"{start}linear1.weight"].T)
        states = states + inner @ weights[f"{start}linear2.weight"].T
    return 10 * torch.tanh(mlp(states[1:], "gene_id_head") / 10)


def write(folder: Path, weights: dict[str, Any], *, nested: bool = False, **changes: Any) -> tuple[Path, Path]:
    content: dict[str, Any] = {"model_config": {**SETTINGS, **changes}}
    (folder / "config.json").write_text(json.dumps({"model": content} if nested else content))
    torch.save(weights, folder / "weights.pt")
    return folder / "weights.pt", folder / "config.json"


@pytest.mark.parametrize("nested", [False, True])
def test_scores_are_those_of_the_definition(tmp_path, nested):
    weights = published()
    model = load_transcriptformer(*write(tmp_path, weights, nested=nested))
    ids = torch.tensor([[2, 9, 4, 13, 7], [2, 5, 11, 1, 1]])
    counts = torch.tensor([[0.0, 3, 1, 30, 2], [0.0, 1, 8, 0, 0]])
    found = model(ids, (ids != 1).long(), counts, assay_ids=torch.tensor([1, 2])).logits
    assert not model.training
    for row, (length, assay) in enumerate(((5, 1), (3, 2))):
        told = [1.0, *counts[row, 1:length].tolist()]  # the first token counts as 1
        expected = scores_by_hand(weights, ids[row, :length].tolist(), told, assay)
        torch.testing.assert_close(found[row, :length], expected, rtol=1e-4, atol=1e-4)


def test_vectors_of_genes_are_frozen_and_the_rest_is_not(tmp_path):
    model = load_transcriptformer(*write(tmp_path, published()))
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["embedding.gene_embedding.weight"]


def test_a_model_without_assays_has_no_token_for_them(tmp_path):
    weights = {name: weight for name, weight in published().items() if "aux" not in name}
    assert load_transcriptformer(*write(tmp_path, weights, aux_len=0)).assay_embedding is None


def without(name: str) -> dict[str, torch.Tensor]:
    return {key: weight for key, weight in published().items() if key != name}


@pytest.mark.parametrize(
    ("weights", "changes", "words"),
    [
        (
            without("gene_id_head.layers.4.bias"),
            {},
            r"gene_id_head\.layers\.4\.bias missing; a TranscriptFormer with 2",
        ),
        (without("gene_embeddings.embedding.weight"), {}, r"have no 'gene_embeddings\.embedding\.weight'; take both"),
        (published() | {"more": torch.ones(2)}, {}, "more unknown; a TranscriptFormer with 2 layers is needed"),
        (published(), {"num_layers": 3}, "missing; a TranscriptFormer with 3 layers"),
        (published(), {"model_dim": 16}, r"has shape \(12, 8\), .*config\.json asks for \(16, 8\); take both files"),
        (published(), {"attn_bias": True}, "attn_bias is True; only False is known"),
        (published(), {"mu_link_fn": "softplus"}, "mu_link_fn is 'softplus'; only 'softmax' is known"),
        (published(), {"log_counts_eps": 1.0}, r"log_counts_eps is 1\.0; only 1e-06 is known"),
        (published(), {"aux_len": 0}, r"aux_len is 0, but aux_embeddings\.assay\.weight is there; take both files"),
        (
            without("aux_embeddings.assay.weight"),
            {"aux_len": 1},
            r"aux_len is 1, .*assay\.weight is missing; take both",
        ),
        (published(), {"aux_len": 2}, "aux_len is 2; at most one token beside the genes, the assay, is known"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, weights, changes, words):
    with pytest.raises(DataError, match=words):
        load_transcriptformer(*write(tmp_path, weights, **changes))


class _Runs:
    def __reduce__(self):
        return (print, ("this code must not run",))


def test_files_that_are_missing_or_damaged_are_refused(tmp_path, capsys):
    weights, config = tmp_path / "weights.pt", tmp_path / "config.json"
    with pytest.raises(DataError, match=r"weights\.pt: no such file; give the weights of a published TranscriptFormer"):
        load_transcriptformer(weights, config)
    write(tmp_path, {**published(), "more": _Runs()})
    with pytest.raises(DataError, match=r"weights\.pt: damaged, or no weights"):
        load_transcriptformer(weights, config)
    assert capsys.readouterr().out == ""
    write(tmp_path, published())
    config.unlink()
    with pytest.raises(DataError, match=r"config\.json: cannot be read \(No such file or directory\)"):
        load_transcriptformer(weights, config)
    for text, words in (("[1]", "holds list, needs a JSON object"), ("{", "not readable as JSON")):
        config.write_text(text)
        with pytest.raises(DataError, match=words):
            load_transcriptformer(weights, config)
    config.write_text("{}")
    with pytest.raises(DataError, match="has no 'model_config'; give the settings of a published TranscriptFormer"):
        load_transcriptformer(weights, config)
