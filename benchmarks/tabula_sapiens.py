"""Official Geneformer weights fine-tuned to cell types of other donors: this package against ``transformers``.

The base model and the cells are those named on the command line, or official ones where they can be fetched; where
they cannot, one line says so and the exit status is 2. Whole donors are held out. Asked for is that accuracies, means
over the seeds, differ by no more than 2 %; the two standard errors of :mod:`benchmarks.bert_classifier` are printed as
well.

    pip install transformers
    python -m benchmarks.tabula_sapiens --data tabula_sapiens_blood.h5ad --label cell_ontology_class --split-by donor

Tried on a tiny checkpoint of the official form and other cells:

    python -m benchmarks.tabula_sapiens --model golden/geneformer/tiny_checkpoint --data pbmc_3batch_counts.h5ad \
        --label cell_type --split-by batch
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import warnings
from pathlib import Path
from typing import NoReturn

import anndata as ad
import numpy as np
import torch
from benchmarks.bert_classifier import cells_told, our_run, report, score, tell, their_labels, tokens_of

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.hub.addresses import parse_address
from scmodelforge.hub.load import load_model
from scmodelforge.hub.locate import locate
from scmodelforge.tl import annotate
from scmodelforge.workflows.runfolder import RunFolder

OFFICIAL = "scmodelforge://geneformer-v2"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of the official form; default: fetched")
    parser.add_argument("--data", type=Path, help="cells with counts, labels and donors (.h5ad)")
    parser.add_argument("--label", default="cell_ontology_class")
    parser.add_argument("--split-by", default="donor")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    if given.data is None or not given.data.is_file():
        stop(
            f"no cells ({given.data or '--data is not given'}): Tabula Sapiens is at "
            "https://cellxgene.cziscience.com/collections/e5f58829-1a66-40b5-a624-9046778e74f5; give a file by --data"
        )
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    address = str(given.model or OFFICIAL)
    try:
        bundle = load_model(address, dictionaries=given.model)
        weights = locate(parse_address(address)).folder
    except (ConfigError, DataError, OSError) as problem:
        stop(f"{address} cannot be fetched or read ({' '.join(str(problem).split())}); give a folder by --model")
    compare(given, bundle, address, weights)


def stop(reason: str) -> NoReturn:
    """Say in one line why nothing is compared."""
    print(reason, file=sys.stderr)
    sys.exit(2)


def compare(given: argparse.Namespace, bundle, address: str, weights: Path) -> None:
    """Train both for each seed and print what they reach."""
    from transformers import BertForSequenceClassification
    from transformers.utils import logging as talk

    talk.disable_progress_bar()
    adata = ad.read_h5ad(given.data)
    missing = [column for column in (given.label, given.split_by) if column not in adata.obs and column != "cells"]
    if missing:
        stop(f"{given.data} has no obs column '{missing[0]}'; it has {', '.join(adata.obs)}")
    names = adata.obs[given.label].astype(str).to_numpy()
    rows = tokens_of(adata, bundle.tokenizer)
    known = (bundle.vocab.map(adata.var_names) >= 0).sum()
    print(f"{given.data.name}: {adata.n_obs} cells, {known} of {adata.n_vars} genes known to the model")
    scores: dict[str, list[tuple[float, float]]] = {"scmodelforge": [], "transformers": []}
    for seed in range(given.seeds):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            run = our_run(place, address, given.data, given, seed)
            split = RunFolder.read(run.root)[2]
            held_out = adata[split.validation].copy()
            annotate(held_out, str(run.root))
        truth = names[split.validation]
        scores["scmodelforge"].append(score(truth, held_out.obs["scmodelforge_label"].astype(str).to_numpy()))
        types = np.unique(names[split.train])
        codes = np.array([np.flatnonzero(types == name)[0] if name in types else -1 for name in names])
        torch.manual_seed(seed)
        theirs = BertForSequenceClassification.from_pretrained(weights, num_labels=len(types))
        found = their_labels(theirs, rows, codes, split, given, seed, bundle.vocab.pad_id)
        scores["transformers"].append(score(truth, types[found]))
        tell(scores, seed)
    print(f"whole groups of '{given.split_by}' held out: {cells_told(names, split)}")
    report(scores, most=0.02)


if __name__ == "__main__":
    main()
