from __future__ import annotations

import copy

import torch
from safetensors.torch import load_file, save_model

from scmodelforge.training._snapshot import model_weights, take_snapshot
from scmodelforge.training.loop import fit

from .parts import TwoTermModel, make_run


def test_a_snapshot_does_not_change_when_the_run_goes_on(tmp_path):
    run = make_run(tmp_path, dropout=0.3)
    run.config.max_epochs = 1
    fit(run)
    run.config.max_epochs = 3
    snapshot = take_snapshot(run, config_hash="a" * 64)
    before = copy.deepcopy(snapshot)
    fit(run)
    assert snapshot.progress == before.progress
    assert snapshot.state == before.state
    for kind in ("weights", "tensors"):
        now, then = getattr(snapshot, kind), getattr(before, kind)
        assert list(now) == list(then)
        assert all(torch.equal(now[name], then[name]) for name in then)
    moved = model_weights(run.model)
    assert any(not torch.equal(moved[name], value) for name, value in snapshot.weights.items())


def test_tied_weights_come_once_under_the_name_that_safetensors_takes(tmp_path):
    model = TwoTermModel()
    save_model(model, str(tmp_path / "model.safetensors"))
    expected, found = load_file(tmp_path / "model.safetensors"), model_weights(model)
    assert len(found) < len(model.state_dict())
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_views_of_one_storage_are_all_kept():
    model = torch.nn.Module()
    whole = torch.arange(6.0)
    model.register_buffer("first", whole[:3])
    model.register_buffer("second", whole[3:])
    model.register_buffer("again", whole[:3])
    found = model_weights(model)
    assert found["second"].tolist() == [3, 4, 5]
    assert set(found) == {"again", "second"}
