"""The model card: what a model folder says about itself, made of the facts that are in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scmodelforge import __version__
from scmodelforge._registry import OBJECTIVES
from scmodelforge.config.cell_labels import counted_terms, names_cell_types
from scmodelforge.eval.base import Record
from scmodelforge.eval.harness import summary_table
from scmodelforge.hub.bundle import Bundle, BundleParts
from scmodelforge.workflows.card_metadata import card_title, licence_name, metadata_block, score_fields
from scmodelforge.workflows.card_text import CardScores, marked
from scmodelforge.workflows.fine_tuning_facts import fine_tuned_from, next_command

__all__ = ["model_card"]

_ADDRESS = "path/to/this-folder"
_NO_LICENCE = (
    "None is stated: ask those who made the model before you use it or pass it on. Its owners state one with\n"
    "`scmodelforge hub card MODEL --licence apache-2.0 --write`."
)


def model_card(
    model: Bundle | BundleParts,
    *,
    records: Sequence[Record] = (),
    kept: CardScores | None = None,
    address: str | None = None,
    licence: str | None = None,
) -> str:
    """Return the text of a model card, in Markdown with the metadata block that model hubs read.

    Its last line is a checksum, by which a card that someone edited is told from one that can be made anew.

    Parameters
    ----------
    model
        The model, or all of it but the weights.
    records
        Its evaluation; empty if there is none.
    kept
        What an earlier card says of its scores, where there are no records.
    address
        Where others find it; ``None`` if it is not known.
    licence
        Of the weights; ``None`` is that of published weights if that is known, else none is stated.
    """
    facts = model.fingerprint
    published = facts.get("imported_from", {})
    licence = licence or published.get("licence")
    scores = kept if kept is not None and not records else _scores(model, records)
    sections = {
        "How to use it": _use(model, address or _ADDRESS),
        "What goes in": _input(model),
        "What it was trained on": _data(facts),
        "Load report": "\n".join(f"- {line}" for line in published.get("load_report", [])),
        "What was hidden and what was held out": _hidden(model),
        "Evaluation": scores.text,
        "Limits": _limits(model),
        "Licence": licence_name(licence) or _NO_LICENCE,
        "Citation": f"doi:{published['citation']}" if published.get("citation") else "",
    }
    made = f"Trained with scModelForge {__version__}. Objective: `{model.objective}`."
    if published:
        page = f" ({published['page']})" if published.get("page") else ""
        importer, origin = published.get("importer"), published.get("origin") or published.get("folder")
        made = (
            f"Published by others{page}; imported with scModelForge {__version__} (`{importer}`) from `{origin}`.\n"
            "Weights are as published, but for what the load report names."
        )
    made = " ".join(text for text in (made, fine_tuned_from(facts)) if text)
    if facts.get("step"):
        made += f" Weights after step {facts['step']:,}."
    text = "\n\n".join(f"## {title}\n\n{body}" for title, body in sections.items() if body)
    return marked(
        f"---\n{metadata_block(model, scores.fields, licence)}---\n\n# {card_title(model)}\n\n{made}\n\n{text}\n"
    )


def _use(model: Bundle | BundleParts, address: str) -> str:
    trust = ", trust_plugins=True" if model.plugins else ""
    option = " --trust-plugins" if model.plugins else ""
    task = (model.fingerprint.get("fine_tuning") or {}).get("task")
    command = next_command(task).replace("YOUR.h5ad", "cells.h5ad")
    lines = [
        "```python",
        "import scmodelforge as smf",
        "",
        f'smf.tl.embed(adata, "{address}"{trust})  # into adata.obsm["X_scmodelforge"]',
        "```",
        "",
        "```bash",
        f"scmodelforge {command} --model {address}{option}",
        "```",
    ]
    if names_cell_types(model.model_config):
        lines += ["", "It learned cell types: `smf.tl.annotate` and `scmodelforge predict` name those of other cells."]
    if model.plugins:
        files = ", ".join(f"`{Path(each).name}`" for each in model.plugins)
        lines += ["", f"It needs Python code of its own, which is not run unasked: read {files} before you trust it."]
    return "\n".join(lines)


def _input(model: Bundle | BundleParts) -> str:
    settings = {name: value for name, value in model.preprocessor.to_dict().items() if value not in (None, False)}
    steps = ", ".join(f"{name} {value}" for name, value in settings.items() if name in ("normalize", "target_sum"))
    steps = steps if model.preprocessor.config.normalize else ""
    if model.preprocessor.config.log1p:
        steps = f"{steps}, log1p" if steps else "log1p"
    limits = ", ".join(
        f"{name} {value}" for name, value in settings.items() if name.startswith(("min_", "max_", "hvg_s"))
    )
    words = "Counts of each cell, of all genes of its file, which are found by id."
    if getattr(model.tokenizer, "expects", "counts") == "any" and not steps:
        words = "Values of each cell as those it was trained on, of all genes of its file, which are found by id."
    lines = [
        f"{words} Done by the model itself: {steps or 'nothing before tokens are made'}.",
        f"Tokenizer: {model.tokenizer.describe()}.",
        f"Vocabulary `{model.vocab.name}`: {len(model.vocab.genes):,} genes ({model.vocab.genes[0]}, ...).",
    ]
    return "\n".join([*lines, f"Trained on cells and genes within {limits}."] if limits else lines)


def _data(facts: dict[str, Any]) -> str:
    parts = []
    if facts.get("data"):
        rows = [
            f"| {each['name']} | {each['cells']:,} | {each['genes']:,} | `{str(each.get('sha256', ''))[:16]}` |"
            for each in facts["data"]
        ]
        parts.append("\n".join(["| file | cells | genes | sha256 |", "|---|---|---|---|", *rows]))
    if "num_train" in facts:
        parts.append(
            f"{facts['num_train']:,} cells trained on, {facts.get('num_validation', 0):,} held out, "
            f"{facts.get('num_empty', 0):,} without a known gene,\n"
            f"{facts.get('num_dropped', 0):,} outside the limits of preprocessing."
        )
    published = facts.get("imported_from", {})
    if published.get("files"):
        files = {**published["files"], **published.get("dictionaries", {})}
        rows = [f"| {name} | `{digest}` |" for name, digest in files.items()]
        parts.append("\n".join(["| published file | sha256 |", "|---|---|", *rows]))
    if published.get("species"):
        parts.append(f"Species: {', '.join(published['species'])}.")
    if facts.get("config_hash"):
        split = f", split `{facts['split_hash'][:16]}`" if facts.get("split_hash") else ""
        parts.append(f"Fingerprint: settings `{facts['config_hash'][:16]}`{split}; all of it is in `fingerprint.json`.")
    return "\n\n".join(parts) or "Not known here."


def _hidden(model: Bundle | BundleParts) -> str:
    objective: Any = OBJECTIVES.get(model.objective) if model.objective in OBJECTIVES else None
    lines = []
    if objective is not None and objective.__doc__:
        lines.append(f"Objective `{model.objective}`: {objective.__doc__.strip().splitlines()[0]}")
        masking = getattr(model.tokenizer.config, "masking", None)
        read = getattr(objective, "reads_masking", None)
        if masking is not None and (read is None or "mask_ratio" in read):
            lines.append(f"Each gene is hidden with probability {masking.mask_ratio:g} (mode `{masking.mode}`).")
    terms = counted_terms(model.model_config)
    if terms:
        lines.append(f"Terms of its loss: {', '.join(terms)}.")
    facts = model.fingerprint
    if facts.get("num_validation"):
        share = facts["num_validation"] / (facts["num_train"] + facts["num_validation"])
        lines.append(f"Held out from training: {facts['num_validation']:,} cells ({share:.0%}).")
        again = facts.get("repeated_cells") or {}
        if again.get("found"):
            lines.append(f"Of these {again['found']:,} of {again['checked']:,} looked for are training cells as well.")
    elif "num_train" in facts:
        lines.append("No cell was held out from training.")
    return "\n".join(lines)


def _scores(model: Bundle | BundleParts, records: Sequence[Record]) -> CardScores:
    if not records:
        return CardScores("Not evaluated yet.", {})
    kind = getattr(getattr(model.model_config, "head", None), "kind", None)
    learns = "cell types" if names_cell_types(model.model_config) else "numbers" if kind == "values" else None
    return CardScores(_evaluation(records, learns=learns), score_fields(model, records))


def _evaluation(records: Sequence[Record], *, learns: str | None) -> str:
    columns, *rows = summary_table(records)
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    chosen_by = next((record.params["chosen_by"] for record in records if "chosen_by" in record.params), "val/loss")
    if chosen_by.startswith("eval/"):
        return (
            "Held-out cells, with 95 % bootstrap intervals. Of the checkpoints kept, the one with the best\n"
            f"`{chosen_by}` was exported, so that this score is too good to be expected again.\n\n"
        ) + "\n".join(lines)
    part = "their labels took no part in that choice."
    if learns is not None:
        part = (
            f"the model learns {learns}, so the labels of\nthese cells took part in that choice, and the baselines "
            "below have not learned them."
        )
    signs = "`*` marks the best score and each that cannot\nbe told apart from it"
    signs += "; `†` a baseline that is no rival of the model" if any("†" in name for name in columns) else ""
    return (
        f"Held-out cells, with 95 % bootstrap intervals; {signs}. Of the checkpoints\nkept, the one with the lowest "
        f"loss of the objective on these cells was exported; {part}\n\n"
    ) + "\n".join(lines)


def _limits(model: Bundle | BundleParts) -> str:
    lines = [
        f"- Genes outside the {len(model.vocab.genes):,} of its vocabulary are not seen; a cell without any of them "
        "gets no embedding.",
        f"- At most {model.tokenizer.config.max_genes:,} tokens of a cell are read.",
        "- Scores hold for cells like those they were measured on. Other tissues, species, diseases or ways of "
        "sequencing\n  may give worse ones: score it on cells of your own beside baselines "
        "(`scmodelforge evaluate MODEL --data FILE --baselines`).",
        "- For research; not for decisions about patients.",
    ]
    if model.trained_cells is None:
        lines.append("- It does not say which cells it was trained on, so an evaluation cannot refuse these.")
    return "\n".join(lines)
