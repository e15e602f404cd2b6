"""Where the chunks of a zarr array lie: in shards, by the index that each has, or in files of their own.

Versions 2 and 3 of zarr. A shard's index has the offset and the size of each of its chunks, 8 bytes each, and ends with
a checksum; a chunk that is not there has all bits set (zarr core specification v3, codec ``sharding_indexed``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from scmodelforge.data._shard_writer import crc32c
from scmodelforge.data.sources._bytes import ByteReader
from scmodelforge.data.sources._chunks import MISSING, WHOLE_FILE, ChunkTable, OpenBytes, UnreadableError, is_usual_type
from scmodelforge.data.sources._codecs import Codec

__all__ = ["zarr_table"]

#: Indexes of shards that are read at a time.
_INDEXES_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class _Layout:
    """How the chunks along the first axis of an array are stored; ``shard`` is 0 if each is a file."""

    chunk: int
    shard: int
    key: str
    key_end: str
    codec: Codec | None
    is_index_at_end: bool = True
    has_checksum: bool = True


def zarr_table(
    metadata: Mapping[str, Any], path: str, dtype: np.dtype[Any], open_bytes: OpenBytes, label: str
) -> tuple[ChunkTable, bool] | None:
    """Return where the chunks of an array lie, and whether they can be unpacked without zarr-python.

    Parameters
    ----------
    metadata
        The array's metadata as in its JSON file.
    path
        Its place in the store.
    dtype
        Type of its values.
    open_bytes
        What opens a file of the store.
    label
        What messages call the array.

    Returns
    -------
    Chunks that are not there have the offset :data:`MISSING`, but of chunks that are files of their own this is only
    known when they are opened. ``None`` if chunks are not whole rows of the array, or are found in another way than by
    number or by an index.

    Raises
    ------
    UnreadableError
        If a shard is cut off or its index is damaged.
    """
    layout = _layout(metadata, path)
    if layout is None:
        return None
    rows = int(metadata["shape"][0])
    number = -(-rows // layout.chunk)
    is_usual = layout.codec is not None and len(metadata["shape"]) == 1 and rows > 0
    is_usual = is_usual and is_usual_type(dtype)
    table = ChunkTable(
        label=label,
        dtype=dtype,
        size=rows,
        chunk=layout.chunk,
        offsets=np.zeros(number, dtype=np.int64),
        sizes=np.full(number, WHOLE_FILE, dtype=np.int64),
        codecs=(layout.codec or (),),
        codec=np.zeros(number, dtype=np.uint8),
        key=layout.key,
        key_end=layout.key_end,
        per_file=layout.shard // layout.chunk if layout.shard else 1,
    )
    if layout.shard:
        _read_indexes(table, layout, open_bytes)
    return table, is_usual


def _layout(metadata: Mapping[str, Any], path: str) -> _Layout | None:
    return _layout_2(metadata, path) if metadata["zarr_format"] == 2 else _layout_3(metadata, path)


def _layout_2(metadata: Mapping[str, Any], path: str) -> _Layout | None:
    chunks, separator = metadata["chunks"], metadata.get("dimension_separator", ".")
    if not _are_rows(metadata["shape"], chunks):
        return None
    compressor = metadata.get("compressor")
    name = compressor and compressor["id"]
    codec: Codec | None = () if name is None else (name,) if name in ("blosc", "zstd", "zlib", "gzip") else None
    if metadata.get("filters"):
        codec = None
    return _Layout(int(chunks[0]), 0, f"{path}/", _key_end(separator, chunks), codec)


def _layout_3(metadata: Mapping[str, Any], path: str) -> _Layout | None:
    grid, encoding = metadata["chunk_grid"], metadata["chunk_key_encoding"]
    if grid["name"] != "regular" or encoding["name"] not in ("default", "v2"):
        return None
    chunks = grid["configuration"]["chunk_shape"]
    if not _are_rows(metadata["shape"], chunks):
        return None
    is_default = encoding["name"] == "default"
    separator = encoding.get("configuration", {}).get("separator", "/" if is_default else ".")
    key, key_end = f"{path}/{'c' + separator if is_default else ''}", _key_end(separator, chunks)
    codecs = metadata["codecs"]
    if codecs[0]["name"] != "sharding_indexed":
        return _Layout(int(chunks[0]), 0, key, key_end, _codec(codecs))
    settings = codecs[0]["configuration"]
    index = [codec["name"] for codec in settings["index_codecs"]]
    is_little = settings["index_codecs"][0].get("configuration", {}).get("endian") == "little"
    inner = settings["chunk_shape"]
    if index not in (["bytes"], ["bytes", "crc32c"]) or not is_little or len(codecs) > 1:
        return None
    if not _are_rows(metadata["shape"], inner):
        return None
    return _Layout(
        chunk=int(inner[0]),
        shard=int(chunks[0]),
        key=key,
        key_end=key_end,
        codec=_codec(settings["codecs"]),
        is_index_at_end=settings.get("index_location", "end") == "end",
        has_checksum=len(index) == 2,
    )


def _are_rows(shape: Sequence[int], chunks: Sequence[int]) -> bool:
    """Tell whether chunks hold all of every row, so that they follow each other along the first axis."""
    return len(shape) > 0 and all(chunk >= size for size, chunk in zip(shape[1:], chunks[1:], strict=True))


def _key_end(separator: str, chunks: Sequence[int]) -> str:
    return f"{separator}0" * (len(chunks) - 1)


def _codec(codecs: Sequence[Mapping[str, Any]]) -> Codec | None:
    """Return the steps that undo a chain of codecs of version 3, or ``None`` if only zarr-python should."""
    if codecs[0]["name"] != "bytes" or codecs[0].get("configuration", {}).get("endian", "little") != "little":
        return None
    rest = [codec["name"] for codec in codecs[1:]]
    return tuple(rest) if rest in ([], ["blosc"], ["zstd"], ["gzip"]) else None


def _read_indexes(table: ChunkTable, layout: _Layout, open_bytes: OpenBytes) -> None:
    """Put the places of all chunks into a table."""
    shards = range(-(-len(table.offsets) // table.per_file))

    def read(shard: int) -> None:
        first = shard * table.per_file
        here = slice(first, min(first + table.per_file, len(table.offsets)))
        try:
            with open_bytes(table.key_of(first)) as file:
                places = _index(table, layout, shard, file)[: here.stop - here.start]
        except FileNotFoundError:  # an array of zeros has no files
            table.offsets[here] = MISSING
        else:
            table.offsets[here], table.sizes[here] = places.T

    with ThreadPoolExecutor(_INDEXES_AT_ONCE) as pool:
        list(pool.map(read, shards))


def _index(table: ChunkTable, layout: _Layout, shard: int, file: ByteReader) -> np.ndarray:
    """Return offset and size of each chunk of a shard, shape (chunks, 2), int64; -1 where there is none."""
    size = 16 * table.per_file + 4 * layout.has_checksum
    start = file.size - size if layout.is_index_at_end else 0
    if start < 0 or file.size < size:
        what = f"is cut off ({file.size:,} bytes, less than its index); copy the store again from where it came."
        raise _of_shard(table, shard, what)
    (packed,) = file.ranges(np.array([start]), np.array([size]), label=table.label)
    content = bytes(packed[: 16 * table.per_file])
    if layout.has_checksum and crc32c(content) != int.from_bytes(packed[-4:], "little"):
        what = "has a damaged index or is cut off (the checksum differs); copy the store again from where it came."
        raise _of_shard(table, shard, what)
    return np.frombuffer(content, dtype="<u8").astype(np.int64).reshape(-1, 2)


def _of_shard(table: ChunkTable, shard: int, what: str) -> UnreadableError:
    size = table.per_file * table.chunk
    first, last = shard * size, min((shard + 1) * size, table.size) - 1
    return UnreadableError(f"{table.label}: the shard of values {first:,} to {last:,} {what}", first, last)
