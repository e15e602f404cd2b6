"""Models on the hub: what comes back is what was pushed, for every model, or the push does not count."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard, ModelHubMixin

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.hub import Bundle, SharedModel
from scmodelforge.hub import push as pushing
from scmodelforge.hub.push import Target, push_bundle
from scmodelforge.hub.push_check import draw_cells, try_model
from tests.hub_stub import PUSHES, READ_TOKEN, use_hub
from tests.test_hub.test_bundle import TestPlugins
from tests.test_hub.test_bundle import make_bundle as ranked_bundle
from tests.test_hub.test_extend import INSTALLED, _vectors, make_bundle

__all__ = ["_vectors"]  # a fixture

pytestmark = PUSHES
STRATEGY = {"transcriptformer": "continuous_projection"}
CARD = "---\nlicense: mit\nlibrary_name: scmodelforge\n---\n\n# A card\n"


def weights(bundle: Bundle) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in bundle.model.state_dict().items()}


@pytest.fixture
def own(tmp_path) -> Path:
    """Return the folder of a plugin that registers a model, whose import leaves a file."""
    path = tmp_path / "own_shared.py"
    path.write_text(TestPlugins.CODE.format(mark=str(tmp_path / "imported"), name="own_shared"))
    return path


def forget(name: str) -> None:
    """Leave no trace of a plugin, as in a process that never saw it."""
    from scmodelforge._registry import MODELS

    MODELS._parts.pop(name)
    for module in [module for module in sys.modules if name in module]:
        del sys.modules[module]


class TestRoundTrip:
    @pytest.mark.parametrize("architecture", INSTALLED)
    def test_of_every_model(self, hub, tmp_path, architecture):
        bundle = make_bundle(architecture, STRATEGY.get(architecture, "binned_expression"))
        SharedModel(bundle, CARD).save_pretrained(tmp_path / "model")
        local = SharedModel.from_pretrained(tmp_path / "model")
        local.push_to_hub("me/toy")
        back = SharedModel.from_pretrained("me/toy")
        assert weights(back.bundle) == weights(local.bundle) == weights(bundle)
        assert back.card == CARD
        expected = try_model(bundle).embeddings
        assert np.isfinite(expected).all()
        np.testing.assert_array_equal(try_model(back.bundle).embeddings, expected)

    @pytest.mark.parametrize("strategy", ["gene_embedding", "rank_value"])
    def test_of_tokenizers_with_arrays(self, hub, strategy):
        bundle = make_bundle(strategy=strategy)
        SharedModel(bundle).push_to_hub("me/toy")
        back = SharedModel.from_pretrained("hf://me/toy").bundle
        np.testing.assert_array_equal(try_model(back).embeddings, try_model(bundle).embeddings)

    def test_of_a_model_with_a_plugin_whose_code_runs_only_when_trusted(self, hub, tmp_path, own):
        from scmodelforge.config.load import load_plugins

        load_plugins([str(own)], tmp_path)
        bundle = ranked_bundle("own_shared")
        bundle.plugins = [str(own)]
        SharedModel(bundle).push_to_hub("me/toy")
        expected = try_model(bundle).embeddings
        assert "plugins/own_shared.py" in hub.repositories["me/toy"].files()
        forget("own_shared")
        (tmp_path / "imported").unlink()
        with pytest.raises(ConfigError, match="--trust-plugins"):
            SharedModel.from_pretrained("me/toy")
        assert not (tmp_path / "imported").exists()
        back = SharedModel.from_pretrained("me/toy", trust_plugins=True)
        np.testing.assert_array_equal(try_model(back.bundle).embeddings, expected)

    def test_it_is_the_mixin_of_the_hub(self, tmp_path):
        model = SharedModel(make_bundle())
        assert isinstance(model, ModelHubMixin)
        model.save_pretrained(tmp_path / "model")
        settings = json.loads((tmp_path / "model/config.json").read_text())
        assert settings["format_version"] == 1
        card = ModelCard.load(tmp_path / "model/README.md")
        assert card.data.library_name == "scmodelforge"


class TestPush:
    def test_a_second_one_replaces_the_files_of_the_first_and_no_others(self, hub):
        first = make_bundle(strategy="gene_embedding")
        SharedModel(first).push_to_hub("me/toy")
        repository = hub.repositories["me/toy"]
        assert "tokenizer.safetensors" in repository.files()
        repository.commit({**repository.files(), "figure.png": b"a picture"})
        SharedModel(make_bundle(strategy="rank_value")).push_to_hub("me/toy")
        assert "tokenizer.safetensors" not in repository.files()
        assert repository.files()["figure.png"] == b"a picture"
        assert SharedModel.from_pretrained("me/toy").bundle.tokenizer.strategy == "rank_value"

    def test_to_a_branch_leaves_the_main_one(self, hub):
        bundle = make_bundle()
        SharedModel(bundle, "# One\n").push_to_hub("me/toy")
        SharedModel(bundle, "# Two\n").push_to_hub("me/toy", branch="v2")
        assert SharedModel.from_pretrained("me/toy").card == "# One\n"
        assert SharedModel.from_pretrained("me/toy", revision="v2").card == "# Two\n"
        assert SharedModel.from_pretrained("hf://me/toy@v2").card == "# Two\n"

    def test_of_a_private_repository(self, hub):
        SharedModel(make_bundle()).push_to_hub("me/toy", private=True)
        assert hub.repositories["me/toy"].access == "private"

    def test_says_what_was_compared(self, hub):
        bundle = make_bundle()
        pushed = push_bundle(bundle, CARD, Target("me/toy"))
        assert pushed.revision == hub.repositories["me/toy"].names["main"]
        assert pushed.num_files == len(hub.repositories["me/toy"].files()) - 1  # all but .gitattributes
        assert pushed.trial.score == try_model(bundle).score

    def test_what_was_in_the_cache_is_no_proof(self, hub):
        SharedModel(make_bundle()).push_to_hub("me/toy")
        asked = [each for each in hub.asked if each.startswith("GET /me/toy/resolve")]
        assert any("model.safetensors" in each for each in asked)

    @pytest.mark.parametrize("name", ["model.safetensors", "vocab.json", "README.md"])
    def test_a_file_that_comes_back_changed_makes_it_fail(self, hub, name):
        hub.spoil = {name: b"spoiled"}
        with pytest.raises(DataError, match=rf"do not use this revision: loaded back it differs in {name}") as caught:
            SharedModel(make_bundle(), CARD).push_to_hub("me/toy")
        assert f"hf://me/toy@{hub.repositories['me/toy'].names['main']}" in str(caught.value)

    def test_a_model_that_computes_otherwise_makes_it_fail(self, hub, monkeypatch):
        """As if what the hub gives were read in another way than what was saved."""
        load = pushing.load_bundle

        def changed(folder, **options):
            bundle = load(folder, **options)
            if folder.name == "back":
                with torch.no_grad():
                    for parameter in bundle.model.parameters():
                        parameter.mul_(1 + 1e-6)
            return bundle

        monkeypatch.setattr(pushing, "load_bundle", changed)
        with pytest.raises(DataError, match=r"differs in [0-9]+ weights .*; embeddings of the drawn cells \(by up to"):
            SharedModel(make_bundle("gene_pooling")).push_to_hub("me/toy")

    def test_a_further_check_makes_it_fail(self, hub):
        with pytest.raises(DataError, match="it differs in a score of mine"):
            push_bundle(make_bundle(), CARD, Target("me/toy"), further=lambda folder: ["a score of mine"])

    def test_one_whose_settings_are_refused_when_it_is_loaded_back_does_not_count(self, hub, monkeypatch):
        load = pushing.load_bundle

        def refuse_what_came_back(folder, **options):
            if folder.name == "back":
                msg = "plugin 'plugins/own.py' failed when it was imported"
                raise ConfigError(msg)
            return load(folder, **options)

        monkeypatch.setattr(pushing, "load_bundle", refuse_what_came_back)
        with pytest.raises(DataError, match=r"do not use it: plugin 'plugins/own\.py' failed"):
            push_bundle(make_bundle(), CARD, Target("me/toy"))

    @pytest.mark.usefixtures("impatient")
    def test_one_that_cannot_be_loaded_back_does_not_count(self, hub):
        hub.faults = [("GET /me/toy/resolve/.*model.safetensors", "refuse")] * 20
        with pytest.raises(DataError, match="was pushed and could not be loaded back, so do not use it: the hub"):
            SharedModel(make_bundle()).push_to_hub("me/toy")

    @pytest.mark.usefixtures("impatient")
    @pytest.mark.parametrize("fault", [("PUT ", "refuse"), ("POST .*/commit/", "refuse"), ("POST .*/commit/", 500)])
    def test_one_that_breaks_leaves_the_repository_as_it_was(self, hub, fault):
        SharedModel(make_bundle()).push_to_hub("me/toy")
        before = hub.repositories["me/toy"].files()
        hub.faults = [fault] * 20
        with pytest.raises(DataError, match=r"nothing was pushed|out of order"):
            SharedModel(make_bundle("gene_pooling")).push_to_hub("me/toy")
        assert hub.repositories["me/toy"].files() == before

    @pytest.mark.parametrize(
        ("token", "what"),
        [
            ("hf_wrong", r"the hub does not know your token \(401\)"),
            (READ_TOKEN, r"your token gives no right to do this \(403: you have no right to write here\)"),
        ],
    )
    def test_a_token_without_the_right_is_one_line(self, hub, token, what):
        with pytest.raises(DataError, match=what) as caught:
            SharedModel(make_bundle()).push_to_hub("me/toy", token=token)
        assert "\n" not in str(caught.value)

    def test_without_a_network_nothing_is_pushed(self, tmp_path, monkeypatch):
        use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "hf")
        with pytest.raises(DataError, match=r"hf://me/toy: nothing was pushed: the hub gave no answer \(.*refused\)"):
            SharedModel(make_bundle()).push_to_hub("me/toy")

    @pytest.mark.parametrize("name", ["toy", "me/toy/small", "me/toy@v1", "me/-toy", "me/a--b", "", "hf://"])
    def test_a_name_that_is_none_is_refused(self, hub, name):
        with pytest.raises(ConfigError, match="no name of a repository; on the hub they are called owner/name"):
            SharedModel(make_bundle()).push_to_hub(name)
        assert not hub.asked

    def test_without_room_for_a_copy_nothing_is_pushed(self, hub, monkeypatch):
        def full(*words, **options):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(pushing, "save_bundle", full)
        with pytest.raises(DataError, match=r"nothing was pushed: .*No space left on device.*; set TMPDIR"):
            SharedModel(make_bundle()).push_to_hub("me/toy")
        assert not hub.asked

    def test_a_model_of_another_kind_is_not_replaced_unasked(self, hub):
        hub.add("me/bert", {"config.json": b'{"model_type": "bert"}'})
        with pytest.raises(DataError, match=r"holds a model of another kind; choose another repository, or replace it"):
            SharedModel(make_bundle()).push_to_hub("me/bert")
        SharedModel(make_bundle()).push_to_hub("me/bert", force=True)
        assert "vocab.json" in hub.repositories["me/bert"].files()


class TestLoad:
    def saved(self, tmp_path) -> Path:
        SharedModel(make_bundle(), CARD).save_pretrained(tmp_path / "model")
        return tmp_path / "model"

    def test_a_folder_of_another_format_version_is_refused(self, hub, tmp_path):
        folder = self.saved(tmp_path)
        settings = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**settings, "format_version": 99}))
        hub.add("me/toy", folder)
        with pytest.raises(DataError, match="format 99, this version reads format 1"):
            SharedModel.from_pretrained("me/toy")

    def test_a_partial_folder_is_refused(self, hub, tmp_path):
        folder = self.saved(tmp_path)
        (folder / "model.safetensors").unlink()
        hub.add("me/toy", folder)
        with pytest.raises(DataError, match=r"not a complete model folder: model.safetensors missing"):
            SharedModel.from_pretrained("me/toy")

    def test_a_run_folder_is_its_exported_model(self, tmp_path):
        self.saved(tmp_path)
        assert SharedModel.from_pretrained(str(tmp_path)).card == CARD

    def test_a_revision_given_twice_is_refused(self, tmp_path):
        with pytest.raises(ConfigError, match="give it once, of a repository"):
            SharedModel.from_pretrained("hf://me/toy@v1", revision="v2")
        with pytest.raises(ConfigError, match="give it once, of a repository"):
            SharedModel.from_pretrained(self.saved(tmp_path), revision="v2")

    def test_a_text_that_is_neither_is_refused(self):
        with pytest.raises(ConfigError, match=r"'nothing' is no folder here and no name of a repository"):
            SharedModel.from_pretrained("nothing")


class TestDrawnCells:
    def test_are_the_same_for_a_vocabulary_and_of_four_kinds(self):
        vocab = GeneVocab.from_genes([f"g{i:03d}" for i in range(300)], name="test")
        block, again = draw_cells(vocab), draw_cells(vocab)
        np.testing.assert_array_equal(block.data, again.data)
        np.testing.assert_array_equal(block.indices, again.indices)
        assert (len(block), len(block.panel.gene_ids)) == (32, 128)
        assert set(block.panel.gene_ids) <= set(vocab.genes)
        counts = np.zeros((32, 128))
        for row in range(32):
            part = slice(block.indptr[row], block.indptr[row + 1])
            counts[row, block.indices[part]] = block.data[part]
        assert (counts >= 0).all()
        for kind in range(4):  # what a kind expresses most are its own genes
            mean = counts[kind::4].mean(axis=0)
            assert set(np.argsort(-mean)[:20] % 4) == {kind}

    def test_a_model_of_few_genes_can_be_tried(self):
        assert len(draw_cells(GeneVocab.from_genes(["only"], name="test"))) == 32
