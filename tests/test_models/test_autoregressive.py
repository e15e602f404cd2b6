"""The autoregressive transformer: its loss, its attention, and that what it is asked for is not in its input."""

from __future__ import annotations

import copy
import inspect
import logging
import math

import numpy as np
import pytest
import torch

from scmodelforge.config.schema import ModelConfig, TokenizerConfig
from scmodelforge.data.draws import cell_keys
from scmodelforge.data.types import TokenBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.models import AutoregressiveTransformer, GeneratedCells, TransformerConfig, get_model
from scmodelforge.models.autoregressive import AutoregressiveConfig
from scmodelforge.models.components.pooling import mean_seen
from scmodelforge.objectives import get_objective
from tests.test_models.batches import next_gene_batch, plain_cells

REQUIRED = inspect.Parameter.empty
LOGGER = "scmodelforge.models.autoregressive"


def make(**settings) -> AutoregressiveTransformer:
    torch.manual_seed(0)
    tiny = {"vocab_size": 50, "n_bins": 51, "hidden_dim": 16, "num_layers": 2, "num_heads": 2, "dropout": 0.0}
    return AutoregressiveTransformer(**{**tiny, "max_seq_len": 32, "pooling": "mean", **settings})


@pytest.fixture
def model():
    return make().eval()


@pytest.fixture
def batch(dummy_batch):
    return next_gene_batch(dummy_batch)


@pytest.fixture
def cells(dummy_batch):
    """Whole cells without padding that begin with <cls>: three of twelve tokens, each gene once."""
    draw = torch.Generator().manual_seed(5)
    ids = torch.stack([4 + torch.randperm(46, generator=draw)[:12] for _ in range(3)])
    ids[:, 0] = 3
    values = torch.rand(3, 12, generator=draw)
    values[:, 0] = 0
    return {"input_ids": ids, "attention_mask": torch.ones(3, 12), "values": values}


def read_states(model, **batch) -> torch.Tensor:
    """Return what the heads read in forward, shape (B, S, H)."""
    states = []
    hook = model.gene_head.register_forward_pre_hook(lambda module, inputs: states.append(inputs[0]))
    model(**batch)
    hook.remove()
    return states[0]


class TestSignature:
    def test_constructor_is_the_documented_one(self):
        parameters = inspect.signature(AutoregressiveTransformer).parameters
        documented = {
            "vocab_size": REQUIRED,
            "n_bins": 51,
            "hidden_dim": 512,
            "num_layers": 12,
            "num_heads": 8,
            "ffn_dim": None,
            "dropout": 0.1,
            "max_seq_len": 2048,
            "pooling": "cls",
            "activation": "gelu",
            "use_expression_values": True,
            "layer_norm_eps": 1e-12,
            "gene_loss_weight": 1.0,
            "expression_loss_weight": 1.0,
        }
        assert [(name, p.default) for name, p in parameters.items()][:14] == list(documented.items())
        assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in list(parameters.values())[14:])
        assert (parameters["attention_dropout"].default, parameters["use_positions"].default) == (0.0, False)
        assert (parameters["readout"].default, parameters["value_embedding"].default) == ("mean", "bins")

    def test_forward_and_encode_take_the_documented_arguments_by_position(self):
        forward = inspect.signature(AutoregressiveTransformer.forward).parameters
        encode = inspect.signature(AutoregressiveTransformer.encode).parameters
        assert list(forward)[1:5] == ["input_ids", "attention_mask", "values", "labels"]
        assert list(encode)[1:4] == ["input_ids", "attention_mask", "values"]
        assert forward["values"].default is forward["labels"].default is encode["values"].default is None
        assert forward["kwargs"].kind is encode["kwargs"].kind is inspect.Parameter.VAR_KEYWORD
        count = inspect.signature(AutoregressiveTransformer.num_parameters).parameters
        assert [(name, p.default) for name, p in count.items()][1:] == [("trainable_only", True)]

    def test_the_number_of_parameters_is_that_of_the_layers(self):
        """Counted by hand: genes, bins and norm; blocks; final and readout norm; gene head; bin norm, input, head."""
        V, K, H, L, F = 50, 51, 16, 2, 64
        norm = 2 * H
        block = 4 * (H * H + H) + (H * F + F) + (F * H + H) + 2 * norm
        head = H * H + H + norm
        expected = V * H + K * H + norm + L * block + 2 * norm
        expected += head + H * V + V + norm + (2 * H * H + H) + head + H * K + K
        assert make().num_parameters() == expected
        linear = make(readout="last", value_embedding="linear").num_parameters()
        assert linear == expected - K * H + 2 * H - norm

    def test_it_declares_that_it_is_causal(self):
        assert AutoregressiveTransformer.is_causal is True
        assert AutoregressiveTransformer.default_objective == "next_gene_prediction"


