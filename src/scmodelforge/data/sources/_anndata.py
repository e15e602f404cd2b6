"""AnnData objects in the ways of the files they are written to, so that what reads files reads them too.

Of an object in memory the arrays are given as they lie there. Of one that is backed, its matrices are those of its
file; tables and layers are in memory, and as they are there. A part of a backed object is read by its rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.gather import read_rows
from scmodelforge.data.sources._anndata_table import Array, Group, table_of
from scmodelforge.data.sources._bytes import ByteReader, Descriptors
from scmodelforge.data.sources._chunks import ChunkTable
from scmodelforge.data.sources._hdf5 import H5adFile, hdf5_table
from scmodelforge.data.sources._stored_cells import StoredCells

if TYPE_CHECKING:
    import anndata

__all__ = ["AnnDataFile"]

_PARTS_OF_CSR = ("data", "indices", "indptr")


class AnnDataFile:
    """An AnnData object as if it was a file.

    Parameters
    ----------
    adata
        The object. It is neither changed nor copied.
    name
        What messages call it.
    """

    errors: tuple[type[Exception], ...] = H5adFile.errors
    is_remote = False

    def __init__(self, adata: anndata.AnnData, name: str) -> None:
        self.name = name
        self._adata = adata
        self._backing = H5adFile(Path(adata.filename), name, Descriptors()) if adata.isbacked else None

    def open(self) -> _OpenAnnData:
        """Return it; there is nothing to open."""
        return _OpenAnnData(self._adata, self.name)

    def reader(self, key: str) -> AbstractContextManager[ByteReader]:
        """Open the file of a backed object for reads by position."""
        assert self._backing is not None
        return self._backing.reader(key)

    def digest(self) -> dict[str, Any]:
        """Return its size in bytes, a sha256 and what that is of: the file of a backed object, or all matrices."""
        if self._backing is not None:
            return self._backing.digest()
        opened, found, size = self.open(), hashlib.sha256(), 0
        for where in opened.matrices:
            item = opened[where]
            for part in [item] if hasattr(item, "shape") else [item[name] for name in _PARTS_OF_CSR]:
                values = np.ascontiguousarray(part[:])
                found.update(f"{where} {values.dtype.str} {values.shape}".encode())
                found.update(values.data)
                size += values.nbytes
        return {"bytes": size, "sha256": found.hexdigest(), "sha256_of": "matrices in memory"}

    def close(self) -> None:
        """Close what was opened for reads by position; the object itself stays as it is."""
        if self._backing is not None:
            self._backing.close()


class _OpenAnnData:
    """What :class:`AnnDataFile` opens: parts by the places they have in a file."""

    form = "an AnnData object"

    def __init__(self, adata: anndata.AnnData, name: str) -> None:
        self._adata, self._name = adata, name
        self._tables: dict[str, Callable[[], Group]] = {
            "obs": lambda: table_of(adata.obs),
            "var": lambda: table_of(adata.var),
        }
        #: Places of the matrices.
        self.matrices: dict[str, Callable[[], Any]] = {}
        if adata.isbacked and not adata.file.is_open:
            adata.file.open()
        if adata.isbacked and "X" in adata.file:
            self.matrices["X"] = partial(self._backed, "X")
        elif not adata.isbacked and adata.X is not None:
            self.matrices["X"] = lambda: adata.X
        if adata.raw is not None:
            self._tables["raw/var"] = lambda: table_of(adata.raw.var)
            self.matrices["raw/X"] = partial(self._backed, "raw/X") if adata.isbacked else lambda: adata.raw.X
        for layer in _layers(adata):
            self.matrices[f"layers/{layer}"] = partial(adata.layers.__getitem__, layer)
        self._last: tuple[str, Any] | None = None  # a matrix may have been made: of a part, or from columns

    @property
    def root(self) -> _OpenAnnData:
        """Itself."""
        return self

    def __getitem__(self, where: str) -> Any:
        if where in self._tables:
            return self._tables[where]()
        if where in self.matrices:
            return self._matrix(where)
        head, _, part = where.rpartition("/")
        if head in self.matrices:
            return self._matrix(head)[part]
        raise KeyError(where)

    def __contains__(self, where: str) -> bool:
        if where == "uns/scmodelforge/synthetic":
            found = self._adata.uns.get("scmodelforge")
            return isinstance(found, Mapping) and "synthetic" in found
        return where in self._tables or where in self.matrices

    def __iter__(self) -> Iterator[str]:
        return iter([*self._tables, *self.matrices])

    def get(self, where: str, default: Any = None) -> Any:
        """Return the names of the layers."""
        return _layers(self._adata) if where == "layers" else default

    def table(self, where: str, label: str) -> ChunkTable | None:
        """Return where the values of an array lie in the file, or ``None`` if they are not in one, or may change."""
        values = self[where]
        is_fixed = isinstance(values, h5py.Dataset) and values.file.mode == "r"
        return hdf5_table(values, label) if is_fixed else None

    def close(self) -> None:
        """Let go of matrices that were made."""
        if self._last is not None and isinstance(self._last[1], _RowsOf):
            self._last[1].close()
        self._last = None

    def _matrix(self, where: str) -> Any:
        if self._last is None or self._last[0] != where:
            self.close()  # before another one is made
            self._last = where, self._as_stored(where, self.matrices[where]())
        return self._last[1]

    def _as_stored(self, where: str, values: Any) -> Any:
        import scipy.sparse as sp

        if isinstance(values, h5py.Dataset | h5py.Group | _RowsOf):
            return values
        if isinstance(values, np.ndarray) and not isinstance(values, np.ma.MaskedArray):
            return Array(values)
        if sp.issparse(values):
            rows = values if values.format == "csr" else values.tocsr()
            attrs = {"encoding-type": "csr_matrix", "shape": rows.shape}
            return Group({name: Array(getattr(rows, name)) for name in _PARTS_OF_CSR}, attrs)
        kind = f"{type(values).__module__.partition('.')[0]} {type(values).__name__}"
        msg = (
            f"{self._name}: {where.replace('/', '.')} is a {kind}; a NumPy array or a sparse matrix of SciPy is "
            f"needed. {self._name}.to_memory() makes one of most others."
        )
        raise DataError(msg)

    def _backed(self, where: str) -> Any:
        adata = self._adata
        if not adata.file.is_open:  # another function may have closed it
            adata.file.open()
        stored = adata.file[where]
        is_csc = isinstance(stored, h5py.Group) and str(stored.attrs.get("encoding-type")).startswith("csc")
        # what is stored by columns is refused as it is, whatever part of it is asked for
        return stored if is_csc or not adata.is_view else _RowsOf.view(adata, where)


def _layers(adata: anndata.AnnData) -> list[str]:
    """Return the names of the layers; anndata from 0.13 on counts ``X`` among them, as one without a name."""
    return [layer for layer in adata.layers if layer is not None]


class _RowsOf:
    """Rows of a backed matrix, and some of its columns, as an array."""

    def __init__(self, cells: StoredCells, rows: np.ndarray, columns: np.ndarray) -> None:
        self._cells, self._rows, self._columns = cells, rows, columns
        self.shape = len(rows), len(columns)
        self.dtype = np.dtype(np.float32)
        self.attrs: dict[str, Any] = {}

    @classmethod
    def view(cls, adata: anndata.AnnData, where: str) -> _RowsOf:
        """Return what a view has of a matrix of its file."""
        # AnnData has no public way to ask a view for its rows
        whole, rows, columns = adata._adata_ref, adata._oidx, adata._vidx
        layer = "raw" if where == "raw/X" else "X"
        cells = StoredCells([AnnDataFile(whole, "adata")], layer=layer, gene_id_column=None)
        num_genes = len(cells.panels[0].gene_ids)
        chosen = np.arange(num_genes) if layer == "raw" else np.arange(num_genes)[columns]
        return cls(cells, np.arange(whole.n_obs)[rows], chosen)

    def __getitem__(self, part: slice) -> np.ndarray:
        import scipy.sparse as sp

        found = read_rows(self._cells, 0, self._rows[part])
        shape = len(found), len(found.panel.gene_ids)
        values = sp.csr_matrix((found.data, found.indices, found.indptr), shape=shape)
        return np.asarray(values[:, self._columns].toarray())

    def close(self) -> None:
        """Close what reads them; the next part that is asked for opens it again."""
        self._cells.close()
