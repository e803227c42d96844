"""Cut out the satellite pictures that `make demo` looks up: held-out places, one a continent.

    python tools/make_demo_crops.py

None was chosen by how well it is found: of each continent the first held-out row of the recipe
``bluemarble`` is taken. Written to ``tools/demo_crops``; the name of a file is its place.
"""

from pathlib import Path

from geoembed.data import label_country
from geoembed.training import load_settings, split_rows
from geoembed.training.opening import open_data

FOLDER = Path(__file__).resolve().parent / "demo_crops"


def main() -> None:
    """Write one PNG a continent."""
    settings = load_settings("bluemarble").data
    data = open_data(settings)
    rows = split_rows(data.lonlat, settings).validation
    lon, lat = data.lonlat[rows].T
    continents = label_country(lon, lat, column="continent")
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.png"):
        old.unlink()
    for continent in sorted({name for name in continents if name}):
        first = list(continents).index(continent)
        path = FOLDER / f"lon{lon[first]:+.2f}_lat{lat[first]:+.2f}.png"
        data.picture(int(rows[first])).save(path)
        print(f"{continent:15} {path.name}")


if __name__ == "__main__":
    main()
