"""Guards, automatic batch sizes and dry runs by way of the command line, on real files."""

from __future__ import annotations

import json
import math
from pathlib import Path

import anndata as ad
import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.cli.main import app
from scmodelforge.config import load_config
from scmodelforge.models.registry import register_model
from scmodelforge.models.transformer_encoder import TransformerEncoder
from scmodelforge.workflows import batch_size, dry_run
from scmodelforge.workflows.batch_size import largest_that_fits
from scmodelforge.workflows.replay import replay_batch
from tests.conftest import make_adata
from tests.test_life_cycle import losses, settings


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "cells.h5ad"
    make_adata(80, 30).write_h5ad(path)
    return path


def invoke(*words: object, code: int = 0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output + str(result.exception)
    return result


def write(folder: Path, data: Path, name: str = "run", **changes) -> Path:
    changes = {"eval__benchmarks": [], "training__max_epochs": 2, "data__num_workers": 0, **changes}
    config = folder / f"{name}.yaml"
    config.write_text(yaml.safe_dump(settings(data, folder / name, **changes)))
    return config


@pytest.fixture
def breaking_model():
    @register_model("breaking")
    class Breaking(TransformerEncoder):
        """Its loss is not a number from step 3 on."""

        def set_step(self, step):
            self.now = step + 1
            self.seen = []

        def forward(self, *args, **kwargs):
            out = super().forward(*args, **kwargs)
            if not self.training or self.now < 3:
                return out
            terms = {name: term * math.nan for name, term in out.loss_terms.items()}
            return type(out)(**{**vars(out), "loss": sum(terms.values()), "loss_terms": terms})

    return Breaking


class TestBadBatch:
    @pytest.fixture
    def run(self, data, tmp_path, breaking_model) -> Path:
        guards = {"max_skipped_steps": 1}
        config = write(tmp_path, data, training__guards=guards, model__architecture="breaking")
        result = invoke("train", "--config", config, code=1)
        assert "train/loss is nan at step 3; the step is skipped (1 in a row of at most 1)" in result.output
        assert f"its cells are in {tmp_path / 'run' / 'bad_batch_step_4.json'}" in result.output
        assert "Traceback" not in result.output
        return tmp_path / "run"

    def test_the_file_names_each_cell_and_makes_the_batch_again(self, run, data):
        path = run / "bad_batch_step_4.json"
        record = json.loads(path.read_text())
        names = ad.read_h5ad(data).obs_names
        for cell in record["cells"]:
            assert cell["obs_name"] == names[cell["position"]]
            assert cell["file"] == "cells.h5ad"
        ((batch,),) = replay_batch(path)
        assert batch["cell_index"].tolist() == [cell["position"] for cell in record["cells"]]
        assert len(batch["cell_index"]) == 8
        assert (batch["masked_positions"].sum(1) > 0).any()

    def test_a_file_that_does_not_fit_the_data_is_refused(self, run):
        path = run / "bad_batch_step_4.json"
        record = json.loads(path.read_text())
        record["cells"][0]["position"] += 1
        path.write_text(json.dumps(record))
        with pytest.raises(DataError, match="no longer give this batch"):
            replay_batch(path)
        path.write_text("{}")
        with pytest.raises(DataError, match="is not the record of a batch"):
            replay_batch(path)

    def test_the_run_folder_is_still_one_that_force_may_replace(self, run):
        invoke(
            "train", "--config", run.with_suffix(".yaml"), "--force", "--set", "model.architecture=transformer_encoder"
        )
        assert not list(run.glob("bad_batch*"))

    def test_more_skipped_steps_may_be_allowed_when_it_is_resumed(self, data, tmp_path, breaking_model):
        config = write(tmp_path, data, training__guards={"max_skipped_steps": 0}, model__architecture="breaking",
                       training__steps_per_epoch=2)  # fmt: skip
        result = invoke("train", "--config", config, code=1)
        assert f"scmodelforge train --resume {tmp_path / 'run'}" in result.output
        kept = tmp_path / "run" / "config.yaml"
        kept.write_text(kept.read_text().replace("max_skipped_steps: 0", "max_skipped_steps: 9"))
        invoke("train", "--resume", tmp_path / "run")
        last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-2])
        assert last["train/skipped_steps"] == 2


AUTO = {"training__batch_size": "auto", "training__global_batch_size": 8}


