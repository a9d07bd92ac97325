"""Made-up data: each format's reader finds in it what the digits have."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from cpsd.config import DataConfig, DataFormat
from cpsd.data.digits import LABELS
from cpsd.data.pixels import read_pixels
from cpsd.data.records import TEST, Records
from cpsd.data.smoke_data import SIZES, write_smoke_data
from cpsd.data.sources import load_records
from cpsd.errors import DataError

FORMATS: tuple[DataFormat, ...] = get_args(DataFormat)
NAMED_TEST = {"coco": "val"}


def made(
    folder: Path, data_format: DataFormat, *, year: int | None = None, limit: int | None = None
) -> tuple[DataConfig, Records]:
    test_split = NAMED_TEST.get(data_format)
    wanted = DataConfig(format=data_format, test_split=test_split, year=year, limit=limit)
    config = write_smoke_data(folder, wanted)
    return config, load_records(config, seed=0)[0]


def labels_by_picture(records: Records) -> dict[str, set[str]]:
    return {
        Path(path).name: {name for name, value in zip(records.labels, row, strict=True) if value}
        for path, row in zip(records.paths, records.targets, strict=True)
    }


@pytest.mark.parametrize("data_format", FORMATS)
def test_every_format_holds_the_same_pictures(tmp_path: Path, data_format: DataFormat) -> None:
    _, table = made(tmp_path / "table", "table")
    _, records = made(tmp_path / "other", data_format)
    assert labels_by_picture(records) == labels_by_picture(table)
    assert set(records.labels) <= set(LABELS)
    assert len(records) == sum(SIZES.values())
    tests = {Path(records.paths[row]).name for row in records.indices(TEST)}
    assert tests == {Path(table.paths[row]).name for row in table.indices(TEST)}
    for row in range(len(records)):
        same = table.paths.index(f"images/{Path(records.paths[row]).name}")
        there, here = table.image_path(same), records.image_path(row)
        assert here.read_bytes() == there.read_bytes()
    assert read_pixels(records.image_path(0), 64).shape == (64, 64, 3)


def test_year_and_settings_of_the_data_are_taken_over(tmp_path: Path) -> None:
    config, _ = made(tmp_path / "coco", "coco", year=2017, limit=5)
    assert (config.year, config.limit, config.test_split) == (2017, 5, "val")
    assert (tmp_path / "coco/annotations/instances_train2017.json").is_file()
    config, _ = made(tmp_path / "voc", "voc", year=2012)
    assert (tmp_path / "voc/VOC2012/JPEGImages").is_dir()
    own = DataConfig(
        table="gone.csv", image_column="file", separator="|", label_list="l.txt", unlabelled="more",
        test_split="my test",
    )  # fmt: skip
    config = write_smoke_data(tmp_path / "table", own)
    assert config == DataConfig(
        table=str(tmp_path / "table/labels.csv"), root=str(tmp_path / "table")
    )


def test_a_folder_of_its_own_is_written_again_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    _, first = made(folder, "nus-wide")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (folder / "Concepts81.txt").unlink()
    _, second = made(folder, "nus-wide")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert first.paths == second.paths
    np.testing.assert_array_equal(first.targets, second.targets)
    made(folder, "coco")
    assert not (folder / "Concepts81.txt").exists()


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="holds other files"):
        write_smoke_data(tmp_path, DataConfig())
    with pytest.raises(DataError, match="holds other files"):
        write_smoke_data(tmp_path / "notes.txt", DataConfig())
    assert (tmp_path / "notes.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    write_smoke_data(tmp_path / "empty", DataConfig())
