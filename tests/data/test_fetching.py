"""Data at addresses: the same records, pictures and messages as of data on this machine."""

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cpsd.addresses import local_place
from cpsd.cli import main
from cpsd.config import DataConfig, ImageConfig
from cpsd.data.loading import training_loader
from cpsd.data.smoke_data import write_smoke_data
from cpsd.data.sources import load_records
from cpsd.errors import AddressError, DataError
from cpsd.fingerprints import data_fingerprint

TABLE = "s3://pictures/digits/labels.csv"


Rows = list[list[str]]


def table_of(rows: Rows) -> bytes:
    return "\n".join(",".join(row) for row in [["image", "labels"], *rows, []]).encode()


def rows_of(table: Path) -> Rows:
    with table.open(newline="", encoding="utf-8") as file:
        return [[row["image"], row["labels"]] for row in csv.DictReader(file)]


@pytest.fixture
def few(digits: Path, tmp_path: Path) -> Path:
    """The table of the first 24 pictures of the small edition."""
    rows, table = rows_of(digits)[:24], tmp_path / "few" / "labels.csv"
    for image, _ in rows:
        (table.parent / image).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(digits.parent / image, table.parent / image)
    table.write_bytes(table_of(rows))
    return table


@pytest.fixture
def uploaded(s3: Any, few: Path) -> Any:
    s3.put(f"{few.parent}/", "pictures/digits/", recursive=True)
    return s3


def test_records_and_batches_are_those_of_the_same_data_here(uploaded: Any, few: Path) -> None:
    here, _ = load_records(DataConfig(table=str(few)), seed=0)
    there, _ = load_records(DataConfig(table=TABLE), seed=0)
    assert there.fingerprint() == here.fingerprint()
    assert data_fingerprint(there) == data_fingerprint(here)
    batches = []
    for records in (here, there):
        loader = training_loader(
            records,
            records.indices("train"),
            ImageConfig(size=16),
            batch_size=8,
            seed=1,
            num_views=None,
            workers=2,
        )
        batches.append([batch.images for batch in loader])
        loader.close()
    assert len(batches[0]) > 1
    for first, second in zip(*batches, strict=True):
        assert torch.equal(first, second)


def test_a_picture_that_is_not_there_is_named_with_its_row_and_address(
    uploaded: Any, few: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = rows_of(few)[4][0]
    uploaded.rm_file(f"pictures/digits/{picture}")
    with pytest.raises(DataError) as told:
        load_records(DataConfig(table=TABLE), seed=0)
    expected = f"labels.csv, row 6: There is no picture s3://pictures/digits/{picture}"
    assert expected in str(told.value)
    assert main(["data", "check", TABLE]) == 1
    assert f"There is no picture s3://pictures/digits/{picture}" in capsys.readouterr().out


def test_no_name_leads_out_of_the_root(uploaded: Any, few: Path, tmp_path: Path) -> None:
    outside = [
        "../elsewhere/x.png",
        "s3://other/x.png",
        "s3://pictures/digits/../elsewhere/x.png",
        "http://127.0.0.1:1/x.png",
        "/etc/hostname",
    ]
    uploaded.pipe_file("pictures/elsewhere/x.png", b"secret")
    rows = [*rows_of(few), *([name, "1"] for name in outside)]
    uploaded.pipe_file("pictures/digits/labels.csv", table_of(rows))
    with pytest.raises(DataError, match=f"{len(outside)} outside") as told:
        load_records(DataConfig(table=TABLE, validation_fraction=0, test_fraction=0), seed=0)
    assert "row 27: The picture s3://other/x.png lies outside the data root" in str(told.value)
    assert "The picture s3://pictures/digits/../elsewhere/x.png lies" in str(told.value)
    assert not [path for path in (tmp_path / "copies").rglob("x.png") if path.is_file()]
    uploaded.pipe_file("pictures/digits/labels.csv", table_of([*rows_of(few), ["s3://", "1"]]))
    with pytest.raises(DataError, match="row 26: s3:// names no bucket"):
        load_records(DataConfig(table=TABLE), seed=0)


def test_pictures_may_be_named_by_their_addresses(uploaded: Any, few: Path) -> None:
    rows = [[f"s3://pictures/digits/{image}", labels] for image, labels in rows_of(few)]
    uploaded.pipe_file("pictures/digits/labels.csv", table_of(rows))
    here, _ = load_records(DataConfig(table=TABLE), seed=0)
    assert here.image_path(0).is_file()
    # From a table on this machine too, if the root is where they lie.
    table = local_place(TABLE)
    shutil.copy(table, table.with_name("own.csv"))
    own = DataConfig(table=str(table.with_name("own.csv")))
    there, _ = load_records(DataConfig(table=own.table, root="s3://pictures/digits/"), seed=0)
    assert there.fingerprint() == here.fingerprint()


def test_pictures_without_labels_come_from_a_folder_at_an_address(uploaded: Any, few: Path) -> None:
    data = (few.parent / rows_of(few)[0][0]).read_bytes()
    for i in range(3):
        uploaded.pipe_file(f"pictures/more/{i}.png", data)
    uploaded.pipe_file("pictures/more/notes.txt", b"none")
    config = DataConfig(table=str(few), unlabelled="s3://pictures/more")
    records, notices = load_records(config, seed=0)
    assert "3 pictures without labels from" in " ".join(notices)
    uploaded.rm_file("pictures/more/1.png")
    fewer, _ = load_records(config, seed=0)
    assert len(fewer) == len(records) - 1


@pytest.mark.parametrize("kind", ["coco", "voc", "nus-wide"])
def test_every_format_is_read_from_an_address(kind: Any, s3: Any, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    config = write_smoke_data(folder, DataConfig(format=kind))
    s3.put(f"{config.root}/", "pictures/set/", recursive=True)
    here, _ = load_records(config, seed=0)
    there, _ = load_records(DataConfig(**{**vars(config), "root": "s3://pictures/set"}), seed=0)
    assert data_fingerprint(there) == data_fingerprint(here)
    np.testing.assert_array_equal(there.targets, here.targets)


def test_what_is_not_there_is_said(s3: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for table in ("s3://pictures/none.csv", "s3://nobucket/none.csv"):
        with pytest.raises(DataError, match=f"There is no file at {table}"):
            load_records(DataConfig(table=table), seed=0)
    with pytest.raises(DataError, match="There is nothing at s3://nobucket/coco"):
        load_records(DataConfig(format="coco", root="s3://nobucket/coco"), seed=0)
    with pytest.raises(AddressError, match=r"data\.pack is s3://pictures/pack"):
        load_records(DataConfig(table=TABLE, pack="s3://pictures/pack"), seed=0)
    with pytest.raises(AddressError, match="names no bucket"):
        load_records(DataConfig(table="s3:///labels.csv"), seed=0)
    assert main(["data", "check", "unknown://x/labels.csv"]) == 2
    assert "no such protocol" in capsys.readouterr().err


def test_a_file_address_is_an_ordinary_path(few: Path) -> None:
    here, _ = load_records(DataConfig(table=str(few)), seed=0)
    there, _ = load_records(DataConfig(table=f"file://{few}"), seed=0)
    assert there.root == here.root
    assert there.fingerprint() == here.fingerprint()


def test_a_pack_is_made_of_pictures_at_an_address(
    uploaded: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack = str(tmp_path / "pack")
    assert main(["data", "pack", TABLE, "--image.size", "16", "--out", pack]) == 0
    assert "24 pictures were packed" in capsys.readouterr().out
    records, _ = load_records(DataConfig(table=TABLE, pack=pack), seed=0)
    assert records.packed is not None
