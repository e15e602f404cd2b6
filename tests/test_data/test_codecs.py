"""What is packed comes out again, whole or the part that is needed; bytes that are no such thing are refused."""

from __future__ import annotations

import gzip
import zlib
from functools import cache

import numcodecs
import numpy as np
import pytest
import zarr  # noqa: F401 - turns Blosc's own threads off, as it is wherever a store is read
from hypothesis import given, settings
from hypothesis import strategies as st

from scmodelforge.data.sources import _codecs
from scmodelforge.data.sources._codecs import PackingError, unpack

VALUES = np.random.default_rng(0).poisson(2.0, 40_000).astype(np.float32)
SIZE = VALUES.nbytes


@cache
def packed_by(codec: tuple[str, ...]) -> bytes:
    content = VALUES.tobytes()
    if "shuffle" in codec:
        content = np.frombuffer(content, np.uint8).reshape(-1, 4).T.tobytes()
    pack = {
        "zlib": zlib.compress,
        "gzip": lambda raw: gzip.compress(raw, mtime=0),
        "zstd": lambda raw: bytes(numcodecs.Zstd().encode(raw)),
        "blosc": lambda raw: bytes(numcodecs.Blosc("lz4", 3, 1).encode(np.frombuffer(raw, np.float32))),
        "shuffle": lambda raw: raw,
    }
    return pack[codec[0]](content)


CODECS = [("zlib",), ("gzip",), ("zstd",), ("blosc",), ("shuffle",), ("zlib", "shuffle")]


class TestUnpack:
    @pytest.mark.parametrize("library", ["deflate", "zlib"])
    @pytest.mark.parametrize("codec", CODECS, ids="+".join)
    def test_all_values_come_out(self, codec, library, monkeypatch):
        if library == "zlib":
            monkeypatch.setattr(_codecs, "deflate", None)
        raw, first = unpack(packed_by(codec), codec, SIZE, 4, 0, SIZE)
        assert first == 0
        np.testing.assert_array_equal(np.frombuffer(raw, np.float32), VALUES)

    @pytest.mark.parametrize("library", ["deflate", "zlib"])
    @pytest.mark.parametrize("codec", CODECS, ids="+".join)
    def test_a_part_of_the_bytes_is_refused(self, codec, library, monkeypatch):
        if library == "zlib":
            monkeypatch.setattr(_codecs, "deflate", None)
        for cut in (0, 3, 20, -9):
            with pytest.raises(PackingError):
                unpack(packed_by(codec)[:cut], codec, SIZE, 4, 0, SIZE)

    def test_fewer_values_than_a_chunk_has(self):
        with pytest.raises(PackingError, match="holds 160,000 bytes and not 160,004"):
            unpack(packed_by(("zlib",)), ("zlib",), SIZE + 4, 4, 0, SIZE + 4)


class TestPartsOfBlosc:
    @settings(max_examples=80, deadline=None)
    @given(
        st.integers(1, 90_000),
        st.sampled_from(["u1", "u2", "f4", "f8"]),
        st.sampled_from(["lz4", "zstd", "blosclz", "zlib", "lz4hc"]),
        st.sampled_from([0, 1, 2]),
        st.sampled_from([0, 256, 32_768]),
        st.integers(0, 9),
        st.data(),
    )
    def test_equal_the_same_part_of_the_whole(self, number, dtype, library, shuffle, block, level, data):
        values = np.resize(VALUES, number).astype(dtype)
        packed = bytes(numcodecs.Blosc(library, level, shuffle, block).encode(values))
        start = data.draw(st.integers(0, number - 1))
        stop = data.draw(st.integers(start + 1, number))
        width = values.itemsize
        raw, first = unpack(packed, ("blosc",), values.nbytes, width, start * width, stop * width)
        assert first % width == 0
        assert first <= start * width
        assert first + len(raw) >= stop * width
        found = np.frombuffer(raw, values.dtype)
        np.testing.assert_array_equal(found, values[first // width :][: len(found)])

    def test_less_is_unpacked_than_is_there(self):
        packed = bytes(numcodecs.Blosc("lz4", 3, 1, 4096).encode(VALUES))
        assert int.from_bytes(packed[8:12], "little") == 65_536  # what Blosc makes of 4096
        for start, stop, expected in ((0, 4, 0), (65_532, 65_540, 0), (65_536, 65_540, 1), (131_072, SIZE, 2)):
            raw, first = unpack(packed, ("blosc",), SIZE, 4, start, stop)
            assert first == expected * 65_536
            assert len(raw) == min(SIZE, -(-stop // 65_536) * 65_536) - first
            np.testing.assert_array_equal(np.frombuffer(raw, np.float32), VALUES[first // 4 :][: len(raw) // 4])

    def test_a_header_that_says_another_size(self):
        packed = packed_by(("blosc",))
        with pytest.raises(PackingError, match="cannot be unpacked"):
            unpack(packed, ("blosc",), SIZE - 4, 4, 0, 4)
