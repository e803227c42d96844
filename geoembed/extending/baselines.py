"""The specs of the location encoders that learned nothing, which every claim has to beat."""

from typing import Final

from geoembed.extending.specs import LocationEncoderSpec

__all__ = [
    "BASELINES",
    "SPACE2VEC_SCALES",
    "SPHERE2VEC_SCALES",
    "fourier_spec",
    "harmonics_spec",
]

_PACKAGE: Final = "geoembed.encoders.baselines"

# Smallest scale, largest scale, number: degrees for Space2Vec, radians for Sphere2Vec. Number and
# largest are those of the authors' benchmark (TorchSpatial). Of 0.0001 to 10 the smallest scale is
# the one with the best mean R2 of ridge regression, by cross-validation over 3,076 air
# temperatures and 4,000 house prices: a baseline is to be hard to beat.
SPACE2VEC_SCALES: Final = (0.01, 360.0, 64)
SPHERE2VEC_SCALES: Final = (0.0001, 1.0, 64)

_GEO_PRIOR: Final = (
    "Mac Aodha, Cole, Perona: Presence-Only Geographical Priors for Fine-Grained Image "
    "Classification. ICCV 2019. https://arxiv.org/abs/1906.05272; used by Cole et al.: Spatial "
    "Implicit Neural Representations for Global-Scale Species Mapping (SINR). ICML 2023. "
    "https://arxiv.org/abs/2306.02564"
)
_SPACE2VEC: Final = (
    "Mai, Janowicz, Yan, Zhu, Cai, Lao: Multi-Scale Representation Learning for Spatial Feature "
    "Distributions using Grid Cells. ICLR 2020. https://arxiv.org/abs/2003.00824"
)
_SPHERE2VEC: Final = (
    "Mai, Xuan, Zuo, He, Song, Ermon, Janowicz, Lao: Sphere2Vec: A General-Purpose Location "
    "Representation Learning over a Spherical Surface for Large-Scale Geospatial Predictions. "
    "ISPRS Journal of Photogrammetry and Remote Sensing 202, 2023. "
    "https://arxiv.org/abs/2306.17624"
)
_HARMONICS: Final = (
    "Rußwurm, Klemmer, Rolf, Zbinden, Tuia: Geographic Location Encoding with Spherical "
    "Harmonics and Sinusoidal Representation Networks. ICLR 2024. "
    "https://arxiv.org/abs/2310.06743"
)
_FOURIER: Final = (
    "Tancik et al.: Fourier Features Let Networks Learn High Frequency Functions in Low "
    "Dimensional Domains. NeurIPS 2020. https://arxiv.org/abs/2006.10739; map, scales and number "
    "of frequencies of GeoCLIP, https://arxiv.org/abs/2309.16020"
)

_TORN: Final = "torn at the antimeridian and at the poles, by nature; seam='blend' mends it"
_WHOLE: Final = "none"


def _spec(
    name: str, code: str, dimension: int, summary: str, paper: str, **details: str
) -> LocationEncoderSpec:
    return LocationEncoderSpec(
        name=name,
        factory=f"{_PACKAGE}.{code}",
        dimension=dimension,
        summary=summary,
        paper=paper,
        # Computed in float64: what is left is the rounding of float32 output.
        tolerance=1e-6,
        details=details,
    )


def harmonics_spec(degree: int) -> LocationEncoderSpec:
    """Describe the spherical harmonics up to a degree.

    Parameters
    ----------
    degree : int
        The highest degree, at least 1.

    Returns
    -------
    LocationEncoderSpec
        Named ``harmonics.l<degree>``, for `geoembed.encoders.baselines.harmonics.HarmonicsEncoder`.

    Examples
    --------
    >>> harmonics_spec(40).dimension
    1681
    """
    return _spec(
        f"harmonics.l{degree}",
        "harmonics:HarmonicsEncoder",
        (degree + 1) ** 2,
        f"Real spherical harmonics of all degrees up to {degree}",
        _HARMONICS,
        formula="degree by degree the orders -l to l: fully normalised P(sin lat) times sqrt(2) "
        "sin(-m lon), 1, or sqrt(2) cos(m lon); orthonormal over the unit sphere, no "
        "Condon-Shortley phase",
        degree=f"0 to {degree}, where SatCLIP's L = {degree} means 0 to {degree - 1}",
        wavelength=f"the finest waves are about {40030 / degree:,.0f} km long",
        seams=_WHOLE,
    )


