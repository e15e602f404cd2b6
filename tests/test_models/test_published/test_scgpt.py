"""Weights in the published form give what that form means, or are refused with what is wrong with them."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from scmodelforge._errors import DataError
from scmodelforge.models.published import load_scgpt, load_scgpt_vocab

D, HEADS, LAYERS, INNER = 8, 2, 2, 12
GENES = [f"GENE{n}" for n in range(20)]
#: Ids of special tokens lie between those of genes, and names are not in the order of ids.
VOCAB = {"<cls>": 3, "<pad>": 21, "<eoc>": 7}
VOCAB |= dict(zip(GENES, (n for n in range(23) if n not in (3, 21, 7)), strict=True))
SETTINGS: dict[str, Any] = {
    "embsize": D,
    "nheads": HEADS,
    "nlayers": LAYERS,
    "d_hid": INNER,
    "dropout": 0.2,
    "n_layers_cls": 3,
    "max_seq_len": 30,
    "mask_value": -1,
    "pad_value": -2,
    "input_emb_style": "continuous",
    "MVC": True,
}


def published(*, classes: int | None = None) -> dict[str, torch.Tensor]:
    """Return random weights under the published names."""
    torch.manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {"encoder.embedding.weight": (23, D), "flag_encoder.weight": (2, D)}
    linears = {"value_encoder.linear1": (D, 1), "value_encoder.linear2": (D, D), "mvc_decoder.gene2query": (D, D)}
    linears |= {"decoder.fc.0": (D, D), "decoder.fc.2": (D, D), "decoder.fc.4": (1, D)}
    norms = ["encoder.enc_norm", "value_encoder.norm"]
    for layer in range(LAYERS):
        start = f"transformer_encoder.layers.{layer}."
        linears |= {f"{start}self_attn.Wqkv": (3 * D, D), f"{start}self_attn.out_proj": (D, D)}
        linears |= {f"{start}linear1": (INNER, D), f"{start}linear2": (D, INNER)}
        norms += [f"{start}norm1", f"{start}norm2"]
    if classes is not None:
        linears |= {"cls_decoder._decoder.0": (D, D), "cls_decoder._decoder.3": (D, D)}
        linears["cls_decoder.out_layer"] = (classes, D)
        norms += ["cls_decoder._decoder.2", "cls_decoder._decoder.5"]
    for name, shape in linears.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name in norms:
        shapes |= {f"{name}.weight": (D,), f"{name}.bias": (D,)}
    shapes["mvc_decoder.W.weight"] = (D, D)
    return {name: torch.randn(shape) * 0.5 for name, shape in shapes.items()}


def write(folder: Path, weights: Any, *, vocab: Any = VOCAB, **changes: Any) -> Path:
    settings = {name: value for name, value in {**SETTINGS, **changes}.items() if value is not None}
    (folder / "args.json").write_text(json.dumps(settings))
    (folder / "vocab.json").write_text(json.dumps(vocab))
    torch.save(weights, folder / "best_model.pt")
    return folder


def renamed(weights: dict[str, torch.Tensor], *pairs: tuple[str, str], prefix: str = "") -> dict[str, torch.Tensor]:
    found = {}
    for name, tensor in weights.items():
        for old, new in pairs:
            name = name.replace(old, new)
        found[prefix + name] = tensor
    return found


def states_by_torch(weights: dict[str, torch.Tensor], ids: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return hidden states as the published code is written: with ``nn.TransformerEncoder``, shape (B, S, D)."""
    layer = nn.TransformerEncoderLayer(D, HEADS, INNER, 0.2, batch_first=True)
    stack = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
    start = "transformer_encoder."
    own = renamed(weights, ("Wqkv.weight", "in_proj_weight"), ("Wqkv.bias", "in_proj_bias"))
    stack.load_state_dict({name.removeprefix(start): t for name, t in own.items() if name.startswith(start)})

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, (D,), weights[f"{name}.weight"], weights[f"{name}.bias"])

    inner = linear(values.clamp(max=512)[..., None], "value_encoder.linear1").relu()
    shown = norm(linear(inner, "value_encoder.linear2"), "value_encoder.norm")
    genes = norm(weights["encoder.embedding.weight"][ids], "encoder.enc_norm")
    return stack.train(False)(genes + shown)


