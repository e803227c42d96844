"""The loss against loops over pairs in float64, written from its definition."""

import math

import numpy as np
import pytest
import torch

from geoembed.geodesy import great_circle_km
from geoembed.training.objective import Contrast, contrastive_loss, unit_length
from geoembed.training.precision import without_tiny
from geoembed.training.queue import uniform_places
from geoembed.training.settings import ObjectiveSettings

BATCH, QUEUE, WIDTH = 7, 12, 5
LOG_SCALE = 1.3


def case(seed=0, views=1, *, invalid=(), repeated=False):
    """Random embeddings, and places of which some are near each other and some the same."""
    rng = np.random.default_rng(seed)
    lonlat = uniform_places(BATCH + QUEUE, rng)
    lonlat[0] = (179.99, 61.0)
    lonlat[3] = lonlat[0] + (-359.985, 0.001)  # under a kilometre away, over the antimeridian
    lonlat[BATCH + 2] = lonlat[1] + (0.0, 0.3)
    lonlat[BATCH + 5] = lonlat[4]
    ids = np.arange(100, 100 + BATCH)
    if repeated:
        ids[5], lonlat[5] = ids[2], lonlat[2]
    valid = np.ones(BATCH, dtype=bool)
    valid[list(invalid)] = False
    images = torch.from_numpy(rng.normal(size=(BATCH * views, WIDTH))).requires_grad_()
    places = torch.from_numpy(rng.normal(size=(BATCH + QUEUE, WIDTH))).requires_grad_()
    # The queue holds copies of rows 1, 4 and 2: one as near as can be, one twice.
    queue = np.full(QUEUE, -1)
    queue[[2, 5, 6, 9]] = ids[[1, 4, 2, 2]]
    queue[7] = 99  # a row that is not in the batch
    return images, places, Contrast(ids, lonlat, valid, queue)


def by_hand(
    images, places, contrast, views, *, symmetric=False, mask_km=0.0, smooth_km=0.0, mask_own=False
):
    """Every query on its own; lists and sums of Python's."""

    def cosine(a, b):
        return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))

    def entropy(own, others):
        """Of one query: own and others are (logit, km)."""
        columns = [own, *others]
        weights = [math.exp(-km / smooth_km) if smooth_km else 0.0 for _, km in columns]
        weights[0] = 1.0
        largest = max(logit for logit, _ in columns)
        log_sum = largest + math.log(sum(math.exp(logit - largest) for logit, _ in columns))
        pairs = zip(weights, columns, strict=True)
        return sum(w * (log_sum - logit) for w, (logit, _) in pairs) / sum(weights)

    def km(i, j):
        return float(great_circle_km(*contrast.lonlat[i], *contrast.lonlat[j]))

    def takes_part(i, j):
        """Whether place or picture j stands against picture or place i."""
        if j < BATCH:
            same_row = contrast.ids[i] == contrast.ids[j]
        else:
            same_row = mask_own and contrast.ids[i] == contrast.queue_ids[j - BATCH]
        return i != j and not same_row and not km(i, j) < mask_km

    images, places = images.detach().numpy(), places.detach().numpy()
    scale = math.exp(LOG_SCALE)
    forward, backward, correct = [], [], 0
    for i in range(BATCH):
        for p in range(views):
            if not contrast.valid[i]:
                continue
            query = images[i * views + p]
            others = [
                (scale * cosine(query, places[j]), km(i, j))
                for j in range(len(places))
                if takes_part(i, j)
            ]
            own = (scale * cosine(query, places[i]), 0.0)
            forward.append(entropy(own, others))
            correct += own[0] >= max(logit for logit, _ in others)
            others = [
                (scale * cosine(images[j * views + q], places[i]), km(i, j))
                for j in range(BATCH)
                for q in range(views)
                if takes_part(i, j) and contrast.valid[j]
            ]
            backward.append(entropy(own, others))
    loss = sum(forward) / len(forward)
    if symmetric:
        loss = (loss + sum(backward) / len(backward)) / 2.0
    return loss, correct


OPTIONS = {
    "plain": {},
    "symmetric": {"symmetric": True},
    "mask": {"mask_km": 50.0},
    "smooth": {"smooth_km": 75.0},
    "smooth over continents": {"smooth_km": 3000.0},
    "mask, smooth": {"mask_km": 5.0, "smooth_km": 75.0},
    "symmetric, mask, smooth": {"symmetric": True, "mask_km": 5.0, "smooth_km": 2000.0},
    "own": {"mask_own": True},
    "own, smooth": {"mask_own": True, "smooth_km": 75.0},
    "symmetric, own, mask": {"symmetric": True, "mask_own": True, "mask_km": 50.0},
}


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize(
    "what", [{}, {"invalid": (1, 6)}, {"repeated": True}, {"repeated": True, "invalid": (2,)}],
    ids=["all valid", "two invalid", "a row twice", "a row twice, once invalid"],
)  # fmt: skip
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_equals_the_definition(options, what, views):
    images, places, contrast = case(views=views, **what)
    got = contrastive_loss(
        images,
        places,
        torch.tensor(LOG_SCALE, dtype=torch.float64),
        contrast,
        ObjectiveSettings(**options),
    )
    loss, correct = by_hand(images, places, contrast, views, **options)
    assert got.value.item() == pytest.approx(loss, rel=1e-9)
    assert int(got.correct) == correct


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_parts_sum_to_the_whole_with_their_gradients(options):
    images, places, contrast = case(views=2, invalid=(4,), repeated=True)
    scale = torch.tensor(LOG_SCALE, dtype=torch.float64).requires_grad_()
    settings = ObjectiveSettings(**options)
    leaves = [images, places, scale]
    whole = contrastive_loss(*leaves, contrast, settings)
    expected = torch.autograd.grad(whole.value, leaves)
    parts = [
        contrastive_loss(*leaves, contrast, settings, slice(*part))
        for part in ((0, 3), (3, 5), (5, BATCH))
    ]
    got = torch.autograd.grad(sum(part.value for part in parts), leaves)
    assert sum(part.value for part in parts).item() == pytest.approx(whole.value.item(), rel=1e-12)
    assert sum(int(part.correct) for part in parts) == int(whole.correct)
    for ours, truth in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_gradients_equal_differences(options):
    images, places, contrast = case(seed=2, views=2, invalid=(0,), repeated=True)
    scale = torch.tensor(LOG_SCALE, dtype=torch.float64).requires_grad_()
    settings = ObjectiveSettings(**options)
    assert torch.autograd.gradcheck(
        lambda *leaves: contrastive_loss(*leaves, contrast, settings).value,
        (images, places, scale),
        fast_mode=True,
        check_undefined_grad=False,
    )


