import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cpsd.addresses import local_place
from cpsd.copies import fetch, fetch_folder, file_system
from cpsd.errors import AddressError


def test_files_are_fetched_once_and_again_when_they_change(s3: Any) -> None:
    names = [f"{i} #%20.txt" for i in range(12)]  # enough for a folder to be listed
    for name in names:
        s3.pipe_file(f"pictures/a/{name}", name.encode())
    s3.pipe_file("pictures/one.txt", b"alone")
    places = [local_place(f"s3://pictures/a/{name}") for name in names]
    places.append(local_place("s3://pictures/one.txt"))
    seen: list[tuple[int, int]] = []
    assert fetch(places, lambda *count: seen.append(count)) == 13
    assert seen[-1] == (13, 13)
    assert [place.read_text() for place in places] == [*names, "alone"]
    assert fetch(places) == 0
    s3.pipe_file(f"pictures/a/{names[3]}", names[3].upper().encode())  # as long as before
    s3.pipe_file("pictures/one.txt", b"ALONE")
    s3.rm_file(f"pictures/a/{names[4]}")
    places[5].write_text("damaged")
    assert fetch(places) == 3
    assert places[3].read_text() == names[3].upper()
    assert places[-1].read_text() == "ALONE"
    assert not places[4].exists()
    assert places[5].read_text() == names[5]
    assert fetch([*places, "/an/ordinary/path"]) == 0
    assert not [*places[0].parent.glob(".*")]


def test_a_folder_is_fetched_as_far_as_it_is_wanted(s3: Any) -> None:
    for name in ("lists/train.txt", "lists/big.bin", "images/deep/a.jpg"):
        s3.pipe_file(f"pictures/set/{name}", b"x")
    s3.pipe_file("pictures/settled/other.txt", b"x")
    copy = local_place("s3://pictures/set")
    names = fetch_folder("s3://pictures/set", copy, lambda name: name.endswith(".txt"))
    assert names == {"lists/train.txt", "lists/big.bin", "images/deep/a.jpg"}
    files = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    assert files == {"lists/train.txt"}
    assert (copy / "images" / "deep").is_dir()


class _Short(BaseHTTPRequestHandler):
    """Promises ten bytes of everything and sends five; /lost fails, /none is not there."""

    def do_HEAD(self) -> None:
        status = {"/lost": 500, "/none": 404}.get(self.path, 200)
        self.send_response(status)
        self.send_header("Content-Length", "10" if status == 200 else "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        if self.path == "/a.jpg":
            self.wfile.write(b"12345")

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def short_server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Short)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_what_comes_in_part_is_no_copy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    monkeypatch.setenv("CPSD_CACHE", str(tmp_path))
    with short_server() as host:
        place = local_place(f"{host}/a.jpg")
        with pytest.raises(AddressError, match=f"{host}/a.jpg"):
            fetch([place])
        assert not [*place.parent.iterdir()]
        with pytest.raises(AddressError, match="500"):
            fetch([local_place(f"{host}/lost")])
        assert fetch([local_place(f"{host}/none")]) == 0


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("unknown://host/x.csv", "no such protocol"),
        ("http://127.0.0.1:1/x.csv", "cannot be reached"),
    ],
)
def test_what_cannot_be_reached_is_said(
    address: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CPSD_CACHE", str(tmp_path))
    with pytest.raises(AddressError, match=said):
        fetch([local_place(address)])


def test_missing_credentials_are_said(
    s3: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    s3.clear_instance_cache()
    with pytest.raises(AddressError, match="credentials"):
        fetch([local_place("s3://pictures/x.csv")])


def test_the_library_of_a_protocol_may_not_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(AddressError, match=r"pip install 'cpsd\[s3\]'"):
        file_system("s3://bucket/x")


def test_copies_of_a_process_that_was_killed_are_not_taken(s3: Any) -> None:
    s3.pipe_file("pictures/a.txt", b"whole")
    place = local_place("s3://pictures/a.txt")
    place.parent.mkdir(parents=True)
    place.write_bytes(b"who")
    os.utime(place, ns=(10**18, 10**18))
    assert fetch([place]) == 1
    assert place.read_bytes() == b"whole"
