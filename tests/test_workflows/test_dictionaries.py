from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from scmodelforge._errors import ConfigError, DataError
from scmodelforge._places import cache_folder
from scmodelforge.hub.dictionaries import find_dictionaries
from scmodelforge.tokenizers.presets import PRESETS, geneformer, get_preset
from scmodelforge.workflows.dictionaries import fetch_dictionaries
from tests.test_tokenizers.small_dictionaries import write_pickles, write_tables


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SCMODELFORGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Return a preset whose published files are small, and the folder with these."""
    release = write_pickles(tmp_path / "published")
    preset = geneformer(release, {"max_genes": 16, "add_eos": True}, compat="geneformer_v2")
    monkeypatch.setitem(PRESETS, preset.name, preset)
    return preset, tmp_path / "published"


@contextmanager
def hub(folder: Path):
    """Serve the files of a folder as the hub does; give its address and the paths that were asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self._answer(with_content=False)

        def do_GET(self):
            self._answer(with_content=True)

        def _answer(self, *, with_content):
            asked.append((self.command, self.path, self.headers.get("authorization")))
            file = folder / self.path.rpartition("/")[2]
            content = file.read_bytes() if file.is_file() else b""
            self.send_response(200 if content else 404)
            self.send_header("Content-Length", str(len(content)))
            if content:
                self.send_header("ETag", f'"{abs(hash(content))}"')
                self.send_header("X-Repo-Commit", "c" * 40)
            else:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            if with_content:
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class TestPlace:
    def test_it_is_named_by_variables(self, monkeypatch, tmp_path):
        assert cache_folder() == tmp_path / "cache"
        monkeypatch.delenv("SCMODELFORGE_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert cache_folder() == tmp_path / "xdg" / "scmodelforge"
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert cache_folder() == tmp_path / "home" / ".cache" / "scmodelforge"


class TestFromAFolder:
    def test_what_was_fetched_is_found(self, small, cache):
        preset, published = small
        lines = fetch_dictionaries("small-v2", str(published))
        folder = find_dictionaries(preset, None)
        assert folder == cache / "dictionaries" / "small-v2"
        assert lines[0].startswith(f"small-v2: 16 tokens in {folder} (mapping.pkl, medians.pkl, names.pkl, tokens.pkl)")
        assert preset.make(folder, {}).medians.num_genes == 12
        assert [path.name for path in folder.parent.iterdir()] == ["small-v2"]

    def test_tables_are_taken_too_and_fetched_again(self, tmp_path, cache):
        for _ in range(2):
            lines = fetch_dictionaries("geneformer-v2", str(write_tables(tmp_path / "tables")))
            assert "(id_mapping_V2.parquet, vocab_V2.tsv)" in lines[0]
        assert find_dictionaries(get_preset("geneformer-v2"), None).is_dir()
        assert [path.name for path in (cache / "dictionaries").iterdir()] == ["geneformer-v2"]

    def test_a_folder_that_is_named_goes_first(self, small, tmp_path):
        preset, published = small
        fetch_dictionaries("small-v2", str(published))
        assert find_dictionaries(preset, tmp_path / "own") == tmp_path / "own"

    def test_files_that_are_not_the_published_ones_are_refused_and_change_nothing(self, small, cache):
        preset, published = small
        fetch_dictionaries("small-v2", str(published))
        (published / "medians.pkl").write_bytes(b"something else")
        with pytest.raises(DataError, match=r"medians\.pkl is not the published file: its sha256 is"):
            fetch_dictionaries("small-v2", str(published))
        assert preset.make(find_dictionaries(preset, None), {}).medians.num_genes == 12
        assert [path.name for path in (cache / "dictionaries").iterdir()] == ["small-v2"]

    def test_folders_without_them_and_unknown_names_are_refused(self, tmp_path):
        with pytest.raises(DataError, match=r"does not hold the dictionaries of geneformer-v1: neither token_dict"):
            fetch_dictionaries("geneformer-v1", str(tmp_path))
        with pytest.raises(ConfigError, match="unknown preset 'geneformer'"):
            fetch_dictionaries("geneformer", str(tmp_path))

    def test_a_cache_that_cannot_be_made_is_refused(self, small, cache):
        cache.write_text("a file")
        with pytest.raises(DataError, match=r"cannot write to .*cache/dictionaries \(Not a directory\); name another"):
            fetch_dictionaries("small-v2", str(small[1]))


class TestFromTheHub:
    def test_files_come_from_their_places_without_credentials(self, small):
        preset, published = small
        with hub(published) as (address, asked):
            fetch_dictionaries("small-v2", "hub", endpoint=address)
        assert preset.make(find_dictionaries(preset, None), {}).medians.num_genes == 12
        paths = {path for _, path, _ in asked}
        assert paths == {
            f"/ctheodoris/Geneformer/resolve/main/some/folder/{name}.pkl"
            for name in ("tokens", "medians", "mapping", "names")
        }
        assert {authorization for _, _, authorization in asked} == {None}

    def test_files_that_are_damaged_or_not_there_are_refused(self, small, cache):
        _, published = small
        (published / "names.pkl").write_bytes(b"something else")
        with hub(published) as (address, _):
            with pytest.raises(DataError, match=r"names\.pkl is not the published file"):
                fetch_dictionaries("small-v2", "hub", endpoint=address)
            (published / "names.pkl").unlink()
            message = r"ctheodoris/Geneformer does not give some/folder/names\.pkl \(.*give their folder: scmodelforge"
            with pytest.raises(DataError, match=message) as refused:
                fetch_dictionaries("small-v2", "hub", endpoint=address)
        assert "\n" not in str(refused.value)
        assert not list((cache / "dictionaries").iterdir())


class TestNotFound:
    def test_the_message_says_how_to_get_them(self):
        message = (
            "the dictionaries of geneformer-v1 are not on this machine; fetch them with: scmodelforge tokenizer fetch "
            "geneformer-v1 --from hub, or name a folder that has them with --dictionaries."
        )
        with pytest.raises(DataError, match=message):
            find_dictionaries(get_preset("geneformer-v1"), None)

    def test_damage_since_is_noticed(self, small):
        preset, published = small
        fetch_dictionaries("small-v2", str(published))
        file = find_dictionaries(preset, None) / "medians.pkl"
        file.write_bytes(file.read_bytes()[:-1] + b"!")
        with pytest.raises(
            DataError, match=r"medians\.pkl does not match its checksum; fetch it again with: scmodelforge"
        ):
            find_dictionaries(preset, None)
