"""Pictures of a manifest and a folder: rows, pixels, what is missing."""

import pickle
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from geoembed.errors import CoordinateError, OptionError, PictureError, TableError
from geoembed.training.manifest import FolderPictures, digest_rows
from geoembed.training.opening import check_missing, open_data
from geoembed.training.settings import DataSettings

LAND = [(2.35, 48.86), (36.8, -1.3), (-58.4, -34.6), (139.7, 35.7), (-100.0, 45.0)]


class SizedNamespace(SimpleNamespace):
    def __len__(self):
        return 1


def gradient(width=12, height=9):
    """Make a picture whose every pixel says where it is."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([20 * columns, 25 * rows, np.full_like(rows, 90)], axis=2).astype(np.uint8)


@pytest.fixture
def photos(tmp_path):
    """Return a folder with five pictures, and a table of them."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(5):
        Image.fromarray(gradient() + np.uint8(number)).save(folder / f"{number}.png")
    lon, lat = zip(*LAND, strict=True)
    table = pd.DataFrame({"IMG_FILE": [f"{n}.png" for n in range(5)], "LAT": lat, "LON": lon})
    table.to_csv(folder / "manifest.csv", index=False)
    return folder


def read(folder):
    return pd.read_csv(folder / "manifest.csv")


def test_rows_are_those_of_the_manifest(photos):
    pictures = FolderPictures(photos / "manifest.csv", photos)
    assert len(pictures) == 5
    assert pictures.lonlat.tolist() == [list(place) for place in LAND]
    assert pictures.names == tuple(f"{n}.png" for n in range(5))
    assert pictures.missing == pictures.reasons == []
    for row in range(5):
        found = pictures.picture(row)
        assert np.array_equal(np.asarray(found), gradient() + np.uint8(row))
        assert pictures.read(row) == (photos / f"{row}.png").read_bytes()


def test_the_folder_of_the_manifest_is_taken_where_none_is_given(photos):
    assert len(FolderPictures(photos / "manifest.csv")) == 5
    with pytest.raises(OptionError, match=r"images= is needed where the manifest is a table"):
        FolderPictures(read(photos))


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".gpkg"])
def test_tables_of_all_kinds_give_the_same_data(photos, tmp_path, suffix):
    import geopandas as gpd

    table, path = read(photos), tmp_path / f"manifest{suffix}"
    points = gpd.points_from_xy(table["LON"], table["LAT"], crs=4326)
    frame = gpd.GeoDataFrame(table[["IMG_FILE"]], geometry=points)
    if suffix == ".csv":
        table.rename(columns={"IMG_FILE": "photo", "LAT": "Breite", "LON": "Laenge"}).to_csv(path)
        columns = {"file": "photo", "lon": "Laenge", "lat": "Breite"}
    elif suffix == ".parquet":
        frame.to_parquet(path)
        columns = {}
    else:
        frame.to_crs(3857).to_file(path)
        columns = {}
    pictures = FolderPictures(path, photos, **columns)
    assert pictures.names == tuple(table["IMG_FILE"])
    assert np.allclose(pictures.lonlat, LAND, atol=1e-9)


def test_missing_files_are_listed_and_are_no_rows(photos):
    (photos / "1.png").unlink()
    (photos / "3.png").unlink()
    pictures = FolderPictures(photos / "manifest.csv")
    assert pictures.missing == ["1.png", "3.png"]
    assert pictures.reasons == ["There is no such file."] * 2
    assert pictures.names == ("0.png", "2.png", "4.png")
    assert pictures.rows.tolist() == [0, 2, 4]
    assert pictures.lonlat.tolist() == [list(LAND[row]) for row in (0, 2, 4)]
    assert pictures.picture(1).getpixel((0, 0)) == (2, 2, 92)


def test_a_run_stops_above_the_share_that_may_be_missing(photos):
    (photos / "1.png").unlink()
    path = str(photos / "manifest.csv")
    assert len(open_data(DataSettings(path=path, max_bad=0.2))) == 4
    message = (
        r"1 of 5 pictures \(20 %\) cannot be used, more than data.max_bad = 0.19: 1.png: There"
    )
    with pytest.raises(TableError, match=message):
        open_data(DataSettings(path=path, max_bad=0.19))


