"""Pictures in: what is read, what is refused, and what a picture becomes."""

from __future__ import annotations

import base64
import io
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from unmask.errors import UserError
from unmask.inputs.cells import bytes_of
from unmask.inputs.image import MAX_BYTES, ImageInput, cut, decode
from unmask.recipe import ImageOptions


def saved(picture: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels)


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is so large, and holds next to nothing."""

    def chunk(name: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(name + body)
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", crc)

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def read(data: Any, **options: Any) -> np.ndarray:
    values: np.ndarray = ImageInput(ImageOptions(**options)).values(data)
    return values


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    patch=st.integers(1, 9),
    channels=st.sampled_from((1, 3)),
)
def test_patches_hold_every_pixel_once_and_say_where(
    height: int, width: int, patch: int, channels: int
) -> None:
    values = np.arange(height * width * channels, dtype=np.float32) + 1
    values = values.reshape(height, width, channels)
    patches, place = cut(values, patch)
    rows, columns = -(-height // patch), -(-width // patch)
    assert patches.shape == (rows * columns, channels * patch**2)
    whole = np.zeros((rows * patch, columns * patch, channels), np.float32)
    for one, (row, column) in zip(patches, place, strict=True):
        square = one.reshape(channels, patch, patch).transpose(1, 2, 0)
        whole[row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] = square
    assert np.array_equal(whole[:height, :width], values)
    assert whole.sum() == values.sum()  # the rest is 0


def test_pixels_are_normalised_by_mean_and_deviation() -> None:
    grey = saved(Image.new("L", (4, 4), 255))
    assert np.allclose(read(grey, size=4, patch=2), 1)
    values = read(grey, size=4, patch=2, mean=(0.5, 0.25, 0), deviation=(0.5, 0.25, 2))
    assert np.allclose(values[0, 0], (1, 3, 0.5))
    assert read(grey, size=4, patch=2, channels=1).shape == (4, 4, 1)


@pytest.mark.parametrize(
    ("fit", "shape"), [("inside", (8, 16)), ("crop", (16, 16)), ("stretch", (16, 16))]
)
def test_a_large_picture_is_brought_to_size(fit: str, shape: tuple[int, int]) -> None:
    assert read(saved(noise(32, 64)), size=16, patch=4, fit=fit).shape[:2] == shape


def test_inside_leaves_a_small_picture_as_it_is_and_one_pixel_is_one_patch() -> None:
    assert read(saved(noise(5, 9)), size=16, patch=4).shape[:2] == (5, 9)
    segment, dropped = ImageInput(ImageOptions(size=16, patch=4)).segment(saved(noise(1, 1)), None)
    assert (segment.values.shape, dropped) == ((1, 48), 0)
    very_flat = saved(noise(2, 3000))
    assert read(very_flat, size=16, patch=4).shape[:2] == (1, 16)


def test_transparency_lies_on_white_and_palettes_become_colours() -> None:
    clear = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    clear.putpixel((0, 0), (255, 0, 0, 255))
    pixels = np.asarray(decode(saved(clear)))
    assert pixels.tolist() == [[[255, 0, 0], [255, 255, 255]], [[255, 255, 255]] * 2]
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 255, 0, 255, 0])
    palette.putpixel((1, 0), 1)
    assert np.asarray(decode(saved(palette))).tolist() == [[[0, 0, 255], [0, 255, 0]]]
    see_through = saved(palette, transparency=0)
    assert np.asarray(decode(see_through)).tolist() == [[[255, 255, 255], [0, 255, 0]]]
    grey = Image.new("LA", (1, 1), (0, 0))
    assert np.asarray(decode(saved(grey))).tolist() == [[[255, 255, 255]]]


def test_print_colours_and_sixteen_bits_are_read() -> None:
    ink = Image.new("CMYK", (8, 8), (0, 0, 0, 255))  # black
    assert np.asarray(decode(saved(ink, "JPEG"))).max() < 10
    deep = Image.fromarray(np.array([[0, 65_535], [257, 514]], np.uint16))
    assert np.asarray(decode(saved(deep))).tolist() == [[0, 255], [1, 2]]
    one_bit = Image.new("1", (2, 1), 1)
    assert np.asarray(decode(saved(one_bit)).convert("L")).tolist() == [[255, 255]]


@pytest.mark.parametrize("format", ["GIF", "WEBP", "TIFF", "PNG"])
def test_of_an_animation_the_first_frame_is_read(format: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue", "green")]
    data = saved(frames[0], format, save_all=True, append_images=frames[1:])
    red, _, blue = np.asarray(decode(data))[0, 0].tolist()
    assert (red > 240, blue < 15) == (True, True)


def test_a_picture_stands_upright_as_its_exif_says() -> None:
    upright = noise(6, 4)
    lying = upright.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by 90 degrees clockwise
    assert np.array_equal(np.asarray(decode(saved(lying, exif=exif))), np.asarray(upright))
    broken = saved(upright, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert np.array_equal(np.asarray(decode(broken)), np.asarray(upright))


@pytest.mark.parametrize("size", [(20_000, 20_000), (64_000_001, 1), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_before_its_pixels_are_decoded(size: tuple[int, int]) -> None:
    tracemalloc.start()
    with pytest.raises(UserError, match=r"pixels|no picture"):
        decode(png_header(*size))
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100,
        b"no picture at all",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",  # would ask for another program
        saved(noise(40, 40))[:300],
        saved(noise(40, 40), "JPEG")[:300],
        saved(noise(40, 40), "GIF")[:60],
        saved(noise(40, 40), "WEBP")[:60],
        saved(noise(40, 40), "TIFF")[:200],
        png_header(100, 100),  # says more than it holds
        png_header(0, 0),
    ],
)
def test_what_is_cut_short_or_lies_is_one_clear_error(data: bytes) -> None:
    with pytest.raises(UserError, match=r"picture"):
        read(data)


@given(st.data())
def test_changed_bytes_never_raise_anything_else(data: st.DataObject) -> None:
    format = data.draw(st.sampled_from(("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")))
    raw = bytearray(saved(noise(9, 7), format))
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        values = read(bytes(raw), size=16, patch=4)
    except UserError:
        return
    assert np.isfinite(values).all()


def test_fractions_and_huge_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="fractions"):
        decode(saved(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"))
    with pytest.raises(UserError, match="between 0 and"):
        decode(saved(Image.fromarray(np.full((2, 2), 70_000, np.int32)), "TIFF"))


def test_a_cell_holds_bytes_a_path_or_base64(tmp_path: Path) -> None:
    data = saved(noise(3, 3))
    path = tmp_path / "a.png"
    path.write_bytes(data)
    coded = base64.b64encode(data).decode()
    for cell in (
        data,
        bytearray(data),
        path,
        str(path),
        coded,
        coded[:40] + "\n" + coded[40:],
        f"data:image/png;base64,{coded}",
        {"bytes": data, "path": "somewhere.png"},
        {"bytes": None, "path": str(path)},
    ):
        assert bytes_of(cell, "picture", MAX_BYTES) == data
    longer = bytes(600)  # than a file's name may be, and shorter than a path
    coded = base64.b64encode(longer).decode()
    assert 255 < max(map(len, coded.split("/"))) <= len(coded) < 4096
    assert bytes_of(coded, "picture", MAX_BYTES) == longer


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (None, "is no picture"),
        (3, "is no picture"),
        ("", "is no picture"),
        ({"url": "x"}, "is no picture"),
        ([1], "is no picture"),
        (b"", "0 bytes"),
        ("https://example.org/a.png", "is an address"),
        ("nowhere/a.png", "no file of that name"),
        ("data:image/png;base64,???", "no base64"),
        (b"\0" * 2001, "at most"),
        ("A" * 5000, "at most"),
    ],
)
def test_anything_else_in_a_cell_is_refused(cell: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        bytes_of(cell, "picture", 2000)


def test_files_of_this_machine_can_be_closed_to_cells(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(saved(noise(3, 3)))
    for cell in (str(path), path, {"path": str(path)}):
        with pytest.raises(UserError, match="picture"):
            bytes_of(cell, "picture", MAX_BYTES, files=False)


def test_augmentation_is_drawn_from_rng_and_for_learning_alone() -> None:
    data = saved(noise(16, 16))
    augment = {"shift": 0.2, "rotate": 20, "scale": 0.2, "flip": True}
    reader = ImageInput(ImageOptions(size=16, patch=4, augment=augment))
    plain = reader.values(data)
    assert np.array_equal(plain, ImageInput(ImageOptions(size=16, patch=4)).values(data))
    drawn = [reader.values(data, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    assert all(one.shape == plain.shape for one in drawn)


def test_a_shift_moves_what_is_shown_and_its_edge_fills_up() -> None:
    from unmask.inputs.augment import changed
    from unmask.recipe import Augmentation

    pixels = np.full((16, 16), 200, np.uint8)
    pixels[4:12, 4:12] = 10

    def middle(x: np.ndarray) -> np.ndarray:
        return np.argwhere(x < 100).mean(0)

    for seed in range(5):
        moved = changed(pixels, Augmentation(shift=0.2), np.random.default_rng(seed))
        assert moved.max() == 200
        far = np.abs(middle(moved) - middle(pixels)).max()
        assert far <= 0.2 * 16 + 1
    flipped = {changed(pixels[:, 2:], Augmentation(flip=True), np.random.default_rng(s)).tobytes()
               for s in range(9)}  # fmt: skip
    assert flipped == {pixels[:, 2:].tobytes(), pixels[:, 2:][:, ::-1].tobytes()}


@pytest.mark.parametrize(
    "options",
    [
        {"size": 30, "patch": 16},
        {"size": 8, "patch": 16},
        {"mean": (0.5, 0.5)},
        {"deviation": (0.0,)},
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"size|mean|deviation"):
        ImageOptions(**options)


@given(
    width=st.integers(1, 50),
    height=st.integers(1, 50),
    fit=st.sampled_from(("inside", "crop", "stretch")),
    size=st.sampled_from((16, (8, 24), (24, 8))),
    lying=st.booleans(),
    format=st.sampled_from(("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM")),
)
def test_the_outline_is_what_the_picture_becomes(
    width: int, height: int, fit: str, size: Any, lying: bool, format: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6 if lying else 1
    marked = {"exif": exif} if format in ("JPEG", "WEBP", "TIFF") else {}
    data = saved(noise(height, width), format, **marked)
    reader = ImageInput(ImageOptions(size=size, patch=4, fit=fit))
    found, (segment, dropped) = reader.outline(data), reader.segment(data, None)
    assert (found.positions, found.dropped) == (len(segment.values), dropped)
    assert found.work == width * height + len(data)
    assert found.digest != reader.outline(saved(noise(height, width, seed=1), format)).digest


@pytest.mark.parametrize(
    "data", [png_header(20_000, 20_000), b"no picture", b"", None, "/etc/passwd"]
)
def test_the_outline_refuses_what_the_header_tells(data: Any) -> None:
    reader = ImageInput(ImageOptions())
    reader.files = False
    with pytest.raises(UserError, match="picture"):
        reader.outline(data)


def test_a_header_is_read_without_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(*_: Any) -> None:
        raise AssertionError("decoded")

    exif = Image.Exif()
    exif[0x0112] = 6
    files = [saved(noise(9, 9), "PNG", exif=exif), saved(noise(9, 9), "JPEG", exif=exif)]
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    for data in (*files, png_header(7000, 7000)):
        assert ImageInput(ImageOptions()).outline(data).positions > 0


def test_a_jpeg_of_thousands_of_scans_is_refused() -> None:
    """Each is a pass over all pixels, and may take some bytes alone."""
    data = saved(noise(16, 16), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    last = data[start:-2]
    decode(data)
    with pytest.raises(UserError, match=r"a JPEG of 10\d\d scans, and at most 100"):
        decode(data[:-2] + last * 1000 + data[-2:])
