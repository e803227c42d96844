"""Retrieval against the published GeoCLIP: the same logits over its gallery, the same places."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from geoembed.galleries import load_gallery
from geoembed.geolocation import GeoLocalizer

# Every so many-th place is compared in float64, where the reference takes minutes for all.
STEP = 16


@pytest.fixture(scope="module")
def localizer(both, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEOEMBED_CACHE", str(tmp_path_factory.mktemp("galleries")))
        gallery = load_gallery("geoclip.100k", device="cpu")
    return GeoLocalizer(gallery, image_encoder=both.spec, weights=both.folder, device="cpu").fit()


@pytest.fixture(scope="module")
def photos(sample_photo):
    return [sample_photo, sample_photo.crop((100, 50, 500, 450)), sample_photo.rotate(90)]


@pytest.fixture(scope="module")
def pixels(both, photos):
    return torch.cat([both.reference.image_encoder.preprocess_image(photo) for photo in photos])


@pytest.fixture(scope="module")
def vectors(localizer, pixels):
    found = localizer.image_encoder_.encode_pixels(pixels)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def theirs(both, pixels):
    """The published package's logits over its gallery of 100,000 rows, float32."""
    with torch.inference_mode():
        return both.reference(pixels, both.reference.gps_gallery).numpy()


@pytest.mark.slow
def test_logits_are_those_of_the_published_capsules_in_float64(
    both, localizer, pixels, vectors, published_in_float64
):
    some = localizer.gallery_.lonlat[::STEP]
    places = torch.from_numpy(published_in_float64(some))
    with torch.inference_mode():
        images = both.reference.image_encoder(pixels).double()
        scale = both.reference.logit_scale.double().exp()
        expected = scale * (functional.normalize(images) @ functional.normalize(places).T)
    logit_scale = localizer.image_encoder_.logit_scale
    got = logit_scale * (vectors @ localizer.gallery_.embeddings[::STEP].T)
    assert np.abs(got - expected.numpy()).max() <= 1e-6 * logit_scale


@pytest.mark.slow
def test_logits_are_near_those_of_the_published_float32_run(
    both, localizer, pixels, vectors, theirs, published_in_float64
):
    # Each of their rows is one of our places: duplicates are merged.
    gallery = both.reference.gps_gallery.numpy()
    lonlat = localizer.gallery_.lonlat
    order = {tuple(place): row for row, place in enumerate(lonlat.astype(np.float32))}
    ours = np.array([order[tuple(place)] for place in gallery[:, ::-1]])
    scale = localizer.image_encoder_.logit_scale
    got = scale * (vectors @ localizer.gallery_.embeddings.T)[:, ours]
    apart = np.abs(got - theirs)
    assert np.quantile(apart, 0.9999) <= 5e-3
    # Where they are further apart, it is their float32 phases that are off: ours are the capsules'.
    far = np.unique(np.nonzero(apart > 2.5e-3)[1])
    places = published_in_float64(lonlat[ours[far]])
    places /= np.linalg.norm(places, axis=1, keepdims=True)
    with torch.inference_mode():
        images = functional.normalize(both.reference.image_encoder(pixels).double()).numpy()
    truth = scale * (images @ places.T)
    assert np.abs(got[:, far] - truth).max() <= 1e-6 * scale
    assert np.abs(theirs[:, far] - truth).max() > 2e-3


@pytest.mark.slow
def test_the_best_five_places_are_the_same(both, localizer, vectors, theirs):
    found = localizer.localize(vectors=vectors, top_k=5, distinct_km=0.0, radii=False)
    gallery = both.reference.gps_gallery.numpy()
    for query, logits in enumerate(theirs):
        best = []
        for row in np.argsort(-logits, kind="stable"):
            if not any(np.array_equal(gallery[row], other) for other in best):
                best.append(gallery[row])
            if len(best) == 5:
                break
        mine = found.loc[found["query"] == str(query), ["lat", "lon"]].to_numpy(np.float32)
        assert {tuple(place) for place in mine} == {tuple(place) for place in best}
        # Their order may differ where two logits are closer than their phases are exact.
        assert (
            np.abs(np.sort(logits)[::-1][:5] - logits[[_row(gallery, p) for p in mine]]).max()
            < 5e-3
        )


@pytest.mark.slow
def test_from_file_to_places_the_difference_is_that_of_resizing(
    both, localizer, photos, theirs, tmp_path
):
    path = tmp_path / "sample.png"
    photos[0].save(path)
    (score,), (row,) = (values[0] for values in localizer.kneighbors([path], 1))
    # The tower is random and the best places are nearly equal: what is compared is the logit.
    mine = localizer.gallery_.lonlat[row][::-1].astype(np.float32)
    at = _row(both.reference.gps_gallery.numpy(), mine)
    assert theirs[0].max() - theirs[0][at] < 0.05
    assert abs(localizer.image_encoder_.logit_scale * score - theirs[0].max()) < 0.05


def _row(gallery, place):
    return int(np.flatnonzero((gallery == place).all(axis=1))[0])
