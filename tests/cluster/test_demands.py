"""What pieces ask for, from settings and machines."""

from dataclasses import replace

import pytest

from cpsd.cluster.demands import GIB, Machine, demands
from cpsd.config import ImageConfig, RunConfig
from cpsd.cost import Cost
from cpsd.errors import ConfigError
from cpsd.machine_config import MachineConfig, TrainerConfig
from cpsd.stage import Stage

TRAINING = Stage("student", "f", (), lambda folder: Cost(), computes=True)
SCORES = Stage("evaluation", "f", (), lambda folder: Cost())
SMALL, LARGE = Machine(2, 0, 16 * GIB), Machine(64, 8, 512 * GIB)


def config(**machine: object) -> RunConfig:
    return RunConfig(
        image=ImageConfig(size=448),
        machine=replace(MachineConfig(), **machine),  # type: ignore[arg-type]
    )


def test_on_gpus_a_training_has_one_and_a_core_for_each_loader() -> None:
    found = demands(config(workers=7), 80_000, [SMALL, LARGE], 2)
    training, scores = found.of(TRAINING), found.of(SCORES)
    assert (training.cpus, training.gpus) == (8, 1)
    assert (scores.cpus, scores.gpus) == (1, 0)
    assert scores.memory < training.memory <= 512 * GIB
    assert found.picture_memory == pytest.approx(0.2 / 8)  # eight fit on the large machine


def test_on_a_cpu_it_has_a_core_for_each_thread_but_never_more_than_there_are() -> None:
    assert demands(config(threads=1, workers=1), 10, [SMALL], 2).computing.cpus == 1
    assert demands(config(), 10, [SMALL], 2).computing.cpus == 2
    many = demands(config(threads=16), 10, [SMALL, SMALL], 2)
    assert many.computing.cpus == 2
    assert many.threads == 16  # as many threads everywhere: the same sums in the same order
    assert demands(config(accelerator="cpu", threads=4), 10, [SMALL, LARGE], 2).computing.gpus == 0


def test_memory_has_room_for_pictures_that_are_kept_and_never_more_than_a_machine() -> None:
    few = demands(config(threads=2, picture_memory=0.0), 2_000, [SMALL], 2).computing.memory
    kept = demands(config(threads=2), 2_000, [SMALL], 2).computing.memory
    assert kept - few == 2_000 * 3 * 448**2
    tiny = Machine(2, 0, GIB / 2)
    assert demands(config(), 10, [tiny], 2).computing.memory == GIB // 2


def test_what_is_asked_for_is_asked_for_even_where_no_machine_has_it_yet() -> None:
    """An autoscaler starts a machine with a GPU when a task asks for one."""
    found = demands(config(accelerator="cuda", workers=3), 10, [SMALL], 2).computing
    assert (found.gpus, found.cpus) == (1, 4)


def test_an_accelerator_that_tasks_are_not_given_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"machine.accelerator is 'mps'.*auto, cpu or cuda"):
        demands(config(accelerator="mps"), 10, [SMALL], 2)


def test_a_training_on_several_devices_is_a_gang_with_the_same_room_on_each_machine() -> None:
    spread = replace(config(workers=3), trainer=TrainerConfig(devices=4, num_nodes=2))
    found = demands(spread, 10, [LARGE, LARGE], 8)
    gang = found.gang(replace(TRAINING, trains=True))
    assert gang is not None
    assert gang.size == 8
    assert [gang.bundle(rank) for rank in range(8)] == [0, 0, 0, 0, 1, 1, 1, 1]
    memory = float(4 * gang.member.memory)
    assert gang.bundles() == [{"CPU": 16.0, "GPU": 4.0, "memory": memory}] * 2
    assert found.gang(TRAINING) is None  # a stage that only predicts
    assert demands(config(), 10, [LARGE], 8).gang(replace(TRAINING, trains=True)) is None


def test_devices_of_a_machine_share_its_threads_on_a_cpu() -> None:
    spread = replace(config(accelerator="cpu"), trainer=TrainerConfig(devices=2))
    found = demands(spread, 10, [SMALL], 2)
    assert found.threads == 1
    gang = found.gang(replace(TRAINING, trains=True))
    assert gang is not None
    assert [bundle["CPU"] for bundle in gang.bundles()] == [2.0]
    assert "GPU" not in gang.bundles()[0]
