"""Bad pictures: all are told before anything starts, or left out without touching the others."""

import csv
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cpsd.config import DataConfig, ImageConfig
from cpsd.data import bad_pictures
from cpsd.data.bad_pictures import Decode, PictureCheck
from cpsd.data.kept_pixels import kept_pixels
from cpsd.data.pack_writing import write_pack
from cpsd.data.picture_dataset import PictureDataset, keeping_decoder
from cpsd.data.pixels import read_pixels
from cpsd.data.records import SKIPPED, Records, Skipped
from cpsd.data.sources import load_records
from cpsd.errors import DataError
from cpsd.fingerprints import data_fingerprint

SIZE = 8
SPLITS = ("train", "train", "train", "validation", "test", "test")


class Looking:
    """Decodes as a run does, and notes of which rows."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, records: Records) -> Decode:
        decode = keeping_decoder(SIZE, memory_share=0.1)(records)

        def noted(row: int) -> None:
            self.rows.append(row)
            decode(row)

        return noted


def cut_short(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    """A table of six pictures in a folder of its own."""
    folder = tmp_path / "data"
    folder.mkdir()
    rows = ["image,labels,split"]
    for i, split in enumerate(SPLITS):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        rows.append(f"{i}.png,x; y,{split}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return DataConfig(table=str(folder / "labels.csv"))


def skipping(config: DataConfig) -> DataConfig:
    return replace(config, on_bad_image="skip")


def load(config: DataConfig, check: PictureCheck | None = None) -> Records:
    return load_records(config, seed=0, check=check or PictureCheck(Looking()))[0]


def test_every_bad_picture_is_told_at_once(config: DataConfig, tmp_path: Path) -> None:
    data = tmp_path / "data"
    cut_short(data / "1.png")
    (data / "2.png").write_text("no picture")
    (data / "4.png").unlink()
    with pytest.raises(DataError) as caught:
        load(config)
    whole, *told, remedy = str(caught.value).splitlines()
    assert whole.startswith("3 of 6 pictures cannot be used: 1 missing (")
    assert [line.partition(": ")[0] for line in told] == [
        f"labels.csv, row {row}" for row in (3, 4, 6)
    ]
    for line, wrong in zip(told, ("ends too early", "is no picture", "is no picture"), strict=True):
        assert wrong in line or "There is no picture" in line
    assert "--on-bad-image skip" in remedy


def test_a_long_list_is_in_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "=data"
    folder.mkdir()
    (folder / "labels.csv").write_text(
        "image,labels,split\n" + "".join(f"=no{i},x,train\n" for i in range(40))
    )
    told_in = tmp_path / "run-bad-pictures.csv"
    with pytest.raises(DataError, match=r"And 20 more; .*run-bad-pictures\.csv has them all"):
        load(DataConfig(table=str(folder / "labels.csv")), PictureCheck(told_in=told_in))
    with told_in.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["row"] for row in rows] == [f"labels.csv, row {i}" for i in range(2, 42)]
    assert {row["kind"] for row in rows} == {"missing"}
    assert {row["split"] for row in rows} == {"train", "validation", "test"}
    assert rows[3]["picture"] == "'=no3"  # which no spreadsheet takes for a formula
    assert "no picture" in rows[3]["what is wrong"]
    assert "data.root" in rows[3]["what would do"]


def test_what_is_left_out_keeps_its_row_and_all_others_their_views(
    config: DataConfig, tmp_path: Path
) -> None:
    before = load(config)
    sound = data_fingerprint(before)
    cut_short(tmp_path / "data" / "1.png")
    (tmp_path / "data" / "4.png").unlink()
    records, notices = load_records(skipping(config), seed=0, check=PictureCheck(Looking()))
    assert records.splits == ("train", SKIPPED, "train", "validation", SKIPPED, "test")
    assert {row: entry[:2] for row, entry in records.skipped.items()} == {
        1: ("train", "truncated"),
        4: ("test", "missing"),
    }
    assert any("1 of train, 1 of test" in notice for notice in notices)
    image = ImageConfig(size=SIZE)
    for row in (0, 2, 3, 5):
        view, same = (PictureDataset(r, image, seed=0)[row, 2][0] for r in (before, records))
        assert torch.equal(view, same)
    assert data_fingerprint(records) != sound
    chosen = records.select([4, 5])
    assert chosen.skipped == {0: records.skipped[4]}


def test_splits_that_are_drawn_are_those_of_sound_data(tmp_path: Path) -> None:
    rows = [f"{i}.png,{'x' if i % 2 else 'y'}" for i in range(30)]
    for i in range(30):
        Image.new("L", (4, 4), i).save(tmp_path / f"{i}.png")
    (tmp_path / "labels.csv").write_text("\n".join(["image,labels", *rows]))
    config = DataConfig(table=str(tmp_path / "labels.csv"))
    before = load(config)
    (tmp_path / "7.png").write_bytes(b"")
    after = load(skipping(config))
    for row in range(30):
        assert after.splits[row] == (SKIPPED if row == 7 else before.splits[row])
    assert after.skipped[7].split == before.splits[7]


def test_nothing_is_learned_from_splits_that_are_empty_now(
    config: DataConfig, tmp_path: Path
) -> None:
    (tmp_path / "data" / "3.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"left in the split 'validation'(.|\n)*3\.png"):
        load(skipping(config))


def test_only_pictures_of_the_run_are_looked_at(config: DataConfig, tmp_path: Path) -> None:
    looking = Looking()
    few = load(replace(config, limit=1), PictureCheck(looking))
    assert len(looking.rows) == len(few) == 3


def test_two_rows_of_a_picture_are_one_look_and_two_faults(
    config: DataConfig, tmp_path: Path
) -> None:
    with (tmp_path / "data" / "labels.csv").open("a") as table:
        table.write("\n./0.png,x,train\n")
    looking = Looking()
    assert len(load(config, PictureCheck(looking))) == 7
    assert sorted(looking.rows) == [0, 1, 2, 3, 4, 5]
    cut_short(tmp_path / "data" / "0.png")
    assert sorted(load(skipping(config)).skipped) == [0, 6]


def test_what_was_decoded_is_kept_for_training(config: DataConfig, tmp_path: Path) -> None:
    cut_short(tmp_path / "data" / "1.png")
    records = load(skipping(config))
    kept = kept_pixels(records, SIZE, memory_share=0)
    assert kept is not None
    for row in range(6):
        pixels = kept.get(row)
        assert (pixels is None) == (row == 1)
        if pixels is not None:
            np.testing.assert_array_equal(pixels, read_pixels(records.image_path(row), SIZE))


def test_nothing_is_looked_at_twice(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = tmp_path / "run" / "pictures.npz"
    load(config, PictureCheck(Looking(), memory=memory))
    assert not memory.parent.exists()  # for so few it is not worth a file
    monkeypatch.setattr(bad_pictures, "WORTH_REMEMBERING", 1)
    for expected in ([0, 1, 2, 3, 4, 5], []):
        looking = Looking()
        load(config, PictureCheck(looking, memory=memory))
        assert sorted(looking.rows) == expected
    # Those that have changed are, and so are those that failed.
    cut_short(tmp_path / "data" / "1.png")
    os.utime(tmp_path / "data" / "2.png", (1, 1))
    for expected in ([1, 2], [1]):
        looking = Looking()
        with pytest.raises(DataError, match="1 of 6 pictures"):
            load(config, PictureCheck(looking, memory=memory))
        assert sorted(looking.rows) == expected


def test_what_was_left_out_stays_so_until_its_file_changes(
    config: DataConfig, tmp_path: Path
) -> None:
    memory, bad = tmp_path / "pictures.npz", tmp_path / "data" / "1.png"
    whole = bad.read_bytes()
    cut_short(bad)
    first = load(skipping(config), PictureCheck(Looking(), memory=memory))
    looking = Looking()
    again = load(skipping(config), PictureCheck(looking, memory=memory))
    assert looking.rows == []
    assert again.skipped == first.skipped
    # A look at the stages alone (--dry-run) believes what is remembered.
    assert load(skipping(config), PictureCheck(memory=memory)).skipped == first.skipped
    bad.write_bytes(whole)
    assert load(skipping(config), PictureCheck(Looking(), memory=memory)).skipped == {}


def test_a_damaged_memory_is_no_memory(config: DataConfig, tmp_path: Path) -> None:
    memory = tmp_path / "pictures.npz"
    load(skipping(config), PictureCheck(Looking(), memory=memory))
    whole = memory.read_bytes()
    for damaged in (b"", b"PK\x03\x04", whole[:-40], whole[:90] + b"\xff" + whole[91:]):
        memory.write_bytes(damaged)
        looking = Looking()
        load(config, PictureCheck(looking, memory=memory))
        assert len(looking.rows) == 6


def test_a_pack_needs_no_look(config: DataConfig, tmp_path: Path) -> None:
    pack, bad = tmp_path / "pack", tmp_path / "data" / "1.png"
    cut_short(bad)
    config = skipping(config)
    assert write_pack(pack, load(config), SIZE) == 5
    looking = Looking()
    packed = load(replace(config, pack=str(pack)), PictureCheck(looking))
    assert looking.rows == [1]
    assert list(packed.skipped) == [1]
    assert packed.packed is not None
    np.testing.assert_array_equal(packed.packed(5), read_pixels(tmp_path / "data" / "5.png", SIZE))


def link(folder: Path, outside: Path) -> str:
    (folder / "link.png").symlink_to(outside)
    return "link.png"


def linked_folder(folder: Path, outside: Path) -> str:
    (folder / "deep").symlink_to(outside.parent)
    return f"deep/{outside.name}"


OUTSIDE: dict[str, Callable[[Path, Path], str]] = {
    "absolute": lambda folder, outside: str(outside),
    "dots": lambda folder, outside: f"../{outside.name}",
    "dots inside": lambda folder, outside: f"sub/../../{outside.name}",
    "link": link,
    "linked folder": linked_folder,
}


@pytest.mark.parametrize("way", OUTSIDE)
def test_pictures_outside_the_root_are_never_opened(
    config: DataConfig, tmp_path: Path, way: str
) -> None:
    data, outside = tmp_path / "data", tmp_path / "secret.png"
    (data / "0.png").rename(outside)
    (data / "sub").mkdir()
    path = OUTSIDE[way](data, outside)
    table = data / "labels.csv"
    table.write_text(table.read_text().replace("0.png", path))
    looking = Looking()
    with pytest.raises(DataError, match=r"1 outside .*data\.outside_root(.|\n)*row 2: "):
        load(config, PictureCheck(looking))
    assert 0 not in looking.rows
    skipped = load(skipping(config)).skipped[0]
    assert skipped.kind == "outside"
    assert f"root, the folder '{data}'; move it there, or set data.outside_root" in skipped.detail
    # Whoever trusts the table says so.
    assert load(replace(config, outside_root="follow")).skipped == {}


def test_links_inside_the_root_and_a_root_that_is_one_are_followed(
    config: DataConfig, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    (data / "0.png").rename(data / "real.png")
    (data / "0.png").symlink_to("real.png")
    (tmp_path / "root").symlink_to(data)
    linked = replace(config, table=str(tmp_path / "root" / "labels.csv"))
    assert load(linked).skipped == {}
    absolute = (data / "labels.csv").read_text().replace("1.png", str(data / "1.png"))
    (data / "labels.csv").write_text(absolute)
    assert load(linked).skipped == {}


def test_what_is_no_file_is_not_waited_for(config: DataConfig, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("0.png", "1.png", "2.png"):
        (data / name).unlink()
    os.mkfifo(data / "0.png")  # opening it would wait for a writer
    (data / "1.png").symlink_to("1.png")
    (data / "2.png").mkdir()
    with pytest.raises(DataError) as caught:
        load(config)
    told = str(caught.value).splitlines()[1:4]
    assert "a folder or device" in told[0]
    assert "symbolic links" in told[1]
    assert "a folder or device" in told[2]


def test_a_name_that_is_too_long_is_a_fault(config: DataConfig, tmp_path: Path) -> None:
    table = tmp_path / "data" / "labels.csv"
    table.write_text(table.read_text().replace("0.png", "a" * 300 + ".png"))
    fault = load(skipping(config)).skipped[0]
    assert fault == Skipped("train", "unreadable", fault.detail)
    assert "too long" in fault.detail
