"""Encoded pictures of every kind become upright RGB pictures; broken ones say what is wrong."""

import contextlib
import io
import os
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from geoembed.errors import MissingExtraError, PictureError
from geoembed.images import opening
from geoembed.images.decoding import MAX_PIXELS, decode, upright_rgb
from geoembed.images.kinds import picture_format
from geoembed.images.opening import describe_failure, open_header, read_bytes

# Red, green, blue, yellow: no turn or reflection of it looks like another.
CORNERS = [[(255, 0, 0), (0, 255, 0)], [(0, 0, 255), (255, 255, 0)]]


def quadrants(width=48, height=32):
    image = Image.new("RGB", (width, height))
    for down, row in enumerate(CORNERS):
        for across, colour in enumerate(row):
            box = (across * width // 2, down * height // 2)
            image.paste(colour, (*box, box[0] + width // 2, box[1] + height // 2))
    return image


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels(source):
    return np.asarray(decode(source, max_pixels=MAX_PIXELS)).astype(int)


def png(width, height, body=b"\0" * 8, *, bits=8, colour=2):
    """A PNG that claims a size; colour 2 is RGB, 4 grey with opacity, 6 RGB with opacity."""

    def chunk(kind, data):
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(body))
        + chunk(b"IEND", b"")
    )


# -- orientation ----------------------------------------------------------------------------------

# How a camera that was held so stores the upright picture: the inverse of what its tag asks for.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def as_stored(image, orientation):
    turn = STORED[orientation]
    return image if turn is None else image.transpose(turn)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", STORED)
def test_all_eight_orientations_come_out_upright(orientation, kind):
    upright = quadrants()
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(kind, {})
    data = encoded(as_stored(upright, orientation), kind, exif=exif, **options)
    found = pixels(data)
    assert found.shape == (32, 48, 3)
    # JPEG rounds; swapped quadrants would differ by 255.
    assert np.abs(found - np.asarray(upright)).max() <= (3 if kind == "JPEG" else 0)


@pytest.mark.parametrize("orientation", STORED)
def test_a_pil_image_is_turned_as_pillow_itself_would(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    given = Image.open(io.BytesIO(encoded(quadrants(), "PNG", exif=exif)))
    expected = ImageOps.exif_transpose(given)
    assert upright_rgb(given).tobytes() == expected.tobytes()


def test_what_was_turned_is_not_turned_again():
    exif = Image.Exif()
    exif[0x0112] = 6
    once = decode(encoded(quadrants(), "JPEG", exif=exif), max_pixels=MAX_PIXELS)
    assert once.info == {}
    assert dict(once.getexif()) == {}
    assert upright_rgb(once).tobytes() == once.tobytes()
    plain = decode(encoded(quadrants(), "JPEG"), max_pixels=MAX_PIXELS)
    assert type(plain) is Image.Image


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert (pixels(encoded(quadrants(), exif=exif)) == np.asarray(quadrants())).all()


def test_damaged_metadata_does_not_cost_the_picture():
    image = quadrants()
    image.info["exif"] = b"Exif\x00\x00II*\x00\xff\xff\xff\x7f"
    assert upright_rgb(image).tobytes() == quadrants().tobytes()
    image.info["exif"] = b"Exif\x00\x00nonsense"
    assert upright_rgb(image).tobytes() == quadrants().tobytes()


# -- colours --------------------------------------------------------------------------------------


def test_grey_and_bitmaps_become_rgb():
    assert pixels(encoded(Image.new("L", (2, 2), 77)))[0, 0].tolist() == [77, 77, 77]
    assert pixels(encoded(Image.new("1", (2, 2), 1)))[0, 0].tolist() == [255, 255, 255]


def test_what_is_transparent_becomes_white_and_half_of_it_half():
    image = Image.new("RGBA", (3, 1))
    for at, alpha in enumerate((0, 128, 255)):
        image.putpixel((at, 0), (200, 0, 100, alpha))
    clear, half, opaque = pixels(encoded(image))[0].tolist()
    assert clear == [255, 255, 255]
    expected = [round((c * 128 + 255 * 127) / 255) for c in (200, 0, 100)]
    assert np.abs(np.subtract(half, expected)).max() <= 1
    assert opaque == [200, 0, 100]


def test_grey_with_alpha_and_premultiplied_modes():
    assert pixels(encoded(Image.new("LA", (1, 1), (9, 0))))[0, 0].tolist() == [255] * 3
    assert pixels(encoded(Image.new("LA", (1, 1), (9, 255))))[0, 0].tolist() == [9] * 3
    for mode in ("La", "RGBa"):
        clear = Image.new(mode.upper(), (1, 1)).convert(mode)
        assert upright_rgb(clear).getpixel((0, 0)) == (255, 255, 255)


def test_palettes_with_and_without_a_transparent_colour():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert pixels(encoded(image))[0].tolist() == [[10, 20, 30], [40, 50, 60]]
    assert pixels(encoded(image, transparency=0))[0].tolist() == [[255] * 3, [40, 50, 60]]
    # One opacity for each colour of the palette.
    each = pixels(encoded(image, transparency=bytes([255, 0])))[0].tolist()
    assert each == [[10, 20, 30], [255] * 3]


def test_a_transparent_colour_of_rgb_and_of_grey():
    rgb = Image.new("RGB", (1, 1), (1, 2, 3))
    assert pixels(encoded(rgb, transparency=(1, 2, 3)))[0, 0].tolist() == [255] * 3
    grey = Image.new("L", (1, 1), 5)
    assert pixels(encoded(grey, transparency=5))[0, 0].tolist() == [255] * 3
    deep = Image.fromarray(np.array([[257, 514]], np.uint16))
    deep.info["transparency"] = 257
    assert np.asarray(upright_rgb(deep))[0, :, 0].tolist() == [255, 2]


@pytest.mark.parametrize(("colour", "values"), [(2, 3), (4, 2), (6, 4)])
def test_16_bit_colours_are_within_a_level(colour, values):
    row = [40000, 20000, 10000][: values - (colour > 2)] + [65535] * (colour > 2)
    body = b"\0" + struct.pack(f">{values}H", *row)
    found = pixels(png(1, 1, body, bits=16, colour=colour))[0, 0]
    expected = np.array(row[:3] if colour != 4 else [row[0]] * 3) / 257
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_cut(kind):
    levels = np.array([[0, 128, 257, 32768, 65535]], np.uint16)
    assert pixels(encoded(Image.fromarray(levels), kind))[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_floating_point_tiffs_are_scaled_or_refused():
    good = encoded(Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32)), "TIFF")
    assert pixels(good)[0, :, 0].tolist() == [0, 128, 255]
    heights = encoded(Image.fromarray(np.array([[0.0, 812.5]], np.float32)), "TIFF")
    with pytest.raises(PictureError, match="run from 0 to 812.5"):
        pixels(heights)
    whole = encoded(Image.fromarray(np.array([[0, 70000]], np.int32)), "TIFF")
    with pytest.raises(PictureError, match="32-bit integers"):
        pixels(whole)


def test_cmyk_jpegs_are_read_as_adobe_writes_them_inverted():
    ink = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    data = encoded(ink, "JPEG", quality=100)
    # Adobe's marker, and the stored values inverted: 255 is no ink.
    assert b"Adobe" in data
    assert np.abs(pixels(data)[8, 8] - [0, 255, 255]).max() <= 2
    black = encoded(Image.new("CMYK", (16, 16), (0, 0, 0, 255)), "JPEG", quality=100)
    assert pixels(black).max() <= 2
    assert pixels(encoded(ink, "TIFF"))[8, 8].tolist() == [0, 255, 255]


def test_ycbcr_and_what_pillow_cannot_convert(monkeypatch):
    video = quadrants().convert("YCbCr")
    assert np.abs(np.asarray(upright_rgb(video)).astype(int) - quadrants()).max() <= 3

    def refuse(*args, **kwargs):
        # As older releases of Pillow do with LAB.
        raise ValueError("conversion from LAB to RGB not supported")

    monkeypatch.setattr(Image.Image, "convert", refuse)
    with pytest.raises(PictureError, match="Its colours are LAB: convert it to RGB"):
        upright_rgb(Image.new("LAB", (2, 2)))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert getattr(Image.open(io.BytesIO(data)), "n_frames", 1) == 3
    assert pixels(data)[4, 4].tolist() == [255, 0, 0]


def test_a_pil_image_is_taken_at_its_present_frame():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    with Image.open(
        io.BytesIO(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    ) as image:
        image.seek(1)
        assert upright_rgb(image).getpixel((4, 4)) == (0, 255, 0)


@pytest.mark.parametrize("kind", ["JPEG2000", "BMP", "PPM", "AVIF", "MPO"])
def test_other_formats_are_read(kind):
    if kind == "AVIF" and "AVIF" not in Image.registered_extensions().values():
        pytest.skip("this Pillow was built without AVIF")
    options = {"JPEG2000": {"irreversible": False}}.get(kind, {})
    found = pixels(encoded(quadrants(), kind, **options))
    assert np.abs(found[4, 4] - [255, 0, 0]).max() <= 8
    assert np.abs(found[28, 44] - [255, 255, 0]).max() <= 8


# -- HEIC -----------------------------------------------------------------------------------------


def heic(image):
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, quality=95)
    return file.getvalue()


def test_heic_is_read_by_the_optional_package_without_changing_pillow():
    found = pixels(heic(quadrants(64, 64)))
    assert np.abs(found[8, 8] - [255, 0, 0]).max() <= 20
    assert np.abs(found[56, 56] - [255, 255, 0]).max() <= 20
    assert "HEIF" not in Image.OPEN


@pytest.mark.parametrize("orientation", STORED)
def test_heic_comes_out_upright(orientation):
    pillow_heif = pytest.importorskip("pillow_heif")
    stored = as_stored(quadrants(64, 32), orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    pillow_heif.encode("RGB", stored.size, stored.tobytes(), file, quality=95, exif=exif.tobytes())
    found = pixels(file.getvalue())
    assert found.shape == (32, 64, 3)
    assert np.abs(found[8, 8] - [255, 0, 0]).max() <= 20
    assert np.abs(found[24, 8] - [0, 0, 255]).max() <= 20


def test_without_the_package_heic_names_the_extra(monkeypatch):
    data = heic(quadrants(64, 64))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(MissingExtraError, match=r'HEIC pictures.*pip install "geoembed\[heic\]"'):
        pixels(data)


# -- what is no picture ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"", "empty: 0 bytes"),
        (b"%PDF-1.7", "a PDF document"),
        (b"8BPS\0\1", "a Photoshop document"),
        (b"PK\x03\x04....", "a ZIP archive"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"<!DOCTYPE html><html>404", "a web page"),
        (b"\n <html>", "a web page"),
        (b'<?xml version="1.0"?><svg>', "an SVG drawing"),
        (b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41", "but a video"),
        (b"\x00\x00\x00\x18ftypcrx \x00\x00\x00\x01crx isom", "a camera's raw file"),
        (b"\x1a\x45\xdf\xa3", "a video"),
        (b"hello, world", "starts with b'hello, w'"),
    ],
)
def test_what_is_no_picture_is_called_what_it_is(head, said):
    with pytest.raises(PictureError, match=said):
        picture_format(head)


def test_brands_tell_avif_from_heic():
    box = b"\x00\x00\x00\x1cftyp%s\x00\x00\x00\x00mif1%s"
    assert picture_format(box % (b"mif1", b"avif")) == "AVIF"
    assert picture_format(box % (b"mif1", b"heic")) == "HEIF"
    assert picture_format(box % (b"heic", b"msf1")) == "HEIF"


def test_names_of_files_are_not_trusted(tmp_path):
    path = tmp_path / "really_a_png.jpg"
    path.write_bytes(encoded(quadrants()))
    assert (pixels(path) == np.asarray(quadrants())).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000"])
def test_a_picture_that_is_cut_off_says_so(kind):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(PictureError, match="cut off|damaged"):
        pixels(data[: len(data) // 2])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "HEIF"])
def test_no_length_of_a_file_raises_anything_but_a_picture_error(kind):
    """What decoders raise on broken files is of any type; all of it must be caught."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    if kind == "AVIF" and "AVIF" not in Image.registered_extensions().values():
        pytest.skip("this Pillow was built without AVIF")
    data = heic(noise) if kind == "HEIF" else encoded(noise, kind)
    refused = 0
    for length in [*range(0, 100, 7), *range(100, len(data), max(1, len(data) // 20))]:
        try:
            pixels(data[:length])
        except PictureError:
            refused += 1
    assert refused > 20


def test_random_damage_raises_nothing_but_a_picture_error():
    rng = np.random.default_rng(1)
    noise = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP"):
        data = np.frombuffer(encoded(noise, kind, exif=exif), np.uint8)
        for _ in range(60):
            damaged = data.copy()
            damaged[rng.integers(0, len(data), 8)] = rng.integers(0, 256, 8)
            with contextlib.suppress(PictureError):
                decode(damaged.tobytes(), max_pixels=10**6)


def test_a_raw_file_is_not_mistaken_for_its_thumbnail():
    data = encoded(quadrants(), "TIFF", tiffinfo={254: 1})
    with pytest.raises(PictureError, match="reduced preview, as in raw files"):
        pixels(data)


# -- size -----------------------------------------------------------------------------------------


def test_a_bomb_is_refused_by_its_header_alone():
    with pytest.raises(PictureError, match=r"50000 x 50000 pixels, more than the limit of 200,000"):
        pixels(png(50_000, 50_000))


def test_the_limit_is_the_argument_not_pillows(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    data = encoded(quadrants())
    assert decode(data, max_pixels=48 * 32).size == (48, 32)
    with pytest.raises(PictureError, match=r"48 x 32 pixels, more than the limit of 1,535"):
        decode(data, max_pixels=48 * 32 - 1)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_limits_that_pillows_decoders_set_themselves_are_named():
    said = describe_failure(Image.DecompressionBombError("Image size (7 pixels) exceeds"), "x")
    assert said.startswith("Pillow takes it for a decompression bomb: Image size")
    assert "PIL.Image.MAX_IMAGE_PIXELS" in said
    assert describe_failure(MemoryError(), "its pixels").startswith("There is not enough memory")


def test_the_header_is_read_without_decoding():
    with open_header(png(50_000, 50_000)) as image:
        assert image.size == (50_000, 50_000)


# -- files ----------------------------------------------------------------------------------------


def test_files_that_cannot_be_opened_say_why(tmp_path):
    with pytest.raises(PictureError, match="There is no such file"):
        pixels(tmp_path / "missing.jpg")
    with pytest.raises(PictureError, match="It is a folder"):
        pixels(tmp_path)
    with pytest.raises(PictureError, match="The path is empty"):
        pixels("")
    with pytest.raises(PictureError, match="address on the web: download"):
        pixels("https://example.org/a.jpg")
    with pytest.raises(PictureError, match="cannot be opened"):
        pixels("a\0b.jpg")
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(PictureError, match="empty: 0 bytes"):
        pixels(tmp_path / "empty.jpg")


def test_a_pipe_is_not_waited_for(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(PictureError, match="not a regular file"):
        pixels(tmp_path / "pipe.jpg")


def test_a_file_without_permission_says_so(tmp_path, monkeypatch):
    path = tmp_path / "closed.jpg"
    path.write_bytes(encoded(quadrants()))

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(opening, "open", refuse, raising=False)
    with pytest.raises(PictureError, match="cannot be opened: Permission denied"):
        pixels(path)


def test_file_objects_are_rewound_and_bounded(tmp_path):
    file = io.BytesIO(b"abcdef")
    file.read(3)
    assert read_bytes(file, max_pixels=1) == b"abcdef"
    with pytest.raises(PictureError, match="mode 'rb'"):
        read_bytes(io.StringIO("abc"), max_pixels=1)
    closed = io.BytesIO()
    closed.close()
    with pytest.raises(PictureError, match="cannot be read: I/O operation on closed file"):
        read_bytes(closed, max_pixels=1)

    class Endless(io.RawIOBase):
        def readable(self):
            return True

        def read(self, size=-1):
            assert size > 0, "it would never end"
            return bytes(size)

    with pytest.raises(PictureError, match="more than a picture of 1 pixels can have"):
        read_bytes(Endless(), max_pixels=1)


def test_a_file_object_that_gives_a_little_at_a_time_is_read_to_its_end():
    data = encoded(quadrants())

    class Drops(io.BytesIO):
        def read(self, size=-1):
            return super().read(7)

    assert read_bytes(Drops(data), max_pixels=1) == data


def test_no_file_stays_open(tmp_path):
    """Warnings are errors here: an unclosed file would end the test."""
    path = tmp_path / "a.gif"
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    path.write_bytes(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    for _ in range(3):
        decode(path, max_pixels=MAX_PIXELS)
        with pytest.raises(PictureError, match="limit"):
            decode(path, max_pixels=1)
    path.unlink()
