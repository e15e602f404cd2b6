"""What a step needs of memory, held against what the system says."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import nn

from scmodelforge.training._memory_use import free_memory, peak_bytes, total_memory
from scmodelforge.training.memory import LiveTensors, Trial, measure_memory

WIDTH, VOCAB, TOKENS = 64, 300, 16


class Small(nn.Module):
    """Two layers and logits over the vocabulary."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, VOCAB, bias=False)

    def forward(self, batch):
        return {"loss": self.head(torch.relu(self.first(batch["x"]))).logsumexp(-1).mean()}


def trial() -> Trial:
    model = Small()

    def make_batch(cells):
        return {"x": torch.ones(cells, TOKENS, WIDTH), "num_targets": {"loss": cells}, "lengths": [TOKENS] * cells}

    optimizer = torch.optim.AdamW(model.parameters())
    return Trial(model, optimizer, make_batch, torch.device("cpu"), nullcontext, VOCAB)


class TestTerms:
    def test_weights_gradients_and_moments_are_counted(self):
        memory = measure_memory(trial())
        parameters = WIDTH * WIDTH + WIDTH + WIDTH * VOCAB
        assert memory.weights == memory.gradients == 4 * parameters
        assert memory.optimizer == 2 * 4 * parameters + 3 * 4  # two moments each, and the steps of three tensors

    def test_logits_are_those_of_a_cell(self):
        assert measure_memory(trial()).logits_per_cell == 4 * TOKENS * VOCAB

    def test_a_cell_adds_at_least_what_must_be_kept_for_the_way_back(self):
        memory = measure_memory(trial())
        kept = 4 * TOKENS * (WIDTH + VOCAB)  # what relu and logsumexp keep
        assert kept <= memory.per_cell <= 4 * kept
        assert memory.num_tokens == TOKENS

    def test_several_processes_keep_the_gradients_twice(self):
        one, two = measure_memory(trial()), measure_memory(trial(), num_processes=2)
        assert two.other - one.other == one.gradients

    def test_what_is_foretold_of_many_cells_is_what_they_need(self):
        memory, tried = measure_memory(trial()), trial()
        tried.step(1)
        peak, _ = tried.peak(lambda: tried.backward(64))
        assert memory.of(64) == pytest.approx(memory.weights + memory.gradients + memory.optimizer + peak, rel=0.05)


class TestLiveTensors:
    def test_counts_what_is_alive_and_the_most_there_was(self):
        with LiveTensors() as live:
            first = torch.empty(1000, dtype=torch.uint8)
            second = torch.empty(500, dtype=torch.uint8)
            del first
            third = second[:10]
            fourth = torch.empty(200, dtype=torch.uint8)
        assert (live.alive, live.peak) == (700, 1500)
        del second, third, fourth
        assert live.alive == 0


# A new process begins with the ru_maxrss of the one that started it, so the peak is read where it is the process's own.
MEASURE = """
import pathlib, torch
from tests.test_training.test_memory import Small, VOCAB
import tests.test_training.test_memory as sizes
sizes.WIDTH, sizes.TOKENS = 256, 256
from scmodelforge.training.memory import measure_memory
foretold = measure_memory(sizes.trial())
tried = sizes.trial()
tried.step(1)
def peak():
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
before = peak()
tried.backward(256)
print(256 * foretold.per_cell, peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
def test_the_peak_of_the_process_is_within_half_of_what_is_foretold():
    result = subprocess.run(
        [sys.executable, "-c", MEASURE], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    foretold, found = map(int, result.stdout.split())
    assert foretold > 100 * 2**20
    assert 1 / 1.5 < found / foretold < 1.5


LIMITED = """
import resource, torch
from scmodelforge.training._memory_use import free_memory, total_memory
from scmodelforge.training.out_of_memory import is_out_of_memory
cpu = torch.device("cpu")
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, used + 2**29))
assert free_memory(cpu) <= 2**29 and total_memory(cpu) <= used + 2**29
try:
    torch.empty(2**30, dtype=torch.uint8)
except RuntimeError as problem:
    assert is_out_of_memory(problem), problem
else:
    raise SystemExit("was not refused")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux's")
def test_a_limit_of_the_process_counts_and_its_refusal_is_known():
    result = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr


def test_what_is_free_is_less_than_there_is():
    cpu = torch.device("cpu")
    assert 0 < free_memory(cpu) < total_memory(cpu)
    assert peak_bytes(cpu) > 50 * 2**20  # torch alone takes more
    assert total_memory(cpu) <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
