"""`cpsd run` and `cpsd partition`, as they are typed: what is refused, and the parts shown."""

from pathlib import Path

import pytest

from cpsd.cli import main
from cpsd.partition import read_partition
from printed_errors import said


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("", "empty"),
        ("image,labels\n", "no row"),
        ("image,Labels\na.png,x\n", "'Labels'"),
        ("image,labels,split\ngone.png,x,train\nb.png,x,val\nc.png,x,test\n", "gone.png"),
    ],
)
def test_bad_tables_end_with_one_sentence(
    rows: str, message: str, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table.write_text(rows)
    assert main(["run", str(table), "--out", str(table.parent / "run")]) == 2
    error = said(capsys)
    assert message in error
    assert "labels.csv" in error
    assert "Traceback" not in error
    assert not (table.parent / "run").exists()


def test_more_parts_than_labels_is_refused(
    quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *quick, str(tmp_path / "run"), "--partition.parts", "30"]) == 2
    message = said(capsys)
    assert "30" in message
    assert "20" in message


def test_a_folder_of_the_users_is_not_taken_for_a_run(
    quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    assert main(["run", *quick, str(tmp_path)]) == 2
    assert "no run has written" in said(capsys)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_debug_shows_the_traceback(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(table.parent / "no.csv"), "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_partition_shows_which_labels_share_a_part(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cut"
    cut = [str(digits), "--config", "demo", "--partition.parts", "2", "--out", str(out)]
    assert main(["partition", *cut]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for strategy in ("co-occurrence", "dis-occurrence"):
        partition = read_partition(out / "partitions" / f"{strategy}.json")
        assert partition.normalized_cut is not None
        assert f"normalized cut {partition.normalized_cut:.4f}" in shown
        for index in range(2):
            first, second, *_ = partition.part_labels(index)
            assert f"{first}; {second};" in shown
    # A run that ends there has no student to evaluate or predict with.
    assert main(["predict", str(out), str(digits.parent / "images")]) == 2
    message = said(capsys)
    assert f"The run {out} has no student yet; go on with it (cpsd run)" in message
