"""A run on a base model: what it brings, what is trained of it, what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from scmodelforge.hub import load_bundle, load_model
from scmodelforge.report.sections.overview import overview
from scmodelforge.workflows.fine_tuning_facts import next_command
from scmodelforge.workflows.run_record import RunRecord
from tests.conftest import make_adata
from tests.test_life_cycle import invoke, losses

BASE = {
    "data": {"gene_vocab": "from_data", "num_workers": 0, "preprocessing": {"normalize": "library_size"}},
    "tokenizer": {"strategy": "binned_expression", "max_genes": 24, "n_bins": 7},
    "model": {"hidden_dim": 16, "num_layers": 3, "num_heads": 2, "max_seq_len": 24, "dropout": 0.1},
    "training": {"batch_size": 16, "max_epochs": 1, "precision": "32-true", "accelerator": "cpu"},
    "eval": {"benchmarks": []},
    "output": {"tensorboard": False},
}
TUNED = {
    "data": {"label_column": "cell_type", "num_workers": 0, "split": {"by": "donor_id", "validation_fraction": 0.3}},
    "finetune": {"task": "cell_type_annotation"},
    "training": {**BASE["training"], "max_epochs": 3, "optimizer": {"lr": 1e-3}, "log_every_n_steps": 1},
    "eval": {"benchmarks": []},
    "output": {"tensorboard": False},
}


def write(path: Path, settings: dict, **changes) -> Path:
    """Write settings with changes ``section__name``; the run folder lies beside them."""
    settings = {name: dict(section) for name, section in settings.items()}
    settings["output"]["run_dir"] = str(path.with_suffix(""))
    for name, value in changes.items():
        section, _, key = name.partition("__")
        if key:
            settings.setdefault(section, {})[key] = value
        else:
            settings[section] = value
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder with cells and a base model."""
    folder = tmp_path_factory.mktemp("finetuning")
    make_adata(96, 30).write_h5ad(folder / "cells.h5ad")
    invoke("train", write(folder / "base.yaml", BASE, data__paths=[str(folder / "cells.h5ad")]))
    return folder


def tuned(folder: Path, tmp_path: Path, name: str = "tuned", **changes) -> Path:
    own = {"data__paths": [str(folder / "cells.h5ad")], "finetune__base_model": str(folder / "base"), **changes}
    return write(tmp_path / f"{name}.yaml", TUNED, **own)


def refused(path: Path) -> str:
    result = CliRunner().invoke(app, ["train", str(path)])
    assert result.exit_code == 2, result.output
    assert not path.with_suffix("").exists()
    (line,) = [line for line in result.output.splitlines() if line.startswith("error: ")]
    return line


def changed_parameters(folder: Path, run: Path) -> set[str]:
    """Return the parts of the backbone whose weights are not those of the base model."""
    before = load_bundle(folder / "base" / "model").model.state_dict()
    after = load_bundle(run / "model").model.backbone.state_dict()
    return {".".join(name.split(".")[:3]) for name in after if not torch.equal(after[name], before[name])}


