"""Speed of evaluating geolocation on vectors, against the reference's loop on the same ones."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import torch
from figures import Figure, seconds, timed

from geoembed.evaluation.geolocation import Manifest, evaluate_manifest
from geoembed.extending.registry import image_encoder_spec
from geoembed.geolocation import GeoLocalizer
from geoembed.images.head import build_head

__all__ = ["evaluation"]

QUERIES = 3_000
# The slices that the reference is timed on: one batch each. What fits beside a tower on most
# machines, and the batch that it was trained with.
SLICE = 32
LARGE = 512


def evaluation(
    queries: int = QUERIES, slices: Sequence[int] = (SLICE, LARGE), gallery: str = "geoclip.100k"
) -> Iterator[Figure]:
    """Evaluate features of a tower on the gallery of 100K; scale the reference from one batch.

    The reference encodes the gallery again for every batch and walks through the geodesics in
    Python five times. One batch is timed, with the tower left out and the released head and
    encoder in place, and multiplied by the number of batches.

    Parameters
    ----------
    queries : int
        Rows of features.
    slices : sequence of int
        Sizes of the reference's batch; without any it is left out.
    gallery : str
        Registered name; the reference always has its own of 100K.
    """
    rng = np.random.default_rng(0)
    features = rng.normal(scale=0.5, size=(queries, 768)).astype(np.float32)
    places = np.column_stack([rng.uniform(-180, 180, queries), rng.uniform(-56, 75, queries)])
    manifest = Manifest(tuple(f"{at}.jpg" for at in range(queries)), places)
    localizer = GeoLocalizer(gallery, device="cpu", progress=False).fit()
    localizer.gallery_.search(np.ones((1, 512), np.float32), 1)  # the gallery is read

    taken = [
        seconds(lambda: evaluate_manifest(manifest, localizer, features=features, progress=False))
        for _ in range(3)
    ]
    yield timed(f"evaluate {queries:,} features on {gallery}", taken, "s", 15.0)
    for rows in slices:
        one = seconds(lambda rows=rows: reference(features[:rows], places[:rows]))
        yield Figure(
            f"times faster than the reference's eval_images, batches of {rows} (scaled from one)",
            one * queries / rows / sorted(taken)[1],
            "x",
            100.0 if rows == SLICE and queries >= QUERIES else None,
            at_most=False,
            better="more",
        )


def reference(features: np.ndarray, places: np.ndarray) -> None:
    """Run the reference's `eval_images` on one batch of features."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from geoclip import LocationEncoder
        from geoclip.model.misc import load_gps_data
        from geoclip.train.eval import eval_images

    model = Reference(LocationEncoder(), load_gps_data(gallery_file()))
    latlon = torch.tensor(places[:, ::-1].copy(), dtype=torch.float32)
    with redirect_stdout(StringIO()):
        eval_images([(torch.from_numpy(features), latlon)], model)


def gallery_file() -> str:
    """Return where the reference keeps its gallery."""
    from geoclip.model.misc import file_dir

    return f"{file_dir}/gps_gallery/coordinates_100K.csv"


class Reference(torch.nn.Module):
    """The reference's model with its tower left out: what comes in are features."""

    def __init__(self, location_encoder: torch.nn.Module, gallery: torch.Tensor) -> None:
        super().__init__()
        self.head = build_head(image_encoder_spec("geoclip.v1"), 768)
        self.location_encoder = location_encoder
        self.gps_gallery = gallery

    def forward(self, features: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Return logits (n, m), encoding the gallery anew, as the reference does."""
        queries = torch.nn.functional.normalize(self.head(features), dim=1)
        gallery = torch.nn.functional.normalize(self.location_encoder(places), dim=1)
        return 39.69 * queries @ gallery.T
