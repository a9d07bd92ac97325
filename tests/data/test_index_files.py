"""Index files of folder data sets: links out of the data set are refused before they are opened."""

import os
from pathlib import Path

import pytest

from cpsd.config import DataConfig, DataFormat
from cpsd.data.rows import gather
from cpsd.data.smoke_data import write_smoke_data
from cpsd.data.sources import open_source
from cpsd.errors import DataError

FILES: list[tuple[DataFormat, str]] = [
    ("coco", "annotations/instances_train2014.json"),
    ("coco", "annotations"),
    ("voc", "ImageSets/Main/train.txt"),
    ("voc", "ImageSets"),
    ("voc", "Annotations"),
    ("nus-wide", "ImageList/TrainImagelist.txt"),
    ("nus-wide", "Concepts81.txt"),
    ("nus-wide", "TrainTestLabels"),
]


def problems(config: DataConfig) -> list[str]:
    """Return what is wrong with a data set; none where it is read whole."""
    try:
        return [problem.detail for problem in gather(open_source(config)).problems]
    except DataError as error:
        return [str(error)]


def linked(tmp_path: Path, data_format: DataFormat, file: str) -> tuple[DataConfig, Path]:
    """Write a data set of which a link out of it is a part; return how it is read, and the link."""
    year = 2014 if data_format == "coco" else None
    config = write_smoke_data(tmp_path / "data", DataConfig(format=data_format, year=year))
    assert problems(config) == []
    (place,) = (tmp_path / "data").rglob(file)
    elsewhere = tmp_path / "elsewhere" / place.name
    elsewhere.parent.mkdir()
    place.rename(elsewhere)
    place.symlink_to(elsewhere)
    return config, place


@pytest.mark.parametrize(("data_format", "file"), FILES)
def test_links_out_of_the_data_root_are_refused(
    tmp_path: Path, data_format: DataFormat, file: str
) -> None:
    config, place = linked(tmp_path, data_format, file)
    found = problems(config)
    assert found
    assert all("a link that leads out of the data root" in problem for problem in found)
    assert all("set data.outside_root to 'follow'" in problem for problem in found)
    assert str(place) in found[0]


@pytest.mark.parametrize(("data_format", "file"), FILES)
def test_they_are_followed_where_the_user_says_so(
    tmp_path: Path, data_format: DataFormat, file: str
) -> None:
    config, _ = linked(tmp_path, data_format, file)
    assert problems(DataConfig(**{**vars(config), "outside_root": "follow"})) == []


@pytest.mark.parametrize("data_format", ["coco", "voc", "nus-wide"])
def test_the_root_may_be_a_link_and_links_may_stay_inside(
    tmp_path: Path, data_format: DataFormat
) -> None:
    config, place = linked(tmp_path, data_format, next(f for k, f in FILES if k == data_format))
    inside = place.with_name("kept-" + place.name)
    (tmp_path / "elsewhere" / place.name).rename(inside)
    place.unlink()
    place.symlink_to(inside.name)
    root = Path(str(config.root))
    (tmp_path / "link").symlink_to(root)
    assert problems(DataConfig(**{**vars(config), "root": str(tmp_path / "link")})) == []


def test_a_table_that_is_a_link_is_read_for_the_user_named_it(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.csv").write_text("image,labels\na.jpg,cat\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "labels.csv").symlink_to(tmp_path / "elsewhere.csv")
    assert problems(DataConfig(table=str(tmp_path / "data" / "labels.csv"))) == []


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    config = write_smoke_data(tmp_path / "data", DataConfig(format="nus-wide"))
    (place,) = (tmp_path / "data").rglob("TestImagelist.txt")
    place.unlink()
    os.mkfifo(place)
    assert problems(config) == [f"{place} is a pipe or device, not a file."]
