"""Settings of how a model is spread over devices: ``training.fsdp``."""

from __future__ import annotations

from scmodelforge.config.section import Section

__all__ = ["FsdpConfig"]


class FsdpConfig(Section):
    """Sharded training, ``training.strategy: fsdp``: each device holds a share of weights, gradients and moments."""

    cpu_offload: bool = False
    """Keep the shares in the host's memory and step there; a device holds only the block that it computes."""
