from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

from scmodelforge._errors import DataError
from scmodelforge.eval.embed import embed_batches, embed_cells

POSITIONS = np.array([3, 4, 8, 20, 21])
CPU = torch.device("cpu")


class Toy(nn.Module):
    """Sums the values of a cell; its dropout shows whether it is in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.Dropout(0.5).eval()
        self.scale = nn.Parameter(torch.ones(3))

    def encode(self, input_ids, attention_mask, *, values, **kwargs):
        return self.dropout(values.sum(1, keepdim=True) * self.scale)


def batches(*groups: list[int], values=float):
    for group in groups:
        size = len(group)
        yield {
            "input_ids": torch.ones(size, 2, dtype=torch.long),
            "attention_mask": torch.ones(size, 2),
            "values": torch.tensor([[values(p), 1.0] for p in group]).reshape(size, 2),
            "cell_index": np.array(group, dtype=np.int64),
            "num_targets": {},
        }


def embed(model, *groups, **options):
    return embed_cells(model, batches(*groups, **options), positions=POSITIONS, device=CPU)


class TestEmbedCells:
    def test_puts_each_cell_into_its_row_whatever_the_order_of_batches(self):
        expected = np.repeat(POSITIONS[:, None] + 1.0, 3, axis=1).astype(np.float32)
        for groups in ([[3, 4, 8], [20, 21]], [[21, 8], [3], [], [20, 4]]):
            found = embed(Toy(), *groups)
            np.testing.assert_array_equal(found, expected)
            assert found.dtype == np.float32

    def test_leaves_every_module_in_the_mode_it_was_in(self):
        model = Toy().train()
        model.frozen.eval()
        embed(model, POSITIONS.tolist())
        assert (model.training, model.dropout.training, model.frozen.training) == (True, True, False)

    def test_leaves_the_mode_alone_when_it_fails(self):
        model = Toy().train()
        with pytest.raises(DataError):
            embed(model, POSITIONS.tolist(), values=lambda p: float("nan"))
        assert model.dropout.training

    def test_keeps_no_graph(self):
        seen = []
        model = Toy()
        encode = model.encode
        model.encode = lambda **batch: seen.append(torch.is_grad_enabled()) or encode(**batch)
        embed(model, POSITIONS.tolist())
        assert seen == [False]
        assert torch.is_grad_enabled()

    def test_runs_inside_the_given_context(self):
        entered = []

        @contextmanager
        def autocast():
            entered.append(True)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                yield

        groups = [[3, 4], [8, 20, 21]]
        found = embed_cells(Toy(), batches(*groups), positions=POSITIONS, device=CPU, autocast=autocast)
        assert len(entered) == 2
        assert found.dtype == np.float32

    def test_refuses_numbers_that_are_none(self):
        with pytest.raises(DataError, match=r"NaN or infinite embeddings \(the first for cell 8\).*diverged"):
            embed(Toy(), [3, 4], [8, 20, 21], values=lambda p: float("inf") if p == 8 else 1.0)

    @pytest.mark.parametrize(
        ("groups", "message"),
        [
            ([[3, 4, 8, 20]], r"lack 1 of 5 cells \(the first: \[21\]\)"),
            ([], "lack 5 of 5 cells"),
            ([[3, 4, 8, 20, 21, 3]], "a cell twice"),
            ([[3, 4, 8], [8, 20, 21]], "a cell twice"),
            ([[3, 4, 8, 20, 22]], "not asked for"),
        ],
    )
    def test_needs_each_cell_once(self, groups, message):
        with pytest.raises(ValueError, match=message):
            embed(Toy(), *groups)

    def test_streams_batches_with_their_positions(self):
        found = list(embed_batches(Toy(), batches([8, 3], [], [4]), device=CPU))
        assert [cells.tolist() for cells, _ in found] == [[8, 3], [4]]
        assert [vectors.shape for _, vectors in found] == [(2, 3), (1, 3)]
