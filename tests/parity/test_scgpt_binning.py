"""Bins, tokens and padding are those that the official scGPT code gave (package 0.2.5, commit cebd6fae).

The expected values lie beside the repository, in golden/scgpt; how they were made stands in the README there.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scmodelforge.data import _compile
from scmodelforge.data.draws import cell_keys
from scmodelforge.data.types import CellBlock, Panel, TokenBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.objectives import pad
from scmodelforge.tokenizers.binned_expression import SCGPT, BinnedExpressionConfig, BinnedExpressionTokenizer
from scmodelforge.tokenizers.bins import scgpt_bins

BESIDE = Path(__file__).parents[2].parent / "shared" / "golden"
GOLDEN = Path(os.environ.get("SCMODELFORGE_GOLDEN", BESIDE)) / "scgpt"
CASES = ("counts_nb", "log1p_cp10k", "pbmc_log1p", "pbmc_log1p_n7", "continuous_no_ties", "edge")

pytestmark = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason=f"the outputs of the official scGPT code are not in {GOLDEN}"
)


@pytest.fixture(scope="module")
def binning() -> Any:
    return np.load(GOLDEN / "binning.npz")


@pytest.fixture(scope="module")
def golden() -> Any:
    return np.load(GOLDEN / "tokenize.npz")


@pytest.fixture(scope="module")
def jobs() -> Any:
    return json.loads((GOLDEN / "tokenize.json").read_text())["jobs"]


@pytest.fixture(params=["compiled", "numpy"])
def form(request, monkeypatch) -> str:
    """Run with and without compiled loops."""
    monkeypatch.setattr(_compile, "_WORTH_COMPILING", 0 if request.param == "compiled" else 10**12)
    return str(request.param)


def block_of(binning, case: str) -> CellBlock:
    data, indices, indptr, shape = (binning[f"{case}/{name}"] for name in ("data", "indices", "indptr", "shape"))
    panel = Panel(np.array([f"g{n}" for n in range(shape[1])], dtype=object), case)
    return CellBlock(data, indices, indptr, panel, np.arange(shape[0]))


def vocab_of(num_genes: int) -> GeneVocab:
    """Return a vocabulary with the gene of each column at its number, after the special tokens."""
    return GeneVocab.from_genes([f"g{n}" for n in range(num_genes)], name="columns")


def encode(block: CellBlock, **changes: Any) -> TokenBlock:
    config = BinnedExpressionConfig.model_validate({**SCGPT, **changes})
    tokenizer = BinnedExpressionTokenizer(config, vocab_of(len(block.panel.gene_ids)))
    return tokenizer.bind(block.panel).encode(block, cell_keys(0, block.positions))


def rows(binning, case: str) -> list[tuple[slice, np.ndarray]]:
    """Return for each cell where its values lie, and its values over all genes."""
    block, size = block_of(binning, case), int(binning[f"{case}/shape"][1])
    found = []
    for start, stop in zip(block.indptr[:-1], block.indptr[1:], strict=True):
        dense = np.zeros(size)
        dense[block.indices[start:stop]] = block.data[start:stop]
        found.append((slice(int(start), int(stop)), dense))
    return found


@pytest.mark.parametrize("case", CASES)
class TestBins:
    def test_edges_are_the_same_bit_for_bit(self, binning, case):
        n_bins = int(binning[f"{case}/n_bins"])
        for cell, (_, dense) in enumerate(rows(binning, case)):
            np.testing.assert_array_equal(scgpt_bins(dense, n_bins)[1], binning[f"{case}/bin_edges"][cell])

    def test_bins_are_the_same_for_the_same_random_numbers(self, binning, case):
        n_bins, uniforms = int(binning[f"{case}/n_bins"]), binning[f"{case}/uniforms"]
        columns = binning[f"{case}/indices"]
        for own, dense in rows(binning, case):
            bins, _ = scgpt_bins(dense, n_bins, uniforms=uniforms[own])
            np.testing.assert_array_equal(bins[columns[own]], binning[f"{case}/digits"][own])
            assert not bins[dense == 0].any()

    def test_bins_are_the_same_for_the_same_seed_of_the_function_of_one_row(self, binning, case):
        n_bins, columns = int(binning[f"{case}/n_bins"]), binning[f"{case}/indices"]
        draws = np.random.RandomState(int(binning[f"{case}/digits_fn_seed"]))
        for own, dense in rows(binning, case):
            bins, _ = scgpt_bins(dense, n_bins, uniforms=draws.random_sample(own.stop - own.start))
            np.testing.assert_array_equal(bins[columns[own]], binning[f"{case}/digits_fn"][own])

    def test_bins_without_random_numbers_are_those_of_side_one(self, binning, case):
        n_bins, columns = int(binning[f"{case}/n_bins"]), binning[f"{case}/indices"]
        for own, dense in rows(binning, case):
            bins, _ = scgpt_bins(dense, n_bins)
            np.testing.assert_array_equal(bins[columns[own]], binning[f"{case}/digit_one"][own])

    @pytest.mark.parametrize(("ties", "expected"), [("lower", "digit_lo"), ("upper", "digit_hi")])
    def test_the_tokenizer_knows_the_lowest_and_the_highest_bin(self, binning, case, ties, expected, form):
        block = block_of(binning, case)
        tokens = encode(block, ties=ties, n_bins=int(binning[f"{case}/n_bins"]), max_genes=5000, add_cls=False)
        np.testing.assert_array_equal(tokens.bin_ids, binning[f"{case}/{expected}"])
        np.testing.assert_array_equal(tokens.values, binning[f"{case}/{expected}"])
        np.testing.assert_array_equal(tokens.ids - 4, block.indices)

    def test_the_tokenizer_draws_between_them(self, binning, case, form):
        tokens = encode(block_of(binning, case), n_bins=int(binning[f"{case}/n_bins"]), max_genes=5000, add_cls=False)
        low, high = binning[f"{case}/digit_lo"], binning[f"{case}/digit_hi"]
        assert ((low <= tokens.bin_ids) & (tokens.bin_ids <= high)).all()
        if (high - low).max() > 5:  # uniformly, so in the middle on average
            wide = high - low > 5
            places = (tokens.bin_ids - low)[wide] / (high - low)[wide]
            assert abs(places.mean() - 0.5) < 5 * 0.35 / np.sqrt(np.count_nonzero(wide))


def test_the_preprocessor_s_bins_are_the_same_for_the_same_seed(binning):
    draws = np.random.RandomState(int(binning["preprocessor/seed"]))
    expected = binning["preprocessor/X_binned"]
    for row, bins in zip(binning["preprocessor/X_log1p"], expected, strict=True):
        found, _ = scgpt_bins(row, expected.max() + 1, uniforms=draws.random_sample(np.count_nonzero(row)))
        np.testing.assert_array_equal(found, bins)


def dense_block(values: np.ndarray) -> CellBlock:
    cells, columns = np.nonzero(values)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(cells, minlength=len(values)))]).astype(np.int64)
    panel = Panel(np.array([f"g{n}" for n in range(values.shape[1])], dtype=object), "dense")
    return CellBlock(
        values[cells, columns].astype(np.float32), columns.astype(np.int32), indptr, panel, np.arange(len(values))
    )


def official_ids(ids: np.ndarray, num_genes: int) -> np.ndarray:
    """Return our ids as those of the official vocabulary: genes from 0 on, then ``<pad>`` and ``<cls>``."""
    vocab = vocab_of(num_genes)
    special = {vocab.pad_id: num_genes, vocab.cls_id: num_genes + 1}
    return np.array([special.get(token, token - 4) for token in ids.ravel().tolist()]).reshape(ids.shape)


def tokenized(data: np.ndarray, job: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and values, padded, of cells whose values are bins already."""
    same = {"method": "fixed", "edges": [float(n) for n in range(2, 51)]}  # bin n is [n, n + 1)
    changes = {"max_genes": job["max_len"], "add_cls": job["append_cls"], "include_zeros": job["include_zero_gene"]}
    tokens = encode(dense_block(data), cls_value=0.0, **same, **changes)
    batch = pad(tokens, pad_id=vocab_of(data.shape[1]).pad_id)
    return official_ids(batch["input_ids"].numpy(), data.shape[1]), batch["values"].numpy()


