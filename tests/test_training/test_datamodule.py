"""Cell loaders under a Lightning Trainer; .ci/full installs Lightning for these tests."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, OnExceptionCheckpoint

from scmodelforge._errors import ConfigError
from scmodelforge.data.loader import CellLoader
from scmodelforge.training import CellDataModule
from tests.test_data.loading import make_loader

pytestmark = pytest.mark.filterwarnings("default")  # those of Lightning and of what it imports are not ours

NUM_CELLS = 93


def cell_index(tokens) -> torch.Tensor:
    return torch.from_numpy(tokens.cell_index)


def loader(*, shuffle: bool = True, **settings) -> CellLoader:
    order = {} if shuffle else {"shuffle": False, "num_streams": 1}
    return make_loader(collate=cell_index, order_changes=order, **settings)


def loader_of(rank: int, world_size: int) -> CellLoader:
    return loader(rank=rank, world_size=world_size)


class Remembers(lightning.LightningModule):
    """Trains one number and remembers the cells of each batch."""

    def __init__(self, *, fails_at: int | None = None, folder: Path | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Linear(1, 1)
        self.trained, self.validated = [], []
        self.fails_at, self.folder = fails_at, folder

    def training_step(self, batch, batch_idx):
        self.trained.append((self.current_epoch, batch_idx, batch.tolist()))
        if len(self.trained) == self.fails_at:
            raise KeyError("on purpose")
        return self.weight(batch[:, None].float() / NUM_CELLS).mean()

    def validation_step(self, batch, batch_idx):
        self.validated.append(batch.tolist())

    def predict_step(self, batch, batch_idx):
        return batch

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def on_fit_end(self):
        if self.folder is not None:
            found = {"trained": self.trained, "validated": self.validated}
            (self.folder / f"{self.global_rank}.json").write_text(json.dumps(found))


def make_trainer(folder: Path, *callbacks, **settings) -> lightning.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return lightning.Trainer(
        accelerator="cpu", default_root_dir=folder, callbacks=list(callbacks), **quiet, **{"max_epochs": 3, **settings}
    )


def cells(**changes) -> CellDataModule:
    return CellDataModule(**{"train": loader(num_workers=1), "val": loader(shuffle=False), **changes})


def fit(folder: Path, *callbacks, datamodule=None, checkpoint=None, module=None, **settings) -> Remembers:
    module = module or Remembers()
    trainer = make_trainer(folder, *callbacks, **settings)
    trainer.fit(module, datamodule=datamodule or cells(), ckpt_path=checkpoint, weights_only=False)
    return module


def of_epoch(trained, epoch: int) -> list[int]:
    return sorted(cell for number, _, batch in trained if number == epoch for cell in batch)


class TestTraining:
    def test_two_steps_run(self, tmp_path):
        assert len(fit(tmp_path, max_steps=2).trained) == 2

    def test_epochs_are_the_passes_of_the_loader(self, tmp_path):
        trained = fit(tmp_path).trained
        expected = [group[0].tolist() for number in range(3) for group in loader().one_pass(number)]
        assert [batch for _, _, batch in trained] == expected
        assert all(of_epoch(trained, epoch) == list(range(NUM_CELLS)) for epoch in range(3))

    def test_validation_sees_every_cell_once_an_epoch(self, tmp_path):
        validated = fit(tmp_path, max_epochs=1, num_sanity_val_steps=0).validated
        assert sorted(cell for batch in validated for cell in batch) == list(range(NUM_CELLS))

    def test_without_held_out_cells_there_is_no_validation(self, tmp_path):
        assert fit(tmp_path, datamodule=cells(val=None), max_epochs=1).validated == []

    def test_a_function_may_make_the_loader(self, tmp_path):
        trained = fit(tmp_path, datamodule=cells(train=loader_of)).trained
        assert of_epoch(trained, 2) == list(range(NUM_CELLS))

    def test_a_part_of_each_pass_can_be_an_epoch(self, tmp_path):
        trained = fit(tmp_path, limit_train_batches=4).trained
        expected = [[g[0].tolist() for g in loader().one_pass(number)][:4] for number in range(3)]
        assert [batch for _, _, batch in trained] == list(itertools.chain(*expected))

    def test_predicting_keeps_the_order_of_the_cells(self, tmp_path):
        trainer = make_trainer(tmp_path)
        found = trainer.predict(Remembers(), datamodule=CellDataModule(predict=loader(shuffle=False)))
        assert torch.cat(found).tolist() == list(range(NUM_CELLS))

    def test_threads_end_with_the_training(self, tmp_path):
        datamodule = cells(train=loader(num_workers=2))
        fit(tmp_path, datamodule=datamodule, max_steps=3)
        stopped = datamodule.train_dataloader().loader
        stopped.load_state_dict(stopped.state_dict())  # refused while it is iterated


class TestResume:
    """Twelve batches an epoch."""

    @pytest.mark.parametrize("every", [5, 12])
    def test_inside_and_between_epochs_equals_an_unbroken_run(self, tmp_path, every):
        saved = ModelCheckpoint(tmp_path / "kept", filename="{step}", every_n_train_steps=every, save_top_k=-1)
        whole = fit(tmp_path, saved)
        checkpoints = sorted((tmp_path / "kept").glob("*.ckpt"))
        assert len(checkpoints) == 36 // every
        for checkpoint in checkpoints:
            step = int(checkpoint.stem.removeprefix("step="))
            resumed = fit(tmp_path, checkpoint=checkpoint)
            assert resumed.trained == whole.trained[step:]
            assert torch.equal(resumed.weight.weight, whole.weight.weight)

    def test_at_the_end_of_an_epoch_equals_an_unbroken_run(self, tmp_path):
        saved = ModelCheckpoint(tmp_path, filename="{epoch}", save_on_train_epoch_end=True, save_top_k=-1)
        whole = fit(tmp_path, saved)
        for epoch in range(2):
            assert (
                fit(tmp_path, checkpoint=tmp_path / f"epoch={epoch}.ckpt").trained == whole.trained[12 * epoch + 12 :]
            )

    def test_after_a_failure_the_batch_that_failed_comes_again(self, tmp_path):
        whole = fit(tmp_path)
        with pytest.raises(KeyError, match="on purpose"):
            fit(tmp_path, OnExceptionCheckpoint(tmp_path), module=Remembers(fails_at=18))
        assert fit(tmp_path, checkpoint=tmp_path / "on_exception.ckpt").trained == whole.trained[17:]

    def test_with_accumulated_gradients(self, tmp_path):
        saved = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=4, save_top_k=-1)
        whole = fit(tmp_path, saved, accumulate_grad_batches=3)
        resumed = fit(tmp_path, checkpoint=tmp_path / "step=8.ckpt", accumulate_grad_batches=3)
        assert resumed.trained == whole.trained[24:]

    def test_after_validation_inside_an_epoch(self, tmp_path):
        saved = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=0, every_n_epochs=1, save_top_k=-1)
        whole = fit(tmp_path, saved, val_check_interval=6, max_epochs=2)
        resumed = fit(tmp_path, checkpoint=tmp_path / "step=6.ckpt", val_check_interval=6, max_epochs=2)
        assert resumed.trained == whole.trained[6:]

    def test_the_checkpoint_has_the_state_of_the_loader(self, tmp_path):
        fit(tmp_path, ModelCheckpoint(tmp_path, filename="kept", every_n_train_steps=17), max_steps=20)
        saved = torch.load(tmp_path / "kept.ckpt", weights_only=False)["CellDataModule"]
        assert (saved["pass"], saved["batch"], saved["num_cells"]) == (1, 5, NUM_CELLS)

    def test_an_epoch_that_the_last_step_ended_is_done_as_for_lightning(self, tmp_path):
        trainer = make_trainer(tmp_path, max_steps=5)
        trainer.fit(Remembers(), datamodule=cells())
        trainer.save_checkpoint(tmp_path / "last.ckpt")
        saved = torch.load(tmp_path / "last.ckpt", weights_only=False)["CellDataModule"]
        assert (saved["pass"], saved["batch"]) == (1, 0)
        assert fit(tmp_path, checkpoint=tmp_path / "last.ckpt").trained == fit(tmp_path).trained[12:]

    def test_with_other_cells_is_refused(self, tmp_path):
        fit(tmp_path, ModelCheckpoint(tmp_path, filename="kept", every_n_train_steps=5), max_epochs=1)
        with pytest.raises(ConfigError, match=r"the number of training cells is 50 here and 93 in the checkpoint"):
            fit(tmp_path, checkpoint=tmp_path / "kept.ckpt", datamodule=cells(train=loader(sizes=(50,))))


class TestTwoProcesses:
    @pytest.mark.slow
    def test_they_share_the_cells_and_step_alike(self, tmp_path):
        datamodule = cells(train=loader_of)
        module = Remembers(folder=tmp_path)
        settings = {"strategy": "ddp_spawn", "devices": 2, "max_epochs": 2, "num_sanity_val_steps": 0}
        fit(tmp_path, datamodule=datamodule, module=module, **settings)
        found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
        assert len(found[0]["trained"]) == len(found[1]["trained"]) == 12
        for epoch in range(2):
            both = [of_epoch(part["trained"], epoch) for part in found]
            assert sorted(itertools.chain(*both)) == list(range(NUM_CELLS))
        validated = [cell for part in found for batch in part["validated"] for cell in batch]
        assert sorted(validated) == sorted([*range(NUM_CELLS)] * 2)


class TestWhatIsRefused:
    def test_no_training_cells(self):
        with pytest.raises(ConfigError, match=r"no training cells; make it with train="):
            CellDataModule().train_dataloader()

    def test_the_loader_of_one_of_several_processes(self):
        with pytest.raises(ConfigError, match=r"train= has a loader of one of 2 processes; give that of one process"):
            CellDataModule(train=loader(world_size=2)).train_dataloader()


class TestWhichLightning:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["lightning.pytorch", "pytorch_lightning"])
    def test_it_is_the_one_imported_already(self, name):
        code = f"import {name} as pl; from scmodelforge.training import CellDataModule as C; import sys; " + (
            "sys.exit(not issubclass(C, pl.LightningDataModule))"
        )
        assert subprocess.run([sys.executable, "-c", code]).returncode == 0
