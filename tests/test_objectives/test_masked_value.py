from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config.schema import MaskingConfig, ModelConfig, TokenizerConfig
from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.data.draws import cell_keys
from scmodelforge.data.types import Batch, TokenBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.models.masked_autoencoder import MaskedAutoencoderConfig
from scmodelforge.objectives import get_objective

from .tokens import VOCAB, genes_of, make_tokens, with_measured

INPUTS = ("input_ids", "attention_mask", "values", "bin_ids", "masked_positions")


def masked_value(*, mask_ratio: float = 0.4, **settings: Any):
    """Return the objective with these settings of the model."""
    return get_objective(
        "masked_value_prediction",
        vocab=VOCAB,
        tokenizer_config=TokenizerConfig(masking=MaskingConfig(mask_ratio=mask_ratio)),
        model_config=MaskedAutoencoderConfig.model_validate(settings),
    )


def rows(batch: Batch) -> list[dict[int, tuple]]:
    """Return what each row shows and asks of each of its genes, in order."""
    names = ("input_ids", "values", "bin_ids", "labels", "targets", "masked_positions")
    found = []
    for row, length in enumerate(batch["lengths"]):
        columns = [batch[name][row, :length].tolist() for name in ("gene_ids", *names)]
        found.append({gene: tuple(rest) for gene, *rest in zip(*columns, strict=True)})
        assert len(found[-1]) == length  # no gene twice
    return found


def asked(batch: Batch) -> list[tuple[set[int], set[int]]]:
    """Return the expressed and the unexpressed genes that each row asks for."""
    return [
        (
            {gene for gene, (*_, target, is_masked) in row.items() if is_masked and target > 0},
            {gene for gene, (*_, target, is_masked) in row.items() if is_masked and target == 0},
        )
        for row in rows(batch)
    ]


class TestNothingLeaks:
    @pytest.mark.parametrize("ratio", [0.0, 1.0])
    def test_hidden_values_and_bins_reach_no_input(self, ratio):
        objective, tokens = masked_value(zero_target_ratio=ratio), with_measured(make_tokens([60, 3, 40]))
        batch = objective(tokens)
        hidden = [expressed for expressed, _ in asked(batch)]
        cells = np.repeat(np.arange(3), tokens.lengths)
        is_hidden = np.array([token in hidden[cell] for cell, token in zip(cells, tokens.ids.tolist(), strict=True)])
        assert 20 < is_hidden.sum() < 70
        changed = replace(
            tokens,
            values=np.where(is_hidden, tokens.values * 3 + 1, tokens.values),
            bin_ids=np.where(is_hidden, tokens.bin_ids + 50, tokens.bin_ids),
        )
        again = objective(changed)
        for name in (*INPUTS, "gene_ids", "labels"):
            assert torch.equal(again[name], batch[name]), name
        assert not torch.equal(again["targets"], batch["targets"])

    def test_a_hidden_gene_is_a_mask_without_value_and_bin_whether_expressed_or_not(self):
        batch = masked_value()(with_measured(make_tokens([60, 3, 40])))
        hidden = batch["masked_positions"]
        assert batch["input_ids"][hidden].eq(VOCAB.mask_id).all()
        assert batch["values"][hidden].eq(0).all()
        assert batch["bin_ids"][hidden].eq(0).all()
        visible = ~hidden & batch["gene_ids"].ge(4)
        assert torch.equal(batch["input_ids"][~hidden], batch["gene_ids"][~hidden])
        assert batch["values"][visible].gt(0).all()
        assert batch["bin_ids"][visible].gt(0).all()

    def test_the_place_of_a_hidden_gene_tells_nothing_of_its_value(self):
        tokens = with_measured(make_tokens([60] * 60))
        order = np.lexsort((-tokens.values, tokens.ids >= 4, np.repeat(np.arange(60), tokens.lengths)))
        ranked = replace(tokens, ids=tokens.ids[order], values=tokens.values[order], bin_ids=tokens.bin_ids[order])
        batch = masked_value(mask_ratio=0.5)(ranked)
        places, targets = [], []
        for row in range(60):
            hidden = batch["masked_positions"][row].nonzero()[:, 0].numpy()
            last = int(batch["lengths"][row])
            np.testing.assert_array_equal(hidden, np.arange(last - len(hidden), last))  # after all that is visible
            places.append(np.linspace(0, 1, len(hidden)))
            targets.append(batch["targets"][row, hidden].numpy())
        place, target = np.concatenate(places), np.concatenate(targets)
        assert len(place) > 3000
        assert abs(np.corrcoef(place, target)[0, 1]) < 4 / np.sqrt(len(place))
        assert abs(np.corrcoef(place, target > 0)[0, 1]) < 4 / np.sqrt(len(place))

    def test_genes_that_stay_visible_need_no_token_for_hidden_ones(self):
        vocab = GeneVocab.from_token_dict({"<pad>": 0, "<cls>": 1, "A": 2, "B": 3}, name="without mask")
        parts = {"vocab": vocab, "model_config": MaskedAutoencoderConfig(zero_target_ratio=0)}
        masking = TokenizerConfig(masking=MaskingConfig(mode="value", mask_ratio=1.0))
        objective = get_objective("masked_value_prediction", tokenizer_config=masking, **parts)
        cell = make_tokens([2])
        batch = objective(replace(cell, ids=np.array([1, 2, 3], dtype=np.int32)))
        assert sorted(batch["input_ids"][0].tolist()) == [1, 2, 3]
        assert int(batch["masked_positions"].sum()) == 2
        with pytest.raises(DataError, match="has no <mask> token"):
            get_objective("masked_value_prediction", tokenizer_config=TokenizerConfig(), **parts)

    def test_the_tokens_given_stay_whole(self):
        tokens = with_measured(make_tokens([30]))
        before = tokens.select(np.array([0]))
        masked_value(mask_ratio=1.0)(tokens)
        for name in ("offsets", "ids", "values", "bin_ids"):
            np.testing.assert_array_equal(getattr(tokens, name), getattr(before, name))


