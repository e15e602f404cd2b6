"""From files to checked blocks of cells in a global order: sources, vocabulary, preprocessing, split, loader.

Public names are imported when first used. Nothing here imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scmodelforge.data.hvg import HighlyVariable
    from scmodelforge.data.inspect import ValueKind, describe_gene_ids, describe_values, gene_id_type
    from scmodelforge.data.loader import CellLoader
    from scmodelforge.data.preprocess import Preprocessor
    from scmodelforge.data.protocols import BlockEncoder, CellSource
    from scmodelforge.data.sampling import GlobalOrder
    from scmodelforge.data.scan import ScanReport
    from scmodelforge.data.sources.local import LocalDataConfig, LocalSource
    from scmodelforge.data.splits import CellSplit, split_cells
    from scmodelforge.data.types import Batch, CellBlock, Panel, RowRange, TokenBlock
    from scmodelforge.data.vocab import Coverage, GeneVocab

# the function ``scan`` is not here: a package cannot have one name for a module and for what is in it
__all__ = [
    "Batch",
    "BlockEncoder",
    "CellBlock",
    "CellLoader",
    "CellSource",
    "CellSplit",
    "Coverage",
    "GeneVocab",
    "GlobalOrder",
    "HighlyVariable",
    "LocalDataConfig",
    "LocalSource",
    "Panel",
    "Preprocessor",
    "RowRange",
    "ScanReport",
    "TokenBlock",
    "ValueKind",
    "describe_gene_ids",
    "describe_values",
    "gene_id_type",
    "split_cells",
]

_HOMES = {
    "hvg": ("HighlyVariable",),
    "inspect": ("ValueKind", "describe_gene_ids", "describe_values", "gene_id_type"),
    "loader": ("CellLoader",),
    "preprocess": ("Preprocessor",),
    "sampling": ("GlobalOrder",),
    "scan": ("ScanReport",),
    "sources.local": ("LocalDataConfig", "LocalSource"),
    "splits": ("CellSplit", "split_cells"),
    "protocols": ("BlockEncoder", "CellSource"),
    "types": ("Batch", "CellBlock", "Panel", "RowRange", "TokenBlock"),
    "vocab": ("Coverage", "GeneVocab"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        msg = f"module '{__name__}' has no attribute '{name}'"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