def fourier_spec(sigma: int) -> LocationEncoderSpec:
    """Describe random Fourier features at one scale.

    Parameters
    ----------
    sigma : int
        Standard deviation of the frequencies, in turns over a unit of the map, at least 1.

    Returns
    -------
    LocationEncoderSpec
        Named ``rff.s<sigma>``, for `geoembed.encoders.baselines.fourier.RandomFourierEncoder`.

    Examples
    --------
    >>> fourier_spec(16).name
    'rff.s16'
    """
    return _spec(
        f"rff.s{sigma}",
        "fourier:RandomFourierEncoder",
        512,
        f"Random Fourier features of GeoCLIP's map, untrained, sigma = {sigma}",
        _FOURIER,
        formula="cos 2 pi v.b, then sin 2 pi v.b, for 256 frequencies b drawn from N(0, sigma^2); "
        "v is Equal Earth, both axes times 66.50336 / 180",
        sigma=str(sigma),
        frequencies="our own draws, the same bit for bit on every platform; sigma is the seed",
        seams=_TORN,
    )


def _space2vec() -> tuple[LocationEncoderSpec, ...]:
    smallest, largest, count = SPACE2VEC_SCALES
    scales = {
        "scales": f"{count}, evenly spaced in the logarithm from {smallest} to {largest:g} degrees",
        "wavelength": f"2 pi times a scale: {6.2832 * smallest:.3f} to {6.2832 * largest:,.0f} "
        "degrees",
        "seams": _TORN,
    }
    return (
        _spec(
            "space2vec.grid",
            "space2vec:GridEncoder",
            4 * count,
            f"Space2Vec grid: waves of longitude and latitude at {count} scales",
            _SPACE2VEC,
            formula="scale by scale cos and sin of lon / scale, cos and sin of lat / scale",
            **scales,
        ),
        _spec(
            "space2vec.theory",
            "space2vec:TheoryEncoder",
            6 * count,
            f"Space2Vec theory: waves in three directions at {count} scales",
            _SPACE2VEC,
            formula="scale by scale cos and sin of (lon, lat) . a / scale for the unit vectors a "
            "at 0, 120 and 240 degrees",
            **scales,
        ),
    )


def _sphere2vec() -> tuple[LocationEncoderSpec, ...]:
    smallest, largest, count = SPHERE2VEC_SCALES
    scales = {
        "scales": f"{count}, evenly spaced in the logarithm from {smallest} to {largest:g} radian",
        "wavelength": f"2 pi times a scale: {360 * smallest:.3f} to {360 * largest:g} degrees",
        "seams": f"{_TORN}; the scale of 1 radian alone is whole",
    }
    return (
        _spec(
            "sphere2vec.c",
            "sphere2vec:SphereCEncoder",
            3 * count,
            f"Sphere2Vec sphereC: points of the unit sphere at {count} scales",
            _SPHERE2VEC,
            formula="scale by scale sin lat_s, cos lat_s cos lon_s, cos lat_s sin lon_s, where "
            "lon_s and lat_s are the angles over the scale",
            **scales,
        ),
        _spec(
            "sphere2vec.m",
            "sphere2vec:SphereMEncoder",
            5 * count,
            f"Sphere2Vec sphereM: the unit sphere with one angle at {count} scales",
            _SPHERE2VEC,
            formula="scale by scale sin lat_s, cos lat_s cos lon, cos lat cos lon_s, cos lat_s "
            "sin lon, cos lat sin lon_s, where lon_s and lat_s are the angles over the scale",
            **scales,
        ),
    )


BASELINES: Final = (
    _spec(
        "lonlat",
        "plain:LonLatEncoder",
        2,
        "Longitude and latitude in degrees",
        "",
        formula="lon, lat",
        seams=_TORN,
    ),
    _spec(
        "wrap",
        "plain:WrapEncoder",
        4,
        "Sines and cosines of longitude and latitude",
        _GEO_PRIOR,
        formula="sin pi u, sin pi v, cos pi u, cos pi v with u = lon / 180, v = lat / 90",
        seams="whole at the antimeridian; at a pole every longitude differs, and latitude is the "
        "same at both poles, as published",
    ),
    _spec(
        "xyz",
        "plain:UnitSphereEncoder",
        3,
        "The point on the unit sphere",
        "",
        formula="cos lat cos lon, cos lat sin lon, sin lat",
        seams=_WHOLE,
    ),
    *(harmonics_spec(degree) for degree in (10, 20, 40)),
    *_space2vec(),
    *_sphere2vec(),
    *(fourier_spec(sigma) for sigma in (1, 16, 256)),
)
