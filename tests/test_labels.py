import numpy as np
import pytest

from cpsd.errors import DataError
from cpsd.labels import LabelSpace

LABELS = LabelSpace(("dog", "cat", "Übung"))


def test_names_keep_their_order_and_columns() -> None:
    assert list(LABELS) == ["dog", "cat", "Übung"]
    assert [LABELS.index(name) for name in LABELS] == [0, 1, 2]
    assert len(LABELS) == 3
    assert "cat" in LABELS
    assert "horse" not in LABELS
    assert 0 not in LABELS


def test_columns_come_in_the_order_asked_for() -> None:
    columns = LABELS.indices(["Übung", "dog"])
    assert columns.tolist() == [2, 0]
    assert columns.dtype == np.intp
    assert LABELS.indices([]).shape == (0,)
    assert LABELS.select(columns).names == ("Übung", "dog")
    assert LABELS.select(columns).index("dog") == 1


def test_spaces_are_equal_by_names_in_order() -> None:
    assert LabelSpace(("a", "b")) == LabelSpace(("a", "b"))
    assert LabelSpace(("a", "b")) != LabelSpace(("b", "a"))
    assert len({LabelSpace(("a",)), LabelSpace(("a",))}) == 1


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "no label"),
        (("dog", ""), "empty name"),
        (("dog", "  "), "empty name"),
        (("cat", "dog", "dog"), "'dog' stands twice"),
    ],
)
def test_bad_names_are_refused(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        LabelSpace(names)


def test_an_unknown_label_gets_the_nearest_name() -> None:
    with pytest.raises(DataError, match=r"'Cta' is not among the 3 labels\. Did you mean 'cat'"):
        LABELS.indices(["dog", "Cta"])