class TestAutomaticBatchSize:
    @pytest.mark.slow
    def test_is_as_if_the_number_had_been_given(self, data, tmp_path, monkeypatch):
        given = write(tmp_path, data, "given", training__batch_size=4, training__gradient_accumulation=2)
        memory = json.loads(invoke("train", given, "--dry-run", "--json").stdout)["memory"]
        of_one_cell = (memory["activations"] + memory["logits"]) // 4
        # Of the divisors of eight, four cells fit.
        monkeypatch.setattr(batch_size, "_limit", lambda device, neighbours: memory["total"] + 2 * of_one_cell)
        auto = write(tmp_path, data, "auto", **AUTO)
        output = invoke("train", "--config", auto).output
        assert "batch_size: 4 cells in a forward pass, 2 passes for a step of 8 cells" in output
        monkeypatch.undo()
        kept = load_config(tmp_path / "auto" / "config.yaml").training
        assert (kept.batch_size, kept.gradient_accumulation, kept.global_batch_size) == (4, 2, None)
        invoke("train", "--config", given)
        assert losses(tmp_path / "auto") == losses(tmp_path / "given")
        weights = "model/model.safetensors"
        one, other = (load_file(tmp_path / name / weights) for name in ("auto", "given"))
        assert all(torch.equal(one[name], value) for name, value in other.items())

    def test_is_refused_where_not_even_one_cell_fits(self, data, tmp_path, monkeypatch):
        monkeypatch.setattr(batch_size, "free_memory", lambda device: 2**20)
        config = write(
            tmp_path, data, training__batch_size="auto", training__global_batch_size=8, model__hidden_dim=256
        )
        output = invoke("train", "--config", config, code=2).output
        assert "a step on one cell of 24 tokens does not fit into the 512.0 KiB that may be used" in output
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"training__batch_size": "auto"}, "needs global_batch_size"),
            ({"training__global_batch_size": 64}, "has no effect beside batch_size 8"),
            (
                {
                    "training__batch_size": "auto",
                    "training__global_batch_size": 64,
                    "training__gradient_accumulation": 2,
                },
                "follows from batch_size 'auto'",
            ),
            (
                {"training__batch_size": "auto", "training__global_batch_size": 65, "training__devices": 2},
                "cannot be shared by 2 devices",
            ),
            ({"training__batch_size": 0}, "must be greater than 0"),
            ({"training__batch_size": "many"}, "training.batch_size is 'many'"),
        ],
    )
    def test_what_contradicts_itself_is_refused(self, data, tmp_path, changes, words):
        with pytest.raises(ConfigError) as problem:
            load_config(write(tmp_path, data, **changes))
        assert words in str(problem.value)
        assert len(str(problem.value).splitlines()) == 1

    @pytest.mark.parametrize("most", range(26))
    def test_the_search_finds_the_largest_that_fits(self, most):
        tried = []

        def fits(number):
            tried.append(number)
            return number <= most

        candidates = [1, 2, 3, 4, 6, 8, 12, 24]
        assert largest_that_fits(candidates, fits) == max((c for c in candidates if c <= most), default=0)
        assert len(tried) == len(set(tried)) <= 6
        assert max(tried) <= next((number for number in candidates if number >= 2 * most), 24)

    def test_a_step_that_a_device_refuses_does_not_fit(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)

        class Refused:
            device = torch.device("cuda")
            optimizer = torch.optim.SGD([torch.zeros(1)])

            def step(self, cells):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

        assert not batch_size._fits_on_device(Refused(), 8, 2**30)


def contents(*folders: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for f in folders for path in sorted(f.rglob("*"))}


