"""Cut out the satellite pictures that `make demo` looks up: eight held-out places.

    python tools/make_demo_crops.py

None was chosen by how well it is found: they are spread evenly over the held-out rows of the recipe
``bluemarble``. Written to ``tools/demo_crops``; the name of a file is its place.
"""

from pathlib import Path

from geoembed.training import load_settings, split_rows
from geoembed.training.opening import open_data

FOLDER = Path(__file__).resolve().parent / "demo_crops"
COUNT = 8


def main() -> None:
    """Write the pictures."""
    settings = load_settings("bluemarble").data
    data = open_data(settings)
    rows = split_rows(data.lonlat, settings).validation
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.png"):
        old.unlink()
    for row in rows[:: len(rows) // COUNT][:COUNT]:
        lon, lat = data.lonlat[row]
        path = FOLDER / f"lon{lon:+.2f}_lat{lat:+.2f}.png"
        data.picture(int(row)).save(path)
        print(path.name)


if __name__ == "__main__":
    main()
