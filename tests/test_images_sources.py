"""Pictures of every kind as one stream, in order; a bad one becomes a row and the rest go on."""

import csv
import io
import subprocess
import sys
import textwrap
import zipfile

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from geoembed.errors import MissingExtraError, OptionError, PictureError, TableError
from geoembed.images.sources import MAX_PIXELS, map_pictures, read_pictures


def encoded(colour, size=(4, 3), kind="PNG"):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(encoded((number, 0, 0)))
    return tmp_path


def reds(pictures):
    return [picture.image.getpixel((0, 0))[0] for picture in pictures]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_every_kind_of_source_gives_the_same_picture(folder, workers):
    path = folder / "3.png"
    array = np.zeros((3, 4, 3), np.uint8)
    array[:, :, 0] = 3
    with open(path, "rb") as file, Image.open(path) as image:
        items = [
            *(path, str(path), path.read_bytes(), bytearray(path.read_bytes()), file, image),
            *(memoryview(path.read_bytes()), io.BytesIO(path.read_bytes())),
            *(array, array / 255, array.astype(np.uint16) * 257),
            *(
                torch.from_numpy(array).permute(2, 0, 1),
                torch.from_numpy(array / 255).movedim(2, 0),
            ),
        ]
        pictures = list(read_pictures(items, workers=workers))
    assert [picture.error for picture in pictures] == [""] * len(items)
    assert {picture.image.tobytes() for picture in pictures} == {array.tobytes()}
    assert {picture.image.mode for picture in pictures} == {"RGB"}


def test_folders_patterns_columns_mappings_and_batches(folder):
    assert reds(read_pictures(folder)) == list(range(6))
    assert reds(read_pictures(f"{folder}/[24].png")) == [2, 4]
    frame = pd.DataFrame({"IMG_FILE": [str(folder / "5.png"), folder / "1.png"]}, index=[7, 7])
    assert reds(read_pictures(frame)) == [5, 1]
    assert reds(read_pictures(frame["IMG_FILE"])) == [5, 1]
    points = gpd.GeoDataFrame(frame, geometry=gpd.points_from_xy([0, 1], [0, 1]))
    assert reds(read_pictures(points, column="IMG_FILE")) == [5, 1]
    mapping = {"one": folder / "1.png", "two": encoded((2, 0, 0))}
    assert [(p.name, *reds([p])) for p in read_pictures(mapping)] == [("one", 1), ("two", 2)]
    batch = np.zeros((3, 8, 9, 3), np.uint8)
    batch[:, :, :, 0] = np.arange(3)[:, None, None]
    assert reds(read_pictures(batch)) == [0, 1, 2]
    assert reds(read_pictures(torch.from_numpy(batch).permute(0, 3, 1, 2))) == [0, 1, 2]
    assert reds(read_pictures(b for b in batch)) == [0, 1, 2]
    assert list(read_pictures([])) == []


@pytest.mark.parametrize("kind", ["string", "category", object])
def test_columns_of_every_kind_of_text(folder, kind):
    paths = pd.Series([str(folder / "2.png"), None, str(folder / "4.png")], dtype=kind)
    good, missing, last = read_pictures(paths)
    assert reds([good, last]) == [2, 4]
    assert (missing.name, missing.error) == ("row 1", "There is no picture: the value is missing.")


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_pictures_are_rows_and_the_rest_go_on(folder, workers):
    good = folder / "1.png"
    data = good.read_bytes()
    (folder / "empty.png").touch()
    (folder / "cut.png").write_bytes(data[:40])
    (folder / "text.png").write_text("hello, this is a text")
    cases = {
        "missing.png": "no such file",
        str(folder / "empty.png"): "empty: 0 bytes",
        str(folder / "cut.png"): "cut off|damaged",
        str(folder / "text.png"): "not a picture",
        str(folder): "It is a folder",
        "http://example.org/a.png": "on the web",
        b"": "empty",
        b"\xff\xd8\xff\xe0nothing": "cut off|damaged",
        io.StringIO("text"): "mode 'rb'",
        None: "the value is missing",
        float("nan"): "the value is missing",
        pd.NA: "the value is missing",
        7: "cannot be read from an object of type int",
        (1, 2): "cannot be read from an object of type tuple",
    }
    arrays = [
        (np.full((2, 2), np.nan), "4 of its 4 values are NaN"),
        (np.zeros((2, 2, 5), np.uint8), "has the shape"),
        (torch.zeros(2, 3, 4, 5), "batch of tensors"),
        ({"path": "a.jpg"}, "an object of type dict"),
    ]
    items, said = [good], [""]
    for item, text in [*cases.items(), *arrays]:
        items += [item, good]
        said += [text, ""]
    pictures = list(read_pictures(items, workers=workers))
    assert len(pictures) == len(items)
    for picture, item, text in zip(pictures, items, said, strict=True):
        assert (picture.image is None) == bool(text)
        if text:
            with pytest.raises(PictureError, match=text):
                raise PictureError(picture.error)
            assert picture.error.endswith((".", ")"))
        else:
            assert (picture.name, picture.error) == (str(item), "")


