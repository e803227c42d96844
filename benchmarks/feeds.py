"""Speed of what feeds a training step: pictures decoded and augmented, and cached features."""

import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import distribution
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import numpy as np
import torch
from figures import Figure, alternate, ratios, timed
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import (
    ColorJitter,
    Compose,
    RandomApply,
    RandomGrayscale,
    RandomResizedCrop,
)

from geoembed.extending.geolocation import OPENAI_CLIP_224
from geoembed.images.decoding import MAX_PIXELS, decode
from geoembed.images.towers import Tower
from geoembed.training.features import write_features
from geoembed.training.feeds import FeatureFeed, ImageFeed
from geoembed.training.manifest import FolderPictures
from geoembed.training.order import GlobalOrder
from geoembed.training.randomness import generator
from geoembed.training.settings import ViewSettings
from geoembed.training.views import make_view

__all__ = ["feeds"]

# What Flickr calls medium: the longer side has 500 pixels.
SIDE = 500
PHOTOS = 48
# Rows of stored features, and most worker processes.
ROWS, WORKERS = 100_000, 2
VIEWS = ViewSettings()


def feeds(
    photos: Path | None = None, count: int = PHOTOS, rows: int = ROWS, workers: int = WORKERS
) -> Iterator[Figure]:
    """Measure decoders, the augmentation beside torchvision's, workers, and the cached feed.

    Parameters
    ----------
    photos : Path, optional
        Folder of JPEGs to measure with; else crops of the photograph in the package `geoclip`.
    count : int
        How many pictures.
    rows : int
        Rows of stored features.
    workers : int
        Most worker processes.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        files = list(_medium(photos, count))
        yield from _decoders(files)
        yield from _augmenting(files)
        yield from _workers(files, workers)
        yield from _cached(rows)
    finally:
        torch.set_num_threads(before)


def _decoders(files: Sequence[bytes]) -> Iterator[Figure]:
    """Decode by Pillow, by Pillow in DCT scale, and by torchvision; one thread each."""
    ways = {"Pillow": _pillow, "Pillow, draft of 224": _draft, "torchvision": _torchvision}
    same = max(int(np.abs(np.asarray(_pillow(f)) - _torchvision(f)).max()) for f in files)
    yield Figure("grey levels between Pillow and torchvision", same, "levels", 2)
    rates = {name: _rate(way, files) for name, way in ways.items()}
    for name, rate in rates.items():
        yield Figure(f"decoding {SIDE} pixels, {name}", rate, "pictures/s a core")
    ours = _rate(lambda file: decode(file, max_pixels=MAX_PIXELS, copy=False), files)
    yield Figure(f"decoding {SIDE} pixels, upright and RGB", ours, "pictures/s a core")


def _augmenting(files: Sequence[bytes]) -> Iterator[Figure]:
    images = [decode(file, max_pixels=MAX_PIXELS) for file in files]
    theirs = Compose(
        [
            RandomResizedCrop(224, interpolation=3),
            RandomApply([ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            RandomGrayscale(p=0.2),
        ]
    )

    def ours() -> None:
        for row, image in enumerate(images):
            make_view(image, OPENAI_CLIP_224, VIEWS, generator(0, "view", row, 0))

    def reference() -> None:
        torch.manual_seed(0)
        mean, std = (
            torch.tensor(each)[:, None, None]
            for each in (OPENAI_CLIP_224.mean, OPENAI_CLIP_224.std)
        )
        for image in images:
            pixels = torch.from_numpy(np.array(theirs(image))).permute(2, 0, 1)
            pixels.float().div_(255).sub_(mean).div_(std).contiguous()

    mine, other = alternate(ours, reference)
    yield Figure("augmenting", len(images) / _processor(ours), "views/s a core")
    yield timed("augmenting / torchvision on Pillow", ratios(mine, other), "x", 1.0)

    def whole() -> None:
        for row, file in enumerate(files):
            image = decode(file, max_pixels=MAX_PIXELS, copy=False)
            make_view(image, OPENAI_CLIP_224, VIEWS, generator(0, "view", row, 0))

    yield Figure("decoding and augmenting", len(files) / _processor(whole), "pictures/s a core")


def _workers(files: Sequence[bytes], most: int) -> Iterator[Figure]:
    """Compare worker processes with this one; their start is not counted."""
    import pandas as pd

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for row, file in enumerate(files):
            (folder / f"{row}.jpg").write_bytes(file)
        names = [f"{row}.jpg" for row in range(len(files))]
        data = FolderPictures(pd.DataFrame({"IMG_FILE": names, "LAT": 0.0, "LON": 0.0}), folder)
        order = GlobalOrder(np.arange(len(files)), min(32, len(files)), 0)
        rates = {}
        for workers in range(most + 1):
            feed = ImageFeed(data, order, VIEWS, OPENAI_CLIP_224, seed=0, workers=workers)
            batches = feed.batches(0, 24)
            for _ in range(4):  # those that wait already
                next(batches)
            start = perf_counter()
            count = sum(len(batch) for batch in batches)
            rates[workers] = count / (perf_counter() - start)
            yield Figure(f"image feed, {workers} workers", rates[workers], "pictures/s")
        if most:
            ratio = rates[1] / rates[0]
            yield Figure("image feed, 1 worker / none", ratio, "x", 0.9, at_most=False)


def _cached(rows: int = ROWS) -> Iterator[Figure]:
    """Wait for batches of 512 views of 768 values, out of so many rows."""
    dimension, batch = 768, min(512, rows // 4)

    class Rows:
        lonlat = np.zeros((rows, 2))
        names = ("x",) * rows
        digest = "benchmark"

        def __len__(self) -> int:
            return rows

        def picture(self, row: int) -> Image.Image:
            return _BLACK

    tower = Tower(
        name="benchmark",
        compute=lambda pixels: torch.randn(len(pixels), dimension),
        dimension=dimension,
        preprocessing=OPENAI_CLIP_224.__class__(size=1, mean=(0.0,) * 3, std=(1.0,) * 3),
        digest=lambda: "",
        device=torch.device("cpu"),
        rows=1024,
    )
    with tempfile.TemporaryDirectory() as name:
        views = ViewSettings(pool=1, augment="none")
        stored = write_features(Rows(), tower, Path(name), views=views, progress=False)
        order = GlobalOrder(np.arange(rows), batch, 0)
        batches = FeatureFeed(stored, order, views, seed=0).batches(0, 190)
        next(batches)  # draws the epoch's permutation
        waits = []
        for _ in range(189):
            start = perf_counter()
            next(batches)
            waits.append(perf_counter() - start)
        name = f"cached features, a batch of {batch} x 768"
        yield timed(name, [1e3 * wait for wait in waits], "ms", 2.0)


_BLACK = Image.new("RGB", (1, 1))


def _medium(photos: Path | None, count: int) -> Iterator[bytes]:
    """Photographs of 500 pixels, as JPEGs of quality 90."""
    if photos is None:
        path = Path(str(distribution("geoclip").locate_file("geoclip/images/Kauai.png")))
        whole = decode(path, max_pixels=MAX_PIXELS)
        wide, high = whole.width * 3 // 4, whole.height * 3 // 4
        rng = np.random.default_rng(0)
        corners = rng.integers(0, [whole.width - wide, whole.height - high], (count, 2))
        images = [whole.crop((x, y, x + wide, y + high)) for x, y in corners.tolist()]
    else:
        found = sorted(photos.glob("*.jpg"))[:count]
        images = [decode(path, max_pixels=MAX_PIXELS) for path in found]
    for image in images:
        scale = SIDE / max(image.size)
        size = (round(image.width * scale), round(image.height * scale))
        file = io.BytesIO()
        image.resize(size, Image.Resampling.LANCZOS).save(file, "JPEG", quality=90)
        yield file.getvalue()


def _pillow(file: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(file))
    image.load()
    return image


def _draft(file: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(file))
    image.draft("RGB", (224, 224))
    image.load()
    return image


def _torchvision(file: bytes) -> np.ndarray:
    data = torch.frombuffer(bytearray(file), dtype=torch.uint8)
    pixels = decode_jpeg(data, mode=ImageReadMode.RGB, apply_exif_orientation=True)
    return pixels.permute(1, 2, 0).numpy().astype(int)


def _rate(work: Callable[[bytes], object], files: Sequence[bytes]) -> float:
    return len(files) / _processor(lambda: [work(file) for file in files])


def _processor(work: Callable[[], object]) -> float:
    """Seconds of processor time, the median of rounds."""
    times = []
    for _ in range(5):
        start = process_time()
        work()
        times.append(process_time() - start)
    return median(times)
