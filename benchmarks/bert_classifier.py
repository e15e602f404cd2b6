"""How well cells are named after fine-tuning: this package's run against a plain loop around ``transformers``' BERT.

Both begin with the same weights of a small BERT, see the same tokens of the same training cells, and train with AdamW
at one learning rate for as many epochs; the order of the cells, dropout and the head's first weights, of one
distribution, are drawn by each on its own. Printed are accuracy and macro F1 on held-out cells for each seed, their
means, and whether the means differ by less than two standard errors; and how many cells are of the most frequent type,
which a model that learned nothing would name. Nothing was chosen by the held-out cells: settings are the same for both,
and scores are those of the last epoch.

    pip install transformers
    OMP_NUM_THREADS=1 python -m benchmarks.bert_classifier --data pbmc_3batch_counts.h5ad --label cell_type
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import torch
import yaml
from sklearn.metrics import f1_score

from scmodelforge.config.schema import PreprocessingConfig
from scmodelforge.data.preprocess import Preprocessor
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.hub.bundle import Bundle, save_bundle
from scmodelforge.models._utils import init_weights
from scmodelforge.models.published import load_geneformer_classifier
from scmodelforge.tl import annotate
from scmodelforge.tokenizers.rank_value import RankValueConfig, RankValueTokenizer
from scmodelforge.workflows.pretrain import start_training
from scmodelforge.workflows.runfolder import RunFolder


def fresh_bert(folder: Path, *, vocab_size: int, num_classes: int, length: int, seed: int):
    """Return a small BERT with fresh weights, which is saved to a folder."""
    from transformers import BertConfig, BertForSequenceClassification
    from transformers.utils import logging as talk

    talk.disable_progress_bar()
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=vocab_size, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
        hidden_act="relu", max_position_embeddings=length, pad_token_id=0, num_labels=num_classes,
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    for part in (model.bert.pooler, model.classifier):  # the head begins as this package's do: BERT's own learn later
        part.apply(init_weights)
    model.save_pretrained(folder)
    return model


def our_run(place: Path, base: Path | str, data: Path, given: argparse.Namespace, seed: int) -> RunFolder:
    """Fine-tune the model at an address by this package and return the run's folder."""
    split = {"by": given.split_by, "validation_fraction": 0.3, "seed": 0}
    config = {
        "data": {"paths": [str(data)], "label_column": given.label, "split": split, "num_workers": 0},
        "finetune": {
            "base_model": str(base),
            **({"dictionaries": str(given.model)} if getattr(given, "model", None) else {}),
            "task": "cell_type_annotation",
            "head": {"pooling": "first", "hidden_layers": 1, "activation": "tanh"},
        },
        "training": {
            "batch_size": given.batch_size, "max_epochs": given.epochs, "seed": seed, "precision": "32-true",
            "optimizer": {"lr": given.lr, "weight_decay": 0.0}, "scheduler": {"name": "constant", "warmup_steps": 0},
            "gradient_clip": None,
        },
        "eval": {"benchmarks": []},
        "output": {"run_dir": str(place / f"run{seed}"), "tensorboard": False, "save_top_k": 0},
    }  # fmt: skip
    path = place / f"run{seed}.yaml"
    path.write_text(yaml.safe_dump(config))
    result = start_training(path)
    assert result is not None
    return result.folder


def tokens_of(adata: ad.AnnData, tokenizer) -> list[np.ndarray]:
    """Return the tokens of each cell."""
    names, counts = list(adata.var_names), adata.X.toarray()
    return [np.asarray(tokenizer.tokenize(row, names)["input_ids"]) for row in counts]


