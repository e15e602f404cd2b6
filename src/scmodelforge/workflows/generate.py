"""Synthetic cells from a generative model, written as an AnnData file."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scmodelforge import __version__
from scmodelforge._errors import ConfigError, DataError, Interrupted, nearest
from scmodelforge._registry import MODELS
from scmodelforge.data.draws import mix, uniforms
from scmodelforge.hub.bundle import Bundle
from scmodelforge.hub.load import load_model
from scmodelforge.models.generation import GeneratedCells
from scmodelforge.workflows.outputs import check_output
from scmodelforge.workflows.progress import Countdown

__all__ = ["GenerateOptions", "generate_file", "parse_prompt"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GenerateOptions:
    """How cells are drawn.

    Attributes
    ----------
    num_cells
        Number of cells.
    num_genes
        Genes drawn for each cell; ``None`` draws a number for each as the training cells have it.
    prompt
        Genes every cell expresses, and the bin of each.
    temperature, top_k, bins
        See :func:`~scmodelforge.models.generation.generate_cells`.
    seed
        Seed of all draws.
    batch_size
        Cells drawn together.
    """

    num_cells: int = 100
    num_genes: int | None = None
    prompt: Mapping[str, int] | None = None
    temperature: float = 1.0
    top_k: int | None = None
    bins: Any = "sample"
    seed: int = 0
    batch_size: int = 64


def parse_prompt(words: list[str]) -> dict[str, int]:
    """Return genes and bins of words ``GENE=BIN``.

    Raises
    ------
    ConfigError
        If a word is of another form or a gene is given twice.
    """
    found: dict[str, int] = {}
    for word in words:
        gene, equals, number = word.rpartition("=")
        if not equals or not gene or not number.isdecimal():
            msg = f"--prompt {word!r} is not of the form GENE=BIN, such as CD3D=40."
            raise ConfigError(msg)
        if gene in found:
            msg = f"--prompt names gene '{gene}' twice; give it one bin."
            raise ConfigError(msg)
        found[gene] = int(number)
    return found


def generate_file(
    out: Path, *, model: str | Path, options: GenerateOptions, trust_plugins: bool = False, force: bool = False
) -> list[str]:
    """Write cells drawn from a model.

    ``X`` holds for each gene the mean expression of its bin among the training cells, ``layers['bin']`` the bins.
    Genes that were not drawn are 0. ``uns['scmodelforge']`` names the model and where it came from.

    Parameters
    ----------
    out
        File to write.
    model, trust_plugins
        Address of the model, as of :func:`~scmodelforge.hub.load.load_model`.
    options
        How cells are drawn.
    force
        Replace ``out``.

    Returns
    -------
    Closing lines for the user.

    Raises
    ------
    ConfigError
        If the model cannot generate, or an option is out of range.
    DataError
        If a gene of the prompt is unknown, the model folder is not one or the file cannot be written.
    """
    if out.suffix != ".h5ad":
        msg = f"{out} does not end in .h5ad, which is what is written; name it so."
        raise ConfigError(msg)
    check_output(out, force=force)
    bundle = load_model(model, trust_plugins=trust_plugins)
    _require_generative(bundle, options)
    prompt = _prompt_tokens(bundle, options.prompt or {})
    numbers = _genes_to_draw(bundle, options, prompt_len=len(prompt))
    _warn_beyond_training(bundle, numbers, prompt_len=len(prompt))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bundle.model.to(device)
    countdown = Countdown("generate", total=options.num_cells)
    parts: list[GeneratedCells] = []
    try:
        for start in range(0, options.num_cells, options.batch_size):
            wanted = numbers[start : start + options.batch_size]
            keys = mix(options.seed, "generate", np.arange(start, start + len(wanted)))
            parts.append(_draw(bundle, prompt, wanted, options, keys=torch.from_numpy(keys.view(np.int64))))
            countdown.advance(len(wanted))
    except KeyboardInterrupt as stop:
        msg = f"stopped after {countdown.done:,} of {options.num_cells:,} cells; nothing was written."
        raise Interrupted(msg) from stop
    finally:
        countdown.close()
    _write(out, parts, bundle, options)
    drawn = np.concatenate([part.is_generated.sum(dim=1).cpu().numpy() for part in parts])
    return [
        f"generated {options.num_cells:,} cells of {np.median(drawn):,.0f} genes (median)",
        f"cells: {out} (X: {bundle.tokenizer.maker.centres.scale}, layers['bin'])",
        f'next: python -c "import anndata; print(anndata.read_h5ad({str(out)!r}))"',
    ]


def _require_generative(bundle: Bundle, options: GenerateOptions) -> None:
    if not hasattr(bundle.model, "generate"):
        able = [name for name in MODELS.names() if hasattr(MODELS.get(name), "generate")]
        msg = (
            f"architecture '{bundle.model_config.architecture}' cannot generate cells; train one that can: "
            f"{', '.join(able)}."
        )
        raise ConfigError(msg)
    if not hasattr(bundle.tokenizer.maker, "bin_values"):
        msg = (
            f"tokenizer '{bundle.tokenizer.strategy}' has no bins to turn into expression; train with "
            "tokenizer.strategy binned_expression."
        )
        raise ConfigError(msg)
    if bundle.tokenizer.maker.centres is None:
        msg = "the model's tokenizer was not fitted to training cells, so its bins mean no expression; train it again."
        raise DataError(msg)
    if not bundle.tokenizer.maker.config.add_cls and not options.prompt:
        msg = "the model was trained without <cls>, so it cannot begin with nothing; give it a gene with --prompt."
        raise ConfigError(msg)


def _prompt_tokens(bundle: Bundle, prompt: Mapping[str, int]) -> list[tuple[int, int]]:
    """Return token and bin of each gene of the prompt."""
    n_bins = bundle.tokenizer.maker.config.n_bins
    tokens = bundle.vocab.map(prompt)
    found = []
    for (gene, number), token in zip(prompt.items(), tokens.tolist(), strict=True):
        if token < 0:
            msg = f"gene '{gene}' of the prompt is not in the model's vocabulary.{nearest(gene, bundle.vocab.genes)}"
            raise DataError(msg)
        if not 1 <= number < n_bins:
            msg = f"bin {number} of gene '{gene}' is not one of 1 to {n_bins - 1} (1 is low, {n_bins - 1} high)."
            raise ConfigError(msg)
        found.append((token, number))
    if len({token for token, _ in found}) < len(found):
        msg = "two genes of the prompt are one gene of the model's vocabulary; name it once."
        raise ConfigError(msg)
    return found


def _genes_to_draw(bundle: Bundle, options: GenerateOptions, *, prompt_len: int) -> np.ndarray:
    """Return how many genes are drawn for each cell beside its prompt, shape (n,), int64."""
    room = bundle.model_config.max_seq_len - 1 - prompt_len
    if room < 0:
        msg = (
            f"the prompt has {prompt_len:,} genes, more than model.max_seq_len ({bundle.model_config.max_seq_len:,}) "
            "has room for; name fewer."
        )
        raise ConfigError(msg)
    if options.num_genes is not None:
        if options.num_genes > room:
            msg = (
                f"--num-genes {options.num_genes:,} and {prompt_len} genes of the prompt exceed model.max_seq_len "
                f"({bundle.model_config.max_seq_len:,}); ask for {max(0, room):,} genes at most."
            )
            raise ConfigError(msg)
        return np.full(options.num_cells, options.num_genes, dtype=np.int64)
    levels = uniforms(mix(options.seed, "generated cell", np.arange(options.num_cells)), "number of genes")
    quantiles = bundle.tokenizer.maker.centres.num_genes
    numbers = np.rint(np.interp(levels, np.linspace(0, 1, len(quantiles)), quantiles)) - prompt_len
    crowded = np.count_nonzero(numbers > room)
    if crowded:
        _log.warning(
            f"{crowded:,} of {options.num_cells:,} cells get fewer genes than training cells have: "
            f"{room + prompt_len:,}, all that model.max_seq_len ({bundle.model_config.max_seq_len:,}) has room for."
        )
    return np.clip(numbers, 0, room).astype(np.int64)


def _warn_beyond_training(bundle: Bundle, numbers: np.ndarray, *, prompt_len: int) -> None:
    longest, trained = int(numbers.max(initial=0)) + prompt_len, bundle.tokenizer.maker.config.max_genes - 1
    if longest > trained:
        _log.warning(
            f"cells of up to {longest:,} genes are drawn, but the model was trained on at most {trained:,} of a cell "
            "(tokenizer.max_genes); what it draws beyond is extrapolated."
        )


def _draw(
    bundle: Bundle, prompt: list[tuple[int, int]], wanted: np.ndarray, options: GenerateOptions, *, keys: torch.Tensor
) -> GeneratedCells:
    model: Any = bundle.model
    values = torch.from_numpy(bundle.tokenizer.maker.bin_values())
    first = [(bundle.vocab.cls_id, 0)] if bundle.tokenizer.maker.config.add_cls or not prompt else []
    start = torch.tensor([*first, *prompt]).expand(len(wanted), -1, 2)
    ids, bins = start[..., 0].contiguous(), start[..., 1].contiguous()
    shown = values[bins]
    shown[:, : len(first)] = bundle.tokenizer.maker.config.cls_value
    cells: GeneratedCells = model.generate(
        ids,
        values=shown,
        bin_ids=bins,
        max_new_genes=torch.from_numpy(wanted),
        temperature=options.temperature,
        top_k=options.top_k,
        bins=options.bins,
        bin_values=values,
        keys=keys,
    )
    return cells


def _write(out: Path, parts: list[GeneratedCells], bundle: Bundle, options: GenerateOptions) -> None:
    import anndata as ad
    import pandas as pd
    import scipy.sparse as sp

    numbers_of_tokens = bundle.vocab.gene_numbers
    shape = (options.num_cells, len(bundle.vocab.genes))
    rows, columns, bins, log_probs, drawn = [], [], [], [], []
    start = 0
    for part in parts:
        numbers_of_genes = numbers_of_tokens[part.input_ids.cpu().numpy()]
        is_gene = (part.attention_mask > 0).cpu().numpy() & (numbers_of_genes >= 0)
        cells, places = np.nonzero(is_gene)
        rows.append(cells + start)
        columns.append(numbers_of_genes[cells, places])
        bins.append(part.bin_ids.cpu().numpy()[cells, places])
        log_probs.append(part.log_probs.sum(dim=1).cpu().numpy())
        drawn.append(part.is_generated.sum(dim=1).cpu().numpy())
        start += len(is_gene)
    where = (np.concatenate(rows), np.concatenate(columns))
    numbers = np.concatenate(bins)
    centres = bundle.tokenizer.maker.centres
    expression = sp.csr_matrix((centres.values[numbers].astype(np.float32), where), shape=shape)
    obs = pd.DataFrame(
        {
            "n_genes": np.diff(expression.indptr),
            "n_generated": np.concatenate(drawn),
            "log_prob": np.concatenate(log_probs),
        },
        index=[f"generated_{number}" for number in range(options.num_cells)],
    )
    symbols = [symbol or gene for symbol, gene in zip(bundle.vocab.symbols, bundle.vocab.genes, strict=True)]
    var = pd.DataFrame({"symbol": symbols}, index=list(bundle.vocab.genes))
    adata = ad.AnnData(X=expression, obs=obs, var=var)
    adata.layers["bin"] = sp.csr_matrix((numbers.astype(np.int32), where), shape=shape)
    adata.uns["scmodelforge"] = {
        "scmodelforge_version": __version__,
        "model": bundle.origin,
        "model_id": bundle.model_id,
        "architecture": bundle.model_config.architecture,
        "synthetic": True,
        "x_scale": centres.scale,
        "options": json.dumps({**vars(options), "prompt": dict(options.prompt or {})}),
    }
    temporary = out.with_name(out.name + ".writing")
    try:
        adata.write_h5ad(temporary)
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