class TestWhatIsAsked:
    @settings(max_examples=25, deadline=None)
    @given(
        st.lists(st.integers(0, 60), min_size=1, max_size=5), st.sampled_from([0.0, 0.3, 1.0, 2.5]), st.integers(0, 9)
    )
    def test_rows_hold_the_cells_genes_with_their_truth(self, lengths, ratio, seed):
        tokens = with_measured(make_tokens(lengths, seed=seed))
        batch = masked_value(zero_target_ratio=ratio)(tokens)
        hidden = batch["masked_positions"]
        for cell, row in enumerate(rows(batch)):
            own = slice(tokens.offsets[cell], tokens.offsets[cell + 1])
            truth = dict(zip(tokens.ids[own].tolist(), tokens.values[own].tolist(), strict=True))
            assert truth.keys() <= row.keys()
            visible = [gene for gene, (*_, is_masked) in row.items() if not is_masked]
            assert visible == [gene for gene in truth if gene in visible]  # in the order given
            assert list(row)[: len(visible)] == visible  # before those asked for
            for gene, (token, value, _, label, target, is_masked) in row.items():
                assert (value, target) == ((0.0, truth.get(gene, 0.0)) if is_masked else (truth[gene], 0.0))
                assert (token, label) == ((VOCAB.mask_id, gene) if is_masked else (gene, IGNORE_INDEX))
        assert batch["target_index"].tolist() == hidden.flatten().nonzero()[:, 0].tolist()
        assert batch["num_targets"] == {"masked_value": int(hidden.sum())}
        is_padding = batch["attention_mask"] == 0
        assert batch["gene_ids"][is_padding].eq(VOCAB.pad_id).all()
        assert not hidden[is_padding].any()

    @pytest.mark.parametrize("ratio", [0.15, 0.6])
    def test_the_share_of_hidden_genes_is_the_one_asked_for(self, ratio):
        batch = masked_value(mask_ratio=ratio, zero_target_ratio=0.0)(make_tokens([200] * 100))
        num_genes = 200 * 100
        spread = np.sqrt(num_genes * ratio * (1 - ratio))
        assert abs(batch["num_targets"]["masked_value"] - num_genes * ratio) < 4 * spread

    @pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0, 2.0])
    def test_the_share_of_unexpressed_genes_is_the_one_asked_for(self, ratio):
        batch = masked_value(zero_target_ratio=ratio)(with_measured(make_tokens([50, 20, 1, 0])))
        for expressed, unexpressed in asked(batch):
            assert len(unexpressed) == round(ratio * len(expressed))

    def test_as_many_of_both_unless_told_otherwise(self):
        objective = get_objective(
            "masked_value_prediction", vocab=VOCAB, tokenizer_config=TokenizerConfig(), model_config=ModelConfig()
        )
        ((expressed, unexpressed),) = asked(objective(with_measured(make_tokens([100]))))
        assert len(expressed) == len(unexpressed) > 5

    def test_unexpressed_genes_are_measured_and_neither_shown_nor_cut(self):
        tokens = make_tokens([40, 40, 40])
        panels = (np.arange(4, 204), np.arange(100, 204))
        cut = [[gene for gene in range(4, 204) if gene not in genes_of(tokens, cell)][: 50 * cell] for cell in range(3)]
        batch = masked_value(zero_target_ratio=5.0)(
            with_measured(tokens, panels=panels, panel_index=[0, 1, 0], cut=cut)
        )
        for cell, (expressed, unexpressed) in enumerate(asked(batch)):
            own = genes_of(tokens, cell)
            assert expressed < set(own)
            assert unexpressed <= set(panels[cell % 2].tolist()) - set(own) - set(cut[cell])
            assert len(unexpressed) > 20

    def test_without_unexpressed_genes_tokens_stay_as_they_are(self):
        tokens = make_tokens([20, 0, 7])
        batch = masked_value(zero_target_ratio=0.0)(tokens)  # and nobody needs to know what was measured
        np.testing.assert_array_equal(batch["lengths"], tokens.lengths)
        for cell, row in enumerate(rows(batch)):
            assert sorted(row) == sorted(tokens.ids[tokens.offsets[cell] : tokens.offsets[cell + 1]].tolist())

    def test_unexpressed_genes_need_to_be_known_as_measured(self):
        with pytest.raises(ConfigError, match=r"zero genes are asked for, .*; set model\.zero_target_ratio to 0"):
            masked_value()(make_tokens([20]))


