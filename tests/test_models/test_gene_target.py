"""What the autoregressive transformer learns of the next gene: the one that comes, or all that come later."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch

from scmodelforge.config import load_config
from scmodelforge.config.schema import ModelConfig, TokenizerConfig
from scmodelforge.data.draws import cell_keys
from scmodelforge.hub import load_bundle
from scmodelforge.models import AutoregressiveTransformer, get_model
from scmodelforge.models.autoregressive import AutoregressiveConfig
from scmodelforge.models.components import losses
from scmodelforge.objectives import get_objective
from tests.conftest import make_adata
from tests.test_life_cycle import invoke, settings
from tests.test_models.batches import next_gene_batch
from tests.test_objectives.tokens import VOCAB, genes_of, make_tokens, with_measured

GENES = {5: 0.25, 7: 1.0, 8: 0.5, 11: 0.75}


def make(**options) -> AutoregressiveTransformer:
    torch.manual_seed(0)
    tiny = {"vocab_size": 50, "n_bins": 51, "hidden_dim": 16, "num_layers": 2, "num_heads": 2, "dropout": 0.0}
    return AutoregressiveTransformer(**{**tiny, "max_seq_len": 64, "pooling": "mean", **options}).eval()


def in_order(genes: tuple[int, ...], prefix: int) -> dict[str, torch.Tensor]:
    """Return the batch of one cell whose genes come in this order."""
    labels = [gene if place >= prefix - 1 else -100 for place, gene in enumerate(genes)] + [-100]
    bins = [-100 if gene == -100 else int(4 * GENES[gene]) for gene in labels]
    return {
        "input_ids": torch.tensor([[3, *genes]]),
        "attention_mask": torch.ones(1, len(labels)),
        "values": torch.tensor([[0.0, *(GENES[gene] for gene in genes)]], dtype=torch.float64),
        "labels": torch.tensor([labels]),
        "bin_ids": torch.tensor([bins]),
        "prefix_len": torch.tensor([prefix]),
        "no_repeats": torch.tensor(True),
    }


def objective(**options):
    config = AutoregressiveConfig.model_validate(options)
    return get_objective("next_gene_prediction", vocab=VOCAB, tokenizer_config=TokenizerConfig(), model_config=config)


def tensors(batch: dict) -> dict[str, torch.Tensor]:
    return {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}


def gradient(model, batch) -> torch.Tensor:
    """Return the gradient of the gene term as one vector."""
    model.zero_grad()
    model(**batch, return_logits=False).loss_terms["next_gene"].backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


class TestMeanOverOrders:
    @pytest.mark.parametrize("prefix", [1, 2, 3])
    @pytest.mark.parametrize("options", [{"readout": "last"}, {"readout": "mean"}, {"use_positions": True}], ids=str)
    def test_loss_and_gradients_are_those_of_the_next_gene(self, options, prefix):
        """All 24 orders of four genes. The mean readout sums in single precision, so 1e-6 of the gradient's size."""
        model = make(vocab_size=12, n_bins=5, hidden_dim=8, num_layers=1, **options).double()
        found = {}
        for target in ("one", "set"):
            model.gene_target = target
            batches = [in_order(order, prefix) for order in permutations(GENES)]
            loss = np.mean([model(**batch).loss_terms["next_gene"].item() for batch in batches])
            found[target] = loss, torch.stack([gradient(model, batch) for batch in batches])
        assert found["set"][0] == pytest.approx(found["one"][0], abs=1e-9)
        one, of_set = (found[target][1].mean(dim=0) for target in ("one", "set"))
        assert (one - of_set).norm() < 1e-6 * one.norm()
        # that this could fail: no single order has the gradient of the other target
        assert ((found["one"][1] - found["set"][1]).norm(dim=1) > 0.01 * one.norm()).all()

    def test_bins_are_learned_as_before(self):
        one, of_set = (make(gene_target=target)(**in_order((8, 5, 11, 7), 1)) for target in ("one", "set"))
        assert torch.equal(one.loss_terms["expression_bin"], of_set.loss_terms["expression_bin"])
        assert not torch.allclose(one.loss_terms["next_gene"], of_set.loss_terms["next_gene"], atol=1e-3)


class TestNoise:
    """How much the gradient differs between orders of the same cells, beside that of the next gene."""

    def ratio(self, boost: float) -> float:
        """Return the noise of ``set`` over that of ``one`` if the genes of the cells have such an advantage."""
        tokens = make_tokens([30])
        model = make(vocab_size=len(VOCAB), readout="last")
        model.gene_head.decoder.bias.data[torch.from_numpy(tokens.ids[1:]).long()] = boost
        noise = {}
        for target in ("one", "set"):
            model.gene_target = target
            found = [
                gradient(model, tensors(objective()(replace(tokens, keys=cell_keys(0, np.array([draw]))))))
                for draw in range(20)
            ]
            noise[target] = torch.stack(found).var(dim=0).sum().item()
        return noise["set"] / noise["one"]

    def test_of_cells_whose_genes_are_known_it_is_far_less(self):
        """What is left to guess is the order, and that is all the noise of the next gene."""
        assert self.ratio(20.0) < 0.2

    def test_of_cells_whose_genes_are_not_known_it_is_more(self):
        """In one order each gene is the next one exactly once, while its shares of a set differ with its place."""
        assert self.ratio(0.0) > 1.2


