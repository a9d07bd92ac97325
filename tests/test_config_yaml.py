from dataclasses import replace
from pathlib import Path

import pytest

from cpsd.config import DataConfig, RunConfig
from cpsd.config_yaml import as_yaml, changed_settings


@pytest.fixture
def config() -> RunConfig:
    return RunConfig(data=DataConfig(table="labels.csv"))


def test_changed_settings_are_named_with_both_values(config: RunConfig, tmp_path: Path) -> None:
    kept = tmp_path / "config.yaml"
    kept.write_text(as_yaml(config))
    other = replace(
        config,
        seed=3,
        data=replace(config.data, separator=", ", limit=5),
        partition=replace(config.partition, strategies=("co-occurrence",)),
        machine=replace(config.machine, threads=1),
    )
    assert changed_settings(kept, as_yaml(config)) == []
    assert changed_settings(kept, as_yaml(other)) == [
        "data.limit is 5 and was null",
        "data.separator is ', ' and was ;",
        "partition.strategies is [co-occurrence] and was [co-occurrence, dis-occurrence]",
        "seed is 3 and was 0",
    ]


def test_a_value_is_told_whole_however_long(config: RunConfig, tmp_path: Path) -> None:
    kept, table = tmp_path / "config.yaml", "a folder of photographs, " * 10 + "labels.csv"
    kept.write_text(as_yaml(config))
    other = replace(config, data=replace(config.data, table=table))
    assert changed_settings(kept, as_yaml(other)) == [f"data.table is {table} and was labels.csv"]


def test_a_setting_of_another_release_is_named(config: RunConfig, tmp_path: Path) -> None:
    kept = tmp_path / "config.yaml"
    kept.write_text(as_yaml(config) + "older:\n  setting: 1\n")
    assert changed_settings(kept, as_yaml(config)) == ["older.setting is null and was 1"]


@pytest.mark.parametrize("content", [None, "", "{", "seed: [", "- 1\n", "!!python/object:os.x {}"])
def test_a_file_that_cannot_be_read_tells_nothing(
    config: RunConfig, tmp_path: Path, content: str | None
) -> None:
    kept = tmp_path / "config.yaml"
    if content is not None:
        kept.write_text(content)
    assert changed_settings(kept, as_yaml(config)) == []