class TestSettings:
    def test_they_arrive(self):
        config = AutoregressiveConfig(
            vocab_size=50,
            n_bins=7,
            hidden_dim=16,
            num_layers=3,
            num_heads=4,
            ffn_dim=20,
            dropout=0.25,
            max_seq_len=12,
            pooling="mean",
            activation="relu",
            use_expression_values=False,
            layer_norm_eps=1e-5,
            gene_loss_weight=0.3,
            expression_loss_weight=0.7,
            attention_dropout=0.5,
            use_positions=True,
        )
        model = AutoregressiveTransformer.from_config(config)
        block = model.encoder.layers[2]
        assert len(model.encoder.layers) == 3
        assert block.attention.num_heads == 4
        assert block.attention.dropout == 0.5
        assert block.dropout.p == model.embedding.dropout.p == 0.25
        assert isinstance(block.ffn.activation, torch.nn.ReLU)
        assert block.ffn.up.out_features == 20
        assert model.embedding.position_embedding.num_embeddings == model.max_seq_len == 12
        assert model.embedding.value_projection is model.embedding.bin_embedding is None
        assert model.pooling == "mean"
        assert model.n_bins == model.bin_head.decoder.out_features == 7
        assert model.gene_head.decoder.out_features == 50
        assert (model.gene_loss_weight, model.expression_loss_weight) == (0.3, 0.7)
        assert {m.eps for m in model.modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-5}

    def test_plain_settings_mean_a_set_and_pooling_cls(self, tiny_config):
        tiny_config.pooling = None
        for model in (
            AutoregressiveTransformer.from_config(tiny_config),
            get_model("autoregressive_transformer", tiny_config),
            AutoregressiveTransformer.from_config(TransformerConfig(**tiny_config.model_dump())),
        ):
            assert model.embedding.position_embedding is None
            assert model.encoder.layers[0].attention.dropout == 0.0
            assert model.pooling == "cls"

    def test_attention_dropout_of_common_transformer_settings_is_taken(self, tiny_config):
        config = TransformerConfig(**tiny_config.model_dump(), attention_dropout=0.2)
        assert AutoregressiveTransformer.from_config(config).encoder.layers[0].attention.dropout == 0.2

    @pytest.mark.parametrize(
        ("gene_order", "use_positions", "has_positions"),
        [
            ("random", None, False),
            ("given", None, True),
            ("random", True, True),
            ("given", False, False),
        ],
    )
    def test_positions_follow_the_order_unless_set(self, tiny_config, gene_order, use_positions, has_positions):
        config = AutoregressiveConfig(**tiny_config.model_dump(), gene_order=gene_order, use_positions=use_positions)
        model = get_model("autoregressive_transformer", config)
        assert (model.embedding.position_embedding is not None) == has_positions

    @pytest.mark.parametrize(
        ("gene_order", "readout", "is_mean"),
        [("random", None, True), ("given", None, False), ("random", "last", False), ("given", "mean", True)],
    )
    def test_the_readout_follows_the_order_unless_set(self, tiny_config, gene_order, readout, is_mean):
        config = AutoregressiveConfig(**tiny_config.model_dump(), gene_order=gene_order, readout=readout)
        assert (get_model("autoregressive_transformer", config).readout_norm is not None) == is_mean

    @pytest.mark.parametrize("value_embedding", ["bins", "linear"])
    def test_values_are_bins_or_numbers(self, tiny_config, value_embedding):
        config = AutoregressiveConfig(**tiny_config.model_dump(), value_embedding=value_embedding)
        embedding = get_model("autoregressive_transformer", config).embedding
        assert (embedding.bin_embedding is None) == (value_embedding == "linear")
        assert (embedding.value_projection is None) == (value_embedding == "bins")
        assert value_embedding == "linear" or embedding.bin_embedding.num_embeddings == config.n_bins

    @pytest.mark.parametrize("name", ["readout", "value_embedding"])
    def test_other_choices_are_refused(self, name):
        with pytest.raises(ValueError, match=rf"model.{name} is 'median'; choose one of "):
            make(**{name: "median"})

    def test_orders_are_given_or_random(self):
        assert (AutoregressiveConfig().gene_order, AutoregressiveConfig().use_positions) == ("random", None)
        with pytest.raises(ValueError, match="gene_order"):
            AutoregressiveConfig(gene_order="rank")


