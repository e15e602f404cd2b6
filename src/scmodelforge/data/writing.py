"""AnnData files in zarr v3, written row after row with bounded memory.

A file has the layout of a data set of an annbatch collection: X by sparse rows, its values and columns in chunks of
64 average cells within shards of about 1 GB, compressed with blosc (lz4, level 3, bytes shuffled), columns as the
smallest unsigned integers, row starts as int64. anndata, scanpy and annbatch read it.
"""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data._frames import write_table
from scmodelforge.data._shard_writer import ShardedArray, whole_shards
from scmodelforge.data._zarr3 import compressor, consolidate, write_group
from scmodelforge.data.types import CellBlock, Panel

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CELLS_PER_CHUNK", "SHARD_BYTES", "AnnDataWriter", "CsrWriter", "column_dtype", "exactly", "write_rest"]

CELLS_PER_CHUNK = 64
SHARD_BYTES = 1_000_000_000
_MAPPINGS = ("layers", "obsm", "obsp", "uns", "varm", "varp")
_INDPTR_CHUNK = 1 << 16


class AnnDataWriter:
    """One AnnData on its way to a folder ``path``, which is there only once :meth:`finish` has run.

    Cells are compressed and written as they come; in memory are a chunk, the row lengths and the obs table.

    Parameters
    ----------
    path
        The folder to write; a name that ends in ``.zarr``. It may not exist.
    panel
        The genes of the columns. All blocks have this panel.
    dtype
        Type of the values. Blocks must hold values that it holds exactly.
    num_threads
        Threads that compress.
    shard_bytes
        Bytes of a shard before compression, values and columns together.

    Raises
    ------
    DataError
        If there is something at ``path``.
    """

    def __init__(
        self,
        path: Path,
        panel: Panel,
        *,
        dtype: Any = np.float32,
        num_threads: int = 1,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        if path.exists():
            msg = f"{path} exists; choose another name, or remove it first."
            raise DataError(msg)
        self._path, self._panel, self._dtype = path, panel, np.dtype(dtype)
        self._partial = path.with_name(path.name + ".partial")
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        self._num_threads, self._shard_bytes = num_threads, shard_bytes
        self._matrix: CsrWriter | None = None
        self._obs: list[pd.DataFrame] = []

    def append(self, block: CellBlock, obs: pd.DataFrame | None = None) -> None:
        """Write some cells.

        Parameters
        ----------
        block
            Their values.
        obs
            Their obs rows, named by the index; ``None`` for all blocks names the cells by their positions.
        """
        if self._matrix is None:
            self._matrix = self._open_matrix(len(block.data) / max(1, len(block)))
        self._matrix.append(exactly(block.data, self._dtype, block.panel.name), block.indices, np.diff(block.indptr))
        self._obs.append(_position_names(block) if obs is None else obs)

    def finish(self, *, var: pd.DataFrame | None = None) -> None:
        """Write the tables and give the folder its name.

        Parameters
        ----------
        var
            The var table, without its index; ``None`` for no columns.
        """
        import pandas as pd

        matrix = self._matrix or self._open_matrix(1.0)
        matrix.finish()
        obs = pd.concat(self._obs) if self._obs else pd.DataFrame(index=pd.Index([], dtype=object))
        group = write_group(self._partial, "anndata")
        write_table(group, "obs", obs.index.to_numpy(dtype=object), obs)
        write_table(group, "var", np.asarray(self._panel.gene_ids, dtype=object), var)
        write_rest(self._partial)
        consolidate(self._partial)
        self._partial.replace(self._path)

    def close(self) -> None:
        """Give up: remove what was written, unless it was finished."""
        if self._matrix is not None:
            self._matrix.close()
        shutil.rmtree(self._partial, ignore_errors=True)

    def __enter__(self) -> AnnDataWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _open_matrix(self, row_length: float) -> CsrWriter:
        return CsrWriter(
            self._partial / "X",
            len(self._panel.gene_ids),
            dtype=self._dtype,
            row_length=row_length,
            num_threads=self._num_threads,
            shard_bytes=self._shard_bytes,
        )


class CsrWriter:
    """A sparse matrix on its way to a folder, row after row.

    Parameters
    ----------
    folder
        The matrix's folder. Whole shards that are in it, of the same settings, are kept.
    num_genes
        Number of columns.
    dtype
        Type of the values.
    row_length
        Values of an average row; the size of chunks and shards follows from it.
    num_threads
        Threads that compress.
    shard_bytes
        Bytes of a shard before compression, values and columns together.
    before
        Lengths of the rows that were handed over by an earlier process and will not come again, shape (n,).
        Their values must be within :attr:`num_stored`.
    """

    def __init__(
        self,
        folder: Path,
        num_genes: int,
        *,
        dtype: Any,
        row_length: float,
        num_threads: int = 1,
        shard_bytes: int = SHARD_BYTES,
        before: np.ndarray | None = None,
    ) -> None:
        self._folder, self._num_genes = folder, num_genes
        before = np.zeros(0, dtype=np.int64) if before is None else before
        self._lengths = [before]
        chunk, shard = _sizes(dtype, num_genes, row_length, shard_bytes)
        self._pool = ThreadPoolExecutor(num_threads)
        for name in ("data", "indices", "indptr"):  # of a matrix that was finished but not taken for it
            (folder / name / "zarr.json").unlink(missing_ok=True)
        self._arrays = {
            name: ShardedArray(
                folder / name, kind, chunk=chunk, shard=shard, pool=self._pool, start=int(before.sum(dtype=np.int64))
            )
            for name, kind in (("data", np.dtype(dtype)), ("indices", column_dtype(num_genes)))
        }

    @staticmethod
    def num_stored(
        folder: Path, num_genes: int, *, dtype: Any, row_length: float, shard_bytes: int = SHARD_BYTES
    ) -> int:
        """Return how many values whole shards of an unfinished matrix of these settings hold, at least."""
        _, shard = _sizes(dtype, num_genes, row_length, shard_bytes)
        return min(whole_shards(folder / name) for name in ("data", "indices")) * shard

    @property
    def num_whole(self) -> int:
        """How many values whole shards hold."""
        return min(array.num_whole for array in self._arrays.values())

    def append(self, data: np.ndarray, indices: np.ndarray, lengths: np.ndarray) -> None:
        """Write some rows.

        Parameters
        ----------
        data
            Values, shape (nnz,), of the matrix's type.
        indices
            Column of each, shape (nnz,).
        lengths
            Values of each row, shape (n,).
        """
        self._arrays["data"].append(data)
        self._arrays["indices"].append(indices.astype(self._arrays["indices"].dtype, copy=False))
        self._lengths.append(lengths)

    def finish(self) -> None:
        """Write the rest and what describes the matrix."""
        for array in self._arrays.values():
            array.finish()
        self._pool.shutdown()
        lengths = np.concatenate(self._lengths)
        indptr = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
        group = write_group(self._folder, "csr_matrix", shape=[len(lengths), self._num_genes])
        for name, array in self._arrays.items():
            group.create_array(
                name,
                shape=(array.size,),
                chunks=(array.chunk,),
                shards=(array.shard,),
                dtype=array.dtype,
                compressors=compressor(),
                fill_value=0,
            )
        chunks = (min(len(indptr), _INDPTR_CHUNK),)
        group.create_array("indptr", data=indptr, chunks=chunks, compressors=compressor())

    def close(self) -> None:
        """Let go of open files; whole shards stay."""
        self._pool.shutdown(cancel_futures=True)
        for array in self._arrays.values():
            array.close()


def column_dtype(num_genes: int) -> np.dtype[Any]:
    """Return the smallest unsigned type for the columns of so many genes, chosen as anndata chooses it."""
    return np.dtype(next(kind for kind in ("u1", "u2", "u4", "u8") if num_genes <= np.iinfo(kind).max))


def exactly(values: np.ndarray, dtype: np.dtype[Any], label: str) -> np.ndarray:
    """Return values as another type.

    Raises
    ------
    DataError
        If a value is not the same in this type; the message names one.
    """
    if values.dtype == dtype or not len(values):
        return values.astype(dtype, copy=False)
    with np.errstate(invalid="ignore", over="ignore"):
        found = values.astype(dtype)
        is_same = found.astype(values.dtype) == values
    if dtype.kind == "f":
        is_same |= values != values
    else:  # what does not fit may come back as itself, wrapped around twice
        limits = np.iinfo(dtype)
        is_same &= values >= limits.min
        is_same &= values < limits.max + 1 if values.dtype.kind == "f" else values <= limits.max
    if not is_same.all():
        worst = values[~is_same][0]
        msg = (
            f"{label} holds {worst}, which {dtype} does not hold exactly; nothing is rounded: choose another type "
            f"(--dtype), such as {values.dtype}."
        )
        raise DataError(msg)
    return np.asarray(found)


def write_rest(folder: Path) -> None:
    """Write the parts of an AnnData that are empty here."""
    for name in _MAPPINGS:
        write_group(folder / name, "dict")


def _sizes(dtype: Any, num_genes: int, row_length: float, shard_bytes: int) -> tuple[int, int]:
    """Return the values of a chunk and of a shard."""
    chunk = max(1, int(CELLS_PER_CHUNK * row_length))
    width = np.dtype(dtype).itemsize + column_dtype(num_genes).itemsize
    return chunk, max(1, shard_bytes // (width * chunk)) * chunk


def _position_names(block: CellBlock) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(index=pd.Index([str(position) for position in block.positions], dtype=object))
