"""Draw the map of the README: the embedding of the world's land as colours.

Run it from the root of the source tree: ``python tools/make_readme_picture.py``. It needs
matplotlib and the trained weights, and takes about half a minute on two cores.
"""

from pathlib import Path

from PIL import Image

import geoembed as ge

TARGET = Path(__file__).parents[1] / "docs" / "_static" / "readme_map.png"
# Without Antarctica, of which few photos were seen in training.
EXTENT = (-180.0, -57.0, 180.0, 84.0)
STEP = 0.5
PIXELS = 1500
MOST_BYTES = 400_000


def main() -> None:
    """Encode the land, draw it, and store it small."""
    lon, lat = ge.data.land_grid(STEP, extent=EXTENT)
    vectors = ge.encode(lon, lat, progress=True)
    ax = ge.plot.embedding_map(lon, lat, vectors, extent=EXTENT)
    ax.set_xticks([])
    ax.set_yticks([])
    figure = ax.figure
    # Only what is drawn, and little air around it.
    figure.savefig(TARGET, dpi=PIXELS / figure.get_figwidth(), bbox_inches="tight", pad_inches=0.05)
    with Image.open(TARGET) as picture:
        picture.convert("RGB").save(TARGET, optimize=True)
    size = TARGET.stat().st_size
    print(f"{TARGET.name}: {len(lon):,} places, {size / 1e3:.0f} kB")
    if size > MOST_BYTES:
        raise SystemExit(f"larger than {MOST_BYTES / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
