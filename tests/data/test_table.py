"""Tables: what the readers make of every way to write labels, and what they refuse."""

import csv
import json
from pathlib import Path

import pytest

from cpsd.config import DataConfig
from cpsd.data.records import Records
from cpsd.data.rows import gather
from cpsd.data.table import read_table, table_source
from cpsd.errors import DataError

CONFIG = DataConfig()


def written(folder: Path, text: str | bytes, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def as_dict(records: Records) -> dict[str, dict[str, int]]:
    return {
        path: dict(zip(records.labels, map(int, targets), strict=True))
        for path, targets in zip(records.paths, records.targets, strict=True)
    }


def test_labels_by_name(tmp_path: Path) -> None:
    path = written(
        tmp_path, "image,labels,split\na.jpg,dog;  cat ,train\nsub\\b.jpg,,val\nc.jpg,dog;,\n"
    )
    records = read_table(path, CONFIG)
    assert records.labels.names == ("cat", "dog")
    assert records.paths == ("a.jpg", "sub/b.jpg", "c.jpg")
    assert records.targets.tolist() == [[1, 1], [0, 0], [0, 1]]
    assert records.targets.dtype == "int8"
    assert records.splits == ("train", "val", "")
    assert records.root == tmp_path
    assert records.origins == ("labels.csv, row 2", "labels.csv, row 3", "labels.csv, row 4")


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffimage,labels\na.jpg,x\n",  # byte order mark
        "image,labels\r\na.jpg,x\r\n",  # Windows
        "image,labels\na.jpg,x",  # no newline at the end
        '"image","labels"\n"a.jpg","x"\n',  # quotes
        "image, labels\n a.jpg , x \n",  # spaces after commas
        "\nimage,labels\n\na.jpg,x\n,\n",  # blank rows
    ],
)
def test_ways_to_write_a_csv(tmp_path: Path, text: str) -> None:
    assert as_dict(read_table(written(tmp_path, text), CONFIG)) == {"a.jpg": {"x": 1}}


def test_quoted_commas_and_newlines_stay_in_their_cell(tmp_path: Path) -> None:
    path = written(tmp_path, 'image,labels\n"a, b.jpg","x, y; two\nlines"\nc.jpg,z\n')
    records = read_table(path, CONFIG)
    assert records.paths == ("a, b.jpg", "c.jpg")
    assert records.labels.names == ("two\nlines", "x, y", "z")
    assert records.origins[1] == "labels.csv, row 3"


def test_tab_separated_by_extension(tmp_path: Path) -> None:
    path = written(tmp_path, "image\tlabels\na,b.jpg\tx; y\n", "labels.TSV")
    assert as_dict(read_table(path, CONFIG)) == {"a,b.jpg": {"x": 1, "y": 1}}


def test_chosen_columns_separator_and_root(tmp_path: Path) -> None:
    path = written(tmp_path, "file,tags,part\na.jpg,x|y,test\n")
    config = DataConfig(
        root="elsewhere",
        image_column="file",
        labels_column="tags",
        split_column="part",
        separator="|",
    )
    records = read_table(path, config)
    assert records.image_path(0) == Path("elsewhere/a.jpg")
    assert records.targets.tolist() == [[1, 1]]
    assert records.splits == ("test",)


def test_one_column_a_label_with_every_value(tmp_path: Path) -> None:
    values = {
        **dict.fromkeys(["1", "1.0", "true", "TRUE", "Yes", "present"], 1),
        **dict.fromkeys(["0", "0.0", "false", "no", "Absent"], 0),
        **dict.fromkeys(["-1", "-1.0", "?", "unknown", ""], -1),
    }
    rows = [f"{i}.jpg,{value},1" for i, value in enumerate(values)]
    path = written(tmp_path, "\n".join(["image,zebra,ant", *rows]))
    records = read_table(path, CONFIG)
    assert records.labels.names == ("ant", "zebra")
    assert records.targets[:, 1].tolist() == list(values.values())
    assert (records.targets[:, 0] == 1).all()


