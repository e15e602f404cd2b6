"""``models check``: the built-in models keep the contract, and each check finds a model broken in its way."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from scmodelforge._registry import MODELS
from scmodelforge.cli.main import app
from scmodelforge.models import AutoregressiveTransformer, MaskedAutoencoder, ModelOutput, TransformerConfig
from scmodelforge.models import TransformerEncoder as Encoder
from scmodelforge.models._utils import required_vocab_size
from scmodelforge.models.components import (
    GeneExpressionEmbedding,
    MaskedGenePredictionHead,
    blank_padding,
    masked_cross_entropy,
    mean_pool,
)
from scmodelforge.models.components.pooling import cls_pool
from scmodelforge.workflows.model_check import CheckResult, check_model, find_model_class
from scmodelforge.workflows.model_check.runner import CHECKS, run_checks
from tests.conftest import OPTIONAL_MODELS

BUILT_IN = (
    "autoregressive_transformer",
    "fine_tuned",
    "gene_pooling",
    "masked_autoencoder",
    "scdiva",
    "scdiva_diffusion",
    "scgpt",
    "transcriptformer",
    "transformer_encoder",
)
CAUSAL = ("autoregressive_transformer", "transcriptformer")
NAMES = [check.name for check in CHECKS]


#: Checked with every change; the others take as long each and are checked in .ci/full.
QUICK = ("gene_pooling", "scdiva_diffusion", "transformer_encoder")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in BUILT_IN]
)
def test_built_in_models_keep_the_contract(name):
    results = check_model(MODELS.get(name), name=name)
    assert [result.name for result in results] == NAMES
    assert [result for result in results if result.status == "failed"] == []
    left_out = {result.name for result in results if result.status == "not claimed"}
    own = {"the loss is that of the logits"} if name == "scdiva_diffusion" else set()  # its objective is its own
    assert left_out == own | (set() if name in CAUSAL else {"later tokens are not seen"})


def test_all_built_in_models_are_checked():
    modules = {name: MODELS.get(name).__module__ for name in MODELS.names() if name not in OPTIONAL_MODELS}
    assert tuple(name for name, module in modules.items() if module.startswith("scmodelforge.models.")) == BUILT_IN


# One broken model for each thing that can be wrong: (check that finds it, words of its message).
BROKEN: list[tuple[type, str, str]] = []


def broken(check: str, words: str):
    assert check in NAMES

    def keep(model: type) -> type:
        BROKEN.append((model, check, words))
        return model

    return keep


@broken("made from its settings", "has no from_config")
class NotMade(nn.Module):
    def forward(self, input_ids, attention_mask, **batch): ...

    def encode(self, input_ids, attention_mask, **batch): ...


@broken("made from its settings", "config_class is <class 'dict'>")
class OddSettings(Encoder):
    config_class = dict


@broken("made from its settings", r"crashed with ZeroDivisionError: .*test_model_check\.py:\d+, in from_config")
class CrashesEarly(Encoder):
    @classmethod
    def from_config(cls, config):
        return 1 / 0


@broken("its objective makes batches", "unknown objective 'masked_gene_predicton'. Did you mean")
class OddObjective(Encoder):
    default_objective = "masked_gene_predicton"
    allowed_objectives = ("masked_gene_predicton",)


@broken("its objective makes batches", "allowed_objectives .* does not name")
class NotAllowedObjective(Encoder):
    default_objective = "next_gene_prediction"


@broken("settings without vocab_size are refused", "a model was made.*'vocab_size must be set'")
class AnySize(Encoder):
    @classmethod
    def from_config(cls, config):
        return super().from_config(config.model_copy(update={"vocab_size": config.vocab_size or 64}))


@broken("unknown token ids are refused", "token id 71 with vocab_size 64 was taken without a word; forward must raise")
class ForgivingIds(Encoder):
    def _hidden_states(self, input_ids, attention_mask, values):
        return super()._hidden_states(input_ids.clamp(max=self.vocab_size - 1), attention_mask, values)


@broken("unknown token ids are refused", "gave IndexError")
class PlainEmbedding(Encoder):
    def _hidden_states(self, input_ids, attention_mask, values):
        input_ids, values = blank_padding(input_ids, values, attention_mask)
        self.embedding.check_ids = lambda ids: None
        return self.encoder(self.embedding(input_ids, values), attention_mask)


@broken("too long cells are refused", "51 tokens with max_seq_len 48 was taken without a word")
class CutsCells(Encoder):
    def _hidden_states(self, input_ids, attention_mask, values):
        return super()._hidden_states(input_ids[:, :48], attention_mask[:, :48], values[:, :48])


@broken("forward answers with a ModelOutput", "forward returned tuple; it must return")
class Tuple(Encoder):
    def forward(self, *inputs, **batch):
        out = super().forward(*inputs, **batch)
        return out.loss, out.logits, out.embeddings


class Changed(Encoder):
    """An encoder of which a subclass changes the output."""

    def forward(self, input_ids, attention_mask, values=None, labels=None, *, return_logits=True, **batch):
        out = super().forward(input_ids, attention_mask, values, labels, return_logits=return_logits, **batch)
        changes = self.changes(out, labels, return_logits)
        return dataclasses.replace(out, **changes)


@broken("forward answers with a ModelOutput", r"the loss is torch.bfloat16; it must be float32")
class CoarseLoss(Changed):
    def changes(self, out, labels, return_logits):
        return {} if labels is None else {"loss": out.loss.bfloat16(), "loss_terms": None}


@broken("forward answers with a ModelOutput", "a loss without labels; it must be None")
class AlwaysLoss(Changed):
    def changes(self, out, labels, return_logits):
        return {"loss": out.embeddings.sum()} if labels is None else {}


@broken("forward answers with a ModelOutput", r"logits have shape \(8, \d+, 16\)")
class HiddenAsLogits(Changed):
    def changes(self, out, labels, return_logits):
        return {"logits": out.logits[..., :16]} if return_logits else {}


@broken("forward answers with a ModelOutput", "forward gave no loss for a batch with labels")
class NoLoss(Changed):
    def changes(self, out, labels, return_logits):
        return {"loss": None, "loss_terms": None}


@broken("forward answers with a ModelOutput", "embeddings in evaluation have shape .* pool the tokens")
class NotPooled(Changed):
    def changes(self, out, labels, return_logits):
        return {"embeddings": out.embeddings[:, None]}


@broken("encode gives an embedding of each cell", "the same embedding for all cells")
class OneForAll(Encoder):
    def encode(self, input_ids, attention_mask, values=None, **batch):
        return super().encode(input_ids, attention_mask, values) * 0 + 1


@broken("encode gives an embedding of each cell", r"have shape \(8, \d+, 16\) for 8 cells")
class EncodesTokens(Encoder):
    def encode(self, input_ids, attention_mask, values=None, **batch):
        return self._hidden_states(input_ids, attention_mask, values)


@broken("encode equals the embeddings of forward", "with nothing hidden differ by .* they must be equal")
class OtherPooling(Encoder):
    def encode(self, input_ids, attention_mask, values=None, **batch):
        return mean_pool(self._hidden_states(input_ids, attention_mask, values), attention_mask)


@broken("encode equals the embeddings of forward", "with prefix_len = number of tokens differ by")
class CausalEncode(AutoregressiveTransformer):
    def encode(self, input_ids, attention_mask, values=None, **batch):
        return self.forward(input_ids, attention_mask, values).embeddings


@broken("unknown keys of a batch are ignored", "forward refuses keys it does not know .* add \\*\\*kwargs")
class NoKwargs(Encoder):
    def forward(self, input_ids, attention_mask, values=None, labels=None, *, return_logits=True):
        return super().forward(input_ids, attention_mask, values, labels, return_logits=return_logits)


@broken("the attention mask may be of any type", r"attention_mask of torch.bool gave RuntimeError.*attention_mask != 0")
class NumericMask(Encoder):
    def _hidden_states(self, input_ids, attention_mask, values):
        return super()._hidden_states(input_ids, 1 - (1 - attention_mask), values)


@broken("the batch is left as it was", "forward changed values of the batch")
class InPlace(Encoder):
    def _hidden_states(self, input_ids, attention_mask, values):
        return super()._hidden_states(input_ids, attention_mask, values.clamp_(max=1.0))


@broken("evaluation is deterministic", "two passes .* in evaluation mode .* only if self.training")
class AlwaysDropout(Encoder):
    def _hidden_states(self, input_ids, attention_mask, values):
        hidden = super()._hidden_states(input_ids, attention_mask, values)
        return nn.functional.dropout(hidden, 0.1, training=True)


@broken("dropout acts in training", r"with model.dropout 0.5 two passes in training mode are equal .*rates \[0.0\]")
class NoDropout(Encoder):
    @classmethod
    def from_config(cls, config):
        return super().from_config(config.model_copy(update={"dropout": 0.0}))


@broken("what stands at padding changes nothing", "when values is nan at padding; .* blank_padding")
class ReadsPadding(Encoder):
    def _hidden_states(self, input_ids, attention_mask, values):
        embedded = self.embedding(input_ids, values)
        return self.encoder(embedded, attention_mask) + 0 * embedded.sum(dim=1, keepdim=True)


@broken("the amount of padding changes nothing", "change by .* with 7 more columns of padding")
class PoolsPadding(Encoder):
    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self._pool = lambda hidden, mask: hidden.mean(dim=1)


@broken("cells do not see each other", "of other cells change by .* when the first cell of a batch changes")
class MixesCells(Encoder):
    def _hidden_states(self, input_ids, attention_mask, values):
        hidden = super()._hidden_states(input_ids, attention_mask, values)
        return hidden - hidden.mean(dim=(0, 1)) if len(hidden) else hidden


@broken("later tokens are not seen", r"logits before position .* \(without a prefix, in evaluation\).*prefix_mask")
class SeesAll(AutoregressiveTransformer):
    def _hidden_states(self, input_ids, attention_mask, values, mask=None):
        return super()._hidden_states(input_ids, attention_mask, values, None)


@broken("later tokens are not seen", r"\(with prefix_len 4, in evaluation\)")
class LongPrefix(AutoregressiveTransformer):
    is_causal = False  # its objective needs it all the same

    def forward(self, input_ids, attention_mask, values=None, labels=None, *, prefix_len=None, **batch):
        if prefix_len is not None and bool((prefix_len > 1).all()):
            prefix_len = prefix_len + 3
        return super().forward(input_ids, attention_mask, values, labels, prefix_len=prefix_len, **batch)


@broken("what is hidden does not leak", r"\(in training\) when labels changes")
class ReadsLabels(Changed):
    def changes(self, out, labels, return_logits):
        if labels is None or not return_logits or not self.training:
            return {}
        return {"logits": out.logits + labels.clamp(min=0)[..., None]}


@broken("what is hidden does not leak", "when gene_ids changes, .* do not read gene_ids")
class ReadsGenes(Encoder):
    def forward(self, input_ids, attention_mask, values=None, labels=None, *, gene_ids=None, **batch):
        return super().forward(input_ids if gene_ids is None else gene_ids, attention_mask, values, labels, **batch)


@broken("what is hidden does not leak", "when input_ids changes, .*masked_positions replace ids and values")
class SeesHidden(MaskedAutoencoder):
    def _encode_visible(self, input_ids, values, is_visible):
        return super()._encode_visible(input_ids, values, input_ids != 0)


@broken("what is hidden does not leak", r"logits change by .* \(in evaluation\) when targets changes")
class ReadsTargets(MaskedAutoencoder):
    def forward(self, *inputs, targets=None, **batch):
        out = super().forward(*inputs, targets=targets, **batch)
        if targets is None or out.logits is None:
            return out
        return dataclasses.replace(out, logits=out.logits + 0.01 * targets)


@broken("what is hidden does not leak", "when bin_ids changes, .* labels, targets and bin_ids for the loss only")
class ReadsBins(AutoregressiveTransformer):
    def forward(self, *inputs, bin_ids=None, **batch):
        out = super().forward(*inputs, bin_ids=bin_ids, **batch)
        if bin_ids is None or out.logits is None or batch.get("labels") is None:
            return out
        return dataclasses.replace(out, logits=out.logits + 0.1 * bin_ids[..., None])


@broken("the loss depends on what is asked for", "the loss stays the same when targets changes")
class ForgetsTargets(MaskedAutoencoder):
    def forward(self, *inputs, targets=None, **batch):
        return super().forward(*inputs, **batch)


@broken("the loss depends on what is asked for", "the loss stays the same when bin_ids changes")
class ForgetsBins(AutoregressiveTransformer):
    def forward(self, *inputs, bin_ids=None, **batch):
        return super().forward(*inputs, bin_ids=None if bin_ids is None else bin_ids * 0, **batch)


@broken("a batch without targets gives loss 0", "the loss of a batch without targets is .*; it must be 0")
class Penalty(Changed):
    def changes(self, out, labels, return_logits):
        return {} if labels is None else {"loss": out.loss + 0.1, "loss_terms": None}


@broken("a batch without cells", r"crashed with RuntimeError: max\(\).*test_model_check\.py:\d+, in _hidden_states")
class NeedsCells(Encoder):
    def _hidden_states(self, input_ids, attention_mask, values):
        input_ids.max()
        return super()._hidden_states(input_ids, attention_mask, values)


@broken("a cell without tokens stays finite", "embeddings of forward are not finite when one cell .* no real token")
class DividesByTokens(Encoder):
    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self._pool = lambda hidden, mask: (hidden * (mask != 0)[..., None]).sum(1) / (mask != 0).sum(1, keepdim=True)


@broken("labelled rows only give the same loss", "the loss with return_logits=False differs by")
class OtherMean(Changed):
    def changes(self, out, labels, return_logits):
        return {} if labels is None or return_logits else {"loss": out.loss * 2, "loss_terms": None}


@broken("labelled rows only give the same loss", "the gradient of embedding.gene_embedding.weight .* differs by")
class OtherGradient(Encoder):
    def forward(self, *inputs, return_logits=True, **batch):
        out = super().forward(*inputs, return_logits=return_logits, **batch)
        if return_logits or out.loss is None:
            return out
        loss = out.loss + out.embeddings.sum() - out.embeddings.sum().detach() * 1.0
        return dataclasses.replace(out, loss=loss, loss_terms=None)


@broken("the loss falls in training", "the loss has no gradient")
class Detached(Changed):
    def changes(self, out, labels, return_logits):
        return {} if labels is None else {"loss": out.loss.detach(), "loss_terms": None}


@broken("the loss falls in training", r"in 36 steps on 24 cells the loss went from \d.* must fall by a tenth")
class Stuck(Changed):
    def changes(self, out, labels, return_logits):
        if labels is None:
            return {}
        nothing = sum(p.sum() for p in self.parameters()) * 0
        return {"loss": out.loss.detach() + nothing, "loss_terms": None}


@broken("every weight gets a gradient", "only zeros, reaches spare.weight, spare.bias; every trainable weight")
class DeadWeight(Encoder):
    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.spare = nn.Linear(2, 2)


@broken("every weight gets a gradient", "untrained_weights names head.decoder.weight")
class ModestClaim(Encoder):
    untrained_weights = frozenset({"head.decoder.weight"})


@broken("loss terms are those of the objective", "loss_terms has 'gene'.*counts targets of masked_gene")
class OtherNames(Changed):
    def changes(self, out, labels, return_logits):
        return {} if labels is None else {"loss_terms": {"gene": out.loss}}


@broken("loss terms are those of the objective", "loss_terms sum to .* they must be equal")
class OtherSum(Changed):
    def changes(self, out, labels, return_logits):
        return {} if labels is None else {"loss": out.loss * 2}


@broken("bf16 autocast", "under bf16 autocast the loss is torch.bfloat16; it must be float32")
class LossLikeLogits(Changed):
    def changes(self, out, labels, return_logits):
        dtype = self.head.dense(out.embeddings).dtype
        return {} if labels is None else {"loss": out.loss.to(dtype), "loss_terms": None}


class PairConfig(TransformerConfig):
    pair: tuple[int, int] = (1, 2)


@broken("settings survive saving", "settings cannot be read from the JSON .*pair")
class OddField(Encoder):
    config_class = PairConfig


@broken("weights survive saving", "of a model loaded from its file differ by .* persistent buffer")
class LooseTensor(Encoder):
    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.mixing = torch.randn(self.hidden_dim, self.hidden_dim)

    def _hidden_states(self, input_ids, attention_mask, values):
        return super()._hidden_states(input_ids, attention_mask, values) @ self.mixing


@broken("adapters take part", r"encoder\.layers\.\d\..* does not change encode in evaluation.*TransformerStack")
class FusedLayers(nn.Module):
    """The layers of torch, which read their weights past the modules in evaluation."""

    def __init__(self, config):
        super().__init__()
        vocab_size, width = required_vocab_size(config), config.hidden_dim
        self.embedding = GeneExpressionEmbedding(vocab_size, width, config.max_seq_len, config.dropout)
        layer = nn.TransformerEncoderLayer(width, config.num_heads, 32, config.dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)
        self.head = MaskedGenePredictionHead(width, vocab_size)

    @classmethod
    def from_config(cls, config):
        return cls(config)

    def hidden(self, input_ids, attention_mask, values):
        input_ids, values = blank_padding(input_ids, values, attention_mask)
        embedded = self.embedding(input_ids, values)
        return self.encoder(embedded, src_key_padding_mask=attention_mask == 0) if len(embedded) else embedded

    def forward(self, input_ids, attention_mask, values=None, labels=None, **batch):
        hidden = self.hidden(input_ids, attention_mask, values)
        logits = self.head(hidden)
        loss = None if labels is None else masked_cross_entropy(logits, labels)
        return ModelOutput(loss=loss, logits=logits, embeddings=cls_pool(hidden))

    def encode(self, input_ids, attention_mask, values=None, **batch):
        return cls_pool(self.hidden(input_ids, attention_mask, values))


@broken("adapters take part", r"in the place of head\.decoder does not change loss with return_logits=False")
class ReadsHeadWeight(Encoder):
    def forward(self, *inputs, labels=None, return_logits=True, **batch):
        out = super().forward(*inputs, labels=labels, **batch)
        if return_logits or labels is None:
            return out
        hidden = self._hidden_states(*inputs, batch["input_ids"], batch["attention_mask"], batch["values"])
        last = self.head.decoder
        hidden = self.head.layer_norm(self.head.activation(self.head.dense(hidden)))
        loss = masked_cross_entropy(nn.functional.linear(hidden, last.weight, last.bias), labels)
        return dataclasses.replace(out, loss=loss, logits=None, loss_terms={"masked_gene": loss})


@broken("the loss is that of the logits", "differs by .* from that of the logits at the labelled positions")
class SecondPassLoss(Encoder):
    """The loss of another pass, which sees the hidden genes."""

    def forward(self, input_ids, attention_mask, values=None, labels=None, **batch):
        out = super().forward(input_ids, attention_mask, values, labels)
        if labels is None:
            return out
        seen = torch.where(labels == -100, input_ids, labels)
        loss = super().forward(seen, attention_mask, values, labels).loss
        return ModelOutput(loss=loss, logits=out.logits, embeddings=out.embeddings)


@broken("embeddings can be trained", "embeddings without a graph")
class FrozenEncode(Encoder):
    @torch.no_grad()
    def encode(self, *args, **batch):
        return super().encode(*args, **batch)


@broken("cells do not see each other", "in training neither.*batch norm")
class CoupledInTraining(Encoder):
    def _hidden_states(self, input_ids, attention_mask, values):
        hidden = super()._hidden_states(input_ids, attention_mask, values)
        if not self.training or not len(hidden):
            return hidden
        return hidden + mean_pool(hidden, attention_mask).mean(dim=0)


@broken("later tokens are not seen", r"logits before position 14 change")
class WindowCausal(AutoregressiveTransformer):
    def _hidden_states(self, input_ids, attention_mask, values, mask=None):
        if mask is not None and mask.shape[-1] > 14:
            mask = mask.clone()
            mask[..., 13, 14] = True
        return super()._hidden_states(input_ids, attention_mask, values, mask)


@broken("later tokens are not seen", "when the cells end there .* must not know how many tokens come after it")
class KnowsLength(AutoregressiveTransformer):
    def _hidden_states(self, input_ids, attention_mask, values, mask=None):
        hidden = super()._hidden_states(input_ids, attention_mask, values, mask)
        number = (attention_mask != 0).sum(dim=1)[:, None, None]
        return hidden + 0.05 * number * torch.linspace(-1, 1, hidden.shape[-1])


@pytest.mark.parametrize(("model", "check", "words"), BROKEN, ids=[each[0].__name__ for each in BROKEN])
def test_a_broken_model_is_found_and_told(model, check, words):
    results = run_checks([each for each in CHECKS if each.name == check], model)
    found = next(result for result in results if result.name == check)
    assert found.status == "failed"
    assert re.search(words, found.message), found.message
    assert "\n" not in found.message


def test_every_check_has_a_broken_model():
    assert {check for _, check, _ in BROKEN} == set(NAMES)


# Faults that more than one check sees.
SEVERAL = {
    *("ForgetsTargets", "HiddenAsLogits", "ReadsTargets"),
    *("AlwaysDropout", "CausalEncode", "CoarseLoss", "Detached", "EncodesTokens", "LongPrefix", "MixesCells"),
    *("NoKwargs", "NoLoss", "NotPooled", "OneForAll", "OtherNames", "Penalty", "ReadsGenes", "SeesHidden", "Stuck"),
    "Tuple",
}


@pytest.mark.slow
@pytest.mark.parametrize(("model", "check"), [each[:2] for each in BROKEN], ids=[each[0].__name__ for each in BROKEN])
def test_no_other_check_fails(model, check):
    failed = [result.name for result in check_model(model) if result.status == "failed"]
    assert check in failed
    assert (len(failed) > 1) == (model.__name__ in SEVERAL), failed


class TestRunner:
    def test_what_cannot_be_run_is_not_shown_as_passed(self):
        first, *others = check_model(NotMade)
        assert first.status == "failed"
        assert {result.status for result in others} == {"not claimed"}
        assert others[0].message == "not run, since 'made from its settings' failed"

    def test_a_crash_ends_one_check_and_is_told_once(self):
        class Crashes(Encoder):
            def encode(self, input_ids, attention_mask, values=None, **batch):
                raise KeyError("gene")

        results = {result.name: result for result in check_model(Crashes)}
        first = results["encode gives an embedding of each cell"]
        assert re.search(r"crashed with KeyError: 'gene' \(.*test_model_check\.py:\d+, in encode\)", first.message)
        again = results["what stands at padding changes nothing"]
        assert again.message == "the same as in 'encode gives an embedding of each cell'"
        assert again.status == "failed"
        assert results["the loss falls in training"].status == "passed"

    def test_the_random_state_and_the_log_are_left_alone(self):
        torch.manual_seed(5)
        expected = torch.rand(2)
        torch.manual_seed(5)
        run_checks(CHECKS[:6], Encoder)
        assert torch.equal(torch.rand(2), expected)
        assert logging.root.manager.disable == 0

    def test_the_same_seed_gives_the_same_results(self):
        checks = [check for check in CHECKS if check.name == "cells do not see each other"]
        assert run_checks(checks, MixesCells, seed=3) == run_checks(checks, MixesCells, seed=3)
        assert run_checks(checks, MixesCells, seed=3) != run_checks(checks, MixesCells, seed=4)

    def test_pooling_is_set_where_a_model_has_none_of_its_own(self):
        class NeedsPooling(Encoder):
            @classmethod
            def from_config(cls, config):
                if config.pooling is None:
                    raise ValueError("model.pooling must be set")
                return super().from_config(config)

        assert [result.status for result in run_checks(CHECKS[:2], NeedsPooling)] == ["passed", "passed"]


def invoke(*words: object):
    return CliRunner().invoke(app, ["models", "check", *(str(word) for word in words)])


CODE = """
from scmodelforge.models import TransformerEncoder
print("loaded")