class TestTokens:
    @pytest.mark.parametrize("name", ["nosample", "withzero"])
    def test_and_padding_are_the_same_where_nothing_is_sampled(self, golden, jobs, name, form):
        ids, values = tokenized(golden["data"], jobs[name])
        np.testing.assert_array_equal(ids, golden[f"{name}/genes"])
        np.testing.assert_array_equal(values, golden[f"{name}/values"])

    @pytest.mark.parametrize("name", ["sample", "nocls", "withzero_sample"])
    def test_keep_the_rules_of_sampling(self, golden, jobs, name, form):
        data, job = golden["data"], jobs[name]
        ids, values = tokenized(data, job)
        expected = golden[f"{name}/genes"]
        assert ids.shape == expected.shape
        cls_id, pad_id = data.shape[1] + 1, data.shape[1]
        np.testing.assert_array_equal(ids == pad_id, expected == pad_id)
        np.testing.assert_array_equal(ids == cls_id, expected == cls_id)
        assert (values[ids == pad_id] == -2).all()
        assert (values[ids == cls_id] == 0).all()
        for row, shown, cell in zip(ids, values, data, strict=True):
            genes = row[row < pad_id]
            assert len(set(genes.tolist())) == len(genes)
            np.testing.assert_array_equal(shown[row < pad_id], cell[genes])
            assert job["include_zero_gene"] or (cell[genes] > 0).all()

    def test_of_the_collator_are_the_same_where_nothing_is_drawn(self, form):
        golden = np.load(GOLDEN / "collator.npz")
        block = dense_block(golden["raw_continuous"])
        tokens = encode(block)
        num_genes = golden["raw_continuous"].shape[1]
        batch = pad(tokens, pad_id=vocab_of(num_genes).pad_id)
        ids = official_ids(batch["input_ids"].numpy(), num_genes)
        np.testing.assert_array_equal(ids, golden["continuous_full/gene"])
        np.testing.assert_array_equal(batch["values"].numpy(), golden["continuous_full/expr"])
