"""NUS-WIDE folders, small ones written here."""

from pathlib import Path

import pytest

from cpsd.config import DataConfig
from cpsd.data.nuswide import read_nuswide
from cpsd.errors import DataError


def write(root: Path, *, published: bool = False) -> Path:
    labels = root / "Groundtruth" / "TrainTestLabels" if published else root / "TrainTestLabels"
    concepts = root / "ConceptsList" if published else root
    for folder in (labels, concepts, root / "ImageList"):
        folder.mkdir(parents=True, exist_ok=True)
    (concepts / "Concepts81.txt").write_text("sky\nairport\n")
    (root / "ImageList" / "TrainImagelist.txt").write_bytes(
        b"actor\\0001_21.jpg\r\nzebra\\0002_3.jpg\r\n"
    )
    (root / "ImageList" / "TestImagelist.txt").write_bytes(b"actor\\0003_5.jpg\r\n\r\n")
    (labels / "Labels_sky_Train.txt").write_text("1\n0\n")
    (labels / "Labels_airport_Train.txt").write_text("0 \n0\n")
    (labels / "Labels_sky_Test.txt").write_text("1\n")
    (labels / "Labels_airport_Test.txt").write_text("1\n")
    return root


@pytest.mark.parametrize("published", [False, True])
def test_reads_both_splits(tmp_path: Path, *, published: bool) -> None:
    write(tmp_path, published=published)
    records = read_nuswide(tmp_path, DataConfig())
    assert records.labels.names == ("airport", "sky")
    assert records.paths == ("actor/0001_21.jpg", "zebra/0002_3.jpg", "actor/0003_5.jpg")
    assert records.targets.tolist() == [[0, 1], [0, 0], [1, 1]]
    assert records.splits == ("train", "train", "test")
    assert records.origins[2] == "TestImagelist.txt, line 1"


@pytest.mark.parametrize("folder", ["Flickr", "images"])
def test_pictures_may_lie_in_a_folder_of_their_own(tmp_path: Path, folder: str) -> None:
    write(tmp_path)
    (tmp_path / folder).mkdir()
    assert read_nuswide(tmp_path, DataConfig()).paths[0] == f"{folder}/actor/0001_21.jpg"


def test_row_counts_that_differ_are_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "TrainTestLabels" / "Labels_sky_Train.txt").write_text("1\n0\n1\n")
    with pytest.raises(
        DataError, match=r"Labels_sky_Train\.txt has 3 rows, .*TrainImagelist\.txt names 2"
    ):
        read_nuswide(tmp_path, DataConfig())


def test_bad_values_are_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "TrainTestLabels" / "Labels_sky_Train.txt").write_text("1\nx\n")
    with pytest.raises(DataError, match=r"TrainImagelist\.txt, line 2: .*'sky'"):
        read_nuswide(tmp_path, DataConfig())


@pytest.mark.parametrize(
    "name",
    [
        "ImageList/TestImagelist.txt",
        "TrainTestLabels/Labels_airport_Test.txt",
    ],
)
def test_files_that_are_not_there_are_named(tmp_path: Path, name: str) -> None:
    (write(tmp_path) / name).unlink()
    with pytest.raises(DataError, match=Path(name).name.replace(".", r"\.")):
        read_nuswide(tmp_path, DataConfig())


def test_without_a_concept_list_the_label_files_name_the_labels(tmp_path: Path) -> None:
    whole = read_nuswide(write(tmp_path), DataConfig())
    (tmp_path / "Concepts81.txt").unlink()
    assert read_nuswide(tmp_path, DataConfig()).fingerprint() == whole.fingerprint()
    for file in (tmp_path / "TrainTestLabels").glob("*_Train.txt"):
        file.unlink()
    with pytest.raises(DataError, match=r"has no file Labels_<label>_Train\.txt"):
        read_nuswide(tmp_path, DataConfig())


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no folder .*set data\.root"):
        read_nuswide(tmp_path / "none", DataConfig())
