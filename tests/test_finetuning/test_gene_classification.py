"""Gene classification: genes are held out and never learned from; a gene is judged by the cells that express it."""

from __future__ import annotations

import json

import anndata as ad
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.cli.main import app
from scmodelforge.config.schema import TokenizerConfig
from scmodelforge.data.types import TokenBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.eval.gene_classes import expression_features, guess_by_expression
from scmodelforge.finetuning.gene_labels import (
    fold_genes,
    genes_of_vocab,
    read_gene_labels,
    split_genes,
    split_named_genes,
    without_header,
)
from scmodelforge.finetuning.predictions import Naming
from scmodelforge.finetuning.tasks.gene_classification import GeneClassHeadConfig, GeneClassificationTask
from scmodelforge.hub import load_bundle
from scmodelforge.models.fine_tuned_config import FineTunedConfig
from scmodelforge.objectives.gene_classification import GeneClassification
from tests.test_life_cycle import invoke
from tests.test_workflows.ready_models import GENES, ready_model

CLASSES = {gene: "even" if number % 2 else "odd" for number, gene in enumerate(GENES)}


def write(folder, labels) -> str:
    path = folder / "genes.tsv"
    path.write_text("# gene\tclass\n" + "".join(f"{gene}\t{name}\n" for gene, name in labels.items()))
    return str(path)


def run(settings, path: str, name: str = "run") -> str:
    return invoke("train", "--config", settings(name, task="gene_classification", gene_labels=path))


@pytest.fixture(scope="module")
def split():
    return split_genes(CLASSES, held_out=0.3, seed=42)


class TestLeak:
    def test_classes_of_held_out_genes_reach_no_loss_and_no_weight(self, settings, tmp_path):
        run(settings, write(tmp_path, {**CLASSES, "ENSG00000099999": "odd"}), "as_they_are")
        head = load_bundle(tmp_path / "as_they_are" / "model").model_config.head
        # the split is by class, so two held-out genes of two classes change places
        first, second = (next(g for g, c in head.held_out_genes.items() if c == name) for name in ("odd", "even"))
        other = {**CLASSES, first: "even", second: "odd"}
        from scmodelforge.finetuning.tasks import gene_classification as task

        def same_split(labels, **_):
            return (
                {gene: labels[gene] for gene in head.train_genes},
                {gene: labels[gene] for gene in head.held_out_genes},
            )

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(task, "split_genes", same_split)
            run(settings, write(tmp_path, other), "exchanged")
        models = [load_bundle(tmp_path / name / "model") for name in ("as_they_are", "exchanged")]
        assert models[0].model_config.head.held_out_genes != models[1].model_config.head.held_out_genes
        states = [model.model.state_dict() for model in models]
        assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
        lines = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("as_they_are", "exchanged")]
        for one, two in zip(*([json.loads(each) for each in file] for file in lines), strict=True):
            assert {k: v for k, v in one.items() if "loss" in k} == {k: v for k, v in two.items() if "loss" in k}

    def test_batches_have_targets_at_training_genes_only(self, split):
        vocab = GeneVocab.from_genes(GENES, name="test")
        head = GeneClassHeadConfig(classes=["even", "odd"], train_genes=split[0], held_out_genes=split[1])
        config = FineTunedConfig(vocab_size=len(vocab), head=head)
        make = GeneClassification(vocab=vocab, tokenizer_config=TokenizerConfig(), model_config=config)
        ids = vocab.map(GENES)
        tokens = TokenBlock(
            np.array([0, 30, 40]), np.concatenate([ids, ids[:10]]), np.ones(40, np.float32), np.arange(2), np.arange(2)
        )
        batch = make(tokens)
        asked = {
            vocab.genes[int(vocab.gene_numbers[t])] for t in batch["gene_ids"][batch["gene_classes"] >= 0].tolist()
        }
        assert asked == set(split[0])
        assert batch["num_targets"] == {"gene_classes": int((batch["gene_classes"] >= 0).sum())}