class TestLoss:
    def by_hand(self, model, batch) -> tuple[float, float]:
        """Return both cross-entropies, position by position, without shift."""
        logits, hidden = model(**batch).logits, read_states(model, **batch)
        genes, bins = [], []
        for cell, place in torch.nonzero(batch["labels"] != -100).tolist():
            label = batch["labels"][cell, place]
            genes.append(-torch.log_softmax(logits[cell, place], dim=0)[label].item())
            scores = model.score_bins(hidden[cell, place][None], label[None])[0]
            bins.append(-torch.log_softmax(scores, dim=0)[batch["bin_ids"][cell, place]].item())
        return sum(genes) / len(genes), sum(bins) / len(bins)

    @pytest.mark.parametrize("return_logits", [True, False])
    @pytest.mark.parametrize(("gene_weight", "bin_weight"), [(1.0, 1.0), (0.7, 0.5), (0.0, 2.0), (3.0, 0.0)])
    def test_it_is_the_documented_sum(self, batch, gene_weight, bin_weight, return_logits):
        model = make(gene_loss_weight=gene_weight, expression_loss_weight=bin_weight).eval()
        gene, bin_ = self.by_hand(model, batch)
        out = model(**batch, return_logits=return_logits)
        assert out.loss.item() == pytest.approx(gene_weight * gene + bin_weight * bin_, abs=1e-5)
        assert out.loss_terms["next_gene"].item() == pytest.approx(gene_weight * gene, abs=1e-5)
        assert out.loss_terms["expression_bin"].item() == pytest.approx(bin_weight * bin_, abs=1e-5)

    def test_labels_meet_the_logits_of_their_own_position(self, model, batch):
        """One label only, anywhere: no shift in the model."""
        for place in (0, 4, 11):
            labels = torch.full((4, 12), -100)
            labels[1, place] = 23
            out = model(**{**batch, "labels": labels, "bin_ids": None})
            expected = -out.logits[1, place].log_softmax(0)[23]
            assert out.loss.item() == pytest.approx(expected.item(), abs=1e-5)

    @pytest.mark.parametrize("return_logits", [True, False])
    def test_bins_without_a_label_are_ignored(self, model, batch, return_logits):
        filled = batch["bin_ids"].masked_fill(batch["labels"] == -100, 7)
        assert (filled != batch["bin_ids"]).any()
        expected = model(**batch, return_logits=return_logits).loss
        assert torch.equal(model(**{**batch, "bin_ids": filled}, return_logits=return_logits).loss, expected)

    def test_a_label_without_a_bin_counts_for_genes_only(self, model, batch):
        """Each term is a mean over its own targets."""
        few = {**batch, "bin_ids": torch.full((4, 12), -100)}
        few["bin_ids"][1, 5] = batch["bin_ids"][1, 5]
        assert batch["labels"][1, 5] != -100
        alone = {**batch, "labels": torch.full((4, 12), -100)}
        alone["labels"][1, 5] = batch["labels"][1, 5]
        found, one = model(**few).loss_terms, model(**alone).loss_terms
        assert torch.equal(found["next_gene"], model(**batch).loss_terms["next_gene"])
        assert found["expression_bin"].item() == pytest.approx(one["expression_bin"].item(), abs=1e-5)

    @pytest.mark.parametrize("return_logits", [True, False])
    def test_without_bins_there_is_the_gene_term_only(self, batch, return_logits):
        model = make(gene_loss_weight=0.5).eval()
        gene, _ = self.by_hand(model, batch)
        del batch["bin_ids"]
        out = model(**batch, return_logits=return_logits)
        assert set(out.loss_terms) == {"next_gene"}
        assert out.loss.item() == pytest.approx(0.5 * gene, abs=1e-5)

    @pytest.mark.parametrize("return_logits", [True, False])
    @pytest.mark.parametrize(("term", "head"), [("next_gene", "gene_head"), ("expression_bin", "bin_head")])
    def test_each_term_trains_its_head_and_the_whole_encoder(self, model, batch, term, head, return_logits):
        model(**batch, return_logits=return_logits).loss_terms[term].backward()
        trained = {name for name, p in model.named_parameters() if p.grad is not None and (p.grad != 0).any()}
        other = {"gene_head": "bin_head", "bin_head": "gene_head"}[head]
        assert {name for name, _ in model.encoder.named_parameters(prefix="encoder") if "k.bias" not in name} <= trained
        assert {name for name, _ in model.embedding.named_parameters(prefix="embedding")} <= trained
        assert {name for name, _ in model.get_submodule(head).named_parameters(prefix=head)} <= trained
        assert not any(name.startswith(other) for name in trained)

    @pytest.mark.parametrize("wrong", [51, -1])
    def test_a_bin_the_model_does_not_have(self, model, batch, wrong):
        batch["bin_ids"][batch["labels"] != -100] = wrong
        with pytest.raises(ValueError, match=rf"bin {wrong} is none of 0 to 50, the bins of the model"):
            model(**batch)

    @pytest.mark.parametrize("return_logits", [True, False])
    def test_a_label_the_model_does_not_have(self, model, batch, return_logits):
        batch["labels"][1, 5] = 50
        with pytest.raises(ValueError, match="token id 50 is not in the vocabulary of 50 tokens"):
            model(**batch, return_logits=return_logits)

    def test_bins_without_labels_ask_for_nothing(self, model, batch):
        del batch["labels"]
        assert model(**batch).loss is None


