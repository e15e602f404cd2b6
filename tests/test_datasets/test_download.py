from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time

import pytest

from scmodelforge._errors import DataError
from scmodelforge.datasets.download import Patience, download, shown_address

QUICK = Patience(retries=3, pause=0.001, timeout=5)


@pytest.fixture
def part(tmp_path):
    return tmp_path / "cells.h5ad.part"


def begin(server, part, fault="cut"):
    """Let half of the file arrive, and no more."""
    server.faults = [fault]
    with pytest.raises(DataError):
        download(server.address, part, patience=Patience(retries=0, pause=0, timeout=5))
    assert 0 < part.stat().st_size < len(server.content)
    server.seen.clear()
    return part.stat().st_size


class TestWhole:
    def test_a_file_arrives_as_it_is(self, server, part):
        download(server.address, part, patience=QUICK)
        assert part.read_bytes() == server.content
        assert server.ranges == [None]

    def test_progress_ends_at_the_whole_file(self, server, part):
        told = []
        download(server.address, part, patience=QUICK, progress=lambda done, total: told.append((done, total)))
        assert told == sorted(told)
        assert len(told) > 2
        assert told[-1] == (len(server.content), len(server.content))

    def test_a_server_may_send_elsewhere(self, server, part):
        server.faults = ["moved"]
        download(server.address, part, patience=QUICK)
        assert part.read_bytes() == server.content

    def test_an_empty_file_arrives(self, server, part):
        server.content = b""
        download(server.address, part, patience=QUICK)
        assert part.read_bytes() == b""


class TestBrokenOff:
    def test_the_rest_is_fetched_by_range(self, server, part):
        arrived = begin(server, part)
        told = []
        download(server.address, part, patience=QUICK, progress=lambda *each: told.append(each))
        assert part.read_bytes() == server.content
        assert server.ranges == [f"bytes={arrived}-"]
        assert told[0][0] > arrived
        assert told[-1] == (len(server.content), len(server.content))

    def test_it_goes_on_by_itself(self, server, part):
        server.faults = ["cut", "cut", "cut"]
        download(server.address, part, patience=QUICK)
        assert part.read_bytes() == server.content
        starts = [0 if each is None else int(each[6:-1]) for each in server.ranges]
        assert len(starts) == 4
        assert starts == sorted(set(starts))  # each goes on further along

    def test_a_file_that_has_all_arrived_is_taken(self, server, part):
        begin(server, part)
        part.write_bytes(server.content)
        download(server.address, part, patience=QUICK)
        assert part.read_bytes() == server.content
        assert server.ranges == [f"bytes={len(server.content)}-"]

    @pytest.mark.parametrize("heeds_if_range", [True, False])
    def test_parts_of_two_versions_are_never_joined(self, server, part, heeds_if_range):
        begin(server, part)
        server.content, server.heeds_if_range = bytes(reversed(server.content)), heeds_if_range
        download(server.address, part, patience=QUICK)
        assert part.read_bytes() == server.content

    def test_a_shorter_version_replaces_what_had_arrived(self, server, part):
        begin(server, part)
        server.content, server.heeds_if_range = b"short", False
        download(server.address, part, patience=QUICK)
        assert part.read_bytes() == b"short"

    def test_a_server_without_ranges_begins_anew(self, server, part):
        begin(server, part)
        server.gives_ranges = False
        download(server.address, part, patience=QUICK)
        assert part.read_bytes() == server.content

    def test_a_server_that_marks_no_version_is_not_gone_on_with(self, server, part):
        server.gives_etag = False
        begin(server, part)
        server.content = bytes(reversed(server.content))
        download(server.address, part, patience=QUICK)
        assert server.ranges == [None]
        assert part.read_bytes() == server.content

    def test_a_part_from_another_address_is_not_gone_on_with(self, server, part):
        begin(server, part)
        download(f"{server.url}/data/tiny.h5ad", part, patience=QUICK)
        assert server.ranges == [None]

    def test_a_new_signature_in_the_address_does_not_begin_anew(self, server, part):
        arrived = begin(server, part)
        download(f"{server.address}?X-Amz-Signature=1", part, patience=QUICK)
        assert server.ranges == [f"bytes={arrived}-"]
        assert part.read_bytes() == server.content

    @pytest.mark.parametrize("note", [None, "{", '{"address": 1}', "[]"])
    def test_a_part_nobody_knows_is_replaced(self, server, part, note):
        begin(server, part)
        beside = part.with_name(part.name + ".json")
        beside.unlink() if note is None else beside.write_text(note)
        download(server.address, part, patience=QUICK)
        assert server.ranges == [None]
        assert part.read_bytes() == server.content


