"""Groups of zarr v3 that anndata knows by their attributes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scmodelforge.data._shard_writer import MOST_OF_A_BLOCK

if TYPE_CHECKING:
    import zarr

__all__ = ["compressor", "consolidate", "write_group"]

#: Version of each encoding that anndata or annbatch looks for.
_VERSIONS = {
    "anndata": "0.1.0",
    "annbatch-preshuffled": "0.1.0",
    "categorical": "0.2.0",
    "csr_matrix": "0.1.0",
    "dataframe": "0.2.0",
    "dict": "0.1.0",
    "nullable-boolean": "0.1.0",
    "nullable-integer": "0.1.0",
}


def write_group(where: Path | zarr.Group, encoding: str, *, name: str = "", **attributes: Any) -> zarr.Group:
    """Make a group with an encoding; what is in it already stays.

    Parameters
    ----------
    where
        A folder, or the group that ``name`` is in.
    encoding
        The encoding, such as ``dataframe``.
    name
        Name of the group in another one.
    attributes
        Further attributes.
    """
    import zarr

    group = zarr.open_group(where, mode="a", zarr_format=3) if isinstance(where, Path) else where.require_group(name)
    # attrs.update would write the description once for each attribute
    changed: zarr.Group = group.update_attributes(
        {**attributes, "encoding-type": encoding, "encoding-version": _VERSIONS[encoding]}
    )
    return changed


def consolidate(folder: Path) -> None:
    """Gather the descriptions of all that is in a group into one file, so that it opens with one read."""
    import zarr

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata")  # no part of the specification of v3 yet
        zarr.consolidate_metadata(str(folder))


def compressor() -> Any:
    """Return zarr's description of how :func:`scmodelforge.data._shard_writer.pack` compresses."""
    from zarr.codecs import BloscCodec

    return BloscCodec(cname="lz4", clevel=3, shuffle="shuffle", blocksize=MOST_OF_A_BLOCK)
