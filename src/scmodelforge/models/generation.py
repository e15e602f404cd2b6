"""Generation: genes of a cell and their bins drawn one after another from an autoregressive model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.constants import CLS_TOKEN, PAD_TOKEN, SPECIAL_TOKENS
from scmodelforge.data.draws import uniforms
from scmodelforge.models.components.attention import KeyValueCache, prefix_mask
from scmodelforge.models.components.embeddings import blank_padding

if TYPE_CHECKING:
    from scmodelforge.models.autoregressive import AutoregressiveTransformer

__all__ = ["GeneratedCells", "generate_cells"]

_PAD_ID = SPECIAL_TOKENS.index(PAD_TOKEN)
_CLS_ID = SPECIAL_TOKENS.index(CLS_TOKEN)

BinChoice = Literal["sample", "argmax", "mean"]


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
    _check_options(temperature, top_k, bins)
    device = next(model.parameters()).device
    table = _bin_values(bin_values, model.n_bins).to(device)
    if bin_ids is not None:
        model.check_bins(bin_ids)
    if values is None and bin_ids is not None:
        values = table[bin_ids.to(device)]
    cells = _start(input_ids, attention_mask, values, bin_ids, num_cells=num_cells, device=device)
    model.embedding.check_ids(cells.input_ids)
    wanted = torch.as_tensor(max_new_genes, device=device).expand(len(cells.input_ids))
    _check_lengths(cells, wanted, model.max_seq_len)
    steps = int(wanted.max()) if len(wanted) else 0
    writer = _Writer(model, cells, steps, use_cache=use_cache)
    levels = _levels(len(wanted), steps, generator, keys).to(device)
    with _evaluation(model), torch.no_grad():
        for step in range(steps):
            state = writer.next_state()  # (B, H)
            scores = model.gene_head(state).float().masked_fill(writer.is_excluded, float("-inf"))  # (B, V)
            is_active = (wanted > step) & scores.isfinite().any(dim=1)
            scores = torch.where(is_active[:, None], scores, torch.zeros_like(scores))
            genes = _draw(scores, levels[:, step, 0], temperature, top_k)
            bin_scores = model.score_bins(state, genes).float()  # (B, K)
            chosen = _draw_bins(bin_scores, levels[:, step, 1], bins, temperature)
            log_probs = _log_prob(scores, genes) + _log_prob(bin_scores, chosen)
            writer.append(genes, chosen, table[chosen], log_probs, is_active)
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
        self.is_excluded[:, : len(SPECIAL_TOKENS)] = True
        self.is_excluded.scatter_(1, prompt.input_ids, True)

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
        embedded = self._model.embedding(
            self.cells.input_ids[:, first:], self.cells.values[:, first:], positions=positions[:, first:]
        )
        hidden = self._model.encoder(embedded, None, mask, caches=self._caches)
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
        genes = genes.masked_fill(~is_active, _PAD_ID)
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


def _bin_values(given: torch.Tensor | None, n_bins: int) -> torch.Tensor:
    if given is None:
        return torch.arange(n_bins) / (n_bins - 1)
    if len(given) != n_bins:
        msg = f"bin_values has {len(given)} values, but the model has {n_bins} bins (model.n_bins)."
        raise ConfigError(msg)
    return given.float()


def _levels(num_cells: int, steps: int, generator: torch.Generator | None, keys: torch.Tensor | None) -> torch.Tensor:
    """Return what decides each draw of a gene and of its bin, shape (B, steps, 2), float64, in [0, 1)."""
    if keys is not None and generator is not None:
        msg = "both generator and keys are given; draws follow from one of them."
        raise ConfigError(msg)
    if keys is None:
        device = None if generator is None else generator.device
        return torch.rand(num_cells, steps, 2, generator=generator, device=device, dtype=torch.float64)
    if keys.shape != (num_cells,) or keys.is_floating_point():
        msg = f"keys are {keys.dtype} of shape {tuple(keys.shape)}, but {num_cells} cells need a whole number each."
        raise ConfigError(msg)
    draws = np.arange(2 * steps).reshape(steps, 2)
    return torch.from_numpy(uniforms(keys.cpu().numpy()[:, None, None], "generate", draws))


def _check_options(temperature: float, top_k: int | None, bins: str) -> None:
    if not 0 <= temperature < math.inf:
        msg = f"temperature is {temperature}; it must be a finite number, 0 or more."
        raise ConfigError(msg)
    if top_k is not None and top_k < 1:
        msg = f"top_k is {top_k}; it must be at least 1, or None for all genes."
        raise ConfigError(msg)
    if bins not in ("sample", "argmax", "mean"):
        msg = f"bins is {bins!r}; choose one of sample, argmax, mean."
        raise ConfigError(msg)


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
) -> GeneratedCells:
    if input_ids is None:
        input_ids = torch.full((1 if num_cells is None else num_cells, 1), _CLS_ID)
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
    ids, blank = blank_padding(ids, shown, mask)
    bins = torch.zeros_like(ids) if bin_ids is None else bin_ids.to(device).masked_fill(mask == 0, 0)
    drawn = torch.zeros_like(ids, dtype=torch.bool)
    parts = (ids, bins, shown if blank is None else blank, mask, drawn, torch.zeros_like(shown))
    width = int(mask.sum(dim=1).max()) if len(mask) else ids.shape[1]  # padding that no prompt needs is cut off
    return GeneratedCells(*(part[:, :width] for part in parts))


def _draw(scores: torch.Tensor, levels: torch.Tensor, temperature: float, top_k: int | None) -> torch.Tensor:
    """Draw a column of each row, shape (B,): the one where the sum of probabilities passes the level, shape (B,)."""
    if temperature == 0:
        return scores.argmax(dim=1)
    if top_k is not None and top_k < scores.shape[1]:
        lowest = scores.topk(top_k, dim=1).values[:, -1:]
        scores = scores.masked_fill(scores < lowest, float("-inf"))
    below = (scores - scores.amax(dim=1, keepdim=True)).double() / temperature  # at most 0: none is too low
    passed = below.exp().cumsum(dim=1)
    # The level times the sum can be rounded up to the sum, which no column passes.
    aims = torch.minimum(levels * passed[:, -1], passed[:, -1].nextafter(torch.zeros_like(levels)))
    return torch.searchsorted(passed, aims[:, None], right=True)[:, 0]


def _draw_bins(scores: torch.Tensor, levels: torch.Tensor, bins: BinChoice, temperature: float) -> torch.Tensor:
    scores = torch.cat([torch.full_like(scores[:, :1], float("-inf")), scores[:, 1:]], dim=1)  # no expression
    if bins == "sample":
        return _draw(scores, levels, temperature, None)
    if bins == "argmax":
        return scores.argmax(dim=1)
    number = torch.arange(scores.shape[1], device=scores.device, dtype=scores.dtype)
    return (scores.softmax(dim=1) @ number).round().long()


def _log_prob(scores: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    return scores.log_softmax(dim=1).gather(1, chosen[:, None])[:, 0]


def _compacted(cells: GeneratedCells) -> GeneratedCells:
    """Move the padding of short prompts to the end."""
    order = (1 - cells.attention_mask).argsort(dim=1, stable=True)
    length = max(1, int(cells.attention_mask.sum(dim=1).max())) if len(order) else order.shape[1]
    arranged = {field.name: getattr(cells, field.name).gather(1, order)[:, :length] for field in fields(cells)}
    return GeneratedCells(**arranged)


@contextmanager
def _evaluation(model: torch.nn.Module) -> Iterator[None]:
    """Switch to evaluation, and back to the mode that each module had."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
