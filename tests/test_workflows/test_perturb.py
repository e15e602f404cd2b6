"""In-silico perturbation with real models: both methods against single passes; numbers depend on cells alone."""

from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

import scmodelforge as smf
from scmodelforge.config.schema import DataConfig
from scmodelforge.data.sources.in_memory import AnnDataSource
from scmodelforge.eval.genes.changed_cells import Perturbation, perturbed_cells
from scmodelforge.eval.screens.derivatives import deletion_changes
from scmodelforge.hub.bundle import Bundle, load_bundle
from scmodelforge.objectives.collate import collate_for_encoding
from scmodelforge.workflows._content_keys import KeysFromContent
from scmodelforge.workflows.import_model import import_model
from scmodelforge.workflows.prepare import Readable, sequential_loader
from tests.test_hub.published_folders import write_geneformer, write_scgpt
from tests.test_tl import cells
from tests.test_workflows.ready_models import BINNED, COUNTS, GENES, RANKS, ready_model

KINDS = ["delete", "overexpress", "activate"]
OWN = {
    "transformer_encoder": RANKS,
    "gene_pooling": RANKS,
    "autoregressive_transformer": BINNED,
    "masked_autoencoder": RANKS,
    "scgpt": BINNED,
    "transcriptformer": COUNTS,
    "scdiva": BINNED,
    "scdiva_diffusion": BINNED,
}


