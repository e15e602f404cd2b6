"""What is in the cache: used with a word about it when the hub gave no answer, and only if it is whole."""

from __future__ import annotations

import logging

import pytest
from huggingface_hub import hf_hub_download

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.hub import save_bundle
from scmodelforge.hub.addresses import HubRepository, parse_address
from scmodelforge.hub.fetch import Fetch
from scmodelforge.hub.locate import locate
from tests.hub_stub import use_hub
from tests.test_hub.test_bundle import make_bundle

FILES = {"config.json": b"{}", "model.safetensors": b"weights", "small/config.json": b"[]"}
TOY = HubRepository("me/toy")


@pytest.fixture
def kept(hub):
    """Return a repository whose main branch is in the cache, and the commit of it that is."""
    repository = hub.add("me/toy", FILES)
    locate(TOY)
    commit = repository.names["main"]
    repository.commit({**FILES, "config.json": b"[2]"})
    return repository, commit


def warnings(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


class TestAWarning:
    """The hub was asked and gives nothing."""

    def check(self, caplog, commit: str, why: str) -> None:
        found = locate(TOY)
        assert found.origin == f"hf://me/toy@{commit}"
        (line,) = warnings(caplog)
        assert why in line
        assert f"Commit {commit} in the cache of this machine is used; the hub may have a newer one." in line
        assert "\n" not in line

    @pytest.mark.parametrize(
        ("status", "why"),
        [
            (500, "the hub is busy or out of order (status 500)"),
            (503, "the hub is busy or out of order (status 503)"),
            (429, "(status 429)"),
            (401, "the hub does not know your token (401); log in with 'hf auth login', or set HF_TOKEN"),
            (403, "your token gives no right to do this (403"),
        ],
    )
    def test_names_the_commit_and_what_the_hub_answered(self, hub, kept, caplog, status, why):
        hub.faults = [("GET /api/models", status)] * 9
        self.check(caplog, kept[1], why)

    def test_names_a_wrong_token(self, kept, caplog, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "hf_wrong")
        self.check(caplog, kept[1], "the hub does not know your token (401); log in")

    def test_names_a_private_repository(self, kept, caplog, monkeypatch):
        kept[0].access = "private"
        monkeypatch.delenv("HF_TOKEN")
        self.check(caplog, kept[1], "you may not read it; the hub asks for a token (401)")

    def test_names_a_connection_that_is_refused(self, kept, caplog, tmp_path, monkeypatch):
        use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "hf")
        self.check(caplog, kept[1], "hf://me/toy: the hub gave no answer (")

    def test_names_a_connection_that_breaks(self, hub, kept, caplog):
        hub.faults = [("GET /api/models", "refuse")] * 9
        self.check(caplog, kept[1], "hf://me/toy: the hub gave no answer (")


class TestNoWarning:
    @pytest.mark.parametrize("how", ["argument", "environment"])
    def test_when_the_hub_is_not_to_be_asked(self, hub, kept, caplog, monkeypatch, how):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", how == "environment")
        asked = len(hub.asked)
        assert locate(TOY, offline=how == "argument").origin == f"hf://me/toy@{kept[1]}"
        assert len(hub.asked) == asked
        assert not warnings(caplog)

    def test_for_a_commit_which_cannot_change(self, hub, kept, caplog):
        asked = len(hub.asked)
        assert locate(HubRepository("me/toy", kept[1])).origin == f"hf://me/toy@{kept[1]}"
        assert len(hub.asked) == asked
        assert not warnings(caplog)

    def test_when_the_hub_has_a_newer_one(self, kept, caplog):
        assert locate(TOY).origin == f"hf://me/toy@{kept[0].names['main']}"
        assert not warnings(caplog)


