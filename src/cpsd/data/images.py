"""Pictures as files: decoded upright, in RGB, or refused by name.

What a picture is comes from its content, not from its name: a PNG called ``.jpg`` is read. Colour
profiles are not applied, and of several frames the first is read.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cpsd.errors import DataError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
)
"""Names (in lower case) that a folder's pictures end in."""

_ORIENTATION = 0x0112  # EXIF tag
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

MOST_PIXELS = 80_000_000
"""Of a picture in memory, where it takes eight bytes a pixel at its worst. A JPEG that is scaled
while it is decoded may have more in its file, up to Pillow's own limit of 179 million."""
_LEAST_OF_LARGE = 2048
_STRIP = 4_000_000  # pixels that are converted at a time
_FEW_PIXELS = 1_000_000
_WHITE = (255, 255, 255)
_SIXTEEN_BITS = 65535


class PictureError(DataError):
    """A picture cannot be read: it cannot be decoded, or one of the kinds below.

    Kinds are classes and not an argument, for an error must come whole out of a worker process.
    """


class MissingPictureError(PictureError):
    """There is no such file."""


class TruncatedPictureError(PictureError):
    """The file ends before the picture does."""


class LargePictureError(PictureError):
    """Decoded, it would take too much memory."""


class OutsidePictureError(PictureError):
    """The file lies outside the folder that pictures are read from."""


def read_image(path: str | Path, *, least: int | None = None) -> Image.Image:
    """Return the picture of a file, upright and in RGB; transparent parts on white.

    Args:
        path: the file.
        least: a JPEG may come at a half, a quarter or an eighth of its size, scaled while it is
            decoded, as long as both sides have this many pixels. None: as large as it is.

    Raises:
        PictureError: the file is not there, is no picture, ends too early or is damaged.
    """
    path = Path(path)
    pixels = 0
    try:
        if not _can_be_read(path.stat().st_mode):
            raise ValueError("it is a device, and no file")
        with Image.open(path) as image:
            pixels = _require_memory(path, image, least)
            image.load()
            # After loading: a PNG may say it at its end, and a TIFF is turned while it loads.
            orientation = image.getexif().get(_ORIENTATION)
            upright = _to_rgb(image)
    except PictureError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) and pixels > _FEW_PIXELS:
            raise
        # Decoders meet damaged files with errors of every kind, from struct's to zlib's; where
        # memory is wanted for few pixels, a part of the file says that it is gigabytes long.
        raise _fault(path, error) from error
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return upright if turn is None else upright.transpose(turn)


def content_hash(path: str | Path) -> str:
    """Return a SHA-256 over a picture's size and upright RGB pixels.

    So a picture saved again without loss, in another format or under another name, has the same
    hash; one that was compressed again or scaled has not.

    Raises:
        PictureError: the file is not there, is no picture, ends too early or is damaged.
    """
    try:
        image = read_image(path)
    except LargePictureError:  # but training, which scales a JPEG while it is decoded, may read it
        image = read_image(path, least=_LEAST_OF_LARGE)
    digest = hashlib.sha256(f"{image.width}x{image.height}\n".encode())
    for strip, _ in _strips(image):
        digest.update(strip.tobytes())
    return digest.hexdigest()


def pixels_of(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels ``(H, W, 3)`` of an RGB picture, without a second copy of a large one."""
    pixels = np.empty((image.height, image.width, 3), dtype=np.uint8)
    for strip, top in _strips(image):
        pixels[top : top + strip.height] = np.asarray(strip)
    return pixels


def _strips(image: Image.Image) -> Iterator[tuple[Image.Image, int]]:
    """Yield a picture in strips, from the top, each with the row where it begins."""
    height = max(1, _STRIP // image.width)
    if height >= image.height:
        yield image, 0
        return
    for top in range(0, image.height, height):
        yield image.crop((0, top, image.width, min(top + height, image.height))), top


def _can_be_read(mode: int) -> bool:
    """Return whether opening does not wait for somebody, nor reading go on for ever."""
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _require_memory(path: Path, image: Image.Image, least: int | None) -> int:
    """Return how many pixels a picture that is opened will have in memory.

    Raises:
        LargePictureError: too many to be decoded.
    """
    pixels = image.width * image.height
    if least is not None:
        image.draft(None, (least, least))
        if not image.info.get("progressive"):  # which is kept whole while it is decoded
            pixels = image.width * image.height
    if pixels > MOST_PIXELS:
        raise LargePictureError(
            f"The picture {path} has too many pixels to be safe ({pixels:,}; the most are "
            f"{MOST_PIXELS:,}); scale it down."
        )
    return pixels


def _to_rgb(image: Image.Image) -> Image.Image:
    """Return a loaded picture of any mode in RGB."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; save it with 8 or 16 bits")
    if image.width * image.height <= _STRIP:
        return _small_to_rgb(image)
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    whole = Image.new("RGB", image.size)
    for strip, top in _strips(image):
        whole.paste(_small_to_rgb(strip), (0, top))
    return whole


def _small_to_rgb(image: Image.Image) -> Image.Image:
    """Return a picture, or a strip of one, in RGB."""
    if image.mode.startswith("I"):
        image = _sixteen_to_eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (*_WHITE, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it


def _sixteen_to_eight_bits(image: Image.Image) -> Image.Image:
    """Return a 16-bit greyscale picture with 8 bits; Pillow's own conversion clips it to white."""
    pixels = np.array(image).astype(np.int64)
    if pixels.min() < 0 or pixels.max() > _SIXTEEN_BITS:
        raise ValueError("its pixels have 32 bits; save it with 8 or 16 bits")
    # 65535 = 257 * 255, so this is the nearest level.
    return Image.fromarray(((pixels + 128) // 257).astype(np.uint8))


def _fault(path: Path, error: Exception) -> PictureError:
    if isinstance(error, FileNotFoundError):
        return MissingPictureError(f"There is no picture {path}; check the path.")
    if isinstance(error, UnidentifiedImageError):
        if path.stat().st_size == 0:
            return PictureError(f"The picture {path} is an empty file; replace it.")
        return PictureError(
            f"{path} is no picture, or of a kind that cannot be read; save it as JPEG or PNG."
        )
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return PictureError(
            f"The picture {path} has too many pixels to be safe ({error}); scale it down."
        )
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    if isinstance(error, EOFError) or "truncated" in reason.lower():
        return TruncatedPictureError(f"The picture {path} ends too early ({reason}); replace it.")
    return PictureError(f"The picture {path} cannot be read ({reason}); replace it.")


def find_pictures(folder: str | Path) -> list[Path]:
    """Return the files under ``folder`` whose names end as pictures' do, sorted.

    Names that start with a dot are passed over, and links to folders are not followed.

    Raises:
        DataError: no such folder, or no picture in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}; check the path.")
    found: list[Path] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(parent, name)
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES
        ]
    if not found:
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        raise DataError(f"The folder {folder} holds no picture; their names end in {known}.")
    return sorted(found)