class TestSplit:
    def test_each_class_has_genes_on_both_sides(self, split):
        train, held_out = split
        assert train.keys() | held_out.keys() == CLASSES.keys()
        assert not train.keys() & held_out.keys()
        assert set(train.values()) == set(held_out.values()) == {"even", "odd"}
        assert len(held_out) == pytest.approx(0.3 * len(CLASSES), abs=2)

    def test_order_does_not_matter_and_the_seed_does(self, split):
        again = split_genes(dict(reversed(CLASSES.items())), held_out=0.3, seed=42)
        assert again[1].keys() == split[1].keys()
        assert split_genes(CLASSES, held_out=0.3, seed=1)[1].keys() != split[1].keys()

    def test_two_classes_of_two_are_needed(self):
        with pytest.raises(DataError, match="by class: a 3, b 1; two classes with two genes each are needed"):
            split_genes({"1": "a", "2": "a", "3": "a", "4": "b"}, held_out=0.3, seed=0)


class TestFile:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("A\tx\nB y\n", "line 2: 'B y' is not a gene, a tab and its class"),
            ("A\tx\nA\ty\n", "line 2: gene 'A' is 'y' here and 'x' before"),
            ("A\tx\nB\tx\n", r"has 1 class\(es\) of genes"),
        ],
    )
    def test_faults(self, text, words, tmp_path):
        (tmp_path / "genes.tsv").write_text(text)
        with pytest.raises(DataError, match=words):
            read_gene_labels(tmp_path / "genes.tsv")

    def test_a_gene_with_two_names_has_one_class(self):
        vocab = GeneVocab.from_genes(["ENSG00000141510", "ENSG00000146648"], name="test")
        assert genes_of_vocab({"TP53": "a", "EGFR": "b", "NONE": "a"}, vocab) == (
            {"ENSG00000141510": "a", "ENSG00000146648": "b"},
            ["NONE"],
        )
        with pytest.raises(DataError, match="under another name"):
            genes_of_vocab({"TP53": "a", "ENSG00000141510": "b"}, vocab)


def test_a_run_scores_held_out_genes_and_predicts_all(settings, place, tmp_path):
    said = " ".join(run(settings, write(tmp_path, {**CLASSES, "ENSG00000099999": "odd"})).split())
    assert (
        "1 of the 31 genes of finetune.gene_labels are not in the vocabulary of the base model: ENSG00000099999" in said
    )
    bundle = load_bundle(tmp_path / "run" / "model")
    held_out = bundle.model_config.head.held_out_genes
    records = [json.loads(line) for line in (tmp_path / "run" / "exported_results.jsonl").read_text().splitlines()]
    assert {(each["representation"], each["metric"]) for each in records} == {
        (name, metric) for name in ("model", "majority", "expression") for metric in ("accuracy", "macro_f1")
    }
    assert all(each["n"] + each["n_skipped"] == len(held_out) for each in records)

    invoke("predict", place / "cells.h5ad", tmp_path / "out.h5ad", "--model", tmp_path / "run", "--batch-size", 32)
    invoke("predict", place / "cells.h5ad", tmp_path / "one.h5ad", "--model", tmp_path / "run", "--batch-size", 5)
    var = ad.read_h5ad(tmp_path / "out.h5ad").var
    expressed = np.asarray((ad.read_h5ad(place / "cells.h5ad").X > 0).sum(axis=0)).ravel()
    assert (var["scmodelforge_gene_cells"] <= expressed).all()  # cells may be longer than the model reads
    assert set(var.index[var["scmodelforge_gene_known"] == "held_out"]) == set(held_out)
    confidence = var["scmodelforge_gene_confidence"].to_numpy()
    np.testing.assert_allclose(
        ad.read_h5ad(tmp_path / "one.h5ad").var["scmodelforge_gene_confidence"], confidence, rtol=1e-5
    )


def test_a_gene_is_the_mean_over_the_cells_that_express_it():
    base = ready_model(dropout=0.0)
    config = FineTunedConfig(
        backbone=base.model_config,
        vocab_size=len(base.vocab),
        head=GeneClassHeadConfig(classes=["a", "b"], dropout=0.0),
    )
    from scmodelforge.hub.bundle import build_model

    base.model_config, base.model = config, build_model(config, base.tokenizer).eval()
    predictor = GeneClassificationTask.predictor(base, Naming())
    ids = torch.tensor([[5, 6, 7], [6, 8, 0], [5, 9, 9]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 1]])
    batch = {"input_ids": ids, "attention_mask": mask, "values": torch.ones(3, 3), "gene_ids": ids}
    with torch.no_grad():
        predictor.encode(**batch, cell_index=np.arange(2))  # the third cell only fills up the batch
        scores = base.model.score(**batch).softmax(-1)
    means, counts = predictor.means()
    number = {token: int(base.vocab.gene_numbers[token]) for token in (5, 6, 7, 8, 9)}
    assert [counts[number[token]] for token in (5, 6, 7, 8, 9)] == [1, 2, 1, 1, 0]
    np.testing.assert_allclose(means[number[6]], (scores[0, 1] + scores[1, 0]).numpy() / 2, rtol=1e-6)


