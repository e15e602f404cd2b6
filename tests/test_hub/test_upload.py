"""Nothing is made on the hub before all that can be checked is: here, and by looking at what is there."""

from __future__ import annotations

import re

import pytest

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.hub import push as pushing
from scmodelforge.hub.addresses import HubRepository
from scmodelforge.hub.push import Target, push_bundle
from scmodelforge.hub.upload import Commit, Standing
from tests.hub_stub import PUSHES, READ_TOKEN
from tests.test_hub.test_extend import make_bundle

pytestmark = PUSHES
#: An error of hf_xet, which is not on all machines.
REFUSED = type("XetAuthenticationError", (PermissionError,), {"__module__": "hf_xet"})
CARD = "---\nlicense: mit\n---\n\n# A card\n"


def writes(hub) -> list[str]:
    return [each for each in hub.asked if each.startswith(("POST", "PUT")) and "validate-yaml" not in each]


@pytest.mark.parametrize(
    "card",
    ["---\nlicense: [mit\n---\n\n# Broken\n", "---\n- mit\n---\n\n# A list\n", "---\nfree words\n---\n\n# Words\n"],
)
def test_a_card_that_the_hub_would_refuse_is_refused_here(hub, card):
    with pytest.raises(DataError, match="nothing was pushed: the block at the top of the card") as caught:
        push_bundle(make_bundle(), card, Target("me/toy"))
    assert "\n" not in str(caught.value)
    assert not hub.asked


@pytest.mark.parametrize("card", ["# No block at all\n", "", CARD])
def test_a_card_without_a_block_is_none_of_them(hub, card):
    push_bundle(make_bundle(), card, Target("me/toy"))
    assert hub.repositories["me/toy"].files()["README.md"] == card.encode()


def test_a_model_that_cannot_be_tried_is_refused_before_anything_is_asked(hub, monkeypatch):
    def fails(bundle):
        msg = "the model gives NaN"
        raise DataError(msg)

    monkeypatch.setattr(pushing, "try_model", fails)
    with pytest.raises(DataError, match="NaN"):
        push_bundle(make_bundle(), CARD, Target("me/toy"))
    assert not hub.asked


def test_no_token_is_refused_before_anything_is_asked(hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ConfigError, match="nothing can be pushed without a token"):
        push_bundle(make_bundle(), CARD, Target("me/toy"))
    assert not hub.asked


@pytest.mark.parametrize(
    ("target", "what"),
    [
        (Target("me/bert"), "holds a model of another kind"),
        (Target("me/bert", private=True), "is there and public"),
        (Target("me/new", token="hf_wrong"), "does not know your token"),
    ],
)
def test_what_is_seen_by_looking_is_refused_before_anything_is_written(hub, target, what):
    hub.add("me/bert", {"config.json": b'{"model_type": "bert"}'})
    before = hub.repositories["me/bert"].names["main"]
    with pytest.raises(DataError, match=what):
        push_bundle(make_bundle(), CARD, target)
    assert not writes(hub)
    assert set(hub.repositories) == {"me/bert"}
    assert hub.repositories["me/bert"].names == {"main": before}


def test_looking_leaves_nothing_in_the_cache(hub, tmp_path):
    push_bundle(make_bundle(), CARD, Target("me/toy"))
    push_bundle(make_bundle(), CARD, Target("me/toy"))
    assert not list((tmp_path / "hf").rglob("config.json"))


@pytest.mark.usefixtures("impatient")
def test_what_was_made_before_it_broke_is_told(hub):
    hub.faults = [("POST .*/commit/", 500)] * 20
    with pytest.raises(DataError, match="On the hub there is now the new repository me/toy, with nothing of the model"):
        push_bundle(make_bundle(), CARD, Target("me/toy"))
    with pytest.raises(DataError, match="On the hub there is now the new branch 'v2', with nothing of the model"):
        push_bundle(make_bundle(), CARD, Target("me/toy", branch="v2"))


@pytest.mark.parametrize(
    ("problem", "says"),
    [
        (ConnectionError("Network error: Request error: error decoding response body"), "gave no answer"),
        (REFUSED("expired"), "refuses this (expired)"),
    ],
    ids=["no answer", "refused"],
)
def test_what_the_store_of_files_says_is_one_line(hub, monkeypatch, problem, says):
    """The client uploads to hubs of today by hf_xet, whose errors are none of its own; it tries for minutes before."""

    def fail(*args, **kwargs):
        raise problem

    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", fail)
    with pytest.raises(DataError, match=re.escape(says)) as caught:
        push_bundle(make_bundle(), CARD, Target("me/toy"))
    assert "On the hub there is now the new repository me/toy, with nothing of the model" in str(caught.value)


def test_a_token_that_may_only_read_makes_nothing(hub):
    with pytest.raises(DataError, match="no right to do this"):
        push_bundle(make_bundle(), CARD, Target("me/toy", token=READ_TOKEN))
    assert not hub.repositories


class TestWhatStandsOnTheHub:
    """After a push that does not count the message says so."""

    def test_on_a_branch_and_what_was_there_before(self, hub):
        push_bundle(make_bundle(), CARD, Target("me/toy", branch="v2"))
        names = hub.repositories["me/toy"].names
        before = names["v2"]
        with pytest.raises(DataError) as caught:
            push_bundle(make_bundle(), "# Two\n", Target("me/toy", branch="v2"), further=lambda folder: ["a score"])
        assert f"hf://me/toy@{names['v2']} is not the model that was pushed" in str(caught.value)
        assert f"it is branch 'v2' now; before it there was hf://me/toy@{before}" in str(caught.value)

    def test_of_files_that_were_there_already(self):
        """For which the hub's client makes no commit."""
        said = pushing._stands(HubRepository("me/toy"), Commit("", "0f3a", "branch 'main'"), Standing(True, "0f3a"))
        assert "it is branch 'main' now; and was it before, since no file has changed" in said

    def test_of_a_pull_request(self, hub):
        push_bundle(make_bundle(), CARD, Target("me/toy"))
        with pytest.raises(DataError, match=f"it is pull request {hub.url}/me/toy/discussions/1 now"):
            push_bundle(make_bundle(), "#", Target("me/toy", as_pull_request=True), further=lambda folder: ["a score"])
