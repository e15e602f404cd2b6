"""What the hub's mixin documents: every argument of its methods is honoured, or refused in one line."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, ModelHubMixin

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.hub import SharedModel
from scmodelforge.hub.share import _OPTIONS, _PARTIAL
from tests.hub_stub import PUSHES, READ_TOKEN, TOKEN
from tests.test_hub.test_extend import make_bundle

pytestmark = PUSHES
CARD = "---\nlicense: mit\nlibrary_name: scmodelforge\n---\n\n# A card\n"


@pytest.fixture(scope="module")
def model() -> SharedModel:
    return SharedModel(make_bundle(), CARD)


def documented(method: str) -> set[str]:
    """Return the arguments of a method of the mixin, but for the first and those that stand for others."""
    parameters = inspect.signature(getattr(ModelHubMixin, method)).parameters.values()
    return {each.name for each in parameters if each.kind is not each.VAR_KEYWORD} - {"self"}


def one_line(caught) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestNames:
    @pytest.mark.parametrize("method", ["save_pretrained", "from_pretrained"])
    def test_every_argument_is_one_of_ours(self, method):
        assert documented(method) <= set(inspect.signature(getattr(SharedModel, method)).parameters)

    def test_so_is_every_argument_of_a_push(self):
        ours = {*inspect.signature(SharedModel.push_to_hub).parameters, *_OPTIONS, *_PARTIAL}
        assert documented("push_to_hub") <= ours


class TestSave:
    def test_alone_asks_nothing_of_the_hub(self, hub, model, tmp_path):
        assert model.save_pretrained(save_directory=str(tmp_path / "a")) is None
        assert (tmp_path / "a/model.safetensors").is_file()
        assert not hub.asked

    def test_with_a_push_writes_both(self, hub, model, tmp_path):
        url = model.save_pretrained(tmp_path / "a", push_to_hub=True, repo_id="me/toy", private=True, token=TOKEN)
        repository = hub.repositories["me/toy"]
        assert url.endswith(f"/me/toy/commit/{repository.names['main']}")
        assert repository.access == "private"
        weights = (tmp_path / "a/model.safetensors").read_bytes()
        assert repository.files()["model.safetensors"] == weights

    def test_settings_that_are_empty_are_none(self, model, tmp_path):
        model.save_pretrained(tmp_path / "a", config={}, model_card_kwargs={})
        assert json.loads((tmp_path / "a/config.json").read_text())["format_version"] == 1

    @pytest.mark.parametrize(
        ("options", "what"),
        [
            ({"config": {"hidden_dim": 3}}, "config: the settings are those of the model"),
            ({"model_card_kwargs": {"license": "mit"}}, "model_card_kwargs: the card is made of the model"),
            ({"push_to_hub": True}, "repo_id is not given, and 'a' alone is no repository; give repo_id='owner/name'"),
            ({"push_to_hub": True, "repo_id": "toy"}, "owner/name"),
            ({"push_to_hub": True, "repo_id": "me/toy", "colour": 1}, "push_to_hub has no argument 'colour'"),
            (
                {"push_to_hub": True, "repo_id": "me/toy", "allow_patterns": "*.json"},
                "allow_patterns: a model is pushed",
            ),
            ({"repo_id": "me/toy"}, "repo_id: for the hub only; add push_to_hub=True"),
            ({"private": True}, "private: for the hub only; add push_to_hub=True"),
        ],
    )
    def test_what_cannot_be_honoured_is_refused_and_nothing_is_written(self, hub, model, tmp_path, options, what):
        with pytest.raises(ConfigError) as caught:
            model.save_pretrained(tmp_path / "a", **options)
        assert what in one_line(caught)
        assert not (tmp_path / "a").exists()
        assert not hub.asked

    def test_a_place_that_cannot_be_written_is_one_line(self, model, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(DataError, match="cannot write to"):
            model.save_pretrained(tmp_path / "file" / "a")


class TestLoad:
    @pytest.fixture
    def pushed(self, hub, model):
        model.push_to_hub("me/toy")
        return hub.repositories["me/toy"]

    def test_the_name_of_the_first_argument_is_the_mixins(self, pushed):
        assert SharedModel.from_pretrained(pretrained_model_name_or_path="me/toy").card == CARD

    @pytest.mark.parametrize("kind", [str, Path])
    def test_a_cache_of_ones_own(self, hub, pushed, tmp_path, kind):
        SharedModel.from_pretrained("me/toy", cache_dir=kind(tmp_path / "own"))
        assert (tmp_path / "own/models--me--toy").is_dir()
        assert not (tmp_path / "hf/hub/models--me--toy/snapshots").exists()
        SharedModel.from_pretrained("me/toy", cache_dir=kind(tmp_path / "own"), local_files_only=True)
        with pytest.raises(DataError, match="only this machine was looked on"):
            SharedModel.from_pretrained("me/toy", local_files_only=True)

    def test_files_are_fetched_again_when_forced(self, hub, pushed):
        def fetched() -> int:
            return sum(each.startswith("GET /me/toy/resolve") and "model.safetensors" in each for each in hub.asked)

        SharedModel.from_pretrained("me/toy")
        before = fetched()
        SharedModel.from_pretrained("me/toy")
        assert fetched() == before
        SharedModel.from_pretrained("me/toy", force_download=True)
        assert fetched() > before

    def test_what_is_forced_and_cannot_be_fetched_is_not_taken_from_the_cache(self, hub, pushed):
        SharedModel.from_pretrained("me/toy")
        hub.faults = [("GET /api/models", 500)] * 9
        with pytest.raises(DataError, match="out of order"):
            SharedModel.from_pretrained("me/toy", force_download=True)

    def test_a_token(self, hub, pushed, monkeypatch):
        monkeypatch.delenv("HF_TOKEN")
        pushed.access = "private"
        with pytest.raises(DataError, match=r"the hub asks for a token \(401\)"):
            SharedModel.from_pretrained("me/toy")
        assert SharedModel.from_pretrained("me/toy", token=READ_TOKEN).card == CARD

    @pytest.mark.parametrize("token", [True, "", "hf with spaces", "hf_é", "hf_line\nbreak"])
    def test_a_token_that_cannot_be_sent_is_refused(self, hub, monkeypatch, token):
        monkeypatch.delenv("HF_TOKEN")
        with pytest.raises(ConfigError, match="token") as caught:
            SharedModel.from_pretrained("me/toy", token=token)
        assert not token or token is True or token not in one_line(caught)
        assert not hub.asked

    def test_a_revision(self, model, pushed):
        SharedModel(model.bundle, "# Two\n").push_to_hub("me/toy", branch="v2")
        assert SharedModel.from_pretrained("me/toy", revision="v2").card == "# Two\n"

    def test_a_branch_with_a_slash(self, model, pushed):
        SharedModel(model.bundle, "# Two\n").push_to_hub("me/toy", branch="feature/new")
        assert SharedModel.from_pretrained("me/toy", revision="feature/new").card == "# Two\n"
        assert SharedModel.from_pretrained("hf://me/toy@feature%2Fnew").card == "# Two\n"

    @pytest.mark.parametrize(
        ("options", "what"),
        [
            ({"device": "cpu"}, "device: a model is made of its folder, and takes no settings; leave it out."),
            ({"trust_plugin": True}, "Did you mean 'trust_plugins'?"),
            ({"force_download": True, "local_files_only": True}, "give one of them"),
            ({"revision": "../main"}, "is no name of a branch, tag or commit"),
        ],
    )
    def test_what_cannot_be_honoured_is_refused(self, hub, options, what):
        with pytest.raises(ConfigError) as caught:
            SharedModel.from_pretrained("me/toy", **options)
        assert what in one_line(caught)
        assert not hub.asked


class TestPush:
    def test_to_a_pull_request_leaves_the_branch(self, hub, model):
        model.push_to_hub("me/toy", commit_message="first")
        repository = hub.repositories["me/toy"]
        before = repository.names["main"]
        SharedModel(model.bundle, "# Two\n").push_to_hub("me/toy", create_pr=True)
        assert repository.names["main"] == before
        assert SharedModel.from_pretrained("hf://me/toy@refs/pr/1").card == "# Two\n"

    def test_further_files_are_deleted_when_asked_for(self, hub, model):
        hub.add("me/toy", {"old.bin": b"old", "keep.txt": b"kept"})
        model.push_to_hub("me/toy", delete_patterns="*.bin")
        assert "old.bin" not in hub.repositories["me/toy"].files()
        assert hub.repositories["me/toy"].files()["keep.txt"] == b"kept"

    def test_what_is_none_is_not_given(self, hub, model):
        options = dict.fromkeys((*_OPTIONS, *_PARTIAL))
        model.push_to_hub("me/toy", config=None, model_card_kwargs=None, **options)
        assert hub.repositories["me/toy"].access == "public"

    @pytest.mark.parametrize(
        ("options", "what"),
        [
            ({"config": {"a": 1}}, "config: the settings are those of the model"),
            ({"model_card_kwargs": {"a": 1}}, "model_card_kwargs: the card is made of the model"),
            ({"allow_patterns": ["*.json"]}, "allow_patterns: a model is pushed whole"),
            ({"ignore_patterns": "*.md"}, "ignore_patterns: a model is pushed whole"),
            ({"privat": True}, "push_to_hub has no argument 'privat'. Did you mean 'private'?"),
        ],
    )
    def test_what_cannot_be_honoured_is_refused(self, hub, model, options, what):
        with pytest.raises(ConfigError) as caught:
            model.push_to_hub("me/toy", **options)
        assert what in one_line(caught)
        assert not hub.asked


def test_the_card_is_the_models_own(model):
    assert isinstance(model.generate_model_card(), ModelCard)
    assert model.generate_model_card().data.license == "mit"
    with pytest.raises(ConfigError, match="the card is made of the model"):
        model.generate_model_card(license="mit")
