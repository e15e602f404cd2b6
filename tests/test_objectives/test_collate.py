from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scmodelforge.data.types import TokenBlock
from scmodelforge.objectives import collate_for_encoding, pad
from scmodelforge.objectives.collate import with_targets

from .tokens import make_tokens

LENGTHS = st.lists(st.integers(0, 12), max_size=7)


class TestPadding:
    @settings(max_examples=25, deadline=None)
    @given(LENGTHS, st.booleans(), st.booleans())
    def test_what_is_packed_again_is_what_was_padded(self, lengths, bins, cls):
        tokens = make_tokens(lengths, bins=bins, cls=cls)
        batch = pad(tokens, pad_id=0)
        packed = torch.from_numpy(batch["pack_index"])
        for name, expected in (("input_ids", tokens.ids), ("gene_ids", tokens.ids), ("values", tokens.values)):
            np.testing.assert_array_equal(batch[name].flatten()[packed].numpy(), expected)
        assert ("bin_ids" in batch) == bins
        if bins:
            np.testing.assert_array_equal(batch["bin_ids"].flatten()[packed].numpy(), tokens.bin_ids)
        assert batch["attention_mask"].flatten()[packed].eq(1).all()
        np.testing.assert_array_equal(batch["cu_seqlens"], tokens.offsets)
        np.testing.assert_array_equal(batch["cell_index"], tokens.cell_index)

    @settings(max_examples=25, deadline=None)
    @given(LENGTHS)
    def test_rows_begin_with_their_cell_and_end_with_padding(self, lengths):
        tokens = make_tokens(lengths)
        batch = pad(tokens, pad_id=7)
        longest = max([0, *lengths]) + 1
        assert batch["input_ids"].shape == (len(lengths), longest)
        assert batch["lengths"].tolist() == [length + 1 for length in lengths]
        for row, length in enumerate(batch["lengths"]):
            own = slice(tokens.offsets[row], tokens.offsets[row + 1])
            assert batch["input_ids"][row, :length].tolist() == tokens.ids[own].tolist()
            assert batch["attention_mask"][row].tolist() == [1] * length + [0] * (longest - length)
            for name, filling in (("input_ids", 7), ("gene_ids", 7), ("values", 0), ("bin_ids", 0)):
                assert batch[name][row, length:].tolist() == [filling] * (longest - length)

    def test_types(self):
        batch = pad(make_tokens([3, 1]), pad_id=0)
        wide = ("input_ids", "gene_ids", "bin_ids", "attention_mask")
        assert {batch[name].dtype for name in wide} == {torch.int64}
        assert batch["values"].dtype == torch.float32
        assert (batch["pack_index"].dtype, batch["lengths"].dtype) == (np.int64, np.int64)
        assert batch["cu_seqlens"].dtype == np.int32

    def test_values_are_filled_up_with_what_the_tokens_say(self):
        tokens = replace(make_tokens([3, 1]), pad_value=-2.0, mask_value=-1.0)
        for batch in (pad(tokens, pad_id=0), collate_for_encoding(tokens, pad_id=0)):
            np.testing.assert_array_equal(batch["values"][1, 2:], [-2.0, -2.0])
            np.testing.assert_array_equal(batch["bin_ids"][1, 2:], [0, 0])

    def test_hidden_values_are_what_the_tokens_say(self):
        tokens = replace(make_tokens([3, 1]), pad_value=-2.0, mask_value=-1.0)
        is_target = np.array([False, True, False, False, False, True])
        batch = with_targets(tokens, tokens.ids, is_target, pad_id=0, term="masked_gene")
        assert batch["values"][batch["masked_positions"]].tolist() == [-1.0, -1.0]
        np.testing.assert_array_equal(batch["targets"][batch["masked_positions"]], tokens.values[is_target])
        assert batch["values"][1, 2:].tolist() == [-2.0, -2.0]

    def test_no_cells_make_a_batch_of_none(self):
        tokens = make_tokens([2, 3]).select(np.zeros(0, dtype=np.int64))
        batch = pad(tokens, pad_id=0)
        assert all(batch[name].shape == (0, 1) for name in ("input_ids", "attention_mask", "values", "bin_ids"))
        assert batch["cu_seqlens"].tolist() == [0]
        assert len(batch["pack_index"]) == 0

    def test_cells_without_tokens_are_all_padding(self):
        batch = pad(make_tokens([0, 0], cls=False), pad_id=0)
        assert batch["attention_mask"].tolist() == [[0], [0]]

    def test_the_tokens_given_are_not_changed_by_what_happens_to_the_batch(self):
        tokens = make_tokens([4])
        before = tokens.select(np.array([0]))
        batch = pad(tokens, pad_id=0)
        batch["input_ids"].zero_()
        batch["values"].zero_()
        batch["bin_ids"].zero_()
        assert batch["gene_ids"].ne(0).all()
        for name in ("ids", "values", "bin_ids"):
            np.testing.assert_array_equal(getattr(tokens, name), getattr(before, name))


class TestEncoding:
    def test_nothing_is_hidden_and_nothing_asked(self):
        tokens: TokenBlock = make_tokens([5, 2])
        batch = collate_for_encoding(tokens, pad_id=0)
        assert not {"labels", "masked_positions", "targets", "num_targets"} & set(batch)
        assert torch.equal(batch["input_ids"], batch["gene_ids"])
        np.testing.assert_array_equal(batch["values"].flatten()[torch.from_numpy(batch["pack_index"])], tokens.values)
