from pathlib import Path

import pytest

from cpsd.addresses import address_of, copies_folder, is_address, local_place, with_addresses
from cpsd.errors import AddressError


@pytest.fixture(autouse=True)
def copies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("CPSD_CACHE", str(tmp_path / "copies"))
    return tmp_path / "copies"


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("s3://bucket/a b#c%20d?e.jpg", "s3/bucket/a b#c%20d?e.jpg"),
        ("S3://Bucket/A.jpg", "s3/Bucket/A.jpg"),
        ("s3://bucket/runs/a/", "s3/bucket/runs/a"),
        ("s3://bucket//x/./y", "s3/bucket/x/y"),
        ("s3://bucket/x/../y", "s3/bucket/y"),
        ("s3://bucket/../../../etc/passwd", "s3/etc/passwd"),
        ("s3://bucket", "s3/bucket"),
        ("https://host:8080/x.csv", "https/host:8080/x.csv"),
    ],
)
def test_a_copy_lies_where_its_address_says_and_never_outside(
    address: str, place: str, copies: Path
) -> None:
    assert local_place(address) == copies / place
    assert is_address(address)
    there = address_of(local_place(address))
    assert there is not None
    assert local_place(there) == local_place(address)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("s3://", "names no bucket or host"),
        ("s3:///x", "names no bucket or host"),
        ("s3:// /x", "names no bucket or host"),
        ("s3://..", "leads out of its bucket"),
        ("s3://bucket/\0", "names no bucket or host"),
        ("simplecache::s3://bucket/x", "chain"),
        ("zip://a.csv::s3://bucket/x.zip", "chain"),
        ("ftp://me:secret@host/x", "a name or password"),
        ("file://x/y", "write file:///"),
    ],
)
def test_an_address_that_can_be_none_is_refused(address: str, said: str) -> None:
    assert is_address(address)
    with pytest.raises(AddressError, match=said) as told:
        local_place(address)
    assert "secret" not in str(told.value)


def test_a_file_address_is_the_path_itself() -> None:
    assert local_place("file:///photos/a b%20c.jpg") == Path("/photos/a b%20c.jpg")
    assert local_place("photos/x:/y") == Path("photos/x:/y")
    assert address_of("/photos/a.jpg") is None


def test_messages_name_addresses_in_place_of_copies(copies: Path) -> None:
    text = f"{copies}/s3/bucket/a.jpg and {copies}/gs/b are not {copies}"
    assert with_addresses(text) == f"s3://bucket/a.jpg and gs://b are not {copies}"


def test_a_linked_cache_still_holds_copies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    monkeypatch.setenv("CPSD_CACHE", str(tmp_path / "link"))
    place = local_place("s3://bucket/a.jpg")
    assert copies_folder() == tmp_path / "disk"
    assert address_of(place.resolve()) == "s3://bucket/a.jpg"