@pytest.fixture
def cells() -> dict[str, torch.Tensor]:
    ids = torch.tensor([[3, 9, 4, 22, 0], [3, 5, 11, 1, 2]])
    values = torch.tensor([[-2.0, 5.0, 50.0, 1.0, -1.0], [-2.0, 3.0, 600.0, 7.0, 12.0]])
    return {"input_ids": ids, "attention_mask": torch.ones(2, 5), "values": values}


class TestWhatIsRead:
    def test_hidden_states_are_those_of_the_definition(self, tmp_path, cells):
        weights = published()
        model = load_scgpt(write(tmp_path, weights))
        assert not model.training
        out = model(**cells, output_hidden_states=True)
        expected = states_by_torch(weights, cells["input_ids"], cells["values"])
        torch.testing.assert_close(out.hidden_states[-1], expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(out.embeddings, F.normalize(expected[:, 0], dim=1), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(
        "names",
        [
            {"prefix": "module."},
            {"pairs": [("self_attn.Wqkv", "self_attn._impl.Wqkv")]},
            {"pairs": [("self_attn.", "self_attn._impl.")], "prefix": "module."},
            {"pairs": [("Wqkv.weight", "in_proj_weight"), ("Wqkv.bias", "in_proj_bias")]},
        ],
        ids=str,
    )
    def test_other_names_of_the_same_weights_give_the_same_model(self, tmp_path, names):
        weights = published()
        plain = load_scgpt(write(tmp_path, weights)).state_dict()
        other = renamed(weights, *names.get("pairs", ()), prefix=names.get("prefix", ""))
        assert other.keys() != weights.keys()
        found = load_scgpt(write(tmp_path, other)).state_dict()
        assert found.keys() == plain.keys()
        assert all(torch.equal(found[name], plain[name]) for name in plain)

    def test_settings_are_taken_over(self, tmp_path):
        config = load_scgpt(write(tmp_path, published(), dropout=0.3, mask_value=-5)).config
        assert (config.dropout, config.mask_value, config.max_seq_len, config.ffn_dim) == (0.3, -5, 30, INNER)
        assert (config.pretraining_task, config.skip_output_projection) == ("generative_value_prediction", True)
        assert (config.gepc_weight, config.cls_weight) == (1, 0)
        few = {name: SETTINGS[name] for name in ("embsize", "nheads", "nlayers", "d_hid", "dropout")}
        config = load_scgpt(write(tmp_path, published(), **{name: None for name in SETTINGS if name not in few})).config
        assert (config.max_seq_len, config.mask_value, config.gepc_weight) == (1200, -1, 1)

    def test_parts_may_be_absent(self, tmp_path):
        weights = {name: t for name, t in published().items() if not name.startswith(("flag_encoder", "mvc_decoder"))}
        model = load_scgpt(write(tmp_path, weights, MVC=False))
        assert (model.config.pretraining_task, model.config.gepc_weight) == ("masked_value_prediction", 0)
        assert not model.config.skip_output_projection
        assert model.embedding.flag_embedding is model.terms.value_head is None

    def test_classes_of_cells_are_scored_as_by_the_definition(self, tmp_path):
        weights = published(classes=5)
        model = load_scgpt(write(tmp_path, weights))
        assert (model.config.cls_weight, model.config.num_cell_types) == (1, 5)
        states = cells = torch.randn(4, D)
        for number in (0, 3):
            name = f"cls_decoder._decoder.{number}"
            states = F.linear(states, weights[f"{name}.weight"], weights[f"{name}.bias"]).relu()
            name = f"cls_decoder._decoder.{number + 2}"
            states = F.layer_norm(states, (D,), weights[f"{name}.weight"], weights[f"{name}.bias"])
        expected = F.linear(states, weights["cls_decoder.out_layer.weight"], weights["cls_decoder.out_layer.bias"])
        torch.testing.assert_close(model.terms.class_head(cells), expected, rtol=1e-4, atol=1e-5)

    def test_weights_in_half_precision_are_read_in_single(self, tmp_path):
        model = load_scgpt(write(tmp_path, {name: tensor.half() for name, tensor in published().items()}))
        assert {p.dtype for p in model.parameters()} == {torch.float32}

    def test_the_vocabulary_keeps_the_published_ids(self, tmp_path):
        folder = write(tmp_path, published())
        vocab, model = load_scgpt_vocab(folder), load_scgpt(folder)
        assert (len(vocab), vocab.pad_id, vocab.cls_id) == (23, 21, 3)
        assert vocab.map(["GENE0", "GENE19", "GENE99"]).tolist() == [VOCAB["GENE0"], VOCAB["GENE19"], -1]
        assert model.embedding.special_ids.pad == 21
        assert model.embedding.special_ids.every == (3, 7, 21)

    def test_drawing_of_random_numbers_goes_on_as_before(self, tmp_path):
        folder = write(tmp_path, published())
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        load_scgpt(folder)
        assert torch.equal(torch.rand(3), expected)


def without(*names: str) -> dict[str, torch.Tensor]:
    return {key: weight for key, weight in published().items() if key not in names}


EMBEDDING = "encoder.embedding.weight"
QUERIES = "transformer_encoder.layers.0.self_attn.Wqkv.weight"


def test_weights_without_the_flag_that_were_to_generate_are_told_of(tmp_path, caplog):
    folder = write(tmp_path, without("flag_encoder.weight"), training_tasks="both")
    with caplog.at_level(logging.WARNING):
        model = load_scgpt(folder)
    assert "there is no flag_encoder.weight" in caplog.text
    assert model.config.pretraining_task == "masked_value_prediction"


class TestRefusals:
    @pytest.mark.parametrize(
        ("weights", "changes", "words"),
        [
            (
                without(QUERIES, "decoder.fc.4.bias"),
                {},
                rf"does not fit args.json and vocab.json: missing: decoder.fc.4.bias, {QUERIES}. Take all files of one",
            ),
            (
                published(),
                {"USE_CLS": True},
                r"args\.json tells of a classifier of cells \(USE_CLS\), whose weights are",
            ),
            (
                published(),
                {"mvc_decoder_style": "concat query"},
                "mvc_decoder_style is 'concat query', but only 'inner",
            ),
            (published(), {"n_bins": 11}, "n_bins is 11, but only 51 is supported"),
            (published(), {"explicit_zero_prob": True}, "explicit_zero_prob is True, but only False is supported"),
            (
                published() | {"decoder.fc.4.bias": torch.tensor([torch.nan])},
                {},
                "has numbers that are infinite or none",
            ),
            (
                published() | {"decoder.fc.4.bias": torch.tensor([1])},
                {},
                r"'decoder\.fc\.4\.bias' is torch\.int64, needs",
            ),
            (without("mvc_decoder.W.weight"), {"MVC": None}, r"missing: mvc_decoder\.W\.weight\. Take"),
            (
                {n: t for n, t in published().items() if not n.startswith("mvc")},
                {},
                r"missing: mvc_decoder\.W\.weight, mvc_decoder\.gene2query\.bias, mvc_decoder\.gene2query\.weight\.",
            ),
            (published() | {"sim.weight": torch.ones(2)}, {}, r"unexpected: sim\.weight\. Take all files of one model"),
            (
                published() | {EMBEDDING: torch.ones(24, D)},
                {},
                r"shape: encoder\.embedding\.weight \(24, 8\), not \(23, 8\)",
            ),
            (published() | {QUERIES: torch.ones(D, D)}, {}, r"Wqkv\.weight \(8, 8\), not \(24, 8\)"),
            (
                without("encoder.enc_norm.bias") | {"odd": torch.ones(1), "decoder.fc.4.bias": torch.ones(3)},
                {},
                r"missing: encoder\.enc_norm\.bias; unexpected: odd; of another shape: decoder\.fc\.4\.bias \(3,\)",
            ),
            (published(), {"nlayers": 3}, r"missing: transformer_encoder\.layers\.2\.linear1\.bias, .* and 6 more"),
            (published(), {"nlayers": 1}, r"unexpected: transformer_encoder\.layers\.1\.linear1\.bias, .* and 6 more"),
            (published(), {"embsize": 16}, r"of another shape: decoder\.fc\.0\.bias \(8,\), not \(16,\)"),
            (published(classes=3), {"n_layers_cls": 2}, r"unexpected: cls_decoder\._decoder\.3\.bias"),
            (
                published() | {"bn.weight": torch.ones(D), "bn.bias": torch.ones(D)},
                {},
                r"bn\.bias, bn\.weight belong to batch normalisation of the input, which scgpt has not; take another",
            ),
            (published() | {"dsbn.bns.0.weight": torch.ones(D)}, {}, "belong to batch normalisation of each domain"),
            (published() | {"batch_encoder.embedding.weight": torch.ones(2, D)}, {}, "belong to embeddings of batches"),
            (
                published() | {"decoder.zero_logit.0.weight": torch.ones(D, D)},
                {},
                "belong to a head of zero probability",
            ),
            (
                published() | {"grad_reverse_discriminator.out_layer.bias": torch.ones(2)},
                {},
                "belong to a classifier of batches, which",
            ),
            (
                published() | {"transformer_encoder.layers.0.self_attn.in_proj_weight": torch.ones(3 * D, D)},
                {},
                r"'transformer_encoder\.layers\.0\.self_attn\.Wqkv\.weight' is there under two names",
            ),
            (
                published(),
                {"embsize": None, "d_hid": None},
                r"args\.json has no embsize, d_hid; take the file as it was",
            ),
            (published(), {"nheads": "four"}, r"args\.json: num_heads: .*; take the file as it was published"),
            (
                published(),
                {"input_emb_style": "category"},
                "input_emb_style is 'category', but only 'continuous' is supp",
            ),
            (published(), {"pre_norm": True}, "pre_norm is True, but only False is supported; take another model"),
            (published(), {"vocab": {**VOCAB, "MORE": 23}}, r"weight \(23, 8\), not \(24, 8\)"),
            (published(), {"vocab": {"<pad>": 0, "A": 1}}, r"vocab\.json: .*no <cls> token"),
            (published(), {"vocab": {"<pad>": 0, "<cls>": 1, "A": 3}}, r"vocab\.json: "),
            (published(), {"vocab": [1, 2]}, r"vocab\.json: holds list"),
            ([torch.ones(2)], {}, r"best_model\.pt: holds list, needs tensors by name; take the file as it was"),
            ({"model": {"a": torch.ones(2)}}, {}, r"best_model\.pt: holds dict, needs tensors by name"),
        ],
    )
    def test_what_does_not_fit(self, tmp_path, weights, changes, words):
        folder = write(tmp_path, weights, **changes)
        with pytest.raises(DataError, match=words) as caught:
            load_scgpt(folder)
        assert "\n" not in str(caught.value)
        assert str(tmp_path) in str(caught.value)

    def test_files_that_are_missing_or_damaged(self, tmp_path):
        folder = write(tmp_path, published())
        (folder / "best_model.pt").write_bytes(b"\x00" * 40)
        with pytest.raises(DataError, match=r"best_model\.pt: damaged, or no weights \("):
            load_scgpt(folder)
        for name, words in (
            ("best_model.pt", r"has no best_model\.pt; give the folder of a published scGPT"),
            ("args.json", r"args\.json: cannot be read"),
            ("vocab.json", r"vocab\.json: cannot be read"),
        ):
            (folder / name).unlink()
            with pytest.raises(DataError, match=words):
                load_scgpt(folder)


class _Runs:
    def __reduce__(self):
        return (print, ("this code must not run",))


def test_code_in_a_file_of_weights_is_not_run(tmp_path, capsys):
    write(tmp_path, {**published(), "more": _Runs()})
    with pytest.raises(DataError, match=r"best_model\.pt: damaged, or no weights"):
        load_scgpt(tmp_path)
    assert capsys.readouterr().out == ""
