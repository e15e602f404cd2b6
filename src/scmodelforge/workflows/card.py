"""The model card: what a model folder says about itself."""

from __future__ import annotations

from collections.abc import Sequence

from scmodelforge import __version__
from scmodelforge.config.cell_labels import needed_labels
from scmodelforge.config.schema import RunConfig
from scmodelforge.eval.base import Record
from scmodelforge.eval.harness import summary_table
from scmodelforge.hub.bundle import Bundle

__all__ = ["model_card"]


def model_card(bundle: Bundle, config: RunConfig, *, records: Sequence[Record]) -> str:
    """Return the text of a model card, in Markdown with the metadata block that model hubs read.

    Parameters
    ----------
    bundle
        The model.
    config
        Settings of its run.
    records
        Its evaluation; empty before there is one.
    """
    facts = bundle.fingerprint
    model = bundle.model_config
    files = "\n".join(f"| {entry['name']} | {entry['cells']:,} | {entry['genes']:,} |" for entry in facts["data"])
    return f"""---
library_name: scmodelforge
tags: [single-cell, transcriptomics]
---

# {model.architecture}, {model.num_layers} layers, width {model.hidden_dim}

Trained with scModelForge {__version__}. Objective: `{bundle.objective}`. Weights after step {facts["step"]:,}.

```python
from pathlib import Path
from scmodelforge.hub import load_bundle

model = load_bundle(Path("this-folder")).model
```

## Data

| file | cells | genes |
|---|---|---|
{files}

{facts["num_train"]:,} cells trained on, {facts["num_validation"]:,} held out, {facts["num_empty"]:,} without a known
gene, {facts.get("num_dropped", 0):,} outside the limits of preprocessing. Vocabulary `{bundle.vocab.name}`:
{len(bundle.vocab.genes):,} genes. Input: counts; preprocessing `{config.data.preprocessing.model_dump_json()}`.
Tokenizer: {bundle.tokenizer.describe()}.

## Evaluation

{_evaluation(records, knows_types="cell_types" in needed_labels(model))}
"""


def _evaluation(records: Sequence[Record], *, knows_types: bool) -> str:
    if not records:
        return "Not evaluated yet."
    columns, *rows = summary_table(records)
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    part = "their labels took no part in that choice."
    if knows_types:
        part = (
            "the model learns cell types, so the labels of\nthese cells took part in that choice, and the baselines "
            "below have not learned them."
        )
    signs = "`*` marks the best score and each that cannot\nbe told apart from it"
    signs += "; `†` a baseline that is no rival of the model" if any("†" in name for name in columns) else ""
    return (
        f"Held-out cells, with 95 % bootstrap intervals; {signs}. Of the checkpoints\nkept, the one with the lowest "
        f"loss of the objective on these cells was exported; {part}\n\n"
    ) + "\n".join(lines)