class TestDryRun:
    def test_says_what_the_run_will_need_and_writes_nothing(self, data, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        config = write(tmp_path, data, data__preprocessing={"cache": str(tmp_path / "cache")})
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "precious").write_text("of an earlier run")
        before = contents(tmp_path, data.parent)
        result = invoke("train", "--config", config, "--dry-run", "--json")
        assert contents(tmp_path, data.parent) == before
        found = json.loads(result.stdout)
        assert found["train_cells"] + found["validation_cells"] == 80
        steps = -(-found["train_cells"] // 8)
        assert (found["steps_per_epoch"], found["total_steps"]) == (steps, 2 * steps)
        assert found["parameters"] == found["trainable"] == sum(found["parts"].values())
        assert found["tokens_per_epoch"] == pytest.approx(
            found["train_cells"] * found["speed"]["tokens_per_cell"], abs=1
        )
        assert 1 <= found["speed"]["tokens_per_cell"] <= found["speed"]["longest_cell"] <= 24
        memory = found["memory"]
        assert memory["weights"] == memory["gradients"] == 4 * found["parameters"]
        assert memory["optimizer"] >= 2 * memory["weights"]
        terms = ("weights", "gradients", "optimizer", "activations", "logits", "other")
        assert memory["total"] == sum(memory[name] for name in terms)
        assert memory["tokens_per_cell"] == 24
        assert found["hours"] == pytest.approx(found["total_steps"] * found["speed"]["seconds_per_step"] / 3600)
        assert found["config"]["model"]["vocab_size"] > 30
        assert found["config"]["data"]["preprocessing"]["cache"] == str(tmp_path / "cache")

    def test_its_figures_are_those_of_the_run(self, data, tmp_path):
        config = write(tmp_path, data, training__max_epochs=1)
        found = json.loads(invoke("train", "--config", config, "--dry-run", "--json").stdout)
        invoke("train", "--config", config)
        checkpoint = tmp_path / "run" / "checkpoints" / (tmp_path / "run" / "checkpoints" / "last").read_text().strip()
        weights = load_file(checkpoint / "model" / "model.safetensors")
        assert sum(tensor.nbytes for tensor in weights.values()) == found["export_bytes"]
        states = load_file(checkpoint / "state.safetensors")
        moments = sum(tensor.nbytes for name, tensor in states.items() if not name.startswith("rng."))
        assert moments + found["export_bytes"] == found["checkpoint_bytes"]
        assert max(losses(tmp_path / "run")) == found["total_steps"]

    def test_in_words_it_ends_with_settings_that_can_be_run(self, data, tmp_path):
        result = invoke("train", write(tmp_path, data), "--dry-run", "--set", "training.batch_size=4")
        figures, _, resolved = result.stdout.partition("settings\n")
        for name in ("parameters", "tokens", "steps", "memory", "helps most", "cells/s", "time", "disk"):
            assert name in figures
        path = tmp_path / "resolved.yaml"
        path.write_text(resolved)
        assert load_config(path).training.batch_size == 4

    @pytest.mark.slow
    def test_says_that_the_run_would_be_refused_where_one_lies(self, data, tmp_path):
        config, run = write(tmp_path, data), tmp_path / "run"
        assert "would be refused" not in invoke("train", config, "--dry-run").stdout
        run.mkdir()
        (run / "run.json").write_text("{}")
        before = contents(tmp_path, data.parent)
        refused = invoke("train", config, code=2).output.strip().removeprefix("error: ")
        assert f"{run} is not empty. Go on with that run" in refused
        assert f"  the run would be refused: {refused}\n" in invoke("train", config, "--dry-run").stdout
        assert json.loads(invoke("train", config, "--dry-run", "--json").stdout)["refusal"] == refused
        assert "would be refused" not in invoke("train", config, "--dry-run", "--force").stdout
        assert contents(tmp_path, data.parent) == before

    def test_refuses_what_training_refuses(self, data, tmp_path):
        config = write(tmp_path, data, model__hidden_dim=15)
        assert "is not a multiple of model.num_heads" in invoke("train", config, "--dry-run", code=2).output
        missing = write(tmp_path, tmp_path / "none.h5ad")
        assert "none.h5ad" in invoke("train", missing, "--dry-run", code=2).output

    def test_options_that_do_not_go_together_are_refused(self, data, tmp_path):
        config = write(tmp_path, data)
        assert "--json is for --dry-run" in invoke("train", config, "--json", code=2).output
        assert "--dry-run" in invoke("train", "--resume", tmp_path, "--dry-run", code=2).output

    def test_memory_that_runs_out_is_explained(self, data, tmp_path, monkeypatch):
        def refused(run, micro_batches):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

        monkeypatch.setattr(dry_run, "train_step", refused)
        output = invoke("train", write(tmp_path, data), "--dry-run", code=1).output
        assert "--set training.batch_size=4 --set training.gradient_accumulation=2" in output


def test_a_run_may_go_on_with_smaller_forward_passes(data, tmp_path, monkeypatch):
    from scmodelforge.training import loop

    unbroken = write(tmp_path, data, "unbroken", model__dropout=0.0)
    invoke("train", "--config", unbroken)
    real = loop.train_step

    def exhausted(run, micro_batches, **options):
        if run.progress.step == 8:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return real(run, micro_batches, **options)

    monkeypatch.setattr(loop, "train_step", exhausted)
    output = invoke("train", "--config", write(tmp_path, data, model__dropout=0.0), code=1).output
    monkeypatch.undo()
    assert f"last checkpoint: {tmp_path / 'run' / 'checkpoints' / 'step_00000006'}" in output
    kept = tmp_path / "run" / "config.yaml"
    text = kept.read_text().replace("\n  batch_size: 8", "\n  batch_size: 4")
    kept.write_text(text.replace("gradient_accumulation: 1", "gradient_accumulation: 2"))
    invoke("train", "--resume", tmp_path / "run")
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "unbroken"), abs=1e-5)


def test_a_dry_run_of_a_sharded_model_is_refused(data, tmp_path):
    path = write(tmp_path, data, training__strategy="fsdp")
    output = invoke("train", "--config", path, "--dry-run", code=2).output
    assert "a dry run measures whole models on one device" in " ".join(output.split())
