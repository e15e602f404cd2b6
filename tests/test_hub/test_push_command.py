"""``hub push``: models to a hub on this machine, with their card."""

from __future__ import annotations

import pytest

from scmodelforge.workflows.card_text import stated_licence
from tests.hub_stub import PUSHES, READ_TOKEN
from tests.test_hub.commands import invoke, model

__all__ = ["model"]  # a fixture

pytestmark = PUSHES


class TestPush:
    def test_with_a_card_that_names_its_address_and_licence(self, hub, model):
        result = invoke("push", model, "me/toy", "--licence", "MIT")
        files = hub.repositories["me/toy"].files()
        card = files["README.md"].decode()
        assert 'smf.tl.embed(adata, "hf://me/toy")' in card
        assert stated_licence(card) == "mit"
        assert "the same files and weights, and the same embeddings of 32 drawn cells" in result.stderr
        assert "the model is in no run folder" in result.stderr
        assert files["model.safetensors"] == (model / "model.safetensors").read_bytes()

    def test_without_a_licence_says_so_and_states_none(self, hub, model):
        result = invoke("push", model, "me/toy", "--private")
        assert "no licence is stated" in result.stderr
        assert stated_licence(hub.repositories["me/toy"].files()["README.md"].decode()) is None
        assert hub.repositories["me/toy"].access == "private"

    def test_an_edited_card_is_pushed_as_it_is_but_for_the_licence(self, hub, model):
        (model / "README.md").write_text("# Mine\n")
        result = invoke("push", model, "hf://me/toy", "--licence", "mit")
        assert hub.repositories["me/toy"].files()["README.md"] == b"---\nlicense: mit\n---\n\n# Mine\n"
        assert "README.md was edited and is taken as it is" in result.stderr
        assert (model / "README.md").read_text() == "# Mine\n"

    def test_to_a_branch_the_card_says_which(self, hub, model):
        assert "pushed: hf://me/toy@v2, revision" in invoke("push", model, "me/toy", "--revision", "v2").stderr
        assert 'smf.tl.embed(adata, "hf://me/toy@v2")' in hub.repositories["me/toy"].files("v2")["README.md"].decode()

    def test_one_that_comes_back_changed_fails_and_says_what_stands_on_the_hub(self, hub, model):
        invoke("push", model, "me/toy")
        repository = hub.repositories["me/toy"]
        before = repository.names["main"]
        hub.spoil = {"tokenizer.json": b"{}"}
        result = invoke("push", model, "me/toy", "--licence", "mit", code=2)
        assert "do not use this revision: loaded back it differs in tokenizer.json" in result.stderr
        assert f"hf://me/toy@{repository.names['main']} is not the model" in result.stderr
        assert f"On the hub it is branch 'main' now; before it there was hf://me/toy@{before}" in result.stderr
        assert result.stderr.count("\n") == 1

    def test_a_token_that_may_not_write_is_one_line(self, hub, model, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
        result = invoke("push", model, "me/toy", code=2)
        assert "your token gives no right to do this (403" in result.stderr
        assert result.stderr.count("\n") == 1

    @pytest.mark.parametrize(
        ("words", "what"),
        [
            (["--data", "cells.h5ad"], "--data and --label go together"),
            (["--label", "cell_type"], "--data and --label go together"),
        ],
    )
    def test_options_that_do_not_go_together_are_refused(self, hub, model, words, what):
        assert what in invoke("push", model, "me/toy", *words, code=2).stderr
        assert not hub.asked

    def test_a_name_that_is_none_is_refused(self, hub, model):
        assert "on the hub they are called owner/name" in invoke("push", model, "toy", code=2).stderr
        assert not hub.asked

    def test_without_a_token_nothing_is_asked(self, hub, model, monkeypatch):
        monkeypatch.delenv("HF_TOKEN")
        result = invoke("push", model, "me/toy", code=2)
        assert "nothing can be pushed without a token" in result.stderr
        assert not hub.asked

    def test_corrupt_weights_are_refused_before_anything_is_asked(self, hub, model):
        (model / "model.safetensors").write_bytes(b"spoiled")
        assert "damaged or not a safetensors file" in invoke("push", model, "me/toy", code=2).stderr
        assert not hub.asked

    def test_a_public_repository_is_no_place_for_what_should_be_private(self, hub, model):
        hub.add("me/toy", {"README.md": b"# Mine\n"})
        before = hub.repositories["me/toy"].names["main"]
        assert "is there and public" in invoke("push", model, "me/toy", "--private", code=2).stderr
        assert hub.repositories["me/toy"].names == {"main": before}