def test_a_closed_pil_image_and_a_truncated_one_are_rows():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG")
    data = file.getvalue()
    cut = Image.open(io.BytesIO(data[:-500]))
    closed = Image.open(io.BytesIO(data))
    closed.close()
    errors = [picture.error for picture in read_pictures([cut, closed, Image.new("L", (1, 1))])]
    assert "cut off" in errors[0]
    assert "damaged" in errors[1]
    assert errors[2] == ""


def test_huge_pictures_are_refused_in_every_form():
    image = Image.new("RGB", (20, 10))
    items = [encoded("red", size=(20, 10)), image, np.zeros((10, 20)), torch.zeros(3, 10, 20)]
    for picture in read_pictures(items, max_pixels=199):
        assert "20 x 10 pixels, more than the limit of 199" in picture.error
    assert [p.error for p in read_pictures(items, max_pixels=200)] == [""] * 4
    assert MAX_PIXELS == 200_000_000


def test_a_picture_that_is_given_is_left_as_it_is():
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.new("RGB", (4, 3)).save(file, "JPEG", exif=exif)
    image = Image.open(file)
    [picture] = read_pictures(image)
    assert picture.image.size == (3, 4)
    assert image.size == (4, 3)
    assert image.getexif()[0x0112] == 6
    plain = Image.new("RGB", (4, 3))
    [picture] = read_pictures(plain)
    picture.image.putpixel((0, 0), (9, 9, 9))
    assert plain.getpixel((0, 0)) == (0, 0, 0)


# -- streams --------------------------------------------------------------------------------------


def test_a_generator_is_read_no_further_than_asked(folder):
    taken = []

    def source():
        for number in range(1000):
            taken.append(number)
            yield folder / f"{number % 6}.png"

    stream = read_pictures(source(), workers=2, ahead=3)
    assert next(stream).image.getpixel((0, 0))[0] == 0
    assert len(taken) == 4
    for _ in range(9):
        next(stream)
    assert len(taken) == 13
    stream.close()


def test_a_generator_may_use_one_buffer_for_all_its_pictures():
    def source():
        frame = np.zeros((4, 4, 3), np.uint8)
        for number in range(50):
            frame[:] = number
            yield frame

    assert reds(read_pictures(source(), workers=2)) == list(range(50))


def test_a_generator_may_close_what_it_gave(folder):
    def files():
        for number in range(6):
            with open(folder / f"{number}.png", "rb") as file:
                yield file

    def images():
        for number in range(6):
            with Image.open(folder / f"{number}.png") as image:
                yield image

    assert reds(read_pictures(files(), workers=2)) == list(range(6))
    assert reds(read_pictures(images(), workers=2)) == list(range(6))


def test_members_of_an_archive_share_one_file(folder):
    archive = folder / "photos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for number in range(6):
            file.write(folder / f"{number}.png", f"{number}.png")
    with zipfile.ZipFile(archive) as file:
        members = (file.open(name) for name in file.namelist())
        pictures = list(read_pictures(members, workers=2))
    assert reds(pictures) == list(range(6))
    assert [picture.name for picture in pictures] == [f"{number}.png" for number in range(6)]


def test_one_image_given_many_times_is_decoded_once(folder):
    with Image.open(folder / "4.png") as image:
        assert reds(read_pictures([image] * 20, workers=4)) == [4] * 20


def test_a_failing_source_fails_in_its_place(folder):
    def source():
        yield folder / "1.png"
        raise OSError("the card was pulled out")

    stream = read_pictures(source(), workers=2)
    assert reds([next(stream)]) == [1]
    with pytest.raises(OSError, match="the card was pulled out"):
        next(stream)


