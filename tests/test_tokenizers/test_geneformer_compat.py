"""The oddities of Geneformer's own code on cells small enough to follow, with the arithmetic written down step by step.

The same on real outputs of that code: tests/parity/test_geneformer.py.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.tokenizers._geneformer import CompatColumns
from scmodelforge.tokenizers.medians import GeneMedians
from scmodelforge.tokenizers.rank_value import RankValueConfig, RankValueTokenizer

from .cells import cell, make_block

NAMES = [f"ENSG{i:011d}" for i in range(8)]
V2 = GeneVocab(NAMES, name="eight", special_tokens={"<pad>": 0, "<mask>": 1, "<cls>": 2, "<eos>": 3})
V1 = GeneVocab(NAMES, name="eight", special_tokens={"<pad>": 0, "<mask>": 1})
MAPPING = {**{gene: gene for gene in NAMES}, "ALIAS": NAMES[1], "RETIRED": NAMES[1], "THIRD": NAMES[3]}
MEDIANS = np.array([np.nan] * 4 + [1.0, 1.0, 2.0, 0.5, 3.0, 1.0, 1.0, 7.0])


def make(*, mapping=MAPPING, medians=MEDIANS, **settings) -> RankValueTokenizer:
    config = RankValueConfig(max_genes=12, add_eos=True, compat="geneformer_v2", **settings)
    return RankValueTokenizer(config, V2, medians=GeneMedians(medians, "file"), id_mapping=mapping)


def ranks(
    tokenizer, counts, gene_ids, *, depths=None, is_dense=False, zeros=False, dtype=np.float32
) -> list[list[int]]:
    """Return the genes of each cell in order, by number."""
    block = make_block(np.array(counts), gene_ids, zeros=zeros)
    block.data = block.data.astype(dtype)
    depths = np.full(len(counts), 100.0) if depths is None else np.array(depths)
    encoder = tokenizer.bind(block.panel)
    tokens = encoder.encode_stored(block, np.zeros(len(counts), np.uint64), depths=depths, is_dense=is_dense)
    found = [cell(tokens, number)[0] for number in range(len(counts))]
    assert all((ids[0], ids[-1]) == (2, 3) for ids in found)
    return [[token - 4 for token in ids[1:-1]] for ids in found]


class TestColumns:
    def columns(self, ids, mapping=MAPPING):
        found = CompatColumns.of(ids, mapping, V2)
        return found.slots.tolist(), (found.tokens - 4).tolist(), found.is_sum.tolist()

    def test_ids_are_looked_up_in_capitals_and_never_without_their_version(self):
        ids = ["alias", NAMES[2].lower(), f"{NAMES[0]}.12", "unknown"]
        assert self.columns(ids) == ([0, 1, -1, -1], [1, 2], [False, False])

    def test_columns_with_one_id_stay_beside_each_other(self):
        ids = [NAMES[4], NAMES[2], NAMES[4]]
        assert self.columns(ids) == ([0, 1, 2], [4, 2, 4], [False] * 3)

    def test_columns_of_one_gene_with_two_ids_are_summed_behind_all_others(self):
        ids = ["THIRD", "RETIRED", NAMES[5], "ALIAS", NAMES[3], NAMES[0]]
        assert self.columns(ids) == ([2, 3, 0, 3, 2, 1], [5, 0, 3, 1], [False, False, True, True])

    def test_then_columns_with_one_id_are_summed_too(self):
        ids = ["ALIAS", NAMES[4], NAMES[1], NAMES[4]]
        assert self.columns(ids) == ([0, 1, 0, 1], [1, 4], [True, True])

    def test_letter_case_makes_two_ids_of_one(self):
        ids = [NAMES[4], NAMES[4].lower()]
        assert self.columns(ids) == ([0, 0], [4], [True])

    def test_columns_go_by_token_if_tokens_decide(self):
        found = CompatColumns.of([NAMES[4], "unknown", NAMES[2], NAMES[4]], MAPPING, V2).by_token()
        assert found.slots.tolist() == [1, -1, 0, 2]
        assert (found.tokens - 4).tolist() == [2, 4, 4]


class TestCells:
    def test_a_token_stands_twice_where_an_id_does(self):
        assert ranks(make(), [[2, 3, 5]], [NAMES[0], NAMES[1], NAMES[0]]) == [[0, 1, 0]]

    def test_aliases_are_summed(self):
        assert ranks(make(), [[3, 4, 2]], ["ALIAS", NAMES[0], "RETIRED"]) == [[1, 0]]

    def test_stored_zeros_come_last_and_negative_values_after_them(self):
        found = ranks(make(ties="stable"), [[0, 2, -1, 0]], NAMES[:4], zeros=True)
        assert found == [[1, 0, 3, 2]]

    def test_zeros_are_not_ranked_where_they_are_summed_or_dense(self):
        assert ranks(make(), [[0, 2, 0]], ["ALIAS", NAMES[0], NAMES[1]], zeros=True) == [[0]]
        assert ranks(make(), [[0, 2, 0]], NAMES[:3], zeros=True, is_dense=True) == [[1]]

    @pytest.mark.parametrize("depth", [0.0, np.nan])
    def test_dense_cells_of_no_depth_have_every_gene(self, depth):
        found = ranks(make(ties="stable"), [[0, 2, 0], [3, 0, 0]], NAMES[:3], depths=[depth, 9.0], is_dense=True)
        assert found[1] == [0]
        assert found[0] == ([1, 0, 2] if depth == 0 else [0, 1, 2])

    def test_sparse_cells_of_no_depth_keep_their_genes(self):
        assert [sorted(genes) for genes in ranks(make(), [[5, 2, 0]], NAMES[:3], depths=[0])] == [[0, 1]]

    def test_the_depth_is_of_the_file_and_its_type_rounds(self):
        # Of 1/3 in single precision twice and thrice are rounded alike or not, as numpy does it step by step.
        counts, medians = np.array([[7, 5, 11, 3]]), np.array([np.nan] * 4 + [7.0, 5.0, 11.0, 3.0, 1, 1, 1, 1])
        for depth_type, value_type in ((np.float32, np.float32), (np.float64, np.float32), (np.int64, np.int32)):
            depth = np.array([3], dtype=depth_type)
            data = counts[0].astype(value_type)
            sparse = (data * (1 / depth)) * 10000 * (1 / medians[4:8])
            dense = data / depth * 10000 / medians[4:8]
            for scores, is_dense in ((sparse, False), (dense, True)):
                expected = sorted(range(4), key=lambda gene: (-scores[gene], gene))
                found = ranks(
                    make(medians=medians), counts, NAMES[:4], depths=depth, is_dense=is_dense, dtype=value_type
                )
                assert found == [expected]

    def test_sums_of_small_whole_numbers_do_not_overflow(self):
        assert ranks(make(), [[200, 100, 150]], ["ALIAS", "RETIRED", NAMES[0]], dtype=np.uint8) == [[1, 0]]

    def test_ties_go_by_token_or_by_column(self):
        ids = [NAMES[6], NAMES[5], NAMES[1], NAMES[0]]
        assert ranks(make(), [[1, 1, 1, 1]], ids) == [[0, 1, 5, 6]]
        assert ranks(make(ties="stable"), [[1, 1, 1, 1]], ids) == [[6, 5, 1, 0]]
        assert ranks(make(ties="numpy"), [[1, 3, 2, 4]], ids) == [[0, 5, 1, 6]]

    @given(st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=1, max_size=4), st.booleans())
    def test_blocks_and_single_cells_agree(self, rows, is_sparse):
        ids = [NAMES[3], "ALIAS", NAMES[0], "RETIRED", "unknown"]
        tokenizer, block = make(), make_block(np.array(rows), ids)
        tokens = tokenizer.bind(block.panel).encode(block, np.zeros(len(rows), dtype=np.uint64))
        for number, row in enumerate(rows):
            one = tokenizer.tokenize(sp.csr_matrix([row]) if is_sparse else np.array(row), ids)
            assert (one["input_ids"].tolist(), one["values"].tolist()) == cell(tokens, number)

    def test_many_cells_are_tokenised_as_few(self):
        counts = np.random.default_rng(0).poisson(0.6, (600, 8))
        whole = ranks(make(), counts, NAMES)
        assert whole == [genes for row in counts for genes in ranks(make(), [row], NAMES)]

    def test_values_are_of_the_depth(self):
        block = make_block([[3, 0, 1]], NAMES[:3])
        found = (
            make()
            .bind(block.panel)
            .encode_stored(block, np.zeros(1, np.uint64), depths=np.array([8.0]), is_dense=False)
        )
        assert cell(found, 0)[1] == pytest.approx([0, np.log1p(3750), np.log1p(1250), 0])

    def test_one_cell_may_hold_anything_but_needs_its_genes(self):
        assert make().tokenize(np.array([-1.0, 2.0]), NAMES[:2])["input_ids"].tolist() == [2, 5, 4, 3]
        with pytest.raises(DataError, match=r"expression has shape \(3,\) for 2 genes; give one cell"):
            make().tokenize(np.ones(3), NAMES[:2])


class TestSettings:
    @pytest.mark.parametrize(
        ("vocab", "settings", "words"),
        [
            (
                V1,
                {"add_eos": True},
                r"tokenizer\.add_eos: gene_vocab 'eight' has no <eos> token, it has <pad>, ",
            ),
            (
                V2,
                {"compat": "geneformer_v2"},
                r"compat: geneformer_v2 needs tokenizer\.add_cls: true and .*: true\.$",
            ),
            (
                V1,
                {"compat": "geneformer_v1"},
                r"compat: geneformer_v1 needs tokenizer\.add_cls: false .*: false\.$",
            ),
            (V2, {"add_eos": True, "max_genes": 2}, r"max_genes \(2\) leaves no gene beside <cls> and <eos>; raise it"),
            (
                V2,
                {"add_eos": True, "compat": "geneformer_v2"},
                "geneformer_v2 needs the published id mapping, which",
            ),
        ],
    )
    def test_what_does_not_fit_is_refused(self, vocab, settings, words):
        with pytest.raises(ConfigError, match=words):
            RankValueTokenizer(RankValueConfig(medians="none", **settings), vocab)

    def test_the_first_version_needs_no_mapping(self):
        config = RankValueConfig(medians="none", add_cls=False, compat="geneformer_v1")
        found = RankValueTokenizer(config, V1).tokenize(np.array([1, 2]), [NAMES[3].lower(), NAMES[4]])
        assert found["input_ids"].tolist() == [6, 5]

    def test_a_tokenizer_survives_json_with_its_mapping(self):
        again = RankValueTokenizer.from_dict(json.loads(json.dumps(make(ties="stable").to_dict())), V2)
        assert again.id_mapping == MAPPING
        assert again.describe().endswith("; ties: stable; compat: geneformer_v2")
        ids = ["THIRD", "ALIAS", NAMES[0]]
        assert ranks(again, [[1, 2, 4]], ids) == ranks(make(ties="stable"), [[1, 2, 4]], ids) == [[0, 3, 1]]

    @pytest.mark.parametrize("mapping", [["a"], {"A": "unknown"}, {"A": ["b"]}])
    def test_a_damaged_mapping_is_refused(self, mapping):
        with pytest.raises(DataError, match=r"the id_mapping in tokenizer\.json is damaged; take the file as it was"):
            RankValueTokenizer.from_dict({**make().to_dict(), "id_mapping": mapping}, V2)
