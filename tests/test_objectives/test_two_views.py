"""Two views of a cell: the second has some of its genes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from scmodelforge.objectives.two_views import TwoViews, some_genes

from .tokens import make_tokens

SPECIAL = np.arange(4)


def genes_of(tokens, row: int) -> list[int]:
    ids = tokens.ids[tokens.offsets[row] : tokens.offsets[row + 1]]
    return [int(each) for each in ids if each not in SPECIAL]


class TestSomeGenes:
    TOKENS = make_tokens([12, 1, 30, 0, 25])

    def test_are_genes_of_the_cell_in_its_order_and_special_tokens_stay(self):
        found = some_genes(self.TOKENS, SPECIAL, 0.5)
        assert len(found) == len(self.TOKENS)
        for row in range(len(found)):
            own, kept = genes_of(self.TOKENS, row), genes_of(found, row)
            places = [own.index(gene) for gene in kept]
            assert places == sorted(places)
            both = (tokens.ids[tokens.offsets[row] : tokens.offsets[row + 1]][0] for tokens in (found, self.TOKENS))
            assert len(set(both)) == 1  # <cls>
        assert sum(len(genes_of(found, row)) for row in range(5)) < sum(
            len(genes_of(self.TOKENS, row)) for row in range(5)
        )

    def test_a_cell_with_genes_keeps_one(self):
        found = some_genes(self.TOKENS, SPECIAL, 1e-9)
        assert [len(genes_of(found, row)) for row in range(5)] == [1, 1, 1, 0, 1]

    def test_all_are_kept_where_all_are_asked_for(self):
        found = some_genes(self.TOKENS, SPECIAL, 1.0)
        for name in ("offsets", "ids", "values", "bin_ids"):
            np.testing.assert_array_equal(getattr(found, name), getattr(self.TOKENS, name))

    def test_they_do_not_depend_on_the_other_cells(self):
        whole = some_genes(self.TOKENS, SPECIAL, 0.5)
        alone = some_genes(self.TOKENS.select(np.array([2])), SPECIAL, 0.5)
        assert genes_of(alone, 0) == genes_of(whole, 2)


class TestBatch:
    VOCAB = SimpleNamespace(pad_id=0, special_ids=(0, 1, 2, 3))

    def collator(self, kept: float | None) -> TwoViews:
        config = SimpleNamespace(head=SimpleNamespace(kept_genes=kept))
        return TwoViews(vocab=self.VOCAB, tokenizer_config=None, model_config=config)

    def test_the_first_view_is_the_whole_cell(self):
        tokens = make_tokens([5, 8])
        batch = self.collator(0.5)(tokens)
        assert batch["lengths"].tolist() == tokens.lengths.tolist()
        assert batch["second_input_ids"].shape == batch["second_attention_mask"].shape
        assert batch["second_attention_mask"].sum() < batch["attention_mask"].sum()

    def test_without_a_share_there_is_no_second_view(self):
        assert not any(name.startswith("second_") for name in self.collator(None)(make_tokens([5, 8])))

    @pytest.mark.parametrize("kept", [0.5, None])
    def test_of_no_cells(self, kept):
        batch = self.collator(kept)(make_tokens([]))
        assert batch["num_targets"] == {}
        assert all(len(value) == 0 for value in batch.values() if isinstance(value, torch.Tensor))
