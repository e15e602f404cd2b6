"""What holds for every tokenizer, whatever the cells."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scmodelforge._registry import TOKENIZERS
from scmodelforge.data.draws import cell_keys
from scmodelforge.data.types import TokenBlock
from scmodelforge.tokenizers import BaseTokenizer

from .cells import VOCAB, cell, make_block

NAMES = [f"g{i:02d}" for i in range(20)]
VECTORS = Path("vectors.npz")
SETTINGS: list[dict[str, Any]] = [
    {"strategy": "rank_value", "medians": "none"},
    {"strategy": "rank_value", "medians": "none", "add_cls": False},
    {"strategy": "binned_expression", "n_bins": 7, "ties": "random"},
    {"strategy": "binned_expression", "n_bins": 7, "selection": "weighted", "value_scale": "index"},
    {"strategy": "binned_expression", "n_bins": 5, "method": "uniform", "selection": "top"},
    {"strategy": "continuous_projection", "value_transform": "counts"},
    {"strategy": "continuous_projection", "selection": "top", "order": "expression"},
    {"strategy": "gene_embedding", "base": {"strategy": "rank_value", "medians": "none"}},
]


def is_relative(options: dict[str, Any]) -> bool:
    """Tell whether values are relative to the cell's total, which is over all genes of its file."""
    if options["strategy"] == "continuous_projection":
        return options.get("value_transform") is None
    return options["strategy"] != "binned_expression"


@pytest.fixture(scope="module", params=SETTINGS, ids=str)
def options(request) -> dict[str, Any]:
    return dict(request.param)


@pytest.fixture(scope="module")
def make(options, tmp_path_factory):
    """Return what makes the tokenizer with room for so many tokens."""
    path = tmp_path_factory.mktemp("vectors") / VECTORS
    np.savez(path, genes=np.array(NAMES), vectors=np.random.default_rng(0).normal(size=(20, 6)))

    def made(max_genes: int) -> BaseTokenizer:
        tokenizer_class: Any = TOKENIZERS.get(options["strategy"])
        given = {**options, **({"path": str(path)} if options["strategy"] == "gene_embedding" else {})}
        return tokenizer_class(tokenizer_class.config_class.model_validate({**given, "max_genes": max_genes}), VOCAB)

    return made


def tokens_of(tokenizer: BaseTokenizer, counts: np.ndarray, gene_ids: list[str]) -> TokenBlock:
    block = make_block(counts, gene_ids, first=11)
    return tokenizer.bind(block.panel).encode(block, cell_keys(3, block.positions))


def assert_same(found: TokenBlock, expected: TokenBlock, *, values: bool = True) -> None:
    for name in ("offsets", "ids", "bin_ids", "cell_index", "keys", *(("values",) if values else ())):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    assert cut_of(found) == cut_of(expected)


def cut_of(tokens: TokenBlock) -> list[set[int]]:
    rest = tokens.measured
    return [set(rest.cut_ids[start:stop].tolist()) for start, stop in pairwise(rest.cut_offsets)]


@st.composite
def cells(draw):
    gene_ids = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=20, unique=True))
    row = st.lists(st.integers(0, 6), min_size=len(gene_ids), max_size=len(gene_ids))
    return np.array(draw(st.lists(row, min_size=1, max_size=4)), dtype=float), gene_ids


ROOM = st.integers(3, 22)


def test_every_tokenizer_is_tested_here():
    built_in = [name for name in TOKENIZERS.names() if TOKENIZERS.get(name).__module__.startswith("scmodelforge.")]
    assert {options["strategy"] for options in SETTINGS} == set(built_in)


@settings(deadline=None, max_examples=25)
@given(cells(), ROOM, st.randoms(use_true_random=False))
def test_the_order_of_genes_in_a_file_does_not_matter(make, drawn, room, random):
    counts, gene_ids = drawn
    columns = list(range(len(gene_ids)))
    random.shuffle(columns)
    shuffled = tokens_of(make(room), counts[:, columns], [gene_ids[column] for column in columns])
    assert_same(shuffled, tokens_of(make(room), counts, gene_ids))


@settings(deadline=None, max_examples=25)
@given(cells(), ROOM, st.integers(1, 9), st.integers(0, 20))
def test_genes_outside_the_vocabulary_do_not_matter(options, make, drawn, room, count, place):
    counts, gene_ids = drawn
    place = min(place, len(gene_ids))
    more = np.insert(counts, place, count, axis=1)
    names = [*gene_ids[:place], "unknown", *gene_ids[place:]]
    expected = tokens_of(make(room), counts, gene_ids)
    assert_same(tokens_of(make(room), more, names), expected, values=not is_relative(options))


@settings(deadline=None, max_examples=25)
@given(cells(), ROOM, st.integers(-3, 10))
def test_counts_times_a_power_of_two_are_the_same_genes(make, drawn, room, power):
    counts, gene_ids = drawn
    scaled = tokens_of(make(room), counts * 2.0**power, gene_ids)
    expected = tokens_of(make(room), counts, gene_ids)
    assert_same(scaled, expected, values=False)


@settings(deadline=None, max_examples=25)
@given(cells(), ROOM)
def test_a_cell_has_a_token_once_and_no_more_than_there_is_room_for(make, drawn, room):
    tokens = tokens_of(make(room), *drawn)
    for number in range(len(tokens)):
        ids, _ = cell(tokens, number)
        assert len(ids) == len(set(ids)) <= room


@settings(deadline=None, max_examples=25)
@given(cells(), ROOM)
def test_a_batch_is_its_cells_one_after_another(make, drawn, room):
    counts, gene_ids = drawn
    tokenizer, block = make(room), make_block(counts, gene_ids, first=11)
    keys, encoder = cell_keys(3, block.positions), tokenizer.bind(block.panel)
    ones = [encoder.encode(block.select(np.array([n])), keys[[n]]) for n in range(len(block))]
    whole = encoder.encode(block, keys)
    assert_same(whole, TokenBlock.concatenate(ones))
    for number in range(len(block)):
        one = tokenizer.tokenize(counts[number], gene_ids, key=int(keys[number]))
        assert (one["input_ids"].tolist(), one["values"].tolist()) == cell(whole, number)
        assert one["attention_mask"].tolist() == [1] * len(one["input_ids"])


@settings(deadline=None, max_examples=25)
@given(cells(), ROOM)
def test_stored_zeros_and_columns_twice_are_no_more_than_their_sum(make, drawn, room):
    counts, gene_ids = drawn
    expected = tokens_of(make(room), counts, gene_ids)
    halves = tokens_of(make(room), np.hstack([counts / 2, counts / 2]), [*gene_ids, *gene_ids])
    assert_same(halves, expected)
    block = make_block(counts, gene_ids, first=11, zeros=True)
    assert_same(make(room).bind(block.panel).encode(block, cell_keys(3, block.positions)), expected)