class TestNoCache:
    """What the hub says for certain counts, and without a copy there is only the error."""

    def test_a_branch_that_is_gone_is_refused(self, hub, kept, caplog):
        kept[0].names["v2"] = kept[1]
        locate(HubRepository("me/toy", "v2"))
        del kept[0].names["v2"]
        with pytest.raises(DataError, match="no revision 'v2'"):
            locate(HubRepository("me/toy", "v2"))

    @pytest.mark.parametrize(
        ("status", "why"), [(500, "out of order"), (401, "not know your token"), (403, "your token")]
    )
    def test_nothing_fetched_before_is_the_error_alone(self, hub, caplog, status, why):
        hub.add("me/toy", FILES)
        hub.faults = [("GET /api/models", status)] * 9
        with pytest.raises(DataError, match=why) as caught:
            locate(TOY)
        assert "\n" not in str(caught.value)
        assert not warnings(caplog)

    def test_a_private_repository_says_that_it_is_the_token(self, hub):
        hub.add("me/toy", FILES, access="private")
        with pytest.raises(
            DataError, match=r"the hub asks for a token \(401\): log in with 'hf auth login', or set HF_"
        ):
            locate(TOY, token=False)

    def test_a_hub_that_stops_answering_in_between_gives_nothing(self, hub, kept, monkeypatch):
        """As if the client went to its cache by itself after the hub had named another commit."""
        monkeypatch.setattr(Fetch, "_downloaded", lambda self, wanted: self._in_cache(wanted.place))
        with pytest.raises(DataError, match="stopped answering before all was fetched; repeat the command"):
            locate(TOY)


class TestPart:
    """Of a copy that is not whole the rest is to be fetched; the message has the command."""

    def test_a_file_that_was_lost(self, hub, kept):
        found = locate(HubRepository("me/toy", kept[1])).folder / "model.safetensors"
        found.unlink()
        with pytest.raises(DataError) as caught:
            locate(TOY, offline=True)
        assert str(caught.value) == (
            f"hf://me/toy: only this machine was looked on. Commit {kept[1]} is not whole on this machine (missing: "
            "model.safetensors); when the hub can be asked, fetch the rest: scmodelforge hub pull hf://me/toy"
        )
        hub.faults = [("GET /api/models", 500)] * 9
        with pytest.raises(DataError, match=r"status 500.*\(missing: model.safetensors\); .*hub pull hf://me/toy"):
            locate(TOY)
        hub.faults = []
        locate(HubRepository("me/toy", kept[1]))  # what the command does
        assert found.read_bytes() == b"weights"

    def test_a_folder_that_was_not_fetched(self, hub):
        hub.add("me/toy", FILES)
        locate(parse_address("hf://me/toy/small"))
        with pytest.raises(DataError, match=r"missing: config.json, model.safetensors\)"):
            locate(TOY, offline=True)
        assert (locate(parse_address("hf://me/toy/small"), offline=True).folder / "config.json").is_file()

    def test_a_single_file_of_a_model_of_ours(self, hub, tmp_path):
        """Of which the client does not know what else there is."""
        save_bundle(tmp_path / "model", make_bundle(), card="")
        hub.add("me/toy", tmp_path / "model")
        hf_hub_download("me/toy", "config.json")
        with pytest.raises(DataError, match=r"missing: model.safetensors, tokenizer.json, vocab.json and 2 more\)"):
            locate(TOY, offline=True)

    def test_the_command_names_a_cache_of_ones_own(self, hub, tmp_path):
        hub.add("me/toy", FILES)
        locate(parse_address("hf://me/toy/small"), cache=tmp_path / "my own")
        with pytest.raises(DataError, match=f"HF_HUB_CACHE='{tmp_path}/my own' scmodelforge hub pull hf://me/toy$"):
            locate(TOY, offline=True, cache=tmp_path / "my own")


class TestTokens:
    def test_one_that_cannot_be_sent_is_refused_even_if_all_is_here(self, kept, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "hf with spaces")
        with pytest.raises(ConfigError, match="characters that no token has"):
            locate(TOY)
        locate(TOY, offline=True)
