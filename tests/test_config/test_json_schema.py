"""The JSON Schema takes what the reader takes, in all its spellings, and refuses typical mistakes."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from scmodelforge.config import config_schema
from scmodelforge.config.faults import Faults
from scmodelforge.config.files import read_settings
from scmodelforge.config.parts import PARTS
from tests.test_config.conftest import MINIMAL

ROOT = Path(__file__).parents[2]
KINDS = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None), "array": list,
         "object": dict}  # fmt: skip


@cache
def schema_of(parts: tuple[str, ...]) -> dict:
    return config_schema()


@pytest.fixture
def schema() -> dict:
    """Return the schema of all parts that are registered now, made once for them."""
    return schema_of(tuple(name for part in PARTS.values() for name in part.registry.names()))


def accepts(schema: dict, value, root: dict) -> bool:
    """Tell whether a value satisfies a schema, as far as the words used here go."""
    if "$ref" in schema and not accepts(root["$defs"][schema["$ref"].rpartition("/")[2]], value, root):
        return False
    if "type" in schema:
        is_bool = isinstance(value, bool)
        if not isinstance(value, KINDS[schema["type"]]) or (is_bool and schema["type"] != "boolean"):
            return False
    checks = [
        "const" not in schema or value == schema["const"],
        "enum" not in schema or value in schema["enum"],
        all(accepts(each, value, root) for each in schema.get("allOf", [])),
        "anyOf" not in schema or any(accepts(each, value, root) for each in schema["anyOf"]),
    ]
    if isinstance(value, int | float) and not isinstance(value, bool):
        checks += [
            value > schema.get("exclusiveMinimum", float("-inf")),
            value >= schema.get("minimum", float("-inf")),
            value < schema.get("exclusiveMaximum", float("inf")),
            value <= schema.get("maximum", float("inf")),
        ]
    if isinstance(value, list):
        checks += [len(value) >= schema.get("minItems", 0)]
        checks += [accepts(schema.get("items", {}), each, root) for each in value]
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        checks += [set(schema.get("required", [])) <= set(value), len(value) <= schema.get("maxProperties", 99)]
        checks += [accepts(properties[key], each, root) for key, each in value.items() if key in properties]
        others = schema.get("additionalProperties", True)
        checks += [others is not False or set(value) <= set(properties)]
        if isinstance(others, dict):
            checks += [accepts(others, each, root) for key, each in value.items() if key not in properties]
    return all(checks)


@pytest.mark.parametrize(
    "path",
    [*(ROOT / "configs").rglob("*.yaml"), *(ROOT / "tests" / "fixtures").glob("spec_*.*")],
    ids=lambda path: path.name,
)
def test_takes_the_shipped_files_and_those_of_the_specification(schema, path):
    settings = read_settings(path, Faults(str(path)))
    if path.parent.name == "recipes":  # these are put in by whoever uses them
        settings.setdefault("data", {})["paths"] = ["cells.h5ad"]
        settings["finetune"]["base_model"] = "base"
        asked = {"regression": {"targets": ["age"]}, "gene_classification": {"gene_labels": "genes.tsv"}}
        settings["finetune"] |= asked.get(path.stem, {})
    assert accepts(schema, settings, schema)


@pytest.mark.parametrize(
    "text",
    [
        "training: {lr: 0.1, num_gpus: 2}\nmodel: {mask_ratio: 0.2}",
        "model: {architecture: toy, latent_dim: 3}",
        "tokenizer: {strategy: toy_tokens, scales: [1], gene_vocab: from_data}",
        "eval: {benchmarks: [toy_benchmark, toy_benchmark: {folds: 2}, {name: toy_benchmark, folds: 3}]}",
        "eval:\n  benchmarks:\n    - toy_benchmark:\n",
        "model: {pooling: null}",
        "  source: mixture\n  sources: [{paths: [a]}, {source: toy_source, shards: 2}]",
        "  sampling: {mode: weighted, by: x, weights: {a: 1, b: 0.5}}",
    ],
)
def test_takes_short_spellings_and_the_settings_of_parts(toys, schema, write, text):
    start = "data:\n" if "mixture" in text else MINIMAL
    assert accepts(schema, read_settings(write(start + text), Faults("run.yaml")), schema)


@pytest.mark.parametrize(
    "text",
    [
        "model: {hidden_dims: 4}",
        "model: {latent_dim: 3}",
        "model: {architecture: nothing}",
        "training: {batch_size: many}",
        "training: {batch_size: 0}",
        "training: {precision: bf16}",
        "tokenizer: {strategy: rank_value, scales: [1]}",
        "eval: {benchmarks: [nothing]}",
        "eval: {benchmarks: [toy_benchmark: {fold: 2}]}",
        "eval: {benchmarks: [{dataset: blood}]}",
        "trainin: {}",
        "  source: mixture",
        "  source: mixture\n  sources: [{paths: [a]}, {shards: 2}]",
        "  source: mixture\n  sources: [{paths: [a], block_size: 3}]",
        "  source: mixture\n  sources: [{source: mixture, sources: []}]",
        "  sampling: {mode: weighted, by: x, weights: {a: much}}",
    ],
)
def test_refuses_mistakes(toys, schema, write, text):
    start = "data:\n" if "mixture" in text else MINIMAL
    assert not accepts(schema, read_settings(write(start + text), Faults("run.yaml")), schema)


def test_explains_every_section_and_most_settings(schema):
    definitions = schema["$defs"]
    assert all(each.get("description") for each in definitions.values())
    assert definitions["OptimizerConfig"]["properties"]["lr"]["description"] == "Peak learning rate."
    assert definitions["TrainingConfig"]["properties"]["lr"]["description"] == "The same as training.optimizer.lr."
