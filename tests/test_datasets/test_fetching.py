from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import time

import anndata as ad
import pytest

from scmodelforge import datasets
from scmodelforge._errors import ConfigError, DataError
from scmodelforge.datasets import fetch
from scmodelforge.datasets.download import Patience
from tests.conftest import make_adata

QUICK = Patience(retries=2, pause=0.001, timeout=5)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class TestFetch:
    def test_brings_the_file_and_pins_it(self, tiny, server, folder):
        tiny(url=server.address)
        lines = fetch("tiny", patience=QUICK)
        assert (folder / "tiny.h5ad").read_bytes() == server.content
        pin = json.loads((folder / "tiny.pin.json").read_text())
        assert (pin["sha256"], pin["origin"]) == (digest(server.content), server.address)
        assert sorted(path.name for path in folder.iterdir() if path.suffix != ".lock") == [
            "tiny.h5ad",
            "tiny.pin.json",
        ]
        assert datasets.path("tiny") == folder / "tiny.h5ad"
        assert datasets.load("tiny").n_obs == 60
        text = "\n".join(lines)
        assert "licence: CC BY 4.0" in text
        assert "cite: Nobody 2026" in text
        assert f"sha256 {digest(server.content)}, pinned on " in text
        assert "as none is published" in text
        assert "not for commercial use" not in text

    def test_terms_that_forbid_commercial_use_are_told(self, tiny, server):
        tiny(url=server.address, licence="CC BY-NC 4.0", is_non_commercial=True)
        assert any(line.startswith("licence: CC BY-NC 4.0; not for commercial use") for line in fetch("tiny"))

    def test_a_file_that_is_there_is_not_fetched_again(self, tiny, server):
        tiny(url=server.address)
        fetch("tiny")
        lines = fetch("tiny")
        assert len(server.seen) == 1
        assert "there already" in lines[0]

    def test_what_ships_needs_no_fetching(self):
        assert "comes with the package" in fetch("pbmc68k_reduced")[0]

    def test_a_file_on_this_machine_is_copied(self, tiny, content, folder, tmp_path):
        own = tmp_path / "Downloads.h5ad"
        own.write_bytes(content)
        told = []
        fetch("tiny", origin=str(own), progress=lambda *each: told.append(each))
        assert (folder / "tiny.h5ad").read_bytes() == own.read_bytes() == content
        assert told[-1] == (len(content), len(content))

    def test_a_folder_on_this_machine_is_looked_into(self, tiny, content, folder, tmp_path):
        (tmp_path / "tiny.h5ad").write_bytes(content)
        fetch("tiny", origin=str(tmp_path))
        assert (folder / "tiny.h5ad").read_bytes() == content

    def test_a_mirror_goes_before_the_known_address(self, tiny, server, folder, monkeypatch):
        tiny(url="https://127.0.0.1:9/never")
        monkeypatch.setenv("SCMODELFORGE_DATASETS_MIRROR", f"{server.url}/data/")
        fetch("tiny", patience=QUICK)
        assert [each[0] for each in server.seen] == ["/data/tiny.h5ad"]

    def test_another_folder_may_be_named(self, tiny, server, tmp_path, monkeypatch):
        monkeypatch.setenv("SCMODELFORGE_DATASETS", str(tmp_path / "lab"))
        fetch("tiny", origin=server.address)
        assert datasets.path("tiny") == tmp_path / "lab" / "tiny.h5ad"

    def test_a_broken_download_is_finished_by_the_same_command(self, tiny, server, folder):
        tiny(url=server.address)
        server.faults = ["cut", 404]
        with pytest.raises(DataError, match="the same command goes on"):
            fetch("tiny", patience=QUICK)
        with pytest.raises(DataError, match="A part of it has arrived; this goes on with it"):
            datasets.path("tiny")
        fetch("tiny", patience=QUICK)
        assert (folder / "tiny.h5ad").read_bytes() == server.content
        assert server.ranges[-1].startswith("bytes=")


class TestChecksum:
    def test_a_wrong_one_is_refused_and_nothing_is_kept(self, tiny, server, folder):
        tiny(url=server.address, sha256="0" * 64)
        with pytest.raises(DataError, match=rf"has the sha256 {digest(server.content)}, but published is 0+; what arr"):
            fetch("tiny")
        assert {path.name for path in folder.iterdir()} <= {".tiny.lock"}
        with pytest.raises(DataError, match="is not on this machine"):
            datasets.path("tiny")

    def test_one_that_the_user_knows_is_held_to(self, tiny, server):
        tiny(url=server.address)
        with pytest.raises(DataError, match="but --sha256 is 1111"):
            fetch("tiny", sha256="1" * 64)
        fetch("tiny", sha256=digest(server.content).upper())
        with pytest.raises(DataError, match="is there and has the sha256"):
            fetch("tiny", sha256="1" * 64)

    @pytest.mark.parametrize("wrong", ["abc", "z" * 64])
    def test_one_that_is_none_is_refused(self, tiny, wrong):
        with pytest.raises(ConfigError, match="64 digits"):
            fetch("tiny", sha256=wrong)

    def test_one_that_contradicts_the_registry_is_refused(self):
        with pytest.raises(ConfigError, match="is not the checksum that is published"):
            fetch("pbmc68k_reduced", sha256="1" * 64)

    def test_what_is_fetched_later_must_be_the_same(self, tiny, server, folder):
        tiny(url=server.address)
        fetch("tiny")
        (folder / "tiny.h5ad").unlink()
        before, server.content = server.content, server.content + b"more"
        with pytest.raises(DataError, match=r"--sha256 is not the checksum pinned on"):
            fetch("tiny", sha256=digest(server.content))
        with pytest.raises(DataError, match=r"but pinned on \d{4}-\d\d-\d\d was [0-9a-f]{64}.*--force"):
            fetch("tiny")
        server.content = before
        fetch("tiny")
        server.content = before + b"more"
        fetch("tiny", force=True)
        assert (folder / "tiny.h5ad").read_bytes() == server.content
        datasets.path("tiny")

    def test_the_file_in_place_stays_when_a_new_one_is_wrong(self, tiny, server, folder):
        tiny(url=server.address)
        fetch("tiny")
        before, server.content = server.content, b"no cells"
        with pytest.raises(DataError, match=r"damaged or no \.h5ad file"):
            fetch("tiny", force=True)
        assert (folder / "tiny.h5ad").read_bytes() == before
        datasets.path("tiny")


