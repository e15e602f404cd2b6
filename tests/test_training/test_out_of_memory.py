"""Running out of memory, by what torch truly raises."""

from __future__ import annotations

import re

import pytest
import torch

from scmodelforge._errors import RunError
from scmodelforge.training.loop import fit

from .parts import TwoTermModel, make_run, settings


class Exhausted(TwoTermModel):
    """Runs out of memory at some step."""

    def __init__(self, problem) -> None:
        super().__init__()
        self.problem = problem

    def forward(self, *args, **kwargs):
        if len(self.calls) == 4:
            self.problem()
        return super().forward(*args, **kwargs)


def refused_by_a_device():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def refused_by_the_host():
    torch.empty(2**60, dtype=torch.float32)


class TestOutOfMemory:
    @pytest.mark.parametrize("problem", [refused_by_a_device, refused_by_the_host])
    def test_is_said_with_numbers_and_what_to_change(self, tmp_path, problem):
        run = make_run(tmp_path, model=lambda: Exhausted(problem), config=settings(batch_size=8), val_loader=None)
        with pytest.raises(RunError) as stop:
            fit(run)
        text = str(stop.value)
        number = sum(parameter.numel() for parameter in run.model.parameters())
        assert text.startswith("out of memory on cpu at step 5: ")
        assert re.search(r"[\d.,]+ [GM]iB of [\d.,]+ [GM]iB in use at the peak", text)
        assert f"{number:,} parameters, 8 cells in a forward pass, 6 tokens in the longest" in text
        assert "--set training.batch_size=4 --set training.gradient_accumulation=2" in text
        assert "--set tokenizer.max_genes=3" in text
        assert f"last checkpoint: {tmp_path / 'checkpoints' / 'step_00000003'}" in text

    def test_in_a_callback_it_is_not_blamed_on_a_batch(self):
        class Greedy:
            def on_step_end(self, run):
                refused_by_the_host()

        with pytest.raises(RunError, match="after step 1, beside the training steps"):
            fit(make_run(), [Greedy()])

    def test_other_errors_stay_as_they_are(self):
        def broken():
            raise RuntimeError("shapes differ")

        with pytest.raises(RuntimeError, match="shapes differ") as problem:
            fit(make_run(model=lambda: Exhausted(broken)))
        assert not isinstance(problem.value, RunError)