class TestBinScores:
    def test_they_depend_on_the_gene_that_is_scored(self, model):
        states = torch.randn(1, 16).expand(2, 16)
        first, second = model.score_bins(states, torch.tensor([7, 8]))
        assert first.shape == (51,)
        assert not torch.allclose(first, second, atol=1e-3)

    def test_they_depend_on_what_came_before(self, model):
        first, second = model.score_bins(torch.randn(2, 16), torch.tensor([7, 7]))
        assert not torch.allclose(first, second, atol=1e-3)

    @pytest.mark.parametrize("return_logits", [True, False])
    def test_in_the_loss_the_gene_is_the_label(self, model, batch, return_logits):
        seen = []
        model.bin_input.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
        before = model(**batch, return_logits=return_logits).loss_terms["expression_bin"]
        row = (batch["labels"] != -100).flatten().nonzero().flatten().tolist().index(12 + 5)
        batch["labels"][1, 5] = 4 + (batch["labels"][1, 5] + 1) % 46
        after = model(**batch, return_logits=return_logits).loss_terms["expression_bin"]
        changed = (seen[0] != seen[1]).any(dim=1)
        assert changed.nonzero().flatten().tolist() == [row]
        assert not torch.equal(before, after)

    def test_they_train_the_embedding_of_the_gene(self, model, batch):
        """A gene that is asked for and never shown gets its gradient from the bins alone."""
        batch["labels"][1, 5] = 49
        batch["input_ids"] = batch["input_ids"].masked_fill(batch["input_ids"] == 49, 48)
        model(**batch).loss_terms["expression_bin"].backward()
        assert model.embedding.gene_embedding.weight.grad[49].abs().sum() > 0


def changed_places(model, cells, place: int, key: str, **batch) -> torch.Tensor:
    """Return where logits differ after one token of each cell is changed, shape (B, S), with the same dropout."""
    other = {**cells, key: cells[key].clone()}
    other[key][:, place] = 4 + (cells[key][:, place] - 3) % 46 if key == "input_ids" else 5.0
    torch.manual_seed(7)
    before = model(**cells, **batch).logits
    torch.manual_seed(7)
    after = model(**other, **batch).logits
    return (before != after).any(dim=2)


