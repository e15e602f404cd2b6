"""Generation: what is drawn, from which scores, and that it is what the model was trained to score."""

from __future__ import annotations

import math

import pytest
import torch

from scmodelforge.models import AutoregressiveTransformer, GeneratedCells
from scmodelforge.models.generation import generate_cells

FIELDS = ("input_ids", "bin_ids", "values", "attention_mask", "is_generated", "log_probs")


def make(**settings) -> AutoregressiveTransformer:
    """Return a model of 20 tokens and 5 bins whose scores are far from even."""
    torch.manual_seed(0)
    tiny = {"vocab_size": 20, "n_bins": 5, "hidden_dim": 16, "num_layers": 2, "num_heads": 2, "dropout": 0.0}
    model = AutoregressiveTransformer(**{**tiny, "max_seq_len": 24, "pooling": "mean", **settings}).eval()
    for head in (model.gene_head, model.bin_head):
        torch.nn.init.normal_(head.decoder.bias)
    model.embedding.gene_embedding.weight.data[1:] = torch.randn(settings.get("vocab_size", 20) - 1, 16)
    return model


@pytest.fixture(
    params=[{}, {"use_positions": True, "readout": "last", "value_embedding": "linear"}], ids=["set", "sequence"]
)
def model(request):
    return make(**request.param)


@pytest.fixture
def prompt():
    """Three prompts of 1, 3 and 5 tokens."""
    ids = torch.tensor([[3, 0, 0, 0, 0], [3, 9, 7, 0, 0], [3, 11, 5, 19, 4]])
    return {
        "input_ids": ids,
        "attention_mask": (ids != 0).long(),
        "values": torch.tensor([[0, 0, 0, 0, 0], [0, 0.5, 0.25, 0, 0], [0, 1.0, 0.25, 0.5, 0.75]]),
        "bin_ids": torch.tensor([[0, 0, 0, 0, 0], [0, 2, 1, 0, 0], [0, 4, 1, 2, 3]]),
    }


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def tokens_of(cells: GeneratedCells, cell: int) -> list[int]:
    return cells.input_ids[cell, cells.attention_mask[cell].bool()].tolist()


