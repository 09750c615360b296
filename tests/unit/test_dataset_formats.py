"""Every format through the one pixel path: values, profiles, turns, what is said, and what is missing."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, features

from loratui.dataset import formats
from loratui.dataset.formats import kind_of, open_image
from loratui.dataset.headers import header_size
from loratui.dataset.jxl import jxl_size
from loratui.dataset.masks import alpha_in
from loratui.dataset.measure_pool import Work, measure_all
from loratui.dataset.pixels import open_rgb
from loratui.dataset.scan import Source, read_header, scan
from loratui.errors import DatasetError

pytest.importorskip("pillow_heif")
pytest.importorskip("pillow_jxl")
for _kind in ("heif", "jxl"):
    assert formats.can_read(_kind)

QUADRANTS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255))
NEAR = 12
"""What a lossy format may be off, far from edges."""


def quadrants(size: tuple[int, int] = (48, 32)) -> Image.Image:
    """Red, green over blue, white: any turn of it is another picture."""
    w, h = size[0] // 2, size[1] // 2
    image = Image.new("RGB", size)
    for at, colour in enumerate(QUADRANTS):
        image.paste(colour, (at % 2 * w, at // 2 * h, at % 2 * w + w, at // 2 * h + h))
    return image


def middles(image: Image.Image) -> np.ndarray:
    """The colours in the middle of the four quarters."""
    w, h = image.size
    places = [(w // 4, h // 4), (3 * w // 4, h // 4), (w // 4, 3 * h // 4), (3 * w // 4, 3 * h // 4)]
    return np.array([image.getpixel(p) for p in places], dtype=int)


FORMATS = {
    "a.jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    "a.png": ("PNG", {}),
    "a.webp": ("WEBP", {"lossless": True}),
    "a.bmp": ("BMP", {}),
    "a.tif": ("TIFF", {"compression": "tiff_lzw"}),
    "a.gif": ("GIF", {}),
    "a.avif": ("AVIF", {"quality": 95}),
    "a.heic": ("HEIF", {"quality": 95}),
    "a.jxl": ("JXL", {"lossless": True}),
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_picture_in_every_format(tmp_path: Path, name: str) -> None:
    """Header, pixels, figures and thumbnail; under a wrong name too, as phones and browsers make them."""
    kind, options = FORMATS[name]
    path, wrong = tmp_path / name, tmp_path / "named.png"
    for target in (path, wrong):
        quadrants().save(target, kind, **options)
    for found in (path, wrong):
        assert header_size(found) == ((48, 32), 1)
        image = open_rgb(found)
        assert image.mode == "RGB" and image.size == (48, 32)
        assert np.abs(middles(image) - np.array(QUADRANTS)).max() <= NEAR
    thumb = tmp_path / "thumb.jpg"
    (measured,) = measure_all([Work(path, thumb)], 1)
    assert not measured.error and measured.quality is not None
    with Image.open(thumb) as small:
        assert np.abs(middles(small.convert("RGB")) - np.array(QUADRANTS)).max() <= 3 * NEAR


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.avif", "a.heic"])
def test_every_turn_ends_upright(tmp_path: Path, name: str, turn: int) -> None:
    """Stored turned with the orientation that undoes it: red is top left again, header and pixels agree."""
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[turn]
    stored = quadrants() if undo is None else quadrants().transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = turn
    kind, options = FORMATS[name]
    path = tmp_path / name
    stored.save(path, kind, exif=exif.tobytes() if kind == "HEIF" else exif, **options)
    image = open_rgb(path)
    assert image.size == (48, 32) == header_size(path)[0] == read_header(path)[0]
    assert np.abs(middles(image) - np.array(QUADRANTS)).max() <= NEAR


def test_a_jpeg_inside_jpeg_xl_keeps_its_turn_and_others_are_turned_already(tmp_path: Path) -> None:
    """The codestream of JPEG XL says how it is turned; an EXIF block beside it only repeats that."""
    exif = Image.Exif()
    exif[0x0112] = 6
    quadrants().save(tmp_path / "plain.jxl", lossless=True, exif=exif.tobytes(), use_container=True)
    assert header_size(tmp_path / "plain.jxl")[0] == open_rgb(tmp_path / "plain.jxl").size


def profile_of(
    red: tuple[float, float], green: tuple[float, float], blue: tuple[float, float], gamma: float
) -> bytes:
    """An ICC profile with these primaries (D50), made by hand: Pillow makes only sRGB, Lab and XYZ."""
    import struct

    def s15(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    white = np.array([0.9642, 1.0, 0.8249])
    primaries = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in (red, green, blue)]).T
    columns = primaries * np.linalg.solve(primaries, white)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"wide\0" + b"\0" * 78
    tags = {
        b"desc": text,
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + b"".join(map(s15, white)),
    }
    for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns.T, strict=True):
        tags[name] = b"XYZ \0\0\0\0" + b"".join(map(s15, column))
    for name in (b"rTRC", b"gTRC", b"bTRC"):
        tags[name] = curve
    at, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        data += b"\0" * (-len(data) % 4)
        table += name + struct.pack(">II", at, len(data))
        body += data
        at += len(data)
    head = struct.pack(">I4s4s4s4s4s", at, b"none", b"\x02\x40\0\0", b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + b"".join(map(s15, white))
    head += b"\0" * (128 - len(head))
    return head + struct.pack(">I", len(tags)) + table + body


WIDE = profile_of((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001), 1.8)
"""ProPhoto: greys and colours alike are elsewhere than in sRGB."""


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.avif", "a.heic"])
def test_a_wide_profile_becomes_srgb(tmp_path: Path, name: str) -> None:
    """Compared with the arithmetic of the profile itself, in float."""
    stored = (110, 140, 90)
    linear = (np.array(stored) / 255) ** 1.8
    white = np.array([0.9642, 1.0, 0.8249])
    xy = ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001))
    primaries = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in xy]).T
    xyz = (primaries * np.linalg.solve(primaries, white)) @ linear
    to_srgb = np.array(
        [[3.1339, -1.6169, -0.4906], [-0.9788, 1.9161, 0.0335], [0.0719, -0.2290, 1.4052]]  # D50, Bradford
    )
    flat = to_srgb @ xyz
    wanted = 255 * np.where(flat <= 0.0031308, 12.92 * flat, 1.055 * np.abs(flat) ** (1 / 2.4) - 0.055)
    assert np.abs(wanted - np.array(stored)).max() > 15, "the test would show nothing"
    kind, options = FORMATS[name]
    path = tmp_path / name
    Image.new("RGB", (32, 32), stored).save(path, kind, icc_profile=WIDE, **options)
    assert np.abs(np.array(open_rgb(path).getpixel((9, 9))) - wanted).max() <= 3
    (measured,) = measure_all([Work(path, tmp_path / "thumb.jpg")], 1)
    assert not measured.error
    with Image.open(tmp_path / "thumb.jpg") as small:
        assert np.abs(np.array(small.getpixel((9, 9))) - wanted).max() <= 4


def test_srgb_and_broken_profiles_change_nothing(tmp_path: Path) -> None:
    """The profile most pictures carry, one of greys on colours, garbage: the pixels are taken as they are."""
    noise = Image.fromarray(np.random.default_rng(3).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for number, profile in enumerate((srgb, b"garbage", WIDE[:200], b"")):
        path = tmp_path / f"{number}.png"
        noise.save(path, icc_profile=profile)
        assert open_rgb(path).tobytes() == noise.tobytes(), number
    grey = tmp_path / "grey.png"
    noise.convert("L").save(grey, icc_profile=WIDE)
    assert open_rgb(grey).tobytes() == noise.convert("L").convert("RGB").tobytes()


def test_profile_and_transparency_together(tmp_path: Path) -> None:
    """Colours become sRGB before they are laid on white: white stays white, half is half."""
    image = Image.new("RGBA", (8, 8), (110, 140, 90, 255))
    image.putpixel((0, 0), (0, 0, 0, 0))
    image.save(tmp_path / "a.png", icc_profile=WIDE)
    image.convert("RGB").save(tmp_path / "b.png", icc_profile=WIDE)
    ours = open_rgb(tmp_path / "a.png")
    assert ours.getpixel((0, 0)) == (255, 255, 255)
    assert ours.getpixel((5, 5)) == open_rgb(tmp_path / "b.png").getpixel((5, 5))


def test_odd_kinds_of_pixels(tmp_path: Path) -> None:
    """CMYK, 16 bits in grey and colour, palette with transparency, Lab, one bit."""
    Image.new("CMYK", (8, 8), (255, 0, 0, 0)).save(tmp_path / "cmyk.jpg", quality=100)
    deep = np.full((8, 8), 0x8080, np.uint16)
    for name in ("deep.png", "deep.tif", "deep.jxl"):
        Image.fromarray(deep).save(tmp_path / name, **({"lossless": True} if name.endswith("jxl") else {}))
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255] + [0] * 762)
    palette.putpixel((0, 0), 0)
    palette.save(tmp_path / "palette.png", transparency=0)
    palette.save(tmp_path / "palette.gif", transparency=0)
    Image.new("LAB", (8, 8), (255, 128, 128)).save(tmp_path / "lab.tif")
    wanted = {
        "cmyk.jpg": (0, 255, 255),
        "deep.png": (128, 128, 128),
        "deep.tif": (128, 128, 128),
        "deep.jxl": (128, 128, 128),
        "palette.png": (0, 0, 255),
        "palette.gif": (0, 0, 255),
        "lab.tif": (255, 255, 255),
    }
    for name, colour in wanted.items():
        image = open_rgb(tmp_path / name)
        assert np.abs(np.array(image.getpixel((4, 4))) - np.array(colour)).max() <= 2, name
        assert header_size(tmp_path / name)[0] == (8, 8)
    for name in ("palette.png", "palette.gif"):
        assert open_rgb(tmp_path / name).getpixel((0, 0)) == (255, 255, 255) and alpha_in(tmp_path / name)


def test_deep_colours_of_a_png(tmp_path: Path) -> None:
    """16 bits a channel, written by hand as Pillow cannot: the high bytes are what is seen."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + struct.pack(">3H", 0xC8FF, 0x6400, 0x0A80) * 4
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(row * 4)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(data)
    found = np.array(open_rgb(tmp_path / "a.png").getpixel((1, 1)))
    assert np.abs(found - np.array((0xC8, 0x64, 0x0A))).max() <= 1


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.avif", "a.tif"])
def test_the_first_frame_counts_and_that_is_said(tmp_path: Path, name: str) -> None:
    """Two frames: the first is trained on, and the scan says there are more."""
    frames = [Image.new("RGB", (32, 32), c) for c in ((255, 0, 0), (0, 0, 255))]
    extra = {"lossless": True} if name == "a.webp" else {"default_image": False} if name == "a.png" else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **extra)
    assert np.abs(np.array(open_rgb(tmp_path / name).getpixel((9, 9))) - np.array((255, 0, 0))).max() <= NEAR
    (tmp_path / "a.txt").write_text("red\n")
    found = scan([Source(tmp_path)])
    (note,) = [p for p in found.problems if p.code == "animated"]
    assert "2 frames" in note.message and "first one" in note.message


