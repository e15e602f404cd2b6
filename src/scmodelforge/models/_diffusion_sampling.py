"""Cells drawn from masked diffusion: some of the hidden genes come into sight at a time, until none is left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from scmodelforge._errors import ConfigError
from scmodelforge.models._utils import evaluation
from scmodelforge.models.components.embeddings import blank_padding

if TYPE_CHECKING:
    from scmodelforge.models.scdiva_diffusion import ScDivaDiffusion

__all__ = ["SampledCells", "sample_cells"]


@dataclass(frozen=True)
class SampledCells:
    """Cells with their prompt, each of shape (B, S).

    Attributes
    ----------
    input_ids
        Tokens, int64: the prompt with its padding, then what was drawn.
    values
        Their values on the scale of the tokenizer, float32, at least 0.
    attention_mask
        1 for tokens and 0 for padding, int64.
    is_sampled
        Which tokens were drawn, bool.
    """

    input_ids: torch.Tensor
    values: torch.Tensor
    attention_mask: torch.Tensor
    is_sampled: torch.Tensor


def sample_cells(
    model: ScDivaDiffusion,
    input_ids: torch.Tensor | None = None,
    attention_mask: torch.Tensor | None = None,
    values: torch.Tensor | None = None,
    *,
    num_genes: int,
    num_cells: int | None = None,
    steps: int = 16,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> SampledCells:
    """Draw genes and their values beside those of a prompt. No gene comes twice.

    Hidden genes of a cell are alike until they are seen, so those that come into sight in a step are drawn together,
    without replacement (Gumbel noise on the scores, the highest taken), each with the value that is expected of it.

    Parameters
    ----------
    model
        The model. Its mode is not changed.
    input_ids, attention_mask, values
        Prompts, shape (B, P), right-padded; ``None`` starts ``num_cells`` cells from nothing but ``<cls>``, if the
        vocabulary has it.
    num_genes
        Genes to draw for each cell.
    num_cells
        Number of cells, only without a prompt; by default 1.
    steps
        Steps in which they come into sight, equally many in each: more are slower and closer to the model.
    temperature
        Divides the scores; 0 takes the highest always.
    generator
        Source of randomness; by default torch's own.

    Raises
    ------
    ConfigError
        If an option is out of range, or the cells would be longer than ``max_seq_len``, or there are fewer genes left.
    """
    device = next(model.parameters()).device
    special = model.embedding.special_ids
    if input_ids is None:
        start = [] if special.cls is None else [special.cls]
        input_ids = torch.tensor([start] * (1 if num_cells is None else num_cells), dtype=torch.int64)
    elif num_cells not in (None, len(input_ids)):
        msg = f"num_cells is {num_cells}, but there are {len(input_ids)} prompts; give one of the two."
        raise ConfigError(msg)
    ids = input_ids.to(device)
    mask = torch.ones_like(ids) if attention_mask is None else (attention_mask.to(device) != 0).long()
    shown = torch.zeros(ids.shape, device=device) if values is None else values.to(device).float()
    ids, blank = blank_padding(ids, shown, mask, pad_id=special.pad)
    shown = shown if blank is None else blank
    _check(model, ids, num_genes, steps, temperature)
    drawn = torch.zeros_like(ids, dtype=torch.bool)
    with evaluation(model), torch.no_grad():
        for step in range(steps):
            before, after = num_genes * step // steps, num_genes * (step + 1) // steps
            if after == before:
                continue
            hidden = torch.full((len(ids),), num_genes - before, device=device)
            state, scores = model.score_hidden(ids, mask, shown, hidden)
            noise = torch.rand(scores.shape, generator=generator).to(device).clamp(min=1e-20)
            noisy = scores if temperature == 0 else scores / temperature - torch.log(-torch.log(noise))
            genes = noisy.topk(after - before, dim=1).indices  # (B, n)
            states = state[:, None].expand(-1, genes.shape[1], -1).flatten(0, 1)
            found = model.predict_values(states, genes.flatten()).float().view(genes.shape)
            found = (found.clamp(max=30).expm1() if model.log_values else found).clamp(min=0)
            ids, shown = torch.cat([ids, genes], dim=1), torch.cat([shown, found], dim=1)
            mask = torch.cat([mask, torch.ones_like(genes)], dim=1)
            drawn = torch.cat([drawn, torch.ones_like(genes, dtype=torch.bool)], dim=1)
    return SampledCells(ids, shown, mask, drawn)


def _check(model: ScDivaDiffusion, ids: torch.Tensor, num_genes: int, steps: int, temperature: float) -> None:
    model.embedding.check_ids(ids)
    if num_genes < 0 or steps < 1 or not temperature >= 0:
        msg = f"num_genes ({num_genes}) and temperature ({temperature}) must be 0 or more, steps ({steps}) 1 or more."
        raise ConfigError(msg)
    if ids.shape[1] + num_genes > model.max_seq_len:
        msg = (
            f"a prompt of {ids.shape[1]:,} tokens and num_genes ({num_genes:,}) exceed model.max_seq_len "
            f"({model.max_seq_len:,}) together; ask for fewer genes."
        )
        raise ConfigError(msg)
    left = int((~model.in_sight(ids)).sum(dim=1).min()) if len(ids) else num_genes
    if num_genes > left:
        msg = f"num_genes is {num_genes:,}, but only {left:,} genes of the vocabulary are left; ask for fewer."
        raise ConfigError(msg)