class TestReadout:
    """The mean of what a position sees is a property of the set: its last member counts as much as the others."""

    def by_hand(self, model, cells, prefix_len) -> torch.Tensor:
        hidden = []
        hook = model.encoder.register_forward_hook(lambda module, inputs, output: hidden.append(output))
        model(**cells, prefix_len=prefix_len)
        hook.remove()
        rows = []
        for cell in range(3):
            prefix = 0 if prefix_len is None else int(prefix_len[cell])
            rows.append([hidden[0][cell, : max(place + 1, prefix)].mean(0) for place in range(12)])
        return torch.stack([torch.stack(row) for row in rows])

    @pytest.mark.parametrize("prefix_len", [None, torch.tensor([1, 5, 12])])
    def test_it_is_the_normalised_mean_of_what_is_seen(self, model, cells, prefix_len):
        mean = self.by_hand(model, cells, prefix_len)
        expected = torch.nn.functional.layer_norm(mean, (16,), eps=1e-12)
        assert torch.allclose(read_states(model, **cells, prefix_len=prefix_len), expected, atol=1e-5)

    def test_at_the_end_of_a_prefix_it_does_not_depend_on_the_order(self, model, cells):
        order = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(7), torch.arange(8, 12)])
        turned = {key: tensor[:, order] for key, tensor in cells.items()}
        prefix_len = torch.tensor([8, 8, 8])
        first, second = model(**cells, prefix_len=prefix_len), model(**turned, prefix_len=prefix_len)
        assert torch.allclose(first.logits[:, 7:], second.logits[:, 7:], atol=1e-4)

    def test_of_a_whole_cell_it_is_its_embedding(self, model, cells):
        embedded = torch.nn.functional.layer_norm(model.encode(**cells), (16,), eps=1e-12)
        read = read_states(model, **cells, prefix_len=torch.tensor([12, 12, 12]))
        assert torch.allclose(read[:, -1], embedded, atol=1e-5)

    def test_padding_is_no_part_of_it(self, model, cells):
        longer = {key: torch.nn.functional.pad(tensor, (0, 4), value=7) for key, tensor in cells.items()}
        longer["attention_mask"][:, 12:] = 0
        assert torch.allclose(model(**longer).logits[:, :12], model(**cells).logits, atol=1e-5)

    def test_its_sums_are_exact_under_autocast(self, model, cells):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = torch.randn(2, 1000, 16)
            mask = torch.ones(1, 1, 1000, 1000, dtype=torch.bool)
            found = mean_seen(hidden, torch.ones(2, 1000), mask)
        assert torch.allclose(found[:, 0], hidden.mean(1), atol=1e-6)

    def test_without_it_the_last_state_is_read(self, cells):
        model, hidden = make(readout="last").eval(), []
        model.encoder.register_forward_hook(lambda module, inputs, output: hidden.append(output))
        assert torch.equal(read_states(model, **cells), hidden[0])


class TestFuture:
    """Bit for bit, not nearly: what is to be predicted must not be input in any digit."""

    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("key", ["input_ids", "values"])
    @pytest.mark.parametrize("prefix", [None, [1, 1, 1], [0, 0, 0]])
    @pytest.mark.parametrize("readout", ["mean", "last"])
    def test_a_token_reaches_no_earlier_position(self, cells, key, training, prefix, readout):
        model = make(dropout=0.1, readout=readout).train(training)
        prefix_len = None if prefix is None else torch.tensor(prefix)
        for place in (1, 6, 11):
            changed = changed_places(model, cells, place, key, prefix_len=prefix_len)
            assert not changed[:, :place].any()
            assert changed[:, place:].all()

    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("key", ["input_ids", "values"])
    def test_behind_a_prefix_too(self, cells, key, training):
        model = make(dropout=0.1).train(training)
        prefix_len = torch.tensor([2, 5, 12])
        for place in (3, 5, 9):
            changed = changed_places(model, cells, place, key, prefix_len=prefix_len)
            for cell, prefix in enumerate(prefix_len.tolist()):
                if place < prefix:
                    assert changed[cell].all()  # the prefix is seen by all, by itself too
                else:
                    assert not changed[cell, :place].any()
                    assert changed[cell, place:].all()

    def test_without_a_prefix_attention_is_causal_in_training_too(self, cells):
        model = make()
        evaluated = model.eval()(**cells).logits
        assert torch.allclose(model.train()(**cells).logits, evaluated, atol=1e-6)

    def test_the_loss_of_a_batch_with_a_prefix_is_that_of_its_cells_alone(self, model, batch):
        """Each cell has its own prefix, whatever the others have."""
        together = model(**batch).logits
        for cell in range(4):
            alone = model(**{key: tensor[cell : cell + 1] for key, tensor in batch.items()}).logits
            assert torch.allclose(alone, together[cell : cell + 1], atol=1e-5)

    def test_a_prefix_changes_what_its_tokens_see(self, model, cells):
        causal = model(**cells).logits
        prefixed = model(**cells, prefix_len=torch.tensor([4, 4, 4])).logits
        assert not torch.allclose(causal[:, 0], prefixed[:, 0], atol=1e-4)
        assert torch.allclose(causal[:, 0], model(**cells, prefix_len=torch.tensor([1, 1, 1])).logits[:, 0], atol=1e-6)

    def test_prefixes_longer_than_the_cell_are_the_cell(self, model, batch):
        whole = model(**{**batch, "prefix_len": torch.tensor([9, 12, 12, 12])})
        more = model(**{**batch, "prefix_len": torch.tensor([40, 40, 40, 40])})
        assert torch.allclose(whole.embeddings, more.embeddings, atol=1e-6)


