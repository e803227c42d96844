"""Positions in EXIF are read where they are sound, and explained where they are not."""

import csv
import io
import struct
import sys

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from geoembed.errors import CoordinateError, MissingExtraError, PictureError
from geoembed.images.gps import read_gps
from geoembed.images.sources import read_pictures

SYDNEY = {1: "S", 2: (33.0, 51.0, 24.48), 3: "E", 4: (151.0, 12.0, 54.9)}


def photo(tags, kind="JPEG", **options):
    exif = Image.Exif()
    if tags is not None:
        exif[0x8825] = tags
        # Pillow writes TIFF only from EXIF that was read.
        exif.load(exif.tobytes())
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, kind, exif=exif, **options)
    return file.getvalue()


def raw_photo(latitude, longitude, refs=(b"N", b"E")):
    """A JPEG whose rationals are written bit by bit: three (numerator, denominator) each."""
    entries = []
    data = b""
    start = 8 + 2 + 12 + 4 + 2 + 4 * 12 + 4
    for tag, ref, rationals in ((1, refs[0], latitude), (3, refs[1], longitude)):
        entries.append(struct.pack("<HHI4s", tag, 2, 2, ref + b"\0"))
        entries.append(struct.pack("<HHII", tag + 1, 5, len(rationals), start + len(data)))
        data += b"".join(struct.pack("<II", *each) for each in rationals)
    gps = struct.pack("<H", 4) + b"".join(entries) + struct.pack("<I", 0)
    ifd = struct.pack("<HHHIII", 1, 0x8825, 4, 1, 8 + 2 + 12 + 4, 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + ifd + gps + data
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG", exif=exif)
    return file.getvalue()


@pytest.mark.parametrize(
    ("refs", "signs"),
    [("NE", (1, 1)), ("NW", (-1, 1)), ("SE", (1, -1)), ("SW", (-1, -1))],
)
def test_all_four_hemispheres(refs, signs):
    tags = {1: refs[0], 2: (40.0, 30.0, 36.0), 3: refs[1], 4: (73.0, 15.0, 0.0)}
    expected = (signs[0] * 73.25, signs[1] * 40.51)
    assert read_gps(photo(tags)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_format_that_carries_exif(kind):
    assert read_gps(photo(SYDNEY, kind)) == pytest.approx((151.21525, -33.8568), abs=1e-9)


def test_heic_carries_it_too(monkeypatch):
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x8825] = SYDNEY
    file = io.BytesIO()
    pillow_heif.encode("RGB", (64, 64), bytes(64 * 64 * 3), file, exif=exif.tobytes())
    assert read_gps(file) == pytest.approx((151.21525, -33.8568), abs=1e-9)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(MissingExtraError, match=r'pip install "geoembed\[heic\]"'):
        read_gps(file)


def test_every_kind_of_source(tmp_path):
    data = photo(SYDNEY)
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with Image.open(path) as image, open(path, "rb") as file:
        sources = [path, str(path), data, bytearray(data), memoryview(data), image, file]
        found = {read_gps(source) for source in sources}
    assert len(found) == 1
    assert read_gps(np.zeros((4, 4, 3), np.uint8)) is None
    torch = pytest.importorskip("torch")
    assert read_gps(torch.zeros(3, 4, 4)) is None


def test_where_none_was_written_there_is_none():
    assert read_gps(photo(None)) is None
    # Only the version, the time and an altitude.
    assert read_gps(photo({0: b"\2\3\0\0", 6: 12.0, 29: "2020:01:01"})) is None
    plain = io.BytesIO()
    Image.new("RGB", (4, 4)).save(plain, "BMP")
    assert read_gps(plain) is None


def test_rationals_are_divided_and_fewer_parts_are_enough():
    data = raw_photo([(40, 1), (265, 10), (0, 1)], [(73, 1), (1, 2), (3600, 100)])
    assert read_gps(data) == pytest.approx((73 + 0.5 / 60 + 36 / 3600, 40 + 26.5 / 60), abs=1e-12)
    assert read_gps(photo({**SYDNEY, 2: (33.5, 6.0)}))[1] == pytest.approx(-33.6)
    assert read_gps(photo({**SYDNEY, 2: (33.8568,)}))[1] == pytest.approx(-33.8568)


def test_60_seconds_are_what_rounding_writes():
    assert read_gps(photo({**SYDNEY, 2: (33.0, 51.0, 60.0)}))[1] == pytest.approx(-33 - 52 / 60)


@pytest.mark.parametrize(
    "broken", [[(40, 0), (0, 1), (0, 1)], [(0, 0), (0, 0), (0, 0)], [(40, 1), (30, 1), (0, 0)]]
)
def test_a_denominator_of_zero_is_no_number(broken):
    with pytest.raises(CoordinateError, match=r"The EXIF latitude cannot be read: .*nan"):
        read_gps(raw_photo(broken, [(73, 1), (0, 1), (0, 1)]))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({2: (90.0, 0.0, 0.1)}, "latitude is 90 degrees, beyond 90: it was written as 90, 0, 0.1"),
        ({4: (213.0, 38.0, 24.0)}, "longitude is 213.64 degrees, beyond 180"),
        ({4: (11.0, 75.0, 0.0)}, "longitude cannot be read: its minutes are 75, more than 60"),
        ({2: (11.0, 5.0, 61.0)}, "latitude cannot be read: its seconds are 61, more than 60"),
        ({2: (-33.0, 51.0, 0.0)}, "latitude cannot be read: its degrees are -33, less than 0"),
        ({1: "\0"}, "latitude has no hemisphere: N or S was looked for, none was found"),
        ({3: "Q"}, "longitude has no hemisphere: E or W was looked for, 'Q' was found"),
        ({2: ()}, "latitude cannot be read"),
        ({2: (1.0, 2.0, 3.0, 4.0)}, "latitude cannot be read"),
        ({2: "33 S"}, "latitude cannot be read: it was written as '33 S'"),
        ({18: "TOKYO"}, "datum TOKYO.*EPSG:4301"),
    ],
)
def test_positions_that_are_none_are_explained(changes, said):
    image = Image.new("RGB", (4, 4))
    image.getexif()[0x8825] = {**SYDNEY, **changes}
    with pytest.raises(CoordinateError, match=said):
        read_gps(image)