class Good{0}(TransformerEncoder):
    pass

class Bad{0}(TransformerEncoder):
    def encode(self, input_ids, attention_mask, values=None, **batch):
        return super().encode(input_ids, attention_mask, values) * 2

class Other: pass
number = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checked_model.py").write_text(CODE.format("One"))
    (tmp_path / "broken_module.py").write_text("import torch\n\n1 / 0\n")
    return tmp_path


class TestCommand:
    def test_a_file_prints_one_line_a_check(self, folder):
        result = invoke("./checked_model.py:GoodOne")
        assert result.exit_code == 0, result.output
        lines = result.stdout.splitlines()
        assert len(lines) == len(NAMES)
        assert re.match(r"made from its settings +passed$", lines[0])
        assert any(re.match(r"later tokens are not seen +not claimed +the class does not say", line) for line in lines)
        numbers = f"{len(NAMES) - 1} passed, 0 failed, 1 not claimed in"
        assert result.stderr.splitlines()[-1].startswith(f"./checked_model.py:GoodOne: {numbers}")
        assert sorted(path.name for path in folder.iterdir() if path.is_file()) == [
            "broken_module.py",
            "checked_model.py",
        ]

    def test_a_failing_model_of_a_module_ends_with_status_1(self, folder):
        result = invoke("checked_model:BadOne", "--json")
        assert result.exit_code == 1
        results = [CheckResult(**each) for each in json.loads(result.stdout)]
        assert [each.name for each in results] == NAMES
        failed = [each for each in results if each.status == "failed"]
        assert [each.name for each in failed] == ["encode equals the embeddings of forward"]

    def test_a_failure_is_shown_in_its_line(self, folder):
        (folder / "early.py").write_text("from torch import nn\n\nclass Early(nn.Module):\n    pass\n")
        result = invoke("early.py:Early")
        assert result.exit_code == 1
        first, second = result.stdout.splitlines()[:2]
        assert re.match(r"made from its settings +FAILED +Early has no from_config; a model needs", first)
        assert re.match(r"its objective makes batches +not claimed +not run, since", second)

    @pytest.mark.parametrize(
        ("target", "words"),
        [
            ("gene_poolin", "unknown model 'gene_poolin'. Did you mean 'gene_pooling'?"),
            ("checked_model.py", "names no class; write the class of the model too: checked_model.py:MyModel"),
            ("checked_model", "names no class; write the class of the model too: checked_model.py:MyModel"),
            (":", "names no class; write module:Class or file.py:Class"),
            ("check_model:GoodOne", "no module 'check_model', neither installed nor in .* Did you mean"),
            ("my-model:GoodOne", "'my-model' is no name of a module"),
            ("./check_model.py:GoodOne", "no file './check_model.py' .*Did you mean './checked_model.py'"),
            ("/:GoodOne", "no file '/'"),
            ("checked_model:GodOne", "no class 'GodOne'. Did you mean 'GoodOne'. Model classes there: GoodOne, BadOne"),
            ("json:Model", "json has no class 'Model'. It has no nn.Module class."),
            ("./checked_model.py:Other", "is not an nn.Module class; let Other subclass torch.nn.Module"),
            ("checked_model:number", "is int, not a class"),
            ("./broken_module.py:Model", r"failed in line 3 when it was imported: ZeroDivisionError"),
            ("broken_module:Model", r"module 'broken_module' failed when it was imported: ZeroDivisionError"),
        ],
    )
    def test_wrong_targets_end_with_status_2_and_one_line(self, folder, target, words):
        result = invoke(target)
        assert result.exit_code == 2
        assert result.stdout == ""
        told = [line for line in result.stderr.splitlines() if line != "loaded"]
        assert len(told) == 1
        assert re.search(words, told[0]), told[0]

    def test_a_changed_file_is_read_again(self, folder):
        first = find_model_class("checked_model.py:GoodOne", folder=folder)
        (folder / "checked_model.py").write_text(CODE.format("Two"))
        second = find_model_class("checked_model.py:GoodTwo", folder=folder)
        assert first.__module__ != second.__module__
