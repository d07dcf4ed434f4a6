"""Pictures of any format, mode, depth, shape and orientation are read as the squares that they show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from components.data.picture import read_picture
from components.errors import Refusal
from tests.components.data.small_pictures import save

RAMP = np.linspace(0, 255, 24 * 24, dtype=np.uint8).reshape(24, 24)
COLOURS = np.stack([RAMP, RAMP.T, 255 - RAMP], axis=2)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp", "ppm"])
def test_lossless_pictures_come_back(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", COLOURS, **({"lossless": True} if suffix == "webp" else {}))
    assert np.array_equal(read_picture(path, 24, colour=True), COLOURS)
    assert np.array_equal(
        read_picture(path, 24, colour=False)[..., 0], np.asarray(Image.fromarray(COLOURS).convert("L"))
    )


def test_a_photo_comes_back_nearly(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", COLOURS, quality=95, subsampling=0)
    assert np.abs(read_picture(path, 24, colour=True).astype(int) - COLOURS).max() < 12


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "LA", "RGBA", "I;16", "YCbCr"])
def test_odd_modes_become_grey_levels(tmp_path: Path, mode: str) -> None:
    """Read a picture that is black on the left and white on the right, in each mode."""
    halves = np.repeat([0, 255], 8).astype(np.uint8) * np.ones((16, 1), np.uint8)
    pixels = halves.astype(np.uint16) * 257 if mode == "I;16" else halves
    suffix = {"CMYK": "tiff", "YCbCr": "jpg"}.get(mode, "png")
    path = save(tmp_path / f"a.{suffix}", pixels, None if mode == "I;16" else mode)
    for colour in (True, False):
        levels = [0, 65535] if mode == "I;16" else None
        assert np.abs(read_picture(path, 16, colour, levels=levels).astype(int) - halves[..., None]).max() <= 2


def test_transparency_is_white(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, :4, 3] = 255
    path = save(tmp_path / "a.png", pixels)
    assert (read_picture(path, 8, colour=True) == np.repeat([0, 255], 4)[:, None]).all()
    palette = Image.fromarray(np.repeat([0, 1], 4).astype(np.uint8) * np.ones((8, 1), np.uint8), mode="P")
    palette.putpalette([9, 9, 9, 50, 60, 70])
    palette.save(tmp_path / "b.png", transparency=1)
    assert read_picture(tmp_path / "b.png", 8, colour=True)[0, [0, 7]].tolist() == [[9, 9, 9], [255, 255, 255]]


def test_the_middle_square_is_resized_smoothly(tmp_path: Path) -> None:
    """Compare with torch's antialiased bilinear interpolation of the same square."""
    wide = np.random.default_rng(0).integers(0, 256, (60, 100, 3), dtype=np.uint8)
    path = save(tmp_path / "a.png", wide)
    square = torch.from_numpy(wide[:, 20:80]).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(square, (16, 16), mode="bilinear", antialias=True)[0].permute(1, 2, 0)
    assert np.abs(read_picture(path, 16, colour=True) - expected.numpy()).max() <= 1.5


def test_a_large_photo_is_decoded_at_a_fraction_and_upright(tmp_path: Path) -> None:
    tall = np.zeros((640, 320, 3), np.uint8)
    tall[:320] = 255  # white above, black below; stored turned, with the EXIF note to turn it back
    exif = Image.Exif()
    exif[274] = 6
    path = save(tmp_path / "a.jpg", np.rot90(tall).copy(), exif=exif)
    pixels = read_picture(path, 16, colour=False)[..., 0]
    assert pixels[:7].min() > 240
    assert pixels[9:].max() < 15