def padded(rows: list[np.ndarray], pad: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the tokens of some cells as a matrix, and its mask."""
    ids = torch.full((len(rows), max(map(len, rows))), pad)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.from_numpy(row.astype(np.int64))
    lengths = torch.tensor([len(row) for row in rows])
    return ids, (torch.arange(ids.shape[1]) < lengths[:, None]).long()


def their_labels(model, rows, classes: np.ndarray, split, given: argparse.Namespace, seed: int, pad: int) -> np.ndarray:
    """Train a BERT in a plain loop and return the classes it names for held-out cells."""
    draw = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=given.lr, weight_decay=0.0)
    known = np.array([number for number in split.train if classes[number] >= 0])
    model.train()
    for _ in range(given.epochs):
        for part in torch.randperm(len(known), generator=draw).split(given.batch_size):
            chosen = known[part.numpy()]
            ids, mask = padded([rows[number] for number in chosen], pad)
            model(ids, attention_mask=mask, labels=torch.from_numpy(classes[chosen])).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    model.eval()
    found = []
    with torch.no_grad():
        for part in np.array_split(split.validation, max(1, len(split.validation) // 64)):
            ids, mask = padded([rows[number] for number in part], pad)
            found.append(model(ids, attention_mask=mask).logits.argmax(dim=1).numpy())
    return np.concatenate(found)


def tell(scores: dict[str, list[tuple[float, float]]], seed: int) -> None:
    """Print the accuracies of one seed, so that a run that is stopped has said something."""
    told = ", ".join(f"{name} {rows[-1][0]:.4f}" for name, rows in scores.items())
    print(f"seed {seed}: accuracy {told}", flush=True)


def report(scores: dict[str, list[tuple[float, float]]], *, most: float | None = None) -> None:
    """Print the scores of each seed, their means, and what is asked of their difference."""
    print(f"{'':14s} {'accuracy':>40s}   {'macro F1':>40s}")
    for name, rows in scores.items():
        figures = [
            " ".join(f"{row[k]:.4f}" for row in rows) + f"  mean {np.mean([r[k] for r in rows]):.4f}" for k in (0, 1)
        ]
        print(f"{name:14s} {figures[0]:>40s}   {figures[1]:>40s}")
    ours, theirs = (np.array([row[0] for row in rows]) for rows in scores.values())
    error = np.sqrt(sum(each.var(ddof=1) / len(each) for each in (ours, theirs)))
    difference = ours.mean() - theirs.mean()
    told = f"difference of accuracies {difference:+.4f}, standard error {error:.4f}: "
    told += "within" if abs(difference) <= 2 * error else "beyond"
    print(f"{told} two standard errors")
    if most is not None:
        print(f"within {most:.0%}: {'yes' if abs(difference) <= most else 'no'}")


def cells_told(names: np.ndarray, split) -> str:
    """Return how many cells there are, and what naming the most frequent type of the training cells would reach."""
    types, counts = np.unique(names[split.train], return_counts=True)
    most = types[counts.argmax()]
    return (
        f"{len(split.train)} cells to learn from, {len(split.validation)} held out; "
        f"always '{most}' would have accuracy {(names[split.validation] == most).mean():.4f}"
    )


def score(truth: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Return accuracy and macro F1."""
    return float((truth == found).mean()), float(f1_score(truth, found, average="macro", zero_division=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--label", default="cell_type")
    parser.add_argument("--split-by", default="cells")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no weights are fetched
    adata = ad.read_h5ad(given.data)
    vocab = GeneVocab.from_genes(list(adata.var_names), name="from_data")
    tokenizer = RankValueTokenizer(RankValueConfig(max_genes=given.length, medians="none"), vocab)
    rows = tokens_of(adata, tokenizer)
    names = adata.obs[given.label].astype(str).to_numpy()
    scores: dict[str, list[tuple[float, float]]] = {"scmodelforge": [], "transformers": []}
    for seed in range(given.seeds):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            size = {"vocab_size": len(vocab), "length": given.length}
            bert = fresh_bert(place / "bert", num_classes=len(np.unique(names)), seed=seed, **size)
            model = load_geneformer_classifier(place / "bert")
            base = Bundle(
                model=model, model_config=model.config, tokenizer=tokenizer, vocab=vocab,
                preprocessor=Preprocessor(PreprocessingConfig()), objective="cell_type_annotation",
                fingerprint={"config_hash": f"{seed:064d}", "step": 0},
            )  # fmt: skip
            save_bundle(place / "base", base, card="")
            folder_of_run = our_run(place, place / "base", given.data, given, seed)
            split = RunFolder.read(folder_of_run.root)[2]
            held_out = adata[split.validation].copy()
            annotate(held_out, str(folder_of_run.root))
            truth = names[split.validation]
            scores["scmodelforge"].append(score(truth, held_out.obs["scmodelforge_label"].astype(str).to_numpy()))
            known, codes = np.unique(names, return_inverse=True)
            found = their_labels(bert, rows, codes, split, given, seed, vocab.pad_id)
            scores["transformers"].append(score(truth, known[found]))
            tell(scores, seed)
    print(f"{given.data.name}, {given.epochs} epochs, learning rate {given.lr:g}: {cells_told(names, split)}")
    report(scores)


if __name__ == "__main__":
    main()
