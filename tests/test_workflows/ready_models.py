"""Models with fresh weights and all they need, for tests of what is done with trained ones."""

from __future__ import annotations

import torch

from scmodelforge._registry import MODELS, TOKENIZERS
from scmodelforge.config.schema import ModelConfig, PreprocessingConfig
from scmodelforge.data.preprocess import Preprocessor
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.hub import Bundle
from scmodelforge.hub.bundle import build_model

GENES = [f"ENSG{i:011d}" for i in range(1, 31)]
TYPES = ["type0", "type1", "type2"]
#: Tokenizers that go with models that do not take ranks.
BINNED = {"strategy": "binned_expression", "max_genes": 20}
COUNTS = {"strategy": "continuous_projection", "embedding": "attention_bias", "value_transform": "counts", "clip": 30.0}
RANKS = {"strategy": "rank_value", "max_genes": 20, "medians": "none"}


def ready_model(
    architecture: str = "transformer_encoder", tokenizer: dict | None = None, *, genes=tuple(GENES), **settings
) -> Bundle:
    vocab = GeneVocab.from_genes(genes, name="test")
    given = dict(tokenizer or RANKS)
    strategy = TOKENIZERS.get(given["strategy"])
    made = strategy(strategy.config_class(**given), vocab)
    sizes = {"hidden_dim": 16, "num_layers": 2, "num_heads": 2, "max_seq_len": 32}
    config_class = getattr(MODELS.get(architecture), "config_class", ModelConfig)
    config = config_class(architecture=architecture, vocab_size=len(vocab), **{**sizes, **settings})
    torch.manual_seed(0)
    return Bundle(
        model=build_model(config, made).eval(),
        model_config=config,
        tokenizer=made,
        vocab=vocab,
        preprocessor=Preprocessor(PreprocessingConfig()),
        objective="masked_gene_prediction",
        fingerprint={"config_hash": "0" * 64, "step": 7},
    )


def labelling_model(**settings) -> Bundle:
    """Return a model that has a head for three cell types, whose scores are well apart."""
    task = {"pretraining_task": "cell_type_annotation", "num_cell_types": len(TYPES), "latent_dim": 8}
    bundle = ready_model("scdiva", BINNED, **{**task, **settings})
    bundle.labels = {"column": "cell_type", "categories": list(TYPES)}
    with torch.no_grad():
        for name, weight in bundle.model.named_parameters():
            if "annotation_head" in name or "to_mu" in name:
                weight.mul_(40)
    return bundle
