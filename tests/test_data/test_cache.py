"""What is kept of remote files is what was read; it stays bounded, and what is damaged or unfinished is never used."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config import load_config
from scmodelforge.data.sources._cache import BLOCK, BlockCache, cache_key
from scmodelforge.data.sources._remote_config import RemoteConfig

CONTENT = np.random.default_rng(0).integers(0, 256, 200_000, dtype=np.uint8).tobytes()
SPANS = [(0, 10), (65_530, 65_550), (199_000, 200_000), (5, 5)]
KEY = cache_key("s3://bucket/cells.h5ad", '"etag" 200000')
LIMIT = 64 << 20


def kept_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def only_block(folder: Path) -> Path:
    (path,) = folder.rglob("*.block")
    return path


class TestKeeping:
    def test_parts_of_a_block_are_those_that_were_written(self, tmp_path):
        cache = BlockCache(tmp_path / "cache", LIMIT)
        assert cache.read(KEY, 3, len(CONTENT), SPANS) is None
        cache.write(KEY, 3, CONTENT)
        assert cache.read(KEY, 3, len(CONTENT), SPANS) == [CONTENT[start:stop] for start, stop in SPANS]
        assert cache.read(KEY, 4, len(CONTENT), SPANS) is None

    def test_another_version_has_other_blocks(self, tmp_path):
        cache = BlockCache(tmp_path, LIMIT)
        cache.write(KEY, 0, CONTENT)
        newer = cache_key("s3://bucket/cells.h5ad", '"newer" 200000')
        assert cache.read(newer, 0, len(CONTENT), SPANS) is None

    @pytest.mark.parametrize("place", [3, 12, 20, 100, 66_000, -1])
    def test_a_flipped_byte_is_seen(self, tmp_path, place):
        cache = BlockCache(tmp_path, LIMIT)
        cache.write(KEY, 0, CONTENT)
        path = only_block(tmp_path)
        damaged = bytearray(path.read_bytes())
        damaged[place] ^= 1
        path.write_bytes(damaged)
        assert cache.read(KEY, 0, len(CONTENT), [(0, len(CONTENT))]) is None

    @pytest.mark.parametrize("size", [0, 5, 1000, 200_000])
    def test_a_block_that_is_cut_off_counts_as_absent(self, tmp_path, size):
        cache = BlockCache(tmp_path, LIMIT)
        cache.write(KEY, 0, CONTENT)
        os.truncate(only_block(tmp_path), size)
        assert cache.read(KEY, 0, len(CONTENT), [(0, 10)]) is None


class TestBounds:
    def test_what_was_used_longest_ago_goes_first(self, tmp_path):
        cache = BlockCache(tmp_path, LIMIT)
        block = bytes(BLOCK)
        for number in range(10):
            cache.write(KEY, number, block)
            os.utime(cache._path(KEY, number), (1000 + number, 1000 + number))
        cache._touched.clear()
        assert cache.read(KEY, 0, BLOCK, [(0, 1)]) == [b"\0"]
        for number in range(10, 18):
            cache.write(KEY, number, block)
            assert kept_bytes(tmp_path) <= LIMIT
        assert cache.read(KEY, 0, BLOCK, [(0, 1)]) is not None
        assert cache.read(KEY, 1, BLOCK, [(0, 1)]) is None
        assert cache.read(KEY, 17, BLOCK, [(0, 1)]) is not None

    def test_several_processes_share_a_folder(self, tmp_path):
        workers = [
            multiprocessing.get_context("spawn").Process(target=_fill, args=(tmp_path, first)) for first in (0, 12)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0]
        assert kept_bytes(tmp_path) <= LIMIT + (64 << 20)
        cache = BlockCache(tmp_path, LIMIT)
        found = [cache.read(KEY, number, BLOCK, [(0, 1)]) for number in range(24)]
        assert sum(one is not None for one in found) >= 8
        assert all(one in (None, [bytes([number])]) for number, one in enumerate(found))

    @pytest.mark.parametrize(
        ("size", "words"),
        [("a lot", "'a lot' is no size; write a number of bytes"), ("1MB", "'1MB' is less than 64MiB")],
    )
    def test_a_wrong_size_is_refused(self, size, words):
        with pytest.raises(ValueError, match=words):
            RemoteConfig(cache_size=size)


def _fill(folder: Path, first: int) -> None:
    cache = BlockCache(folder, LIMIT)
    for number in range(first, first + 12):
        cache.write(KEY, number, bytes([number]) * BLOCK)
        cache.read(KEY, first, BLOCK, [(0, BLOCK)])


class TestTrouble:
    def test_a_full_disk_ends_keeping_with_one_warning(self, tmp_path, caplog, monkeypatch):
        """What the disk says is simulated by the process's limit on the size of files."""
        script = f"""
import logging, resource, signal, sys
from pathlib import Path
from scmodelforge.data.sources._cache import BlockCache
logging.basicConfig(format="%(message)s")
cache = BlockCache(Path({str(tmp_path)!r}), {LIMIT})
cache.write({KEY!r}, 0, b"a" * 1000)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for number in range(1, 4):
    cache.write({KEY!r}, number, b"b" * 200_000)
assert cache.read({KEY!r}, 0, 1000, [(1, 3)]) == [b"aa"]
assert cache.read({KEY!r}, 1, 200_000, [(1, 3)]) is None
"""
        done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
        assert done.stderr.count("\n") == 1
        assert f"data.remote.cache: '{tmp_path}' takes no more (File too large); reading goes on" in done.stderr
        assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [".block"]

    def test_a_killed_process_leaves_nothing_that_is_taken_for_whole(self, tmp_path):
        script = f"""
from pathlib import Path
from scmodelforge.data.sources import _cache
cache = _cache.BlockCache(Path({str(tmp_path)!r}), {LIMIT})
whole = _cache._write_all
def half(file, head, content):
    whole(file, head, content[: len(content) // 2])
    print("half", flush=True)
    import time
    time.sleep(60)
_cache._write_all = half
cache.write({KEY!r}, 0, bytes(200_000))
"""
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as writing:
            assert writing.stdout.readline() == b"half\n"
            writing.send_signal(signal.SIGKILL)
        cache = BlockCache(tmp_path, LIMIT)
        assert kept_bytes(tmp_path) > 100_000
        assert cache.read(KEY, 0, 200_000, [(0, 10)]) is None
        (part,) = tmp_path.rglob("*.part")
        os.utime(part, (time.time() - 7200, time.time() - 7200))
        cache.write(KEY, 0, CONTENT)
        assert not part.exists()
        assert cache.read(KEY, 0, len(CONTENT), [(0, 10)]) == [CONTENT[:10]]

    def test_a_folder_that_cannot_be_made_is_an_error(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(DataError, match=r"data.remote.cache: '.*file/cache' cannot be written \(Not a directory\)"):
            BlockCache(tmp_path / "file" / "cache", LIMIT)

    def test_a_disk_that_is_full_at_the_start_is_a_warning(self, tmp_path, monkeypatch, caplog):
        def full(*words, **more):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "mkdir", full)
        cache = BlockCache(tmp_path / "cache", LIMIT)
        cache.write(KEY, 0, CONTENT)
        (record,) = caplog.records
        assert f"'{tmp_path / 'cache'}' takes no more (No space left on device); reading goes on" in record.message


@pytest.mark.skipif(find_spec("torch") is None, reason="settings of a whole run need torch")
class TestSettings:
    def test_an_endpoint_with_a_password_is_refused(self):
        with pytest.raises(ValueError, match="without name and password"):
            RemoteConfig(endpoint="https://me:secret@s3.example.org")

    def test_settings_are_read_from_a_file(self, tmp_path):
        (tmp_path / "run.yaml").write_text("data: {paths: ['s3://b/k.h5ad'], remote: {cache: c, cache_size: 1GB}}")
        assert load_config(tmp_path / "run.yaml").data.remote.cache_bytes == 10**9
        (tmp_path / "run.yaml").write_text("data: {paths: ['s3://b/k.h5ad'], remote: {cache_size: much}}")
        with pytest.raises(ConfigError, match=r"data.remote.cache_size.*'much' is no size"):
            load_config(tmp_path / "run.yaml")
