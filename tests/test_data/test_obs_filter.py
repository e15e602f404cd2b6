from __future__ import annotations

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.data.obs_filter import ObsFilter
from scmodelforge.data.sources._bytes import Descriptors
from scmodelforge.data.sources._frame import Frame
from scmodelforge.data.sources._hdf5 import H5adFile
from tests.conftest import make_adata

from .h5ad_files import open_files, write
from .sources import MemorySource

TABLE = pd.DataFrame(
    {
        "n_genes": [100, 200, 300, 400, 500, 600],
        "score": [0.5, np.nan, -1.0, 2.0, 0.0, 1e9],
        "tissue": pd.Categorical(["lung", "heart", None, "lung", "liver", "lung"]),
        "leiden": pd.Categorical(["0", "1", "10", "2", "1", "0"]),
        "cell type": ["B", "T", "B", "NK", "T", "it's `B`"],
        "is_doublet": [False, True, False, False, True, False],
    }
)


class TableSource(MemorySource):
    """The obs columns of a table as a source has them, with the kinds of columns where it knows them."""

    def __init__(self, table: pd.DataFrame) -> None:
        super().__init__([len(table)])
        self.table = table

    @property
    def obs_columns(self) -> list[str]:
        return list(self.table.columns)

    def obs(self, column):
        codes, categories = pd.factorize(self.table[column])
        return codes.astype(np.int32), [str(each) for each in categories]

    def obs_numbers(self, column):
        values = self.table[column]
        is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
        return values.to_numpy(np.float64) if is_number else None


class PlainSource(TableSource):
    """A source that does not know numbers from text."""

    obs_numbers = None


def kept(expression: str, table: pd.DataFrame = TABLE, source=TableSource) -> list[int]:
    return np.flatnonzero(ObsFilter(expression).keeps(source(table))).tolist()


class TestWhatIsKept:
    @pytest.mark.parametrize(
        ("expression", "rows"),
        [
            ("n_genes > 200", [2, 3, 4, 5]),
            ("200 <= n_genes < 500", [1, 2, 3]),
            ("300 == n_genes", [2]),
            ("score > -1.5 and score < 1", [0, 2, 4]),
            ("score != 0.5", [1, 2, 3, 4, 5]),  # a missing value is not 0.5
            ("not score > 0", [1, 2, 4]),
            ("isnull(score)", [1]),
            ("not isnull(tissue) and tissue != 'lung'", [1, 4]),
            ("tissue in ['lung', 'heart']", [0, 1, 3, 5]),
            ("tissue not in ('lung', 'heart')", [2, 4]),
            ("tissue == 'kidney'", []),
            ("n_genes in [100, 600.0, 7]", [0, 5]),
            ("n_genes in [-1, +100]", [0]),
            ("leiden == '1' or leiden > '10'", [1, 3, 4]),
            ("is_doublet", [1, 4]),
            ("not is_doublet and is_doublet == False", [0, 2, 3, 5]),
            ("is_doublet != True", [0, 2, 3, 5]),
            ("is_doublet == 'True'", [1, 4]),
            ("`cell type` == 'B'", [0, 2]),
            ('`cell type`in["T","NK"]', [1, 3, 4]),
            ('`cell type` == "it\'s `B`"', [5]),
            ("score < n_genes", [0, 2, 3, 4]),
            ("leiden != `cell type`", [0, 1, 2, 3, 4, 5]),
            ("n_genes > 200 and tissue in ['lung', 'heart'] and not is_doublet", [3, 5]),
            ("n_genes < 200 or\n (n_genes > 500\n)", [0, 5]),
        ],
    )
    def test_the_cells_the_expression_holds_for(self, expression, rows):
        assert kept(expression) == rows

    @pytest.mark.parametrize(
        ("expression", "rows"),
        [
            ("n_genes > 200", [2, 3, 4, 5]),
            ("n_genes in ['100']", [0]),
            ("leiden == 1", [1, 4]),
            ("leiden == '1'", [1, 4]),
            ("score < n_genes", [0, 2, 3, 4]),
            ("isnull(score)", [1]),
            ("not is_doublet", [0, 2, 3, 5]),
        ],
    )
    def test_of_a_source_without_kinds_a_column_is_what_it_is_compared_with(self, expression, rows):
        assert kept(expression, source=PlainSource) == rows

    @given(st.data())
    def test_is_what_pandas_keeps(self, data):
        table, expression = data.draw(tables()), data.draw(conditions())
        theirs = table.query(expression.replace("isnull(", "@pd.isnull("), engine="python", local_dict={"pd": pd})
        assert table.index[kept(expression, table)].tolist() == theirs.index.tolist()

    def test_on_a_file_with_every_kind_of_column(self, tmp_path):
        adata = make_adata(40, 10)
        adata.obs["n"] = np.arange(40)
        adata.obs["share"] = np.where(np.arange(40) % 7, np.arange(40) / 40, np.nan).astype(np.float32)
        adata.obs["nullable"] = pd.array([None if i % 5 == 0 else i for i in range(40)], dtype="Int64")
        adata.obs["flag"] = np.arange(40) % 2 == 0
        adata.obs["number_group"] = pd.Categorical([i % 3 for i in range(40)])
        adata.obs["text"] = [f"t{i % 4}" for i in range(40)]
        source = open_files(write(tmp_path, adata))
        table = adata.obs.assign(number_group=np.arange(40) % 3)
        for expression in (
            "n >= 10 and n != 12", "share < 0.5", "not share < 0.5", "nullable > 7", "flag", "not flag and n < 9",
            "number_group == 2", "text in ['t1', 't3']", "cell_type == 'type1' or donor_id in ['d0']", "n > share",
        ):  # fmt: skip
            expected = table.assign(nullable=table["nullable"].astype(float)).query(expression, engine="python")
            found = table.index[ObsFilter(expression).keeps(source)]
            assert found.tolist() == expected.index.tolist(), expression
        assert ObsFilter("isnull(nullable)").keeps(source).sum() == 8


