"""The compiled loop over chunks, held against the functions for single ones."""

from __future__ import annotations

import os
import zlib
from itertools import pairwise

import numcodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scmodelforge.data import _compile
from scmodelforge.data.sources import _codecs, _libraries
from scmodelforge.data.sources._together import read_and_unpack

pytest.importorskip("numba")

CONTENT = 4000  # bytes of a chunk
CODECS = ((), ("blosc",), ("zlib",), ("gzip",), ("zstd",))
NEEDS_DEFLATE = pytest.mark.skipif(_codecs.deflate is None, reason="the package deflate is not installed")


@pytest.fixture(autouse=True)
def _compiled(monkeypatch):
    """Loops are compiled though they are given little."""
    monkeypatch.setattr(_compile._state, "many_to_come", True)


def pack(raw: bytes, codec: int) -> bytes:
    if codec == 1:
        return bytes(numcodecs.Blosc("lz4", 3, 1, 512).encode(np.frombuffer(raw, np.float32)))
    if codec == 3:
        compressor = zlib.compressobj(wbits=31)
        return compressor.compress(raw) + compressor.flush()
    return {0: bytes, 2: zlib.compress, 4: lambda raw: bytes(numcodecs.Zstd().encode(raw))}[codec](raw)


class Chunks:
    """Chunks in a file, with gaps where asked for, and what a call of the loop needs."""

    def __init__(self, path, kinds, gaps=None, parts=None) -> None:
        rng = np.random.default_rng(0)
        self.contents = [rng.poisson(1, CONTENT // 4).astype("<f4").tobytes() for _ in kinds]
        gaps = [0] * len(kinds) if gaps is None else gaps
        self.parts = [(0, CONTENT)] * len(kinds) if parts is None else parts
        self.codec = np.array(kinds, dtype=np.uint8)
        written, self.starts, self.sizes = b"", [], []
        for kind, gap, content, (first, last) in zip(kinds, gaps, self.contents, self.parts, strict=True):
            packed = pack(content, kind)
            written += b"\xff" * gap
            # of what is stored as it is, the part alone is asked for
            self.starts.append(len(written) + (first if kind == 0 else 0))
            self.sizes.append(last - first if kind == 0 else len(packed))
            written += packed
        path.write_bytes(written)
        self.path = path

    def read(self) -> list[bytes] | None:
        lengths = [last - first for first, last in self.parts]
        places = np.cumsum([0, *lengths])
        out = np.zeros(places[-1], np.uint8)
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            is_done = read_and_unpack(
                descriptor,
                CODECS,
                self.codec,
                np.array(self.starts),
                np.array(self.sizes),
                firsts=np.array([first for first, _ in self.parts]),
                content=CONTENT,
                places=places,
                out=out,
            )
        finally:
            os.close(descriptor)
        return [out[a:b].tobytes() for a, b in pairwise(places)] if is_done else None


class TestWhole:
    @NEEDS_DEFLATE
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12))
    def test_chunks_of_several_kinds_side_by_side_and_apart(self, tmp_path, chunks):
        found = Chunks(tmp_path / "file", [kind for kind, _ in chunks], [gap for _, gap in chunks])
        assert found.read() == found.contents

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 999), st.integers(1, 999)), min_size=1, max_size=9))
    def test_parts(self, tmp_path, parts):
        ranges = [(4 * first, 4 * min(first + count, 1000)) for _, first, count in parts]
        found = Chunks(tmp_path / "file", [kind for kind, _, _ in parts], parts=ranges)
        expected = [content[a:b] for content, (a, b) in zip(found.contents, ranges, strict=True)]
        assert found.read() == expected


class TestCouldNot:
    """Whatever is unusual is left to the functions for single chunks, which say what is wrong."""

    def test_files_elsewhere(self):
        none = np.zeros(0, dtype=np.int64)
        places, out = np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.uint8)
        assert not read_and_unpack(None, CODECS, none, none, none, firsts=none, content=1, places=places, out=out)

    def test_other_codecs(self, tmp_path):
        assert Chunks(tmp_path / "file", [1, 4, 1]).read() is None

    def test_without_the_libraries(self, tmp_path, monkeypatch):
        chunks = Chunks(tmp_path / "file", [1])
        monkeypatch.setattr(_libraries, "addresses", lambda: [0] * 6)
        assert chunks.read() is None

    @NEEDS_DEFLATE
    def test_a_part_of_what_can_be_unpacked_whole_only(self, tmp_path):
        assert Chunks(tmp_path / "file", [2], parts=[(0, 400)]).read() is None

    @NEEDS_DEFLATE
    @pytest.mark.parametrize("kind", [0, 1, 2, 3])
    def test_a_file_that_ends_early(self, tmp_path, kind):
        chunks = Chunks(tmp_path / "file", [1, kind])
        os.truncate(chunks.path, chunks.path.stat().st_size - 1)
        assert chunks.read() is None

    @NEEDS_DEFLATE
    @pytest.mark.parametrize("kind", [1, 2, 3])
    def test_a_chunk_of_another_size(self, tmp_path, kind):
        chunks = Chunks(tmp_path / "file", [kind])
        chunks.path.write_bytes(pack(bytes(CONTENT + 4), kind))
        chunks.sizes = [chunks.path.stat().st_size]
        assert chunks.read() is None

    @pytest.mark.parametrize("place", [3, 4, 8, 12, 13])
    def test_a_header_that_was_changed(self, tmp_path, place):
        chunks = Chunks(tmp_path / "file", [1], parts=[(4, 400)])
        content = bytearray(chunks.path.read_bytes())
        content[place] = 0 if place == 3 else content[place] ^ 0x55
        chunks.path.write_bytes(content)
        assert chunks.read() is None

    def test_a_size_below_zero(self, tmp_path):
        chunks = Chunks(tmp_path / "file", [1])
        chunks.sizes = [-1]
        assert chunks.read() is None

    def test_a_chunk_shorter_than_a_header(self, tmp_path):
        chunks = Chunks(tmp_path / "file", [1])
        chunks.sizes = [8]
        assert chunks.read() is None
