"""Every file of configs/presets: it is valid, its model has the published size, and the small ones train."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from scmodelforge.config.load import load_config
from scmodelforge.data.types import EmbeddingSpec
from scmodelforge.models import MaskedAutoencoder, TranscriptFormer, get_model
from scmodelforge.models.components import apply_embedding_spec
from tests.conftest import OPTIONAL_MODELS

FOLDER = Path(__file__).parents[1] / "configs" / "presets"


def bert(model: nn.Module) -> int:
    """Count the parameters of the published form, which has two vectors of token types that ours folds away."""
    return count(model) + 2 * model.hidden_dim


def count(model: nn.Module) -> int:
    """Count all parameters."""
    return sum(p.numel() for p in model.parameters())


def encoder_and_genes(model: MaskedAutoencoder) -> int:
    """Count the parameters of what embeds a cell: vectors of genes and values, and the encoder."""
    return count(model.embedding) + count(model.encoder)


def without_vectors(model: TranscriptFormer) -> int:
    """Count the parameters beside the table of vectors of genes, which is given and not trained."""
    return count(model) - count(model.embedding.gene_embedding)


@dataclass(frozen=True)
class Published:
    """What is known of a published model.

    Attributes
    ----------
    vocab_size
        Its number of tokens.
    parameters
        Its number of parameters.
    within
        By how much ours may differ.
    counted
        Which of our parameters are those counted.
    """

    vocab_size: int
    parameters: int
    within: int = 0
    counted: Callable[..., int] = count


def transcriptformer_parameters(vocab: int, width: int, vectors: int, layers: int) -> int:
    """Return the number of trained parameters where all layers are as wide inside, written down from the definition."""
    mlp = vectors * width + width + 2 * width + width * width + width
    blocks = layers * (4 * width * width + 2 * width * width + 4 * width)
    genes = width * width + width + 2 * width + width * vocab + vocab
    half = width // 2
    counts = 2 * width * half + half + 2 * half + half + 1 + vocab
    return mlp + blocks + genes + counts


def bert_parameters(vocab: int, places: int, width: int, layers: int, inner: int) -> int:
    """Return the number of parameters of a BertForMaskedLM with a tied head, written down from its definition."""
    embedding = vocab * width + places * width + 2 * width + 2 * width
    attention = 4 * (width * width + width) + 2 * width
    feed_forward = 2 * width * inner + inner + width + 2 * width
    head = width * width + width + 2 * width + vocab
    return embedding + layers * (attention + feed_forward) + head


#: One line for each preset of a published model; ``None`` where no number is known. Small ones need none.
PUBLISHED = {
    # 10,288,722 and 104,386,867 float32 numbers in the published model.safetensors (ctheodoris/Geneformer).
    "geneformer-v1": Published(25_426, 10_288_722, counted=bert),
    "geneformer-v2": Published(20_275, 104_386_867, counted=bert),
    # 368 million are trained, the authors say (Pearce et al. 2025), of the model of human cells. How many tokens it has
    # is not known to us; any number from 23,203 to 23,691 gives that.
    "transcriptformer-style": Published(23_447, 368_000_000, within=500_000, counted=without_vectors),
    # Cui et al. 2024: 51,330,049 numbers in the published file, whose size they fit.
    "scgpt-human": Published(60_697, 51_330_049),
    # 350 million and 1.5 billion are stated for 20,000 and 30,000 genes; one width inside is not stated.
    "scdiva-base": Published(20_000, 350_000_000, within=0.03 * 350_000_000),
    "scdiva-large": Published(30_000, 1_500_000_000, within=0.03 * 1_500_000_000),
    # 94.5 million are stated (arXiv:2602.03477); layers without biases and two tables of genes make 93.2.
    "scdiva-diffusion": Published(41_822, 94_500_000, within=0.02 * 94_500_000),
    # The authors say 100 million (Hao et al. 2024): so many are encoder and genes, 120 million with the decoder.
    "scfoundation-style": Published(19_264, 100_000_000, within=500_000, counted=encoder_and_genes),
}


def presets() -> list[Path]:
    """Return the presets of models that need no further package."""
    return sorted(path for path in FOLDER.glob("*.yaml") if path.stem not in OPTIONAL_MODELS)


def built(name: str, *changes: str) -> nn.Module:
    """Return the model of a preset on the meta device, with the published number of tokens."""
    config = load_config(FOLDER / f"{name}.yaml", changes)
    published = PUBLISHED.get(name)
    config.model.vocab_size = 1000 if published is None else published.vocab_size
    with torch.device("meta"):
        model = get_model(config.model.architecture, config.model)
        if getattr(config.tokenizer, "embedding", None) == "auto_bins":
            apply_embedding_spec(model, EmbeddingSpec(values="auto_bins", num_auto_bins=config.tokenizer.num_auto_bins))
    return model


def test_presets_of_published_models_have_a_line_here():
    assert set(PUBLISHED) == {path.stem for path in presets() if not path.stem.endswith("-cpu")}


@pytest.mark.parametrize("path", presets(), ids=lambda path: path.stem)
def test_the_model_can_be_built(path):
    model = built(path.stem)
    assert {p.device.type for p in model.parameters()} == {"meta"}


@pytest.mark.parametrize("name", sorted(name for name, published in PUBLISHED.items() if published is not None))
def test_the_model_has_the_published_number_of_parameters(name):
    published = PUBLISHED[name]
    assert abs(published.counted(built(name)) - published.parameters) <= published.within


@pytest.mark.parametrize(
    ("sizes", "parameters"),
    [
        ((25_426, 2048, 256, 6, 512), 10_288_722),
        ((20_275, 4096, 768, 12, 3072), 104_386_867),
        ((20_275, 4096, 1152, 18, 4608), 316_354_867),
    ],
)
def test_the_published_numbers_are_those_of_the_definition(sizes, parameters):
    assert bert_parameters(*sizes) == parameters


def test_the_causal_model_has_the_parameters_of_its_definition():
    assert without_vectors(built("transcriptformer-style")) == transcriptformer_parameters(23_447, 2048, 2560, 12)


def test_the_larger_geneformer_is_what_the_words_of_the_preset_make():
    text = (FOLDER / "geneformer-v2.yaml").read_text()
    words = next(line for line in text.splitlines() if line.startswith("#   --set")).split()
    assert bert(built("geneformer-v2", *words[2::2])) == 316_354_867


@pytest.mark.parametrize("path", presets(), ids=lambda path: path.stem)
def test_the_command_in_the_file_is_that_of_the_file(path):
    assert f"scmodelforge train --config configs/presets/{path.name}" in path.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in presets() if path.stem.endswith("-cpu")], ids=lambda path: path.stem)
def test_small_ones_train_two_steps_on_the_shipped_cells(path, tmp_path):
    words = ["train", "--config", str(path)]
    changes = ("training.max_epochs=1", "training.steps_per_epoch=2", "eval.benchmarks=[]", "training.batch_size=8")
    for change in (f"output.run_dir={tmp_path / 'run'}", *changes):
        words += ["--set", change]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run/model/model.safetensors").is_file()
