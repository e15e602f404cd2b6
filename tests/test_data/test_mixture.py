from __future__ import annotations

import copy
import pickle
from importlib.util import find_spec

import numpy as np
import pytest

from scmodelforge._errors import ConfigError, DataError
from scmodelforge._registry import SOURCES
from scmodelforge.config import dump_config, load_config
from scmodelforge.config.schema import DataConfig, SamplingConfig
from scmodelforge.data.gather import read_rows
from scmodelforge.data.sources.local import LocalDataConfig
from scmodelforge.data.sources.mixture import MixtureDataConfig, MixtureSource
from scmodelforge.data.training_order import training_order
from scmodelforge.data.types import RowRange
from scmodelforge.workflows.config_hash import config_hash
from tests.conftest import make_adata

from .h5ad_files import dense, open_files
from .sources import MemorySource
from .test_sampling import source_positions


@pytest.fixture
def paths(tmp_path):
    """Four files: two folders with files of one name, and two more; genes and obs columns differ."""
    found = []
    for number, name in enumerate(("one/a.h5ad", "one/b.h5ad", "two/a.h5ad")):
        adata = make_adata(20 + number, 12 + number, seed=number)
        adata.obs["n"] = np.arange(adata.n_obs) + 100 * number
        if number == 2:
            adata.obs["only_here"] = "x"
            adata.obs["cell_type"] = adata.obs["cell_type"].cat.rename_categories({"type0": "kind0"})
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        adata.write_h5ad(path)
        found.append(str(path))
    return found


def mixture(*entries) -> MixtureSource:
    return MixtureSource(MixtureDataConfig(source="mixture", sources=list(entries)))


@pytest.fixture
def source(paths):
    return mixture(LocalDataConfig(paths=paths[:2]), LocalDataConfig(paths=paths[2:]))


class TestCells:
    def test_are_those_of_the_files_listed_in_one_source(self, source, paths):
        plain = open_files(*paths)
        assert source.file_sizes == plain.file_sizes == [20, 21, 22]
        for ours, theirs in zip(source.panels, plain.panels, strict=True):
            assert ours.gene_ids.tolist() == theirs.gene_ids.tolist()
        for rows in (RowRange(0, 0, 5), RowRange(1, 20, 21), RowRange(2, 3, 22)):
            ours, theirs = source.read(rows), plain.read(rows)
            assert np.array_equal(ours.positions, theirs.positions)
            assert np.array_equal(dense(ours), dense(theirs))
            assert ours.panel is source.panels[rows.file]
        ours, theirs = (read_rows(each, 2, np.array([7, 1, 7, 0])) for each in (source, plain))
        assert np.array_equal(ours.positions, theirs.positions)
        assert np.array_equal(dense(ours), dense(theirs))
        assert list(source.obs_names()) == list(plain.obs_names())
        assert source.describe() == [line for each in source._sources for line in each.describe()]
        assert [source.kind(file) for file in range(3)] == [plain.kind(file) for file in range(3)]

    def test_obs_columns_are_those_of_all_files(self, source, paths):
        plain = open_files(*paths)
        assert source.obs_columns == plain.obs_columns == ["cell_type", "donor_id", "batch", "n"]
        codes, categories = source.obs("cell_type")
        theirs, their_categories = plain.obs("cell_type")
        assert [categories[code] for code in codes] == [their_categories[code] for code in theirs]
        assert codes.dtype == np.int32
        assert np.array_equal(source.obs_numbers("n"), plain.obs_numbers("n"))
        assert source.obs_numbers("cell_type") is None
        with pytest.raises(DataError, match="has no column 'only_here'"):
            source.obs("only_here")

    def test_names_that_sources_have_in_common_are_told_apart(self, source):
        names = [panel.name for panel in source.panels]
        assert names == ["sources[0]/a.h5ad", "b.h5ad", "sources[1]/a.h5ad"]
        assert [entry["name"] for entry in source.fingerprint()] == names
        assert all(entry["sha256"] for entry in source.fingerprint())

    def test_a_copy_by_pickle_reads_the_same(self, source):
        copied = pickle.loads(pickle.dumps(source))
        source.close()
        assert np.array_equal(dense(copied.read(RowRange(2, 0, 9))), dense(source.read(RowRange(2, 0, 9))))

    def test_what_a_source_does_not_say_the_mixture_does_not_say(self, paths, monkeypatch):
        class PlainSource(MemorySource):
            def __init__(self, config):
                super().__init__([5], obs={"n": ["1", "2", None, "4", "5"]})

            def close(self):
                pass

        monkeypatch.setitem(SOURCES._parts, "plain_source", PlainSource)
        found = mixture(LocalDataConfig(paths=paths[:1]), DataConfig(source="plain_source"))
        assert not hasattr(found, "kind")
        assert not hasattr(found, "obs_numbers")
        assert found.file_sizes == [20, 5]
        assert found.obs_columns == ["n"]
        assert found.read(RowRange(1, 1, 3)).positions.tolist() == [21, 22]

    def test_files_that_are_not_there_are_named_with_their_entry(self, paths):
        with pytest.raises(DataError, match=r"^data\.sources\[1\]\.paths: no file '.*none\.h5ad'"):
            mixture(LocalDataConfig(paths=paths[:1]), LocalDataConfig(paths=["/none.h5ad"]))
        with pytest.raises(DataError, match=r"^data\.sources\[1\]: a\.h5ad has no layer 'no'"):
            mixture(LocalDataConfig(paths=paths[:1]), LocalDataConfig(paths=paths[2:], layer="no"))

    def test_a_path_in_two_entries_is_refused(self, paths):
        words = r"data\.sources\[1\]\.paths: '.*b\.h5ad' is listed in data\.sources\[0\] too; list it once"
        with pytest.raises(DataError, match=words):
            mixture(LocalDataConfig(paths=paths[:2]), LocalDataConfig(paths=paths[1:]))


