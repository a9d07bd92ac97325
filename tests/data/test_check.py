"""The data check: every planted fault is found, and nothing else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cpsd.config import DataConfig
from cpsd.data.check import CheckReport, SplitCounts, check_data
from cpsd.data.sources import load_records
from cpsd.errors import ConfigError


def picture(path: Path, seed: int, kind: str = "PNG") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 24, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path, kind)


def write(folder: Path, rows: list[str], header: str = "image,labels,split") -> DataConfig:
    """Write a table and a picture for each of its rows."""
    folder.mkdir(exist_ok=True)
    (folder / "labels.csv").write_text("\n".join([header, *rows, ""]))
    for i, name in enumerate(dict.fromkeys(row.split(",")[0] for row in rows if row[0] != ",")):
        picture(folder / name, i)
    return DataConfig(table=str(folder / "labels.csv"))


GOOD = [
    "a.png,x; y,train",
    "b.png,x,train",
    "c.png,x; y,val",
    "d.png,x; y,test",
    "e.png,?,train",
    "f.png,,test",
]


def found(report: CheckReport) -> set[tuple[str, str]]:
    return {(problem.kind, problem.origin) for problem in report.problems}


def test_sound_data_has_no_problems(tmp_path: Path) -> None:
    report = check_data(write(tmp_path, GOOD), seed=0)
    assert report.problems == ()
    assert report.labels == ("x", "y")
    assert (report.num_rows, report.num_without_picture) == (6, 0)
    assert report.counts == (
        SplitCounts("train", 3, 2, 0, 1, 0),
        SplitCounts("validation", 1, 1, 0, 0, 0),
        SplitCounts("test", 2, 1, 1, 0, 0),
    )
    assert any("1 of 5 pictures with known labels have no positive" in n for n in report.notices)


def test_every_kind_of_problem_is_found_at_its_row(tmp_path: Path) -> None:
    rows = [
        *GOOD,  # rows 2 to 7
        "missing.png,x,train",  # 8
        "cut.png,x,train",  # 9
        "text.png,x,train",  # 10
        "g.png,wolf,train",  # 11
        "a.png,x; y,train",  # 12: a duplicate
        "b.png,y,train",  # 13: a duplicate with other labels
        "h.png,x,test",  # 14: the same pixels as a.png, in train
        "i.png,x,trainn",  # 15
        ",x,train",  # 16
        "c.png,x; y,train",  # 17: in validation by row 4
        "j.png,x",  # 18
    ]
    listed = tmp_path / "list.txt"
    listed.write_text("x\ny\nz\n")
    config = replace(write(tmp_path, rows), label_list=str(listed))
    (tmp_path / "missing.png").unlink()
    cut = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(cut[: len(cut) // 2])
    (tmp_path / "text.png").write_text("no picture")
    picture(tmp_path / "h.png", 0, "BMP")
    report = check_data(config, seed=0)
    expected = {
        ("missing", 8),
        ("truncated", 9),
        ("unreadable", 10),
        ("label", 11),
        ("duplicate", 12),
        ("duplicate", 13),
        ("two splits", 14),
        ("split", 15),
        ("row", 16),
        ("two splits", 17),
        ("row", 18),
    }
    splits = {("no positive", f"split {s}") for s in ("train", "validation", "test", "trainn")}
    rows_found = found(report) - splits
    assert rows_found == {(kind, f"labels.csv, row {row}") for kind, row in expected}
    details = {problem.origin: problem.detail for problem in report.problems}
    assert "other labels" in details["labels.csv, row 13"]
    assert "other labels" not in details["labels.csv, row 12"]
    assert "a.png, in train (labels.csv, row 2)" in details["labels.csv, row 14"]
    assert details["split train"] == "no picture has the label 'z'."
    assert details["split trainn"] == "no picture has the labels 'y', 'z'."
    assert len(report.problems) == sum(report.kinds().values()) == 11 + 4
    # Every row is in the counts, or named no picture.
    assert report.num_rows == 17
    assert report.num_without_picture == 2
    assert sum(counts.pictures for counts in report.counts) == 15
    assert sum(counts.faulty for counts in report.counts) == 9
    for counts in report.counts:
        kinds = (counts.with_positive, counts.without_positive, counts.unlabelled)
        assert sum(kinds) == counts.pictures


def test_problems_stand_in_the_order_of_the_rows(tmp_path: Path) -> None:
    config = write(tmp_path, ["n.png,x,train", *GOOD, "m.png,x,trainn", "o.png,x,train"])
    for name in ("n.png", "o.png"):
        (tmp_path / name).unlink()
    origins = [problem.origin for problem in check_data(config, seed=0).problems]
    assert origins[:3] == [f"labels.csv, row {row}" for row in (2, 9, 10)]


def test_labels_that_differ_only_in_case(tmp_path: Path) -> None:
    config = write(tmp_path, ["a.png,dog; Dog,train", "b.png,dog; Dog,val", "c.png,dog; Dog,test"])
    report = check_data(config, seed=0)
    assert [problem.kind for problem in report.problems] == ["case"]
    assert "'Dog' and 'dog'" in report.problems[0].detail


def test_splits_are_those_that_a_run_would_draw(tmp_path: Path) -> None:
    config = write(tmp_path, [f"{i}.png,x{i % 2}" for i in range(60)], "image,labels")
    records, _ = load_records(config, seed=5)
    report = check_data(config, seed=5)
    assert report.problems == ()
    assert {c.split: c.pictures for c in report.counts} == {
        split: records.splits.count(split) for split in ("train", "validation", "test")
    }
    assert sum("drawn from train with seed 5" in notice for notice in report.notices) == 2


def test_dropped_pictures_are_counted_as_left_out(tmp_path: Path) -> None:
    report = check_data(replace(write(tmp_path, GOOD), without_positive="drop"), seed=0)
    assert report.counts[-1] == SplitCounts("left out", 1, 0, 1, 0, 0)
    assert sum(counts.pictures for counts in report.counts) == 6
    assert report.problems == ()


def test_unlabelled_pictures_are_checked_too(tmp_path: Path) -> None:
    config = write(tmp_path / "data", GOOD)
    picture(tmp_path / "more" / "new.png", 99)
    picture(tmp_path / "more" / "leak.png", 3)  # the pixels of d.png, in test
    (tmp_path / "more" / "bad.jpg").write_text("no picture")
    report = check_data(replace(config, unlabelled=str(tmp_path / "more")), seed=0)
    assert found(report) == {
        ("unreadable", "data.unlabelled, ../more/bad.jpg"),
        ("two splits", "data.unlabelled, ../more/leak.png"),
    }
    assert report.num_rows == 9
    assert report.counts[0] == SplitCounts("train", 6, 2, 0, 4, 2)
    report = check_data(replace(config, unlabelled=str(tmp_path / "none")), seed=0)
    assert [problem.kind for problem in report.problems] == ["source"]


@pytest.mark.parametrize(
    ("text", "named"),
    [("", "is empty"), ("image,labels\n", "no rows"), ("Image,labels\na.png,x\n", "'Image'")],
)
def test_a_table_that_cannot_be_read_is_the_one_problem(
    tmp_path: Path, text: str, named: str
) -> None:
    (tmp_path / "labels.csv").write_text(text)
    report = check_data(DataConfig(table=str(tmp_path / "labels.csv")), seed=0)
    assert [problem.kind for problem in report.problems] == ["source"]
    assert named in report.problems[0].detail
    assert report.counts == ()


def test_rows_that_are_all_bad_are_accounted_for(tmp_path: Path) -> None:
    config = write(tmp_path, [",x,train", ",y,test"])
    report = check_data(config, seed=0)
    assert [problem.origin for problem in report.problems] == [
        "labels.csv, row 2",
        "labels.csv, row 3",
    ]
    assert (report.num_rows, report.num_without_picture) == (2, 2)


def test_splits_that_cannot_be_drawn_are_a_problem(tmp_path: Path) -> None:
    report = check_data(write(tmp_path, ["a.png,x", "b.png,x"], "image,labels"), seed=0)
    assert [problem.kind for problem in report.problems] == ["source"]
    assert "too few" in report.problems[0].detail
    config = replace(write(tmp_path / "named", GOOD), test_split="night")
    report = check_data(config, seed=0)
    assert [problem.kind for problem in report.problems] == ["source"]
    assert "'night'" in report.problems[0].detail


def test_data_without_train_is_a_problem(tmp_path: Path) -> None:
    report = check_data(write(tmp_path, ["a.png,x,val", "b.png,x,test"]), seed=0)
    assert "no picture is in the split train" in report.problems[0].detail


def test_settings_that_name_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.table"):
        check_data(DataConfig(), seed=0)


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    check_data(write(tmp_path, GOOD), seed=0, progress=lambda *done: told.append(done))
    assert told == [(done, 6) for done in range(1, 7)]