class TestFloor:
    @pytest.mark.parametrize("cut", [[], [190, 191, 192]])
    def test_the_best_guess_costs_the_floor_in_every_order(self, cut):
        """Knowing the genes of the cell, and not which of them had no room: 0 to learn, in any draw."""
        tokens = with_measured(make_tokens([12]), cut=[cut])
        assert set(genes_of(tokens, 0)).isdisjoint(cut)
        model = make(vocab_size=len(VOCAB), gene_target="set", gene_loss_weight=0.7)
        model.gene_head.decoder.weight.data.zero_()
        model.gene_head.decoder.bias.data[[*genes_of(tokens, 0), *cut]] = 40.0
        for draw in range(12):
            drawn = replace(tokens, keys=cell_keys(0, np.array([draw])))
            batch = objective(gene_loss_weight=0.7)(drawn)
            found = model(**tensors(batch)).loss_terms["next_gene"].item()
            assert found == pytest.approx(batch["floors"]["next_gene"], abs=1e-5)

    def test_no_scores_cost_less(self):
        model = make(vocab_size=len(VOCAB), gene_target="set")
        model.gene_head.decoder.weight.data.zero_()
        tokens = make_tokens([12])
        for draw in range(20):
            torch.nn.init.normal_(model.gene_head.decoder.bias, std=0.5 + draw / 4)
            model.gene_head.decoder.bias.data[genes_of(tokens, 0)] += draw
            batch = objective()(replace(tokens, keys=cell_keys(0, np.array([draw]))))
            assert model(**tensors(batch)).loss_terms["next_gene"].item() >= batch["floors"]["next_gene"]


class TestForward:
    @pytest.mark.parametrize("parts", [1, 4])
    def test_labelled_rows_only_give_the_same_loss_and_gradients(self, dummy_batch, monkeypatch, parts):
        batch, model = next_gene_batch(dummy_batch), make(gene_target="set")
        if parts > 1:
            rows = int((batch["labels"] != -100).sum())
            monkeypatch.setattr(losses, "_LOGITS_AT_ONCE", 50 * -(-rows // parts))
        twin = copy.deepcopy(model)
        full, few = model(**batch), twin(**batch, return_logits=False)
        assert few.logits is None
        torch.testing.assert_close(full.loss, few.loss, rtol=1e-5, atol=1e-5)
        full.loss.backward()
        few.loss.backward()
        for (name, a), b in zip(model.named_parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6, msg=name)

    def test_genes_named_before_and_special_tokens_are_out_without_being_asked_for(self, dummy_batch):
        batch = next_gene_batch(dummy_batch)
        cells = {name: batch[name] for name in ("input_ids", "attention_mask", "values")}
        found = make(gene_target="set")(**cells).logits
        expected = make()(**cells, no_repeats=torch.tensor(True)).logits
        assert torch.equal(found, expected)
        assert (found[:, :, :4] == -math.inf).all()

    def test_a_cell_is_learned_as_it_would_be_alone(self, dummy_batch):
        batch, model = next_gene_batch(dummy_batch), make(gene_target="set")
        counts = (batch["labels"] != -100).sum(dim=1)
        alone = [model(**{name: t[cell : cell + 1] for name, t in batch.items()}).loss for cell in range(4)]
        expected = (torch.stack(alone) * counts).sum() / counts.sum()
        torch.testing.assert_close(model(**batch).loss, expected, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("return_logits", [True, False])
    def test_a_batch_of_another_objective_gives_a_finite_loss(self, dummy_batch, return_logits):
        loss = make(gene_target="set")(**dummy_batch, return_logits=return_logits).loss
        assert loss.isfinite()
        assert loss > 0


class TestSettings:
    def test_it_is_the_next_gene_unless_set(self, tiny_config):
        assert AutoregressiveTransformer.from_config(tiny_config).gene_target == "one"
        assert get_model("autoregressive_transformer", tiny_config).gene_target == "one"
        config = AutoregressiveConfig(**tiny_config.model_dump(), gene_target="set")
        assert get_model("autoregressive_transformer", config).gene_target == "set"

    def test_other_targets_are_refused(self):
        with pytest.raises(ValueError, match=r"model.gene_target is 'all'; choose one of one, set"):
            make(gene_target="all")
        with pytest.raises(ValueError, match="gene_target"):
            AutoregressiveConfig(gene_target="all")

    def test_a_given_order_has_no_set_of_next_genes(self, tmp_path):
        path = tmp_path / "run.yaml"
        path.write_text(
            "data: {paths: [lung.h5ad]}\ntokenizer: {strategy: binned_expression}\n"
            "model: {architecture: autoregressive_transformer, gene_order: given, gene_target: set}\n"
        )
        with pytest.raises(ValueError, match="gene_target") as problem:
            load_config(path)
        (line,) = (line for line in str(problem.value).splitlines() if "gene_target" in line)
        assert "gene_target 'set' takes any later gene for the next one, but with gene_order 'given' it is" in line
        assert "set gene_order to 'random' or gene_target to 'one'" in line

    def test_plain_settings_are_still_taken(self):
        assert AutoregressiveTransformer.from_config(ModelConfig(vocab_size=9)).gene_target == "one"


class TestRun:
    def test_it_trains_from_settings_with_its_floor_in_the_log_and_is_loaded_again(self, tmp_path):
        import yaml

        data = tmp_path / "cells.h5ad"
        make_adata(60, 30).write_h5ad(data)
        config = settings(data, tmp_path / "run", training__max_epochs=1, eval__benchmarks=[])
        config["tokenizer"]["strategy"] = "binned_expression"
        config["model"] |= {"architecture": "autoregressive_transformer", "gene_target": "set", "max_seq_len": 40}
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
        invoke("train", "--config", tmp_path / "run.yaml")
        lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
        (found,) = (line for line in lines if "val/next_gene_floor" in line)
        assert found["val/next_gene"] > found["val/next_gene_floor"] > 1
        assert load_bundle(tmp_path / "run" / "model").model.gene_target == "set"
