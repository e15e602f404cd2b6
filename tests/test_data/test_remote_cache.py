"""What was read is not asked for again; what is secret is shown nowhere; addresses are checked before all else."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from scmodelforge._errors import DataError
from scmodelforge.data.sources._paths import resolve_paths, short_names
from scmodelforge.data.sources._url import matches, parse_url
from tests.conftest import make_adata
from tests.test_data.remote_cells import NUM_CELLS, SECRET, assert_same, source


class TestCache:
    def test_a_second_pass_and_a_second_run_send_no_requests(self, server, path, tmp_path):
        here, rows = source(path), np.random.default_rng(0).permutation(NUM_CELLS)[:300]
        there = source(f"{server.url}/lung/cells.h5ad?{SECRET}", cache=str(tmp_path / "cache"))
        for _ in range(2):
            assert_same(there.read_rows(0, rows), here.read_rows(0, rows))
            server.forget()
        assert not server.requests
        again = source(f"{server.url}/lung/cells.h5ad?X-Amz-Signature=another", cache=str(tmp_path / "cache"))
        assert_same(again.read_rows(0, rows), here.read_rows(0, rows))
        assert len(server.requests) == 1  # which version is there?

    def test_a_new_version_is_read_anew(self, server, tmp_path):
        url = f"{server.url}/lung/cells.h5ad"
        before = source(url, cache=str(tmp_path / "cache")).read_rows(0, np.arange(20))
        make_adata(NUM_CELLS, 120, seed=1).write_h5ad(tmp_path / "new.h5ad", compression="gzip")
        server.files["/lung/cells.h5ad"] = (tmp_path / "new.h5ad").read_bytes()
        after = source(url, cache=str(tmp_path / "cache")).read_rows(0, np.arange(20))
        assert_same(after, source(tmp_path / "new.h5ad").read_rows(0, np.arange(20)))
        assert len(before.data) != len(after.data) or (before.data != after.data).any()

    def test_a_damaged_block_is_fetched_anew(self, server, path, tmp_path):
        url, cache = f"{server.url}/lung/cells.h5ad", tmp_path / "cache"
        source(url, cache=str(cache)).read_rows(0, np.arange(NUM_CELLS))
        for block in cache.rglob("*.block"):
            content = bytearray(block.read_bytes())
            content[len(content) // 2 :: 1000] = bytes(len(content[len(content) // 2 :: 1000]))
            block.write_bytes(content)
        assert_same(
            source(url, cache=str(cache)).read_rows(0, np.arange(NUM_CELLS)),
            source(path).read_rows(0, np.arange(NUM_CELLS)),
        )

    @pytest.mark.parametrize("etag", ["", 'W/"weak"'])
    def test_a_server_without_etags_is_read_without_the_cache_and_it_is_said_once(
        self, server, path, tmp_path, caplog, etag
    ):
        server.headers = {"ETag": etag, "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
        there = source(f"{server.url}/lung/cells.h5ad", cache=str(tmp_path / "cache"))
        assert_same(there.read_rows(0, np.arange(9)), source(path).read_rows(0, np.arange(9)))
        assert not list(tmp_path.rglob("*.block"))
        assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [
            "cells.h5ad is not kept in data.remote.cache: its server gives no ETag to tell versions by"
        ]


class TestSecrets:
    def test_a_signature_is_shown_nowhere(self, server, caplog):
        caplog.set_level(logging.DEBUG)
        url = f"{server.url}/lung/cells.h5ad?{SECRET}"
        there = source(url)
        there.read_rows(0, np.arange(5))
        shown = [
            repr(resolve_paths([url])),
            there.panels[0].name,
            *there.describe(),
            str(there.fingerprint()),
        ]
        assert all(SECRET in asked for asked, _, _ in server.requests)
        server.fault = lambda number: 403
        with pytest.raises(DataError) as caught:
            there.read_rows(0, np.arange(5))
        error: BaseException | None = caught.value
        while error is not None:
            shown.append(repr(error))
            error = error.__context__
        assert "secret" not in "".join([*shown, caplog.text])

    def test_the_fingerprint_is_of_the_version(self, server, path):
        entry = source(f"{server.url}/lung/cells.h5ad?{SECRET}").fingerprint()[0]
        assert (entry["name"], entry["cells"], entry["genes"]) == ("cells.h5ad", NUM_CELLS, 120)
        assert (entry["bytes"], entry["sha256_of"]) == (path.stat().st_size, "ETag and size")
        same = source(f"{server.url}/lung/cells.h5ad?X-Amz-Signature=another").fingerprint()[0]
        assert same == entry
        server.headers = {"ETag": '"another"'}
        other = source(f"{server.url}/lung/cells.h5ad").fingerprint()[0]
        assert other["sha256"] != entry["sha256"]
        server.headers = {"ETag": "", "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
        assert source(f"{server.url}/lung/cells.h5ad").fingerprint()[0]["sha256_of"] == "time of last change and size"
        server.headers = {"ETag": ""}
        assert source(f"{server.url}/lung/cells.h5ad").fingerprint()[0]["sha256_of"] == "size alone"

    def test_a_password_in_the_address_is_refused(self):
        with pytest.raises(DataError, match=r"an address on example.org holds a name or password before '@'") as caught:
            resolve_paths(["https://me:secret@example.org/a.h5ad"])
        assert "secret" not in str(caught.value)


class TestAddresses:
    def test_names_are_the_last_parts(self, tmp_path):
        (tmp_path / "c.h5ad").write_bytes(b"")
        found = resolve_paths(
            ["s3://one/x/a.h5ad", "s3://two/x/a.h5ad", str(tmp_path / "c.h5ad"), "https://h/b.h5ad?q=1"]
        )
        assert short_names(found[2:]) == ["c.h5ad", "b.h5ad"]
        assert short_names(found)[:2] == ["one/x/a.h5ad", "two/x/a.h5ad"]

    @pytest.mark.parametrize(
        ("paths", "words"),
        [
            (
                ["ftp://host/a.h5ad"],
                r"addresses that begin with 'ftp://' are not read; s3://, gs://, https://, http://",
            ),
            (["s3://bucket"], r"'s3://bucket/' names no file; a bucket and a path in it are needed"),
            (["https://host/"], r"'https://host/' names no file; a server and a path on it"),
            (["https://host/*.h5ad"], r"'https://host/\*.h5ad' is a pattern, and servers do not list their files"),
            (["s3://b/a.h5ad", "s3://b/a.h5ad"], r"'s3://b/a.h5ad' is listed twice; list it once"),
            (["https://h/a?sig=1", "https://h/a?sig=2"], r"'https://h/a' is listed twice"),
            (["https://h/a?id=1", "https://h/a?id=2"], r"two addresses 'https://h/a' differ only behind '\?'"),
        ],
    )
    def test_what_cannot_be_read_is_refused_before_anything_is_asked(self, paths, words):
        with pytest.raises(DataError, match=words):
            resolve_paths(paths)

    @pytest.mark.parametrize(
        ("path", "pattern", "fits"),
        [
            ("a/b.h5ad", "a/*.h5ad", True),
            ("a/b/c.h5ad", "a/*.h5ad", False),
            ("a/b/c.h5ad", "a/**/*.h5ad", True),
            ("a/c.h5ad", "a/**/*.h5ad", True),
            ("a/b/c.h5ad", "a/**", True),
            ("a/b1.h5ad", "a/b[12].h5ad", True),
            ("a/b3.h5ad", "a/b[12].h5ad", False),
        ],
    )
    def test_patterns(self, path, pattern, fits):
        assert matches(path, pattern) is fits

    def test_an_address_keeps_its_query_for_the_server_only(self):
        url = parse_url("https://host/a%20b/c.h5ad?X-Amz-Signature=s&versionId=3")
        assert str(url) == "https://host/a b/c.h5ad"
        assert url.lasting == "https://host/a%20b/c.h5ad?versionId=3"
        assert url.within("x/0").url == "https://host/a%20b/c.h5ad/x/0?X-Amz-Signature=s&versionId=3"
