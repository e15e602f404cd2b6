"""Classifiers of cells in the published form give what that form means, or are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scmodelforge._errors import DataError
from scmodelforge.models.published import load_geneformer, load_geneformer_classifier

from .test_geneformer import published as published_body
from .test_geneformer import write

KIND = {"architectures": ["BertForSequenceClassification"]}
NAMES = ["B", "T", "NK"]


def published() -> dict[str, torch.Tensor]:
    """Return random weights under the published names."""
    body = {name: tensor for name, tensor in published_body().items() if not name.startswith("cls.")}
    shapes = {"bert.pooler.dense.weight": (8, 8), "bert.pooler.dense.bias": (8,)}
    shapes |= {"classifier.weight": (3, 8), "classifier.bias": (3,)}
    return body | {name: torch.randn(shape) * 0.5 for name, shape in shapes.items()}


def write_classifier(folder: Path, weights: dict[str, torch.Tensor] | None = None, **settings) -> Path:
    """Write a classifier of three classes; return the folder."""
    named = {"id2label": {str(number): name for number, name in enumerate(NAMES)}}
    folder.mkdir(parents=True, exist_ok=True)
    return write(folder, published() if weights is None else weights, **{**KIND, **named, **settings})


def test_scores_are_pooler_and_classifier_on_the_encoders_first_state(tmp_path):
    weights = published()
    write_classifier(tmp_path / "classifier", weights)
    (tmp_path / "encoder").mkdir()
    encoder = load_geneformer(write(tmp_path / "encoder", {**published_body(), **_body(weights)}))
    ids, mask = torch.tensor([[2, 5, 9, 0], [2, 7, 11, 13]]), torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    first = encoder(ids, mask, output_hidden_states=True).hidden_states[-1][:, 0]
    pooled = torch.tanh(first @ weights["bert.pooler.dense.weight"].T + weights["bert.pooler.dense.bias"])
    expected = pooled @ weights["classifier.weight"].T + weights["classifier.bias"]
    model = load_geneformer_classifier(tmp_path / "classifier")
    assert torch.allclose(model.score_cell_types(ids, mask), expected, atol=1e-5)
    assert expected.std() > 0.1


def _body(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in weights.items() if name.startswith(("bert.embeddings", "bert.encoder"))}


def test_there_is_no_head_for_genes(tmp_path):
    model = load_geneformer_classifier(write_classifier(tmp_path))
    assert model.backbone.head is None
    assert not model.training


@pytest.mark.parametrize(("given", "dropout"), [(None, 0.02), (0.3, 0.3)])
def test_dropout_of_the_head(tmp_path, given, dropout):
    assert load_geneformer_classifier(write_classifier(tmp_path, classifier_dropout=given)).head.dropout.p == dropout


def test_two_classes_without_names(tmp_path):
    weights = published()
    weights |= {"classifier.weight": weights["classifier.weight"][:2], "classifier.bias": torch.zeros(2)}
    folder = write(tmp_path, weights, **KIND)
    assert load_geneformer_classifier(folder).head.decoder.out_features == 2


@pytest.mark.parametrize(
    "name", ["classifier.weight", "bert.pooler.dense.bias", "bert.encoder.layer.1.output.dense.bias"]
)
def test_a_weight_that_is_missing(tmp_path, name):
    weights = published()
    del weights[name]
    with pytest.raises(DataError, match=f"model.safetensors: {name} missing; a BertForSequenceClassification with 2"):
        load_geneformer_classifier(write_classifier(tmp_path, weights))


def test_a_weight_of_another_shape(tmp_path):
    with pytest.raises(DataError, match=r"'head.decoder.weight' has shape \(3, 8\), config.json asks for \(2, 8\)"):
        load_geneformer_classifier(write_classifier(tmp_path, id2label={"0": "B", "1": "T"}))


def test_a_weight_that_is_left_over(tmp_path):
    with pytest.raises(DataError, match=r"classifier.out_proj.weight unknown"):
        load_geneformer_classifier(
            write_classifier(tmp_path, {**published(), "classifier.out_proj.weight": torch.ones(2)})
        )


def test_a_damaged_file(tmp_path):
    folder = write_classifier(tmp_path)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="damaged, or no weights"):
        load_geneformer_classifier(folder)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"architectures": ["BertForMaskedLM"]}, "a BertForSequenceClassification is needed"),
        ({"problem_type": "regression"}, "problem_type is 'regression'; a model that gives each cell one of"),
        ({"id2label": {"0": "B", "2": "T", "3": "NK"}}, "id2label does not name classes 0, 1, 2, "),
        ({"id2label": ["B", "T", "NK"]}, "id2label does not name classes 0, 1, 2, "),
        ({"id2label": {"0": "B", "1": "T", "2": "B"}}, "id2label gives several classes the name B"),
        ({"hidden_act": "mish"}, "hidden_act is 'mish'"),
    ],
)
def test_settings_that_are_refused(tmp_path, settings, words):
    with pytest.raises(DataError, match=words):
        load_geneformer_classifier(write_classifier(tmp_path, **settings))


@pytest.mark.slow
def test_scores_loss_and_gradients_are_those_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.BertConfig(
        **sizes, intermediate_size=24, max_position_embeddings=20, hidden_act="relu", num_labels=4
    )
    torch.manual_seed(0)
    theirs = transformers.BertForSequenceClassification(config).eval()
    for parameter in theirs.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path)
    ours = load_geneformer_classifier(tmp_path)
    ids, mask, types = torch.randint(0, 30, (6, 12)), torch.ones(6, 12, dtype=torch.int64), torch.arange(6) % 4
    mask[1, 5:] = 0
    wanted = theirs(input_ids=ids, attention_mask=mask, labels=types)
    found = ours(ids, mask, cell_types=types)
    assert torch.allclose(found.logits, wanted.logits, rtol=1e-4, atol=1e-5)
    assert found.loss.item() == pytest.approx(wanted.loss.item(), abs=1e-5)
    wanted.loss.backward()
    found.loss.backward()
    assert torch.allclose(ours.head.decoder.weight.grad, theirs.classifier.weight.grad, atol=1e-5)
