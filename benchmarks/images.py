"""Speed of the image side on a CLIP of ViT-L/14's size: what everything around the tower costs."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import open_clip
import torch
from figures import Figure, alternate, ratios, seconds, timed
from safetensors.torch import save_file

import geoembed as ge
from geoembed.extending.registry import image_encoder_spec

__all__ = ["images", "random_clip"]

# Photographs at a time, and what localizing them may take of the bare tower's time.
COUNTS = {1: 1.05, 4: 1.02}
CEILING = "the bare tower on pixels that are ready"


def images(
    counts: Sequence[int] = tuple(COUNTS), rounds: int = 3, gallery: str = "geoclip.100k"
) -> Iterator[Figure]:
    """Measure photographs through the encoder and the localizer beside the bare tower.

    The weights are random, which takes as long as trained ones: none need be downloaded.

    Parameters
    ----------
    counts : sequence of int
        How many photographs at a time; without any the tower is left out.
    rounds : int
        Rounds of each.
    gallery : str
        Registered name.
    """
    if counts:
        yield from _photographs(counts, rounds, gallery)
    yield from _refined(ge.GeoLocalizer(gallery, device="cpu").fit())


def _photographs(counts: Sequence[int], rounds: int, gallery: str) -> Iterator[Figure]:
    photo = Path(str(distribution("geoclip").locate_file("geoclip/images/Kauai.png")))
    with tempfile.TemporaryDirectory() as name:
        folder = random_clip(Path(name))
        loading = seconds(lambda: ge.load_image_encoder("geoclip.v1", weights=folder, device="cpu"))
        encoder = ge.load_image_encoder("geoclip.v1", weights=folder, device="cpu")
        yield Figure("loading ViT-L/14", loading, "s")
        localizer = ge.GeoLocalizer(gallery, image_encoder=encoder, device="cpu").fit()
        for count in counts:
            pixels = torch.randn(count, 3, 224, 224)
            photos = [photo] * count

            def bare(pixels: torch.Tensor = pixels) -> None:
                with torch.inference_mode():
                    encoder.network(pixels)

            def encode(photos: list[Path] = photos) -> None:
                encoder.encode_images(photos, progress=False)

            def localize(photos: list[Path] = photos) -> None:
                localizer.localize(photos)

            localize()  # the gallery is warm from here on
            tower, encoded, located = alternate(bare, encode, localize, rounds=rounds)
            what = "one photo" if count == 1 else f"{count} photos"
            yield timed(f"{what}, bare tower", tower, "s")
            ratio = ratios(encoded, tower)
            yield timed(f"{what}, encode_images / bare tower", ratio, "x", better="less")
            ratio = ratios(located, tower)
            target = COUNTS.get(count)
            yield timed(f"{what}, localize / bare tower", ratio, "x", target, better="less")
            share = ratios(tower, located)
            name = f"{what}, localize: share of the ceiling"
            yield timed(name, share, "x", ceiling=CEILING)


def _refined(localizer: ge.GeoLocalizer, queries: int = 20) -> Iterator[Figure]:
    """Time the search of one query without and with refinement; random queries, one at a time."""
    vectors = np.random.default_rng(0).standard_normal((queries, 512)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for refine in (False, True):
        what = "with refinement" if refine else "without refinement"
        ask = partial(localizer.localize, refine=refine)
        ask(vectors=vectors[:1])
        taken = [seconds(partial(ask, vectors=row[None])) for row in vectors]
        yield timed(f"one query, {what}", taken, "s")


def random_clip(folder: Path) -> Path:
    """Write a CLIP of the published size with random weights, in open_clip's layout."""
    spec = image_encoder_spec("geoclip.v1")
    config = open_clip.get_model_config(spec.architecture)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.CLIP(**config)
    save_file(dict(model.state_dict()), folder / "open_clip_model.safetensors")
    preprocessing = {"mean": spec.preprocessing.mean, "std": spec.preprocessing.std}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": preprocessing}), encoding="utf-8"
    )
    return folder