def test_a_function_runs_on_each_and_its_errors_are_raised(folder):
    assert list(map_pictures(folder, lambda p: p.image.size, workers=2)) == [(4, 3)] * 6


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "MPO", "BMP"])
def test_what_is_lent_to_a_function_is_what_is_read(kind, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "lime")]
    ways = [{}]
    ways += [{"exif": exif}] if kind not in ("GIF", "BMP") else []
    several = {"append_images": frames[1:], "save_all": True}
    ways += [several] if kind not in ("JPEG", "BMP") else []
    paths = [tmp_path / str(number) for number in range(len(ways))]
    for path, options in zip(paths, ways, strict=True):
        frames[0].save(path, kind, **options)
    read = [picture.image.resize((9, 9)).tobytes() for picture in read_pictures(paths)]
    lent = map_pictures(paths, lambda p: (p.image.mode, p.image.resize((9, 9)).tobytes()))
    assert list(lent) == [("RGB", values) for values in read]


def test_errors_of_a_function_are_raised(folder):
    def broken(picture):
        raise ZeroDivisionError(picture.name)

    with pytest.raises(ZeroDivisionError, match="0.png"):
        list(map_pictures(folder, broken, workers=2))


# -- what is refused at once ----------------------------------------------------------------------


def test_options_and_sources_are_checked_before_the_first_picture(tmp_path):
    for options, said in (
        ({"max_pixels": 0}, "max_pixels=0 is no whole number of at least 1"),
        ({"max_pixels": 2.5}, "max_pixels=2.5"),
        ({"workers": -1}, "workers=-1"),
        ({"ahead": -1}, "ahead=-1 is no whole number of at least 0"),
    ):
        with pytest.raises(OptionError, match=said):
            read_pictures([], **options)
    with pytest.raises(PictureError, match="holds no picture"):
        read_pictures(tmp_path)
    with pytest.raises(PictureError, match="matches no file"):
        read_pictures(f"{tmp_path}/*.jpg")
    with pytest.raises(PictureError, match="an object of type int"):
        read_pictures(3)
    with pytest.raises(TableError, match="no column named 'q'"):
        read_pictures(pd.DataFrame({"image": []}), column="q")


def test_without_pillow_the_extra_is_named_at_once(monkeypatch, folder):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtraError, match=r'Reading pictures.*"geoembed\[image\]"'):
        read_pictures(folder)


def test_without_pillow_heif_only_heic_pictures_are_missing(monkeypatch, folder):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.encode("RGB", (64, 64), bytes(64 * 64 * 3), folder / "iphone.heic")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    *others, heic = read_pictures(folder)
    assert reds(others) == list(range(6))
    assert 'pip install "geoembed[heic]"' in heic.error


MEMORY = """
import io, resource, sys
import numpy as np
from PIL import Image
from geoembed.images.sources import read_pictures

file = io.BytesIO()
Image.fromarray(np.zeros((1000, 1500, 3), np.uint8)).save(file, "JPEG")
data = file.getvalue()

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def source(n):
    for number in range(n):
        yield data if number % 2 else np.full((1000, 1500, 3), number % 256, np.uint8)

for _ in read_pictures(source(40), workers=2): pass
before = peak()
count = sum(picture.error == "" for picture in read_pictures(source(int(sys.argv[1])), workers=2))
print(count, peak() - before)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_pictures():
    """2,000 pictures of 6 MB each, 12 GB in all; a few are held at a time."""
    pytest.importorskip("resource")
    command = [sys.executable, "-c", textwrap.dedent(MEMORY), "2000"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    count, grown = done.stdout.split()
    assert int(count) == 2000
    assert float(grown) < 60


# -- real photographs -----------------------------------------------------------------------------


@pytest.mark.shared
def test_all_real_photographs_go_through_upright_as_their_index_says(shared_data):
    world = shared_data / "photos_world"
    with open(world / "index.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 109
    frame = pd.DataFrame(rows)
    frame["file"] = [str(world / name) for name in frame["file"]]
    pictures = list(read_pictures(frame, column="file"))
    assert [picture.name for picture in pictures] == frame["file"].tolist()
    assert [picture.error for picture in pictures] == [""] * 109
    sizes = [(int(row["width"]), int(row["height"])) for row in rows]
    wrong = [p.name for p, size in zip(pictures, sizes, strict=True) if p.image.size != size]
    # Two rows share one file; the first of them gives the size of a picture that is not there.
    assert [name.rpartition("/")[2] for name in wrong] == ["ex_HMD_Nokia_8.jpg"]


@pytest.mark.shared
def test_all_originals_with_odd_exif_go_through(shared_data):
    pictures = list(read_pictures(shared_data / "photos_world" / "exif_originals"))
    assert [picture.error for picture in pictures] == [""] * 8
    assert {picture.image.mode for picture in pictures} == {"RGB"}
