"""Pictures as files: every mode comes out upright RGB, and what is damaged is refused by name."""

import io
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cpsd.data.images import (
    MissingPictureError,
    PictureError,
    TruncatedPictureError,
    content_hash,
    find_pictures,
    read_image,
)
from cpsd.data.pixels import read_pixels
from cpsd.errors import DataError


def smooth(width: int = 64, height: int = 48) -> Image.Image:
    """A picture that differs in every corner and channel, and that JPEG keeps well."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], -1)
    return Image.fromarray(pixels.astype(np.uint8))


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def difference(a: Image.Image, b: Image.Image) -> float:
    assert a.size == b.size
    return float(np.abs(np.asarray(a, float) - np.asarray(b, float)).mean())


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "CMYK", "YCbCr", "RGBA", "LA"])
def test_every_mode_comes_out_rgb(tmp_path: Path, mode: str) -> None:
    image = smooth().quantize(256) if mode == "P" else smooth().convert(mode)
    image.save(tmp_path / "a", "PNG" if mode == "LA" else "TIFF")
    with Image.open(tmp_path / "a") as stored:
        assert stored.mode == mode
    read = read_image(tmp_path / "a")
    assert read.mode == "RGB"
    if mode == "1":
        assert set(np.unique(np.asarray(read))) == {0, 255}
        return
    expected = smooth().convert("L").convert("RGB") if mode in ("L", "LA") else smooth()
    # 256 colours are too few for the picture; CMYK and YCbCr round.
    assert difference(read, expected) < (8 if mode == "P" else 2)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_greyscale_is_scaled(tmp_path: Path, kind: str) -> None:
    levels = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
    path = tmp_path / "a"
    Image.fromarray(levels).save(path, kind)
    expected = np.rint(levels.astype(float) / 257).astype(int)[0].tolist()
    assert np.asarray(read_image(path))[0, :, 0].tolist() == expected


def test_pixels_of_more_bits_are_refused(tmp_path: Path) -> None:
    for name, pixels in (
        ("float.tif", np.ones((2, 2), np.float32)),
        ("int.tif", np.full((2, 2), 70_000, np.int32)),
    ):
        Image.fromarray(pixels).save(tmp_path / name)
        with pytest.raises(PictureError, match=rf"{name}.*8 or 16 bits"):
            read_image(tmp_path / name)


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    rgba = np.zeros((1, 3, 4), dtype=np.uint8)
    rgba[0, :, 0] = 255
    rgba[0, :, 3] = [255, 128, 0]
    Image.fromarray(rgba).save(tmp_path / "a.png")
    red, half, clear = np.asarray(read_image(tmp_path / "a.png"))[0].tolist()
    assert red == [255, 0, 0]
    assert half == pytest.approx([255, 127, 127], abs=1)
    assert clear == [255, 255, 255]


def test_transparent_palette_and_colour_key_are_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 255, 9, 9, 9])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "one.png", transparency=1)
    image.save(tmp_path / "bytes.png", transparency=bytes([255, 0]))
    image.save(tmp_path / "a.gif", transparency=1)
    image.convert("RGB").save(tmp_path / "key.png", transparency=(9, 9, 9))
    for name in ("one.png", "bytes.png", "a.gif", "key.png"):
        pixels = np.asarray(read_image(tmp_path / name))[0].tolist()
        assert pixels == [[0, 0, 255], [255, 255, 255]], name


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_pictures_come_out_upright(tmp_path: Path, orientation: int, kind: str) -> None:
    # What a camera stores so that the turn its EXIF tag asks for gives the scene: the inverse turn.
    scene = np.asarray(smooth())
    stored = {
        1: scene,
        2: scene[:, ::-1],
        3: scene[::-1, ::-1],
        4: scene[::-1],
        5: scene.transpose(1, 0, 2),
        6: np.rot90(scene, 1),
        7: scene[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(scene, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if kind != "TIFF" else {}
    Image.fromarray(np.ascontiguousarray(stored)).save(
        tmp_path / "a", kind, exif=exif.tobytes(), **options
    )
    assert difference(read_image(tmp_path / "a"), smooth()) < 3
    squashed = read_pixels(tmp_path / "a", 16)
    expected = smooth().resize((16, 16), Image.Resampling.BILINEAR)
    assert np.abs(squashed.astype(float) - np.asarray(expected, float)).mean() < 3


def test_adobe_cmyk_is_not_a_negative(tmp_path: Path) -> None:
    smooth().convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert difference(read_image(tmp_path / "a.jpg"), smooth()) < 5


def test_content_decides_and_not_the_name(tmp_path: Path) -> None:
    noise(8, 8).save(tmp_path / "a.jpg", "PNG")
    assert difference(read_image(tmp_path / "a.jpg"), noise(8, 8)) == 0


def test_damaged_exif_leaves_the_picture_as_it_lies(tmp_path: Path) -> None:
    smooth().save(tmp_path / "a.jpg", exif=b"Exif\0\0garbage", quality=95)
    assert difference(read_image(tmp_path / "a.jpg"), smooth()) < 3


def test_truncated_files_are_named(tmp_path: Path) -> None:
    for kind, kept in (("JPEG", 0.6), ("JPEG", 0.01), ("PNG", 0.6)):
        stream = io.BytesIO()
        noise(64, 64).save(stream, kind)
        whole = stream.getvalue()
        path = tmp_path / f"cut.{kind}"
        path.write_bytes(whole[: int(len(whole) * kept)])
        for read in (read_image, content_hash, lambda path: read_pixels(path, 8)):
            with pytest.raises(TruncatedPictureError, match=rf"cut\.{kind} ends too early"):
                read(path)


def test_files_that_are_no_pictures_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "folder.jpg").mkdir()
    for name, reason in (
        ("empty.jpg", "empty file"),
        ("text.jpg", "is no picture"),
        ("folder.jpg", "Is a directory"),
    ):
        with pytest.raises(PictureError, match=rf"{name.replace('.', '[.]')}.*{reason}"):
            read_image(tmp_path / name)
    with pytest.raises(MissingPictureError, match=r"no picture .*none\.jpg"):
        read_image(tmp_path / "none.jpg")


def test_damaged_pixels_are_refused(tmp_path: Path) -> None:
    noise(32, 32).save(tmp_path / "a.png")
    damaged = bytearray((tmp_path / "a.png").read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    (tmp_path / "a.png").write_bytes(damaged)
    with pytest.raises(PictureError, match=r"a\.png cannot be read"):
        read_image(tmp_path / "a.png")


def test_decompression_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise(32, 32).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(PictureError, match=r"a\.png has too many pixels"):
        read_image(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # 1,024 pixels: large, no bomb
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        assert read_image(tmp_path / "a.png").size == (32, 32)


def test_errors_come_whole_out_of_a_worker(tmp_path: Path) -> None:
    with pytest.raises(PictureError) as caught:
        read_image(tmp_path / "none.jpg")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(copy, MissingPictureError)
    assert str(copy) == str(caught.value)


def test_content_hash_is_of_the_pixels(tmp_path: Path) -> None:
    image = noise(16, 8)
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "a.bmp")
    noise(8, 16).save(tmp_path / "turned.png")
    changed = image.copy()
    changed.putpixel((3, 3), (0, 0, 0))
    changed.save(tmp_path / "changed.png")
    hashes = {p.name: content_hash(p) for p in tmp_path.iterdir()}
    assert hashes["a.png"] == hashes["a.bmp"]
    assert len(set(hashes.values())) == 3


def test_find_pictures(tmp_path: Path) -> None:
    for name in ("b.JPG", "sub/a.png", "sub/deep/c.webp", ".hidden.jpg", ".git/d.jpg", "e.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_pictures(tmp_path)]
    assert found == ["b.JPG", "sub/a.png", "sub/deep/c.webp"]
    with pytest.raises(DataError, match="There is no folder"):
        find_pictures(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no picture"):
        find_pictures(tmp_path / "empty")
