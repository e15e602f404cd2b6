"""Weights of a model written into another one of the same settings."""

from __future__ import annotations

from torch import nn

from scmodelforge._errors import ConfigError, listed

__all__ = ["copy_weights"]


def copy_weights(source: nn.Module, into: nn.Module) -> None:
    """Write the weights of a model into one of the same settings, of which parts may have been left out.

    Parameters
    ----------
    source
        The model, which is not changed.
    into
        The other one. It may lack what the source names as needed by its pretraining only (``pretraining_parts``). On
        the meta device it stays without numbers.

    Raises
    ------
    ConfigError
        If one of them has a weight that the other has not, or has in another shape.
    """
    weights, wanted = source.state_dict(), into.state_dict()
    parts = tuple(f"{name}." for name in getattr(source, "pretraining_parts", ()))
    left = {name for name in weights.keys() - wanted.keys() if not f"{name}.".startswith(parts)}
    faults = {name for name in wanted if name not in weights or weights[name].shape != wanted[name].shape} | left
    if faults:
        msg = (
            f"the model has other weights than its settings make ({listed(sorted(faults), 3)}); give it as it was "
            "trained or loaded."
        )
        raise ConfigError(msg)
    if any(weight.is_meta for weight in wanted.values()):
        return  # of a model without numbers only the kind matters
    into.load_state_dict({name: weights[name] for name in wanted})
