"""Cells that a base model was trained on, in a run that adapts it, and what the new model says of both sets."""

from __future__ import annotations

import json
import shlex

import anndata as ad
import numpy as np
import pytest
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from scmodelforge.data.cell_sketch import CellSketch
from scmodelforge.data.joined_sketch import joined
from scmodelforge.hub.bundle import load_bundle
from scmodelforge.hub.sketch_file import load_sketch, save_sketch
from tests.conftest import make_adata
from tests.test_life_cycle import invoke, train

GENES = np.ones(5, dtype=bool)


def sketch(identities: np.ndarray, size: int) -> CellSketch:
    known = np.unique(identities)
    return CellSketch(known[:size], len(known) <= size, GENES)


class TestJoined:
    @pytest.mark.parametrize(("one", "two", "size"), [(50, 80, 1000), (500, 80, 100), (80, 500, 100), (400, 700, 100)])
    def test_it_is_the_sketch_of_all_cells_as_far_as_both_know(self, one, two, size):
        rng = np.random.default_rng(0)
        first, second = (rng.integers(1, 2**63, n, dtype=np.uint64) for n in (one, two))
        second[:20] = first[:20]
        found = joined(sketch(first, size), sketch(second, size), size=size)
        whole = sketch(np.concatenate([first, second]), size)
        assert found.is_whole == (whole.is_whole and max(one, two) <= size)
        np.testing.assert_array_equal(found.identities, whole.identities[: len(found.identities)])
        assert len(found.identities) > 0
        # no cell of either set below the limit is missed, which 'not trained on' rests upon
        for cells in (first, second):
            shared = found.shared(cells)
            assert shared.found == shared.checked

    def test_other_genes_are_refused(self):
        other = CellSketch(np.zeros(0, dtype=np.uint64), True, np.zeros(5, dtype=bool))
        with pytest.raises(ValueError, match="different genes"):
            joined(sketch(np.arange(1, 9, dtype=np.uint64), 10), other)


def test_what_is_not_all_says_yes_but_never_no(tmp_path):
    cells = np.arange(1, 1001, dtype=np.uint64)
    part = CellSketch(cells, True, GENES, is_complete=False)
    save_sketch(part, tmp_path)
    again = load_sketch(tmp_path)
    assert again.is_complete is False
    assert again.shared(cells).verdict is True
    assert again.shared(cells + np.uint64(5000)).verdict is None
    save_sketch(CellSketch(cells, True, GENES), tmp_path)
    assert load_sketch(tmp_path).shared(cells + np.uint64(5000)).verdict is False


@pytest.mark.parametrize("is_known", [True, False])
def test_a_fine_tuned_model_tells_of_both_sets(is_known, tmp_path):
    make_adata(90, 40).write_h5ad(tmp_path / "first.h5ad")
    make_adata(80, 40, seed=1).write_h5ad(tmp_path / "second.h5ad")
    base = train(tmp_path, tmp_path / "first.h5ad", "base", eval__benchmarks=[], training__max_epochs=1)
    if not is_known:
        (base / "model" / "trained_cells.safetensors").unlink()
    known = load_bundle(base / "model").trained_cells
    held_out = json.loads((base / "splits.json").read_text())["groups"]
    seen = next(name for name in ("d0", "d1", "d2", "d3", "d4") if name not in held_out)
    said = {}
    for data in ("first", "second"):
        config = tmp_path / f"{data}.yaml"
        config.write_text(
            f"data: {{paths: [{tmp_path / data}.h5ad], label_column: cell_type, num_workers: 0, "
            f"split: {{by: donor_id, validation_groups: [{seen}]}}}}\n"
            f"finetune: {{base_model: {base}, task: cell_type_annotation}}\n"
            "training: {batch_size: 32, max_epochs: 1, accelerator: cpu}\n"
            f"eval: {{benchmarks: []}}\noutput: {{run_dir: {tmp_path / 'tuned'}_{data}, tensorboard: false}}\n"
        )
        said[data] = " ".join(invoke("train", "--config", config).split())
    facts = {data: json.loads((tmp_path / f"tuned_{data}" / "run.json").read_text()) for data in said}
    assert ("was trained on" in said["first"] and "of the held-out cells" in said["first"]) == is_known
    assert "of the held-out cells" not in said["second"]
    own = load_bundle(tmp_path / "tuned_second" / "model").trained_cells
    assert own.is_complete == is_known
    if not is_known:
        assert facts["first"]["cells_of_base"] is None
        return
    assert facts["first"]["cells_of_base"]["found"] > 0
    assert facts["second"]["cells_of_base"]["found"] == 0
    assert own.shared(known.identities).share == 1
    assert len(own.identities) > len(known.identities)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    make_adata(90, 40).write_h5ad(folder / "cells.h5ad")
    return train(folder, folder / "cells.h5ad", "base", eval__benchmarks=[], training__max_epochs=1)


class TestHoldingOutWhatIsNew:
    """What the warning names is typed as it stands there, and then nothing is warned of."""

    def tuned(self, base, data, tmp_path, *words):
        small = ("training.max_epochs=1", "training.accelerator=cpu", "eval.benchmarks=[]", "data.num_workers=0")
        sets = [word for each in small for word in ("--set", each)]
        given = ("--base-model", base, "--data", data, "--task", "cell_type_annotation", "--label", "cell_type")
        return " ".join(invoke("finetune", *given, *sets, *words, "--out", tmp_path, "--force").split())

    @pytest.mark.parametrize(("is_same_file", "named"), [(True, "{file: "), (False, "validation_groups: [")])
    def test_the_cells_that_the_run_held_out(self, base, tmp_path, is_same_file, named):
        data = base.parent / "cells.h5ad"
        if not is_same_file:
            data = tmp_path / "others.h5ad"
            adata = ad.read_h5ad(base.parent / "cells.h5ad")
            adata[np.arange(adata.n_obs)[::-1]].write_h5ad(data)
        held_out = json.loads((base / "splits.json").read_text())["groups"]
        seen = next(name for name in ("d0", "d1", "d2", "d3", "d4") if name not in held_out)
        said = self.tuned(
            base, data, tmp_path / "run", "--set", f"data.split={{by: donor_id, validation_groups: [{seen}]}}"
        )
        option = said.split("hold out those that its run held out: ")[1]
        assert named in option
        words = shlex.split(option[: option.index("}'") + 2])
        again = self.tuned(base, data, tmp_path / "again", *words)
        assert "of the held-out cells" not in again
        facts = json.loads((tmp_path / "again" / "run.json").read_text())
        assert facts["cells_of_base"]["found"] == 0
        assert json.loads((tmp_path / "again" / "splits.json").read_text())["num_validation"] > 0

    def test_a_split_that_lies_in_no_run_says_so(self, base, tmp_path):
        (tmp_path / "splits.json").write_text((base / "splits.json").read_text())
        words = ["finetune", "--base-model", str(base), "--data", str(base.parent / "cells.h5ad"), "--task"]
        words += ["cell_type_annotation", "--label", "cell_type", "--out", str(tmp_path / "run")]
        result = CliRunner().invoke(app, [*words, "--set", f"data.split={{file: {tmp_path / 'splits.json'}}}"])
        assert result.exit_code == 2
        assert "no run.json beside it does" in " ".join(result.output.split())
