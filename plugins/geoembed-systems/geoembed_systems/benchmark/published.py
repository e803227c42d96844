"""Rows that papers print of the same systems, on their data: to stand beside ours, not to beat."""

from typing import Any, Final

import pandas as pd

from geoembed.evaluation.geolocation import load_geolocation_protocol

__all__ = ["CAUTION", "PROTOCOLS", "published_rows"]

PROTOCOLS: Final = ("im2gps3k", "gws15k")
"""Benchmarks that the comparison of GeoCLIP's paper prints rows of."""

# What the tables of papers call a system of ours.
_NAMES: Final = {
    "knn": "[L]kNN, sigma = 4",
    "planet": "PlaNet",
    "cplanet": "CPlaNet",
    "isns": "ISNs",
    "translocator": "TransLocator",
    "geodecoder": "GeoDecoder",
    "geoclip": "GeoCLIP",
}

CAUTION: Final = (
    "Published rows are as papers print them: each system with a network of its own, trained on "
    "millions of photographs, on other test pictures. They were not run here. Rows of different "
    "data do not compare; what can be compared is the order of the systems."
)


def published_rows() -> pd.DataFrame:
    """Return what papers print of the seven systems.

    Returns
    -------
    DataFrame
        Benchmark by benchmark, in the order of their tables: ``system`` (its name here),
        ``title`` (its name there), ``data`` (the benchmark), ``within_1`` to ``within_2500`` in
        percent, ``how`` and ``source``. Read from the protocols of
        `geoembed.evaluation.geolocation.load_geolocation_protocol`; rows of other systems, or of
        secondary sources, are left out.

    Examples
    --------
    >>> rows = published_rows()
    >>> rows.loc[rows["system"] == "isns", ["data", "within_750"]].values.tolist()
    [['Im2GPS3k', 49.7], ['GWS15k', 15.5]]
    """
    names = {theirs: ours for ours, theirs in _NAMES.items()}
    rows: list[dict[str, Any]] = []
    for protocol in map(load_geolocation_protocol, PROTOCOLS):
        shares = [f"within_{km:.10g}" for km in protocol.thresholds_km]
        rows += [
            {
                "system": names[row.system],
                "title": row.system,
                "data": protocol.title,
                **dict(zip(shares, row.within, strict=True)),
                "how": row.how,
                "source": protocol.source,
            }
            for row in protocol.published
            if row.system in names and not row.secondary
        ]
    return pd.DataFrame(rows)