class TestShares:
    def test_sources_are_drawn_by_weight(self, source):
        config = DataConfig(sampling=SamplingConfig(mode="weighted", by="source", weights={"0": 1, "1": 2}))
        order = training_order(source, np.arange(63), config, seed=0, global_batch_size=8)
        assert np.bincount(source_positions(order) >= 41).tolist() == [21, 42]


MIXED = """data:
  source: mixture
  gene_vocab: from_data
  sources:
    - {source: local, paths: [A]}
    - {paths: [B], layer: X}
  sampling: {mode: weighted, by: source, weights: {0: 1, 1: 3}}
"""


@pytest.mark.skipif(find_spec("torch") is None, reason="settings of a whole run need torch")
class TestSettings:
    def write(self, folder, text):
        path = folder / "run.yaml"
        path.write_text(text)
        return path

    def test_entries_are_parsed_as_their_own_class_and_written_the_same(self, tmp_path):
        config = load_config(self.write(tmp_path, MIXED))
        assert [type(entry) for entry in config.data.sources] == [LocalDataConfig, LocalDataConfig]
        assert (config.data.sources[1].paths, config.data.sources[1].layer) == (["B"], "X")
        assert config.data.sampling.weights == {"0": 1.0, "1": 3.0}
        text = dump_config(config)
        assert "block_size" in text
        assert text.count("block_size") == 1
        assert load_config(self.write(tmp_path, text)) == config

    def test_where_files_lie_does_not_make_another_run(self, tmp_path):
        config = load_config(self.write(tmp_path, MIXED))
        moved = copy.deepcopy(config)
        moved.data.sources[0].paths = ["elsewhere"]
        assert config_hash(moved) == config_hash(config)
        moved.data.sources[0].layer = "raw"
        assert config_hash(moved) != config_hash(config)

    @pytest.mark.parametrize(
        ("sources", "message"),
        [
            ("", "data.sources is empty; it must be a list of sources."),
            ("sources: []", "data.sources is []; it must be a list of sources."),
            ("sources: [cells.h5ad]", "data.sources[0] is 'cells.h5ad'; it must be a section with source and its "
             "settings."),
            ("sources: [{paths: [a]}, {paths: a}]", "data.sources[1].paths is 'a'; it must be a list of text."),
            ("sources: [{paths: [a]}, {}]", "'data.sources[1].paths' is missing; source 'local' needs it."),
            ("sources: [{paths: [a], path: b}]", "unknown setting 'data.sources[0].path'. Did you mean 'paths'?"),
            ("sources: [{source: locl, paths: [a]}]", "data.sources[0].source: unknown data source 'locl'. Did you "
             "mean 'local'?"),
            ("sources: [{paths: [a], block_size: 3}]", "data.sources[0].block_size holds for all sources together; "
             "move it to data.block_size."),
            ("sources: [{source: mixture}]", "data.sources[0].source is 'mixture' inside a mixture; list its sources "
             "here."),
        ],
    )  # fmt: skip
    def test_mistakes_are_told_with_their_path(self, tmp_path, sources, message):
        with pytest.raises(ConfigError) as caught:
            load_config(self.write(tmp_path, f"data:\n  source: mixture\n  {sources}\n"))
        (line,) = str(caught.value).splitlines()
        assert line.partition("run.yaml: ")[2].startswith(message)