class TestEmbeddings:
    def test_encode_sees_the_whole_cell_and_forward_what_came_before(self, model, cells):
        assert not torch.allclose(model.encode(**cells), model(**cells).embeddings, atol=1e-3)

    @pytest.mark.parametrize("pooling", ["cls", "mean"])
    def test_encode_tells_cells_apart(self, cells, pooling):
        embedded = make(pooling=pooling).eval().encode(**cells)
        assert torch.pdist(embedded).min() > 1e-2

    def test_cls_of_forward_without_a_prefix_is_the_same_for_every_cell(self, cells):
        model = make(pooling="cls").eval()
        embedded = model(**cells).embeddings
        assert torch.equal(embedded, embedded[:1].expand_as(embedded))
        assert torch.pdist(model(**cells, prefix_len=torch.tensor([12, 12, 12])).embeddings).min() > 1e-2

    def test_that_is_said_once(self, cells, caplog):
        model = make(pooling="cls").eval()
        with caplog.at_level(logging.WARNING, logger=LOGGER):
            model(**cells)
            model(**cells)
        assert len(caplog.records) == 1
        assert "are the same for every cell" in caplog.text
        assert "use encode(), or give prefix_len" in caplog.text

    @pytest.mark.parametrize("prefix", [[1, 4, 4], [4, 4, 0]])
    def test_it_is_said_of_short_prefixes_too(self, cells, caplog, prefix):
        make(pooling="cls").eval()(**cells, prefix_len=torch.tensor(prefix))
        assert len(caplog.records) == 1

    def test_it_is_said_of_no_other_use(self, cells, batch, caplog):
        model = make(pooling="cls").eval()
        model.encode(**cells)
        model(**cells, prefix_len=torch.tensor([2, 3, 12]))
        model(**batch)  # training: embeddings are not asked for
        make(pooling="mean").eval()(**cells)
        assert not [record for record in caplog.records if record.name == LOGGER]

    @pytest.mark.parametrize("use_positions", [True, False])
    @pytest.mark.parametrize("pooling", ["cls", "mean"])
    def test_the_order_of_genes_matters_only_with_positions(self, cells, pooling, use_positions):
        model = make(pooling=pooling, use_positions=use_positions).eval()
        order = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(11)])
        turned = {key: tensor[:, order] for key, tensor in cells.items()}
        difference = (model.encode(**cells) - model.encode(**turned)).abs().max()
        assert difference > 1e-4 if use_positions else difference < 1e-5

    def test_values_keep_their_genes(self, model, cells):
        """A cell is a set of pairs: values of other genes make another cell."""
        turned = {**cells, "values": cells["values"].flip(1)}
        assert not torch.allclose(model.encode(**cells), model.encode(**turned), atol=1e-4)


