"""Pictures that nobody has checked: the content decides the format, and the header is checked before pixels."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from components.data import picture
from components.data.image_folder import ImageFolder
from components.data.photos import Photos
from components.data.picture import SUFFIXES, read_picture
from components.errors import Refusal
from tests.fuzz.child import run_limited

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(x) print\n%%EOF\n"


def png_header(width: int, height: int) -> bytes:
    """Return the begin of a grey PNG file whose header announces these sides."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + b"\0\0\0\x40IDAT"
    )


@pytest.mark.parametrize("content", [EPS, b"P7 332\n8 8 255\n" + bytes(64), b"FAKE"])
def test_the_content_must_be_of_a_listed_format(tmp_path: Path, content: bytes) -> None:
    """An EPS file under the name of another kind started Ghostscript."""
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(Refusal, match=r"a\.png: damaged or not a picture \(BMP, GIF, JPEG"):
        read_picture(path, 8, colour=True)
    with pytest.raises(Refusal, match="damaged or not a picture"):
        list(Photos("a.png", raw=str(_photos_folder(tmp_path, content))).examples("train", 0))


def _photos_folder(tmp_path: Path, content: bytes) -> Path:
    (tmp_path / "raw" / "photos").mkdir(parents=True)
    (tmp_path / "raw" / "photos" / "a.png").write_bytes(content)
    return tmp_path / "raw"


def test_every_suffix_has_its_format() -> None:
    Image.init()
    assert {Image.EXTENSION[suffix] for suffix in SUFFIXES} == set(picture.FORMATS)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "pets" / "cat").mkdir(parents=True)
    pipe = tmp_path / "pets" / "cat" / "pipe.png"
    os.mkfifo(pipe)
    with pytest.raises(Refusal, match=r"pipe\.png: is not a regular file"):
        ImageFolder(str(tmp_path / "pets"), size=8).parts()
    with pytest.raises(Refusal, match=r"pipe\.png: is not a regular file"):
        read_picture(pipe, 8, colour=True)


@pytest.mark.parametrize(("side", "refused"), [(5793, True), (5792, False)])
def test_pixels_are_limited_by_the_header(tmp_path: Path, side: int, refused: bool) -> None:
    assert (side**2 > picture.MAX_PIXELS) == refused
    path = tmp_path / "a.png"
    path.write_bytes(png_header(side, side))
    with pytest.raises(Refusal, match="has 5,793 x 5,793 pixels, more than 32 million" if refused else "damaged"):
        read_picture(path, 8, colour=True)


def test_a_large_jpeg_file_is_decoded_at_a_fraction(tmp_path: Path) -> None:
    Image.new("L", (7000, 7000)).save(tmp_path / "a.jpg")
    assert read_picture(tmp_path / "a.jpg", 8, colour=False).shape == (8, 8, 1)
    with pytest.raises(Refusal, match="has 7,000 x 7,000 pixels, more than 32 million"):
        read_picture(tmp_path / "a.jpg", 3600, colour=False)
    blob = (tmp_path / "a.jpg").read_bytes()
    size = struct.pack(">HH", 7000, 7000)
    (tmp_path / "b.jpg").write_bytes(blob.replace(size, struct.pack(">HH", 9000, 9000), 1))
    with pytest.raises(Refusal, match="has 9,000 x 9,000 pixels, more than 64 million"):
        read_picture(tmp_path / "b.jpg", 8, colour=False)


def test_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    with path.open("wb") as file:
        file.write(b"RIFF\xff\xff\xff\x7fWEBPVP8 ")
        file.truncate(picture.MAX_BYTES + 1)
    with pytest.raises(Refusal, match="has more than 256 MB"):
        read_picture(path, 8, colour=True)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "I;16", "I", "CMYK"])
def test_the_largest_picture_takes_limited_memory(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tiff"
    Image.new(mode, (5792, 5792)).save(path, compression="tiff_deflate")

    def read() -> tuple[int, ...]:
        return read_picture(path, 8, colour=True, levels=[0, 65535] if mode.startswith("I") else None).shape

    assert run_limited(read, seconds=60) == (8, 8, 3)