class TestWhatTheBaseModelBrings:
    def test_tokens_genes_and_preprocessing(self, folder, tmp_path):
        path = tuned(folder, tmp_path)
        invoke("train", path)
        base, own = (load_bundle(run / "model") for run in (folder / "base", tmp_path / "tuned"))
        assert own.vocab.genes == base.vocab.genes
        assert own.tokenizer.config == base.tokenizer.config
        assert own.preprocessor.config.normalize == "library_size"
        assert own.labels["categories"] == ["type0", "type1", "type2"]
        assert own.fingerprint["fine_tuned_from"] == base.model_id
        assert own.model_id != base.model_id
        resolved = yaml.safe_load((tmp_path / "tuned" / "config.yaml").read_text())
        assert resolved["model"]["backbone"]["hidden_dim"] == 16
        assert resolved["finetune"]["base_model_id"] == base.model_id

    def test_which_gene_ids_are_read(self, folder, tmp_path):
        """Those that the base model knows most of, as by all that uses a model; also when resumed and evaluated."""
        adata = make_adata(96, 30)
        adata.var["ensembl_id"] = adata.var_names
        adata.var_names = [name if i % 2 else f"ENSG{99_000_000 + i:011d}" for i, name in enumerate(adata.var_names)]
        adata.write_h5ad(tmp_path / "cells.h5ad")
        invoke("train", tuned(folder, tmp_path, "plain"))
        said = invoke("train", tuned(folder, tmp_path, data__paths=[str(tmp_path / "cells.h5ad")]))
        assert "30 of 30 genes are in the vocabulary of the base model" in said
        assert losses(tmp_path / "tuned") == losses(tmp_path / "plain")
        *_, last = sorted((tmp_path / "tuned" / "checkpoints").iterdir())
        shutil.rmtree(last)
        invoke("train", "--resume", tmp_path / "tuned")
        assert losses(tmp_path / "tuned") == losses(tmp_path / "plain")
        words = ("--benchmark", "cell_type_annotation", "--label", "cell_type", "--allow-trained-cells")
        tables = []
        for cells in (tmp_path / "cells.h5ad", folder / "cells.h5ad"):
            said = invoke("evaluate", tmp_path / "plain", "--data", cells, *words)
            tables.append([line for line in said.splitlines() if "accuracy" in line])
        assert tables[0] == tables[1] != []

    def test_its_settings_make_the_same_run_again(self, folder, tmp_path):
        invoke("train", tuned(folder, tmp_path))
        first = losses(tmp_path / "tuned")
        again = tmp_path / "again.yaml"
        settings = yaml.safe_load((tmp_path / "tuned" / "config.yaml").read_text())
        settings["output"].update(run_dir=str(tmp_path / "again"), log_dir=None, checkpoint_dir=None)
        again.write_text(yaml.safe_dump(settings))
        invoke("train", again)
        assert losses(tmp_path / "again") == first

    def test_weights_that_continued_pretraining_begins_with(self, folder, tmp_path):
        """Without a step worth the name the weights are those of the base model, all of them."""
        path = tuned(folder, tmp_path, finetune__task="continued_pretraining", data__label_column=None)
        invoke("train", path, "--set", "training.optimizer.lr=1e-30", "--set", "training.max_epochs=1")
        base, own = (load_bundle(run / "model").model.state_dict() for run in (folder / "base", tmp_path / "tuned"))
        assert own.keys() == base.keys()
        assert all(torch.allclose(own[name], base[name], atol=1e-12) for name in base)


