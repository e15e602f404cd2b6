"""Generation: genes of a cell and their bins drawn one after another from an autoregressive model."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.models._drawing import BinChoice, Drawing, bin_table, draw_levels, log_prob
from scmodelforge.models._utils import evaluation
from scmodelforge.models.components.attention import KeyValueCache, prefix_mask
from scmodelforge.models.components.embeddings import blank_padding
from scmodelforge.models.components.special_tokens import SpecialIds

if TYPE_CHECKING:
    from scmodelforge.models.autoregressive import AutoregressiveTransformer

__all__ = ["GeneratedCells", "generate_cells"]


@dataclass(frozen=True)
class GeneratedCells:
    """Cells with their prompt, right-padded, each of shape (B, S).

    Attributes
    ----------
    input_ids
        Tokens, int64.
    bin_ids
        Expression bins, int64; those of the prompt as given.
    values
        Values the model was shown for these bins, float32.
    attention_mask
        1 for tokens and 0 for padding, int64.
    is_generated
        Which tokens were drawn, bool.
    log_probs
        Log-probability of each drawn gene and its bin given all before, in nats, without temperature and ``top_k``;
        0 at the prompt and at padding.
    """

    input_ids: torch.Tensor
    bin_ids: torch.Tensor
    values: torch.Tensor
    attention_mask: torch.Tensor
    is_generated: torch.Tensor
    log_probs: torch.Tensor


def generate_cells(
    model: AutoregressiveTransformer,
    input_ids: torch.Tensor | None = None,
    attention_mask: torch.Tensor | None = None,
    values: torch.Tensor | None = None,
    *,
    max_new_genes: int | torch.Tensor,
    num_cells: int | None = None,
    bin_ids: torch.Tensor | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    bins: BinChoice = "sample",
    bin_values: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
    keys: torch.Tensor | None = None,
    use_cache: bool = True,
) -> GeneratedCells:
    """Draw genes that a cell expresses, each with its bin, given those before it. No gene comes twice.

    Parameters
    ----------
    model
        The model. Its mode is not changed.
    input_ids
        Prompts, shape (B, P), right-padded. ``None`` starts ``num_cells`` cells from ``<cls>``.
    attention_mask
        1 for tokens of the prompt and 0 for padding, shape (B, P); ``None`` takes all as tokens.
    values, bin_ids
        Expression values and bins of the prompt, shape (B, P). Values follow from bins if only these are given;
        without both they are zeros.
    max_new_genes
        Genes to draw: one number, or one for each cell, shape (B,). A cell ends before if no gene is left.
    num_cells
        Number of cells B, only without ``input_ids``; by default 1.
    temperature
        Divides the scores of genes and bins: below 1 is more cautious, 0 takes the most probable always.
    top_k
        Draw among so many most probable genes only.
    bins
        Draw the bin, take the most probable, or the rounded mean; never bin 0, which is no expression.
    bin_values
        Value the model is shown for each bin, shape (K,), as its tokenizer has it; by default the bin's number over
        K - 1.
    generator
        Source of randomness; by default torch's own.
    keys
        A number for each cell, shape (B,), int64, that its draws follow from, instead of ``generator``: a cell with the
        same key is the same in every batch, up to what other batch sizes change in rounding.
    use_cache
        Keep keys and values of earlier tokens. Without it the same cells are made, slower.

    Returns
    -------
    The cells with their prompts.

    Raises
    ------
    ConfigError
        If an option is out of range or the cells would be longer than ``max_seq_len``.
    DataError
        If a prompt has no token, padding before a token, or a token that is not in the vocabulary.
    """
    drawing = Drawing(temperature, top_k, bins)
    device = next(model.parameters()).device
    table = bin_table(bin_values, model.n_bins).to(device)
    if bin_ids is not None:
        model.check_bins(bin_ids)
    if values is None and bin_ids is not None:
        values = table[bin_ids.to(device)]
    special_ids = model.embedding.special_ids
    prompts = (input_ids, attention_mask, values, bin_ids)
    cells = _start(*prompts, num_cells=num_cells, device=device, special_ids=special_ids)
    model.embedding.check_ids(cells.input_ids)
    wanted = torch.as_tensor(max_new_genes, device=device).expand(len(cells.input_ids))
    _check_lengths(cells, wanted, model.max_seq_len)
    steps = int(wanted.max()) if len(wanted) else 0
    writer = _Writer(model, cells, steps, use_cache=use_cache)
    levels = draw_levels(len(wanted), steps, generator, keys).to(device)
    with evaluation(model), torch.no_grad():
        for step in range(steps):
            writer.add(drawing, levels[:, step], table, is_wanted=wanted > step)
    return _compacted(writer.cells)


class _Writer:
    """Cells under way: their tokens so far, and what the model needs to go on."""

    def __init__(self, model: AutoregressiveTransformer, prompt: GeneratedCells, steps: int, *, use_cache: bool):
        self.cells = prompt
        self._model = model
        self._prompt_len = prompt.input_ids.shape[1]
        self._caches: list[KeyValueCache] | None = None
        if use_cache:
            self._caches = [KeyValueCache(self._prompt_len + steps) for _ in model.encoder.layers]
        self._seen = 0  # tokens the caches hold
        self._total: torch.Tensor | None = None  # of their hidden states, shape (B, H)
        shape = (len(prompt.input_ids), model.vocab_size)
        self.is_excluded = torch.zeros(shape, dtype=torch.bool, device=prompt.input_ids.device)
        self.is_excluded[:, model.embedding.special_ids.on(self.is_excluded.device)] = True
        self.is_excluded.scatter_(1, prompt.input_ids, True)

    def add(self, drawing: Drawing, levels: torch.Tensor, table: torch.Tensor, *, is_wanted: torch.Tensor) -> None:
        """Draw a gene and its bin at two levels for each cell, shape (B, 2), where one is wanted and left."""
        state = self.next_state()  # (B, H)
        scores = self._model.gene_head(state).float().masked_fill(self.is_excluded, float("-inf"))  # (B, V)
        is_active = is_wanted & scores.isfinite().any(dim=1)
        scores = torch.where(is_active[:, None], scores, torch.zeros_like(scores))
        genes = drawing.genes(scores, levels[:, 0])
        bin_scores = self._model.score_bins(state, genes).float()  # (B, K)
        chosen = drawing.bins_of(bin_scores, levels[:, 1])
        self.append(genes, chosen, table[chosen], log_prob(scores, genes) + log_prob(bin_scores, chosen), is_active)

    def next_state(self) -> torch.Tensor:
        """Return what the heads read where the next gene of each cell is to be named, shape (B, H)."""
        is_token = self.cells.attention_mask.bool()
        positions = (is_token.cumsum(dim=1) - 1).clamp(min=0)
        length = is_token.shape[1]
        if self._caches is None:
            first, prefix = 0, torch.tensor([self._prompt_len], device=is_token.device)
            mask = prefix_mask(length, prefix, is_token.device) & is_token[:, None, None, :]
        else:
            first, mask = self._seen, is_token[:, None, None, :]  # the prompt sees all of itself, a new token all
        embedding, shown = self._model.embedding, (self.cells.input_ids[:, first:], self.cells.values[:, first:])
        embedded, bias = embedding(*shown, positions=positions[:, first:]), embedding.attention_bias(*shown)
        hidden = self._model.encoder(embedded, None, mask, caches=self._caches, key_bias=bias)
        self._seen = length
        if self._model.readout_norm is not None:
            added = hidden.masked_fill(~is_token[:, first:, None], 0.0).sum(dim=1, dtype=torch.float32)
            self._total = added if self._caches is None or self._total is None else self._total + added
            mean = self._total / is_token.sum(dim=1, keepdim=True)
            return self._model.readout_norm(mean.to(hidden.dtype))
        if length > self._prompt_len:
            return hidden[:, -1]
        return hidden[torch.arange(len(hidden), device=hidden.device), positions[:, -1]]

    def append(
        self,
        genes: torch.Tensor,
        bins: torch.Tensor,
        values: torch.Tensor,
        log_probs: torch.Tensor,
        is_active: torch.Tensor,
    ) -> None:
        """Add a token to each cell that is active, padding to the others; all of shape (B,)."""
        genes = genes.masked_fill(~is_active, self._model.embedding.special_ids.pad)
        self.is_excluded.scatter_(1, genes[:, None], True)
        added = {
            "input_ids": genes,
            "bin_ids": bins.masked_fill(~is_active, 0),
            "values": values.masked_fill(~is_active, 0.0),
            "attention_mask": is_active.long(),
            "is_generated": is_active,
            "log_probs": log_probs.masked_fill(~is_active, 0.0),
        }
        self.cells = GeneratedCells(
            **{name: torch.cat([getattr(self.cells, name), new[:, None]], dim=1) for name, new in added.items()}
        )


def _check_lengths(cells: GeneratedCells, wanted: torch.Tensor, max_seq_len: int) -> None:
    if wanted.is_floating_point():
        msg = "max_new_genes is no whole number; give one, or whole numbers for the cells."
        raise ConfigError(msg)
    if not len(wanted):
        return
    if int(wanted.min()) < 0:
        msg = f"max_new_genes is {int(wanted.min())}; it must be 0 or more."
        raise ConfigError(msg)
    longest, steps = int(cells.attention_mask.sum(dim=1).max()), int(wanted.max())
    if longest + steps > max_seq_len:
        msg = (
            f"a prompt of {longest:,} tokens and max_new_genes ({steps:,}) exceed model.max_seq_len ({max_seq_len:,}) "
            "together; ask for fewer genes."
        )
        raise ConfigError(msg)


def _start(
    input_ids: torch.Tensor | None,
    attention_mask: torch.Tensor | None,
    values: torch.Tensor | None,
    bin_ids: torch.Tensor | None,
    *,
    num_cells: int | None,
    device: torch.device,
    special_ids: SpecialIds,
) -> GeneratedCells:
    if input_ids is None:
        if special_ids.cls is None:
            msg = "the model's vocabulary has no <cls> token to begin cells with; give prompts (input_ids)."
            raise ConfigError(msg)
        input_ids = torch.full((1 if num_cells is None else num_cells, 1), special_ids.cls)
    elif num_cells not in (None, len(input_ids)):
        msg = f"num_cells is {num_cells}, but there are {len(input_ids)} prompts; give one of the two."
        raise ConfigError(msg)
    ids = input_ids.to(device)
    mask = torch.ones_like(ids) if attention_mask is None else (attention_mask.to(device) != 0).long()
    if not bool(mask.any(dim=1).all()):
        msg = "a prompt has no token; begin each with <cls> at least."
        raise DataError(msg)
    if bool((mask[:, 1:] > mask[:, :-1]).any()):
        msg = "a prompt has padding before or between its tokens; pad on the right."
        raise DataError(msg)
    shown = torch.zeros(ids.shape, device=device) if values is None else values.to(device).float()
    ids, blank = blank_padding(ids, shown, mask, pad_id=special_ids.pad)
    bins = torch.zeros_like(ids) if bin_ids is None else bin_ids.to(device).masked_fill(mask == 0, 0)
    drawn = torch.zeros_like(ids, dtype=torch.bool)
    parts = (ids, bins, shown if blank is None else blank, mask, drawn, torch.zeros_like(shown))
    width = int(mask.sum(dim=1).max()) if len(mask) else ids.shape[1]  # padding that no prompt needs is cut off
    return GeneratedCells(*(part[:, :width] for part in parts))


def _compacted(cells: GeneratedCells) -> GeneratedCells:
    """Move the padding of short prompts to the end."""
    order = (1 - cells.attention_mask).argsort(dim=1, stable=True)
    length = max(1, int(cells.attention_mask.sum(dim=1).max())) if len(order) else order.shape[1]
    arranged = {field.name: getattr(cells, field.name).gather(1, order)[:, :length] for field in fields(cells)}
    return GeneratedCells(**arranged)
