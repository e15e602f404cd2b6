"""Filling in: bins of genes given the values of others, each scored by itself."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config.schema import ModelConfig, TokenizerConfig
from scmodelforge.data.draws import cell_keys
from scmodelforge.data.types import TokenBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.models import AutoregressiveTransformer, FilledCells, filling
from scmodelforge.objectives import get_objective

FIELDS = ("bin_ids", "values", "probabilities", "is_filled")


def make(**settings) -> AutoregressiveTransformer:
    """Return a model of 20 tokens and 5 bins whose scores are far from even."""
    torch.manual_seed(0)
    tiny = {"vocab_size": 20, "n_bins": 5, "hidden_dim": 16, "num_layers": 2, "num_heads": 2, "dropout": 0.0}
    model = AutoregressiveTransformer(**{**tiny, "max_seq_len": 24, "pooling": "mean", **settings}).eval()
    for module in (model.bin_head.decoder, model.bin_input):
        torch.nn.init.normal_(module.weight, std=0.3)
    model.embedding.gene_embedding.weight.data[1:] = torch.randn(19, 16)
    return model


@pytest.fixture(
    params=[{}, {"use_positions": True, "readout": "last", "value_embedding": "linear"}], ids=["set", "sequence"]
)
def model(request):
    return make(**request.param)


@pytest.fixture
def cells():
    """Three cells, of which 2, 1 and 5 genes are asked for; the second knows <cls> alone."""
    return {
        "input_ids": torch.tensor([[3, 9, 7, 11, 4, 0], [3, 6, 0, 0, 0, 0], [5, 18, 13, 8, 12, 17]]),
        "known_values": torch.tensor(
            [[0, 0.5, 0.75, 0.25, 1, 0], [0, 0.25, 0, 0, 0, 0], [0.5, 0.5, 1, 0.25, 0.5, 0.75]]
        ),
        "known_mask": torch.tensor([[1, 1, 0, 1, 0, 0], [1, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0]]),
    }


ASKED = [[0, 0, 1, 0, 1, 0], [0, 1, 0, 0, 0, 0], [1, 1, 0, 1, 1, 1]]


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def same(a: FilledCells, b: FilledCells) -> bool:
    """Whether two answers agree bit for bit."""
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in FIELDS)


class TestAnswer:
    def test_arguments_are_the_documented_ones(self):
        assert list(inspect.signature(AutoregressiveTransformer.fill).parameters)[1:4] == [
            "input_ids",
            "known_values",
            "known_mask",
        ]

    def test_shapes_and_types(self, model, cells):
        found = model.fill(**cells)
        assert isinstance(found, FilledCells)
        types = [torch.int64, torch.float32, torch.float32, torch.bool]
        for name, dtype in zip(FIELDS, types, strict=True):
            tensor = getattr(found, name)
            assert (tensor.shape[:2], tensor.dtype, tensor.requires_grad) == ((3, 6), dtype, False)
        assert found.probabilities.shape == (3, 6, 5)
        assert found.is_filled.tolist() == torch.tensor(ASKED).bool().tolist()

    def test_what_is_not_asked_for_has_no_bin_and_keeps_its_value(self, model, cells):
        found = model.fill(**cells)
        rest = ~found.is_filled
        assert (found.bin_ids[rest] == 0).all()
        assert (found.probabilities[rest] == 0).all()
        expected = cells["known_values"] * cells["known_mask"]
        assert torch.equal(found.values[rest], expected[rest])

    def test_probabilities_are_those_of_expressed_genes(self, model, cells):
        found = model.fill(**cells)
        rows = found.probabilities[found.is_filled]
        assert (rows[:, 0] == 0).all()
        torch.testing.assert_close(rows.sum(dim=1), torch.ones(8))
        whole = model.fill(**cells, can_be_zero=True).probabilities[found.is_filled]
        assert (whole[:, 0] > 0).all()
        torch.testing.assert_close(whole[:, 1:] / whole[:, 1:].sum(1, keepdim=True), rows[:, 1:])

    def test_they_are_what_training_has_at_the_last_token_of_a_prefix(self, model, cells):
        """The known genes as a prefix in forward, whose last token is asked for the gene."""
        found, states = model.fill(**cells, can_be_zero=True), []
        hook = model.gene_head.register_forward_pre_hook(lambda module, inputs: states.append(inputs[0]))
        for cell, place in found.is_filled.nonzero().tolist():
            known = cells["known_mask"][cell].bool()
            ids, values = cells["input_ids"][cell : cell + 1, known], cells["known_values"][cell : cell + 1, known]
            length = ids.shape[1]
            model(ids, torch.ones(1, length), values, prefix_len=torch.tensor([length]))
            scores = model.score_bins(states[-1][:, -1], cells["input_ids"][cell, place][None])
            torch.testing.assert_close(found.probabilities[cell, place], scores.softmax(1)[0], rtol=1e-5, atol=1e-5)
        hook.remove()

    def test_values_are_those_of_the_bins(self, model, cells):
        found = model.fill(**cells)
        assert torch.equal(found.values[found.is_filled], found.bin_ids[found.is_filled] / 4)
        table = torch.tensor([0.0, 0.3, 0.9, 1.4, 2.5])
        other = model.fill(**cells, bin_values=table)
        assert torch.equal(other.values[found.is_filled], table[found.bin_ids[found.is_filled]])
        assert torch.equal(other.bin_ids, found.bin_ids)

    def test_bins_are_the_rounded_mean_or_the_most_probable(self, model, cells):
        rows = model.fill(**cells).probabilities
        asked = torch.tensor(ASKED).bool()
        mean, most = (model.fill(**cells, bins=bins).bin_ids[asked] for bins in ("mean", "argmax"))
        assert torch.equal(mean, (rows[asked] @ torch.arange(5.0)).round().long())
        assert torch.equal(most, rows[asked].argmax(dim=1))
        assert not torch.equal(mean, most)

    def test_a_bin_of_zero_is_an_answer_only_if_it_can_be(self, cells):
        model = make()
        model.bin_head.decoder.bias.data[0] = 30.0
        for bins in ("mean", "argmax", "sample"):
            assert (model.fill(**cells, bins=bins).bin_ids[torch.tensor(ASKED).bool()] >= 1).all()
            assert (model.fill(**cells, bins=bins, can_be_zero=True).bin_ids == 0).all()

    def test_known_values_matter(self, model, cells):
        other = {**cells, "known_values": cells["known_values"].roll(1, dims=1)}
        difference = model.fill(**other).probabilities - model.fill(**cells).probabilities
        assert difference.abs().amax(dim=(1, 2))[[0, 2]].min() > 1e-3

    def test_the_model_stays_in_its_mode_and_answers_without_dropout(self, cells):
        model = make(dropout=0.5).train()
        model.bin_head.eval()
        assert same(model.fill(**cells), model.fill(**cells))
        assert model.training
        assert model.encoder.training
        assert not model.bin_head.training

    def test_many_genes_are_scored_part_by_part(self, model, cells, monkeypatch):
        whole = model.fill(**cells)
        monkeypatch.setattr(filling, "_NUMBERS_AT_ONCE", 2 * 16 * 3)
        sizes = []
        hook = model.bin_head.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
        torch.testing.assert_close(model.fill(**cells).probabilities, whole.probabilities, rtol=1e-5, atol=1e-5)
        hook.remove()
        assert sizes == [3, 3, 2]


class TestIndependence:
    def test_values_of_genes_asked_for_never_matter(self, model, cells):
        expected = model.fill(**cells)
        unknown = cells["known_mask"] == 0
        for rubbish in (float("nan"), float("inf"), -1e9, 0.25):
            other = cells["known_values"].masked_fill(unknown, rubbish)
            assert same(model.fill(**{**cells, "known_values": other}), expected)

    def test_the_order_of_genes_asked_for_changes_nothing(self, model, cells):
        """The known ones stay in their order: a sequence model reads it."""
        expected = model.fill(**cells)
        turn = torch.tensor([4, 3, 2, 0, 1, 5])  # of the third cell, whose known gene is at 2
        other = {name: tensor.clone() for name, tensor in cells.items()}
        for tensor in other.values():
            tensor[2] = tensor[2, turn]
        found = model.fill(**other)
        for name in FIELDS:
            torch.testing.assert_close(
                getattr(found, name)[2], getattr(expected, name)[2, turn], rtol=1e-5, atol=1e-5, msg=name
            )

    def test_of_a_set_the_order_of_known_genes_changes_nothing_either(self, cells):
        model, turn = make(), torch.tensor([3, 4, 1, 2, 0])
        first = {name: tensor[:1, :5] for name, tensor in cells.items()}
        found = model.fill(**{name: tensor[:, turn] for name, tensor in first.items()})
        expected = model.fill(**first).probabilities[:, turn]
        torch.testing.assert_close(found.probabilities, expected, rtol=1e-5, atol=1e-5)

    def test_each_gene_gets_the_answer_it_would_get_alone(self, model, cells):
        expected = model.fill(**cells)
        for place in (0, 1, 3, 4, 5):
            alone = {name: tensor[2:, [2, place]] for name, tensor in cells.items()}
            found = model.fill(**alone)
            torch.testing.assert_close(
                found.probabilities[0, 1], expected.probabilities[2, place], rtol=1e-5, atol=1e-5
            )

    def test_padding_has_no_effect_wherever_it_is(self, model, cells):
        expected = model.fill(**cells)
        places = torch.tensor([1, 2, 4, 5, 6, 8])
        longer = {name: tensor.new_full((3, 9), 7) for name, tensor in cells.items()}
        mask = torch.zeros(3, 9)
        mask[:, places] = (cells["input_ids"] != 0).float()
        for name, tensor in cells.items():
            longer[name][:, places] = tensor
        longer["known_values"][mask == 0] = float("nan")
        longer["input_ids"][mask == 0] = 999
        found = model.fill(**longer, attention_mask=mask)
        for name in FIELDS:
            torch.testing.assert_close(getattr(found, name)[:, places], getattr(expected, name), rtol=1e-5, atol=1e-5)
            assert (getattr(found, name)[mask == 0] == 0).all()

    def test_a_cell_gets_the_answer_it_would_get_alone(self, model, cells):
        expected = model.fill(**cells).probabilities
        for cell in range(3):
            found = model.fill(**{name: tensor[cell : cell + 1] for name, tensor in cells.items()}).probabilities
            torch.testing.assert_close(found[0], expected[cell], rtol=1e-5, atol=1e-5)

    def test_special_tokens_are_shown_and_never_asked_for(self, model, cells):
        """Also where nobody said that they are known: their value is 0 then."""
        other = {**cells, "known_mask": cells["known_mask"].clone()}
        other["known_mask"][:, 0] = 0
        other["known_values"] = cells["known_values"].clone()
        other["known_values"][:2, 0] = 0.9
        assert same(model.fill(**other), model.fill(**cells))


class TestDraws:
    def test_follow_from_the_generator(self, model, cells):
        found = [model.fill(**cells, bins="sample", generator=seed(number)) for number in (0, 0, 1, 2, 3)]
        assert same(found[0], found[1])
        assert not all(torch.equal(found[0].bin_ids, other.bin_ids) for other in found[2:])

    def test_are_as_often_as_they_are_probable(self, cells):
        model = make()
        many = {name: tensor[2:].expand(3000, -1) for name, tensor in cells.items()}
        found = model.fill(**many, bins="sample", generator=seed())
        for place in (0, 1, 3, 4, 5):
            expected = 3000 * found.probabilities[0, place, 1:]
            counts = torch.bincount(found.bin_ids[:, place], minlength=5)[1:]
            assert ((counts - expected).square() / expected.clamp(min=1)).sum() < 3 + 5 * math.sqrt(2 * 3)
        joint = torch.bincount(5 * found.bin_ids[:, 0] + found.bin_ids[:, 1], minlength=25).view(5, 5) / 3000
        product = found.probabilities[0, 0][:, None] * found.probabilities[0, 1]
        assert (joint - product).abs().max() < 0.04  # genes are drawn apart from each other

    def test_of_a_gene_depend_on_the_key_of_the_cell_and_on_nothing_beside_it(self, model, cells):
        keys = torch.tensor([11, 22, 33])
        whole = model.fill(**cells, bins="sample", keys=keys).bin_ids
        few = {name: tensor[[2, 0]][:, [4, 2, 1, 3, 0]] for name, tensor in cells.items()}
        found = model.fill(**few, bins="sample", keys=keys[[2, 0]]).bin_ids
        assert torch.equal(found[0], whole[2, [4, 2, 1, 3, 0]])
        others = [model.fill(**cells, bins="sample", keys=keys + number).bin_ids for number in range(1, 6)]
        assert not all(torch.equal(whole, other) for other in others)


class TestSize:
    def test_more_genes_may_be_asked_for_than_the_model_reads(self, model):
        ids = torch.cat([torch.tensor([3, 9]), torch.arange(4, 20).repeat(3)])[None]
        ids[:, 2:][ids[:, 2:] == 9] = 10
        known = torch.zeros(1, 50)
        known[:, :2] = 1
        found = model.fill(ids, torch.full((1, 50), 0.5), known)
        assert int(found.is_filled.sum()) == 48
        again = found.probabilities[0, 2:].view(3, 16, 5)
        torch.testing.assert_close(again[0], again[2], rtol=1e-5, atol=1e-5)

    def test_more_known_genes_than_it_reads_are_refused(self):
        ids = torch.arange(4, 20)[None].repeat(1, 2)
        with pytest.raises(ConfigError, match=r"sequences of 32 tokens exceed model.max_seq_len \(24\)"):
            make().fill(ids, torch.zeros(1, 32), torch.ones(1, 32))

    def test_nothing_asked_for_and_no_cells_are_no_trouble(self, model, cells):
        found = model.fill(**{**cells, "known_mask": torch.ones(3, 6)})
        assert not found.is_filled.any()
        assert torch.equal(found.values, cells["known_values"])
        none = model.fill(**{name: tensor[:0] for name, tensor in cells.items()})
        assert none.probabilities.shape == (0, 6, 5)


class TestBadInput:
    @pytest.mark.parametrize("name", ["known_values", "known_mask", "attention_mask"])
    def test_other_shapes(self, model, cells, name):
        message = rf"{name} has shape \(3, 5\), but input_ids has \(3, 6\); give one number for each token\."
        with pytest.raises(DataError, match=message):
            model.fill(**{**cells, name: torch.ones(3, 5)})

    def test_a_cell_of_which_nothing_is_known(self, model, cells):
        known = cells["known_mask"].clone()
        known[2] = 0
        with pytest.raises(DataError, match=r"cell 2 has no known token; begin each with <cls> at least\."):
            model.fill(**{**cells, "known_mask": known})

    @pytest.mark.parametrize("value", ["nan", "inf"])
    def test_a_known_value_that_is_no_number(self, model, cells, value):
        values = cells["known_values"].clone()
        values[2, 2] = float(value)
        message = rf"the known value of token 13 of cell 2 is {value}; give a number, or ask for it \(known_mask\)\."
        with pytest.raises(DataError, match=message):
            model.fill(**{**cells, "known_values": values})

    def test_a_gene_that_is_known_and_asked_for(self, model, cells):
        ids = cells["input_ids"].clone()
        ids[2, 4] = 13
        with pytest.raises(DataError, match=r"token 13 of cell 2 is both known and asked for; name it once\."):
            model.fill(**{**cells, "input_ids": ids})

    def test_a_token_that_is_not_in_the_vocabulary(self, model, cells):
        for place in (0, 2):  # asked for, known
            ids = cells["input_ids"].clone()
            ids[2, place] = 20
            with pytest.raises(DataError, match="token id 20 is not in the vocabulary of 20 tokens"):
                model.fill(**{**cells, "input_ids": ids})

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"bins": "median"}, "bins is 'median'; choose one of sample, argmax, mean"),
            ({"bin_values": torch.zeros(4)}, "bin_values has 4 values, but the model has 5 bins"),
            ({"bins": "sample", "keys": torch.zeros(2).long()}, r"of shape \(2,\), but 3 cells need a whole number"),
            ({"bins": "sample", "keys": torch.zeros(3).long(), "generator": seed()}, "both generator and keys are"),
        ],
    )
    def test_options_out_of_range(self, model, cells, options, message):
        with pytest.raises(ConfigError, match=message):
            model.fill(**cells, **options)


VOCAB = GeneVocab.from_genes([f"g{i:02d}" for i in range(8)], name="eight")
A, B, NUM_BINS = 4, 5, 6


def planted(step: int, num_cells: int = 48) -> TokenBlock:
    """Return cells of eight genes with bins drawn evenly, but that of B follows from that of A."""
    rng = np.random.default_rng(step)
    ids = np.tile(np.arange(4, 12), (num_cells, 1))
    bins = rng.integers(1, NUM_BINS, ids.shape)
    bins[:, B - 4] = NUM_BINS - bins[:, A - 4]
    first, nothing = np.full((num_cells, 1), VOCAB.cls_id), np.zeros((num_cells, 1))
    positions = np.arange(num_cells, dtype=np.int64)
    return TokenBlock(
        offsets=np.arange(0, (num_cells + 1) * 9, 9),
        ids=np.hstack([first, ids]).astype(np.int32).ravel(),
        values=(np.hstack([nothing, bins]) / (NUM_BINS - 1)).astype(np.float32).ravel(),
        cell_index=positions,
        keys=cell_keys(step, positions, data_pass=step),
        bin_ids=np.hstack([nothing, bins]).astype(np.int32).ravel(),
    )


@pytest.mark.slow
@pytest.mark.parametrize("gene_target", ["one", "set"])
def test_a_gene_that_follows_from_another_is_filled_in(gene_target):
    """Better than by its own distribution, of which every bin is one of five; and only if the other is known."""
    torch.manual_seed(0)
    model = AutoregressiveTransformer(12, NUM_BINS, 32, 1, 2, dropout=0.0, max_seq_len=9, gene_target=gene_target)
    objective = get_objective(
        "next_gene_prediction", vocab=VOCAB, tokenizer_config=TokenizerConfig(), model_config=ModelConfig()
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.0)
    for step in range(250):
        optimizer.zero_grad()
        batch = {key: value for key, value in objective(planted(step)).items() if isinstance(value, torch.Tensor)}
        model(**batch, return_logits=False).loss.backward()
        optimizer.step()
    tokens = planted(1000, 400)
    ids, values, bins = (
        torch.from_numpy(part).view(400, 9) for part in (tokens.ids, tokens.values, tokens.bin_ids.astype(np.int64))
    )
    accuracy = []
    for known in ((A, 6), (7, 8)):  # the gene that tells B among them, or not
        is_known = torch.isin(ids, torch.tensor(known))
        found = model.fill(ids, values, is_known, bins="argmax")
        accuracy.append((found.bin_ids[ids == B] == bins[ids == B]).float().mean().item())
    assert accuracy[0] > 0.9
    assert accuracy[1] < 0.35
