"""Compact texts behave as the tuples they stand for."""

import pickle

import numpy as np
import pytest

from cpsd.data.texts import Names, Numbered, Texts

TEXTS = ("b.jpg", "", "Bär/雪.png", "a\udcff.jpg", "b.jpg", "x" * 300)


@pytest.mark.parametrize("kind", [Texts, Names, Numbered])
def test_they_are_read_as_a_tuple_is(kind: type[Texts] | type[Names] | type[Numbered]) -> None:
    texts = kind(TEXTS)
    assert len(texts) == len(TEXTS)
    assert list(texts) == list(TEXTS)
    assert [texts[i] for i in range(-6, 6)] == [TEXTS[i] for i in range(-6, 6)]
    assert texts[np.int64(3)] == TEXTS[3]
    assert texts == TEXTS
    assert texts == list(TEXTS)
    assert texts == TEXTS
    assert texts == kind(TEXTS)
    assert texts[1:5:2] == TEXTS[1:5:2]
    assert texts[::-1] == TEXTS[::-1]
    assert texts != TEXTS[:-1]
    assert texts != (*TEXTS[:-1], "y")
    assert texts != "b.jpg"
    assert "b.jpg" in texts
    assert "c.jpg" not in texts
    assert (texts.count("b.jpg"), texts.index("")) == (2, 1)
    assert texts.take([4, 0, 1]) == ("b.jpg", "b.jpg", "")
    assert repr(texts) == repr(TEXTS)
    assert pickle.loads(pickle.dumps(texts)) == TEXTS
    assert not kind()
    for outside in (6, -7):
        with pytest.raises(IndexError, match=f"no text {outside} among 6"):
            texts[outside]


def test_names_are_kept_once_and_compared_by_number() -> None:
    names = Names(["train", "val", "train", "test", "val"])
    assert names.distinct == ("train", "val", "test")
    assert names.equal("val").tolist() == [False, True, False, False, True]
    assert not names.equal("night").any()
    assert names[3:].distinct == ("test", "val")
    renamed = names.renamed({"train": "train", "val": "test", "test": "test"})
    assert renamed == ("train", "test", "train", "test", "test")
    assert renamed.distinct == ("train", "test")
    assert names[:1].renamed({"train": "all"}) == ("all",)


def test_more_names_than_a_byte_counts() -> None:
    many = [f"split {i % 700}" for i in range(2100)]
    names = Names(many)
    assert names == many
    assert names.renamed({name: name.upper() for name in many})[699] == "SPLIT 699"


def test_numbers_at_the_end_are_given_back_as_they_were() -> None:
    texts = [
        *(f"labels.csv, row {row}" for row in range(12)),
        *("labels.csv, row ", "labels.csv, row 007", "labels.csv, row 0", "labels.csv, row 00"),
        *("7", "0", "", "1" * 18, "9" * 19, "1" * 400, "row ٣", "row 3²", "-1", "x-1"),
        *("VOC2007/000012.xml", "a\udcff 12", "labels.csv, row 99", "labels.csv, row 100"),
    ]
    assert list(Numbered(texts)) == texts
    assert Numbered(texts).take(range(len(texts))[::-1]) == texts[::-1]


def test_rows_of_one_file_share_what_stands_before_their_number() -> None:
    rows = Numbered(f"a file of photographs.csv, row {row}" for row in range(2, 5000))
    # Eight bytes a number, and what Python writes beside.
    assert len(pickle.dumps(rows)) < 8 * 5000 + 1000
