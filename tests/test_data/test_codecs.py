"""What is packed comes out again, whole or the part that is needed; bytes that are no such thing are refused."""

from __future__ import annotations

import gzip
import zlib
from contextlib import suppress
from functools import cache

import numcodecs
import numpy as np
import pytest
import zarr  # noqa: F401 - turns Blosc's own threads off, as it is wherever a store is read
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scmodelforge.data.sources import _codecs, _libraries
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


def unpacked(packed: bytes, codec: tuple[str, ...], size: int = SIZE) -> np.ndarray:
    out = np.empty(size, np.uint8)
    unpack(packed, codec, out, width=4)
    return out.view(np.float32)


@pytest.fixture(params=["the C library", "the package", "zlib"])
def library(request, monkeypatch):
    """How it is unpacked: straight into place, by the functions of the packages, without the package deflate."""
    if request.param != "the C library":
        monkeypatch.setattr(_libraries, "_function", lambda *_: None)
    if request.param == "zlib":
        monkeypatch.setattr(_codecs, "deflate", None)


@pytest.mark.usefixtures("library")
class TestUnpack:
    @pytest.mark.parametrize("codec", CODECS, ids="+".join)
    def test_all_values_come_out(self, codec):
        np.testing.assert_array_equal(unpacked(packed_by(codec), codec), VALUES)

    @pytest.mark.parametrize("codec", CODECS, ids="+".join)
    def test_from_any_buffer(self, codec):
        whole = memoryview(b"before" + packed_by(codec) + b"after")[6:-5]
        np.testing.assert_array_equal(unpacked(whole, codec), VALUES)

    @pytest.mark.parametrize("codec", CODECS, ids="+".join)
    def test_a_part_of_the_bytes_is_refused(self, codec):
        for cut in (0, 3, 20, -9):
            with pytest.raises(PackingError):
                unpacked(packed_by(codec)[:cut], codec)

    @pytest.mark.parametrize("codec", [("zlib",), ("gzip",), ("zlib", "shuffle")], ids="+".join)
    def test_a_flipped_byte_is_noticed_by_the_checksum(self, codec):
        packed = bytearray(packed_by(codec))
        packed[len(packed) // 2] ^= 1
        with pytest.raises(PackingError, match=r"cannot be unpacked|holds"):
            unpacked(bytes(packed), codec)

    @pytest.mark.parametrize("more", [4, -4])
    @pytest.mark.parametrize("codec", CODECS[:3], ids="+".join)
    def test_a_chunk_of_another_size(self, codec, more):
        with pytest.raises(PackingError, match=r"holds 160,000 bytes and not 1|cannot be unpacked"):
            unpacked(packed_by(codec), codec, SIZE + more)


class TestLibraries:
    def test_are_found_here(self):
        packed, out = np.frombuffer(zlib.compress(b"12345678"), np.uint8), np.zeros(8, np.uint8)
        assert _libraries.inflate("zlib", packed.ctypes.data, len(packed), out.ctypes.data, 8)
        assert out.tobytes() == b"12345678"
        chunk, out = np.frombuffer(packed_by(("blosc",)), np.uint8), np.zeros(SIZE, np.uint8)
        assert _libraries.unblosc(chunk.ctypes.data, out.ctypes.data, SIZE)
        np.testing.assert_array_equal(out.view(np.float32), VALUES)


@pytest.mark.usefixtures("library")
class TestBlosc:
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.integers(1, 90_000),
        st.sampled_from(["u1", "u2", "f4", "f8"]),
        st.sampled_from(["lz4", "zstd", "blosclz", "zlib", "lz4hc"]),
        st.sampled_from([0, 1, 2]),
        st.sampled_from([0, 256, 32_768]),
        st.integers(0, 9),
    )
    def test_of_any_kind(self, number, dtype, packing, shuffle, block, level):
        values = np.resize(VALUES, number).astype(dtype)
        packed = bytes(numcodecs.Blosc(packing, level, shuffle, block).encode(values))
        out = np.zeros(values.nbytes, np.uint8)
        unpack(packed, ("blosc",), out, width=values.itemsize)
        np.testing.assert_array_equal(out.view(dtype), values)

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.sampled_from(["u1", "u2", "f4", "f8"]),
        st.sampled_from([0, 1, 4, 12]),
        st.sampled_from([0, 1, 2]),
        st.sampled_from([0, 256, 32_768]),
        st.integers(0, 90_000),
        st.integers(1, 90_000),
    )
    def test_a_part_is_what_it_is_in_the_whole(self, dtype, item, shuffle, block, first, number):
        values = np.resize(VALUES, 90_000).astype(dtype)
        items = values.view(f"V{item}") if item else values  # writers may count bytes, or several values as one
        packed = bytes(numcodecs.Blosc("lz4", 3, shuffle, block).encode(items))
        expected = values[first : first + number]
        out, width = np.zeros(expected.nbytes, np.uint8), values.itemsize
        unpack(packed, ("blosc",), out, width=width, first=first * width, size=values.nbytes)
        np.testing.assert_array_equal(out.view(dtype), expected)

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def test_a_part_of_a_damaged_one_is_refused_or_other_values_but_never_ends_the_process(self, data):
        packed = bytearray(numcodecs.Blosc("lz4", 3, 1, 4096).encode(VALUES))
        place = data.draw(st.integers(0, 60) | st.integers(0, len(packed) - 1))
        packed[place] ^= data.draw(st.integers(1, 255))
        first, last = sorted(data.draw(st.lists(st.integers(0, SIZE // 4), min_size=2, max_size=2)))
        out = np.zeros((last - first) * 4, np.uint8)
        with suppress(PackingError):
            unpack(bytes(packed), ("blosc",), out, width=4, first=first * 4, size=SIZE)

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def test_damage_is_refused_or_gives_other_values_but_never_ends_the_process(self, data):
        packed = bytearray(numcodecs.Blosc("lz4", 3, 1, 4096).encode(VALUES))
        place = data.draw(st.integers(0, 60) | st.integers(0, len(packed) - 1))
        packed[place] ^= data.draw(st.integers(1, 255))
        with suppress(PackingError):
            unpacked(bytes(packed), ("blosc",))

    @pytest.mark.parametrize("size", [SIZE - 4, SIZE + 4])
    def test_a_header_that_says_another_size(self, size):
        with pytest.raises(PackingError, match="its header says"):
            unpacked(packed_by(("blosc",)), ("blosc",), size)
