"""Whatever a server does, cells are read whole or an error names the file: never fewer cells, never others."""

from __future__ import annotations

import numpy as np
import pytest

from scmodelforge._errors import DataError
from scmodelforge.data.sources._stores import _retries
from scmodelforge.data.sources.local import LocalDataConfig, LocalSource
from tests.conftest import make_adata
from tests.test_data.remote_servers import faulty_server

ROWS = np.random.default_rng(0).permutation(400)[:150]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("faults") / "cells.h5ad"
    make_adata(400, 60).write_h5ad(path, compression="gzip")
    return path


@pytest.fixture
def expected(path):
    return LocalSource(LocalDataConfig(paths=[str(path)])).read_rows(0, ROWS)


def source(url, **remote) -> LocalSource:
    return LocalSource(LocalDataConfig(paths=[url], remote={"retries": 2, "timeout": 5.0, **remote}))


def assert_same(found, expected) -> None:
    for name in ("data", "indices", "indptr", "positions"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


PASSING = [500, 502, 503, 504, 429, "short", "lying", "less", "reset", "slow"]


class TestPassingFaults:
    @pytest.mark.parametrize("fault", PASSING)
    def test_a_request_is_sent_again(self, server, expected, fault):
        server.fault = lambda number: fault if number % 2 else None
        there = source(f"{server.url}/lung/cells.h5ad", **({"timeout": 0.3} if fault == "slow" else {}))
        assert_same(there.read_rows(0, ROWS), expected)
        assert len(server.requests) > 4

    @pytest.mark.parametrize("fault", [503, "short", "lying"])
    def test_it_is_also_sent_again_with_a_cache_and_nothing_damaged_is_kept(self, server, expected, tmp_path, fault):
        server.fault = lambda number: fault if number % 2 else None
        for _ in range(2):
            there = source(f"{server.url}/lung/cells.h5ad", cache=str(tmp_path))
            assert_same(there.read_rows(0, ROWS), expected)

    def test_pauses_grow(self):
        from scmodelforge.data.sources._remote_config import RemoteConfig

        assert _retries(RemoteConfig(retries=4))["max_retries"] == 4
        assert _retries(RemoteConfig())["backoff"]["base"] == 2


LASTING = {
    500: r"was answered 3 times with status 500 SomeCode, an internal error, by the server; check its state",
    503: r"was answered 3 times with status 503 SomeCode, that it is overloaded, by the server",
    429: r"was answered 3 times with status 429 SomeCode, too many requests, by the server",
    "short": r"broke off 3 times before all bytes had come; check the network",
    "lying": r"gives fewer bytes than it was asked for, 3 times; the server or something between is at fault",
    "less": r"gives fewer bytes than it was asked for, 3 times",
    "reset": r"broke off 3 times before all bytes had come",
    "slow": r"gave no answer within 0.3 s, asked 3 times; check the network, or raise data.remote.timeout",
}
FINAL = {
    400: r"was answered with status 400 SomeCode by the server",
    401: r"is refused \(401 SomeCode\). Check that the address may be read; a presigned one has run out",
    403: r"is refused \(403 SomeCode\). Check that the address may be read; a presigned one has run out",
    404: r"is not there \(404\). Check the path",
    301: r"is in another region; set data.remote.region, or AWS_REGION",
}


class TestLastingFaults:
    @pytest.mark.parametrize("fault", LASTING)
    @pytest.mark.parametrize("begins", ["at once", "later"])
    def test_after_some_tries_an_error_names_the_file(self, server, fault, begins):
        settings = {"timeout": 0.3} if fault == "slow" else {}
        words = rf"^cells.h5ad cannot be read: {server.url}/lung/cells.h5ad {LASTING[fault]}"
        if begins == "at once":
            server.fault = lambda number: fault
            with pytest.raises(DataError, match=words):
                source(f"{server.url}/lung/cells.h5ad?X-Amz-Signature=s", **settings)
            return
        there = source(f"{server.url}/lung/cells.h5ad?X-Amz-Signature=s", **settings)
        server.fault = lambda number: fault
        with pytest.raises(DataError, match=words):
            there.read_rows(0, ROWS)

    @pytest.mark.parametrize("fault", FINAL)
    def test_what_will_not_pass_is_an_error_at_once(self, server, fault):
        server.fault = lambda number: fault
        with pytest.raises(
            DataError, match=rf"^cells.h5ad cannot be read: {server.url}/lung/cells.h5ad {FINAL[fault]}"
        ):
            source(f"{server.url}/lung/cells.h5ad")
        assert len(server.requests) == 1

    def test_a_refused_bucket_says_what_to_check(self, server):
        server.fault = lambda number: 403
        with pytest.raises(DataError, match=r"s3://lung/cells.h5ad is refused .* \(AWS_ACCESS_KEY_ID, AWS_PROFILE\)"):
            source("s3://lung/cells.h5ad", endpoint=server.url, anonymous=True)
        with pytest.raises(DataError, match=r"gs://lung/cells.h5ad is refused .*GOOGLE_APPLICATION_CREDENTIALS"):
            source("gs://lung/cells.h5ad", endpoint=server.url, anonymous=True)

    def test_a_server_that_is_not_there(self):
        with faulty_server() as server:
            gone = server.url
        with pytest.raises(DataError, match=r"cells.h5ad cannot be read: .* cannot be reached: no connection"):
            source(f"{gone}/cells.h5ad", retries=0)

    def test_a_name_that_is_not_known(self):
        with pytest.raises(DataError, match=r"the name of 'nowhere.invalid' is not known. Check the address"):
            source("https://nowhere.invalid/cells.h5ad", retries=0)

    def test_a_server_without_ranges(self, server):
        server.fault = lambda number: "whole"
        with pytest.raises(DataError, match=r"cells.h5ad cannot be read in parts: the server of .* gives whole files"):
            source(f"{server.url}/lung/cells.h5ad")


class TestChangedFiles:
    @pytest.mark.parametrize("fault", [412, "changed"])
    def test_another_etag_is_an_error(self, server, fault):
        there = source(f"{server.url}/lung/cells.h5ad")
        server.fault = lambda number: fault
        with pytest.raises(DataError, match=r"^cells.h5ad was changed while it was being read: http.* Start again"):
            there.read_rows(0, ROWS)

    def test_a_new_time_of_change_is_an_error_where_there_are_no_etags(self, server):
        server.headers = {"ETag": "", "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
        there = source(f"{server.url}/lung/cells.h5ad")
        server.headers = {"ETag": "", "Last-Modified": "Wed, 21 Oct 2015 07:28:01 GMT"}
        with pytest.raises(DataError, match=r"was changed while it was being read"):
            there.read_rows(0, ROWS)

    def test_the_etag_is_asked_for(self, server):
        there = source(f"{server.url}/lung/cells.h5ad")
        server.forget()
        there.read_rows(0, ROWS)
        asked = [{name.lower(): value for name, value in headers.items()} for headers in server.seen]
        assert {headers["if-match"] for headers in asked} == {server.etag(server.files["/lung/cells.h5ad"])}


class TestWrongFiles:
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", r"^cells.h5ad is empty \(0 bytes\), or shorter than when it was opened: http.*; upload it again"),
            (b"<html>no</html>", r"^cells.h5ad is not an .h5ad file \(it does not begin as HDF5 files do\)"),
        ],
    )
    def test_what_is_no_h5ad_file_is_named(self, server, content, words):
        server.files["/lung/cells.h5ad"] = content
        with pytest.raises(DataError, match=words):
            source(f"{server.url}/lung/cells.h5ad")

    def test_a_file_that_was_cut_off_is_an_error(self, server):
        whole = server.files["/lung/cells.h5ad"]
        server.files["/lung/cells.h5ad"] = whole[: len(whole) // 2]
        with pytest.raises(DataError, match=r"^cells.h5ad is a damaged or unfinished HDF5 file .* upload it again"):
            source(f"{server.url}/lung/cells.h5ad")

    def test_flipped_bytes_in_a_chunk_are_an_error(self, server):
        content = bytearray(server.files["/lung/cells.h5ad"])
        there = source(f"{server.url}/lung/cells.h5ad")
        table = there._tables_of(0)[0]
        content[table.offsets[0] + 20 : table.offsets[0] + 30] = bytes(10)
        server.headers = {"ETag": server.etag(server.files["/lung/cells.h5ad"])}
        server.files["/lung/cells.h5ad"] = bytes(content)
        with pytest.raises(DataError, match=r"^cells.h5ad: X/data: the chunk of values .* The file is damaged"):
            there.read_rows(0, ROWS)
