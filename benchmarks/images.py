"""Speed of the image side on a CLIP of ViT-L/14's size: what everything around the tower costs."""

import json
import tempfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from statistics import median

import open_clip
import torch
from figures import Figure, alternate, median_ratio, seconds
from safetensors.torch import save_file

import geoembed as ge
from geoembed.extending.registry import image_encoder_spec


def images() -> Iterator[Figure]:
    """Measure photographs through the encoder and the localizer beside the bare tower.

    The weights are random, which takes as long as trained ones: none need be downloaded.
    """
    photo = Path(str(distribution("geoclip").locate_file("geoclip/images/Kauai.png")))
    with tempfile.TemporaryDirectory() as name:
        folder = _random_clip(Path(name))
        loading = seconds(lambda: ge.load_image_encoder("geoclip.v1", weights=folder, device="cpu"))
        encoder = ge.load_image_encoder("geoclip.v1", weights=folder, device="cpu")
        yield Figure("loading ViT-L/14", loading, "s")
        localizer = ge.GeoLocalizer("geoclip.100k", image_encoder=encoder, device="cpu").fit()
        for count, target in ((1, 1.05), (16, 1.02)):
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
            tower, encoded, located = alternate(bare, encode, localize, rounds=5)
            what = "one photo" if count == 1 else f"{count} photos"
            yield Figure(f"{what}, bare tower", median(tower), "s")
            yield Figure(f"{what}, encode_images / bare tower", median_ratio(encoded, tower), "x")
            ratio = median_ratio(located, tower)
            yield Figure(f"{what}, localize / bare tower", ratio, "x", target)


def _random_clip(folder: Path) -> Path:
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
