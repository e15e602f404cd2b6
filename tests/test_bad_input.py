"""What users get wrong, through the command line: one clear line, exit status 2, nothing half-written."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from tests.conftest import make_adata
from tests.test_life_cycle import settings


def refused(tmp_path: Path, data: Path, *words: str, **changes) -> str:
    """Train with the settings changed; it must be refused, and leave no run folder. Return the error."""
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(settings(data, tmp_path / "run", **changes)))
    result = CliRunner().invoke(app, ["train", "--config", str(config), *words])
    assert result.exit_code == 2, result.output + str(result.exception)
    assert not (tmp_path / "run").exists()
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    assert "Traceback" not in result.stderr
    return errors[0]


def written(path: Path, counts: np.ndarray) -> Path:
    adata = make_adata(*counts.shape)
    adata.X = type(adata.X)(counts.astype(np.float32))
    adata.write_h5ad(path)
    return path


@pytest.fixture
def counts() -> np.ndarray:
    return make_adata(60, 40).X.toarray()


class TestFiles:
    def test_missing_file(self, tmp_path, tiny_h5ad):
        assert "tiny.h5ad" in refused(tmp_path, tiny_h5ad.with_name("tinny.h5ad"))  # names the nearest

    def test_not_an_h5ad(self, tmp_path):
        text = tmp_path / "cells.h5ad"
        text.write_text("gene,cell\n")
        assert "not an .h5ad file" in refused(tmp_path, text)

    def test_truncated_h5ad(self, tmp_path, tiny_h5ad):
        cut = tmp_path / "cut.h5ad"
        cut.write_bytes(tiny_h5ad.read_bytes()[:6000])
        assert "cut.h5ad" in refused(tmp_path, cut)

    def test_unknown_data_set(self, tmp_path):
        assert "pbmc68k_reduced" in refused(tmp_path, Path("x"), data__paths=["dataset://pbmc68k"])


class TestValues:
    @pytest.mark.parametrize(
        ("value", "words"), [(np.nan, "NaN"), (np.inf, "infinite"), (-1.0, "negative"), (0.5, "not a whole number")]
    )
    def test_value_that_is_no_count(self, tmp_path, counts, value, words):
        counts[7, 3] = value
        message = refused(tmp_path, written(tmp_path / "bad.h5ad", counts), data__layer="X")
        assert words in message
        assert "'cell7'" in message
        assert "ENSG00000000004" in message

    def test_normalised_where_counts_are_needed(self, tmp_path, counts):
        logged = np.log1p(counts / counts.sum(1, keepdims=True) * 1e4)
        message = refused(tmp_path, written(tmp_path / "log.h5ad", logged))
        assert "log1p" in message
        assert "data.layer" in message

    def test_empty_cells_are_skipped_and_counted(self, tmp_path, counts):
        counts[[3, 30]] = 0
        path = written(tmp_path / "two_empty.h5ad", counts)
        config = tmp_path / "run.yaml"
        config.write_text(yaml.safe_dump(settings(path, tmp_path / "run", training__max_epochs=1, eval__benchmarks=[])))
        result = CliRunner().invoke(app, ["train", "--config", str(config)])
        assert result.exit_code == 0, result.output
        assert "skipped 2 of 60 cells" in result.stderr

    def test_only_empty_cells(self, tmp_path, counts):
        assert "all 60 cells are empty" in refused(tmp_path, written(tmp_path / "zero.h5ad", counts * 0))


class TestGenesAndColumns:
    def test_no_gene_overlap_says_which_ids_were_seen(self, tmp_path):
        path = tmp_path / "mouse.h5ad"
        make_adata(60, 40, prefix="ENSMUSG").write_h5ad(path)
        message = refused(tmp_path, path, data__gene_vocab="human_protein_coding")
        assert "None of the 40 genes of mouse.h5ad" in message
        assert "mouse Ensembl ids" in message

    def test_absent_label_column_lists_those_there_are(self, tmp_path, tiny_h5ad):
        message = refused(tmp_path, tiny_h5ad, data__label_column="celltype")
        assert "'celltype'" in message
        assert "cell_type, donor_id, batch" in message

    def test_absent_split_column(self, tmp_path, tiny_h5ad):
        assert "donor_id" in refused(tmp_path, tiny_h5ad, data__split={"by": "donor"})

    def test_a_benchmark_without_its_column(self, tmp_path, tiny_h5ad):
        message = refused(tmp_path, tiny_h5ad, data__batch_column=None, eval__benchmarks=["batch_integration"])
        assert "data.batch_column" in message


class TestFolders:
    def test_unwritable_folder(self, tmp_path, tiny_h5ad):
        locked = tmp_path / "locked"
        locked.mkdir()
        locked.chmod(stat.S_IRUSR | stat.S_IXUSR)
        if os.access(locked, os.W_OK):  # the superuser may write anywhere: a file in the way is refused all the same
            locked.rmdir()
            locked.write_text("")
        message = refused(tmp_path, tiny_h5ad, output__run_dir=str(locked / "run"))
        assert "locked" in message
        assert "output.run_dir" in message

    def test_force_does_not_delete_what_is_no_run(self, tmp_path, tiny_h5ad):
        mine = tmp_path / "thesis"
        mine.mkdir()
        (mine / "chapter1.txt").write_text("precious")
        assert "is not a run" in refused(tmp_path, tiny_h5ad, "--force", output__run_dir=str(mine))
        assert (mine / "chapter1.txt").read_text() == "precious"

    def test_checkpoints_around_the_run(self, tmp_path, tiny_h5ad):
        message = refused(tmp_path, tiny_h5ad, output__checkpoint_dir=str(tmp_path), output__run_dir=f"{tmp_path}/run")
        assert "output.checkpoint_dir" in message


class TestSettings:
    def test_unknown_activation_before_the_data_are_read(self, tmp_path):
        # The file is not there either; the model's mistake is found first, without reading anything.
        assert "unknown model.activation 'gellu'" in refused(tmp_path, Path("none.h5ad"), model__activation="gellu")

    def test_several_nodes_without_a_launcher(self, tmp_path, tiny_h5ad, monkeypatch):
        monkeypatch.delenv("MASTER_ADDR", raising=False)
        assert "torchrun --nnodes=2" in refused(tmp_path, tiny_h5ad, training__num_nodes=2)

    def test_held_out_cells_that_are_all_empty(self, tmp_path, counts):
        counts[[i for i in range(60) if i % 5 == 1]] = 0  # all cells of donor d1
        split = {"by": "donor_id", "validation_groups": ["d1"]}
        message = refused(tmp_path, written(tmp_path / "d1.h5ad", counts), data__split=split)
        assert "no held-out cell expresses a gene" in message

    def test_unknown_key_names_file_path_and_nearest(self, tmp_path, tiny_h5ad):
        message = refused(tmp_path, tiny_h5ad, model__hidden_dims=32)
        assert "run.yaml" in message
        assert "'model.hidden_dims'" in message
        assert "'hidden_dim'" in message

    def test_contradictory_settings(self, tmp_path, tiny_h5ad):
        message = refused(tmp_path, tiny_h5ad, tokenizer__max_genes=64)
        assert "tokenizer.max_genes (64) exceeds model.max_seq_len (24)" in message

    def test_more_gpus_than_there_are(self, tmp_path, tiny_h5ad):
        message = refused(tmp_path, tiny_h5ad, "--set", "training.num_gpus=64", "--set", "training.accelerator=gpu")
        assert "64 GPUs" in message
        assert "--set training.num_gpus=" in message

    def test_config_and_resume_together(self):
        result = CliRunner().invoke(app, ["train", "--config", "a.yaml", "--resume", "run"])
        assert result.exit_code == 2
        assert "either --config FILE" in result.stderr


class TestEmbed:
    def test_bad_values_leave_no_output(self, tmp_path, tiny_h5ad, counts):
        config = tmp_path / "run.yaml"
        config.write_text(
            yaml.safe_dump(settings(tiny_h5ad, tmp_path / "run", training__max_epochs=1, eval__benchmarks=[]))
        )
        assert CliRunner().invoke(app, ["train", "--config", str(config)]).exit_code == 0
        counts[5, 5] = np.nan
        bad = written(tmp_path / "bad.h5ad", counts)
        out = tmp_path / "out.h5ad"
        result = CliRunner().invoke(
            app, ["embed", str(bad), str(out), "--model", str(tmp_path / "run"), "--layer", "X"]
        )
        assert result.exit_code == 2
        assert "NaN" in result.stderr
        assert not list(tmp_path.glob("out.h5ad*"))

    def test_a_model_that_is_none(self, tmp_path, tiny_h5ad):
        result = CliRunner().invoke(app, ["embed", str(tiny_h5ad), str(tmp_path / "o.h5ad"), "--model", str(tmp_path)])
        assert result.exit_code == 2
        assert "neither a model folder nor a run folder" in result.stderr
        assert ad.read_h5ad(tiny_h5ad).n_obs == 60