def test_many_missing_pictures_are_counted(photos):
    names = [f"{n}.jpg" for n in range(1200)]
    data = SizedNamespace(missing=names, reasons=["gone"] * 1200)
    with pytest.raises(TableError, match=r"1,200 of 1,201 .*4.jpg: gone; and 1,195 more"):
        check_missing(data, max_bad=0.5)


def test_nothing_there_says_where_it_was_looked_for(photos, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(TableError, match=r"None of the 5 pictures of manifest.csv is in .*empty"):
        FolderPictures(photos / "manifest.csv", empty)
    with pytest.raises(OptionError, match=r"is no folder"):
        FolderPictures(photos / "manifest.csv", tmp_path / "nowhere")


def test_settings_name_the_columns(photos):
    path = photos / "other.csv"
    read(photos).rename(columns={"IMG_FILE": "p", "LAT": "b", "LON": "l"}).to_csv(path)
    settings = DataSettings(
        path=str(path), images=str(photos), file_column="p", lon_column="l", lat_column="b"
    )
    data = open_data(settings)
    assert data.lonlat.tolist() == [list(place) for place in LAND]


@pytest.mark.parametrize(
    ("settings", "error", "told"),
    [
        ({"file_column": "shot"}, TableError, r"has no column 'shot'.*with data\.file_column=\."),
        ({"lon_column": "x"}, OptionError, r"^data\.lon_column= was given without data\.lat_col"),
        ({"images": "nowhere"}, OptionError, r"^data\.images='nowhere' is no folder"),
    ],
)
def test_errors_of_settings_name_settings(photos, settings, error, told):
    with pytest.raises(error, match=told):
        open_data(DataSettings(path=str(photos / "manifest.csv"), **settings))


def test_rows_without_a_place_are_an_error_or_counted(photos):
    table = read(photos)
    table.loc[[1, 3], "LAT"] = None
    table.to_csv(photos / "gaps.csv", index=False)
    path = str(photos / "gaps.csv")
    with pytest.raises(CoordinateError, match=r"rows 1, 3.* pass data\.on_invalid='drop'"):
        open_data(DataSettings(path=path))
    data = open_data(DataSettings(path=path, on_invalid="drop"))
    assert data.names == ("0.png", "2.png", "4.png")
    assert data.notes == ("left out of the manifest: 2 rows without a place or a picture",)


def test_settings_without_data_are_refused(tmp_path):
    with pytest.raises(OptionError, match=r"data.kind = 'manifest' needs data.path"):
        open_data(DataSettings())
    with pytest.raises(OptionError, match=r"data.path = .*nothing.csv'?: there is no such file"):
        open_data(DataSettings(path=str(tmp_path / "nothing.csv")))


def test_empty_and_one_row_manifests(photos):
    table = read(photos)
    with pytest.raises(TableError, match=r"has no rows"):
        FolderPictures(table.iloc[:0], photos)
    (photos / "none.csv").write_text("IMG_FILE,LAT,LON\n")
    with pytest.raises(TableError, match=r"none.csv has no rows"):
        FolderPictures(photos / "none.csv")
    one = FolderPictures(table.iloc[[2]], photos)
    assert len(one) == 1
    assert one.names == ("2.png",)


def test_swapped_and_impossible_coordinates_are_refused(photos):
    table = read(photos).iloc[[0] * 3]
    with pytest.raises(CoordinateError, match=r"148.*\[-90, 90\]|\[-90, 90\].*148"):
        FolderPictures(table.assign(LAT=[48.0, 148.0, 48.0]), photos)
    with pytest.raises(CoordinateError, match=r"outside \[-180, 360\]"):
        FolderPictures(table.assign(LON=[2.0, 2.0, 400.0]), photos)
    # Inland Brazil; the other way round it is the South Atlantic.
    rng = np.random.default_rng(0)
    brazil = read(photos).iloc[[0] * 40]
    brazil = brazil.assign(LON=rng.uniform(-56, -46, 40), LAT=rng.uniform(-14, -6, 40))
    assert len(FolderPictures(brazil, photos)) == 40
    with pytest.raises(CoordinateError, match=r"Longitude and latitude .* look swapped"):
        FolderPictures(brazil.rename(columns={"LON": "LAT", "LAT": "LON"}), photos)


def test_rows_without_a_place_are_refused_or_counted(photos):
    table = read(photos).assign(LAT=[48.0, None, 48.0, 1.0, 2.0])
    with pytest.raises(CoordinateError, match=r"1 of 5 rows .* have no place or no picture"):
        FolderPictures(table, photos)
    pictures = FolderPictures(table, photos, on_invalid="drop")
    assert len(pictures) == 4
    assert pictures.manifest.notes == (
        "left out of the manifest: 1 row without a place or a picture",
    )


def save_modes(folder):
    """Save the same picture in modes that a tower does not see, and say how it should look."""
    colours = gradient()
    image = Image.fromarray(colours)
    grey = image.convert("L")
    image.save(folder / "rgb.png")
    grey.save(folder / "l.png")
    alpha = image.convert("RGBA")
    alpha.putpixel((0, 0), (10, 20, 30, 0))
    alpha.save(folder / "rgba.png")
    image.quantize(8).save(folder / "palette.png")
    deep = np.asarray(grey).astype(np.uint16) * 257
    Image.fromarray(deep).save(folder / "deep.png")
    image.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(folder / "turned.png", exif=exif)
    image.convert("1").save(folder / "bits.png")
    white = colours.copy()
    white[0, 0] = 255
    return {
        "rgb.png": colours,
        "l.png": np.repeat(np.asarray(grey)[:, :, None], 3, axis=2),
        "rgba.png": white,
        "palette.png": np.asarray(image.quantize(8).convert("RGB")),
        "deep.png": np.repeat(np.asarray(grey)[:, :, None], 3, axis=2),
        "cmyk.jpg": None,
        "turned.png": np.rot90(colours, -1),
        "bits.png": np.asarray(image.convert("1").convert("RGB")),
    }


def test_all_modes_become_upright_rgb(tmp_path):
    expected = save_modes(tmp_path)
    table = pd.DataFrame({"file": list(expected), "lon": 2.0, "lat": 48.0})
    pictures = FolderPictures(table, tmp_path)
    for row, (name, pixels) in enumerate(expected.items()):
        found = pictures.picture(row)
        assert found.mode == "RGB", name
        if pixels is None:
            # Two conversions and a lossy format: near to the original, and not its negative.
            assert np.abs(np.asarray(found).astype(float) - gradient()).mean() < 12
        else:
            assert np.array_equal(np.asarray(found), pixels), name


def test_unreadable_pictures_say_which_and_why(photos):
    whole = (photos / "0.png").read_bytes()
    (photos / "0.png").write_bytes(whole[: len(whole) // 2])
    (photos / "1.png").write_bytes(b"")
    (photos / "2.png").write_bytes(b"<html>404</html>")
    pictures = FolderPictures(photos / "manifest.csv")
    for row, reason in enumerate(["damaged|cut off", "It is empty", "a web page"]):
        with pytest.raises(PictureError, match=rf"{row}\.png: .*({reason})"):
            pictures.picture(row)
    (photos / "3.png").unlink()
    with pytest.raises(PictureError, match=r"3\.png: There is no such file"):
        pictures.picture(3)
    with pytest.raises(PictureError, match=r"3\.png: There is no such file"):
        pictures.read(3)
    with pytest.raises(PictureError, match=r"There is no row 5: they run from 0 to 4"):
        pictures.picture(5)


def test_it_can_be_sent_to_a_worker(photos):
    pictures = FolderPictures(photos / "manifest.csv")
    copy = pickle.loads(pickle.dumps(pictures))
    assert copy.picture(3).tobytes() == pictures.picture(3).tobytes()
    assert copy.digest == pictures.digest


def test_the_digest_is_of_names_and_places(photos, tmp_path):
    before = FolderPictures(photos / "manifest.csv").digest
    moved = tmp_path / "moved"
    shutil.copytree(photos, moved)
    assert FolderPictures(moved / "manifest.csv").digest == before
    (moved / "4.png").unlink()
    assert FolderPictures(moved / "manifest.csv").digest != before
    table = read(photos)
    assert FolderPictures(table, photos).digest == before
    assert FolderPictures(table.assign(LAT=table["LAT"] + 1e-9), photos).digest != before
    # A boundary between names is part of it.
    place = np.zeros((2, 2))
    assert digest_rows(["ab", "c"], place) != digest_rows(["a", "bc"], place)