class TestNoRepeats:
    def test_genes_named_so_far_and_special_tokens_have_no_probability(self, model, cells):
        free = model(**cells).logits
        held = model(**cells, no_repeats=torch.tensor(True)).logits
        for cell in range(3):
            for place in range(12):
                out = {0, 1, 2, 3, *cells["input_ids"][cell, : place + 1].tolist()}
                for gene in range(50):
                    expected = -math.inf if gene in out else free[cell, place, gene].item()
                    assert held[cell, place, gene].item() == expected

    @pytest.mark.parametrize("return_logits", [True, False])
    def test_what_stands_at_padding_has_no_effect(self, model, cells, return_logits):
        labels = torch.full((3, 16), -100)
        labels[:, :11] = cells["input_ids"][:, 1:]
        longer = {key: torch.nn.functional.pad(tensor, (0, 4)) for key, tensor in cells.items()}
        options = {"labels": labels, "no_repeats": torch.tensor(True), "return_logits": return_logits}
        expected = model(**longer, **options).loss
        for rubbish in (999, -1, 7):
            longer["input_ids"][:, 12:] = rubbish
            assert torch.equal(model(**longer, **options).loss, expected)

    def test_ids_may_be_of_any_integer_type(self, model, cells):
        expected = model(**cells, no_repeats=torch.tensor(True)).logits
        cells["input_ids"] = cells["input_ids"].int()
        assert torch.equal(model(**cells, no_repeats=torch.tensor(True)).logits, expected)

    def test_it_can_be_left_out(self, model, cells):
        free = model(**cells).logits
        assert torch.equal(model(**cells, no_repeats=torch.tensor(False)).logits, free)
        assert torch.equal(model(**cells, no_repeats=None).logits, free)
        assert free.isfinite().all()

    def test_a_label_keeps_its_score(self, model, cells):
        """Labels equal to the input are named, and still cost a finite loss."""
        labels = cells["input_ids"]
        free = model(**cells).logits
        out = model(**cells, labels=labels, no_repeats=torch.tensor(True))
        assert out.loss.isfinite()
        for place in (0, 5, 11):
            own = labels[0, place]
            assert out.logits[0, place, own] == free[0, place, own]
            named = cells["input_ids"][0, :place]
            assert (out.logits[0, place, named[named != own]] == -math.inf).all()

    def test_the_loss_is_normalised_over_what_is_left(self, model, cells):
        labels = torch.full((3, 12), -100)
        labels[:, :11] = cells["input_ids"][:, 1:]
        free = model(**cells).logits
        expected = []
        for cell in range(3):
            for place in range(11):
                left = [g for g in range(4, 50) if g not in cells["input_ids"][cell, : place + 1]]
                scores = free[cell, place]
                expected.append((scores[left].logsumexp(0) - scores[labels[cell, place]]).item())
        for return_logits in (True, False):
            loss = model(**cells, labels=labels, no_repeats=torch.tensor(True), return_logits=return_logits).loss
            assert loss.item() == pytest.approx(np.mean(expected), abs=1e-5)

    @pytest.mark.parametrize("repeats_labels", [True, False])
    @pytest.mark.parametrize("parts", [1, 4])
    def test_labelled_rows_only_give_the_same_loss_and_gradients(
        self, model, batch, monkeypatch, parts, repeats_labels
    ):
        from scmodelforge.models.components import losses

        if parts > 1:
            rows = int((batch["labels"] != -100).sum())
            monkeypatch.setattr(losses, "_LOGITS_AT_ONCE", 50 * -(-rows // parts))
        batch["no_repeats"] = torch.tensor(True)
        if repeats_labels:
            batch["labels"] = torch.where(batch["labels"] == -100, -100, batch["input_ids"])
        twin = copy.deepcopy(model)
        full, few = model(**batch), twin(**batch, return_logits=False)
        assert full.loss.isfinite()
        assert torch.allclose(full.loss, few.loss, atol=1e-5)
        full.loss.backward()
        few.loss.backward()
        for (name, a), b in zip(model.named_parameters(), twin.parameters(), strict=True):
            assert a.grad.isfinite().all()
            assert torch.allclose(a.grad, b.grad, atol=1e-6), name

    def test_bins_are_scored_as_before(self, model, batch):
        held = model(**batch, no_repeats=torch.tensor(True)).loss_terms["expression_bin"]
        assert torch.equal(held, model(**batch).loss_terms["expression_bin"])


VOCAB = GeneVocab.from_genes([f"g{i:02d}" for i in range(12)], name="twelve")
GENES, NUM_BINS = 6, 6


def random_tokens(step: int, num_cells: int = 48) -> TokenBlock:
    """Return cells of six of twelve genes, drawn evenly, with bins drawn evenly that their values tell."""
    rng = np.random.default_rng(step)
    ids = np.argsort(rng.random((num_cells, 12)), axis=1)[:, :GENES] + 4
    bins = rng.integers(0, NUM_BINS, ids.shape)
    first = np.full((num_cells, 1), VOCAB.cls_id)
    nothing = np.zeros((num_cells, 1))
    positions = np.arange(num_cells, dtype=np.int64)
    return TokenBlock(
        offsets=np.arange(0, (num_cells + 1) * (GENES + 1), GENES + 1),
        ids=np.hstack([first, ids]).astype(np.int32).ravel(),
        values=(np.hstack([nothing, bins]) / (NUM_BINS - 1)).astype(np.float32).ravel(),
        cell_index=positions,
        keys=cell_keys(step, positions, data_pass=step),
        bin_ids=np.hstack([nothing, bins]).astype(np.int32).ravel(),
    )


def trained(batches, steps: int, readout: str) -> dict[str, float]:
    """Train a small model on fresh batches and return the mean of each term over the last 20."""
    torch.manual_seed(0)
    model = AutoregressiveTransformer(16, NUM_BINS, 32, 1, 2, dropout=0.0, max_seq_len=8, readout=readout)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.0)
    history = []
    for step in range(steps):
        optimizer.zero_grad()
        out = model(**batches(step), return_logits=False)
        out.loss.backward()
        optimizer.step()
        history.append({name: term.item() for name, term in out.loss_terms.items()})
    return {name: float(np.mean([row[name] for row in history[-20:]])) for name in history[0]}


class TestCopying:
    """Genes and bins of these cells are drawn at random: whoever predicts them has read them off the input."""

    @pytest.mark.parametrize("readout", ["mean", "last"])
    def test_through_the_objective_nothing_can_be_copied(self, readout):
        objective = get_objective(
            "next_gene_prediction", vocab=VOCAB, tokenizer_config=TokenizerConfig(), model_config=ModelConfig()
        )
        floors = []

        def batch_of(step: int):
            batch = objective(random_tokens(step))
            named = torch.arange(GENES + 1).expand_as(batch["labels"])[batch["labels"] != -100]
            floors.append(np.log(12 - named.numpy()).mean())  # all genes not yet named are equally likely
            return batch

        found = trained(batch_of, 150, readout)
        assert found["next_gene"] == pytest.approx(np.mean(floors[-20:]), abs=0.08)
        assert found["expression_bin"] == pytest.approx(math.log(NUM_BINS), abs=0.08)

    def test_without_the_shift_everything_is_copied(self):
        """That the test above can fail: labels and bins of the same position are in the input."""

        def batch_of(step: int):
            tokens = random_tokens(step)
            shape = (len(tokens), GENES + 1)
            ids = torch.from_numpy(tokens.ids.astype(np.int64)).view(shape)
            return {
                "input_ids": ids,
                "attention_mask": torch.ones(shape),
                "values": torch.from_numpy(tokens.values).view(shape),
                "labels": ids.masked_fill(ids < 4, -100),
                "bin_ids": torch.from_numpy(tokens.bin_ids.astype(np.int64)).view(shape),
            }

        found = trained(batch_of, 150, "last")
        assert found["next_gene"] < 0.05
        assert found["expression_bin"] < 0.4


class TestGenerate:
    def test_it_is_a_method_of_the_model(self, model, cells):
        made = model.generate(cells["input_ids"], cells["attention_mask"], cells["values"], max_new_genes=3)
        assert isinstance(made, GeneratedCells)
        assert made.input_ids.shape == (3, 15)
        assert torch.equal(made.values[:, :12], cells["values"])
        assert model.generate(max_new_genes=2, num_cells=5).input_ids.shape == (5, 3)


def test_all_of_a_masked_batch_is_taken(dummy_batch):
    """A batch of another objective gives a loss too: its labels are taken as they stand."""
    out = make().eval()(**dummy_batch)
    assert set(out.loss_terms) == {"next_gene"}
    assert out.loss.isfinite()
    assert out.logits.shape == (4, 12, 50)
    assert plain_cells(dummy_batch)["input_ids"].shape == (4, 12)