def scored(model, cells: GeneratedCells, prompt_lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probabilities of next genes (B, S, V), and what the heads read, as training has them."""
    states = []
    hook = model.gene_head.register_forward_pre_hook(lambda module, inputs: states.append(inputs[0]))
    out = model(
        cells.input_ids,
        cells.attention_mask,
        cells.values,
        prefix_len=torch.tensor(prompt_lengths),
        no_repeats=torch.tensor(True),
    )
    hook.remove()
    return out.logits.log_softmax(-1), states[0]


class TestCells:
    def test_shapes_and_types(self, model, prompt):
        cells = generate_cells(model, **prompt, max_new_genes=4, generator=seed())
        types = [torch.int64, torch.int64, torch.float32, torch.int64, torch.bool, torch.float32]
        for name, dtype in zip(FIELDS, types, strict=True):
            assert getattr(cells, name).shape == (3, 9)
            assert getattr(cells, name).dtype == dtype
            assert not getattr(cells, name).requires_grad

    def test_no_gene_comes_twice_and_no_special_token_comes(self, model, prompt):
        cells = generate_cells(model, **prompt, max_new_genes=11, generator=seed())
        for cell, length in enumerate([1, 3, 5]):
            tokens = tokens_of(cells, cell)
            assert len(tokens) == length + 11
            assert len(set(tokens)) == len(tokens)
            assert min(tokens[1:]) >= 4

    def test_the_prompt_stays_in_front(self, model, prompt):
        cells = generate_cells(model, **prompt, max_new_genes=4, generator=seed())
        for cell, length in enumerate([1, 3, 5]):
            for name in ("input_ids", "values", "bin_ids"):
                assert torch.equal(getattr(cells, name)[cell, :length], prompt[name][cell, :length])
            assert cells.is_generated[cell].nonzero().flatten().tolist() == list(range(length, length + 4))
            assert (cells.log_probs[cell, :length] == 0).all()
            assert (cells.log_probs[cell, length : length + 4] < 0).all()
            assert cells.attention_mask[cell].tolist() == [1] * (length + 4) + [0] * (5 - length)

    def test_padding_is_padding(self, model, prompt):
        cells = generate_cells(model, **prompt, max_new_genes=torch.tensor([2, 0, 6]), generator=seed())
        padding = cells.attention_mask == 0
        for name in ("input_ids", "bin_ids", "values", "is_generated", "log_probs"):
            assert (getattr(cells, name)[padding] == 0).all()

    def test_lengths_are_those_asked_for(self, model, prompt):
        cells = generate_cells(model, **prompt, max_new_genes=torch.tensor([2, 0, 6]), generator=seed())
        assert cells.attention_mask.sum(1).tolist() == [3, 3, 11]
        assert cells.is_generated.sum(1).tolist() == [2, 0, 6]
        assert cells.input_ids.shape == (3, 11)

    def test_a_cell_ends_when_no_gene_is_left(self, model, prompt):
        cells = generate_cells(model, **prompt, max_new_genes=19, generator=seed())
        assert cells.is_generated.sum(1).tolist() == [16, 14, 12]
        assert cells.attention_mask.sum(1).tolist() == [17, 17, 17]
        assert all(sorted(tokens_of(cells, cell)) == list(range(3, 20)) for cell in range(3))
        assert cells.log_probs.isfinite().all()

    def test_a_prompt_without_cls_gets_none(self, model):
        """No special token is drawn, also none that the prompt lacks."""
        cells = generate_cells(model, torch.tensor([[9, 7]]), max_new_genes=18, generator=seed())
        assert sorted(tokens_of(cells, 0)) == list(range(4, 20))

    def test_without_a_prompt_cells_begin_with_cls(self, model):
        cells = generate_cells(model, max_new_genes=3, num_cells=4, generator=seed())
        assert cells.input_ids.shape == (4, 4)
        assert cells.input_ids[:, 0].tolist() == [3] * 4
        assert generate_cells(model, max_new_genes=3).input_ids.shape == (1, 4)

    def test_nothing_may_be_asked_for(self, model, prompt):
        cells = generate_cells(model, **prompt, max_new_genes=0)
        assert torch.equal(cells.input_ids, prompt["input_ids"])
        assert generate_cells(model, max_new_genes=3, num_cells=0).input_ids.shape[0] == 0

    def test_missing_parts_of_a_prompt_count_as_zeros(self, model, prompt):
        ids = prompt["input_ids"][2:]
        zeros = torch.zeros(1, 5)
        bare = generate_cells(model, ids, max_new_genes=4, generator=seed())
        full = generate_cells(
            model, ids, torch.ones(1, 5), zeros, bin_ids=zeros.long(), max_new_genes=4, generator=seed()
        )
        assert all(torch.equal(getattr(bare, name), getattr(full, name)) for name in FIELDS)

    def test_the_prompt_handed_in_is_not_changed(self, model, prompt):
        before = {key: tensor.clone() for key, tensor in prompt.items()}
        generate_cells(model, **prompt, max_new_genes=4)
        assert all(torch.equal(before[key], prompt[key]) for key in before)


class TestPrompt:
    def test_its_tokens_matter(self, model, prompt):
        other = {**prompt, "input_ids": prompt["input_ids"].clone()}
        other["input_ids"][2, 1] = 12
        first, second = (generate_cells(model, **p, max_new_genes=3, temperature=0) for p in (prompt, other))
        assert not torch.allclose(first.log_probs[2], second.log_probs[2], atol=1e-4)
        assert torch.equal(first.log_probs[:2], second.log_probs[:2])

    def test_its_values_matter(self, model, prompt):
        other = {**prompt, "values": prompt["values"] + prompt["attention_mask"]}
        first, second = (generate_cells(model, **p, max_new_genes=3, temperature=0) for p in (prompt, other))
        assert not torch.allclose(first.log_probs, second.log_probs, atol=1e-4)

    @pytest.mark.parametrize("use_cache", [True, False])
    def test_what_stands_at_its_padding_does_not(self, model, prompt, use_cache):
        padding = prompt["attention_mask"] == 0
        odd = {
            **prompt,
            "input_ids": prompt["input_ids"].masked_fill(padding, 13),
            "values": prompt["values"].masked_fill(padding, float("nan")),
            "bin_ids": prompt["bin_ids"].masked_fill(padding, 4),
        }
        clean, strange = (
            generate_cells(model, **p, max_new_genes=12, generator=seed(), use_cache=use_cache) for p in (prompt, odd)
        )
        assert all(torch.equal(getattr(clean, name), getattr(strange, name)) for name in FIELDS)
        assert any(13 in tokens_of(clean, cell) for cell in range(2))  # a token of the padding may be drawn

    def test_its_amount_of_padding_does_not(self, model, prompt):
        wider = {key: torch.nn.functional.pad(tensor, (0, 4)) for key, tensor in prompt.items()}
        short, long = (generate_cells(model, **p, max_new_genes=4, generator=seed()) for p in (prompt, wider))
        assert torch.equal(short.input_ids, long.input_ids)
        assert torch.allclose(short.log_probs, long.log_probs, atol=1e-5)

    def test_other_cells_do_not(self, model, prompt):
        together = generate_cells(model, **prompt, max_new_genes=4, temperature=0)
        for cell, length in enumerate([1, 3, 5]):
            alone = {key: tensor[cell : cell + 1, :length] for key, tensor in prompt.items()}
            single = generate_cells(model, **alone, max_new_genes=4, temperature=0)
            assert tokens_of(single, 0) == tokens_of(together, cell)
            assert torch.allclose(single.log_probs[0], together.log_probs[cell, : length + 4], atol=1e-5)

    def test_the_order_of_its_genes_before_the_last_does_not_if_cells_are_sets(self, prompt):
        model = make()
        turned = {key: tensor[2:, [0, 3, 1, 2, 4]] for key, tensor in prompt.items()}
        first = generate_cells(model, **{key: t[2:] for key, t in prompt.items()}, max_new_genes=4, temperature=0)
        second = generate_cells(model, **turned, max_new_genes=4, temperature=0)
        assert torch.equal(first.input_ids[:, 5:], second.input_ids[:, 5:])
        assert torch.allclose(first.log_probs, second.log_probs, atol=1e-5)


class TestCache:
    @pytest.mark.parametrize("temperature", [0, 1.0])
    def test_the_same_cells_are_made_without_it(self, model, prompt, temperature):
        cached, plain = (
            generate_cells(
                model, **prompt, max_new_genes=10, temperature=temperature, generator=seed(), use_cache=use_cache
            )
            for use_cache in (True, False)
        )
        for name in ("input_ids", "bin_ids", "values", "attention_mask", "is_generated"):
            assert torch.equal(getattr(cached, name), getattr(plain, name))
        assert torch.allclose(cached.log_probs, plain.log_probs, atol=1e-5)

    def test_with_it_each_token_is_computed_once(self, prompt):
        model, lengths = make(), []
        model.encoder.register_forward_hook(lambda module, inputs, output: lengths.append(output.shape[1]))
        generate_cells(model, **prompt, max_new_genes=4)
        assert lengths == [5, 1, 1, 1]


class TestTeacherForcing:
    @pytest.mark.parametrize("options", [{}, {"temperature": 0.3, "top_k": 3}, {"bins": "mean"}, {"use_cache": False}])
    def test_log_probabilities_are_those_the_model_is_trained_on(self, model, prompt, options):
        """One forward pass over the finished cells, with the prompt as prefix, gives the same numbers."""
        lengths, table = [1, 3, 5], torch.tensor([0.0, 0.3, 0.45, 0.7, 1.0])
        cells = generate_cells(model, **prompt, max_new_genes=10, bin_values=table, generator=seed(), **options)
        genes, hidden = scored(model, cells, lengths)
        for cell, length in enumerate(lengths):
            for place in range(length, length + 10):
                gene = cells.input_ids[cell, place]
                bins = model.score_bins(hidden[cell, place - 1][None], gene[None])[0].log_softmax(0)
                expected = genes[cell, place - 1, gene] + bins[cells.bin_ids[cell, place]]
                assert cells.log_probs[cell, place].item() == pytest.approx(expected.item(), abs=1e-5)

    def test_greedy_genes_are_the_most_probable(self, model, prompt):
        lengths = [1, 3, 5]
        cells = generate_cells(model, **prompt, max_new_genes=8, temperature=0, bins="sample")
        genes, hidden = scored(model, cells, lengths)
        for cell, length in enumerate(lengths):
            for place in range(length, length + 8):
                gene = cells.input_ids[cell, place]
                assert gene == genes[cell, place - 1].argmax()
                bins = model.score_bins(hidden[cell, place - 1][None], gene[None])[0]
                assert cells.bin_ids[cell, place] == 1 + bins[1:].argmax()  # never that of no expression

    def test_the_loss_of_training_is_the_mean_of_them(self, model):
        """Cells from <cls>, given back as the objective would: the loss is minus the mean log-probability."""
        cells = generate_cells(model, max_new_genes=9, num_cells=6, generator=seed())
        labels = torch.full_like(cells.input_ids, -100)
        labels[:, :-1] = cells.input_ids[:, 1:]
        bins = torch.full_like(labels, -100)
        bins[:, :-1] = cells.bin_ids[:, 1:]
        loss = model(
            cells.input_ids,
            cells.attention_mask,
            cells.values,
            labels,
            bin_ids=bins,
            prefix_len=torch.ones(6, dtype=torch.long),
            no_repeats=torch.tensor(True),
            return_logits=False,
        ).loss
        assert loss.item() == pytest.approx(-cells.log_probs[:, 1:].mean().item(), abs=1e-5)


class TestKeys:
    """A cell with a key of its own is the same whatever is drawn beside it."""

    KEYS = torch.tensor([11, -4, 2**62])

    @pytest.mark.parametrize("options", [{}, {"temperature": 0.4, "top_k": 6}, {"use_cache": False}])
    def test_a_cell_does_not_depend_on_the_others(self, model, options):
        together = generate_cells(model, max_new_genes=9, num_cells=3, keys=self.KEYS, **options)
        for cell in range(3):
            alone = generate_cells(model, max_new_genes=9, num_cells=1, keys=self.KEYS[[cell]], **options)
            assert torch.equal(alone.input_ids[0], together.input_ids[cell])
            assert torch.equal(alone.bin_ids[0], together.bin_ids[cell])
        turned = generate_cells(model, max_new_genes=9, num_cells=3, keys=self.KEYS.flip(0), **options)
        assert torch.equal(turned.input_ids, together.input_ids.flip(0))
        assert len(together.input_ids.unique(dim=0)) == 3

    def test_a_cell_that_gets_more_genes_begins_alike(self, model):
        short, long = (generate_cells(model, max_new_genes=n, num_cells=3, keys=self.KEYS) for n in (4, 9))
        assert torch.equal(short.input_ids, long.input_ids[:, :5])

    def test_torchs_generator_is_left_alone(self, model):
        torch.manual_seed(3)
        expected = torch.rand(1)
        torch.manual_seed(3)
        generate_cells(model, max_new_genes=8, num_cells=3, keys=self.KEYS)
        assert torch.equal(torch.rand(1), expected)

    def test_draws_of_genes_and_bins_follow_the_probabilities(self, model):
        keys = torch.arange(8000)
        cells = generate_cells(model, max_new_genes=1, num_cells=8000, keys=keys)
        genes, read = scored(model, cells, [1] * 8000)
        drawn = cells.input_ids[:, 1].bincount(minlength=20) / 8000
        assert (drawn - genes[0, 0].exp()).abs().max() < 4 * math.sqrt(0.25 / 8000)
        bins = model.score_bins(read[:, 0], cells.input_ids[:, 1]).softmax(1)
        expected = (bins / (1 - bins[:, :1]))[:, 1:].mean(0)
        found = cells.bin_ids[:, 1].bincount(minlength=5)[1:] / 8000
        assert (found - expected).abs().max() < 4 * math.sqrt(0.25 / 8000)

    def test_one_key_for_each_cell_is_needed(self, model):
        with pytest.raises(
            ValueError, match=r"keys are torch.int64 of shape \(3,\), but 2 cells need a whole number each"
        ):
            generate_cells(model, max_new_genes=2, num_cells=2, keys=self.KEYS)


class TestDrawing:
    def expected(self, model) -> torch.Tensor:
        """Return the probabilities of the first gene after <cls>, shape (V,)."""
        logits = model(torch.tensor([[3]]), torch.ones(1, 1)).logits[0, 0]
        return logits.masked_fill(torch.arange(20) < 4, -math.inf)

    def shares(self, model, **options) -> torch.Tensor:
        cells = generate_cells(model, max_new_genes=1, num_cells=6000, generator=seed(), **options)
        return cells.input_ids[:, 1].bincount(minlength=20) / 6000

    @pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
    def test_shares_are_the_probabilities_at_that_temperature(self, temperature):
        model = make()
        expected = (self.expected(model) / temperature).softmax(0)
        assert (self.shares(model, temperature=temperature) - expected).abs().max() < 4 * math.sqrt(0.25 / 6000)

    def test_temperature_flattens(self):
        model = make()
        tops = [self.shares(model, temperature=t).max().item() for t in (0.2, 1.0, 5.0, 1e4)]
        assert tops == sorted(tops, reverse=True)
        assert tops[0] > 0.8
        assert tops[-1] == pytest.approx(1 / 16, abs=0.02)

    def test_temperature_zero_takes_the_most_probable(self):
        model = make()
        assert self.shares(model, temperature=0)[self.expected(model).argmax()] == 1

    def test_top_k_draws_among_the_first_k(self):
        model = make()
        expected = self.expected(model)
        best = expected.topk(3).indices
        kept = torch.zeros(20, dtype=torch.bool).index_fill(0, best, True)
        shares = self.shares(model, top_k=3)
        assert (shares[~kept] == 0).all()
        renormalised = expected.masked_fill(~kept, -math.inf).softmax(0)
        assert (shares - renormalised).abs().max() < 4 * math.sqrt(0.25 / 6000)

    def test_top_k_of_one_is_greedy(self, model, prompt):
        first = generate_cells(model, **prompt, max_new_genes=10, temperature=0, bins="argmax")
        second = generate_cells(model, **prompt, max_new_genes=10, top_k=1, bins="argmax", generator=seed())
        assert all(torch.equal(getattr(first, name), getattr(second, name)) for name in FIELDS)

    def test_a_top_k_of_all_genes_changes_nothing(self, model, prompt):
        first = generate_cells(model, **prompt, max_new_genes=10, generator=seed())
        for top_k in (20, 1000):
            second = generate_cells(model, **prompt, max_new_genes=10, top_k=top_k, generator=seed())
            assert torch.equal(first.input_ids, second.input_ids)

    def test_the_same_seed_makes_the_same_cells(self, model, prompt):
        first, again, other = (
            generate_cells(model, **prompt, max_new_genes=10, generator=seed(number)) for number in (1, 1, 2)
        )
        assert all(torch.equal(getattr(first, name), getattr(again, name)) for name in FIELDS)
        assert not torch.equal(first.input_ids, other.input_ids)

    def test_without_a_generator_torchs_own_is_used(self, model):
        torch.manual_seed(3)
        first = generate_cells(model, max_new_genes=8)
        torch.manual_seed(3)
        assert torch.equal(first.input_ids, generate_cells(model, max_new_genes=8).input_ids)

    def test_a_generator_leaves_torchs_own_alone(self, model):
        torch.manual_seed(3)
        expected = torch.rand(1)
        torch.manual_seed(3)
        generate_cells(model, max_new_genes=8, generator=seed())
        assert torch.equal(torch.rand(1), expected)


class TestBins:
    def of(self, model, bins: str, temperature: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
        """Return bins drawn for the most probable first gene, shape (6000,), and their probabilities, shape (K,)."""
        cells = generate_cells(
            model, max_new_genes=1, num_cells=6000, top_k=1, bins=bins, temperature=temperature, generator=seed()
        )
        assert len(cells.input_ids[:, 1].unique()) == 1
        _, hidden = scored(model, cells, [1] * 6000)
        return cells.bin_ids[:, 1], model.score_bins(hidden[:1, 0], cells.input_ids[:1, 1])[0]

    @pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
    def test_they_are_drawn_at_the_temperature(self, temperature):
        drawn, scores = self.of(make(), "sample", temperature)
        expected = torch.cat([torch.zeros(1), (scores[1:] / temperature).softmax(0)])  # never no expression
        assert (drawn.bincount(minlength=5) / 6000 - expected).abs().max() < 4 * math.sqrt(0.25 / 6000)

    @pytest.mark.parametrize("temperature", [1.0, 5.0])
    def test_argmax_takes_the_most_probable(self, temperature):
        drawn, scores = self.of(make(), "argmax", temperature)
        assert (drawn == 1 + scores[1:].argmax()).all()

    @pytest.mark.parametrize(
        ("probabilities", "mean"),
        [([0.0, 0.5, 0.0, 0.5, 0.0], 2), ([0.4, 0.3, 0.0, 0.0, 0.3], 2), ([0.7, 0.2, 0.1, 0.0, 0.0], 1)],
    )
    def test_mean_rounds_the_expected_bin(self, probabilities, mean):
        model = make()
        torch.nn.init.zeros_(model.bin_head.decoder.weight)
        model.bin_head.decoder.bias.data = torch.tensor(probabilities).clamp(min=1e-9).log()
        drawn, _ = self.of(model, "mean")
        assert (drawn == mean).all()

    def test_the_bin_depends_on_the_gene_drawn(self):
        """Of a model whose bins know nothing but the gene, each gene always gets the same bin."""
        model = make()
        model.bin_input.weight.data[:, :16] = 0
        cells = generate_cells(model, max_new_genes=12, num_cells=20, bins="argmax", generator=seed())
        drawn = cells.is_generated
        pairs = set(zip(cells.input_ids[drawn].tolist(), cells.bin_ids[drawn].tolist(), strict=True))
        assert len(pairs) == 16
        assert len({bin_ for _, bin_ in pairs}) > 1

    def test_values_are_those_of_the_bins(self, model, prompt):
        table = torch.tensor([0.25, 1.5, 3.0, 7.0, 9.5], dtype=torch.float64)
        cells = generate_cells(model, **prompt, max_new_genes=8, bin_values=table, generator=seed())
        drawn = cells.is_generated
        assert torch.equal(cells.values[drawn].double(), table[cells.bin_ids[drawn]])
        assert cells.bin_ids[drawn].unique().numel() > 1

    def test_values_are_those_of_the_default_tokenizer_by_default(self, model, prompt):
        cells = generate_cells(model, **prompt, max_new_genes=8, generator=seed())
        assert torch.equal(cells.values[cells.is_generated], cells.bin_ids[cells.is_generated].float() / 4)

    def test_values_of_a_prompt_follow_from_its_bins(self, model):
        table = torch.tensor([0.0, 1.5, 3.0, 7.0, 9.5])
        ids, bins = torch.tensor([[3, 7, 9]]), torch.tensor([[0, 4, 2]])
        told = generate_cells(model, ids, bin_ids=bins, bin_values=table, max_new_genes=4, temperature=0)
        same = generate_cells(model, ids, values=table[bins], bin_values=table, max_new_genes=4, temperature=0)
        assert told.values[0, :3].tolist() == [0.0, 9.5, 3.0]
        assert torch.equal(told.log_probs, same.log_probs)

    def test_the_model_is_shown_them(self, model):
        first, second = (
            generate_cells(model, max_new_genes=4, temperature=0, bin_values=table)
            for table in (torch.zeros(5), torch.full((5,), 4.0))
        )
        assert torch.allclose(first.log_probs[:, 1], second.log_probs[:, 1], atol=1e-6)
        assert not torch.allclose(first.log_probs[:, 2], second.log_probs[:, 2], atol=1e-4)


class TestMode:
    def test_each_module_gets_its_mode_back(self):
        model = make(dropout=0.5).train()
        model.encoder.layers[1].eval()
        before = {name: module.training for name, module in model.named_modules()}
        model.generate(max_new_genes=2)
        assert {name: module.training for name, module in model.named_modules()} == before
        assert len(set(before.values())) == 2

    def test_dropout_does_not_act(self):
        model = make(dropout=0.5, attention_dropout=0.5).train()
        first, second = (model.generate(max_new_genes=8, temperature=0) for _ in range(2))
        assert torch.equal(first.log_probs, second.log_probs)

    def test_the_mode_comes_back_after_an_error(self):
        model = make().train()
        model.bin_input = torch.nn.Linear(3, 16)
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            model.generate(max_new_genes=2)
        assert model.training
        assert model.encoder.training

    def test_gradients_stay_on_outside(self, model):
        model.generate(max_new_genes=2)
        assert torch.is_grad_enabled()

    def test_autocast_makes_cells_too(self, model, prompt):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cells = model.generate(**prompt, max_new_genes=10, generator=seed())
        assert cells.is_generated.sum(1).tolist() == [10, 10, 10]
        assert cells.log_probs.isfinite().all()


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"temperature": math.inf}, r"temperature is inf; it must be a finite number"),
            ({"temperature": -0.1}, r"temperature is -0.1; it must be a finite number"),
            ({"top_k": 0}, r"top_k is 0; it must be at least 1, or None for all genes"),
            ({"bins": "median"}, r"bins is 'median'; choose one of sample, argmax, mean"),
            ({"num_cells": 2}, r"num_cells is 2, but there are 3 prompts; give one of the two"),
            (
                {"max_new_genes": 20},
                r"a prompt of 5 tokens and max_new_genes \(20\) exceed model.max_seq_len \(24\) together; ask for",
            ),
            ({"generator": seed(), "keys": torch.arange(3)}, r"both generator and keys are given"),
            ({"keys": torch.rand(3)}, r"keys are torch.float32 of shape \(3,\), but 3 cells need a whole number each"),
            ({"bin_ids": torch.full((3, 5), 5)}, r"bin 5 is none of 0 to 4, the bins of the model"),
            ({"max_new_genes": 2.7}, r"max_new_genes is no whole number"),
            ({"max_new_genes": -1}, r"max_new_genes is -1; it must be 0 or more"),
            ({"max_new_genes": torch.tensor([2, -3, 1])}, r"max_new_genes is -3; it must be 0 or more"),
            ({"bin_values": torch.zeros(4)}, r"bin_values has 4 values, but the model has 5 bins \(model.n_bins\)"),
        ],
    )
    def test_options_out_of_range(self, model, prompt, options, message):
        with pytest.raises(ValueError, match=message):
            model.generate(**{**prompt, "max_new_genes": 2, **options})

    @pytest.mark.parametrize("use_cache", [True, False])
    def test_padding_that_no_prompt_needs_takes_no_room(self, model, prompt, use_cache):
        wide = {key: torch.nn.functional.pad(tensor, (0, 17)) for key, tensor in prompt.items()}
        found = generate_cells(model, **wide, max_new_genes=19, generator=seed(), use_cache=use_cache)
        expected = generate_cells(model, **prompt, max_new_genes=19, generator=seed())
        assert torch.equal(found.input_ids, expected.input_ids)

    def test_as_many_genes_as_fit_are_made(self, model, prompt):
        assert model.generate(**prompt, max_new_genes=19).input_ids.shape == (3, 17)
        assert model.generate(**prompt, max_new_genes=2, num_cells=3).input_ids.shape == (3, 7)

    def test_a_prompt_without_tokens(self, model, prompt):
        prompt["attention_mask"][1] = 0
        with pytest.raises(ValueError, match="a prompt has no token; begin each with <cls> at least"):
            model.generate(**prompt, max_new_genes=2)

    def test_padding_before_tokens(self, model, prompt):
        prompt["attention_mask"][1] = torch.tensor([0, 0, 1, 1, 1])
        with pytest.raises(ValueError, match="padding before or between its tokens; pad on the right"):
            model.generate(**prompt, max_new_genes=2)

    @pytest.mark.parametrize("token_id", [20, -2])
    def test_a_token_outside_the_vocabulary(self, model, prompt, token_id):
        prompt["input_ids"][1, 1] = token_id
        with pytest.raises(ValueError, match=rf"token id {token_id} is not in the vocabulary of 20 tokens"):
            model.generate(**prompt, max_new_genes=2)