def test_a_label_column_without_positives_is_still_a_label(tmp_path: Path) -> None:
    records = read_table(written(tmp_path, "image,a,b\nx.jpg,1,0\n"), CONFIG)
    assert records.labels.names == ("a", "b")
    assert records.targets.tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("labels", "unknown", "expected"),
    [
        ("cat", "", {"ant": 0, "cat": 1, "dog": 0}),
        ("cat", "dog", {"ant": 0, "cat": 1, "dog": -1}),
        ("cat", "*", {"ant": -1, "cat": 1, "dog": -1}),
        ("", "*", {"ant": -1, "cat": -1, "dog": -1}),
        ("cat; ?dog", "ant", {"ant": -1, "cat": 1, "dog": -1}),
        ("?", "", {"ant": -1, "cat": -1, "dog": -1}),
        ("cat; ?", "", {"ant": -1, "cat": 1, "dog": -1}),
    ],
)
def test_unknown_labels_by_name(
    tmp_path: Path, labels: str, unknown: str, expected: dict[str, int]
) -> None:
    text = f"image,labels,unknown\nall.jpg,ant;cat;dog,\na.jpg,{labels},{unknown}\n"
    assert as_dict(read_table(written(tmp_path, text), CONFIG))["a.jpg"] == expected
    # The same in JSON Lines, with names in one string and in a list.
    lines = [
        {"image": "all.jpg", "labels": ["ant", "cat", "dog"]},
        {"image": "a.jpg", "labels": labels, "unknown": unknown},
        {"image": "b.jpg", "labels": labels.split(";"), "unknown": [unknown] if unknown else []},
    ]
    jsonl = written(tmp_path, "\n".join(map(json.dumps, lines)), "labels.jsonl")
    found = as_dict(read_table(jsonl, CONFIG))
    assert found["a.jpg"] == expected
    assert found["b.jpg"] == expected


def test_semicolons_between_cells(tmp_path: Path) -> None:
    text = (
        '\ufeffimage;labels;split\r\n"a;1.jpg";"cat; dog";train\r\nb,2.jpg;dog;test\r\nc.jpg;;\r\n'
    )
    records = read_table(written(tmp_path, text), CONFIG)
    assert records.paths == ("a;1.jpg", "b,2.jpg", "c.jpg")
    assert records.labels.names == ("cat", "dog")
    assert records.targets.tolist() == [[1, 1], [0, 1], [0, 0]]
    assert records.splits == ("train", "test", "")
    columns = written(tmp_path, "image;cat;dog\na.jpg;1;0\n", "columns.csv")
    assert as_dict(read_table(columns, CONFIG)) == {"a.jpg": {"cat": 1, "dog": 0}}


@pytest.mark.parametrize(
    ("text", "mark"),
    [("image;labels\na.jpg;cat; dog\n", "semicolon"), ("image,labels\na,b.jpg,cat\n", "comma")],
)
def test_a_mark_between_cells_within_one_needs_quotes(tmp_path: Path, text: str, mark: str) -> None:
    with pytest.raises(DataError, match=rf"row 2: has 3 cells .* 2; put quotes .* a {mark} in it"):
        read_table(written(tmp_path, text), CONFIG)


@pytest.mark.parametrize(
    ("header", "advice"),
    [
        ("filename,cat,dog", r"Name the one with pictures by data\.image_column\.$"),
        ("imag,cat,dog", r"Did you mean 'imag'\?$"),
        ("image|labels", r"Put commas between the cells \(tabs in a \.tsv file\)\.$"),
    ],
)
def test_a_table_without_a_column_of_pictures(tmp_path: Path, header: str, advice: str) -> None:
    with pytest.raises(DataError, match=rf"no column 'image'.*{advice}"):
        read_table(written(tmp_path, f"{header}\na.jpg,1,0\n"), CONFIG)


def test_unknown_column_beside_label_columns(tmp_path: Path) -> None:
    text = "image,cat,dog,unknown\na.jpg,1,0,dog\nb.jpg,1,0,wolf\n"
    source = table_source(written(tmp_path, text), CONFIG)
    gathered = gather(source)
    assert gathered.records is not None
    assert gathered.records.targets[0].tolist() == [1, -1]
    assert [(p.origin, p.kind) for p in gathered.problems] == [("labels.csv, row 3", "label")]