def test_other_shapes_are_cut_padded_or_squashed(tmp_path: Path) -> None:
    wide = np.zeros((16, 32, 3), np.uint8)
    wide[:, 8:24] = 250
    wide[:, :8] = 120
    path = save(tmp_path / "a.png", wide)
    assert (read_picture(path, 16, colour=True) == 250).all()
    padded = read_picture(path, 16, colour=False, fit="pad")[..., 0]
    assert (padded[[0, 3, 12, 15]] == 0).all()
    assert padded[6, [0, 8]].tolist() == [120, 250]
    squashed = read_picture(path, 16, colour=False, fit="squash")[..., 0]
    assert squashed[[0, 15], 1].tolist() == [120, 120]
    assert squashed[8, 8] == 250
    thin = save(tmp_path / "b.png", np.full((1, 900, 3), 9, np.uint8))
    assert read_picture(thin, 16, colour=True, fit="pad").shape == (16, 16, 3)


@pytest.mark.parametrize(("dtype", "white"), [(np.uint16, 4095), (np.int32, 100_000), (np.float32, 2.0)])
def test_deep_pictures_need_the_levels_of_the_set(tmp_path: Path, dtype: type, white: float) -> None:
    ramp = np.linspace(0, white, 64).astype(dtype).reshape(8, 8)
    path = tmp_path / "a.tiff"
    Image.fromarray(ramp).save(path)
    with pytest.raises(Refusal, match=rf"a\.tiff: has more than 8 bits per pixel, and .* to {white:g}; set levels"):
        read_picture(path, 8, colour=False)
    expected = np.rint(ramp.astype(np.float64) * 255 / white)
    assert np.array_equal(read_picture(path, 8, colour=False, levels=[0, white])[..., 0], expected)
    with pytest.raises(Refusal, match=r"beyond levels: \[0, 1\]; widen them"):
        read_picture(path, 8, colour=False, levels=[0, 1])


def test_sixteen_bits_per_colour_are_not_cut_silently(tmp_path: Path) -> None:
    import cv2

    dark = np.full((8, 8, 3), 4000, np.uint16)  # 12 bits in 16: the higher byte alone would be nearly black
    cv2.imwrite(str(tmp_path / "a.png"), dark)
    with pytest.raises(Refusal, match=r"has 16 bits per colour channel; save it with 8, or set levels: \[0, 65535\]"):
        read_picture(tmp_path / "a.png", 8, colour=True)
    assert (read_picture(tmp_path / "a.png", 8, colour=True, levels=[0, 65535]) == 4000 // 256).all()
    (tmp_path / "b.pgm").write_bytes(b"P5 8 8 4095\n" + np.full(64, 4095, ">u2").tobytes())
    assert (read_picture(tmp_path / "b.pgm", 8, colour=True) == 255).all()  # the header states the greatest level


@pytest.mark.filterwarnings("ignore:Metadata Warning")
def test_broken_metadata_do_not_matter(tmp_path: Path) -> None:
    """Save a rational with the denominator 0 and an orientation; Pillow fails where it writes such metadata again."""
    exif = Image.Exif()
    exif[274] = 3
    exif[282] = (72, 1)
    path = save(tmp_path / "a.jpg", np.repeat([0, 255], 32).astype(np.uint8) * np.ones((64, 1), np.uint8), exif=exif)
    intact = path.read_bytes()
    assert read_picture(path, 16, colour=False)[8, [2, 13], 0].tolist() == [255, 0]
    rational = b"\x00\x00\x00\x48\x00\x00\x00\x01"
    assert rational in intact or rational[3::-1] + rational[:3:-1] in intact
    for old, new in ((b"\x48\x00\x00\x00\x01\x00\x00\x00", bytes(8)), (b"\x00\x00\x00\x48", b"\xff\xff\xff\xff")):
        path.write_bytes(intact.replace(old, new))
        assert read_picture(path, 16, colour=False)[8, [2, 13], 0].tolist() == [255, 0]
    start = intact.index(b"Exif")
    path.write_bytes(intact[: start + 14] + b"\xff" * 12 + intact[start + 26 :])
    assert read_picture(path, 16, colour=False).shape == (16, 16, 1)
