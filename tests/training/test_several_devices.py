"""Two devices come to what one comes to: two processes with gloo, held against one without."""

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import several_devices
import tiny
from cpsd.data.loading import EpochSampler
from cpsd.data.records import Records
from cpsd.errors import ConfigError
from cpsd.machine_config import TrainerConfig
from cpsd.method import fit
from cpsd.process_group import joined
from cpsd.shares import Share


@pytest.fixture(scope="module")
def trained_by_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of all scenarios, trained by two processes."""
    folder = tmp_path_factory.mktemp("two")
    started = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    result = subprocess.run(
        [sys.executable, *started, several_devices.__file__, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return folder


def metrics(file: Path) -> list[dict[str, float]]:
    with file.open() as lines:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(lines)]


@pytest.mark.parametrize("scenario", several_devices.SCENARIOS)
def test_two_devices_train_as_one(
    scenario: str, trained_by_two: Path, records: Records, tmp_path: Path
) -> None:
    fewer = several_devices.fewer(records)
    alone, expected = several_devices.train(
        scenario, fewer, tmp_path / "one", tmp_path / "last.ckpt", TrainerConfig()
    )
    first, second = (trained_by_two / scenario / rank for rank in "01")
    weights = torch.load(first / "weights.pt", weights_only=True)
    tiny.assert_close(weights, expected, atol=1e-5)
    tiny.assert_same(weights, torch.load(second / "weights.pt", weights_only=True))
    best = torch.load(first / "best.pt", weights_only=True)
    assert best == [(one.epoch, one.weights, one.score) for one in alone.best]
    for file in (tmp_path / "one").rglob("metrics.csv"):
        of_two, of_one = (
            metrics(folder / file.relative_to(tmp_path / "one"))
            for folder in (first, tmp_path / "one")
        )
        assert len(of_one) == 3
        for row, other in zip(of_one, of_two, strict=True):
            for key, value in row.items():
                if key.startswith("validation"):
                    assert other[key] == value, "each picture counts once"
                else:
                    np.testing.assert_allclose(other[key], value, rtol=2e-5, err_msg=key)


def test_both_devices_cost_is_on_record(
    trained_by_two: Path, records: Records, tmp_path: Path
) -> None:
    fewer = several_devices.fewer(records)
    alone, _ = several_devices.train(
        "resumed", fewer, tmp_path / "one", tmp_path / "last.ckpt", TrainerConfig()
    )
    cost = torch.load(trained_by_two / "resumed" / "0" / "cost.pt", weights_only=True)
    assert cost["images_backward"] == alone.cost.images_backward == 3 * 23
    assert alone.cost.flops_backward == cost["flops_backward"]
    # One of the nine validation pictures is put in twice, for the raw and for the averaged network.
    assert cost["images_forward"] == alone.cost.images_forward + 3 * 2


@pytest.mark.parametrize("of", [1, 2, 3])
@pytest.mark.parametrize("num_rows", [6, 7, 11, 12, 13, 14, 15, 17, 18])
def test_devices_share_the_batches_of_one(num_rows: int, of: int) -> None:
    def batches(share: Share) -> list[list[int]]:
        sampler = EpochSampler(range(num_rows), seed=4, num_views=None, batch_size=6, share=share)
        sampler.set_epoch(2)
        rows = [row for row, view in sampler if view == 2]
        assert len(rows) == len(sampler)
        size = 6 // share.of
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    whole = batches(Share())
    shares = [batches(Share(index, of=of)) for index in range(of)]
    assert len({len(share) for share in shares}) == 1, "as many steps on each device"
    for batch, parts in zip(whole, zip(*shares, strict=True), strict=False):
        assert sorted(batch) == sorted(row for part in parts for row in part)
        assert all(parts), "no device is without a picture"
    left = num_rows - sum(len(batch) for share in shares for batch in share)
    assert left in (0, num_rows % 6)
    assert left < max(2, of)


def test_what_several_devices_cannot_do_is_said(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = TrainerConfig(devices=2, num_nodes=2)
    assert several.num_devices == 4
    with pytest.raises(ConfigError, match=r"2 x 2.* has not joined any other"):
        fit(tiny.network(), records, replace(tiny.settings(), trainer=several))
    with (
        pytest.raises(ConfigError, match="2 x 2, but 1 process was started; start 4"),
        joined(several, on_cpu=True),
    ):
        pass
    for name, value in (("WORLD_SIZE", "3"), ("RANK", "0"), ("TORCHELASTIC_RUN_ID", "here")):
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(ConfigError, match="2 x 2, but 3 processes were started"),
        joined(several, on_cpu=True),
    ):
        pass
    with pytest.raises(ConfigError, match=r"trainer\.devices is 0; it must be at least 1"):
        TrainerConfig(devices=0)
