"""All seven systems on satellite crops of held-out blocks: each beats who does not look."""

import numpy as np
import pytest
from geoembed_systems.benchmark.blue_marble import blue_marble_data
from geoembed_systems.benchmark.data import BenchmarkData
from geoembed_systems.benchmark.measuring import score_places
from geoembed_systems.benchmark.presets import SYSTEMS, Preset

from geoembed.geodesy import spherical_mean

pytestmark = pytest.mark.usefixtures("one_thread")

# An eighth of the benchmark's crops, large cells and a few passes over them: what is tested is that
# each system learns from real pictures at all.
CROPS = 1200
LEARNING = {"epochs": 15.0, "learning_rate": 3e-3, "smooth_km": 400.0}
CELLS = {"t_max": 100, "t_min": 5, **LEARNING}
LEVELS = {"t_max": [300, 150, 80], "t_min": 5, **LEARNING}
OPTIONS = {
    "knn": {},
    "planet": CELLS,
    "cplanet": CELLS,
    "isns": LEVELS,
    "translocator": LEVELS,
    "geodecoder": LEVELS,
    "geoclip": {"recipe": "bluemarble", "gallery": "land", **LEARNING, "learning_rate": 2e-3},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> BenchmarkData:
    return blue_marble_data(
        tmp_path_factory.mktemp("marble") / "data", crops=CROPS, views=1, progress=False
    )


@pytest.fixture(scope="module")
def blind(data) -> list[dict[str, float]]:
    """Scores of the mean point and of chance."""
    count = len(data.test)
    mean = np.broadcast_to(spherical_mean(data.train_lonlat), (count, 2))
    drawn = np.random.default_rng(0).integers(len(data.train), size=count)
    return [score_places(data.test_lonlat, found) for found in (mean, data.train_lonlat[drawn])]


@pytest.mark.parametrize("preset", SYSTEMS, ids=lambda preset: preset.name)
def test_it_beats_the_mean_point_and_chance(preset: Preset, data, blind):
    own = data if preset.tokens else data.without_tokens()
    system = preset.load()(**OPTIONS[preset.name], progress=False)
    system.fit(own.train, own.train_lonlat, own.scenes)
    found = score_places(data.test_lonlat, system.predict(own.test))
    assert np.isfinite(found["median_km"])
    for other in blind:
        assert found["geoscore"] > 1.5 * other["geoscore"]
        assert found["within_2500"] > other["within_2500"] + 10.0
    # The mean point is never near and never at the other end of the world: with so few pictures
    # its median is no measure of who has found any.
    assert found["median_km"] < 0.85 * blind[1]["median_km"]
