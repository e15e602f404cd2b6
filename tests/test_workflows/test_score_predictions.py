"""Files of predictions scored from the command line: baselines beside every score, mistakes said in a line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.cli.main import app
from scmodelforge.eval.compare import compare_records
from scmodelforge.eval.merging import Result, merged
from scmodelforge.eval.perturbation.conditions import Group
from scmodelforge.eval.perturbation.splits import split_perturbations
from scmodelforge.workflows.score_predictions import score_predictions
from tests.test_eval.test_perturbation.screens import DOUBLES, HELD_OUT, SINGLES, only, screen

BASELINES = ["no_change", "perturbed_mean", "additive", "linear", "linear_random", "nearest"]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("screen")
    screen().write_h5ad(folder / "screen.h5ad")
    only(screen(seed=1), HELD_OUT).write_h5ad(folder / "predicted.h5ad")
    return folder / "predicted.h5ad", folder / "screen.h5ad"


def score(files, **settings):
    given = {"scale": "log1p", "condition": "condition", "control": "control", "benchmarks": ["perturbbench"]}
    return score_predictions(*files, **{**given, **settings})


def test_every_baseline_stands_beside_every_score(files):
    found = score(files)
    own = [record for record in found.records if record.representation == "model"]
    assert {record.representation for record in found.records} == {"model", *BASELINES}
    for record in own:
        assert set(BASELINES) - set(record.baselines) <= {"no_change"}, record.metric  # whose changes are undefined
        assert record.noise_ceiling is not None
        assert record.tables["per_perturbation"]["perturbation"] == sorted(HELD_OUT)
        assert record.tables["by_num_seen"]["num_seen"] == [0, 1, 2]
        assert sum(record.tables["by_num_seen"]["n"]) == record.n == 5
        json.dumps(record.to_dict(), allow_nan=False)
    values = {record.metric: record for record in own}
    assert values["logfc_cosine"].value > values["logfc_cosine"].baselines["perturbed_mean"]


@pytest.mark.parametrize(("is_kept", "expected"), [([], "left out"), (["GENE001"], "the mean change for 3 of 5")])
def test_baselines_that_are_the_mean_change_are_said_or_left_out(files, tmp_path, is_kept, expected):
    real = ad.read_h5ad(files[1])
    perturbed = {gene for name in {*SINGLES, *DOUBLES, *HELD_OUT} for gene in name.split("+")}
    kept = [gene not in perturbed or gene in is_kept for gene in real.var_names]
    real[:, kept].write_h5ad(tmp_path / "real.h5ad")
    found = score((files[0], tmp_path / "real.h5ad"))
    (line,) = [line for line in found.lines if line.startswith("baseline ")]
    assert line.startswith(f"baseline linear, nearest: {expected}")
    assert {"linear", "nearest"}.isdisjoint({record.representation for record in found.records}) == (not is_kept)


def test_interval_is_over_perturbations(files):
    record = next(each for each in score(files).records if each.metric == "average_rmse")
    each = np.array(record.tables["per_perturbation"]["average_rmse"])
    low, high = record.interval
    assert each.min() <= low < record.value < high <= each.max()
    assert record.value == pytest.approx(each.mean())


def test_numbers_are_the_same_again(files):
    first, second = score(files).records, score(files).records
    assert [(each.key, each.value, each.interval) for each in first] == [
        (each.key, each.value, each.interval) for each in second
    ]


def test_a_split_says_what_is_scored(files, tmp_path):
    split = split_perturbations([Group("", name) for name in (*SINGLES, *DOUBLES)], "combination", held_out=0.7)
    split.write(tmp_path / "split.json")
    found = score(files, train_conditions=tmp_path / "split.json")
    record = found.records[0]
    assert record.tables["per_perturbation"]["perturbation"] == [group.perturbation for group in split.test]
    assert record.split_hash is not None
    assert any("not to be scored" in line for line in found.lines)


def test_vectors_of_genes_add_baselines(files, tmp_path):
    names = np.array([f"GENE{i:03d}" for i in range(10)])
    np.savez(tmp_path / "genes.npz", genes=names, vectors=np.eye(10, 4) + 0.1)
    found = score(files, gene_vectors=tmp_path / "genes.npz")
    assert {"linear_given", "nearest_given"} <= {record.representation for record in found.records}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": None}, "--scale is not given"),
        ({"condition": None}, "--condition is not given"),
        ({"control": "ctrl"}, "no cell has the condition 'ctrl'"),
        ({"benchmarks": ["embedding_quality"]}, "does not score predictions; with --predictions use one of: .*vcc"),
        ({"train_conditions": Path("none.txt")}, "none.txt cannot be read"),
        ({"gene_vectors": Path("none.npz")}, "--gene-vectors: no file"),
    ],
)
def test_mistakes_are_said(files, settings, message):
    with pytest.raises((ConfigError, DataError), match=message):
        score(files, **settings)


@pytest.mark.parametrize("what", ["conditions", "genes"])
def test_scores_of_as_many_others_cannot_be_compared(files, tmp_path, what):
    predicted = ad.read_h5ad(files[0])
    is_in = predicted.obs["condition"].isin(HELD_OUT[1:]), predicted.obs["condition"].isin(HELD_OUT[:-1])
    half = predicted.n_vars // 2
    parts = {
        "conditions": [predicted[each.to_numpy()] for each in is_in],
        "genes": [predicted[:, :half], predicted[:, half:]],
    }
    train = tmp_path / "train.txt"
    train.write_text("\n".join(name for name in SINGLES if name not in HELD_OUT))
    records = []
    for number, part in enumerate(parts[what]):
        part.copy().write_h5ad(tmp_path / f"{number}.h5ad")
        records.append(score((tmp_path / f"{number}.h5ad", files[1]), train_conditions=train).records)
    for each in compare_records(*records):
        assert any(reason.startswith(f"different scored_{what} ") for reason in each.obstacles), each.key
        assert each.difference is None
    shown = merged([Result(name, each) for name, part in zip("ab", records, strict=True) for each in part])
    assert not {each.key for each in shown if each.representation == "a"} & {
        each.key for each in shown if each.representation == "b"
    }


class TestCommand:
    def run(self, files, *options):
        predicted, real = map(str, files)
        own = ["--condition", "condition", "--control", "control", "--eval", "perturbbench"]
        return CliRunner().invoke(app, ["evaluate", "--predictions", predicted, "--data", real, *own, *options])

    def test_prints_one_table(self, files):
        result = self.run(files, "--scale", "log1p")
        assert result.exit_code == 0, result.output
        assert "logfc_cosine" in result.output

    def test_scale_is_never_guessed(self, files):
        result = self.run(files)
        assert result.exit_code == 2
        assert "--scale is not given" in result.output

    def test_logarithms_are_no_counts(self, files):
        result = self.run(files, "--scale", "counts")
        assert result.exit_code == 2
        assert "say --scale log1p if they are logged" in " ".join(result.output.split())

    def test_expected_counts_that_could_be_logarithms_are_pointed_out(self, files, tmp_path):
        real = ad.read_h5ad(files[1])
        real.X = real.X.rint()
        real.write_h5ad(tmp_path / "real.h5ad")
        result = self.run((files[0], tmp_path / "real.h5ad"), "--scale", "counts")
        assert result.exit_code == 0, result.output
        assert "they are taken for expected counts" in " ".join(result.output.split())

    def test_values_in_a_layer_alone_are_said(self, files, tmp_path):
        real = ad.read_h5ad(files[1])
        real.layers["counts"], real.X = real.X, None
        real.write_h5ad(tmp_path / "real.h5ad")
        result = self.run((files[0], tmp_path / "real.h5ad"), "--scale", "log1p")
        assert result.exit_code == 2
        assert "have no X" in result.output

    def test_nothing_is_read_that_is_not_scored(self, files, tmp_path):
        shutil.copyfile(files[1], tmp_path / "real.h5ad")
        with h5py.File(tmp_path / "real.h5ad", "r+") as file:
            for part in ("layers", "obsm", "uns"):
                file[part]["of no form that could be read"] = np.zeros(3)
                file[part]["of no form that could be read"].attrs["encoding-type"] = "unheard of"
        whole, again = score(files), score((files[0], tmp_path / "real.h5ad"))
        assert [each.value for each in again.records] == [each.value for each in whole.records]

    @pytest.mark.parametrize("damage", ["text", "cut", "empty"])
    def test_files_that_are_none_are_refused_in_a_line(self, files, tmp_path, damage):
        path = tmp_path / "real.h5ad"
        if damage == "empty":
            h5py.File(path, "w").close()
        else:
            path.write_bytes(b"no cells" if damage == "text" else files[1].read_bytes()[:-5000])
        result = self.run((files[0], path), "--scale", "log1p")
        assert result.exit_code == 2, result.output
        assert "real.h5ad cannot be read as an .h5ad file" in " ".join(result.output.split())

    def test_takes_no_model(self, files):
        result = self.run(files, "--scale", "log1p", "runs/model")
        assert result.exit_code == 2
        assert "takes the place of MODEL" in result.output


class TestExportForCellEval:
    def words(self, files, out: Path, *more: str) -> list[str]:
        given = ["--condition", "condition", "--control", "control", "--scale", "log1p", "--eval", "perturbbench"]
        return ["evaluate", "--predictions", str(files[0]), "--data", str(files[1]), *given, *more, *_export(out)]

    def test_writes_what_was_scored(self, files, tmp_path):
        result = CliRunner().invoke(app, self.words(files, tmp_path / "vcc"))
        assert result.exit_code == 0, result.output
        assert "cell-eval run -ap" in result.output
        pred, real = (ad.read_h5ad(tmp_path / "vcc" / name) for name in ("pred.h5ad", "real.h5ad"))
        assert list(pred.var_names) == list(real.var_names)
        for cells in (pred, real):
            assert set(cells.obs["target_gene"]) == {*HELD_OUT, "non-targeting"}
        original = ad.read_h5ad(files[0])
        for name in HELD_OUT:
            expected = np.asarray(original[original.obs["condition"] == name].X.mean(axis=0)).ravel()
            found = np.asarray(pred[pred.obs["target_gene"] == name].X.mean(axis=0)).ravel()
            order = [original.var_names.get_loc(gene) for gene in pred.var_names]
            np.testing.assert_allclose(found, expected[order], atol=1e-5)

    def test_replaces_nothing_and_says_so_before_anything_is_scored(self, files, tmp_path):
        result = CliRunner().invoke(app, self.words(files, tmp_path))
        assert result.exit_code == 2
        assert "exists; name another folder" in result.output

    def test_that_cannot_be_written_leaves_no_records(self, files, tmp_path):
        real = [ad.read_h5ad(path) for path in files]
        for each, name in zip(real, ("predicted", "screen"), strict=True):
            each.obs["condition"] = each.obs["condition"].astype(str).replace("GENE005", "non-targeting")
            each.write_h5ad(tmp_path / f"{name}.h5ad")
        own = tmp_path / "predicted.h5ad", tmp_path / "screen.h5ad"
        result = CliRunner().invoke(app, self.words(own, tmp_path / "vcc", "--out", str(tmp_path / "scores.jsonl")))
        assert result.exit_code == 2
        assert "the condition 'non-targeting' is scored" in " ".join(result.output.split())
        assert sorted(path.name for path in tmp_path.iterdir()) == ["predicted.h5ad", "screen.h5ad"]

    def test_comes_before_the_records(self, files, tmp_path, monkeypatch):
        def full(adata, path):
            msg = "no space"
            raise OSError(msg)

        monkeypatch.setattr(ad.AnnData, "write_h5ad", full)
        with pytest.raises(DataError, match=r"cannot be written \(no space\)"):
            score(files, out=tmp_path / "scores.jsonl", export_to=tmp_path / "vcc")
        assert list(tmp_path.iterdir()) == []

    def test_needs_predictions(self, tmp_path):
        result = CliRunner().invoke(app, ["evaluate", str(tmp_path), *_export(tmp_path / "vcc")])
        assert result.exit_code == 2
        assert "--export-cell-eval has no effect with MODEL" in result.output


def _export(folder: Path) -> list[str]:
    return ["--export-cell-eval", str(folder)]