class TestTroubles:
    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_a_passing_trouble_is_waited_out(self, server, part, status, caplog):
        caplog.set_level(logging.INFO)
        server.faults = [status, status]
        download(server.address, part, patience=QUICK)
        assert part.read_bytes() == server.content
        assert f"the server answers {status}" in caplog.text
        assert "trying again in 0.001 s" in caplog.text

    @pytest.mark.parametrize("status", [401, 403, 404, 410])
    def test_a_lasting_one_is_told_at_once(self, server, part, status):
        server.faults = [status]
        with pytest.raises(DataError, match=rf"/cells.h5ad: the server answers {status} .*--from"):
            download(server.address, part, patience=QUICK)
        assert len(server.seen) == 1

    def test_troubles_that_do_not_pass_end_it(self, server, part):
        server.faults = [500] * 9
        with pytest.raises(DataError, match="the server answers 500 Internal Server Error"):
            download(server.address, part, patience=QUICK)
        assert len(server.seen) == 1 + QUICK.retries

    def test_connections_that_always_end_at_one_place_end_it(self, server, part):
        server.gives_ranges, server.faults = False, ["cut"] * 99
        with pytest.raises(DataError, match=r"the connection broke off|the connection ended"):
            download(server.address, part, patience=QUICK)
        assert len(server.seen) <= 2 + QUICK.retries

    def test_pauses_grow(self, server, part):
        server.faults = [500, 500, 500]
        start = time.monotonic()
        download(server.address, part, patience=Patience(retries=3, pause=0.05, timeout=5))
        assert time.monotonic() - start >= 0.05 + 0.1 + 0.2

    def test_a_server_that_falls_silent_is_asked_for_the_rest(self, server, part):
        server.faults = ["stall"]
        download(server.address, part, patience=Patience(retries=1, pause=0.001, timeout=0.2))
        assert part.read_bytes() == server.content
        assert len(server.seen) == 2
        assert server.ranges[1] is not None

    def test_without_a_network_it_says_so(self, part):
        with pytest.raises(DataError, match=r"^http://127.0.0.1:9/x: the server cannot be reached\. Try later"):
            download("http://127.0.0.1:9/x", part, patience=QUICK)

    def test_what_arrived_is_named_and_kept(self, server, part):
        server.faults = ["cut", 404]
        with pytest.raises(DataError, match=r"0\.6 MB have arrived and are kept; the same command goes on"):
            download(server.address, part, patience=QUICK)
        assert part.read_bytes() == server.content[: part.stat().st_size]

    def test_a_packed_body_is_refused(self, server, part):
        server.faults = ["packed"]
        with pytest.raises(DataError, match="is sent packed"):
            download(server.address, part, patience=QUICK)

    def test_secrets_of_an_address_are_not_shown(self, server, part, caplog):
        caplog.set_level(logging.DEBUG, logger="scmodelforge")
        server.faults = [500, 404]
        address = server.address.replace("http://", "http://me:hidden@") + "?token=hidden"
        with pytest.raises(DataError) as refused:
            download(address, part, patience=QUICK)
        assert "hidden" not in str(refused.value) + caplog.text
        assert shown_address(address) == server.address


class TestRoom:
    def test_a_file_larger_than_the_disk_is_refused_before_it_is_read(self, server, part):
        server.announced = 10**18
        with pytest.raises(DataError, match=r"GB free, and 1,000,000,000\.0 GB are still to come; make room"):
            download(server.address, part, patience=QUICK)
        assert part.stat().st_size == 0

    def test_a_disk_that_fills_up_is_told_and_the_part_can_be_gone_on_with(self, server, part):
        code = f"""
import resource, pathlib
from scmodelforge.datasets.download import Patience, download
from scmodelforge._errors import DataError
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))
try:
    download({server.address!r}, pathlib.Path({str(part)!r}), patience=Patience())
except DataError as problem:
    print(problem)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert f"{part.parent} takes no more (File too large); make room" in done.stdout
        arrived = part.stat().st_size
        assert 0 < arrived <= 600_000
        assert part.read_bytes() == server.content[:arrived]
        download(server.address, part, patience=QUICK)
        assert part.read_bytes() == server.content
        assert server.ranges[-1] == f"bytes={arrived}-"

    def test_a_process_that_is_killed_leaves_a_part_that_is_gone_on_with(self, server, part):
        code = f"""
import os, pathlib, signal
from scmodelforge.datasets.download import Patience, download
def kill(done, total):
    if done > 400_000:
        os.kill(os.getpid(), signal.SIGKILL)
download({server.address!r}, pathlib.Path({str(part)!r}), patience=Patience(), progress=kill)
"""
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
        arrived = part.stat().st_size
        assert json.loads(part.with_name(part.name + ".json").read_text())["size"] == len(server.content)
        download(server.address, part, patience=QUICK)
        assert server.ranges[-1] == f"bytes={arrived}-"
        assert part.read_bytes() == server.content

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_that_cannot_be_written_is_named(self, server, tmp_path):
        locked = tmp_path / "locked"
        locked.mkdir(mode=0o500)
        with pytest.raises(DataError, match="Permission denied"):
            download(server.address, locked / "part", patience=QUICK)