class TestWrongFiles:
    def test_a_page_instead_of_a_file_is_refused(self, tiny, server, folder):
        server.content = b"<html>Please sign in</html>"
        with pytest.raises(DataError, match=r"cells.h5ad is damaged or no \.h5ad file .* get cells.h5ad of nobody's"):
            fetch("tiny", origin=server.address)
        assert not (folder / "tiny.h5ad").exists()

    def test_a_file_cut_off_is_refused(self, tiny, content, tmp_path):
        (tmp_path / "half.h5ad").write_bytes(content[: len(content) // 2])
        with pytest.raises(DataError, match="damaged or no"):
            fetch("tiny", origin=str(tmp_path / "half.h5ad"))

    def test_another_data_set_is_refused_by_its_columns(self, tiny, tmp_path):
        adata = make_adata(8, 4)
        del adata.obs["cell_type"]
        adata.write_h5ad(tmp_path / "other.h5ad")
        message = r"has no obs column 'cell_type'.*or use yours by its path. It has: donor_id, batch"
        with pytest.raises(DataError, match=message):
            fetch("tiny", origin=str(tmp_path / "other.h5ad"))

    def test_another_size_than_published_is_told(self, tiny, server):
        tiny(cells=61, genes=40)
        assert any(
            "tiny has 60 cells x 40 genes, 61 x 40 were expected: the data differ" in line
            for line in fetch("tiny", origin=server.address)
        )

    def test_the_published_size_is_not_remarked_on(self, tiny, server):
        tiny(cells=60)
        assert not any("expected" in line for line in fetch("tiny", origin=server.address))


class TestPlaces:
    def test_without_an_address_it_says_where_a_person_gets_the_file(self, tiny):
        message = (
            "no address of 'tiny' is known for sure; get cells.h5ad of nobody's page, and give its address or file: "
            "scmodelforge datasets fetch tiny --from URL-OR-FILE"
        )
        with pytest.raises(DataError, match=re.escape(message)):
            fetch("tiny")

    def test_an_unknown_name_is_refused_with_the_nearest(self):
        with pytest.raises(DataError, match=r"unknown data set 'normann'. Did you mean 'norman'"):
            fetch("normann")

    @pytest.mark.parametrize("origin", ["s3://bucket/x.h5ad", "ftp://host/x.h5ad"])
    def test_other_kinds_of_address_are_refused(self, tiny, origin):
        with pytest.raises(ConfigError, match="https://, http://, a file or a folder is needed"):
            fetch("tiny", origin=origin)

    def test_a_file_that_is_not_there_is_named(self, tiny, tmp_path):
        with pytest.raises(DataError, match=r"--from .*: no file '.*/tiny.h5ad'; correct the path"):
            fetch("tiny", origin=str(tmp_path))

    def test_a_mirror_that_is_no_address_is_refused(self, tiny, monkeypatch):
        monkeypatch.setenv("SCMODELFORGE_DATASETS_MIRROR", "mirror.example.org")
        with pytest.raises(ConfigError, match=r"SCMODELFORGE_DATASETS_MIRROR is 'mirror.example.org'; the address of"):
            fetch("tiny")

    def test_a_folder_that_cannot_be_made_is_named(self, tiny, server, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("SCMODELFORGE_DATASETS", str(tmp_path / "file" / "lab"))
        with pytest.raises(DataError, match=r"cannot write to .*/file/lab \(Not a directory\); name another folder"):
            fetch("tiny", origin=server.address)


class TestTwoProcesses:
    def test_one_fetches_and_the_other_waits(self, server, folder, tmp_path):
        go = tmp_path / "go"
        code = f"""
import logging, pathlib, sys, time
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
from scmodelforge.datasets import fetch
def slowly(done, total):
    while done > 100_000 and not pathlib.Path({str(go)!r}).exists():
        time.sleep(0.01)
print(fetch("immune_atlas", origin={server.address!r}, progress=slowly))
"""
        said = [tmp_path / "first", tmp_path / "second"]
        both = []
        for path in said:
            with path.open("w") as out:
                both.append(subprocess.Popen([sys.executable, "-u", "-c", code], stdout=out, stderr=out))
        try:
            deadline = time.monotonic() + 20
            while not any("waiting" in path.read_text() for path in said) and time.monotonic() < deadline:
                time.sleep(0.02)
            go.touch()
            assert [process.wait(timeout=20) for process in both] == [0, 0], [path.read_text() for path in said]
        finally:
            for process in both:
                process.kill()
                process.wait()
        assert len(server.seen) == 1
        assert sum("another process fetches or checks it; waiting" in path.read_text() for path in said) == 1
        assert (folder / "immune_atlas.h5ad").read_bytes() == server.content
        assert ad.read_h5ad(datasets.path("immune_atlas"), backed="r").n_obs == 60