class TestAdaptation:
    @pytest.mark.parametrize(
        ("settings", "trained"),
        [
            ({"adaptation": "frozen"}, set()),
            ({"adaptation": "last_n", "last_layers": 1}, {"encoder.layers.2"}),
            # One block more in the second and in the third epoch.
            ({"adaptation": "gradual"}, {"encoder.layers.1", "encoder.layers.2"}),
        ],
    )
    def test_trains_what_it_says(self, folder, tmp_path, settings, trained):
        path = tuned(folder, tmp_path, finetune__base_model=str(folder / "base"))
        words = [f"finetune.{name}={value}" for name, value in settings.items()]
        invoke("train", path, *(word for each in words for word in ("--set", each)))
        assert changed_parameters(folder, tmp_path / "tuned") == trained

    def test_full_trains_all_that_cells_pass(self, folder, tmp_path):
        invoke("train", tuned(folder, tmp_path))
        assert {f"encoder.layers.{number}" for number in range(3)} < changed_parameters(folder, tmp_path / "tuned")

    @pytest.mark.parametrize("adaptation", ["full", "gradual"])
    def test_resumed_equals_unbroken(self, folder, tmp_path, monkeypatch, adaptation):
        from scmodelforge.training import loop

        whole, broken = (tuned(folder, tmp_path, name, finetune__adaptation=adaptation) for name in ("one", "two"))
        for path in (whole, broken):
            settings = yaml.safe_load(path.read_text())
            settings["finetune"]["base_model"] = str(folder / "base")
            path.write_text(yaml.safe_dump(settings))
        invoke("train", whole)
        real = loop.Progress.__setattr__

        def stop_at(progress, name, value):
            real(progress, name, value)
            if name == "step" and value == 6:
                os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setattr(loop.Progress, "__setattr__", stop_at)
        previous = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            assert CliRunner().invoke(app, ["train", str(broken)]).exit_code == 1
        finally:
            signal.signal(signal.SIGINT, previous)
        monkeypatch.undo()
        assert max(losses(tmp_path / "two")) == 6
        invoke("train", "--resume", tmp_path / "two")
        assert losses(tmp_path / "two") == losses(tmp_path / "one")
        weights = "model/model.safetensors"
        assert (tmp_path / "two" / weights).read_bytes() == (tmp_path / "one" / weights).read_bytes()


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"finetune__task": "cell_type"}, "unknown task 'cell_type'. Did you mean 'cell_type_annotation'?"),
            ({"finetune__base_model": "nowhere"}, "nowhere: no such folder"),
            ({"finetune__adaptation": "half"}, "finetune.adaptation is 'half'; it must be"),
            ({"finetune__last_layers": 2}, "last_layers is read with adaptation 'last_n' only"),
            ({"finetune__base_model_id": "other@1"}, "and finetune.base_model_id is other@1"),
            ({"model__hidden_dim": 32}, "model.architecture is not that of the base model"),
            ({"tokenizer__max_genes": 12}, "is not that of the base model"),
            ({"data__gene_vocab": "from_data"}, "data.gene_vocab is 'from_data', but the genes are those of the base"),
            ({"data__preprocessing": {"log1p": True}}, "data.preprocessing.log1p is True and False in the base model"),
            ({"data__preprocessing": {"hvg_selection": 5}}, "data.preprocessing.hvg_selection chooses genes"),
            ({"data__label_column": None}, "data.label_column is not set"),
            ({"data__label_column": "celltype"}, "celltype"),
        ],
    )
    def test_of_settings(self, folder, tmp_path, changes, words):
        assert words in refused(tuned(folder, tmp_path, **changes))

    def test_of_one_class(self, folder, tmp_path):
        adata = make_adata(40, 30)
        adata.obs["cell_type"] = "T"
        adata.write_h5ad(tmp_path / "one.h5ad")
        assert "have 1 label(s) in obs column 'cell_type'" in refused(
            tuned(folder, tmp_path, data__paths=[str(tmp_path / "one.h5ad")])
        )

    def test_of_genes_that_the_base_model_does_not_know(self, folder, tmp_path):
        make_adata(40, 30, prefix="ENSMUSG").write_h5ad(tmp_path / "mouse.h5ad")
        line = refused(tuned(folder, tmp_path, data__paths=[str(tmp_path / "mouse.h5ad")]))
        assert "None of the 30 genes of mouse.h5ad are in the model's vocabulary" in line

    def test_of_more_blocks_than_there_are(self, folder, tmp_path):
        path = tuned(folder, tmp_path, finetune__adaptation="last_n", finetune__last_layers=9)
        assert "finetune.last_layers is 9, but the base model has 3 blocks" in refused(path)

    def test_of_pretraining_a_model_that_is_fine_tuned(self, folder, tmp_path):
        invoke("train", tuned(folder, tmp_path, "first", training__max_epochs=1))
        path = tuned(
            folder, tmp_path, finetune__base_model=str(tmp_path / "first"), finetune__task="continued_pretraining"
        )
        assert "has no objective of its pretraining left" in refused(path)

    def test_of_resuming_with_another_base_model(self, folder, tmp_path):
        shutil.copytree(folder / "base", tmp_path / "base")
        invoke("train", tuned(folder, tmp_path, finetune__base_model=str(tmp_path / "base")))
        facts = json.loads((tmp_path / "base" / "model" / "fingerprint.json").read_text())
        (tmp_path / "base" / "model" / "fingerprint.json").write_text(json.dumps({**facts, "step": 1}))
        result = CliRunner().invoke(app, ["train", "--resume", str(tmp_path / "tuned")])
        assert result.exit_code == 2
        assert "put that model back" in result.output


