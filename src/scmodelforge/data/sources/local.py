"""Cells of local AnnData: .h5ad files, zarr stores and annbatch collections, read by rows, never whole."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from scmodelforge._registry import SOURCES
from scmodelforge.config.schema import DataConfig
from scmodelforge.data.sources._bytes import Descriptors
from scmodelforge.data.sources._folder import LocalFolder
from scmodelforge.data.sources._hdf5 import H5adFile
from scmodelforge.data.sources._paths import Location, resolve_paths, short_names
from scmodelforge.data.sources._pool import StoredFile
from scmodelforge.data.sources._remote_config import RemoteConfig
from scmodelforge.data.sources._remote_files import RemoteFiles, RemoteFolder, RemoteH5ad
from scmodelforge.data.sources._stored_cells import StoredCells
from scmodelforge.data.sources._url import RemoteUrl
from scmodelforge.data.sources._zarr import ZarrFile

__all__ = ["LocalDataConfig", "LocalSource"]


class LocalDataConfig(DataConfig):
    """Settings of the data source ``local``."""

    paths: list[str] = Field(min_length=1)
    """Files (.h5ad), zarr stores, annbatch collections, or patterns such as ``data/*.h5ad``, here or at ``s3://``,
    ``gs://`` or ``https://``; genes may differ."""
    remote: RemoteConfig = Field(default_factory=RemoteConfig)
    """How files that lie elsewhere are read."""
    layer: str | None = None
    """Matrix to read: ``X``, ``raw`` or a layer's name; ``None`` finds the one that holds counts."""
    gene_id_column: str | None = None
    """var column with the gene ids; ``None`` is var_names, or if these are no gene ids a column that has some."""


@SOURCES.register("local")
class LocalSource(StoredCells):
    """Cells of one or several .h5ad files or zarr stores, each with its own panel of genes.

    Every file is checked here, once; its values are read when asked for. Threads may share a source, a copy by pickle
    or fork opens the files anew.

    Parameters
    ----------
    config
        The settings.

    Raises
    ------
    DataError
        If a file is missing, damaged, not AnnData, or does not have what the settings name.
    """

    config_class = LocalDataConfig

    def __init__(self, config: LocalDataConfig) -> None:
        paths = resolve_paths(config.paths, config.remote)
        files = _stored_files(paths, short_names(paths), config.remote)
        super().__init__(files, layer=config.layer, gene_id_column=config.gene_id_column)


def _stored_files(paths: Sequence[Location], names: Sequence[str], remote: RemoteConfig) -> list[StoredFile]:
    descriptors, addresses = Descriptors(), RemoteFiles(remote)
    stored: list[StoredFile] = []
    for path, name in zip(paths, names, strict=True):
        if isinstance(path, RemoteUrl):
            is_store = path.is_folder
            stored.append(
                ZarrFile(RemoteFolder(path, remote, name), name) if is_store else RemoteH5ad(path, name, addresses)
            )
        elif path.is_dir():
            stored.append(ZarrFile(LocalFolder(path, descriptors), name))
        else:
            stored.append(H5adFile(path, name, descriptors))
    return stored
