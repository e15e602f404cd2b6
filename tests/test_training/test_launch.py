from __future__ import annotations

import pytest

from scmodelforge._console import is_first_process
from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import TrainingConfig
from scmodelforge.training._launch import _obituary, check_launcher

TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "2", "MASTER_ADDR": "a"}
SLURM = {"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "2"}


@pytest.fixture
def environment(monkeypatch):
    def put(values: dict[str, str]) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return put


def passes(devices: int, nodes: int) -> bool:
    try:
        check_launcher(TrainingConfig(accelerator="cpu", devices=devices, num_nodes=nodes))
    except ConfigError:
        return False
    return True


class TestLauncherAndSettings:
    @pytest.mark.parametrize("given", [TORCHRUN, SLURM], ids=["torchrun", "slurm"])
    def test_only_the_settings_that_agree_pass(self, environment, given):
        environment(given)
        sizes = [(devices, nodes) for devices in (1, 2, 3) for nodes in (1, 2, 3)]
        assert [size for size in sizes if passes(*size)] == [(2, 2)]

    @pytest.mark.parametrize(("given", "name"), [(TORCHRUN, "torchrun"), (SLURM, "SLURM")], ids=["torchrun", "slurm"])
    def test_others_are_refused_with_the_settings_that_mend_it(self, environment, given, name):
        environment(given)
        with pytest.raises(ConfigError) as refused:
            check_launcher(TrainingConfig(accelerator="cpu", devices=1, num_nodes=1))
        assert str(refused.value) == (
            f"training.devices is 1 and training.num_nodes is 1, but {name} started 2 processes on each node and "
            "2 nodes; use --set training.devices=2 --set training.num_nodes=2."
        )

    def test_slurm_must_say_how_many_tasks_a_node_has(self, environment):
        environment({"SLURM_NTASKS": "4"})
        with pytest.raises(ConfigError, match=r"use #SBATCH --ntasks-per-node=2 instead of --ntasks"):
            check_launcher(TrainingConfig(accelerator="cpu", devices=2, num_nodes=2))

    @pytest.mark.parametrize(("name", "is_job"), [("interactive", False), ("bash", False), ("train.sh", True)])
    def test_an_interactive_job_of_slurm_starts_nothing(self, environment, name, is_job):
        environment({**SLURM, "SLURM_JOB_NAME": name})
        assert passes(1, 1) is not is_job

    def test_nodes_that_nothing_starts_are_not_waited_for(self):
        with pytest.raises(ConfigError, match="torchrun --nnodes=2 --nproc-per-node=4 -m scmodelforge train"):
            check_launcher(TrainingConfig(accelerator="cpu", devices=4, num_nodes=2))


@pytest.mark.parametrize(
    "values", [{"RANK": "1", "LOCAL_RANK": "0"}, {"SLURM_PROCID": "3"}, {"LOCAL_RANK": "1"}], ids=str
)
def test_only_the_first_process_of_all_nodes_speaks(environment, values):
    assert is_first_process()
    environment(values)
    assert not is_first_process()


def test_how_a_process_ended_is_said():
    assert "process 1 was killed by SIGKILL (was memory short?), so the run stops" in _obituary(1, -9)
    assert "process 3 ended with status 2, so the run stops" in _obituary(3, 2)