def lively(bundle: Bundle) -> Bundle:
    """Return the model with weights so large that genes change embeddings by more than the last digits."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in bundle.model.parameters():
            if weight.ndim == 2:
                torch.nn.init.normal_(weight, std=0.15)
    return bundle


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> dict[str, Bundle]:
    folder = tmp_path_factory.mktemp("published")
    found = {}
    for name, write in (("geneformer", write_geneformer), ("imported scgpt", write_scgpt)):
        import_model(write(folder / name), folder / f"our {name}")
        found[name] = load_bundle(folder / f"our {name}")
    return found


@pytest.fixture
def any_model(request, published) -> Bundle:
    name = request.param
    return published[name] if name in published else lively(ready_model(name, OWN[name]))


def adata_for(bundle: Bundle, num_cells: int = 8) -> ad.AnnData:
    adata = cells(num_cells)[:, : len(bundle.vocab.genes)].copy()
    adata.var_names = bundle.vocab.genes[: adata.n_vars]
    return adata


def single_passes(bundle: Bundle, adata: ad.AnnData, kind: str, genes: tuple[int, ...], goal=None) -> np.ndarray:
    """Return the effects in all cells that have one, each from a pass of its own before and one after."""
    source = AnnDataSource(adata)
    readable = Readable(source, KeysFromContent(bundle.tokenizer, bundle.vocab), bundle.preprocessor.fitted(source))
    options = {"collate": lambda block: block, "config": DataConfig(), "batch_size": 1, "seed": 0}
    found = []
    with sequential_loader(readable, np.arange(adata.n_obs), **options) as loader:
        for block in (each for group in loader.one_pass() for each in group):
            before, after, rows = perturbed_cells(
                replace(block, measured=None),
                Perturbation(kind, genes),
                tokens=bundle.vocab.gene_tokens[list(genes)],
                is_gene=bundle.vocab.gene_numbers >= 0,
                max_length=bundle.tokenizer.config.max_genes,
            )
            if len(rows):
                found.append(effect(bundle, before, after, goal))
    return np.array(found)


def effect(bundle: Bundle, before, after, goal) -> float:
    with torch.no_grad():
        first, second = (
            bundle.model.encode(**collate_for_encoding(each, pad_id=bundle.vocab.pad_id))[0].double()
            for each in (before, after)
        )
    cosine = torch.nn.functional.cosine_similarity
    if goal is None:
        return float(1 - cosine(first, second, dim=0))
    return float(cosine(second, goal, dim=0) - cosine(first, goal, dim=0))


def by_gene(table: pd.DataFrame) -> pd.DataFrame:
    return table.set_index("gene").sort_index()


class TestExact:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("any_model", [*OWN, "geneformer", "imported scgpt"], indirect=True)
    def test_equals_a_loop_of_single_passes(self, any_model, kind):
        adata = adata_for(any_model)
        table = by_gene(smf.tl.perturb(adata, any_model, genes="all", kind=kind, random_genes=2))
        assert (table["shift"].abs() > 1e-5).any()
        for number, gene in list(enumerate(any_model.vocab.genes))[:6]:
            expected = single_passes(any_model, adata, kind, (number,))
            assert (gene in table.index) == (len(expected) > 0)
            if len(expected):
                assert table.loc[gene, "num_cells"] == len(expected)
                assert table.loc[gene, "shift"] == pytest.approx(expected.mean(), abs=1e-5)

    @pytest.mark.parametrize("kind", KINDS)
    def test_towards_a_goal_and_of_genes_together(self, kind):
        bundle, adata = lively(ready_model()), cells(30)
        smf.tl.embed(adata, bundle)
        is_goal = (adata.obs["cell_type"] == "type1").to_numpy()
        goal = torch.from_numpy(adata.obsm["X_scmodelforge"][is_goal].mean(axis=0)).double()
        options = {"kind": kind, "combine": "pairs", "to_state": "cell_type=type1"}
        table = by_gene(smf.tl.perturb(adata, bundle, genes=GENES[:3], **options))
        assert len(table) == 6
        for genes in ((0,), (2,), (0, 1), (1, 2)):
            row = table.loc["+".join(GENES[gene] for gene in genes)]
            expected = single_passes(bundle, adata[~is_goal].copy(), kind, genes, goal)
            assert row["num_cells"] == len(expected)
            assert row["goal_shift"] == pytest.approx(expected.mean(), abs=1e-5)

    @pytest.mark.parametrize("method", ["exact", "gradient"])
    def test_numbers_depend_neither_on_batches_nor_on_the_order_of_cells_and_genes(self, method):
        bundle, adata = lively(ready_model("scgpt", BINNED)), cells(24)
        options = {"genes": "all", "to_state": "cell_type=type1", "method": method, "max_cells": 9}
        expected = by_gene(smf.tl.perturb(adata, bundle, **options))
        for batch_size in (1, 7):
            found = by_gene(smf.tl.perturb(adata, bundle, batch_size=batch_size, **options))
            pd.testing.assert_frame_equal(found, expected, check_exact=False, rtol=0, atol=1e-6)
        shuffled = adata[::-1, ::-1].copy()
        found = by_gene(smf.tl.perturb(shuffled, bundle, **options))
        pd.testing.assert_frame_equal(found, expected, check_exact=False, rtol=0, atol=1e-6)


class TestGradient:
    @pytest.mark.parametrize("goal", [None, "cell_type=type1"])
    @pytest.mark.parametrize(
        "name",
        [
            "transformer_encoder",
            "autoregressive_transformer",
            "masked_autoencoder",
            "scgpt",
            "transcriptformer",
            "scdiva_diffusion",
        ],
    )
    def test_ranks_genes_as_exact_does(self, name, goal):
        bundle, adata = lively(ready_model(name, OWN[name], pooling="mean")), cells(60)
        measure = "shift" if goal is None else "goal_shift"
        tables = [
            by_gene(smf.tl.perturb(adata, bundle, genes="all", to_state=goal, method=method, random_genes=2))
            for method in ("exact", "gradient")
        ]
        assert tables[0]["num_cells"].equals(tables[1]["num_cells"])
        is_seen = tables[0]["num_cells"] >= 5
        exact, first_order = (table.loc[is_seen, measure] for table in tables)
        assert exact.corr(first_order, method="spearman") > 0.6

    def test_is_the_derivative_of_taking_a_token_out_little_by_little(self):
        """Against differences: of the pooled mean and of what the encoder sees, without attention in between."""
        torch.manual_seed(0)
        states, goal = torch.randn(1, 6, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)

        def score(weights: torch.Tensor) -> torch.Tensor:
            mean = (weights[:, None] * states[0]).sum(dim=0) / weights.sum()
            return torch.nn.functional.cosine_similarity(mean, goal, dim=0)

        weights = torch.ones(6, dtype=torch.float64, requires_grad=True)
        (expected,) = torch.autograd.grad(score(weights), weights)
        given = states.clone().requires_grad_()
        mean = given[0].mean(dim=0)
        (by_left,) = torch.autograd.grad(torch.nn.functional.cosine_similarity(mean, goal, dim=0), given)
        found = deletion_changes((None, None, by_left), states, torch.zeros(1, 6, 4))
        # a mean over one less moves by 6/5 of the derivative, to first order in the token
        torch.testing.assert_close(found[0], -expected * 6 / 5)

    def test_leaves_the_model_as_it_was(self):
        bundle = ready_model()
        bundle.model.train()
        before = {name: weight.clone() for name, weight in bundle.model.state_dict().items()}
        smf.tl.perturb(cells(8), bundle, genes="all", method="gradient")
        assert bundle.model.training
        assert all(weight.requires_grad and weight.grad is None for weight in bundle.model.parameters())
        assert all(torch.equal(weight, before[name]) for name, weight in bundle.model.state_dict().items())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in bundle.model.modules())
