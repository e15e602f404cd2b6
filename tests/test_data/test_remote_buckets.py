"""Files and folders in buckets, with the credentials of the usual places."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from scmodelforge._errors import DataError
from scmodelforge.data.sources._paths import resolve_paths
from scmodelforge.data.sources._remote_config import RemoteConfig
from scmodelforge.data.sources._remote_files import RemoteFolder
from scmodelforge.data.sources._url import parse_url
from tests.conftest import make_adata
from tests.test_data.remote_cells import NUM_CELLS, assert_same, batches, source
from tests.test_data.remote_servers import faulty_server, s3_server
from tests.test_data.zarr_stores import write_collection, write_store


@pytest.fixture(scope="module")
def s3():
    with s3_server() as (endpoint, client):
        client.create_bucket(Bucket="lung")
        yield endpoint, client


@pytest.fixture
def aws(s3, monkeypatch, tmp_path):
    """Return a client with keys, where the environment has no others and the home folder is empty."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3[0])
    return s3[1]


@pytest.fixture
def keys(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")


class TestBuckets:
    def test_rows_and_batches_from_s3_are_those_of_the_local_file(self, aws, keys, path):
        aws.upload_file(str(path), "lung", "a b/100%/cells+1.h5ad")
        here, there = source(path), source("s3://lung/a b/100%/cells+1.h5ad")
        rows = np.random.default_rng(0).permutation(NUM_CELLS)[:300]
        assert_same(there.read_rows(0, rows), here.read_rows(0, rows))
        assert batches(there, 2, most=5) == batches(here, 2, most=5)

    def test_a_pattern_names_all_files_that_match_sorted(self, aws, keys, path):
        for key in ("p/b.h5ad", "p/a.h5ad", "p/c.txt", "p/deep/d.h5ad"):
            aws.put_object(Bucket="lung", Key=key, Body=b"x")
        assert [str(url) for url in resolve_paths(["s3://lung/p/*.h5ad"])] == [
            "s3://lung/p/a.h5ad",
            "s3://lung/p/b.h5ad",
        ]
        assert [str(url) for url in resolve_paths(["s3://lung/p/**/*.h5ad"])][-1] == "s3://lung/p/deep/d.h5ad"
        with pytest.raises(DataError, match=r"no file matches 's3://lung/p/\*.zip'; correct the pattern"):
            resolve_paths(["s3://lung/p/*.zip"])
        with pytest.raises(DataError, match=r"There is no bucket 'longue'"):
            resolve_paths(["s3://longue/*.h5ad"])

    def test_a_missing_file_and_a_missing_bucket_are_named(self, aws, keys):
        with pytest.raises(DataError, match=r"cells.h5ad cannot be read: s3://lung/no/cells.h5ad is not there \(404\)"):
            source("s3://lung/no/cells.h5ad", retries=0)
        with pytest.raises(DataError, match=r"is not there \(404\). There is no bucket 'nobucket'; check its name"):
            source("s3://nobucket/cells.h5ad", retries=0)

    def test_without_credentials_it_says_where_to_put_them(self, aws, path):
        aws.upload_file(str(path), "lung", "cells.h5ad", ExtraArgs={"ACL": "public-read"})
        with pytest.raises(DataError, match=r"s3://lung/cells.h5ad: no credentials were found; set AWS_ACCESS_KEY_ID"):
            source("s3://lung/cells.h5ad")
        assert len(source("s3://lung/cells.h5ad", anonymous=True).read_rows(0, np.arange(3))) == 3

    def test_keys_region_and_endpoint_of_a_profile(self, aws, s3, path, tmp_path, monkeypatch):
        aws.upload_file(str(path), "lung", "cells.h5ad")
        monkeypatch.delenv("AWS_ENDPOINT_URL")
        (tmp_path / "credentials").write_text("[work]\naws_access_key_id = testing\naws_secret_access_key = testing\n")
        (tmp_path / "config").write_text(f"[profile work]\nregion = eu-west-1\nendpoint_url = {s3[0]}\n")
        monkeypatch.setenv("AWS_PROFILE", "work")
        assert source("s3://lung/cells.h5ad").file_sizes == [NUM_CELLS]
        monkeypatch.setenv("AWS_PROFILE", "home")
        with pytest.raises(DataError, match=r"no profile 'home' \(AWS_PROFILE\) in .*credentials or .*config"):
            source("s3://lung/cells.h5ad")

    def test_a_profile_that_signs_in_by_a_command_goes_through_boto3(self, aws, path, tmp_path):
        aws.upload_file(str(path), "lung", "cells.h5ad")
        script = tmp_path / "sign_in.py"
        script.write_text('print(\'{"Version": 1, "AccessKeyId": "testing", "SecretAccessKey": "testing"}\')')
        (tmp_path / "config").write_text(f"[default]\ncredential_process = {sys.executable} {script}\n")
        assert source("s3://lung/cells.h5ad").file_sizes == [NUM_CELLS]

    def test_a_broken_file_of_credentials_is_named_and_not_quoted(self, aws, tmp_path):
        (tmp_path / "credentials").write_text("aws_secret_access_key = very-secret\n")
        with pytest.raises(DataError, match=r"credentials cannot be read \(MissingSectionHeaderError\)") as caught:
            source("s3://lung/cells.h5ad")
        assert "secret" not in str(caught.value)

    def test_gs_is_read_from_a_server_of_the_same_protocol(self, server, path):
        server.headers = {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
        there = source("gs://lung/cells.h5ad", endpoint=server.url, anonymous=True)
        assert_same(there.read_rows(0, np.arange(50)), source(path).read_rows(0, np.arange(50)))


class TestFolders:
    def test_a_folder_gives_its_files_and_a_zarr_store(self, aws, keys, tmp_path):
        import zarr

        group = zarr.open_group(str(tmp_path / "x.zarr"), mode="w", zarr_format=3)
        group.create_array("values", data=np.arange(100), chunks=(10,))
        for file in (tmp_path / "x.zarr").rglob("*"):
            if file.is_file():
                aws.upload_file(str(file), "lung", str(file.relative_to(tmp_path)))
        folder = RemoteFolder(parse_url("s3://lung/x.zarr"), RemoteConfig(), "x.zarr")
        for one in (folder, pickle.loads(pickle.dumps(folder))):
            with one.reader("values/c/3") as reader:
                whole = (tmp_path / "x.zarr/values/c/3").read_bytes()
                assert reader.size == len(whole)
                assert list(reader.ranges(np.array([2, 0]), np.array([3, 4]), label="x")) == [whole[2:5], whole[:4]]
            np.testing.assert_array_equal(zarr.open_group(one.zarr_store(), mode="r")["values"][:], np.arange(100))
        words = r"x.zarr: none cannot be read: s3://lung/x.zarr/none is not there"
        with pytest.raises(FileNotFoundError, match=words), folder.reader("none"):
            pass


class TestZarrStores:
    """AnnData in zarr stores and collections elsewhere give the cells that they give here."""

    @pytest.fixture
    def stores(self, tmp_path):
        sharded = {"chunk": 200, "shard": 1000}
        parts = {number: make_adata(150, 40, seed=number) for number in range(3)}
        return [
            write_store(tmp_path, make_adata(300, 40), "three.zarr", **sharded),
            write_store(tmp_path, make_adata(200, 30), "two.zarr", version=2),
            write_collection(tmp_path, parts, **sharded),
        ]

    @staticmethod
    def assert_same_cells(there, here):
        assert there.file_sizes == here.file_sizes
        for file, size in enumerate(here.file_sizes):
            rows = np.random.default_rng(file).permutation(size)[: size // 2]
            found, expected = there.read_rows(file, rows), here.read_rows(file, rows)
            assert_same(found, expected)
            assert found.panel.gene_ids.tolist() == expected.panel.gene_ids.tolist()
        codes, categories = there.obs("cell_type")
        assert categories == here.obs("cell_type")[1]
        np.testing.assert_array_equal(codes, here.obs("cell_type")[0])

    @pytest.mark.slow
    def test_in_a_bucket(self, aws, keys, stores, tmp_path):
        for file in [file for store in stores for file in store.rglob("*") if file.is_file()]:
            aws.upload_file(str(file), "lung", f"z/{file.relative_to(tmp_path)}")
        there = source(*(f"s3://lung/z/{store.name}" for store in stores))
        self.assert_same_cells(there, source(*stores))
        assert batches(there, 2) == batches(source(*stores), 0)
        before = there.fingerprint()
        assert {entry["sha256_of"] for entry in before} == {"ETags and sizes of all files"}
        aws.put_object(Bucket="lung", Key="z/three.zarr/more", Body=b"x")
        after = source(*(f"s3://lung/z/{store.name}" for store in stores)).fingerprint()
        assert [a["sha256"] == b["sha256"] for a, b in zip(before, after, strict=True)] == [False] + [True] * 4

    def test_on_a_server_if_metadata_are_consolidated(self, tmp_path):
        whole, older = write_store(tmp_path, make_adata(300, 40), "whole.zarr"), make_adata(200, 30)
        stores = [whole, write_store(tmp_path, older, "two.zarr", version=2)]
        with faulty_server(**files_of(*stores)) as server:
            there = source(*(f"{server.url}/{store.name}" for store in stores))
            self.assert_same_cells(there, source(*stores))
            assert [entry["sha256_of"] for entry in there.fingerprint()] == ["zarr.json", ".zmetadata"]

    def test_on_a_server_without_consolidated_metadata(self, tmp_path):
        collection = write_collection(tmp_path, {0: make_adata(300, 40)}, chunk=200)
        words = r"all.zarr/dataset_0 lies on a server that does not list its files, and the store has no consolidated"
        with faulty_server(**files_of(collection)) as server, pytest.raises(DataError, match=words):
            source(f"{server.url}/all.zarr")

    def test_a_lost_chunk_is_an_error(self, tmp_path):
        files = files_of(write_store(tmp_path, make_adata(300, 40), "whole.zarr"))
        del files[sorted(name for name in files if "/X/data/c/" in name)[-1]]
        with faulty_server(**files) as server, pytest.raises(DataError, match="is not there"):
            source(f"{server.url}/whole.zarr").read_rows(0, np.arange(300))

    def test_a_folder_that_is_no_store_is_refused(self):
        words = r"/lung/folder/' is a folder, and .h5ad files or zarr stores are needed; it has neither"
        with faulty_server(**{"lung/folder/a.h5ad": b"x"}) as server, pytest.raises(DataError, match=words):
            resolve_paths([f"{server.url}/lung/folder/"])

    def test_a_store_of_something_else_is_refused(self):
        files = {"x.zarr/zarr.json": b'{"attributes": {"encoding-type": "mudata"}}'}
        with faulty_server(**files) as server, pytest.raises(DataError, match="is a zarr store with 'mudata'"):
            resolve_paths([f"{server.url}/x.zarr"])
        files = {"x.zarr/zarr.json": b"{"}
        with faulty_server(**files) as server, pytest.raises(DataError, match="has metadata that cannot be read"):
            resolve_paths([f"{server.url}/x.zarr"])


def files_of(*stores: Path) -> dict[str, bytes]:
    files = [file for store in stores for file in store.rglob("*") if file.is_file()]
    return {str(file.relative_to(stores[0].parent)): file.read_bytes() for file in files}
