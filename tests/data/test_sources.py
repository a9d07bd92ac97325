"""From the configuration to records: formats, unlabelled pictures, and what is said."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from cpsd.config import DataConfig
from cpsd.data.check import check_data
from cpsd.data.sources import case_twins, load_records, open_source, read_records
from cpsd.errors import ConfigError, DataError
from cpsd.labels import LabelSpace


def picture(path: Path, level: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (2, 2), level).save(path, "PNG")


def table(folder: Path, rows: list[str], header: str = "image,labels,split") -> DataConfig:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.csv").write_text("\n".join([header, *rows]))
    for i, row in enumerate(rows):
        name = row.split(",")[0]
        if not Path(name).is_absolute():
            picture(folder / name, i)
    return DataConfig(table=str(folder / "labels.csv"))


NAMED = ["a.png,x;y,train", "b.png,,train", "c.png,y,val", "d.png,x,test"]


def test_loads_a_table(tmp_path: Path) -> None:
    records, notices = load_records(table(tmp_path, NAMED), seed=0)
    assert records.splits == ("train", "train", "validation", "test")
    assert records.targets.tolist() == [[1, 1], [0, 0], [0, 1], [1, 0]]
    assert notices == [
        "1 of 4 pictures with known labels have no positive label; they are kept "
        "(data.without_positive drop leaves them out)."
    ]


def test_commas_between_labels_are_noticed(tmp_path: Path) -> None:
    rows = ['a.png,"x, y",train', "b.png,y,train", "c.png,x,val", "d.png,x,test"]
    config = table(tmp_path, rows)
    said = (
        "'x, y' is taken for one label, and no picture has two. If commas stand between labels, "
        "set data.separator to ','."
    )
    assert said in load_records(config, seed=0)[1]
    assert said in check_data(config, seed=0).notices
    records, notices = load_records(replace(config, separator=","), seed=0)
    assert records.labels.names == ("x", "y")
    assert said not in notices
    # Where a picture has two labels, the other mark is in use.
    other = table(tmp_path / "other", ['a.png,"x, y; z",train', *rows[1:]])
    assert not any("taken for one label" in notice for notice in load_records(other, seed=0)[1])


def test_a_limit_is_of_splits_that_are_drawn_first(tmp_path: Path) -> None:
    rows = [f"{i}.png,x" for i in range(20)]
    config = replace(table(tmp_path, rows, header="image,labels"), limit=3)
    records, notices = load_records(config, seed=0)
    assert [len(records.indices(name)) for name in ("train", "validation", "test")] == [3, 2, 3]
    assert "test: 3 of 4 pictures drawn with seed 0, because of data.limit." in notices
    drawn = load_records(replace(config, limit=None), seed=0)[0]
    for path, split in zip(records.paths, records.splits, strict=True):
        assert drawn.splits[drawn.paths.index(path)] == split


def test_pictures_without_positive_can_be_dropped(tmp_path: Path) -> None:
    config = replace(table(tmp_path, NAMED), without_positive="drop")
    records, notices = load_records(config, seed=0)
    assert records.paths == ("a.png", "c.png", "d.png")
    assert notices == [
        "1 of 4 pictures with known labels have no positive label; they are left out."
    ]
    _, notices = load_records(table(tmp_path / "full", [NAMED[0], *NAMED[2:]]), seed=0)
    assert notices == ["Every picture of which labels are known has a positive label."]
    with pytest.raises(DataError, match="leaves none"):
        load_records(
            replace(table(tmp_path / "none", ["a.png,0"], "image,x"), without_positive="drop"),
            seed=0,
        )


def test_labels_without_positive_in_train_are_said(tmp_path: Path) -> None:
    rows = ["a.png,x,train", "b.png,x;y,val", "c.png,x;y;z,test"]
    _, notices = load_records(table(tmp_path, rows), seed=0)
    assert notices[-1] == ("train: no picture has the label 'y', 'z', so it cannot be learned.")


def test_labels_that_differ_in_case_are_said(tmp_path: Path) -> None:
    rows = ["a.png,dog;Dog,train", "b.png,dog,val", "c.png,Dog,test"]
    _, notices = load_records(table(tmp_path, rows), seed=0)
    assert any("'Dog' and 'dog'" in notice for notice in notices)
    assert case_twins(LabelSpace(("a", "B"))) == []


def test_a_picture_in_two_rows_is_said(tmp_path: Path) -> None:
    _, notices = load_records(table(tmp_path, [*NAMED, "./a.png,x,train"]), seed=0)
    assert any(notice.startswith("1 rows name a picture that another") for notice in notices)


def test_all_missing_pictures_are_named(tmp_path: Path) -> None:
    config = table(tmp_path, NAMED)
    (tmp_path / "b.png").unlink()
    (tmp_path / "d.png").unlink()
    with pytest.raises(
        DataError, match=r"2 of 4 .*2 missing .*data\.root(.|\n)*--on-bad"
    ) as caught:
        load_records(config, seed=0)
    assert [line[:17] for line in str(caught.value).splitlines()[1:3]] == [
        "labels.csv, row 3",
        "labels.csv, row 5",
    ]


def test_absolute_paths_stand_for_themselves(tmp_path: Path) -> None:
    picture(tmp_path / "far" / "z.png")
    row = f"{(tmp_path / 'far' / 'z.png').as_posix()},x,train"
    records, _ = read_records(table(tmp_path / "near", [*NAMED, row]))
    assert records.image_path(4) == tmp_path / "far" / "z.png"


@pytest.mark.parametrize("folder", ["more", "data/more"])
def test_unlabelled_pictures_are_for_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    config = table(tmp_path / "data", NAMED)
    for name in ("2.png", "1.png", "sub/3.JPG"):
        picture(tmp_path / folder / name)
    monkeypatch.chdir(tmp_path)  # a relative folder is relative to where the command runs
    records, notices = load_records(replace(config, unlabelled=folder), seed=0)
    assert records.splits[4:] == ("train",) * 3
    assert (records.targets[4:] == -1).all()
    assert [records.image_path(i).name for i in (4, 5, 6)] == ["1.png", "2.png", "3.JPG"]
    assert all(records.image_path(i).is_file() for i in range(len(records)))
    assert f"train: 3 pictures without labels from {folder} were added." in notices


def test_unlabelled_pictures_that_are_in_the_data_are_not_taken_again(tmp_path: Path) -> None:
    config = table(tmp_path / "data", NAMED)
    picture(tmp_path / "data" / "new.png")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    for folder in ("data", "link"):
        records, notices = load_records(replace(config, unlabelled=str(tmp_path / folder)), seed=0)
        assert records.paths[4:] == ("new.png",)
        assert any("1 pictures without labels" in n and "4 there are" in n for n in notices)


def test_splits_are_drawn_with_the_seed(tmp_path: Path) -> None:
    rows = [f"{i}.png,{'x' if i % 2 else 'y'}" for i in range(40)]
    config = table(tmp_path, rows, "image,labels")
    first, notices = load_records(config, seed=1)
    assert first.splits == load_records(config, seed=1)[0].splits
    assert first.splits != load_records(config, seed=2)[0].splits
    assert sum("drawn from train with seed 1" in notice for notice in notices) == 2


def test_labels_of_a_model_may_be_asked_for(tmp_path: Path) -> None:
    config = table(tmp_path, NAMED)
    records, _ = read_records(config, labels=LabelSpace(("y", "w", "x")))
    assert records.targets.tolist() == [[1, 0, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1]]
    with pytest.raises(DataError, match=r"row 2: the label 'x' is not in the list"):
        read_records(config, labels=LabelSpace(("y",)))


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (DataConfig(), r"data\.table .* as in cpsd run labels\.csv\.$"),
        (DataConfig(format="coco"), r"data\.root .* say --data\.root FOLDER\.$"),
        (DataConfig(format="voc", table="x.csv"), "data.root"),
        (DataConfig(format="nus-wide"), "data.root"),
    ],
)
def test_nothing_to_read_is_refused(config: DataConfig, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        open_source(config)


@pytest.mark.parametrize("kind", ["coco", "voc", "nus-wide"])
def test_every_format_is_dispatched(tmp_path: Path, kind: str) -> None:
    config = DataConfig(root=str(tmp_path), format=kind)  # type: ignore[arg-type]
    with pytest.raises(
        DataError, match={"coco": "instances", "voc": "ImageSets"}.get(kind, "TrainTestLabels")
    ):
        open_source(config)


@pytest.mark.dataset
def test_loads_the_shared_photographs(shared: Path) -> None:
    config = DataConfig(table=str(shared / "data" / "mirflickr" / "labels.csv"), test_split="val")
    records, notices = load_records(config, seed=0)
    assert len(records) == 10_000
    assert len(records.indices("test")) == 1925
    assert any("170 of 10,000 pictures" in notice for notice in notices)
