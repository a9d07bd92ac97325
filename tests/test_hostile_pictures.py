"""Pictures that promise more than they hold, or never end."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cpsd.data.images import (
    MOST_PIXELS,
    PictureError,
    content_hash,
    pixels_of,
    read_image,
)
from cpsd.data.pixels import read_pixels
from hostile_data import picture
from hostile_guard import fenced

SIDE = 50_000


def png_header() -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 6, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000))


def jpeg_header(*, progressive: bool) -> bytes:
    content = bytearray(picture("JPEG", progressive=progressive))
    place = content.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    content[place + 5 : place + 9] = struct.pack(">HH", SIDE, SIDE)
    return bytes(content)


def gif_header() -> bytes:
    content = bytearray(picture("GIF", "P"))
    content[6:10] = struct.pack("<HH", SIDE, SIDE)
    return bytes(content)


def tiff_header() -> bytes:
    content = bytearray(picture("TIFF"))
    place = struct.unpack("<I", content[4:8])[0] + 2
    for entry in range(place, place + 24, 12):
        assert struct.unpack("<H", content[entry : entry + 2])[0] in (256, 257)
        content[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, SIDE)
    return bytes(content)


def webp_header() -> bytes:
    extended = picture("WEBP", "RGBA", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0")
    content = bytearray(extended)
    place = content.index(b"VP8X") + 12
    content[place : place + 6] = 2 * struct.pack("<I", SIDE - 1)[:3]
    return bytes(content)


HEADERS: dict[str, Callable[[], bytes]] = {
    "PNG": png_header,
    "JPEG": lambda: jpeg_header(progressive=False),
    "progressive JPEG": lambda: jpeg_header(progressive=True),
    "GIF": gif_header,
    "TIFF": tiff_header,
    "WebP": webp_header,
}


@pytest.mark.parametrize("kind", HEADERS)
def test_headers_that_promise_two_billion_pixels(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(HEADERS[kind]())
    for read in (read_image, content_hash, lambda p: read_pixels(p, 8)):
        assert isinstance(fenced(tmp_path, lambda read=read: read(path)), PictureError)  # type: ignore[misc]


def test_small_files_of_many_pixels(tmp_path: Path) -> None:
    side = int(MOST_PIXELS**0.5) + 1
    Image.new("1", (side, side)).save(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size < 100_000
    for read in (read_image, content_hash):
        fault = fenced(tmp_path, lambda read=read: read(tmp_path / "a.png"))  # type: ignore[misc]
        assert "too many pixels" in str(fault)


def test_a_large_jpeg_is_scaled_while_it_is_decoded(tmp_path: Path) -> None:
    side = int(MOST_PIXELS**0.5) + 8
    path = tmp_path / "a.jpg"
    with pytest.warns(Image.DecompressionBombWarning) if side**2 > 89_478_485 else _nothing():
        Image.new("L", (side, side), 90).save(path)
        assert (read_pixels(path, 4) == 90).all()
        assert len(content_hash(path)) == 64
        Image.new("L", (side, side), 90).save(path, progressive=True)
        with pytest.raises(PictureError, match="too many pixels"):  # kept whole to be decoded
            read_pixels(path, 4)


class _nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "I;16", "CMYK"])
def test_strips_are_what_the_whole_is(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    if mode == "I;16":
        image = Image.fromarray(generator.integers(0, 65536, (37, 29), dtype=np.uint16))
    else:
        pixels = generator.integers(0, 256, (37, 29, 4), dtype=np.uint8)
        image = Image.fromarray(pixels).convert("RGB" if mode == "P" else mode)
        image = image.quantize(64) if mode == "P" else image
    path = tmp_path / "a"
    image.save(path, "TIFF" if mode in ("CMYK", "I;16") else "PNG")
    whole, digest = pixels_of(read_image(path)), content_hash(path)
    monkeypatch.setattr("cpsd.data.images._STRIP", 100)
    np.testing.assert_array_equal(pixels_of(read_image(path)), whole)
    assert content_hash(path) == digest


def test_what_never_ends_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    for path in (tmp_path / "a.png", Path("/dev/zero")):
        with pytest.raises(PictureError, match="a device, and no file"):
            read_image(path)


def test_a_chunk_that_says_it_is_gigabytes_long_is_a_damaged_picture(tmp_path: Path) -> None:
    content = picture("PNG")
    begin = content.index(b"IDAT")
    path = tmp_path / "a.png"
    path.write_bytes(
        content[: begin - 4] + struct.pack(">I", 2**32 - 2) + content[begin : begin + 6]
    )
    found = fenced(tmp_path, lambda: read_image(path))
    assert isinstance(found, PictureError)
    assert "a.png" in str(found)
