"""Decode pictures that nobody has checked: few formats, regular files, and limits before pixels are decoded."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ..errors import Refusal, first_line
from ..files import open_regular

# Pillow goes by the content and not by the suffix. Others of its formats run programs: Ghostscript for EPS.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MAX_BYTES = 256 << 20  # of a file
# A pixel takes 4 bytes, and there are up to three copies of a picture at once
MAX_PIXELS = 32 << 20
MAX_JPEG_PIXELS = 64 << 20  # in the header of a JPEG file, which is decoded at a fraction of its size


@contextmanager
def open_picture(
    path: str | Path, draft: tuple[str, int] | None = None, content: IO[bytes] | None = None
) -> Iterator[Any]:
    """Yield the picture at `path` in Pillow's form; refuse one that is too large, or that cannot be decoded here.

    draft: (mode, side): a JPEG file is decoded at the smallest fraction of its size that has at least this side.
    content: the bytes of a picture that is not a file of its own; `path` then is its name in error messages.
    """
    from PIL import Image, UnidentifiedImageError

    with content or open_regular(path) as file:
        if content is None and Path(path).stat().st_size > MAX_BYTES:
            raise Refusal(f"{path}: has more than {MAX_BYTES >> 20} MB; shrink or remove it")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is lower
                opened = Image.open(file, formats=FORMATS)
            with opened as image:
                _check_size(image, path, MAX_JPEG_PIXELS if draft and image.format == "JPEG" else MAX_PIXELS)
                if draft:
                    image.draft(draft[0], (draft[1], draft[1]))
                    _check_size(image, path, MAX_PIXELS)
                yield image
        except Refusal:
            raise
        except Image.DecompressionBombError as error:
            raise Refusal(f"{path}: too many pixels ({first_line(error)}); shrink or remove it") from None
        except UnidentifiedImageError:
            raise Refusal(f"{path}: damaged or not a picture ({', '.join(FORMATS)}); replace or remove it") from None
        # Pillow raises errors of nearly any type for damaged content, such as struct.error and IndexError
        except Exception as error:
            reason = first_line(error)
            raise Refusal(f"{path}: damaged or not a picture ({reason}); replace or remove it") from None


def _check_size(image: Any, path: str | Path, limit: int) -> None:
    """Refuse a picture with more than `limit` pixels."""
    width, height = image.size
    if width * height > limit:
        raise Refusal(
            f"{path}: has {width:,} x {height:,} pixels, more than {limit >> 20} million; shrink or remove it"
        )
