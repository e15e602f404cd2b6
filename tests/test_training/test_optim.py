from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from scmodelforge.config.schema import OptimizerConfig, SchedulerConfig
from scmodelforge.training.optim import build_optimizer, build_scheduler, parameter_groups

from .parts import TwoTermModel


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.genes = nn.Embedding(5, 4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.genes.weight
        self.attention = nn.MultiheadAttention(4, 2)
        self.norm = nn.LayerNorm((3, 4))
        self.token = nn.Parameter(torch.zeros(1, 1, 4))
        self.position_embedding = nn.Parameter(torch.zeros(1, 6, 4))
        self.relative_bias = nn.Parameter(torch.zeros(2, 6))
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.score = nn.Linear(4, 1)


def names_of(module: nn.Module) -> tuple[set[str], set[str]]:
    names = {id(p): name for name, p in module.named_parameters()}
    first, second = parameter_groups(module, 0.1)
    assert (first["weight_decay"], second["weight_decay"]) == (0.1, 0.0)
    listed = [id(p) for group in (first, second) for p in group["params"]]
    assert sorted(listed) == sorted(names)  # every parameter, once
    return tuple({names[id(p)] for p in group["params"]} for group in (first, second))


class TestParameterGroups:
    def test_only_matrices_of_layers_decay(self):
        decayed, _ = names_of(Parts())
        assert decayed == {"attention.in_proj_weight", "attention.out_proj.weight", "frozen.weight", "score.weight"}

    def test_a_weight_tied_to_an_embedding_comes_once_and_does_not_decay(self):
        decayed, spared = names_of(TwoTermModel())
        assert decayed == {"hidden.weight", "value.weight"}
        assert "embedding.weight" in spared

    def test_are_what_the_optimizer_works_on(self):
        config = OptimizerConfig(lr=0.5, weight_decay=0.25, beta1=0.8, beta2=0.9, eps=1e-3)
        optimizer = build_optimizer(TwoTermModel(), config)
        assert isinstance(optimizer, torch.optim.AdamW)
        assert [group["weight_decay"] for group in optimizer.param_groups] == [0.25, 0.0]
        for group in optimizer.param_groups:
            assert (group["lr"], group["betas"], group["eps"]) == (0.5, (0.8, 0.9), 1e-3)


def rates(steps: int, **settings) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = build_scheduler(optimizer, SchedulerConfig(**settings), steps)
    used = []
    for _ in range(steps):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return used


class TestSchedules:
    def test_cosine_rises_to_the_peak_and_falls_to_the_last_rate(self):
        expected = [2 * (s + 1) / 5 for s in range(4)]
        expected += [2 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * s / 6))) for s in range(7)]
        assert rates(11, warmup_steps=4, min_lr_ratio=0.1) == pytest.approx(expected, rel=1e-12)
        assert expected[4] == pytest.approx(2.0)
        assert expected[-1] == pytest.approx(0.2)

    def test_constant_only_rises(self):
        expected = [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
        assert rates(6, name="constant", warmup_steps=3) == pytest.approx(expected, rel=1e-12)

    @given(st.integers(1, 50), st.integers(0, 60), st.floats(0, 1))
    def test_stay_between_zero_and_the_peak_for_any_length(self, steps, warmup, ratio):
        for name in ("cosine_warmup", "constant"):
            used = rates(steps, name=name, warmup_steps=warmup, min_lr_ratio=ratio)
            assert all(0 <= rate <= 2.0 + 1e-12 for rate in used)
            assert used[0] > 0
