"""The hours that recipes and README state are those that the benchmark counts."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from cpsd.arguments import parse, run_config
from cpsd.config import DistillationConfig, RunConfig, TeachersConfig, TrainingConfig
from cpsd.fast import fast
from cpsd.flops import Flops
from cpsd.model_config import ModelConfig
from cpsd.parsers import recipe_names

ROOT = Path(__file__).resolve().parents[2]
WITH_ESTIMATE = [name for name in recipe_names() if name != "demo"]


@pytest.fixture(scope="module")
def gpu_hours() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_hours", ROOT / "benchmarks" / "gpu_hours.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", WITH_ESTIMATE)
def test_recipe_and_readme_state_what_is_counted(gpu_hours: ModuleType, name: str) -> None:
    recipe = (ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    assert f"{gpu_hours.sentence(name)}\n" in recipe
    assert f"{gpu_hours.row(name)}\n" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["photographs", "coco-q2l-resnet101", "coco-tresnet-l"])
def test_a_fast_form_takes_three_plain_trainings_at_most(gpu_hours: ModuleType, name: str) -> None:
    config = run_config(parse(["run", "--config", name])[1])
    flops = gpu_hours.stage_flops(fast(config), gpu_hours.SIZES[config.data.format])
    trained = sum(flops[stage] for stage in ("baseline", "teachers", "soft labels", "student"))
    assert 2 < trained / flops["baseline"] <= 3


def test_every_recipe_but_the_demo_has_an_estimate(gpu_hours: ModuleType) -> None:
    assert gpu_hours.recipes() == WITH_ESTIMATE
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in gpu_hours.recipes():
        text = (ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
        assert "to be counted" not in text
        assert readme.count(f"| `{name}` |") == 1


def test_operations_are_those_of_the_publications(gpu_hours: ModuleType) -> None:
    # He et al. (2016), table 1, count multiplications and additions once: 7.6e9 for ResNet-101 with
    # the stride in the first convolution of a block, 7.8e9 with it in the second as here.
    config = ModelConfig(backbone="resnet101", weights="none")
    flops = gpu_hours.picture_flops(config, 224, 1000)
    assert flops.forward / 2 == pytest.approx(7.8e9, rel=0.01)
    large = gpu_hours.picture_flops(config, 448, 1000).forward
    assert large == pytest.approx(4 * flops.forward, rel=0.01)
    # Backward makes two products for each one of forward, but of the picture no gradient.
    assert flops.backward == pytest.approx(2 * flops.forward - 2 * 112**2 * 7**2 * 3 * 64, rel=1e-9)


def test_stages_that_teachers_share_have_no_backward_pass(gpu_hours: ModuleType) -> None:
    config = ModelConfig(backbone="resnet18", weights="none")
    whole = gpu_hours.picture_flops(config, 64, 20)
    shared = gpu_hours.picture_flops(config, 64, 20, 3)
    assert shared.forward == whole.forward
    # Of the 16 convolutions in blocks, 8 lie in the stages that are left, and each has as much.
    assert 0.4 < shared.backward / whole.backward < 0.6


def test_attention_is_counted(gpu_hours: ModuleType) -> None:
    def flops(num_labels: int) -> float:
        config = ModelConfig(backbone="test_byobnet.r160_in1k", head="transformer")
        return float(gpu_hours.picture_flops(config, 64, num_labels).forward)

    # Second differences leave what grows with the square of the tokens: in each of three layers two
    # products of tokens x tokens by 4 heads of 1024, a multiplication and an addition each.
    second_difference = flops(40) - 2 * flops(30) + flops(20)
    assert second_difference == 2 * 10**2 * 3 * 2 * 2 * 4 * 1024


@pytest.fixture
def one_operation(gpu_hours: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network of all 20 labels takes 10 operations, a teacher 5; twice as many backward."""

    def count(model: ModelConfig, side: int, num_labels: int, shared_stages: int = 0) -> Flops:
        return Flops(10, 20) if num_labels == 20 else Flops(5, 10)

    monkeypatch.setattr(gpu_hours, "picture_flops", count)


@pytest.mark.usefixtures("one_operation")
def test_stages_count_what_a_run_does(gpu_hours: ModuleType) -> None:
    size = gpu_hours.Size(train=1000, validation=0, test=0, labels=20)
    config = RunConfig(training=TrainingConfig(epochs=10), teachers=TeachersConfig(epochs=4))
    # 700 to train on, 100 to validate raw and averaged weights, 200 to test.
    expected = {
        "baseline": 10 * (3 * 700 + 2 * 100) * 10,
        "teachers": 4 * (3 * 700 + 2 * 100) * 10 * 5,
        "soft labels": 10 * 700 * 10 * 5,
        "student": 10 * (3 * 700 + 2 * 100) * 10,
        "evaluation": 200 * (2 * 10 + 10 * 5),
    }
    assert gpu_hours.stage_flops(config, size) == pytest.approx(expected)
    fewer = replace(
        config,
        distillation=DistillationConfig(views=2),
        training=TrainingConfig(epochs=10, ema_decay=0),
    )
    changed = {"soft labels": 2 * 700 * 10 * 5, "baseline": 10 * (3 * 700 + 100) * 10}
    assert gpu_hours.stage_flops(fewer, size).items() >= changed.items()
    own_splits = gpu_hours.Size(train=1000, validation=50, test=30, labels=20)
    assert gpu_hours.stage_flops(config, own_splits)["baseline"] == 10 * (3 * 1000 + 2 * 50) * 10


def test_the_precision_of_a_recipe_has_a_speed(gpu_hours: ModuleType) -> None:
    for name in gpu_hours.recipes():
        config = run_config(parse(["run", "--config", name])[1])
        assert config.training.precision in gpu_hours.FLOPS_A_SECOND
        assert config.data.format in gpu_hours.SIZES
