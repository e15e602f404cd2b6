"""scGPT: what it is by its formulas, who sees whom, and each of its losses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config import load_config
from scmodelforge.config.schema import ModelConfig
from scmodelforge.models import count_parameters, get_model
from scmodelforge.models.scgpt import ScGPT, ScGPTConfig
from tests.test_models.batches import masked_value_batch

GENERATIVE = "generative_value_prediction"
PRESETS = Path(__file__).parents[2] / "configs" / "presets"


def made(**settings: Any) -> ScGPT:
    """Return a small model whose weights are not too near zero, in evaluation mode."""
    sizes = {"vocab_size": 50, "hidden_dim": 16, "num_layers": 2, "num_heads": 2, "max_seq_len": 32, "dropout": 0.0}
    torch.manual_seed(0)
    model = ScGPT.from_config(ScGPTConfig(**{**sizes, **settings}))
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=0.5, std=0.3)
    return model.eval()


@pytest.fixture
def batch(dummy_batch) -> dict[str, torch.Tensor]:
    return masked_value_batch(dummy_batch)


@pytest.fixture
def generation(dummy_batch) -> dict[str, torch.Tensor]:
    """Return cells of which the genes from some place on are to be generated; the first has padding."""
    prefix_len = torch.tensor([4, 6, 1, 9])
    is_real = dummy_batch["attention_mask"] != 0
    ids = torch.stack([4 + torch.randperm(46, generator=torch.Generator().manual_seed(cell))[:12] for cell in range(4)])
    is_asked = (torch.arange(12) >= prefix_len[:, None]) & is_real
    values = torch.randint(1, 50, (4, 12), generator=torch.Generator().manual_seed(9)).float()
    return {
        "input_ids": ids,
        "attention_mask": is_real,
        "values": values.masked_fill(is_asked, -1.0),
        "prefix_len": prefix_len,
        "labels": ids.masked_fill(~is_asked, -100),
        "targets": values.masked_fill(~is_asked, 0.0),
        "gene_ids": ids,
    }


class TestCell:
    def test_is_a_set_of_genes(self, batch):
        order = torch.cat([torch.zeros(1, dtype=torch.int64), 1 + torch.randperm(11)])
        whole = {name: batch[name][1:] for name in ("input_ids", "attention_mask", "values")}
        turned = {name: tensor[:, order] for name, tensor in whole.items()}
        model = made()
        torch.testing.assert_close(model.encode(**turned), model.encode(**whole), rtol=1e-5, atol=1e-5)
        logits, expected = model(**turned).logits, model(**whole).logits
        torch.testing.assert_close(logits, expected[:, order], rtol=1e-5, atol=1e-5)

    def test_enters_as_the_sum_of_two_norms(self):
        """LayerNorm(E[g]) + LayerNorm(W2 relu(W1 min(v, 512) + b1) + b2)."""
        model = made()
        ids, values = torch.tensor([[3, 7, 9]]), torch.tensor([[0.0, 5.0, 700.0]])
        first = model(ids, torch.ones(1, 3), values, output_hidden_states=True).hidden_states[0]
        own = dict(model.embedding.named_parameters())

        def normed(rows: torch.Tensor, name: str) -> torch.Tensor:
            rows = (rows - rows.mean(-1, keepdim=True)) / (rows.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
            return rows * own[f"{name}.weight"] + own[f"{name}.bias"]

        inner = torch.tensor([0.0, 5.0, 512.0])[:, None] @ own["value_projection.linear1.weight"].T
        inner = (inner + own["value_projection.linear1.bias"]).clamp(min=0)
        shown = inner @ own["value_projection.linear2.weight"].T + own["value_projection.linear2.bias"]
        expected = normed(own["gene_embedding.weight"][ids[0]], "layer_norm") + normed(shown, "value_projection.norm")
        torch.testing.assert_close(first[0], expected, rtol=1e-4, atol=1e-5)

    def test_s_embedding_has_length_one_if_asked(self, batch):
        plain, divided = made(), made(l2_embeddings=True)
        found, expected = divided.encode(**batch), plain.encode(**batch)
        torch.testing.assert_close(found, expected / expected.norm(dim=1, keepdim=True))
        torch.testing.assert_close(divided(**batch).embeddings.norm(dim=1), torch.ones(4))
        torch.testing.assert_close(divided(**batch).loss, plain(**batch).loss)

    def test_without_tokens_has_a_vector_of_zeros(self, batch):
        batch["attention_mask"][2] = 0
        for model in (made(), made(l2_embeddings=True)):
            assert (model.encode(**batch)[2] == 0).all()

    def test_s_padding_is_not_averaged(self, batch):
        model = made(pooling="mean")
        short = {name: tensor[:1, :9] for name, tensor in batch.items()}
        torch.testing.assert_close(model.encode(**short), model.encode(**batch)[:1], rtol=1e-5, atol=1e-5)


class TestHiddenValues:
    def test_are_shown_as_the_mask_value_whatever_stands_there(self, batch):
        model, hidden = made(), batch["masked_positions"]
        told = {**batch, "values": batch["values"].masked_fill(hidden, float("nan"))}
        assert torch.equal(model(**told).logits, model(**batch).logits)
        by_hand = {
            "input_ids": batch["gene_ids"],
            "attention_mask": batch["attention_mask"],
            "values": batch["values"].masked_fill(hidden, -1.0),
        }
        assert torch.equal(model(**by_hand).logits, model(**batch).logits)
        other = made(mask_value=-3.0)
        assert not torch.equal(other(**batch).logits, model(**batch).logits)

    def test_are_asked_for_at_the_gene_of_gene_ids_or_labels_or_input_ids(self, batch):
        model = made()
        expected = model(**batch).logits
        del batch["gene_ids"]
        assert torch.equal(model(**batch).logits, expected)
        is_named = batch["labels"] != -100
        shown = {**batch, "input_ids": torch.where(is_named, batch["labels"], batch["input_ids"])}
        del shown["labels"]
        assert torch.equal(model(**shown).logits, expected)

    def test_losses_are_mean_squares_at_the_labelled_places(self, batch):
        model = made(gepc_weight=0.5)
        out = model(**batch)
        asked = batch["labels"] != -100
        wanted = batch["targets"][asked]
        torch.testing.assert_close(out.loss_terms["masked_value"], (out.logits[asked] - wanted).square().mean())
        from_cells = model.predict_from_cells(batch["gene_ids"], out.embeddings)[asked]
        torch.testing.assert_close(out.loss_terms["gepc"], 0.5 * (from_cells - wanted).square().mean())

    def test_from_the_vector_of_the_cell_follow_the_formula(self):
        """<W sigmoid(Q e + b), cell> with e the normalised vector of the gene."""
        model = made()
        head, genes, cells = model.terms.value_head, torch.tensor([[5, 8]]), torch.randn(1, 16)
        vectors = model.embedding.layer_norm(model.embedding.gene_embedding.weight[genes[0]])
        inner = 1 / (1 + torch.exp(-(vectors @ head.query.weight.T + head.query.bias)))
        torch.testing.assert_close(model.predict_from_cells(genes, cells)[0], inner @ head.weight.weight.T @ cells[0])

    def test_labels_without_targets_are_refused(self, batch):
        del batch["targets"]
        with pytest.raises(DataError, match=r"labels without targets: scgpt predicts values and needs them; give the"):
            made()(**batch)

    def test_a_model_without_the_head_says_so(self, batch):
        model = made(gepc_weight=0)
        assert set(model(**batch).loss_terms) == {"masked_value"}
        with pytest.raises(
            DataError, match=r"no head that reads vectors of cells \(model.gepc_weight is 0\); train one"
        ):
            model.predict_from_cells(batch["gene_ids"], torch.zeros(4, 16))


@pytest.mark.parametrize("skips", [False, True])
class TestGeneration:
    def test_a_gene_to_generate_is_seen_by_itself_only(self, generation, skips):
        model = made(pretraining_task=GENERATIVE, skip_output_projection=skips)
        before = model(**generation)
        changed = {
            **generation,
            "gene_ids": generation["gene_ids"].clone(),
            "input_ids": generation["input_ids"].clone(),
        }
        for name in ("gene_ids", "input_ids"):
            changed[name][1, 8] = 49
        after = model(**changed)
        gap = (after.logits - before.logits).abs()
        assert gap[1, 8] > 1e-3
        gap[1, 8] = 0
        assert gap.max() < 1e-6
        assert torch.allclose(after.embeddings, before.embeddings, atol=1e-6)

    def test_known_genes_are_seen_by_all(self, generation, skips):
        model = made(pretraining_task=GENERATIVE, skip_output_projection=skips)
        before = model(**generation, output_hidden_states=True).hidden_states[-1]
        generation["input_ids"][1, 3] = 49
        after = model(**generation, output_hidden_states=True).hidden_states[-1]
        gap = (after - before).abs().amax(dim=-1)
        assert (gap[1] > 1e-4).all()
        assert gap[[0, 2, 3]].max() < 1e-6

    def test_values_to_generate_are_not_seen(self, generation, skips):
        model = made(pretraining_task=GENERATIVE, skip_output_projection=skips)
        before = model(**generation)
        is_asked = generation["labels"] != -100
        odd = {**generation, "values": generation["values"].masked_fill(is_asked, float("nan"))}
        del odd["labels"]
        assert torch.equal(model(**odd).logits, before.logits)

    @pytest.mark.parametrize("pooling", ["cls", "mean"])
    def test_known_genes_are_what_they_are_without_the_others(self, generation, skips, pooling):
        model = made(pretraining_task=GENERATIVE, skip_output_projection=skips, pooling=pooling)
        out = model(**generation)
        for cell, known in enumerate(generation["prefix_len"].tolist()):
            alone = {
                name: generation[name][cell : cell + 1, :known] for name in ("input_ids", "attention_mask", "values")
            }
            torch.testing.assert_close(model(**alone).logits[0], out.logits[cell, :known], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(model.encode(**alone)[0], out.embeddings[cell], rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("pooling", ["cls", "mean"])
    def test_more_padding_changes_nothing(self, generation, skips, pooling):
        model = made(pretraining_task=GENERATIVE, skip_output_projection=skips, pooling=pooling)
        short, is_real = model(**generation), generation["attention_mask"]
        fill = {"labels": -100}
        wide = {
            name: F.pad(tensor, (0, 9), value=fill.get(name, 0)) if tensor.ndim == 2 else tensor
            for name, tensor in generation.items()
        }
        long = model(**wide)
        torch.testing.assert_close(long.logits[:, :12][is_real], short.logits[is_real], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(long.embeddings, short.embeddings, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(long.loss, short.loss, rtol=1e-5, atol=1e-5)

    def test_trains_all_weights_and_labelled_rows_only_give_the_same_loss(self, generation, skips):
        model = made(pretraining_task=GENERATIVE, skip_output_projection=skips, second_pass_weight=0.5).train()
        out = model(**generation)
        assert set(out.loss_terms) == {"generative_value", "gepc", "second_pass"}
        few = model(**generation, return_logits=False)
        assert few.logits is None
        torch.testing.assert_close(few.loss, out.loss)
        out.loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        assert (model.embedding.flag_embedding.weight.grad[0] == 0).all()
        assert (model.embedding.flag_embedding.weight.grad[1] != 0).any()

    def test_second_pass_has_the_vector_of_the_cell_in_place_of_the_first_token(self, generation, skips):
        model = made(pretraining_task=GENERATIVE, skip_output_projection=skips, second_pass_weight=2.0)
        out = model(**generation)
        again = model(**generation, cell_vectors=out.embeddings)
        torch.testing.assert_close(out.loss_terms["second_pass"], 2 * again.loss_terms["generative_value"])
        assert not torch.allclose(again.logits, out.logits, atol=1e-3)
        other = {**generation, "input_ids": generation["input_ids"].clone()}
        other["input_ids"][:, 0] = 49
        other["gene_ids"] = other["input_ids"]
        same = model(**other, cell_vectors=out.embeddings)
        torch.testing.assert_close(same.logits[1], again.logits[1])


class TestGenerationByChoice:
    def test_leaving_out_the_projection_changes_generated_genes_only(self, generation):
        plain, quirk = (made(pretraining_task=GENERATIVE, skip_output_projection=skips) for skips in (False, True))
        gap = (plain(**generation).logits - quirk(**generation).logits).abs()
        is_asked = generation["labels"] != -100
        is_known = generation["attention_mask"] & ~is_asked
        assert gap[is_known].max() < 1e-5
        assert (gap[is_asked] > 1e-4).all()

    def test_a_model_that_learned_it_still_takes_cells_without(self, batch):
        """All weights take part, so that several devices agree on which gradients there are."""
        model = made(pretraining_task=GENERATIVE).train()
        out = model(**batch)
        assert set(out.loss_terms) == {"masked_value", "gepc"}
        out.loss.backward()
        assert all(p.grad is not None for p in model.parameters())

    def test_a_model_that_did_not_learn_it_ignores_the_division(self, generation):
        model = made()
        expected = {**generation}
        del expected["prefix_len"]
        assert torch.equal(model(**generation).logits, model(**expected).logits)
        assert model.embedding.flag_embedding is None

    def test_recomputing_blocks_gives_the_same_gradients(self, generation):
        found = []
        for checkpointing in (False, True):
            model = made(pretraining_task=GENERATIVE, activation_checkpointing=checkpointing).train()
            model(**generation).loss.backward()
            found.append([p.grad for p in model.parameters()])
        assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(*found, strict=True))


class TestTermsOfCells:
    def test_similarity_is_pushed_from_the_threshold(self, batch):
        model = made(ecs_weight=10.0, ecs_threshold=0.6)
        out = model(**batch)
        total = 0.0
        for one in range(4):
            for other in range(4):
                cosine = float(F.cosine_similarity(out.embeddings[one], out.embeddings[other], dim=0).detach())
                total += 1 - ((0.0 if one == other else max(0.0, cosine)) - 0.6) ** 2
        assert out.loss_terms["ecs"].item() == pytest.approx(10 * total / 16, rel=1e-5)

    def test_contrast_without_dropout_is_known_from_the_cosines(self, batch):
        out = made(cce_weight=3.0)(**batch)
        cells = F.normalize(out.embeddings.detach(), dim=1)
        expected = -((cells @ cells.T) / 0.5).log_softmax(dim=1).diagonal().mean()
        assert out.loss_terms["cce"].item() == pytest.approx(3 * expected.item(), rel=1e-5)

    def test_contrast_draws_dropout_anew(self, batch):
        model = made(cce_weight=1.0, dropout=0.5).train()
        torch.manual_seed(0)
        cells = F.normalize(model(**batch).embeddings.detach(), dim=1)
        same = -((cells @ cells.T) / 0.5).log_softmax(dim=1).diagonal().mean()
        torch.manual_seed(0)
        assert abs(model(**batch).loss_terms["cce"].item() - same.item()) > 1e-3

    def test_cell_types_are_classified(self, batch):
        model = made(cls_weight=2.0, num_cell_types=3)
        labels = torch.tensor([0, 2, -100, 1])
        out = model(**batch, cell_types=labels)
        scores = model.terms.class_head(out.embeddings)
        assert scores.shape == (4, 3)
        known = [0, 1, 3]
        expected = 2 * F.cross_entropy(scores[known], labels[known])
        torch.testing.assert_close(out.loss_terms["cls"], expected)

    def test_batches_are_classified_and_the_encoder_learns_to_hide_them(self, batch):
        model = made(dab_weight=1.0, num_batches=2)
        labels = torch.tensor([0, 1, 1, 0])
        model(**batch, batch_labels=labels).loss_terms["dab"].backward()
        reversed_, own = model.encoder.layers[0].ffn.up.weight.grad, model.terms.batch_head.output.weight.grad
        assert reversed_.abs().sum() > 0
        model.zero_grad()
        cells = model.encode(
            batch["gene_ids"], batch["attention_mask"], batch["values"].masked_fill(batch["masked_positions"], -1.0)
        )
        F.cross_entropy(model.terms.batch_head(cells), labels).backward()
        torch.testing.assert_close(-model.encoder.layers[0].ffn.up.weight.grad, reversed_, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(model.terms.batch_head.output.weight.grad, own, rtol=1e-4, atol=1e-6)

    def test_all_of_them_train_all_weights_in_both_precisions(self, batch):
        model = made(ecs_weight=1, cce_weight=1, cls_weight=1, dab_weight=1, num_cell_types=3, num_batches=2).train()
        labels = {"cell_types": torch.tensor([0, 2, 1, 1]), "batch_labels": torch.tensor([0, 1, 1, 0])}
        exact = model(**batch, **labels)
        exact.loss.backward()
        assert set(exact.loss_terms) == {"masked_value", *model.config.counted_terms}
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            coarse = model(**batch, **labels)
        for name, term in coarse.loss_terms.items():
            assert term.dtype == torch.float32
            assert term.item() == pytest.approx(exact.loss_terms[name].item(), rel=0.1, abs=0.1), name

    def test_no_cells_and_unknown_labels_give_zero(self, batch):
        model = made(ecs_weight=1, cce_weight=1, cls_weight=1, dab_weight=1, num_cell_types=3, num_batches=2)
        unknown = torch.full((4,), -100)
        terms = model(**batch, cell_types=unknown, batch_labels=unknown).loss_terms
        assert terms["cls"].item() == terms["dab"].item() == 0
        empty = {name: tensor[:0] for name, tensor in batch.items()}
        assert model(**empty, cell_types=unknown[:0], batch_labels=unknown[:0]).loss.item() == 0

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"cls_weight": 1, "num_cell_types": 3}, "the batch has no cell_types, which the model learns from; give"),
            ({"dab_weight": 1, "num_batches": 3}, "the batch has no batch_labels, which the model learns from; give"),
        ],
    )
    def test_missing_labels_are_refused(self, batch, settings, words):
        with pytest.raises(DataError, match=words):
            made(**settings)(**batch)

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            (
                {"cls_weight": 1},
                r"model.cls_weight is not 0, but model.num_cell_types is not set; a run fills it from data.label",
            ),
            (
                {"dab_weight": 1},
                r"model.dab_weight is not 0, but model.num_batches is not set; a run fills it from data.batch",
            ),
        ],
    )
    def test_missing_numbers_of_labels_are_refused(self, settings, words):
        with pytest.raises(ConfigError, match=words):
            made(**settings)


class TestSettings:
    def test_plain_ones_are_completed_with_scgpt_s_own(self):
        model = get_model("scgpt", ModelConfig(vocab_size=50, hidden_dim=16, num_layers=1, num_heads=2))
        assert (model.config.activation, model.config.norm_placement, model.config.layer_norm_eps) == (
            "relu",
            "post",
            1e-5,
        )
        assert model.config.dropout == 0.2
        assert model.encoder.layers[0].ffn.up.out_features == 16
        assert get_model("scgpt", ModelConfig(vocab_size=50, hidden_dim=16, dropout=0.1)).config.dropout == 0.1

    def test_say_what_each_term_is_a_mean_over(self):
        assert ScGPTConfig().counted_terms == {"gepc": "targets"}
        every = ScGPTConfig(
            gepc_weight=0,
            pretraining_task=GENERATIVE,
            second_pass_weight=1,
            ecs_weight=1,
            cce_weight=1,
            dab_weight=1,
            cls_weight=1,
        )
        assert every.counted_terms == {
            "second_pass": "targets",
            "ecs": "cells",
            "cce": "cells",
            "dab": "batch_labels",
            "cls": "cell_types",
        }

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ("second_pass_weight: 1.0", "second_pass_weight has no effect without pretraining_task 'generative_value"),
            (
                f"pretraining_task: {GENERATIVE}, second_pass_weight: 1.0, pooling: mean",
                "puts the vector of <cls> back, but pooling is 'mean'; set pooling to 'cls'",
            ),
            ("skip_output_projection: true", "skip_output_projection has no effect without pretraining_task"),
            (
                f"pretraining_task: {GENERATIVE}, skip_output_projection: true, activation_checkpointing: true",
                "skip_output_projection and activation_checkpointing do not go together; set one of them to false",
            ),
            (
                "dab_weight: 1.0",
                r"data.batch_column is not set, but model.architecture 'scgpt' .* \(dab\); name the obs",
            ),
            (
                "cls_weight: 1.0",
                r"data.label_column is not set, but model.architecture 'scgpt' .* \(cls\); name the obs",
            ),
        ],
    )
    def test_that_do_not_go_together_are_refused(self, tmp_path, settings, words):
        path = tmp_path / "run.yaml"
        path.write_text(f"data: {{paths: [a.h5ad]}}\nmodel: {{architecture: scgpt, {settings}}}\n")
        with pytest.raises(ConfigError, match=words):
            load_config(path)

    def test_of_the_published_model_give_its_number_of_parameters(self):
        config = load_config(PRESETS / "scgpt-human.yaml").model
        config.vocab_size = 60_697
        with torch.device("meta"):
            model = get_model("scgpt", config)
        assert count_parameters(model) == 51_330_049
        assert math.prod(model.embedding.gene_embedding.weight.shape) == 60_697 * 512
