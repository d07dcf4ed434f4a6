"""Decode pictures that nobody has checked: few formats, regular files, and limits before pixels are decoded."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from ..errors import Refusal, first_line, printable
from ..files import open_regular

# Pillow goes by the content and not by the suffix. Others of its formats run programs: Ghostscript for EPS.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
SUFFIXES = {  # of files that are read as pictures
    *(".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
}
UNREADABLE_SUFFIXES = {".avif", ".cr2", ".dcm", ".dng", ".heic", ".heif", ".jp2", ".jxl", ".nef", ".psd", ".svg"}
MAX_BYTES = 256 << 20  # of a file
# A pixel takes 4 bytes, and there are up to three copies of a picture at once
MAX_PIXELS = 32 << 20
MAX_JPEG_PIXELS = 64 << 20  # in the header of a JPEG file, which is decoded at a fraction of its size
ORIENTATION = 274  # the EXIF tag
ANIMATED = ("GIF", "PNG", "TIFF", "WEBP")  # a JPEG file's further frames are depth maps and the like
FULL_SIZE = "full size"  # key of Pillow's `info`: width and height before a JPEG file is reduced
STRIP = 256  # rows
DEEP = 65535  # the greatest level of 16 bits
Fit = Literal["crop", "pad", "squash"]
Remarks = Counter[str]  # sentence's end, such as "are not square" -> number of pictures


@contextmanager
def open_picture(
    path: str | Path, draft: tuple[str, int] | None = None, content: IO[bytes] | None = None
) -> Iterator[Any]:
    """Yield the picture at `path` in Pillow's form; refuse one that is too large, or that cannot be decoded here.

    draft: (mode, side): a JPEG file is decoded at the smallest fraction of its size that has at least this side.
    content: the bytes of a picture that is not a file of its own; `path` then is its name in error messages.
    """
    from PIL import Image

    with refuse_damage(path), content or open_regular(path) as file:
        if content is None and Path(path).stat().st_size > MAX_BYTES:
            raise Refusal(f"{path}: has more than {MAX_BYTES >> 20} MB; shrink or remove it")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is lower
            opened = Image.open(file, formats=FORMATS)
        with opened as image:
            _check_size(image, path, MAX_JPEG_PIXELS if draft and image.format == "JPEG" else MAX_PIXELS)
            image.info[FULL_SIZE] = image.size
            if draft:
                image.draft(draft[0], (draft[1], draft[1]))
                _check_size(image, path, MAX_PIXELS)
            yield image


@contextmanager
def refuse_damage(path: str | Path) -> Iterator[None]:
    """Turn the errors of decoding the picture at `path` into a refusal of one line, without Pillow's warnings."""
    from PIL import Image, UnidentifiedImageError

    name = printable(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata
            yield
    except Refusal:
        raise
    except FileNotFoundError:
        raise Refusal(f"{name}: missing, or a link to nothing; replace or remove it") from None
    except Image.DecompressionBombError as error:
        raise Refusal(f"{name}: too many pixels ({first_line(error)}); shrink or remove it") from None
    except UnidentifiedImageError:
        raise Refusal(f"{name}: damaged or not a picture ({', '.join(FORMATS)}); replace or remove it") from None
    # Pillow raises errors of nearly any type for damaged content, such as struct.error and IndexError
    except Exception as error:
        reason = first_line(error)
        raise Refusal(f"{name}: damaged or not a picture ({reason}); replace or remove it") from None


def _check_size(image: Any, path: str | Path, limit: int) -> None:
    """Refuse a picture with more than `limit` pixels."""
    width, height = image.size
    if width * height > limit:
        raise Refusal(
            f"{path}: has {width:,} x {height:,} pixels, more than {limit >> 20} million; shrink or remove it"
        )


# ------------------------------------------------------------------------------------------------ squares


def read_picture(
    file: Path,
    size: int,
    colour: bool,
    fit: Fit = "crop",
    levels: Sequence[float] | None = None,
    remarks: Remarks | None = None,
) -> np.ndarray:
    """Return a picture as a square, uint8 [size, size, 3 or 1]: upright, on white where it is transparent.

    fit: crop takes the middle square, pad adds black bars, squash changes the proportions.
    levels: [black, white] of pictures with more than 8 bits per channel, which are refused without it.
    remarks: counts what is done to pictures that do not fit; of an animated one, the first frame is read.
    """
    from PIL import Image

    mode = "RGB" if colour else "L"
    with open_picture(file, draft=(mode, 2 * size)) as image:
        animated = image.format in ANIMATED and has_frames(image)
        deep = deep_mode(image)
        turned = turn_upright(image)
        width, height = turned.size
        square = cut_square(turned) if fit == "crop" else turned
        square.load()
    del image, turned  # a large picture takes much memory
    with refuse_damage(file):
        plain = convert_to_plain(square, file, deep, levels)
        del square
        plain = plain.convert(mode)
        if fit == "pad":
            scale = size / max(width, height)
            shape = (max(1, round(width * scale)), max(1, round(height * scale)))
            bars = Image.new(mode, (size, size))
            bars.paste(plain.resize(shape, Image.Resampling.BILINEAR), ((size - shape[0]) // 2, (size - shape[1]) // 2))
            pixels = np.asarray(bars)
        else:
            pixels = np.asarray(plain.resize((size, size), Image.Resampling.BILINEAR))
    if remarks is not None:
        _count_remarks(remarks, animated, width, height, size, fit)
    return pixels.reshape(size, size, -1)


def _count_remarks(remarks: Remarks, animated: bool, width: int, height: int, size: int, fit: Fit) -> None:
    if animated:
        remarks["have several frames, of which the first is used"] += 1
    if width != height:
        action = {"crop": "lose what is outside the middle square", "pad": "get bars", "squash": "are squashed"}[fit]
        remarks[f"are not square and {action} (fit: {fit})"] += 1
    if min(width, height) < size:
        remarks[f"have a side of less than {size} pixels and are enlarged"] += 1


def has_frames(image: Any) -> bool:
    """Return whether a picture has a second frame or page; damage there does not matter."""
    try:
        image.seek(1)
    except Exception:
        return False
    finally:
        image.seek(0)
    return True


def turn_upright(image: Any) -> Any:
    """Return the picture turned as its EXIF orientation says; other tags may be broken."""
    from PIL import Image

    image.load()  # turns TIFF files, and then takes the tag away
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged metadata say nothing about the pixels
        orientation = 1
    methods = Image.Transpose
    turns = {
        2: methods.FLIP_LEFT_RIGHT,
        3: methods.ROTATE_180,
        4: methods.FLIP_TOP_BOTTOM,
        5: methods.TRANSPOSE,
        6: methods.ROTATE_270,
        7: methods.TRANSVERSE,
        8: methods.ROTATE_90,
    }
    turn = turns.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def cut_square(image: Any) -> Any:
    """Return the middle square."""
    side = min(image.size)
    x = (image.width - side) // 2
    y = (image.height - side) // 2
    return image.crop((x, y, x + side, y + side))


def deep_mode(image: Any) -> Literal["", "grey", "colour", "stated"]:
    """Return how a picture stores more than 8 bits per channel; "" for up to 8 bits.

    grey: all bits are decoded. colour: Pillow decodes the higher 8 of 16 bits. stated: the file's header states the
    greatest level, and Pillow scales it to 65535.
    """
    if image.format == "PPM" and image.mode.startswith("I"):
        return "stated"
    if image.mode == "F" or image.mode.startswith("I"):
        return "grey"
    arguments = image.tile[0][3] if image.tile else ()
    raw = arguments if isinstance(arguments, str) else next(iter(arguments or ()), "")
    return "colour" if isinstance(raw, str) and ";16" in raw else ""


def convert_to_plain(image: Any, file: Path, deep: str, levels: Sequence[float] | None) -> Any:
    """Return the picture with 8 bits per channel and without transparency, so that it converts to RGB or L.

    Refuses more than 8 bits per channel without `levels`, and levels beyond them.
    """
    from PIL import Image

    if deep in ("grey", "stated"):
        return Image.fromarray(scale_levels(image, file, (0, DEEP) if deep == "stated" else levels))
    if deep == "colour" and (levels is None or tuple(levels) != (0, DEEP)):
        raise Refusal(f"{file}: has 16 bits per colour channel; save it with 8, or set levels: [0, {DEEP}]")
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image


def scale_levels(image: Any, file: Path, levels: Sequence[float] | None) -> np.ndarray:
    """Return a picture of any numbers as uint8 [H, W], with levels[0] as 0 and levels[1] as 255."""
    low, high = find_range(image)
    if not np.isfinite([low, high]).all():
        raise Refusal(f"{file}: has pixels that are not finite numbers; replace or remove it")
    span = f"its pixels range from {low:g} to {high:g}"
    if levels is None:
        raise Refusal(
            f"{file}: has more than 8 bits per pixel, and {span}; set levels: [black, white] for the set,"
            f" such as {list(suggest_levels(low, high))}"
        )
    black, white = levels
    if low < black or high > white:
        raise Refusal(f"{file}: {span}, beyond levels: {list(levels)}; widen them")
    scaled = np.empty((image.height, image.width), np.uint8)
    for top, strip in _read_strips(image):
        scaled[top : top + len(strip)] = np.rint((strip.astype(np.float64) - black) * (255 / (white - black)))
    return scaled


def find_range(image: Any) -> tuple[float, float]:
    """Return the least and the greatest level of a picture; both are NaN if a pixel is."""
    ends = np.array([(strip.min(), strip.max()) for _, strip in _read_strips(image)], np.float64)
    return float(ends[:, 0].min()), float(ends[:, 1].max())


def _read_strips(image: Any) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, pixels [rows, W]): a large picture as one array would take too much memory."""
    for top in range(0, image.height, STRIP):
        yield top, np.asarray(image.crop((0, top, image.width, min(image.height, top + STRIP))))


def suggest_levels(low: float, high: float) -> tuple[float, float]:
    """Return the levels of the smallest usual range that holds all numbers from `low` to `high`."""
    if low < 0:
        return (low, high)
    if high <= 1:
        return (0, 1)
    bits = next((bits for bits in (8, 10, 12, 14, 16, 24, 32) if high < 2**bits), 64)
    return (0, 2**bits - 1)


def check_levels(levels: Sequence[float] | None) -> Sequence[float] | None:
    """Return `levels`; refuse any but a lower and a higher number."""
    if levels is not None and (len(levels) != 2 or not -np.inf < levels[0] < levels[1] < np.inf):
        raise Refusal(f"levels: {list(levels)} must be two numbers, black and white, the lower one first")
    return levels
