"""Weights, their number and settings of training, shared by all models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import nn

from scmodelforge._errors import ConfigError

if TYPE_CHECKING:
    from scmodelforge.config.schema import ModelConfig

__all__ = ["count_parameters", "evaluation", "init_weights", "required_vocab_size", "warmup_share"]


def init_weights(module: nn.Module) -> None:
    """Set the weights of one module to their first values; use it as ``model.apply(init_weights)``.

    Linear layers get Xavier-uniform weights and zero biases, embeddings a normal distribution (mean 0, standard
    deviation 0.02) with zeros in the padding row, layer norms ones and zeros. Subclasses of these layers are treated
    alike; other modules are left as they are.

    Parameters
    ----------
    module
        The module; its children are not touched.
    """
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, mean=0.0, std=0.02)
        if module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx])
    elif isinstance(module, nn.LayerNorm):
        if module.weight is not None:
            nn.init.ones_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def count_parameters(model: nn.Module, trainable_only: bool = True) -> int:
    """Count the parameters of a model, each shared one once.

    Parameters
    ----------
    model
        The model.
    trainable_only
        Count only parameters that get gradients.

    Returns
    -------
    Number of scalars.
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable_only)


def required_vocab_size(config: ModelConfig) -> int:
    """Return the vocabulary size of the settings.

    Parameters
    ----------
    config
        Settings of a model.

    Raises
    ------
    ConfigError
        If it is not set.
    """
    if config.vocab_size is None:
        msg = (
            "ModelConfig.vocab_size must be set before a model is made; it is the number of tokens of the vocabulary, "
            "special tokens included: len(vocab)."
        )
        raise ConfigError(msg)
    return config.vocab_size


@contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """Switch a model to evaluation, and back to the mode that each of its modules had."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def warmup_share(step: int | None, warmup_steps: int) -> float:
    """Return which share of its weight a divergence has at a step of a warm-up: step / warmup_steps, at most 1.

    Raises
    ------
    ConfigError
        If the step is not known.
    """
    if warmup_steps == 0:
        return 1.0
    if step is None:
        msg = (
            f"model.kl_warmup_steps is {warmup_steps}, but the model was not told the step; call model.set_step(n) "
            "before each step of training, or set it to 0."
        )
        raise ConfigError(msg)
    return min(1.0, step / warmup_steps)
