"""The token is in nothing that anybody reads: no message, no log, no text of an object."""

from __future__ import annotations

import logging

import pytest
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from scmodelforge.hub.fetch import Fetch
from scmodelforge.hub.locate import locate
from scmodelforge.hub.push import Target
from tests.hub_stub import PUSHES, use_hub
from tests.test_hub.commands import model

__all__ = ["model"]  # a fixture

pytestmark = PUSHES
SECRET = "hf_secretsecretsecret"
COMMANDS = {
    "pull": ["pull", "hf://me/toy"],
    "import": ["import", "hf://me/toy", "out"],
    "card": ["card", "hf://me/toy"],
    "push": ["push", "model", "me/toy"],
    "push-branch": ["push", "model", "me/toy", "--revision", "v2", "--private"],
}


def outputs(words: list[str], caplog) -> str:
    """Return all that a failing command gives anybody to read."""
    with (
        caplog.at_level(logging.DEBUG, logger="scmodelforge"),
        caplog.at_level(logging.DEBUG, logger="huggingface_hub"),
    ):
        result = CliRunner().invoke(app, ["--verbose", "hub", *words])
    assert result.exit_code == 2, result.output
    assert "error: " in result.stderr
    return result.output + result.stderr + caplog.text


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("how", ["wrong", "echoed", "busy", "refused", "unsendable"])
def test_no_failing_command_says_it(hub, model, tmp_path, monkeypatch, caplog, name, how):
    monkeypatch.chdir(tmp_path)
    token = SECRET if how != "unsendable" else f"{SECRET} é"
    if how == "refused":
        use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "hf", token=token)
    monkeypatch.setenv("HF_TOKEN", token)
    hub.says = "the token TOKEN is not one of mine"
    hub.faults = [("api/", {"echoed": 403, "busy": 500}[how])] * 20 if how in ("echoed", "busy") else []
    said = outputs(COMMANDS[name], caplog)
    assert SECRET not in said
    if how == "echoed":
        assert "the token *** is not one of mine" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("where", ["POST .*/commit/", "POST .*/preupload/", "POST /api/repos/create"])
def test_neither_does_a_push_that_breaks(hub, model, tmp_path, monkeypatch, caplog, where):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_writes")
    hub.says = "the token TOKEN may not"
    hub.faults = [(where, 403)]
    said = outputs(COMMANDS["push"], caplog)
    assert "the token *** may not" in said
    assert "hf_writes" not in said


@pytest.mark.parametrize("thing", [Target("me/toy", token=SECRET), Fetch(token=SECRET)])
def test_no_object_shows_it(thing):
    assert SECRET not in f"{thing!r} {thing}"


def test_a_warning_does_not_say_it(hub, monkeypatch, caplog):
    from scmodelforge.hub.addresses import HubRepository

    hub.add("me/toy", {"config.json": b"{}"})
    locate(HubRepository("me/toy"))
    monkeypatch.setenv("HF_TOKEN", SECRET)
    hub.says = "the token TOKEN is old"
    hub.faults = [("GET /api/models", 403)]
    locate(HubRepository("me/toy"))
    assert "the token *** is old" in caplog.text
    assert SECRET not in caplog.text