def run_python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run some lines in an interpreter of their own."""
    argv = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def test_a_missing_decoder_names_the_extra(tmp_path: Path) -> None:
    """Scan, pixels and measuring say how to get it; AVIF comes with Pillow."""
    for name in ("a.heic", "a.jxl", "a.avif"):
        kind, options = FORMATS[name]
        quadrants().save(tmp_path / name, kind, **options)
    code = (
        "import sys; sys.modules['pillow_heif'] = sys.modules['pillow_jxl'] = None\n"
        "from PIL import features; check = features.check\n"
        "features.check = lambda name: name != 'avif' and check(name)\n"
        "from pathlib import Path\n"
        "from loratui.dataset.scan import Source, scan\n"
        "from loratui.dataset.pixels import open_rgb\n"
        "folder = Path(sys.argv[1])\n"
        "for p in scan([Source(folder)]).problems: print(p.path, p.code, p.message, p.advice)\n"
        "try: open_rgb(folder / 'a.heic')\n"
        "except Exception as e: print('pixels', type(e).__name__, e)\n"
    )
    done = run_python(code, tmp_path)
    lines = done.stdout.splitlines()
    assert sum("no-decoder" in line for line in lines) == 3
    assert sum("pip install 'loratui[formats]'" in line for line in lines) >= 2
    assert any("AVIF" in line and "Pillow 11.3" in line for line in lines)
    assert lines[-1].startswith("pixels DatasetError") and "HEIC" in lines[-1] and "a.heic" in lines[-1]


def test_plugins_are_loaded_only_when_needed(tmp_path: Path) -> None:
    """Opening a JPEG loads neither; a HEIC one of them."""
    quadrants().save(tmp_path / "a.jpg")
    quadrants().save(tmp_path / "a.heic", "HEIF")
    code = (
        "import sys; from pathlib import Path; from loratui.dataset.pixels import open_rgb\n"
        "folder = Path(sys.argv[1]); mine = {'pillow_heif', 'pillow_jxl'}\n"
        "open_rgb(folder / 'a.jpg'); print(sorted(mine & set(sys.modules)))\n"
        "open_rgb(folder / 'a.heic'); print(sorted(mine & set(sys.modules)))\n"
    )
    done = run_python(code, tmp_path)
    assert done.stdout.splitlines() == ["[]", "['pillow_heif']"]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.booleans())
def test_the_size_of_jpeg_xl_is_read_from_its_header(width: int, height: int, boxed: bool) -> None:
    """As the decoder finds it, in a container and bare; a cut one is an error, not another size."""
    data = io.BytesIO()
    Image.new("L", (width, height)).save(data, "JXL", lossless=True, effort=1, use_container=boxed)
    assert jxl_size(io.BytesIO(data.getvalue())) == (width, height)
    for cut in range(8):
        with pytest.raises(ValueError, match=r"cut off|no JPEG XL"):
            jxl_size(io.BytesIO(data.getvalue()[: 3 if boxed else 2][:cut]))


@given(st.binary(max_size=80))
def test_nothing_in_a_file_breaks_the_look_at_its_kind(data: bytes) -> None:
    """Any bytes are some kind or none."""
    assert kind_of(io.BytesIO(b"\0\0\0\x20ftyp" + data)) in {"", "heif", "avif"}
    assert kind_of(io.BytesIO(data)) in {"", "heif", "avif", "jxl"}
    for start in (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"):
        try:
            width, height = jxl_size(io.BytesIO(start + data))
        except ValueError:
            continue
        assert width > 0 and height > 0


@pytest.mark.parametrize("name", ["a.heic", "a.jxl", "a.avif"])
def test_damage_is_one_clear_error(tmp_path: Path, name: str) -> None:
    """Cut in half: no traceback, the name and a reason."""
    kind, options = FORMATS[name]
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    noise.save(tmp_path / name, kind, **options)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(DatasetError) as caught:
        open_rgb(tmp_path / name)
    assert name in caught.value.message and "\n" not in caught.value.message
    assert features.check("avif")


def test_opening_says_no_more_than_pillow(tmp_path: Path) -> None:
    """What is no picture stays Pillow's own error."""
    (tmp_path / "a.heic").write_bytes(b"nothing")
    with pytest.raises(OSError, match="cannot identify"):
        open_image(tmp_path / "a.heic")
