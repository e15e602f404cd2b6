"""Neural models of the connectivity of two regions, under names; see ``docs/connectome.md``."""

from scmodelforge.connectome.models.base import ConnectomeModel
from scmodelforge.connectome.models.registry import (
    get_connectome_model,
    list_connectome_models,
    register_connectome_model,
)

__all__ = ["ConnectomeModel", "get_connectome_model", "list_connectome_models", "register_connectome_model"]
