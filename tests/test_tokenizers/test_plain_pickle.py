from __future__ import annotations

import collections
import os
import pickle
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge._errors import DataError
from scmodelforge.tokenizers._plain_pickle import read_plain_pickle

FILE = Path("some.pkl")
ADVICE = "only a dictionary of texts and numbers is read from a pickle; take the published file."
PLAIN = st.text() | st.integers() | st.floats(allow_nan=False)


def read(content: bytes) -> dict:
    return read_plain_pickle(FILE, content)


class Runs:
    """Runs a command when it is unpickled in the usual way."""

    def __init__(self, *call) -> None:
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


class TestPlain:
    @given(st.dictionaries(st.text(), PLAIN), st.integers(3, 5))
    def test_texts_and_numbers_come_back(self, content, protocol):
        assert read(pickle.dumps(content, protocol=protocol)) == content

    @pytest.mark.parametrize("kind", ["int8", "int16", "int32", "int64", "uint16", "float32", "float64", ">i2", ">f8"])
    @pytest.mark.parametrize("protocol", [3, 4, 5])
    def test_numbers_of_numpy_become_plain_ones(self, kind, protocol):
        content = {"a": np.dtype(kind).type(-3 if kind != "uint16" else 3), "b": np.array([77], dtype=kind)[0]}
        found = read(pickle.dumps(content, protocol=protocol))
        assert found == {"a": content["a"].item(), "b": 77}
        assert {type(value) for value in found.values()} <= {int, float}

    def test_the_older_name_of_a_number_of_numpy_is_known(self):
        content = pickle.dumps({"a": np.int16(300)}, protocol=3)
        assert b"numpy._core.multiarray" in content
        assert read(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")) == {"a": 300}


class TestRefused:
    @pytest.mark.parametrize(
        "call", [(os.system, "touch made"), (eval, "__import__('os').mkdir('made')"), (os.mkdir, "made")]
    )
    def test_nothing_in_a_file_runs(self, call, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        content = pickle.dumps({"a": Runs(*call)})
        name = f"{call[0].__module__}.{call[0].__name__}"
        with pytest.raises(DataError) as refused:
            read(content)
        assert str(refused.value) == f"some.pkl: it asks for {name}; {ADVICE}"
        assert not list(tmp_path.iterdir())
        pickle.loads(content)  # it does run where it may
        assert [path.name for path in tmp_path.iterdir()] == ["made"]
        (tmp_path / "made").unlink() if (tmp_path / "made").is_file() else (tmp_path / "made").rmdir()

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (collections.OrderedDict(a=1), "it asks for collections.OrderedDict"),
            (Path("a"), "it asks for pathlib"),
            (np.arange(3), "it asks for numpy._core.*_reconstruct"),
            ({"a": np.str_("b")}, "it holds numpy values of type 'U1'"),
            ({"a": np.bool_(True)}, "it holds numpy values of type 'b1'"),
            ({"a": np.datetime64("2020")}, "it holds numpy values of type 'M8'"),
            ([1, 2], "its content is list with other things"),
            ({"a": [1]}, "its content is dict with other things"),
            ({"a": True}, "its content is dict with other things"),
            ({1: 2}, "its content is dict with other things"),
            ({"a": None}, "its content is dict with other things"),
        ],
    )
    def test_other_content_is_refused(self, content, words):
        with pytest.raises(DataError, match=f"^some.pkl: {words}.*take the published file.$"):
            read(pickle.dumps(content))

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"not a pickle",
            pickle.dumps({"a": 1})[:-3],
            b"cnumpy\ndtype\n(S'i2'\ntR.",  # a type that is no dictionary
            b"cnumpy._core.multiarray\nscalar\n(I1\nS'ab'\ntR.",  # a number without a type
            b"cnumpy._core.multiarray\nscalar\n(N}S'__doc__'\nS'changed'\nstb.",  # changes the class of numbers
            b"cnumpy\ndtype\n(N}S'__doc__'\nS'changed'\nstb.",
            b"cnumpy\ndtype.__class__\n.",
        ],
    )
    def test_what_is_no_sound_pickle_is_refused(self, content):
        with pytest.raises(DataError, match=r"^some.pkl: .*take the published file.$"):
            read(content)

    @given(st.binary(max_size=40))
    def test_whatever_the_bytes_are_there_is_a_plain_dictionary_or_our_error(self, content):
        with suppress(DataError):
            assert type(read(b"\x80\x04" + content)) is dict
