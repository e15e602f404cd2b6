"""Filling in: bins of the expression of genes that are asked for, given the genes of the cell that are known.

The known genes are a prefix, so they are read once, each seeing all others. Every gene asked for is then scored from
what the heads read after the prefix and from its own name: it depends on no other gene that is asked for, nor on their
number or order. Nothing is drawn that a further answer would rest on, unlike in generation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from scmodelforge._errors import DataError
from scmodelforge.models._drawing import BinChoice, Drawing, bin_table, gene_levels
from scmodelforge.models._utils import evaluation
from scmodelforge.models.components.masking import gather_visible

if TYPE_CHECKING:
    from scmodelforge.models.autoregressive import AutoregressiveTransformer

__all__ = ["FilledCells", "fill_cells"]

#: Numbers that go into the scores of bins at once, 64 MiB in single precision.
_NUMBERS_AT_ONCE = 2**24


@dataclass(frozen=True)
class FilledCells:
    """Cells of which some genes were asked for, token by token as they were given.

    Attributes
    ----------
    bin_ids
        Bins of the genes asked for, shape (B, S), int64; 0 elsewhere.
    values
        Values of these bins, and the values that were known, shape (B, S), float32; 0 elsewhere.
    probabilities
        Probability of each bin at the genes asked for, shape (B, S, K), float32; 0 elsewhere.
    is_filled
        Which tokens are genes asked for, shape (B, S), bool.
    """

    bin_ids: torch.Tensor
    values: torch.Tensor
    probabilities: torch.Tensor
    is_filled: torch.Tensor


def fill_cells(
    model: AutoregressiveTransformer,
    input_ids: torch.Tensor,
    known_values: torch.Tensor,
    known_mask: torch.Tensor,
    *,
    attention_mask: torch.Tensor | None = None,
    bins: BinChoice = "mean",
    can_be_zero: bool = False,
    bin_values: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
    keys: torch.Tensor | None = None,
) -> FilledCells:
    """Predict bins of genes given the values of others.

    Parameters
    ----------
    model
        The model. Its mode is not changed.
    input_ids
        Tokens of known genes and of genes asked for, in any order, shape (B, S). Special tokens are never asked for:
        the model is shown them, with the value 0 where it is not known. There may be more genes than ``max_seq_len``
        as long as those known are not.
    known_values
        Expression values, shape (B, S). What stands at other tokens than known ones has no effect.
    known_mask
        Whose value is known, shape (B, S), bool or 0 and 1. All other genes are asked for.
    attention_mask
        1 for tokens and 0 for padding, shape (B, S), of any type; ``None`` takes all but ``<pad>``.
    bins
        The rounded mean, the most probable (``argmax``), or a draw (``sample``).
    can_be_zero
        Whether bin 0, no expression, can be an answer; of use to models that have learned genes without expression
        (``tokenizer.include_zeros``). Else the answer is the bin of the gene given that it is expressed.
    bin_values
        Value of each bin, shape (K,), as the tokenizer has it; by default the bin's number over K - 1.
    generator, keys
        Source of randomness of ``sample``, or a number for each cell, shape (B,), int64, that its draws follow from. A
        draw depends on the cell's number, which the generator draws, and on the gene.

    Returns
    -------
    The cells. A model trained with ``gene_order: given`` has learned only from beginnings of its order.

    Raises
    ------
    ConfigError
        If an option is out of range, or more tokens are known than ``max_seq_len``.
    DataError
        If shapes differ, a cell has no known token, a known value is not finite, or a gene is both known and asked for;
        on the CPU also if a token is not in the vocabulary.
    """
    drawing = Drawing(1.0, None, bins)
    device = next(model.parameters()).device
    table = bin_table(bin_values, model.n_bins).to(device)
    question = _Question.of(model, input_ids, known_values, known_mask, attention_mask)
    cells, places = question.is_asked.nonzero(as_tuple=True)
    genes = question.ids[cells, places]
    first = 0 if can_be_zero else 1
    with evaluation(model), torch.no_grad():
        scores = _scores(model, question, cells, genes)[:, first:]  # (M, K - first)
    levels = torch.zeros(len(genes), dtype=torch.float64, device=device)
    if bins == "sample":
        levels = gene_levels(question.ids, generator, keys).to(device)[cells, places]
    scores = torch.nn.functional.pad(scores, (first, 0), value=float("-inf"))
    chosen = drawing.bins_of(scores, levels, first=first)
    probabilities = torch.zeros(*question.ids.shape, model.n_bins, device=device)
    probabilities[cells, places] = scores.softmax(dim=1)
    bin_ids, values = torch.zeros_like(question.ids), question.values.clone()
    bin_ids[cells, places], values[cells, places] = chosen, table[chosen]
    return FilledCells(bin_ids, values, probabilities, question.is_asked)


@dataclass(frozen=True)
class _Question:
    """Tokens, values where these are known and 0 elsewhere, which are known, which are asked for; each (B, S)."""

    ids: torch.Tensor
    values: torch.Tensor
    is_known: torch.Tensor
    is_asked: torch.Tensor

    @classmethod
    def of(
        cls,
        model: AutoregressiveTransformer,
        input_ids: torch.Tensor,
        known_values: torch.Tensor,
        known_mask: torch.Tensor,
        attention_mask: torch.Tensor | None,
    ) -> _Question:
        device, special_ids = next(model.parameters()).device, model.embedding.special_ids
        ids = input_ids.to(device).long()
        given = {"known_values": known_values, "known_mask": known_mask, "attention_mask": attention_mask}
        for name, tensor in given.items():
            if tensor is not None and tensor.shape != ids.shape:
                msg = (
                    f"{name} has shape {tuple(tensor.shape)}, but input_ids has {tuple(ids.shape)}; give one number "
                    "for each token."
                )
                raise DataError(msg)
        is_token = ids != special_ids.pad if attention_mask is None else attention_mask.to(device) != 0
        ids = ids.masked_fill(~is_token, special_ids.pad)
        model.embedding.check_ids(ids)
        has_value = is_token & (known_mask.to(device) != 0)
        is_known = has_value | (is_token & torch.isin(ids, special_ids.on(device)))
        values = known_values.to(device).float().masked_fill(~has_value, 0.0)
        question = cls(ids, values, is_known, is_token & ~is_known)
        question._check(model.vocab_size, special_ids.pad)
        return question

    def _check(self, vocab_size: int, pad_id: int) -> None:
        has_none = ~self.is_known.any(dim=1)
        if has_none.any():
            msg = f"cell {int(has_none.nonzero()[0])} has no known token; begin each with <cls> at least."
            raise DataError(msg)
        is_wrong = ~self.values.isfinite()
        if is_wrong.any():
            cell, place = is_wrong.nonzero()[0].tolist()
            msg = (
                f"the known value of token {int(self.ids[cell, place])} of cell {cell} is "
                f"{float(self.values[cell, place])}; give a number, or ask for it (known_mask)."
            )
            raise DataError(msg)
        known = torch.zeros(len(self.ids), vocab_size, dtype=torch.bool, device=self.ids.device)
        known.scatter_(1, self.ids.masked_fill(~self.is_known, pad_id), True)
        is_both = known.gather(1, self.ids) & self.is_asked
        if is_both.any():
            cell, place = is_both.nonzero()[0].tolist()
            msg = f"token {int(self.ids[cell, place])} of cell {cell} is both known and asked for; name it once."
            raise DataError(msg)


def _scores(
    model: AutoregressiveTransformer, question: _Question, cells: torch.Tensor, genes: torch.Tensor
) -> torch.Tensor:
    """Return the scores of the bins of some genes, each of one of the cells, shape (M, K), float32."""
    index, is_kept = gather_visible(question.is_known)
    states = model.read_prefix(question.ids.gather(1, index), is_kept, question.values.gather(1, index))  # (B, H)
    rows = max(1, _NUMBERS_AT_ONCE // (2 * states.shape[1]))
    parts = zip(cells.split(rows), genes.split(rows), strict=True)
    return torch.cat([model.score_bins(states[cell], gene).float() for cell, gene in parts])
