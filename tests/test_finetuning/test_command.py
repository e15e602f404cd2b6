"""``scmodelforge finetune``: options become settings, the run is one like any other, mistakes are one line."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import anndata as ad
import pytest
import yaml
from typer.testing import CliRunner

from scmodelforge._registry import TASKS
from scmodelforge.cli.main import app
from scmodelforge.config.schema import FinetuneConfig
from scmodelforge.finetuning.recipes import recipe_of
from scmodelforge.hub import load_bundle
from scmodelforge.workflows.adapted_training import RATES
from tests.conftest import make_adata
from tests.test_life_cycle import invoke, losses

ROOT = Path(__file__).parents[2]

SMALL = (
    *("--set", "training.precision=32-true", "--set", "training.accelerator=cpu", "--set", "output.tensorboard=false"),
    *("--set", "training.batch_size=16", "--set", "training.log_every_n_steps=1"),
)


def words(base: Path, cells: Path, out: Path, *more: object, label: str = "cell_type") -> list[str]:
    given = ["finetune", "--base-model", base, "--data", cells, "--task", "cell_type_annotation", "--label", label]
    return [*map(str, given), "--out", str(out), *SMALL, *map(str, more)]


def refused(*given: object) -> str:
    """Return the one line that a command ends with."""
    result = CliRunner().invoke(app, [str(word) for word in given])
    assert result.exit_code == 2, result.output
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("error:"))
    assert result.stderr.rstrip().endswith(line)
    return line


@pytest.fixture(scope="module")
def run(base, cells, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("tuned") / "run"
    invoke(*words(base, cells, out, "--epochs", 2, "--lr", 3e-3, "--batch", "batch", "--eval", "cell_type_annotation"))
    return out


class TestRun:
    def test_options_are_the_settings_of_the_run(self, run, base, cells):
        config = yaml.safe_load((run / "config.yaml").read_text())
        assert config["finetune"]["base_model"] == str(base)
        assert config["data"]["paths"] == [str(cells)]
        assert (config["data"]["label_column"], config["data"]["batch_column"]) == ("cell_type", "batch")
        assert config["training"]["max_epochs"] == 2
        assert config["training"]["optimizer"]["lr"] == 3e-3
        assert [entry["name"] for entry in config["eval"]["benchmarks"]] == ["cell_type_annotation"]
        assert load_bundle(run / "model").labels["categories"] == ["type0", "type1", "type2"]

    def test_config_yaml_reproduces_the_run(self, run, tmp_path):
        invoke("train", "--config", run / "config.yaml", "--set", f"output.run_dir={tmp_path / 'again'}",
               "--set", f"output.log_dir={tmp_path / 'again'}",
               "--set", f"output.checkpoint_dir={tmp_path / 'again' / 'checkpoints'}")  # fmt: skip
        assert losses(tmp_path / "again") == losses(run)
        weights = "model/model.safetensors"
        assert (tmp_path / "again" / weights).read_bytes() == (run / weights).read_bytes()

    def test_train_with_a_section_finetune_does_the_same(self, run, base, cells, tmp_path):
        path = tmp_path / "same.yaml"
        config = (
            yaml.safe_load(recipe_of("cell_type_annotation").read_text()) if recipe_of("cell_type_annotation") else {}
        )
        config.setdefault("finetune", {}).update(task="cell_type_annotation", base_model=str(base))
        config.setdefault("data", {}).update(paths=[str(cells)], label_column="cell_type", batch_column="batch")
        path.write_text(yaml.safe_dump(config))
        more = ("--set", "training.max_epochs=2", "--set", "training.lr=3e-3")
        more += ("--set", f"output.run_dir={tmp_path / 'run'}")
        invoke("train", "--config", path, *SMALL, *more, "--set", "eval.benchmarks=[cell_type_annotation]")
        assert losses(tmp_path / "run") == losses(run)

    def test_resume_goes_on_with_the_run(self, run):
        assert "model:" in invoke("finetune", "--resume", run)
        assert "leave out all other options" in refused("finetune", "--resume", run, "--epochs", 3)

    def test_dry_run_writes_nothing(self, base, cells, tmp_path):
        output = invoke(*words(base, cells, tmp_path / "run", "--dry-run"))
        assert "cells" in output
        assert not (tmp_path / "run").exists()

    def test_settings_of_the_base_model_are_not_warned_of(self, base, cells, tmp_path, caplog):
        invoke(*words(base, cells, tmp_path / "run", "--epochs", 1, "--set", "eval.benchmarks=[]"))
        assert "has no effect" not in caplog.text

    def test_overrides_come_last(self, base, cells, tmp_path):
        invoke(*words(base, cells, tmp_path / "run", "--epochs", 9, "--set", "training.max_epochs=1", "--eval", ""))
        assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["epoch"] == 1


class TestMistakes:
    def test_unknown_task(self, base, cells, tmp_path):
        line = refused("finetune", "--base-model", base, "--data", cells, "--task", "cell_typ_annotation")
        assert "unknown task 'cell_typ_annotation'. Did you mean 'cell_type_annotation'?" in line

    def test_no_task(self, base, cells):
        line = refused("finetune", "--base-model", base, "--data", cells)
        assert all(name in line for name in ("--task", *TASKS.names()))

    def test_absent_label_column(self, base, cells, tmp_path):
        line = refused(*words(base, cells, tmp_path / "run", label="cell_typ"))
        assert "obs has no column 'cell_typ'. Did you mean 'cell_type'?" in line

    def test_no_label_column(self, base, cells):
        line = refused("finetune", "--base-model", base, "--data", cells, "--task", "cell_type_annotation")
        assert "--label is not set" in line

    def test_one_class(self, base, tmp_path):
        adata = make_adata(40, 30)
        adata.obs["cell_type"] = "T cell"
        adata.write_h5ad(tmp_path / "one.h5ad")
        line = refused(*words(base, tmp_path / "one.h5ad", tmp_path / "run"))
        assert "1 label(s) in obs column 'cell_type' (--label)" in line

    def test_base_model_not_found(self, cells, tmp_path):
        assert "none: no such folder" in refused(*words(tmp_path / "none", cells, tmp_path / "run"))

    def test_no_base_model(self, cells):
        line = refused("finetune", "--data", cells, "--task", "cell_type_annotation")
        assert "--base-model is missing" in line

    def test_data_that_are_not_there_before_the_model_is_fetched(self, tmp_path):
        line = refused(*words("scmodelforge://geneformer-v2", tmp_path / "no.h5ad", tmp_path / "run"))
        assert f"--data: no such file: {tmp_path / 'no.h5ad'}" in line

    def test_no_data(self, base):
        line = refused("finetune", "--base-model", base, "--task", "cell_type_annotation")
        assert "--data is missing" in line

    def test_another_vocabulary(self, base, tmp_path):
        adata = make_adata(40, 30)
        adata.var_names = [f"OTHER{number}" for number in range(30)]
        adata.write_h5ad(tmp_path / "other.h5ad")
        line = refused(*words(base, tmp_path / "other.h5ad", tmp_path / "run"))
        assert "none of the 30 genes" in line.lower()

    def test_an_existing_run(self, run, base, cells):
        assert "is not empty" in refused(*words(base, cells, run))

    def test_an_adaptation_there_is_not(self, base, cells, tmp_path):
        line = refused(*words(base, cells, tmp_path / "run", "--adaptation", "some"))
        assert "--adaptation" in line
        assert "'last_n'" in line


def test_the_command_of_the_specification_comes_to_fetching_weights(tmp_path, monkeypatch):
    pytest.importorskip("scmodelforge.finetuning.tasks.perturbation_prediction")
    from scmodelforge.workflows import base_model

    class FetchedError(Exception):
        pass

    def fetch(address, **options):
        raise FetchedError(address)

    monkeypatch.setattr(base_model, "load_model", fetch)
    monkeypatch.chdir(tmp_path)
    make_adata(8, 30).write_h5ad("my_perturbseq.h5ad")
    line = ("finetune --base-model scmodelforge://geneformer-v2 --data ./my_perturbseq.h5ad "
            "--task perturbation_prediction --eval perturbbench")  # fmt: skip
    result = CliRunner().invoke(app, line.split())
    assert isinstance(result.exception, FetchedError), result.output
    assert str(result.exception) == "scmodelforge://geneformer-v2"


class TestRecipes:
    def test_every_recipe_is_of_a_task(self):
        for path in (ROOT / "configs" / "recipes").glob("*.yaml"):
            assert yaml.safe_load(path.read_text())["finetune"]["task"] == path.stem
            assert recipe_of(path.stem) == path

    def test_a_wheel_has_them_where_they_are_looked_for(self):
        built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
        assert built["force-include"]["configs/recipes"] == "scmodelforge/recipes"


class TestContinuedPretraining:
    def test_goes_on_from_the_weights_of_the_base_model(self, base, tmp_path):
        make_adata(60, 30, seed=3).write_h5ad(tmp_path / "new.h5ad")
        run = tmp_path / "run"
        invoke("finetune", "--base-model", base, "--data", tmp_path / "new.h5ad", "--task", "continued_pretraining",
               "--out", run, "--epochs", 1, "--set", "eval.benchmarks=[]", *SMALL)  # fmt: skip
        before, after = load_bundle(base / "model"), load_bundle(run / "model")
        assert after.model_config.architecture == before.model_config.architecture
        assert after.objective == before.objective
        assert after.vocab.digest() == before.vocab.digest()
        invoke("embed", tmp_path / "new.h5ad", tmp_path / "out.h5ad", "--model", run)
        assert "X_scmodelforge" in ad.read_h5ad(tmp_path / "out.h5ad").obsm

    def test_refuses_a_fine_tuned_model_and_other_adaptations(self, run, base, cells, tmp_path):
        given = ("--data", cells, "--task", "continued_pretraining", "--out", tmp_path / "run", *SMALL)
        assert "is fine-tuned" in refused("finetune", "--base-model", run, *given)
        line = refused("finetune", "--base-model", base, *given, "--adaptation", "frozen")
        assert "--adaptation is 'frozen'" in line


def test_fine_tuning_a_fine_tuned_model_takes_its_backbone(run, cells, tmp_path):
    shutil.copytree(run / "model", tmp_path / "model")
    invoke(*words(tmp_path / "model", cells, tmp_path / "again", "--epochs", 1, "--eval", "", label="batch"))
    assert load_bundle(tmp_path / "again" / "model").labels["column"] == "batch"


class TestAdaptation:
    """What of training follows from what is adapted, wherever that is set."""

    def settings(self, base, cells, tmp_path, *more) -> dict:
        invoke(*words(base, cells, tmp_path / "run", "--epochs", 1, "--eval", "", *more))
        return yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["training"]["optimizer"]

    def test_the_learning_rate_is_its_own(self, base, cells, tmp_path):
        assert self.settings(base, cells, tmp_path)["lr"] == RATES["full"]

    def test_the_learning_rate_that_is_given_counts(self, base, cells, tmp_path):
        more = ("--adaptation", "frozen", "--set", "training.lr=7e-4")
        assert self.settings(base, cells, tmp_path, *more)["lr"] == 7e-4

    def test_a_head_alone_has_its_rate_and_no_layers_below(self, base, cells, tmp_path):
        more = ("--epochs", 1, "--eval", "", "--set", "finetune.adaptation=frozen")
        said = " ".join(invoke(*words(base, cells, tmp_path / "run", *more)).split())
        found = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["training"]["optimizer"]
        assert found["lr"] == RATES["frozen"]
        assert found["layer_decay"] is None
        assert "training.optimizer.layer_decay is not read: adaptation 'frozen' trains the head alone" in said

    def test_every_adaptation_has_a_rate_and_the_page_names_it(self):
        assert {*RATES} == {*FinetuneConfig.model_fields["adaptation"].annotation.__args__}
        page = (ROOT / "docs" / "finetuning.md").read_text()
        assert all(f"`{lr:.0e}`".replace("e-0", "e-") in page for lr in RATES.values())

    def test_a_recipe_with_a_head_leaves_the_rate_to_the_adaptation(self):
        for name in ("cell_type_annotation", "regression", "gene_classification"):
            recipe = yaml.safe_load(recipe_of(name).read_text())
            assert "lr" not in recipe["training"].get("optimizer", {})

    def test_a_recipe_evaluates_at_the_end_only(self):
        for name in ("cell_type_annotation", "continued_pretraining", "batch_integration"):
            recipe = yaml.safe_load(recipe_of(name).read_text())
            assert recipe["eval"]["every_n_epochs"] == recipe["training"]["max_epochs"]