class TestPlugins:
    """Files of Python that the folder of the base model names."""

    @pytest.fixture
    def base(self, folder, tmp_path) -> Path:
        copy = tmp_path / "base"
        shutil.copytree(folder / "base" / "model", copy)
        (copy / "plugins").mkdir()
        (copy / "plugins" / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').close()\n")
        settings = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(
            json.dumps({**settings, "plugins": ["plugins/own.py"], "objective": "theirs"})
        )
        return copy

    def test_are_neither_run_nor_handed_on_when_nobody_trusts_them(self, folder, tmp_path, base):
        invoke("train", tuned(folder, tmp_path, finetune__base_model=str(base)))
        assert not (tmp_path / "ran").exists()
        assert load_bundle(tmp_path / "tuned" / "model").plugins == []
        assert not list((tmp_path / "tuned").rglob("own.py"))

    def test_go_with_the_model_when_trusted(self, folder, tmp_path, base):
        (base / "config.json").write_text(
            (base / "config.json").read_text().replace('"theirs"', '"masked_gene_prediction"')
        )
        invoke("train", tuned(folder, tmp_path, finetune__base_model=str(base), finetune__trust_plugins=True))
        assert (tmp_path / "ran").exists()
        assert [Path(name).name for name in load_bundle(tmp_path / "tuned" / "model").plugins] == ["own.py"]


class TestMetrics:
    """What a head measures, and what the task's own benchmark gives, can end a run and choose its checkpoint."""

    @pytest.mark.parametrize("metric", ["val/annotation_error", "val/annotation"])
    def test_of_the_head(self, folder, tmp_path, metric):
        stopping = {"metric": metric, "mode": "min", "patience": 1, "min_delta": 10.0}
        path = tuned(folder, tmp_path, training__early_stopping=stopping, output__best_metric=metric)
        assert f"stopped early after epoch 2/3: {metric}" in invoke("train", path)

    def test_of_the_benchmark_that_the_task_brings(self, folder, tmp_path):
        metric = "eval/cell_type_annotation/heldout/accuracy_head"
        stopping = {"metric": metric, "mode": "max", "patience": 1, "min_delta": 10.0}
        path = tuned(folder, tmp_path, training__early_stopping=stopping, output__best_metric=metric)
        settings = yaml.safe_load(path.read_text())
        del settings["eval"]
        path.write_text(yaml.safe_dump(settings))
        assert f"stopped early after epoch 2/3: {metric}" in invoke("train", path)

    def test_that_nothing_gives(self, folder, tmp_path):
        stopping = {"metric": "val/masked_gene", "mode": "min"}
        said = refused(tuned(folder, tmp_path, training__early_stopping=stopping))
        assert "val/annotation_error" in said
        assert "val/masked_gene" in said


def test_a_head_is_taken_off_a_model_that_has_one(folder, tmp_path):
    """The backbone of a fine-tuned model is fine-tuned again, under a new head."""
    invoke("train", tuned(folder, tmp_path, "first", training__max_epochs=1))
    again = tuned(folder, tmp_path, "again", finetune__base_model=str(tmp_path / "first"), data__label_column="batch")
    invoke("train", again, "--set", "finetune.adaptation=frozen")
    first, second = (load_model(tmp_path / name) for name in ("first", "again"))
    assert second.labels["categories"] == ["b0", "b1"]
    one, other = first.model.backbone.state_dict(), second.model.backbone.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


class TestTheBaseModelAmongTheScores:
    """``untrained`` is the base model with a fresh head, at the end of the run and whenever it is evaluated later."""

    WORDS = ("--eval", "embedding_quality", "--label", "cell_type", "--baselines", "untrained")

    def untrained(self, path: Path) -> dict[str, float]:
        records = [json.loads(line) for line in path.read_text().splitlines()]
        return {each["metric"]: each["value"] for each in records if each["representation"] == "untrained"}

    def test_it_is_the_same_then_and_later(self, folder, tmp_path):
        scores = {"benchmarks": ["embedding_quality"], "baselines": ["untrained"]}
        said = invoke("train", tuned(folder, tmp_path, eval=scores))
        base = load_model(folder / "base").model_id
        assert (
            f"'untrained' in these tables is the base model before fine-tuning (zero-shot), with a fresh head: {base}"
            in said
        )
        said = invoke("evaluate", tmp_path / "tuned", "--out", tmp_path / "later.jsonl")
        assert "is the base model before fine-tuning" in said
        later = self.untrained(tmp_path / "later.jsonl")
        assert later == pytest.approx(self.untrained(tmp_path / "tuned" / "exported_results.jsonl"), abs=1e-6)
        assert later

    def test_without_the_base_model_it_is_left_out(self, folder, tmp_path):
        shutil.copytree(folder / "base", tmp_path / "base")
        invoke("train", tuned(folder, tmp_path, finetune__base_model=str(tmp_path / "base"), training__max_epochs=1))
        shutil.rmtree(tmp_path / "base")
        for model in ("tuned", "tuned/model"):
            out = tmp_path / f"{Path(model).name}.jsonl"
            words = ("--data", folder / "cells.h5ad", "--allow-trained-cells", "--out", out)
            said = invoke("evaluate", tmp_path / model, *words, *self.WORDS)
            assert "'untrained' is left out: it is the base model" in said
            assert not self.untrained(out)


class TestWhatItSaysOfItself:
    def test_in_run_card_and_report(self, folder, tmp_path):
        said = invoke("train", tuned(folder, tmp_path, finetune__adaptation="frozen", training__max_epochs=1))
        run = tmp_path / "tuned"
        command = f"scmodelforge predict YOUR.h5ad labelled.h5ad --model {run}"
        assert command in said
        bundle = load_bundle(run / "model")
        head = sum(each.numel() for name, each in bundle.model.named_parameters() if name.startswith("head."))
        base = load_model(folder / "base").model_id
        sentence = (
            f"Fine-tuned from base (model {base}) for cell type annotation, adaptation 'frozen': {head:,} parameters"
        )
        card = (run / "model" / "README.md").read_text()
        assert sentence in card
        assert "scmodelforge predict cells.h5ad labelled.h5ad --model" in card
        assert str(folder) not in card
        head_of_page = overview(RunRecord.read(run))
        assert any(sentence in each for each in head_of_page.sentences)
        assert any(command.partition(" --model")[0] in each for each, _ in head_of_page.commands)

    def test_low_rank_adapters_are_what_is_trained(self, folder, tmp_path):
        pytest.importorskip("peft")
        invoke("train", tuned(folder, tmp_path, finetune__adaptation="lora", training__max_epochs=1))
        facts = load_bundle(tmp_path / "tuned" / "model").fingerprint["fine_tuning"]
        model = load_bundle(tmp_path / "tuned" / "model").model
        trained = [
            each.numel() for name, each in model.named_parameters() if "lora_" in name or name.startswith("head.")
        ]
        assert facts["trained_parameters"] == sum(trained)

    @pytest.mark.parametrize("task", ["regression", "gene_classification", "perturbation_prediction"])
    def test_what_does_not_embed_is_asked_to_predict(self, task):
        assert next_command(task).startswith("predict ")
        assert next_command("continued_pretraining").startswith("embed ")
