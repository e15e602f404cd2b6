"""Mechanisms of compounds and facts of cell lines through pertpy; .ci/full installs pertpy for these tests."""

from __future__ import annotations

import anndata as ad
import pandas as pd
import pytest

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.data.perturbation import annotate
from tests.conftest import make_adata
from tests.test_data.h5ad_files import write
from tests.test_data.test_perturbation import column

pytestmark = pytest.mark.filterwarnings("default")  # those of pertpy and of what it imports are not ours

CLUE = (
    """!a line
"""
    * 9
    + "pert_iname\tclinical_phase\tmoa\ttarget\naspirin\tLaunched\tcyclooxygenase inhibitor\tPTGS1|PTGS2\n"
)


class TestAnnotate:
    def cells(self) -> ad.AnnData:
        cells = make_adata(6, 5)
        cells.obs["drug"] = pd.Categorical(["Aspirin", "DMSO", "Aspirin", "other", "other", "DMSO"])
        return cells

    def test_a_file_fetched_before_is_enough(self, tmp_path):
        (tmp_path / "repurposing_drugs_20200324.txt").write_text(CLUE)
        found = annotate(self.cells(), "moa", column="drug", cache=tmp_path)
        assert column(found, "moa")[:2] == ["cyclooxygenase inhibitor", None]
        assert column(found, "target")[:2] == ["PTGS1|PTGS2", None]
        assert list(found.obs_names) == list(self.cells().obs_names)
        assert found.obs["drug"].dtype == "category"
        write(tmp_path, found)  # and can be saved

    def test_cell_lines_have_the_columns_asked_for(self, tmp_path):
        (tmp_path / "depmap_23Q4_info.csv").write_text("ModelID,CellLineName,Sex\nACH-1,K562,Female\nACH-2,A549,Male\n")
        cells = make_adata(3, 5)
        cells.obs["line"] = ["K562", "A549", "HeLa"]
        settings = {"reference_id": "cell_line_name", "fetch": ["Sex"]}
        found = annotate(cells, "cell_line", column="line", cache=tmp_path, **settings)
        assert column(found, "Sex") == ["Female", "Male", None]

    def test_nothing_known_is_refused(self, tmp_path):
        (tmp_path / "repurposing_drugs_20200324.txt").write_text(CLUE)
        with pytest.raises(DataError, match=r"obs column 'batch' cannot be annotated with 'moa': No matches between"):
            annotate(self.cells(), "moa", column="batch", cache=tmp_path)

    @pytest.mark.slow
    def test_without_a_network_it_says_what_to_fetch(self, tmp_path, monkeypatch):
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        words = (
            r"'moa' needs https://s3.*repurposing.*, which cannot be reached; fetch it elsewhere and save it as .*2020"
        )
        with pytest.raises(DataError, match=words):
            annotate(self.cells(), "moa", column="drug", cache=tmp_path)

    def test_unknown_kinds_and_columns_are_refused(self):
        with pytest.raises(ConfigError, match=r"kind is 'mao'; it must be one of: moa, cell_line, compound"):
            annotate(self.cells(), "mao", column="drug")
        with pytest.raises(DataError, match=r"obs has no column 'drugs'. Did you mean 'drug'\?"):
            annotate(self.cells(), "moa", column="drugs")
