"""The card of a model that others published and that was imported."""

from __future__ import annotations

from typing import Any

from scmodelforge import __version__
from scmodelforge.hub.bundle import Bundle

__all__ = ["imported_card"]

_UNKNOWN = "Not known: ask those who published it before you pass it on."


def imported_card(bundle: Bundle) -> str:
    """Return the text of the card, in Markdown with the metadata block that model hubs read.

    Parameters
    ----------
    bundle
        A model whose fingerprint has ``imported_from``, with what the list of published models says of it.
    """
    facts: dict[str, Any] = bundle.fingerprint["imported_from"]
    model = bundle.model_config
    title = (
        facts.get("title")
        or f"{facts.get('origin') or facts['folder']}: {model.architecture}, {model.num_layers} layers"
    )
    files = "\n".join(f"| {name} | `{sha256}` |" for name, sha256 in _all_files(facts).items())
    report = "\n".join(f"- {line}" for line in facts.get("load_report", []))
    citation = facts.get("citation")
    return f"""---
{_metadata(facts)}
---

# {title}

Published by others{f", {facts['page']}" if facts.get("page") else ""}; imported with scModelForge {__version__}
(`{facts["importer"]}`) from `{facts.get("origin") or facts["folder"]}`. Weights are as published, but for what the load
report names.

## Licence

{facts.get("licence") or _UNKNOWN}

## Citation

{f"doi:{citation}" if citation else "Not known."}

## How to use

Input: counts of each cell, of all genes of its file; genes are found by id. From the command line,
`scmodelforge embed cells.h5ad embedded.h5ad --model this-folder` writes embeddings of width {model.hidden_dim}; in
Python:

```python
from pathlib import Path
from scmodelforge.hub import load_bundle

model = load_bundle(Path("this-folder")).model
```

Vocabulary `{bundle.vocab.name}`: {len(bundle.vocab.genes):,} genes. Tokenizer: {bundle.tokenizer.describe()}.
Objective: `{bundle.objective}`.

## Load report

{report}

| file | sha256 |
|---|---|
{files}
"""


def _metadata(facts: dict[str, Any]) -> str:
    lines = ["library_name: scmodelforge", "tags: [single-cell, transcriptomics]"]
    if facts.get("licence"):
        lines.append(f"license: {facts['licence'].lower()}")
    if facts.get("repository"):
        lines.append(f"base_model: {facts['repository']}")
    return "\n".join(lines)


def _all_files(facts: dict[str, Any]) -> dict[str, str]:
    return {**facts["files"], **facts.get("dictionaries", {})}