def test_json_lines_with_an_object_of_labels(tmp_path: Path) -> None:
    lines = [
        {"image": "a.jpg", "labels": {"cat": 1, "dog": 0, "ant": None}, "split": "test"},
        {"image": "b.jpg", "labels": {"cat": -1, "dog": True, "bee": False}},
        {"image": "c.jpg", "labels": []},
        {"image": "d.jpg", "labels": None},
    ]
    path = written(tmp_path, "\n\n".join(map(json.dumps, lines)), "labels.jsonl")
    records = read_table(path, CONFIG)
    assert records.labels.names == ("ant", "bee", "cat", "dog")
    assert records.targets.tolist() == [
        [-1, -1, 1, 0],
        [-1, 0, -1, 1],
        [0, 0, 0, 0],
        [-1, -1, -1, -1],
    ]
    assert records.splits == ("test", "", "", "")
    assert records.origins[1] == "labels.jsonl, row 3"


def test_label_list_fixes_names_and_order(tmp_path: Path) -> None:
    listed = written(tmp_path, "\ufeffzebra\n\n ant \nbee\n", "list.txt")
    path = written(tmp_path, "image,labels\na.jpg,ant\nb.jpg,zebra;ant\n")
    records = read_table(path, DataConfig(label_list=str(listed)))
    assert records.labels.names == ("zebra", "ant", "bee")
    assert records.targets.tolist() == [[0, 1, 0], [1, 1, 0]]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("image,labels\na.jpg,ant\nb.jpg,zebar\n", ["row 3", "'zebar'", "'zebra'"]),
        ("image,labels\na.jpg,Ant\nb.jpg,Ant\n", ["row 2", "'Ant'", "'ant'", "1 more"]),
        ("image,ant,zebar\na.jpg,1,0\n", ["'zebar'", "'zebra'"]),
        ("image,ant\na.jpg,1\n", ["'zebra'", "labels.csv"]),
    ],
)
def test_labels_outside_the_list_are_refused(tmp_path: Path, text: str, names: list[str]) -> None:
    listed = written(tmp_path, "zebra\nant\n", "list.txt")
    with pytest.raises(DataError) as caught:
        read_table(written(tmp_path, text), DataConfig(label_list=str(listed)))
    assert [name for name in names if name not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"", ["list.txt", "no label"]),
        (b"a\nb\na\n", ["list.txt", "'a'"]),
        (b"caf\xe9\n", ["list.txt", "UTF-8", "byte 4"]),
        (None, ["list.txt"]),
    ],
)
def test_a_bad_label_list_is_refused(
    tmp_path: Path, content: bytes | None, names: list[str]
) -> None:
    if content is not None:
        (tmp_path / "list.txt").write_bytes(content)
    path = written(tmp_path, "image,labels\na.jpg,a\n")
    with pytest.raises(DataError) as caught:
        read_table(path, DataConfig(label_list=str(tmp_path / "list.txt")))
    assert [name for name in names if name not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("text", "names"),
    [
        # headers
        ("", ["labels.csv", "empty"]),
        ("\n\n", ["labels.csv", "empty"]),
        ("image,labels\n", ["labels.csv", "no rows"]),
        ("Image,labels\na.jpg,x\n", ["'Image'", "'image'"]),
        ("image,Labels\na.jpg,x\n", ["'Labels'", "'labels'"]),
        ("image,labels,SPLIT\na.jpg,x,train\n", ["'SPLIT'", "'split'"]),
        ("imag,labels\na.jpg,x\n", ["'image'", "'imag'"]),
        ("image|labels\na.jpg|x\n", ["'image|labels'", "commas"]),
        ("image,labels,labels\na.jpg,x,y\n", ["'labels'", "twice"]),
        ("image,labels,\na.jpg,x,y\n", ["column 3", "no name"]),
        ("image,split\na.jpg,train\n", ["'labels'", "'image', 'split'"]),
        # rows
        ("image,labels\na.jpg,x,y\n", ["row 2", "3 cells", "2"]),
        ("image,labels\na.jpg\n", ["row 2", "1 cells"]),
        ("image,labels\na.jpg,x\n,y\n", ["row 3", "names no picture"]),
        ("image,labels\na\0.jpg,x\n", ["row 2", "names no picture"]),
        ("image,cat\na.jpg,maybe\n", ["row 2", "'maybe'", "'cat'"]),
        ("image,label\na.jpg,cat; dog\n", ["row 2", "'cat; dog'", "data.labels_column"]),
        ('image,labels\na.jpg,"x\nb.jpg,y\n', ["row 2", "quotes"]),
        ("image,labels\na.jpg,x; ?x\n", ["row 2", "'x'", "present and unknown"]),
        ("image,labels\na.jpg,\n", ["labels.csv", "no label"]),
        (b"image,labels\na.jpg,x\nb.jpg,caf\xe9\n", ["row 3", "line 3", "byte 10", "0xe9"]),
        (b"image,caf\xe9\nb.jpg,1\n", ["labels.csv", "line 1", "byte 10"]),
        ("image,labels\na.jpg,x\n".encode("utf-16"), ["labels.csv", "UTF-16"]),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, text: str | bytes, names: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        read_table(written(tmp_path, text), CONFIG)
    assert [name for name in names if name not in str(caught.value)] == [], str(caught.value)


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ('{"image": "a.jpg", "labels": [', ["row 2", "not JSON"]),
        ("[1]", ["row 2", "list"]),
        ('{"image": "a.jpg"}', ["row 2", "'labels'"]),
        ('{"image": "a.jpg", "Labels": []}', ["row 2", "'Labels'", "'labels'"]),
        ('{"image": 3, "labels": []}', ["row 2", "names no picture"]),
        ('{"image": "a.jpg", "labels": [3]}', ["row 2", "[3]"]),
        ('{"image": "a.jpg", "labels": {"x": 2}}', ["row 2", "2", "'x'"]),
        ('{"image": "a.jpg", "labels": {" ": 1}}', ["row 2", "without a name"]),
        ('{"image": "a.jpg", "labels": [], "split": 1}', ["row 2", "'split'"]),
        ('{"image": "\\ud800.jpg", "labels": []}', ["row 2", "not JSON"]),
        ("[" * 100_000, ["row 2"]),
    ],
)
def test_bad_json_lines_are_refused(tmp_path: Path, line: str, names: list[str]) -> None:
    path = written(tmp_path, '{"image": "ok.jpg", "labels": ["x"]}\n' + line, "labels.jsonl")
    with pytest.raises(DataError) as caught:
        read_table(path, CONFIG)
    assert [name for name in names if name not in str(caught.value)] == [], str(caught.value)


