"""Arrays written in shards, as zarr reads them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from scmodelforge.data._shard_writer import ShardedArray, crc32c, pack, unpack
from scmodelforge.data._zarr3 import compressor


@pytest.fixture(scope="module")
def pool():
    with ThreadPoolExecutor(2) as threads:
        yield threads


def described(folder, array):
    """Return the array as zarr has it, once its description is written."""
    group = zarr.open_group(folder.parent, mode="a", zarr_format=3)
    return group.create_array(
        folder.name,
        shape=(array.size,),
        chunks=(array.chunk,),
        shards=(array.shard,),
        dtype=array.dtype,
        compressors=compressor(),
        fill_value=0,
    )


class TestShardedArray:
    @settings(max_examples=12, deadline=None)
    @given(
        pieces=st.lists(st.integers(0, 40), max_size=6),
        chunk=st.integers(1, 9),
        chunks_in_shard=st.integers(1, 4),
        dtype=st.sampled_from(["float32", "uint16", "uint8", "int64"]),
    )
    def test_zarr_reads_what_was_appended(self, tmp_path_factory, pool, pieces, chunk, chunks_in_shard, dtype):
        folder = tmp_path_factory.mktemp("store") / "values"
        values = np.arange(1, sum(pieces) + 1).astype(dtype)
        array = ShardedArray(folder, dtype, chunk=chunk, shard=chunk * chunks_in_shard, pool=pool)
        for part in np.split(values, np.cumsum(pieces)):
            array.append(part)
        array.finish()
        assert np.array_equal(described(folder, array)[...], values)

    def test_a_shard_has_its_name_only_when_it_is_whole(self, tmp_path, pool):
        array = ShardedArray(tmp_path / "a", "float32", chunk=4, shard=8, pool=pool)
        array.append(np.ones(13, dtype=np.float32))
        array.close()
        assert sorted(path.name for path in (tmp_path / "a" / "c").iterdir()) == ["0", "1.writing"]

    def test_whole_shards_are_kept_and_the_rest_is_the_same_as_without_a_break(self, tmp_path, pool):
        values = np.random.default_rng(0).random(50).astype(np.float32)
        for name, start in (("broken", 5), ("unbroken", 0)):
            array = ShardedArray(tmp_path / name, "float32", chunk=4, shard=8, pool=pool)
            if name == "broken":
                array.append(values[:21])
                array.close()
                array = ShardedArray(tmp_path / name, "float32", chunk=4, shard=8, pool=pool, start=start)
                assert array.num_whole == 16
            array.append(values[start:])
            array.finish()
        files = [
            {path.name: path.read_bytes() for path in (tmp_path / n / "c").iterdir()} for n in ("broken", "unbroken")
        ]
        assert files[0] == files[1]

    def test_going_on_behind_what_is_there_is_refused(self, tmp_path, pool):
        with pytest.raises(ValueError, match="cannot be continued at 3"):
            ShardedArray(tmp_path / "a", "float32", chunk=4, shard=8, pool=pool, start=3)

    def test_one_shard_has_no_index_for_chunks_that_are_not_there(self, tmp_path, pool):
        array = ShardedArray(tmp_path / "a", "uint8", chunk=4, shard=4_000_000, pool=pool)
        array.append(np.ones(9, dtype=np.uint8))
        array.finish()
        assert array.shard == 12
        assert (tmp_path / "a" / "c" / "0").stat().st_size < 500


class TestPacking:
    def test_crc32c_has_the_check_value_of_its_catalogue(self):
        assert crc32c(b"123456789") == 0xE3069283

    @pytest.mark.parametrize("size", [0, 1, 1000])
    def test_unpacking_gives_what_was_packed(self, size):
        values = np.arange(size, dtype=np.uint16)
        found = np.empty_like(values)
        unpack(pack(values), found)
        assert np.array_equal(found, values)