@pytest.mark.parametrize("gone", [1, 2, 3, 4])
def test_half_a_position_is_explained(gone):
    tags = {tag: value for tag, value in SYDNEY.items() if tag != gone}
    said = "has no hemisphere" if gone in (1, 3) else "is missing, and the other"
    with pytest.raises(CoordinateError, match=said):
        read_gps(photo(tags))


def test_null_island_is_where_cameras_are_before_they_know():
    nowhere = {1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)}
    with pytest.raises(CoordinateError, match="position is 0, 0: cameras write it before"):
        read_gps(photo(nowhere))
    # On the equator, or on the meridian, people do take photographs.
    assert read_gps(photo({**nowhere, 4: (9.0, 27.0, 0.0)})) == (9.45, 0.0)
    assert read_gps(photo({**nowhere, 2: (51.0, 28.0, 39.0)}))[0] == 0.0


def test_letters_and_datums_as_cameras_write_them():
    for south in ("S", "s", "S\0", " S", "South", b"S"):
        image = Image.new("RGB", (4, 4))
        image.getexif()[0x8825] = {**SYDNEY, 1: south, 18: "WGS-84   "}
        assert read_gps(image)[1] == pytest.approx(-33.8568)
    whole = {**SYDNEY, 2: (IFDRational(33, 1), IFDRational(0, 1), IFDRational(0, 1))}
    assert read_gps(photo(whole))[1] == -33.0


def test_what_is_no_picture_is_an_error_not_an_absent_position(tmp_path):
    with pytest.raises(PictureError, match="There is no such file"):
        read_gps(tmp_path / "missing.jpg")
    with pytest.raises(PictureError, match="not a picture"):
        read_gps(b"hello, this is a text")
    with pytest.raises(PictureError, match="from an object of type int"):
        read_gps(3)


def test_damaged_exif_is_an_error_not_an_absent_position():
    image = Image.new("RGB", (4, 4))
    image.info["exif"] = b"Exif\0\0nonsense"
    with pytest.raises(PictureError, match="reading its EXIF failed"):
        read_gps(image)


def test_reading_pictures_passes_the_position_over():
    [picture] = read_pictures(photo(SYDNEY))
    assert read_gps(picture.image) is None


@pytest.mark.shared
def test_positions_of_the_originals_are_those_of_their_index(shared_data):
    world = shared_data / "photos_world"
    with open(world / "index.csv", encoding="utf-8", newline="") as file:
        index = {
            row["file"]: (float(row["lon"]), float(row["lat"]))
            for row in csv.DictReader(file)
            if row["lon"]
        }
    found = {
        "ex_DSCN0010_NE.jpg": "images/ex_DSCN0010.jpg",
        "pp_elephants_SE.jpg": "images/pp_elephants.jpg",
        "pp_ferriswheel_NW.jpg": "images/pp_ferriswheel_colorful.jpg",
        "xv_FurnaceCreekInn_NW.jpg": "images/xv_furnace_creek.jpg",
    }
    originals = world / "exif_originals"
    for name, entry in found.items():
        # The index keeps five decimals.
        assert read_gps(originals / name) == pytest.approx(index[entry], abs=6e-6)
    assert read_gps(originals / "pp_gps2000_SE.jpg") == pytest.approx(
        (144.188958, -38.405195), abs=1e-6
    )
    broken = {
        "me_zero_zero_gps.jpg": "position is 0, 0",
        "pp_out_of_range_gps.jpg": "its seconds are 330528, more than 60",
        "pp_snow_broken_gps.jpg": r"written as \(nan, nan, nan\)",
    }
    for name, said in broken.items():
        with pytest.raises(CoordinateError, match=said):
            read_gps(originals / name)
    assert len(found) + 1 + len(broken) == len(list(originals.iterdir())) == 8


@pytest.mark.shared
def test_pictures_without_exif_have_no_position(shared_data):
    images = sorted((shared_data / "photos_world" / "images").iterdir())
    assert len(images) == 108
    assert {read_gps(path) for path in images} == {None}