class TestSpecialTokens:
    def test_they_are_never_hidden(self):
        tokens = with_measured(make_tokens([20] * 20))
        specials = tokens.ids.copy()
        specials[specials % 5 == 0] = VOCAB.unk_id
        batch = masked_value(mask_ratio=1.0)(replace(tokens, ids=specials))
        is_special = batch["gene_ids"] < 4
        assert not batch["masked_positions"][is_special].any()
        assert batch["masked_positions"][~is_special].all()
        assert torch.equal(batch["input_ids"][is_special], batch["gene_ids"][is_special])


class TestRoom:
    @given(
        st.lists(st.integers(0, 60), min_size=1, max_size=4),
        st.integers(61, 90),
        st.sampled_from([0.0, 0.5, 1.0, 3.0]),
        st.sampled_from([0.2, 0.7, 1.0]),
    )
    def test_rows_fit_and_visible_genes_stay(self, lengths, max_seq_len, ratio, mask_ratio):
        tokens = with_measured(make_tokens(lengths))
        whole = asked(masked_value(mask_ratio=mask_ratio, zero_target_ratio=0.0)(tokens))
        batch = masked_value(mask_ratio=mask_ratio, zero_target_ratio=ratio, max_seq_len=max_seq_len)(tokens)
        assert batch["input_ids"].shape[1] <= max_seq_len
        for cell, (row, (expressed, unexpressed), (hidden, _)) in enumerate(
            zip(rows(batch), asked(batch), whole, strict=True)
        ):
            own = set(genes_of(tokens, cell))
            visible = {gene for gene, (*_, is_masked) in row.items() if not is_masked and gene >= 4}
            assert visible == own - hidden
            assert expressed <= hidden
            zeros = round(ratio * len(hidden))
            wanted = max(1, len(hidden) + zeros)
            room = min(max_seq_len - len(visible) - 1, wanted)
            # Both kinds give way alike; each is rounded down.
            assert len(expressed) == len(hidden) * room // wanted
            assert len(unexpressed) == min(zeros * room // wanted, 200 - len(own))

    def test_half_of_the_targets_of_a_full_cell_give_way(self):
        tokens = with_measured(make_tokens([98]))
        ((hidden, _),) = asked(masked_value(mask_ratio=0.5)(tokens))
        batch = masked_value(mask_ratio=0.5, max_seq_len=99)(tokens)
        ((expressed, unexpressed),) = asked(batch)
        assert len(expressed) == len(unexpressed) == len(hidden) // 2
        assert batch["num_targets"] == {"masked_value": 2 * (len(hidden) // 2)}

    @pytest.mark.parametrize("size", [3, 49, 98])
    def test_no_target_is_lost_to_a_rounding(self, size):
        # Two places for as many expressed as unexpressed genes: one of each, whatever their number.
        tokens = with_measured(make_tokens([size], cls=False))
        ((expressed, unexpressed),) = asked(masked_value(mask_ratio=1.0, max_seq_len=2)(tokens))
        assert (len(expressed), len(unexpressed)) == (1, 1)

    def test_a_cell_without_any_keeps_what_it_shows(self):
        tokens = with_measured(make_tokens([50]))
        batch = masked_value(max_seq_len=5)(tokens)
        assert batch["num_targets"] == {"masked_value": 0}
        assert set(batch["gene_ids"][0, 1:].tolist()) < set(genes_of(tokens, 0))

    def test_genes_given_up_are_not_asked_for_as_unexpressed(self):
        tokens = make_tokens([100])
        few = with_measured(tokens, panels=[np.sort([*genes_of(tokens, 0)[:95], 200, 201, 202, 203])])
        free = {200, 201, 202, 203} - set(genes_of(tokens, 0))
        ((expressed, unexpressed),) = asked(masked_value(mask_ratio=0.9, max_seq_len=101)(few))
        assert len(expressed) < 60
        assert unexpressed == free


class TestSameCellSameMask:
    @settings(max_examples=20, deadline=None)
    @given(st.permutations(range(6)), st.integers(1, 6), st.sampled_from([62, 2048]))
    def test_in_any_batch_and_order(self, order, size, max_seq_len):
        objective = masked_value(max_seq_len=max_seq_len)
        tokens = with_measured(make_tokens([30, 1, 12, 60, 0, 25]), cut=[[9], [], [7, 8], [], [], [11]])
        whole = rows(objective(tokens))
        part = rows(objective(tokens.select(np.array(order[:size]))))
        assert [list(row.items()) for row in part] == [list(whole[cell].items()) for cell in order[:size]]

    def test_in_any_order_of_its_genes(self):
        objective, tokens = masked_value(max_seq_len=90), with_measured(make_tokens([80]))
        turned = replace(
            tokens, ids=tokens.ids[::-1].copy(), values=tokens.values[::-1].copy(), bin_ids=tokens.bin_ids[::-1].copy()
        )
        assert rows(objective(turned)) == rows(objective(tokens))

    def test_every_time_in_validation_and_anew_in_each_pass_of_training(self):
        objective, tokens = masked_value(), with_measured(make_tokens([100] * 4))
        found = [
            asked(objective(replace(tokens, keys=cell_keys(0, tokens.cell_index, data_pass=data_pass))))
            for data_pass in (None, None, 0, 1)
        ]
        assert found[0] == found[1]
        both = sum(len(one[0] & other[0]) for one, other in zip(found[2], found[3], strict=True))
        assert abs(both - 400 * 0.16) < 4 * np.sqrt(400 * 0.16 * 0.84)  # independent, not one the other's complement
        assert found[2][0][1] != found[3][0][1]

    def test_cells_differ(self):
        tokens = with_measured(make_tokens([100]))
        twice = TokenBlock.concatenate([tokens, replace(tokens, keys=cell_keys(0, np.array([5])))])
        first, second = asked(masked_value()(twice))
        assert first[0] != second[0]
        assert first[1] != second[1]


class TestSmallBatches:
    def test_no_cells_give_no_targets(self):
        batch = masked_value()(with_measured(make_tokens([3])).select(np.zeros(0, dtype=np.int64)))
        assert batch["num_targets"] == {"masked_value": 0}
        assert all(batch[name].shape == (0, 1) for name in (*INPUTS, "labels", "targets", "gene_ids"))
        assert len(batch["target_index"]) == 0

    def test_cells_without_genes_give_no_targets(self):
        batch = masked_value(mask_ratio=1.0)(with_measured(make_tokens([0, 0])))
        assert batch["num_targets"] == {"masked_value": 0}
        assert batch["labels"].eq(IGNORE_INDEX).all()

    def test_tokens_without_bins_make_batches_without(self):
        assert "bin_ids" not in masked_value(mask_ratio=1.0)(with_measured(make_tokens([3], bins=False)))

    def test_types(self):
        batch = masked_value()(with_measured(make_tokens([30])))
        kinds = {name: batch[name].dtype for name in ("input_ids", "labels", "gene_ids", "bin_ids")}
        assert set(kinds.values()) == {torch.int64}
        assert (batch["targets"].dtype, batch["values"].dtype) == (torch.float32, torch.float32)
        assert batch["masked_positions"].dtype == torch.bool
