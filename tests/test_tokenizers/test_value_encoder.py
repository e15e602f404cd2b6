"""The compiled form of tokens with values gives those of the numpy form, whatever the cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from scmodelforge.data import _compile
from scmodelforge.data.draws import cell_keys
from scmodelforge.data.types import TokenBlock
from scmodelforge.tokenizers import _value_encoder
from scmodelforge.tokenizers._collect_kernel import collect_cells
from scmodelforge.tokenizers._value_encoder import ValueEncoder

from .sparse_cells import NUM_GENES, cells

pytest.importorskip("numba")


def encoder(**changes: Any) -> ValueEncoder:
    rng = np.random.default_rng(1)
    tokens = np.arange(4, NUM_GENES + 4, dtype=np.int32)
    if changes.pop("permuted", False):
        tokens = rng.permutation(tokens)
    tokens[rng.random(NUM_GENES) < 0.1] = -1
    given: dict[str, Any] = {
        "value_transform": "log1p_cp10k",
        "clip": None,
        "descends": False,
        "selection": "random",
        "max_genes": 200,
        "first": [3],
    }
    return ValueEncoder(tokens_of_columns=tokens, vocab_size=NUM_GENES + 4, **{**given, **changes})


def both(monkeypatch: pytest.MonkeyPatch, found: ValueEncoder, kind: str) -> tuple[TokenBlock, TokenBlock]:
    """Return the tokens of the compiled and of the numpy form."""
    block = cells(kind)
    keys = cell_keys(3, block.positions)
    monkeypatch.setattr(_compile, "_WORTH_COMPILING", 0)
    assert collect_cells(block, found.tokens_of_columns) is not None
    compiled = found.encode(block, keys)
    monkeypatch.setattr(_value_encoder, "collect_cells", lambda *_: None)
    return compiled, found.encode(block, keys)


@pytest.mark.parametrize("kind", ["counts", "log1p", "continuous", "large"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"max_genes": 2000, "first": []},
        {"selection": "top", "value_transform": "counts"},
        {"descends": True, "clip": 2.0},
        {"permuted": True},
        {"permuted": True, "selection": "top", "max_genes": 300},
        {"selection": "top", "descends": True, "first": [], "max_genes": 5},
    ],
    ids=str,
)
def test_the_compiled_form_is_the_numpy_form(monkeypatch, kind, changes):
    compiled, plain = both(monkeypatch, encoder(**changes), kind)
    for name in ("offsets", "ids", "values", "keys", "cell_index"):
        np.testing.assert_array_equal(getattr(compiled, name), getattr(plain, name), err_msg=name)
        assert getattr(compiled, name).dtype == getattr(plain, name).dtype
    for name in ("cut_offsets", "cut_ids"):
        np.testing.assert_array_equal(getattr(compiled.measured, name), getattr(plain.measured, name), err_msg=name)


@pytest.mark.parametrize("values", ["doubles", "unsorted"])
def test_what_the_compiled_form_does_not_take_goes_the_other_way(monkeypatch, values):
    monkeypatch.setattr(_compile, "_WORTH_COMPILING", 0)
    block, tokens = cells("counts"), encoder().tokens_of_columns
    if values == "doubles":
        block.data = block.data.astype(np.float64)
    else:
        block.indices[:2] = block.indices[1::-1]
    assert collect_cells(block, tokens) is None
