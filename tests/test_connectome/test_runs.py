"""``scmodelforge connectome``: what a run leaves, that it can be repeated and gone on with, and what it predicts."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from torch.utils.data import DataLoader

from scmodelforge.config.connectome import dump_connectome_config, load_connectome_config
from scmodelforge.config.given import GivenSettings
from scmodelforge.connectome import ConnectomeModel, RegionPairDataset, connectivity_metrics, read_regions, region_folds
from scmodelforge.connectome.data import replaced
from scmodelforge.workflows.connectome import pace
from scmodelforge.workflows.connectome.fold import fit_model, run_fold
from scmodelforge.workflows.connectome.plan import Plan, training_pairs
from scmodelforge.workflows.connectome.standing import standings
from scmodelforge.workflows.connectome.train import default_settings, run_root, start_connectome
from tests.test_connectome.brains import arguments, brain
from tests.test_connectome.runs import SMALL, ask, fails, regions_file, says, sets, starts

MODEL = "cross_attention_gene2vec"


@pytest.fixture(scope="module")
def atlas(tmp_path_factory) -> Path:
    return regions_file(tmp_path_factory.mktemp("data") / "atlas.npz")


@pytest.fixture(scope="module")
def trained(atlas, tmp_path_factory):
    """Return the folder of a run over two seeds, and what it said."""
    root = tmp_path_factory.mktemp("runs") / "small"
    said = says("train", *sets(*of(atlas, root), "split.seeds=[0, 1]"))
    return root, said


def of(atlas: Path, root: Path) -> list[str]:
    return [f"data.path={atlas}", "data.target=fc", f"output.run_dir={root}"]


def read(root: Path, name: str):
    return json.loads((root / name).read_text())


class TestTrain:
    def test_every_predictor_has_a_row_for_each_fold_and_seed(self, trained):
        rows = read(trained[0], "scores.json")
        keys = {(row["name"], row["seed"], row["fold"]) for row in rows}
        names = {MODEL, "cge", "kronecker_ridge_coords"}  # coordinates alone stand beside, also where not asked for
        assert keys == {(name, seed, fold) for name in names for seed in (0, 1) for fold in (1, 2, 3)}
        assert len(rows) == len(keys)
        assert {(row["name"], row["kind"], row["uses"]) for row in rows} == {
            (MODEL, "model", "genes"),
            ("cge", "baseline", "genes"),
            ("kronecker_ridge_coords", "baseline", "coordinates"),
        }

    def test_predictions_are_of_pairs_whose_regions_were_both_held_out(self, trained, atlas):
        data = read_regions(atlas, "fc").pairs()
        expected = np.zeros((18, 18), dtype=bool)
        for split in [*region_folds(data, 3, seed=0), *region_folds(data, 3, seed=1)]:
            expected[np.ix_(split.test_regions, split.test_regions)] = True
        np.fill_diagonal(expected, False)
        with np.load(trained[0] / "predictions.npz") as arrays:
            np.testing.assert_array_equal(np.isfinite(arrays["predicted"]), expected)
            np.testing.assert_array_equal(arrays["true"], data.Y.numpy())
            np.testing.assert_array_equal(arrays["coords"], data.coords.numpy())
            assert arrays["regions"].tolist() == data.region_names
            assert arrays["network"].tolist() == data.networks.tolist()

    def test_scores_are_those_of_what_each_fold_predicts(self, trained, atlas):
        data = read_regions(atlas, "fc").pairs()
        for row in (row for row in read(trained[0], "scores.json") if row["name"] == MODEL):
            with np.load(trained[0] / "folds" / f"seed{row['seed']}_fold{row['fold']}.npz") as fold:
                scores = connectivity_metrics(data.targets(fold["items"]), fold["predicted"])
            assert row["inner"] == pytest.approx(scores)

    def test_differences_are_of_the_same_folds(self, trained):
        rows = read(trained[0], "scores.json")
        r = {(row["name"], row["seed"], row["fold"]): row["inner"]["pearson_r"] for row in rows}
        found = {each["against"]: each for each in read(trained[0], "comparison.json") if each["name"] == MODEL}
        assert set(found) == {"cge", "kronecker_ridge_coords"}
        for name, gap in found.items():
            gaps = [r[MODEL, *key] - r[name, *key] for (each, *key) in r if each == name]
            assert gap["mean"] == pytest.approx(np.mean(gaps))
            assert gap["num_better"] == sum(value > 0 for value in gaps)
            assert gap["num_folds"] == 6
            assert gap["low"] < gap["mean"] < gap["high"]

    def test_the_table_is_there_as_csv(self, trained):
        rows = read(trained[0], "scores.json")
        table = list(csv.DictReader((trained[0] / "scores.csv").read_text().splitlines()))
        assert [row["name"] for row in table] == [row["name"] for row in rows]
        assert float(table[0]["inner_pearson_r"]) == rows[0]["inner"]["pearson_r"]
        assert float(table[-1]["cross_mse"]) == rows[-1]["cross"]["mse"]

    def test_it_says_who_is_best_and_where_coordinates_stand(self, trained):
        metrics = {each["name"]: each["pearson_r_mean"] for each in read(trained[0], "metrics.json")}
        best = max(metrics, key=metrics.__getitem__)
        assert f"best on pairs of two held-out regions: {best} " in trained[1]
        assert "kronecker_ridge_coords" in trained[1]
        assert f"{metrics['cge']:.3f} ± " in trained[1]

    def test_pairs_of_genes_come_with_the_highest_attention_first(self, trained):
        table = pd.read_csv(trained[0] / "gene_pairs.csv")
        assert list(table.columns) == ["gene_i", "gene_j", "attention"]
        assert len(table) == 36
        assert (table["attention"].diff().dropna() <= 0).all()
        # attention of a gene over all genes of the other region sums to 1
        np.testing.assert_allclose(table.groupby("gene_i")["attention"].sum(), 1, rtol=1e-5)

    def test_the_record_names_software_data_and_seeds(self, trained):
        record = read(trained[0], "record.json")
        assert record["data"]["num_regions"] == 18
        assert record["seeds"] == [0, 1]
        assert "torch" in record["packages"]
        assert record["seconds"] > 0

    def test_a_model_without_attention_between_regions_leaves_no_pairs_of_genes(self, atlas, tmp_path):
        # its arguments are not those of the default model, so the file says all
        path = tmp_path / "shared.yaml"
        settings = {"name": "shared_self_attention", "d_model": 8, "nhead": 2, "num_layers": 1, "deep_hidden_dims": [6]}
        config = load_connectome_config(
            GivenSettings({"connectome": {"model": settings}}, path),
            ["training.epochs=1", f"data.path={atlas}", "data.target=fc", "split.test_share=0.3", "baselines=[cge]"],
        )
        path.write_text(dump_connectome_config(config))
        result = start_connectome(path, [f"output.run_dir={tmp_path / 'run'}"])
        assert not (tmp_path / "run" / "gene_pairs.csv").exists()
        assert "one fold says nothing of how sure that is" in " ".join(result.lines)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_default_model_finds_the_planted_rule_and_what_knows_distance_does_not(seed):
    settings = [f"data.planted.seed={seed}", "baselines=[bilinear, cge_distance, exponential_decay, kronecker_ridge]"]
    plan = Plan.of(load_connectome_config(default_settings(), settings))
    found = standings(run_fold(plan, plan.folds[0]).rows)
    assert found[0].name == MODEL
    assert found[0].mean > found[1].mean + 0.1


@pytest.fixture(scope="module")
def diverged(atlas, tmp_path_factory):
    """Return the folder of a run whose model diverges everywhere, and what the command answered."""
    root = tmp_path_factory.mktemp("runs") / "diverged"
    return root, ask("train", *sets(*of(atlas, root), "training.learning_rate=1e30", "training.epochs=3"))


class TestDiverged:
    def test_it_is_one_line_with_what_to_change(self, diverged):
        root, result = diverged
        assert result.exit_code == 1
        last = result.stderr.splitlines()[-1]
        assert last.startswith("error: the model of all 18 regions diverged (")
        assert "Start a new run with a lower training.learning_rate than 1e+30" in last
        assert not (root / "model").exists()

    def test_folds_and_baselines_are_kept_and_the_row_of_the_model_has_no_scores(self, diverged):
        root, result = diverged
        assert result.stderr.count(f"{MODEL} diverged (") == 3
        rows = read(root, "scores.json")
        of_model = [row for row in rows if row["name"] == MODEL]
        assert [row["fold"] for row in of_model] == [1, 2, 3]
        assert all(value is None for row in of_model for part in ("inner", "cross") for value in row[part].values())
        assert all(row["inner"]["mse"] > 0 for row in rows if row["name"] == "cge")
        assert {each["name"] for each in read(root, "metrics.json")} == {MODEL, "cge", "kronecker_ridge_coords"}
        again = ask("train", "--resume", root)
        assert again.stderr.count("done before") == 3


class TestWhatIsTriedFirst:
    def test_genes_of_a_later_fold_without_a_vector_are_found_before_the_first_is_fitted(self, tmp_path):
        # the gene that varies most depends on whether one region is held out
        data = arguments(num_regions=18, num_genes=6)
        split = region_folds(brain(num_regions=18, num_genes=6), 3)[0]
        x = 0.4 + 0.2 * data["X"]
        x[:, 0] = np.linspace(0, 1, 18)
        x[:, 1] = 0.5
        x[split.test_regions[0], 1] = 100
        path = regions_file(tmp_path / "atlas.npz", expression=x)
        (tmp_path / "vectors.txt").write_text("G0 1 2\n")
        settings = [*of(path, tmp_path / "run"), "data.max_genes=1", f"model.gene_embeddings={tmp_path}/vectors.txt"]
        line = fails("train", *sets(*settings))
        assert "has vectors of 1 genes, named like 'G0', and none of the 1 genes" in line
        assert not (tmp_path / "run").exists()

    def test_data_that_cannot_be_used_come_before_a_folder_that_is_in_the_way(self, tmp_path):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "thesis.tex").write_text("mine")
        path = regions_file(tmp_path / "atlas.npz", coords=None)
        assert "reads coordinates" in fails("train", *sets(*of(path, tmp_path / "run"), "model.cls_init=spatial"))


class TestWhereItGoes:
    @pytest.mark.parametrize(
        ("file", "data", "expected"),
        [
            ("default", None, "runs/connectome"),
            ("default", "atlas.npz", "runs/atlas"),
            ("own.yaml", "atlas.npz", "runs/own"),
        ],
    )
    def test_is_named_after_the_settings_or_the_data(self, file, data, expected):
        config = load_connectome_config(default_settings(), [] if data is None else [f"data.path={data}"])
        settings = default_settings() if file == "default" else Path(file)
        assert str(run_root(settings, config)) == expected


class TestPace:
    def test_every_epoch_and_baseline_has_a_line_but_only_after_a_while(self, trained, atlas, monkeypatch, caplog):
        caplog.set_level("INFO")
        plan = Plan.of(load_connectome_config(default_settings(), [*SMALL, *of(atlas, Path("none"))]))
        run_fold(plan, plan.folds[0])
        assert caplog.text.count("fold 1: ") == 0
        monkeypatch.setattr(pace, "_EVERY", 0.0)
        run_fold(plan, plan.folds[0])
        lines = [record.getMessage() for record in caplog.records if "fold 1: " in record.getMessage()]
        assert lines[0].startswith(f"seed 0, fold 1: {MODEL} epoch 1/1  train_loss ")
        assert "val_loss" in lines[0]
        assert "nan" not in lines[0]
        assert lines[1:] == [
            f"seed 0, fold 1: {MODEL} done",
            "seed 0, fold 1: 1 of 2 baselines done, cge the last",
            "seed 0, fold 1: 2 of 2 baselines done, kronecker_ridge_coords the last",
        ]


class TestFewBaselines:
    def test_a_run_may_have_none(self, tmp_path):
        path = regions_file(tmp_path / "atlas.npz", coords=None)
        rows = starts(*of(path, tmp_path / "run"), "baselines=[]").standings
        assert [each.name for each in rows] == [MODEL]

    def test_one_that_needs_coordinates_is_refused_before_anything_is_trained(self, tmp_path):
        path = regions_file(tmp_path / "atlas.npz", coords=None)
        line = fails("train", *sets(*of(path, tmp_path / "run"), "baselines=[exponential_decay]"))
        assert "exponential_decay, which needs coordinates, and the regions have none" in line
        assert not (tmp_path / "run").exists()


class TestRepeating:
    def test_a_seed_gives_the_same_run_again(self, trained, atlas, tmp_path):
        starts(*of(atlas, tmp_path / "again"), "split.seeds=[0, 1]")
        for name in ("scores.json", "comparison.json", "gene_pairs.csv"):
            assert (tmp_path / "again" / name).read_text() == (trained[0] / name).read_text()
        one, other = (load_file(root / "model" / "model.safetensors") for root in (trained[0], tmp_path / "again"))
        assert all(np.array_equal(one[name], other[name]) for name in one)

    def test_a_run_that_was_broken_off_goes_on_with_the_folds_that_are_left(self, trained, atlas, tmp_path):
        root = tmp_path / "broken"
        shutil.copytree(trained[0], root)
        (root / "folds" / "seed1_fold2.json").unlink()  # its arrays are there: it was killed between the two
        (root / "scores.json").unlink()
        shutil.rmtree(root / "model")
        kept = {path: path.stat().st_mtime_ns for path in (root / "folds").glob("seed0*")}
        said = says("train", "--resume", root)
        assert said.count("done before") == 5
        assert {path: path.stat().st_mtime_ns for path in kept} == kept
        for name in ("scores.json", "gene_pairs.csv"):
            assert (root / name).read_text() == (trained[0] / name).read_text()

    def test_a_fold_of_other_regions_is_done_again(self, trained, atlas, tmp_path):
        root = tmp_path / "stale"
        shutil.copytree(trained[0], root)
        path = root / "folds" / "seed0_fold1.json"
        fold = json.loads(path.read_text())
        fold["test_regions"], fold["train_regions"] = fold["train_regions"], fold["test_regions"]
        path.write_text(json.dumps(fold))
        assert says("train", "--resume", root).count("done before") == 5
        assert (root / "scores.json").read_text() == (trained[0] / "scores.json").read_text()

    def test_other_networks_are_refused(self, tmp_path):
        path = regions_file(tmp_path / "atlas.npz")
        starts(*of(path, tmp_path / "run"))
        regions_file(tmp_path / "atlas.npz", network=np.asarray(["A", "B"] * 9))
        assert "were changed since the run began" in fails("train", "--resume", tmp_path / "run")

    def test_other_gene_vectors_are_refused(self, atlas, tmp_path):
        vectors = tmp_path / "vectors.txt"
        vectors.write_text("".join(f"G{number} {number} 1\n" for number in range(6)))
        one_fold = ["split.test_share=0.3", "split.folds=null", f"model.gene_embeddings={vectors}"]
        starts(*of(atlas, tmp_path / "run"), *one_fold)
        vectors.write_text("".join(f"G{number} {number} 2\n" for number in range(6)))
        assert "were changed since the run began" in fails("train", "--resume", tmp_path / "run")
        vectors.unlink()
        assert "vectors.txt: the gene vectors cannot be read" in fails("train", "--resume", tmp_path / "run")

    def test_files_of_folds_are_json(self, trained):
        for path in (trained[0] / "folds").glob("*.json"):
            json.loads(path.read_text(), parse_constant=pytest.fail)

    @pytest.mark.slow
    def test_one_that_is_asked_to_stop_says_how_to_go_on(self, trained, atlas, tmp_path):
        root = tmp_path / "stopped"
        words = sets(*of(atlas, root), "split.seeds=[0, 1]")
        command = [sys.executable, "-m", "tests.test_connectome.stopped_run", "connectome", "train", *words]
        stopped = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300)
        assert stopped.returncode == 1
        assert stopped.stderr.splitlines()[-1] == f"go on with: scmodelforge connectome train --resume {root}"
        assert not (root / "scores.json").exists()
        assert "done before" in says("train", "--resume", root)
        assert (root / "scores.json").read_text() == (trained[0] / "scores.json").read_text()

    def test_another_file_is_refused(self, atlas, tmp_path):
        path = regions_file(tmp_path / "atlas.npz")
        starts(*of(path, tmp_path / "run"))
        regions_file(tmp_path / "atlas.npz", expression=np.random.default_rng(1).uniform(size=(18, 6)))
        result = ask("train", "--resume", tmp_path / "run")
        assert result.exit_code == 2
        assert "were changed since the run began" in result.stderr

    def test_other_settings_are_refused(self, atlas, tmp_path):
        starts(*of(atlas, tmp_path / "run"), "split.test_share=0.3", "split.folds=null")
        path = tmp_path / "run" / "config.yaml"
        path.write_text(path.read_text().replace("epochs: 1", "epochs: 2"))
        result = ask("train", "--resume", tmp_path / "run")
        assert result.exit_code == 2
        assert "config.yaml was changed since the run began" in result.stderr


class TestNothingLeaks:
    @pytest.fixture
    def config(self):
        sets = [*SMALL, "data.max_genes=4", "model.cls_init=spatial", "training.validation_share=0.25"]
        return load_connectome_config(default_settings(), sets)

    @staticmethod
    def changed(data: RegionPairDataset, rows: np.ndarray) -> RegionPairDataset:
        """Return other expression of some regions, and other connectivity of all pairs with one of them."""
        random = np.random.default_rng(7)
        other = replaced(data, data.X.numpy())
        for row in rows:
            other.X[row] = other.X.new_tensor(random.uniform(0, 3, size=data.num_genes))
            values = other.Y.new_tensor(random.normal(size=data.num_regions) * 5)
            other.Y[row], other.Y[:, row] = values, values
        return other

    def test_held_out_regions_do_not_reach_the_model(self, config):
        data = brain(num_regions=16, num_genes=6)
        split = region_folds(data, 4)[0]
        one = fit_model(config, data, split.train_regions, 0)
        other = fit_model(config, self.changed(data, split.test_regions), split.train_regions, 0)
        assert one.inputs.genes == other.inputs.genes
        weights = other.model.state_dict()
        assert all(weights[name].equal(tensor) for name, tensor in one.model.state_dict().items())

    def test_a_training_region_does_reach_it(self, config):
        data = brain(num_regions=16, num_genes=6)
        split = region_folds(data, 4)[0]
        one = fit_model(config, data, split.train_regions, 0)
        other = fit_model(config, self.changed(data, split.train_regions[:3]), split.train_regions, 0)
        weights = other.model.state_dict()
        assert not all(weights[name].equal(tensor) for name, tensor in one.model.state_dict().items())

    @pytest.mark.parametrize("strategy", ["random", "homotopic", "spatial", "network"])
    def test_validation_regions_are_of_training_and_not_trained_on(self, config, strategy):
        data = brain(num_regions=24, num_genes=6)
        config.split = config.split.model_copy(update={"folds": None, "strategy": strategy})
        split = region_folds(data, 4, strategy)[0]
        pairs = training_pairs(data, split.train_regions, config, 0)
        trained, chosen = (np.unique(data.pairs(items)) for items in (pairs.train, pairs.validation))
        assert not np.intersect1d(trained, chosen).size
        assert set(trained) | set(chosen) == set(split.train_regions)


class TestPredict:
    def test_is_what_the_saved_model_says(self, trained, atlas, tmp_path):
        says("predict", atlas, tmp_path / "out.npz", "--model", trained[0])
        data = read_regions(atlas, "fc").pairs()
        predictions, _ = ConnectomeModel.load(trained[0] / "model", data).predict(DataLoader(data, batch_size=64))
        pairs = data.pairs()
        with np.load(tmp_path / "out.npz") as arrays:
            np.testing.assert_allclose(arrays["predicted"][pairs[:, 0], pairs[:, 1]], predictions, rtol=1e-5)
            assert np.isnan(np.diagonal(arrays["predicted"])).all()
            assert arrays["regions"].tolist() == data.region_names

    def test_needs_no_connectivity_and_takes_genes_in_any_order(self, trained, atlas, tmp_path):
        with np.load(atlas) as arrays:
            x, genes, names = arrays["expression"], arrays["genes"], arrays["regions"]
        table = pd.DataFrame(x, names, genes)[[*reversed(genes)]]
        table.insert(0, "OTHER", 0.5)
        table.to_csv(tmp_path / "expression.csv")
        says("predict", tmp_path / "expression.csv", tmp_path / "out.csv", "--model", trained[0] / "model")
        says("predict", atlas, tmp_path / "out.npz", "--model", trained[0])
        found = pd.read_csv(tmp_path / "out.csv", index_col=0)
        assert list(found.columns) == list(found.index) == names.tolist()
        with np.load(tmp_path / "out.npz") as arrays:
            np.testing.assert_allclose(found.to_numpy(), arrays["predicted"], rtol=1e-4)

    def test_anndata_gets_a_matrix_in_obsp_with_regions_that_lack_values_left_out(self, trained, atlas, tmp_path):
        with np.load(atlas) as arrays:
            x, genes, names = arrays["expression"].astype(np.float32), arrays["genes"], arrays["regions"]
        x[3, 2] = np.nan
        path = tmp_path / "atlas.h5ad"
        ad.AnnData(x, pd.DataFrame(index=names), pd.DataFrame(index=genes)).write_h5ad(path)
        says("predict", path, tmp_path / "out.h5ad", "--model", trained[0], "--missing", "drop")
        found = ad.read_h5ad(tmp_path / "out.h5ad").obsp["predicted_connectivity"]
        is_known = ~np.eye(18, dtype=bool)
        is_known[3] = is_known[:, 3] = False
        np.testing.assert_array_equal(np.isfinite(found), is_known)
        says("predict", atlas, tmp_path / "out.npz", "--model", trained[0])
        with np.load(tmp_path / "out.npz") as arrays:
            np.testing.assert_allclose(found[is_known], arrays["predicted"][is_known], rtol=1e-5)

    def test_expression_outside_0_to_1_is_scaled_as_in_training(self, atlas, tmp_path):
        with np.load(atlas) as arrays:
            x = arrays["expression"] * 40 - 7
        path = regions_file(tmp_path / "raw.npz", expression=x)
        said = says("train", *sets(*of(path, tmp_path / "raw")))
        assert "each gene is scaled to [0, 1] over the regions of training" in said
        scaled = regions_file(tmp_path / "scaled.npz", expression=(x - x.min(axis=0)) / np.ptp(x, axis=0))
        starts(*of(scaled, tmp_path / "scaled"))
        says("predict", path, tmp_path / "a.npz", "--model", tmp_path / "raw")
        says("predict", scaled, tmp_path / "b.npz", "--model", tmp_path / "scaled")
        with np.load(tmp_path / "a.npz") as one, np.load(tmp_path / "b.npz") as other:
            np.testing.assert_allclose(one["predicted"], other["predicted"], rtol=1e-3, atol=1e-4)


class TestBaselines:
    def test_are_those_of_the_run_and_nothing_is_written(self, trained, atlas, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        result = ask(
            "baselines", "--json", *sets(f"data.path={atlas}", "data.target=fc"), "--set", "split.seeds=[0, 1]"
        )
        assert result.exit_code == 0, result.output
        found = {each["name"]: each for each in json.loads(result.stdout)}
        known = {each["name"]: each for each in read(trained[0], "metrics.json")}
        assert found == {name: each for name, each in known.items() if name != MODEL}
        assert not list(tmp_path.iterdir())

    def test_a_table_is_printed(self, atlas):
        said = says("baselines", *sets(f"data.path={atlas}", "data.target=fc"))
        assert "kronecker_ridge_coords" in said
        assert "model minus it" not in said