def test_an_unreadable_picture_gets_no_gradient_and_its_place_does():
    images, places, contrast = case(views=2, invalid=(3,))
    for symmetric in (False, True):
        settings = ObjectiveSettings(symmetric=symmetric)
        loss = contrastive_loss(images, places, torch.tensor(1.0).double(), contrast, settings)
        by_image, by_place = torch.autograd.grad(loss.value, [images, places])
        assert not by_image[6:8].any()
        assert by_place[3].any()


def test_a_row_twice_is_not_its_own_negative():
    images, places, contrast = case(repeated=True)
    loss = contrastive_loss(
        images, places, torch.tensor(1.0).double(), contrast, ObjectiveSettings(), slice(2, 3)
    )
    (by_place,) = torch.autograd.grad(loss.value, places)
    assert not by_place[5].any()
    assert by_place[2].any()
    assert by_place[4].any()


@pytest.mark.parametrize("smooth_km", [0.0, 3000.0])
def test_copies_of_the_own_place_in_the_queue_count_unless_masked(smooth_km):
    images, places, contrast = case()
    touched = {}
    for mask_own in (False, True):
        settings = ObjectiveSettings(mask_own=mask_own, smooth_km=smooth_km)
        loss = contrastive_loss(
            images, places, torch.tensor(1.0).double(), contrast, settings, slice(2, 3)
        )
        (by_place,) = torch.autograd.grad(loss.value, places)
        touched[mask_own] = by_place.any(dim=1)
    assert touched[False].all()
    assert (~touched[True]).nonzero()[:, 0].tolist() == [BATCH + 6, BATCH + 9]


def test_a_mask_of_copies_needs_rows_of_the_queue():
    images, places, contrast = case()
    without = Contrast(contrast.ids, contrast.lonlat, contrast.valid)
    scale = torch.tensor(1.0).double()
    plain = contrastive_loss(images, places, scale, contrast, ObjectiveSettings())
    same = contrastive_loss(images, places, scale, without, ObjectiveSettings(mask_own=True))
    masked = contrastive_loss(images, places, scale, contrast, ObjectiveSettings(mask_own=True))
    assert same.value == plain.value > masked.value


def test_large_scales_stay_finite_in_float32():
    images, places, contrast = case(repeated=True, invalid=(0,))
    for options in OPTIONS.values():
        leaves = [t.detach().float().requires_grad_() for t in (images, places)]
        loss = contrastive_loss(
            *leaves, torch.tensor(math.log(100.0)), contrast, ObjectiveSettings(**options)
        )
        assert loss.value.dtype == torch.float32
        for gradient in torch.autograd.grad(loss.value, leaves):
            assert gradient.isfinite().all()


def test_unit_length_equals_that_of_torch_with_its_gradients():
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 4))).requires_grad_()
    weights = torch.from_numpy(np.random.default_rng(1).normal(size=(6, 4)))
    ours, theirs = unit_length(vectors), torch.nn.functional.normalize(vectors, dim=1)
    torch.testing.assert_close(ours, theirs)
    got, truth = (torch.autograd.grad((out * weights).sum(), vectors) for out in (ours, theirs))
    torch.testing.assert_close(got, truth)
    assert torch.autograd.gradcheck(unit_length, vectors, fast_mode=True)
    assert not unit_length(torch.zeros(1, 4)).any()


def test_gradients_hold_no_numbers_that_cpus_are_slow_with(monkeypatch):
    *_, contrast = case()
    images, places = torch.zeros(BATCH, WIDTH), torch.zeros(BATCH + QUEUE, WIDTH)
    # Every picture is sure: exp(-90) of its probability is left for each place of the queue, less
    # than the smallest normal float32 and not zero.
    images[:, 0], places[:BATCH, 0], places[BATCH:, 0] = 1.0, 1.0, 0.1
    places[BATCH:, 1] = math.sqrt(0.99)
    before, after = [], []

    def hook(gradient):
        before.append(gradient)
        after.append(without_tiny(gradient))
        return after[-1]

    monkeypatch.setattr("geoembed.training.objective.without_tiny", hook)
    leaves = [images.requires_grad_(), places.requires_grad_()]
    scale = torch.tensor(math.log(100.0))
    loss = contrastive_loss(*leaves, scale, contrast, ObjectiveSettings())
    torch.autograd.grad(loss.value, leaves)
    smallest = torch.finfo(torch.float32).tiny
    assert ((before[0][:, BATCH:] > 0) & (before[0][:, BATCH:] < smallest)).all()
    assert not after[0][:, BATCH:].any()
    assert after[0][:, :BATCH].equal(before[0][:, :BATCH])