def test_a_guess_by_expression_knows_expression_only():
    import scipy.sparse as sp

    rng = np.random.default_rng(0)
    rates = np.where(np.arange(40) % 2, 5.0, 0.3)
    features = expression_features(sp.csr_matrix(rng.poisson(rates, (100, 40)).astype(np.float32)))
    classes = np.where(np.arange(40) % 2, "high", "low")
    assert (guess_by_expression(features[:30], classes[:30], features[30:]) == classes[30:]).all()


@pytest.mark.parametrize(("path", "words"), [(None, "finetune.gene_labels is not set"), ("none.tsv", "cannot be read")])
def test_what_cannot_be_learned_is_one_line(path, words, settings, tmp_path):
    config = settings(task="gene_classification", gene_labels=path)
    result = CliRunner().invoke(app, ["train", "--config", str(config)])
    assert result.exit_code == 2
    assert words in result.stderr
    assert not (tmp_path / "run").exists()


def test_classes_are_those_of_the_genes_that_are_learned_from(settings, place, tmp_path):
    labels = {gene: "unknown" if name == "odd" else name for gene, name in CLASSES.items()}
    path = tmp_path / "genes.tsv"
    lines = ["gene\tclass", *(f"{gene}\t{name}" for gene, name in labels.items()), "NONE1\tlost", "NONE2\tlost"]
    path.write_text("\n".join(lines))
    said = " ".join(run(settings, str(path)).split())
    assert "the first line ('gene', 'class') is passed over as a header" in said
    assert "1 of the classes of finetune.gene_labels have no gene that is learned from, and are left out: lost" in said
    assert load_bundle(tmp_path / "run" / "model").model_config.head.classes == ["even", "unknown"]
    assert "'unknown' is a class of genes here" in said
    records = [json.loads(line) for line in (tmp_path / "run" / "exported_results.jsonl").read_text().splitlines()]
    assert {each["metric"] for each in records} == {"accuracy", "macro_f1"}  # a class of that name is scored
    assert all("checkpoint_chosen_on_scored_cells" not in each["params"] for each in records)  # genes are scored
    given = ["predict", str(place / "cells.h5ad"), str(tmp_path / "out.h5ad"), "--model", str(tmp_path / "run")]
    refused = CliRunner().invoke(app, given)
    assert refused.exit_code == 2
    assert "--unknown NAME" in refused.stderr
    invoke(*given, "--unknown", "unsure")


class TestNamedGenes:
    def test_they_are_held_out_by_any_name(self):
        vocab = GeneVocab.from_genes(["ENSG00000141510", "ENSG00000146648", "ENSG00000136997"], name="test")
        labels = {"ENSG00000141510": "a", "ENSG00000146648": "b", "ENSG00000136997": "a"}
        train, held_out = split_named_genes(labels, ["TP53"], vocab)
        assert held_out == {"ENSG00000141510": "a"}
        assert train.keys() == labels.keys() - held_out.keys()
        with pytest.raises(ConfigError, match="names NONE, of which a class is not known"):
            split_named_genes(labels, ["NONE"], vocab)
        with pytest.raises(ConfigError, match="leaves genes of 1 class"):
            split_named_genes(labels, ["EGFR"], vocab)

    def test_folds_hold_out_each_gene_once_and_never_all_of_a_class(self):
        labels = {**CLASSES, "one": "single", "two": "pair", "three": "pair"}
        folds = fold_genes(labels, folds=3, seed=0)
        assert sorted(gene for fold in folds for gene in fold) == sorted(labels.keys() - {"one"})
        for fold in folds:
            assert {labels[gene] for gene in labels.keys() - set(fold)} == set(labels.values())


def test_a_first_line_with_a_known_gene_or_a_class_of_others_is_no_header():
    vocab = GeneVocab.from_genes(["TP53"], name="test")
    for labels in ({"TP53": "x", "B": "y"}, {"A": "x", "TP53": "x", "C": "y"}):
        assert without_header(labels, vocab, path="f") == labels
