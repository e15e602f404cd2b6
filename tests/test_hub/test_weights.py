"""Weights that are NaN or infinite are refused, wherever a model is from; what was hashed is not read again."""

from __future__ import annotations

import math
import os
import time

import pytest
import torch

from scmodelforge._errors import DataError
from scmodelforge.hub import checksums, load_bundle, save_bundle
from scmodelforge.hub.load import identity_of_weights, load_model
from scmodelforge.hub.weights import require_finite

from .published_folders import write_geneformer
from .test_bundle import make_bundle


@pytest.fixture
def reads(tmp_path, monkeypatch) -> list[str]:
    """Keep notes of files in a place of the test; return the names of those that are read for their sha256."""
    monkeypatch.setenv("SCMODELFORGE_CACHE", str(tmp_path / "cache"))
    read, names = checksums.digest_of, []
    monkeypatch.setattr(checksums, "digest_of", lambda path: names.append(path.name) or read(path))
    return names


class TestNumbers:
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_that_are_none_are_refused_with_the_names_of_the_tensors(self, tmp_path, value):
        bundle = make_bundle()
        weights = bundle.model.state_dict()
        name = next(name for name in weights if name.endswith("q.weight"))
        weights[name][3, 2] = value
        save_bundle(tmp_path / "model", bundle, card="")
        with pytest.raises(DataError) as caught:
            load_bundle(tmp_path / "model")
        assert f"model.safetensors: NaN or infinite numbers in 1 tensors ({name}); " in str(caught.value)

    def test_of_both_signs_do_not_cancel(self):
        model = torch.nn.Linear(2, 1)
        model.weight.data = torch.tensor([[math.inf, -math.inf]])
        with pytest.raises(DataError, match=r"mine: NaN or infinite numbers in 1 tensors \(weight\)"):
            require_finite(model, "mine")

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_that_are_large_are_numbers(self, dtype):
        model = torch.nn.Linear(100, 100).to(dtype)
        model.weight.data.fill_(torch.finfo(dtype).max)
        require_finite(model, "mine")

    def test_of_published_models_are_looked_at_too(self, tmp_path):
        from tests.test_models.test_published.test_geneformer import published

        weights = published()
        weights["bert.embeddings.LayerNorm.weight"].fill_(math.nan)
        with pytest.raises(DataError, match="infinite or none"):
            load_model(write_geneformer(tmp_path, weights))


class TestChecksums:
    def test_of_a_published_model_are_taken_once(self, tmp_path, reads):
        folder = write_geneformer(tmp_path / "model")
        first = load_model(folder).fingerprint
        assert "model.safetensors" in reads
        reads.clear()
        assert load_model(folder).fingerprint == first
        assert not reads

    def test_are_taken_again_of_a_file_that_changed_under_the_same_size_and_time(self, tmp_path, reads):
        path = tmp_path / "file"
        path.write_bytes(b"one")
        then, first = path.stat(), checksums.sha256_of(path)
        path.write_bytes(b"two")
        os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns))
        assert checksums.sha256_of(path) != first

    def test_are_right_of_a_file_that_is_written_at_once_after(self, tmp_path, reads):
        path = tmp_path / "file"
        for number in range(20):
            path.write_text(f"{number:02d}")
            assert checksums.sha256_of(path) == checksums.digest_of(path)

    def test_are_not_kept_of_a_file_that_is_written_meanwhile(self, tmp_path, monkeypatch):
        monkeypatch.setenv("SCMODELFORGE_CACHE", str(tmp_path / "cache"))
        path = tmp_path / "file"
        path.write_text("one")
        read = checksums.digest_of

        def write_meanwhile(given):
            found = read(given)
            time.sleep(0.03)
            given.write_text("two")
            return found

        monkeypatch.setattr(checksums, "digest_of", write_meanwhile)
        before = checksums.sha256_of(path)
        monkeypatch.setattr(checksums, "digest_of", read)
        assert checksums.sha256_of(path) != before

    def test_of_a_file_that_cannot_be_read_are_one_line(self, tmp_path, reads):
        with pytest.raises(DataError, match=r"nothing: cannot be read \(No such file"):
            checksums.sha256_of(tmp_path / "nothing")


class TestIdentity:
    def test_is_that_of_the_weights_and_not_read_twice(self, tmp_path, reads):
        bundle = make_bundle()
        for name in ("a", "b"):
            save_bundle(tmp_path / name, bundle, card="")
        bundle.model.state_dict()["embedding.gene_embedding.weight"][5, 5] += 1
        save_bundle(tmp_path / "c", bundle, card="")
        found = [identity_of_weights(load_model(tmp_path / name)) for name in "abca"]
        assert found[0] == found[1] == found[3] != found[2]
        assert reads == ["model.safetensors"] * 3

    def test_of_a_changed_copy_is_its_own(self, tmp_path):
        from dataclasses import replace

        save_bundle(tmp_path / "a", make_bundle(), card="")
        loaded = load_model(tmp_path / "a")
        assert replace(loaded).folder is None
        assert identity_of_weights(replace(loaded)) != identity_of_weights(loaded)
