"""LoRA and DoRA: what is trained, what comes out, and the folders that hold them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from scmodelforge._errors import ConfigError, DataError
from scmodelforge._registry import MODELS
from scmodelforge.cli.main import app
from scmodelforge.config.finetune_sections import AdapterConfig
from scmodelforge.config.schema import FinetuneConfig
from scmodelforge.finetuning.tasks.cell_type_annotation import CellTypeAnnotationTask, CellTypeAnnotationTaskConfig
from scmodelforge.hub import load_bundle
from scmodelforge.hub.adapters import bare_backbone, load_adapter, merge_adapter
from scmodelforge.hub.fine_tuned import fine_tuned_from
from scmodelforge.models.fine_tuned import FineTunedConfig, FineTuneModel
from tests.conftest import OPTIONAL_MODELS
from tests.test_finetuning.test_command import refused, words
from tests.test_life_cycle import invoke, losses
from tests.test_matrix import names

peft = pytest.importorskip("peft")


def batch(num: int = 5, length: int = 9, vocab: int = 34, seed: int = 0) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        "input_ids": torch.randint(4, vocab, (num, length), generator=draw),
        "attention_mask": torch.ones(num, length, dtype=torch.long),
        "values": torch.rand(num, length, generator=draw),
    }


@pytest.fixture(scope="module", params=["lora", "dora"])
def run(request, base, cells, tmp_path_factory):
    out = tmp_path_factory.mktemp(request.param) / "run"
    more = ("--adaptation", request.param, "--epochs", 2, "--lr", 1e-2, "--eval", "", "--set", "finetune.lora.rank=4")
    invoke(*words(base, cells, out, *more))
    return out


class TestWhatIsTrained:
    @pytest.mark.parametrize("kind", ["lora", "dora"])
    def test_adapters_and_head_alone_and_less_than_3_percent(self, kind):
        config = FineTunedConfig(
            backbone={"hidden_dim": 256, "num_layers": 6, "num_heads": 8},
            vocab_size=2000,
            num_cell_types=20,
            adapter=AdapterConfig(kind=kind),
        )
        model = FineTuneModel(config)
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        assert all("lora_" in name or name.startswith("head.") for name in trained)
        assert sum("lora_A" in name for name in trained) == 12  # queries and values of six layers
        adapters = sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)
        whole = sum(p.numel() for p in model.parameters())
        assert model.num_parameters() < 0.03 * whole
        assert adapters == 12 * 8 * (256 + 256) + (12 * 256 if kind == "dora" else 0)

    def test_training_leaves_the_base_weights_to_the_bit(self, run, base):
        before = load_file(base / "model" / "model.safetensors")
        after = load_file(run / "model" / "model.safetensors")
        own = {name.removeprefix("backbone."): t for name, t in after.items() if name.startswith("backbone.")}
        kept = {name.replace(".base_layer", ""): t for name, t in own.items()}
        shared = kept.keys() & before.keys()
        assert any("attention.q.weight" in name for name in shared)
        assert all(torch.equal(kept[name], before[name]) for name in shared)
        assert any("lora_B" in name and t.abs().max() > 0 for name, t in after.items())


class TestOutputs:
    def test_untrained_adapters_change_nothing(self, base):
        bundle = load_bundle(base / "model")
        for kind in ("lora", "dora"):
            config = CellTypeAnnotationTaskConfig(base_model="-", adaptation=kind)
            task = CellTypeAnnotationTask(config, bundle)
            model = task.fresh(task.model().model_copy(update={"num_cell_types": 3})).eval()
            torch.testing.assert_close(model.encode(**batch()), bundle.model.encode(**batch()), atol=1e-6, rtol=0)

    def test_evaluation_differs_from_the_base_and_equals_training_without_dropout(self, run, base):
        tuned, before = load_bundle(run / "model"), load_bundle(base / "model")
        with torch.no_grad():
            evaluated = tuned.model.encode(**batch())
            assert (evaluated - before.model.encode(**batch())).abs().max() > 1e-3
            tuned.model.train()
            for module in tuned.model.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
            torch.testing.assert_close(tuned.model.encode(**batch()), evaluated, atol=1e-6, rtol=0)

    @pytest.mark.parametrize("architecture", [name for name in names(MODELS) if name != "fine_tuned"])
    def test_every_architecture_takes_adapters_or_is_refused_in_one_line(self, architecture):
        if architecture in OPTIONAL_MODELS:
            pytest.importorskip(OPTIONAL_MODELS[architecture])
        small = {"hidden_dim": 16, "num_layers": 2, "num_heads": 2, "max_seq_len": 16}
        given = {"backbone": {"architecture": architecture, **small}, "vocab_size": 34, "num_cell_types": 3}
        if architecture in ("gene_pooling", "scvi"):
            with pytest.raises(ConfigError, match=r"has no linear layer 'q'.* set finetune.lora.targets"):
                FineTuneModel(FineTunedConfig(**given, adapter=AdapterConfig()))
            return
        model = FineTuneModel(FineTunedConfig(**given, adapter=AdapterConfig()))
        assert sum("lora_A" in name for name, _ in model.named_parameters()) >= 4

    def test_targets_that_are_not_there_are_named(self):
        given = {"backbone": {"hidden_dim": 16, "num_layers": 1, "num_heads": 2}, "vocab_size": 34}
        with pytest.raises(ValueError, match=r"no linear layer 'query' .*there|finetune.lora.targets has 'query'"):
            FineTuneModel(FineTunedConfig(**given, adapter=AdapterConfig(targets=["query"])))


class TestRuns:
    def test_resumed_equals_unbroken(self, run, base, cells, tmp_path, monkeypatch):
        import os
        import signal

        from scmodelforge.training import loop

        kind = json.loads((run / "model" / "config.json").read_text())["model"]["adapter"]["kind"]
        real = loop.Progress.__setattr__

        def stop_at(progress, name, value):
            real(progress, name, value)
            if name == "step" and value == 3:
                os.kill(os.getpid(), signal.SIGINT)

        more = ("--adaptation", kind, "--epochs", 2, "--lr", 1e-2, "--eval", "", "--set", "finetune.lora.rank=4")
        with monkeypatch.context() as patch:
            patch.setattr(loop.Progress, "__setattr__", stop_at)
            result = CliRunner().invoke(app, words(base, cells, tmp_path / "run", *more))
        assert result.exit_code == 1, result.output
        invoke("finetune", "--resume", tmp_path / "run")
        assert losses(tmp_path / "run") == losses(run)
        weights = "model/model.safetensors"
        assert (tmp_path / "run" / weights).read_bytes() == (run / weights).read_bytes()

    def test_a_model_with_adapters_can_be_fine_tuned_again(self, run, base, cells, tmp_path):
        bundle = load_bundle(run / "model")
        again = fine_tuned_from(bundle, ["a", "b"])
        torch.testing.assert_close(again.model.encode(**batch()), bundle.model.encode(**batch()), atol=1e-5, rtol=0)
        assert not any("lora" in name for name, _ in again.model.named_parameters())
        assert bare_backbone(bundle.model) is not bundle.model.backbone


class TestFolders:
    def test_merged_gives_the_same_and_has_no_adapter(self, run, tmp_path):
        assert "adapters are in the weights" in invoke("hub", "export", run, tmp_path / "merged", "--merged")
        bundle, merged = load_bundle(run / "model"), load_bundle(tmp_path / "merged")
        assert merged.model_config.adapter is None
        assert not any("lora" in name or "base_layer" in name for name in merged.model.state_dict())
        with torch.no_grad():
            torch.testing.assert_close(merged.model.score(**batch()), bundle.model.score(**batch()), atol=1e-5, rtol=0)
        assert all(p.requires_grad for p in merge_adapter(bundle).model.parameters())

    def test_adapter_and_head_go_on_the_base_model(self, run, base, tmp_path):
        output = invoke("hub", "export", run, tmp_path / "adapter", "--adapter")
        assert "put on it, it gives the embeddings of the model" in output
        own = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
        assert all("lora_" in name for name in own)
        bundle = load_bundle(run / "model")
        again = load_adapter(tmp_path / "adapter", load_bundle(base / "model"))
        with torch.no_grad():
            assert torch.equal(again.model.score(**batch()), bundle.model.score(**batch()))
        assert again.labels == bundle.labels
        size = sum(path.stat().st_size for path in (tmp_path / "adapter").iterdir())
        assert size < (run / "model" / "model.safetensors").stat().st_size + 20_000

    def test_peft_itself_reads_it(self, run, base, tmp_path):
        invoke("hub", "export", run, tmp_path / "adapter", "--adapter")
        plain = load_bundle(base / "model").model
        read = peft.PeftModel.from_pretrained(plain, str(tmp_path / "adapter")).eval()
        with torch.no_grad():
            expected = load_bundle(run / "model").model.encode(**batch())
            torch.testing.assert_close(read.base_model.model.encode(**batch()), expected, atol=1e-6, rtol=0)

    @pytest.mark.parametrize(
        ("file", "change", "said"),
        [
            ("adapter_model", lambda own: own.pop(min(n for n in own if "lora_B" in n)), "1 weights are not there"),
            (
                "adapter_model",
                lambda own: own.update({"x": torch.ones(1)}),
                "of no layer of the model",
            ),
            ("adapter_model", lambda own: own.update({min(own): torch.ones(1, 1)}), "1 weights are of another shape"),
            ("head", lambda own: own.pop("decoder.bias"), "1 weights are not there (decoder.bias)"),
        ],
    )
    def test_weights_that_are_not_those_of_the_settings_are_refused(self, file, change, said, run, base, tmp_path):
        invoke("hub", "export", run, tmp_path / "adapter", "--adapter")
        path = tmp_path / "adapter" / f"{file}.safetensors"
        own = load_file(path)
        change(own)
        save_file(own, path)
        with pytest.raises(DataError) as refusal:
            load_adapter(tmp_path / "adapter", load_bundle(base / "model"))
        assert said in str(refusal.value)
        assert "\n" not in str(refusal.value)

    def test_of_another_base_model_is_refused(self, run, tmp_path):
        invoke("hub", "export", run, tmp_path / "adapter", "--adapter")
        with pytest.raises(ValueError, match="the adapter is of base model"):
            load_adapter(tmp_path / "adapter", load_bundle(run / "model"))

    def test_a_model_without_adapters_has_none_to_export(self, base, tmp_path):
        assert "has no adapters" in refused("hub", "export", base, tmp_path / "out", "--adapter")
        assert not (tmp_path / "out").exists()
        assert "keep one of them" in refused("hub", "export", base, tmp_path / "out", "--adapter", "--merged")


def test_without_peft_one_line_names_the_extra(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"needs the package 'peft'. Install it with: .*scmodelforge\[peft\]"):
        load_bundle(run / "model")


def test_merged_loads_without_peft(run, tmp_path, monkeypatch):
    invoke("hub", "export", run, tmp_path / "merged", "--merged")
    monkeypatch.setitem(sys.modules, "peft", None)
    load_bundle(tmp_path / "merged")


def test_lora_settings_belong_to_lora():
    with pytest.raises(ValueError, match="lora is read with adaptation 'lora' or 'dora' only"):
        FinetuneConfig(base_model="-", lora={"rank": 4})


def test_peft_is_imported_by_adapters_only():
    code = "import scmodelforge.models, scmodelforge.hub.load, sys; assert 'peft' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
