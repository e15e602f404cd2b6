"""``scmodelforge connectome``: what a user gets wrong is one line, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.test_connectome.brains import arguments
from tests.test_connectome.runs import ask, fails, regions_file, says, sets, starts

SHAPE = (18, 18)


def connectivity() -> np.ndarray:
    return arguments(num_regions=18, num_genes=6)["Y"]


def with_hole(array: np.ndarray, *place: int) -> np.ndarray:
    array = array.copy()
    array[place] = np.nan
    return array


def asymmetric() -> np.ndarray:
    array = connectivity()
    array[2, 5] += 1
    return array


class TestData:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"fc": np.zeros((18, 17))}, "connectivity has the shape (18, 17)"),
            ({"coords": np.zeros((18, 2))}, "coords has the shape (18, 2)"),
            ({"genes": np.asarray(["A", "B"])}, "genes has 2 names; a column of expression needs one each, 6."),
            (
                {"expression": with_hole(arguments(18, 6)["X"], 4, 1)},
                "All values are needed; --set data.missing=drop leaves",
            ),
            ({"fc": asymmetric()}, "If it has a direction, say so by --set data.directed=true"),
            ({"expression": None}, "has no array 'expression'"),
        ],
    )
    def test_a_file_that_does_not_fit(self, tmp_path, changes, words):
        path = regions_file(tmp_path / "atlas.npz", **changes)
        root = tmp_path / "run"
        line = fails("train", *sets(f"data.path={path}", "data.target=fc", f"output.run_dir={root}"))
        assert str(path) in line
        assert words in line
        assert not root.exists()

    def test_an_array_that_is_not_there_is_answered_with_the_nearest(self, tmp_path):
        path = regions_file(tmp_path / "atlas.npz")
        assert "Did you mean 'fc'?" in fails("baselines", *sets(f"data.path={path}", "data.target=fcc"))

    def test_of_two_matrices_one_must_be_named(self, tmp_path):
        path = regions_file(tmp_path / "atlas.npz", sc=connectivity())
        assert "as --set data.target=NAME." in fails("baselines", *sets(f"data.path={path}"))

    def test_of_a_table_the_target_is_a_file(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name, array in {"expr": arguments(18, 6)["X"], "fc": connectivity()}.items():
            pd.DataFrame(array).add_prefix("n").to_csv(f"{name}.csv")
        line = fails("baselines", *sets("data.path=expr.csv"))
        assert "target must be the file of connectivity, as --set data.target=FILE.csv." in line
        line = fails("baselines", *sets("data.path=expr.csv", "data.target=fc"))
        assert "must be the path of another table, as --set data.target=FILE.csv. Did you mean 'fc.csv'?" in line
        line = fails("baselines", *sets("data.path=expr.csv", "data.target=fc.csv", "data.coords=coords"))
        assert "must be the path of another table, as --set data.coords=FILE.csv." in line

    def test_no_coordinates_for_a_model_that_reads_them(self, tmp_path):
        path = regions_file(tmp_path / "atlas.npz", coords=None)
        root = tmp_path / "run"
        given = sets(f"data.path={path}", "data.target=fc", f"output.run_dir={root}", "model.cls_init=spatial")
        assert "with cls_init='spatial' reads coordinates and the data set has none" in fails("train", *given)
        assert not root.exists()

    def test_without_coordinates_the_table_says_so(self, tmp_path):
        path = regions_file(tmp_path / "atlas.npz", coords=None)
        said = says("baselines", *sets(f"data.path={path}", "data.target=fc"))
        assert "none: the regions have no coordinates" in said
        assert "coordinates alone: not known" in said

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            (["split.strategy=spatial", "split.folds=40"], "num_folds is 40 and there are 18 regions"),
            (["split.folds=9", "training.validation_share=0.05"], "training.validation_share is 0.05"),
        ],
    )
    def test_splits_that_leave_too_few_regions(self, tmp_path, settings, words):
        path = regions_file(tmp_path / "atlas.npz")
        result = ask(
            "train", *sets(f"data.path={path}", "data.target=fc", f"output.run_dir={tmp_path / 'r'}", *settings)
        )
        assert result.exit_code == 2
        assert words in result.stderr.splitlines()[-1]
        assert not (tmp_path / "r").exists()


class TestSettings:
    @pytest.mark.parametrize(
        ("setting", "words"),
        [
            ("training.epoch=3", "unknown setting 'connectome.training.epoch'. Did you mean 'epochs'?"),
            ("connectome.training.epoch=3", "unknown setting 'connectome.training.epoch'. Did you mean 'epochs'?"),
            ("model.d_modl=3", "unknown setting 'connectome.model.d_modl'. Did you mean 'd_model'?"),
            ("model.learning_rate=1", "'learning_rate' is a setting of 'connectome.training'."),
            ("epochs=3", "'epochs' is a setting of 'connectome.training'."),
            ("model.name=cross_attention", "Did you mean 'cross_attention_gene2vec'?"),
            ("baselines=[kronecker]", "Did you mean 'kronecker_ridge'?"),
            ("split.strategy=regions", "it must be 'random', 'spatial', 'homotopic' or 'network'"),
            ("split.strategy=homotopc", "Did you mean 'homotopic'?"),
            ("split.test_share=0.2", "folds (3) and test_share (0.2) both say what to hold out"),
            ("split.seeds=[1, 1]", "seeds are [1, 1]; different whole numbers"),
            ("data.target=fc", "target has no effect without path"),
            ("data.planted.num_regions=41", "num_regions is 41; an even number is needed"),
            ("model.d_model=9", "d_model (9) is not divisible by nhead (2)"),
            ("model.pooling_mode=men", "Did you mean 'mean'?"),
            ("model.gene_embeddings=nowhere.txt", "nowhere.txt"),
            ("training.batch_size=1", "connectome.training.batch_size is 1; it must be at least 2."),
            ("training.learning_rate=.inf", "it must be a finite number"),
        ],
    )
    def test_a_wrong_setting_is_named(self, tmp_path, monkeypatch, setting, words):
        monkeypatch.chdir(tmp_path)
        assert words in fails("train", *sets("data.planted.num_regions=24", setting))
        assert not list(tmp_path.iterdir())

    def test_a_file_of_another_kind_of_run(self, tmp_path):
        path = tmp_path / "cells.yaml"
        path.write_text("data:\n  paths: [cells.h5ad]\n")
        result = ask("train", path)
        assert result.exit_code == 2
        assert "unknown setting 'data'. 'data' is a setting of 'connectome'." in result.stderr

    def test_two_files(self, tmp_path):
        assert "two settings files were given" in fails("train", tmp_path / "a.yaml", "--config", tmp_path / "b.yaml")

    @pytest.mark.parametrize(("name", "more"), [("own.npz", ""), ("own.csv", " --set data.target=FILE.csv")])
    @pytest.mark.parametrize("command", ["train", "baselines"])
    def test_a_file_of_data_in_the_place_of_one_of_settings(self, tmp_path, command, name, more):
        path = tmp_path / name
        line = fails(command, path)
        assert line.endswith(
            f"holds data, and FILE is a settings file (YAML or TOML); give it as --set data.path={path}{more}"
        )

    @pytest.mark.parametrize("setting", ["data.path=atlas.npz", "connectome.data.path=atlas.npz"])
    def test_without_any_file_it_says_what_is_taken(self, setting):
        said = "no file was given: a planted brain is taken; --set data.path=FILE takes your own regions"
        assert said in ask("baselines", "--set", "epochs=1").stderr
        assert said not in ask("baselines", "--set", setting).stderr

    @pytest.mark.parametrize("command", ["predict", "plot"])
    def test_a_bare_command_shows_its_example(self, command):
        result = ask(command)
        assert result.exit_code == 2
        assert f"Example: scmodelforge connectome {command} " in result.output

    def test_a_file_that_is_not_there(self, tmp_path):
        assert "no such file" in fails("train", tmp_path / "a.yaml")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    path = regions_file(folder / "atlas.npz")
    given = [f"data.path={path}", "data.target=fc", f"output.run_dir={folder / 'run'}", "split.test_share=0.3"]
    starts(*given, "split.folds=null", "model.cls_init=spatial")
    return folder / "run"


class TestFolders:
    def test_a_run_is_not_replaced_unasked(self, run):
        line = fails("train", *sets(f"output.run_dir={run}"))
        assert f"Go on with that run: scmodelforge connectome train --resume {run}" in line
        assert "--force" in line

    def test_what_is_no_run_is_not_replaced_at_all(self, tmp_path):
        (tmp_path / "thesis.tex").write_text("mine")
        line = fails("train", *sets(f"output.run_dir={tmp_path}"), "--force")
        assert "it holds 'thesis.tex'" in line
        assert (tmp_path / "thesis.tex").read_text() == "mine"

    def test_a_run_has_its_own_settings(self, run):
        assert "--resume continues a run with its own settings" in fails("train", "--resume", run, "--force")

    def test_a_folder_that_is_no_run(self, tmp_path):
        assert "is not a connectome run" in fails("train", "--resume", tmp_path)


class TestPredict:
    def test_genes_that_are_not_there(self, run, tmp_path):
        path = regions_file(tmp_path / "other.npz", genes=np.asarray(["G0", "G1", "G2", "G3", "X", "Y"]))
        line = fails("predict", path, tmp_path / "out.npz", "--model", run)
        assert "lacks 2 of the 6 genes of the model: G4, G5" in line
        assert not (tmp_path / "out.npz").exists()

    def test_genes_that_are_rows(self, run, tmp_path):
        expression = pd.DataFrame(
            arguments(18, 6)["X"], [f"R{row}" for row in range(18)], [f"G{row}" for row in range(6)]
        )
        path = tmp_path / "turned.csv"
        expression.T.to_csv(path)
        line = fails("predict", path, tmp_path / "out.npz", "--model", run)
        assert "lacks 6 of the 6 genes of the model: G0, G1, G2, G3, G4 and 1 more" in line
        assert line.endswith("Its rows are named like genes: transpose it.")

    def test_no_coordinates_for_a_model_that_reads_them(self, run, tmp_path):
        path = regions_file(tmp_path / "other.npz", coords=None)
        assert "reads coordinates" in fails("predict", path, tmp_path / "out.npz", "--model", run)

    def test_regions_with_missing_values(self, run, tmp_path):
        path = regions_file(tmp_path / "other.npz", expression=with_hole(arguments(18, 6)["X"], 4, 1))
        line = fails("predict", path, tmp_path / "out.npz", "--model", run)
        assert "'R4'. All values are needed; --missing drop leaves these regions out." in line

    def test_a_file_of_another_kind(self, run, tmp_path):
        path = regions_file(tmp_path / "other.npz")
        assert "is none of .npz, .csv, .tsv and .h5ad" in fails("predict", path, tmp_path / "o.txt", "--model", run)
        assert "which is no .h5ad file" in fails("predict", path, tmp_path / "out.h5ad", "--model", run)

    def test_a_file_that_is_there(self, run, tmp_path):
        path = regions_file(tmp_path / "other.npz")
        (tmp_path / "out.csv").write_text("mine")
        assert "replace it with --force" in fails("predict", path, tmp_path / "out.csv", "--model", run)
        says("predict", path, tmp_path / "out.csv", "--model", run, "--force")
        assert pd.read_csv(tmp_path / "out.csv", index_col=0).shape == SHAPE

    def test_no_model(self, tmp_path):
        path = regions_file(tmp_path / "other.npz")
        assert "model.json" in fails("predict", path, tmp_path / "out.npz", "--model", tmp_path)

    def test_no_folder_of_a_model(self, tmp_path):
        path = regions_file(tmp_path / "other.npz")
        line = fails("predict", path, tmp_path / "out.npz", "--model", tmp_path / "run")
        assert "--model needs the run folder of connectome train, or that of a saved model." in line

    def test_a_run_that_was_broken_off(self, tmp_path):
        path = regions_file(tmp_path / "other.npz")
        (tmp_path / "record.json").write_text("{}")
        line = fails("predict", path, tmp_path / "out.npz", "--model", tmp_path)
        assert line.endswith(f"Go on with it: scmodelforge connectome train --resume {tmp_path}")

    def test_the_input_is_not_written_over(self, run, tmp_path):
        path = regions_file(tmp_path / "other.npz")
        assert "is the input itself" in fails("predict", path, path, "--model", run, "--force")
