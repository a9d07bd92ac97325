"""COCO folders, small ones written here."""

import json
from pathlib import Path
from typing import Any

import pytest

from cpsd.config import DataConfig
from cpsd.data.coco import coco_source, read_coco
from cpsd.data.rows import gather
from cpsd.errors import DataError

CATEGORIES = [{"id": 90, "name": "zebra"}, {"id": 2, "name": "ant"}]


def box(image: int, category: int, *, crowd: int = 0) -> dict[str, Any]:
    return {
        "id": image * 100 + category,
        "image_id": image,
        "category_id": category,
        "iscrowd": crowd,
        "segmentation": [[0.0, 1.0, 2.0, 3.0]],
    }


def write(root: Path, name: str, content: object) -> Path:
    path = root / "annotations" / f"instances_{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def instances(*annotations: dict[str, Any], images: tuple[int, ...] = (1, 2)) -> dict[str, Any]:
    return {
        "info": {"year": 2014},
        "images": [{"id": i, "file_name": f"{i:03d}.jpg", "height": 5} for i in images],
        "annotations": list(annotations),
        "categories": CATEGORIES,
    }


def test_reads_both_splits(tmp_path: Path) -> None:
    write(tmp_path, "train2014", instances(box(2, 90), box(2, 90), box(2, 2, crowd=1)))
    write(tmp_path, "val2014", instances(box(7, 2), images=(7,)))
    records = read_coco(tmp_path, DataConfig())
    assert records.labels.names == ("ant", "zebra")
    assert records.paths == ("train2014/001.jpg", "train2014/002.jpg", "val2014/007.jpg")
    # The first picture has no annotation and stays; the second has a crowd of ants.
    assert records.targets.tolist() == [[0, 0], [1, 1], [1, 0]]
    assert records.splits == ("train", "train", "val")
    assert records.origins[2] == "instances_val2014.json, image 1"


def test_the_year_is_found_or_asked_for(tmp_path: Path) -> None:
    write(tmp_path, "val2017", instances(box(1, 2)))
    (tmp_path / "images" / "val2017").mkdir(parents=True)
    assert read_coco(tmp_path, DataConfig()).paths[0] == "images/val2017/001.jpg"
    with pytest.raises(DataError, match=r"no annotations/instances_train2014\.json.*2017"):
        read_coco(tmp_path, DataConfig(year=2014))
    write(tmp_path, "train2014", instances(box(1, 2)))
    with pytest.raises(DataError, match=r"2014 and 2017; set data\.year"):
        read_coco(tmp_path, DataConfig())
    assert read_coco(tmp_path, DataConfig(year=2014)).splits == ("train", "train")


def test_label_list_orders_the_labels(tmp_path: Path) -> None:
    write(tmp_path, "train2014", instances(box(1, 2)))
    listed = tmp_path / "list.txt"
    listed.write_text("zebra\nant\n")
    records = read_coco(tmp_path, DataConfig(label_list=str(listed)))
    assert records.labels.names == ("zebra", "ant")
    assert records.targets.tolist() == [[0, 1], [0, 0]]
    listed.write_text("zebra\n")
    with pytest.raises(DataError, match="'ant' is not in the list"):
        read_coco(tmp_path, DataConfig(label_list=str(listed)))


def test_folders_that_are_not_coco_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no folder"):
        read_coco(tmp_path / "none", DataConfig())
    with pytest.raises(DataError, match=r"no annotations/instances_train2014\.json"):
        read_coco(tmp_path, DataConfig())
    path = write(tmp_path, "train2014", [1, 2])
    with pytest.raises(DataError, match=r"instances_train2014\.json has no list 'images'"):
        read_coco(tmp_path, DataConfig())
    path.write_text(json.dumps(instances())[:-30])
    with pytest.raises(DataError, match=r"instances_train2014\.json is not JSON"):
        read_coco(tmp_path, DataConfig())
    write(tmp_path, "train2014", {**instances(), "categories": [{"id": 1}]})
    with pytest.raises(DataError, match="category 1 needs"):
        read_coco(tmp_path, DataConfig())
    write(tmp_path, "train2014", instances())
    write(tmp_path, "val2014", {**instances(), "categories": CATEGORIES[:1]})
    with pytest.raises(DataError, match="do not have the same categories"):
        read_coco(tmp_path, DataConfig())


def test_every_bad_entry_is_accounted_for(tmp_path: Path) -> None:
    content = instances(box(1, 2), box(5, 2), box(1, 3))
    content["images"] += [{"id": 1, "file_name": "again.jpg"}, {"id": 3}]
    write(tmp_path, "train2014", content)
    gathered = gather(coco_source(tmp_path, DataConfig()))
    assert [p.origin.split(", ")[1] for p in gathered.problems] == [
        "image 3",
        "annotation 2",
        "annotation 3",
        "image 4",
    ]
    assert gathered.records is not None
    assert gathered.records.targets.tolist() == [[1, 0], [0, 0]]
    with pytest.raises(DataError, match="And 3 more"):
        read_coco(tmp_path, DataConfig())
