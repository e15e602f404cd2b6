"""More genes for a trained model: new rows wherever a weight has one for each token, the rest as it was.

Which weights these are needs no list: a model made with the old and one made with the new number of tokens differ in
shape exactly there, so that any model that can be made from settings can be extended. Rows of old tokens are copied bit
for bit. A new row is the mean of the genes' rows, so that a new gene is at first an average gene and the scores of the
old ones barely change their order, or what a fresh model of the same settings has there.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.hub.bundle import Bundle, build_model
from scmodelforge.models.components.given import GivenGeneEmbedding

__all__ = ["extend_vocabulary"]

_log = logging.getLogger(__name__)


def extend_vocabulary(
    bundle: Bundle, genes: Iterable[str], *, initial: Literal["mean", "random"] = "mean", seed: int = 0
) -> Bundle:
    """Return a model that knows more genes; the one given is not changed.

    Tokens, weights and tokenizer state of the old genes stay as they are, so cells without new genes have the
    embeddings they had. A new gene has no median until the tokenizer is fitted again: it counts with the middle one.

    Parameters
    ----------
    bundle
        The model with all it needs.
    genes
        Ids of genes. Those the vocabulary has, under whatever name, are left out.
    initial
        Rows of the new genes: the ``mean`` of all genes' rows, or ``random`` as in a fresh model.
    seed
        Seed of the random rows.

    Raises
    ------
    DataError
        If the vocabulary has all genes already, or two are one gene.
    ConfigError
        If ``initial`` is another word, the model's weights do not grow by a row for each token, or it says itself
        (``fixed_vocabulary``) why it cannot know more genes.
    """
    if isinstance(genes, str):
        msg = f"genes is the text {genes!r}; give a list of gene ids."
        raise ConfigError(msg)
    if initial not in ("mean", "random"):
        msg = f"initial is {initial!r}; choose 'mean' or 'random'."
        raise ConfigError(msg)
    reason = getattr(bundle.model, "fixed_vocabulary", None)
    if reason is not None:
        raise ConfigError(reason)
    vocab = bundle.vocab.extended(genes)
    tokenizer = bundle.tokenizer.extended(vocab)
    settings = bundle.model_config.model_copy(update={"vocab_size": len(vocab)})
    device = next(bundle.model.parameters()).device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(settings, tokenizer)
    _fill(model, bundle.model, bundle.vocab, len(vocab), initial=initial)
    model.to(device).train(bundle.model.training)
    added = list(vocab.genes[len(bundle.vocab.genes) :])
    _log.info(f"{len(added):,} genes added to the {len(bundle.vocab.genes):,} of the model")
    return replace(
        bundle,
        model=model,
        model_config=settings,
        tokenizer=tokenizer,
        vocab=vocab,
        labels=copy.deepcopy(bundle.labels),
        fingerprint=_fingerprint(bundle, added, initial, seed),
        plugins=list(bundle.plugins),
        origin="",  # what that address gives knows fewer genes
    )


def _fingerprint(bundle: Bundle, added: list[str], initial: str, seed: int) -> dict[str, Any]:
    """Return the model's fingerprint with another identity, and what it was made of."""
    old = copy.deepcopy(bundle.fingerprint)
    facts = [old.get("config_hash"), added, initial, seed if initial == "random" else None]
    return {
        **old,
        "config_hash": hashlib.sha256(json.dumps(facts).encode()).hexdigest(),
        "extended_from": bundle.model_id,
        "added_genes": [*old.get("added_genes", []), *added],
    }


def _fill(model: nn.Module, old: nn.Module, vocab: GeneVocab, size: int, *, initial: str) -> None:
    """Copy the weights of a model into one with more tokens, and set the rows of the new ones."""
    weights, sources = _tensors(model), _tensors(old)
    if weights.keys() != sources.keys():
        name = min(weights.keys() ^ sources.keys())
        msg = (
            f"the model has other weights than its settings make ('{name}' is in one of the two only), so rows for new "
            "genes cannot be added; extend the model before it is changed."
        )
        raise ConfigError(msg)
    genes = torch.from_numpy(vocab.gene_tokens.astype(np.int64))
    given, learned = _given_and_learned(old, len(vocab))
    with torch.no_grad():
        for name, weight in weights.items():
            source = sources[name].to(weight.device)
            if source.shape == weight.shape:
                weight.copy_(source)
                continue
            dim = _token_dim(name, source.shape, weight.shape, len(vocab), size)
            weight.narrow(dim, 0, len(vocab)).copy_(source)
            if name in given:  # what the tokenizer gives for new genes, if anything
                continue
            if initial == "mean" and name in learned:
                source = learned[name].to(weight.device)
            if initial == "mean" and weight.is_floating_point():
                mean = source.index_select(dim, genes).double().mean(dim, keepdim=True).to(weight.dtype)
                weight.narrow(dim, len(vocab), size - len(vocab)).copy_(mean)
    for (_, parameter), (_, source) in zip(model.named_parameters(), old.named_parameters(), strict=True):
        parameter.requires_grad_(source.requires_grad)


def _given_and_learned(model: nn.Module, size: int) -> tuple[set[str], dict[str, torch.Tensor]]:
    """Return the names of tensors with given gene vectors, and by the name of the learned ones beside what genes have.

    Where genes have given vectors their learned ones are not used, and no measure of what new genes should begin with.
    """
    given, learned = set(), {}
    for name, module in model.named_modules():
        if isinstance(module, GivenGeneEmbedding):
            given |= {f"{name}.given.weight", f"{name}.known"}
            every = torch.arange(size, device=module.known.device)
            with torch.no_grad():
                learned[f"{name}.learned.weight"] = module(every)
    return given, learned


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in model.state_dict(keep_vars=True).items() if tensor is not None}


def _token_dim(name: str, before: torch.Size, after: torch.Size, num_old: int, num_new: int) -> int:
    """Return the dimension in which a weight has a row for each token."""
    grown = [dim for dim, (old, new) in enumerate(zip(before, after, strict=False)) if old != new]
    if len(before) == len(after) and len(grown) == 1 and (before[grown[0]], after[grown[0]]) == (num_old, num_new):
        return grown[0]
    msg = (
        f"weight '{name}' of shape {tuple(before)} has shape {tuple(after)} with {num_new:,} tokens in place of "
        f"{num_old:,}; only weights with one row for each token can be extended. Train a model of the new vocabulary."
    )
    raise ConfigError(msg)