@st.composite
def tables(draw):
    rows = draw(st.integers(1, 12))

    def column(values):
        return draw(st.lists(values, min_size=rows, max_size=rows))

    texts = st.sampled_from(["a", "b", "B c", "10", "2"])
    return pd.DataFrame(
        {
            "x": np.array(column(st.integers(-3, 3)), dtype=np.int64),
            "y": np.array(
                column(st.one_of(st.integers(-3, 3), st.none(), st.sampled_from([0.5, np.inf]))), dtype=float
            ),
            "t": pd.Series(column(st.one_of(texts, st.none())), dtype=object),
            "a b": pd.Series(column(texts), dtype=object),
            "flag": np.array(column(st.booleans()), dtype=bool),
        }
    )


def conditions() -> st.SearchStrategy[str]:
    order = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
    number, text = st.sampled_from(["x", "y"]), st.sampled_from(["t", "`a b`"])
    value = st.sampled_from(["0", "-1", "0.5", "2", "1e3"])
    word = st.sampled_from(["'a'", '"b"', "'B c'", "'10'", "'z'"])
    join = st.sampled_from(["and", "or"])
    simple = st.one_of(
        st.builds(" ".join, st.tuples(number, order, value)),
        st.builds(" ".join, st.tuples(value, order, number)),
        st.builds(" ".join, st.tuples(value, order, number, order, number)),
        st.builds(" ".join, st.tuples(text, st.sampled_from(["==", "!="]), word)),
        st.builds(" ".join, st.tuples(st.just("`a b`"), order, word)),
        st.builds(lambda c, i, v: f"{c} {i} [{', '.join(v)}]", number, st.sampled_from(["in", "not in"]),
                  st.lists(value, min_size=1, max_size=3)),
        st.builds(lambda c, i, v: f"{c} {i} [{', '.join(v)}]", text, st.sampled_from(["in", "not in"]),
                  st.lists(word, min_size=1, max_size=3)),
        st.builds("isnull({})".format, st.sampled_from(["x", "y", "t"])),
        st.just("flag"),
        st.just("flag == True"),
    )  # fmt: skip
    return st.recursive(
        simple,
        lambda inner: st.one_of(
            st.builds("not ({})".format, inner), st.builds("({}) {} ({})".format, inner, join, inner)
        ),
        max_leaves=5,
    )


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("expression", "piece"),
        [
            ("__import__('os').system('true')", "__import__('os').system('true')"),
            ("n_genes.__class__ == 1", "n_genes.__class__"),
            ("n_genes > len('abc')", "len('abc')"),
            ("n_genes[0] > 1", "n_genes[0]"),
            ("(lambda: 1)() > n_genes", "(lambda: 1)()"),
            ("[x for x in y] == n_genes", "[x for x in y]"),
            ("n_genes > 1 + 1", "1 + 1"),
            ("n_genes + 1", "n_genes + 1"),
            ("n_genes == f'{n_genes}'", "f'{n_genes}'"),
            ("n_genes == b'1'", "b'1'"),
            ("n_genes == 1j", "1j"),
            ("n_genes == None", "None"),
            ("n_genes == ...", "..."),
            ("n_genes is 1", "n_genes is 1"),
            ("n_genes == -True", "True"),
            ("-n_genes < 1", "n_genes"),
            ("~is_doublet", "~is_doublet"),
            ("is_doublet & is_doublet", "is_doublet & is_doublet"),
            ("(n := 1) == n_genes", "n := 1"),
            ("1", "1"),
            ("'text'", "'text'"),
            ("n_genes if is_doublet else n_genes", "n_genes if is_doublet else n_genes"),
            ("isnull('x')", "isnull('x')"),
            ("isnull(n_genes, 1)", "isnull(n_genes, 1)"),
            ("isnull(obj=n_genes)", "isnull(obj=n_genes)"),
            ("eval(n_genes)", "eval(n_genes)"),
            ("`cell type`.x == 1", "`cell type` .x"),
        ],
    )
    def test_all_but_conditions_with_the_piece_that_is_none(self, expression, piece):
        with pytest.raises(ConfigError) as caught:
            ObsFilter(expression)
        assert f": '{piece}' is not allowed there; allowed are obs columns" in str(caught.value)
        assert str(caught.value).startswith(f"data.filter is {expression!r}: ")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("expression", "words"),
        [
            ("n_genes > ", "it cannot be read"),
            ("", "it cannot be read"),
            ("n_genes > 200)", r"it cannot be read at '\)'"),
            ("n_genes = 200", "it cannot be read at '"),
            ("import os", "it cannot be read at '"),
            ("n_genes > 1; n_genes", "it cannot be read at '; n_genes'"),
            ("cell type == 'B'", "it cannot be read at '"),
            ("n_genes > 1\0", "it cannot be read"),
            ("(" * 5000 + "is_doublet" + ")" * 5000, "it cannot be read"),
            ("not " * 300 + "is_doublet", "it is nested too deeply"),
            ("n_genes > 1" + "0" * 400, "it cannot be read"),
            ("1 < 2", "'1 < 2' compares no column with anything"),
            ("1 in [1, 2]", r"'1 in \[1, 2\]' compares no column with anything"),
            ("tissue in 'lung'", "''lung'' stands right of 'in', where a list is needed"),
            ("'lung' in tissue", "'tissue' stands right of 'in', where a list is needed"),
            ("tissue in []", r"'\[\]' stands right of 'in', where a list is needed"),
            ("tissue in ['lung', 1]", r"the list '\['lung', 1\]' must hold only numbers, or only text"),
            ("tissue in [n_genes]", r"the list '\[n_genes\]' must hold only numbers, or only text"),
            ("tissue in [[1]]", r"'\[1\]' is not allowed there"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_read(self, expression, words):
        with pytest.raises(ConfigError, match=f"data\\.filter is .*{words}.*; allowed are obs columns"):
            ObsFilter(expression)

    @pytest.mark.parametrize(
        ("expression", "words"),
        [
            ("n_gens > 1", r"names the obs column 'n_gens', which the data do not have\. Did you mean 'n_genes'\?"),
            ("`cell  type` == 'B'", r"names the obs column 'cell  type'.* Did you mean 'cell type'\?"),
            (
                "n_genes == '200'",
                "'n_genes' holds numbers and is compared with the text '200'; write a number without quotes",
            ),
            (
                "leiden == 3",
                r"'leiden' holds text such as '0' and is compared with the number 3; write text in quotes: '3'",
            ),
            ("is_doublet > 0", "'is_doublet' holds truth values and is compared with the number 0"),
            ("n_genes", "'n_genes' holds numbers and is compared with == True; only truth values can be equal to that"),
            ("is_doublet < True", "'is_doublet' holds truth values and is compared with < True; only truth values"),
            ("n_genes < tissue", "'n_genes' holds numbers and is compared with 'tissue', which holds text such as 'l"),
        ],
    )
    def test_columns_that_are_not_there_or_of_another_kind(self, expression, words):
        with pytest.raises(ConfigError, match=rf"data\.filter.*{words}"):
            kept(expression)

    def test_text_of_a_source_without_kinds_is_no_number(self):
        with pytest.raises(ConfigError, match="'tissue' holds text such as 'lung' and is compared with the number 1"):
            kept("tissue > 1", source=PlainSource)

    def test_another_setting_is_named(self):
        with pytest.raises(ConfigError, match=r"^--filter is 'x y': "):
            ObsFilter("x y", setting="--filter")


class TestNumbersOfAFile:
    def test_of_several_files_follow_each_other(self, tmp_path):
        paths = []
        for number, dtype in enumerate((np.int8, np.float32)):
            adata = make_adata(6, 5)
            adata.obs["n"] = np.arange(6).astype(dtype) + 10 * number
            paths.append(write(tmp_path, adata, f"{number}.h5ad"))
        source = open_files(*paths)
        assert source.obs_numbers("n").tolist() == [*range(6), *range(10, 16)]
        assert source.obs_numbers("cell_type") is None
        with pytest.raises(DataError, match=r"0\.h5ad: obs has no column 'm'"):
            source.obs_numbers("m")

    def test_a_column_that_is_text_in_one_file_is_not_numbers(self, tmp_path):
        one, other = make_adata(6, 5), make_adata(6, 5)
        one.obs["n"], other.obs["n"] = np.arange(6), [f"n{i}" for i in range(6)]
        source = open_files(write(tmp_path, one, "a.h5ad"), write(tmp_path, other, "b.h5ad"))
        assert source.obs_numbers("n") is None

    def test_whole_numbers_that_float64_does_not_hold_are_refused(self, tmp_path):
        adata = make_adata(3, 5)
        adata.obs["id"] = np.array([1, 2, 2**53 + 1])
        with pytest.raises(DataError, match=r"obs: column 'id' has whole numbers beyond 2\*\*53"):
            open_files(write(tmp_path, adata)).obs_numbers("id")

    def test_categories_as_old_files_have_them(self, tmp_path):
        with h5py.File(tmp_path / "old.h5", "w") as file:
            obs = file.create_group("obs")
            obs["_index"] = ["a", "b", "c"]
            obs["n"] = np.array([1, -1, 0], dtype=np.int8)
            obs["__categories/n"] = np.array([5, 7])
            obs["n"].attrs["categories"] = obs["__categories/n"].ref
        opened = H5adFile(tmp_path / "old.h5", "old.h5", Descriptors()).open()
        numbers = Frame(opened, "obs", "old.h5").numbers("n")
        opened.close()
        np.testing.assert_array_equal(numbers, [7, np.nan, 5])