def test_empty_json_lines_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels\.jsonl is empty"):
        read_table(written(tmp_path, "\n", "labels.jsonl"), CONFIG)


def test_paths_that_are_no_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder"):
        read_table(tmp_path, CONFIG)
    with pytest.raises(DataError, match="There is no table"):
        read_table(tmp_path / "none.csv", CONFIG)
    with pytest.raises(DataError, match=r"ends in '\.xlsx'.*\.csv"):
        read_table(written(tmp_path, "", "labels.xlsx"), CONFIG)


def test_every_bad_row_is_accounted_for(tmp_path: Path) -> None:
    text = b"image,labels\na.jpg,x\nb.jpg\n,x\nc.jpg,caf\xe9\nd.jpg,x; ?x\ne.jpg,y\n"
    path = written(tmp_path, text)
    gathered = gather(table_source(path, CONFIG))
    assert [p.origin for p in gathered.problems] == [f"labels.csv, row {n}" for n in (3, 4, 5, 6)]
    assert gathered.num_rows == 6
    assert gathered.records is not None
    assert gathered.records.paths == ("a.jpg", "d.jpg", "e.jpg")
    with pytest.raises(DataError, match=r"row 3: .* And 3 more; see 'cpsd data check'"):
        read_table(path, CONFIG)


def test_columns_that_are_not_used_are_said(tmp_path: Path) -> None:
    path = written(tmp_path, "image,photographer,labels,date\na.jpg,Ann,x,2020\n")
    assert "photographer, date" in table_source(path, CONFIG).notices[0]


@pytest.mark.dataset
def test_reads_the_shared_photographs_table(shared: Path) -> None:
    path = shared / "data" / "mirflickr" / "labels.csv"
    records = read_table(path, CONFIG)
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(records) == len(rows) == 10_000
    assert len(records.labels) == 24
    assert records.splits.count("train") == 8075
    assert records.splits.count("val") == 1925
    for i, row in enumerate(rows):
        present = {records.labels.names[c] for c in records.targets[i].nonzero()[0]}
        assert present == set(filter(None, row["labels"].split("; ")))
    assert round(float(records.targets.sum()) / len(records), 1) == 3.7
