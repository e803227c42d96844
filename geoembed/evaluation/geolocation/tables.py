"""Reports in words: beside the published rows, as Markdown, as JSON."""

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from geoembed.errors import unknown_name
from geoembed.evaluation.geolocation.leakage import Leaks
from geoembed.evaluation.geolocation.metrics import name_threshold

if TYPE_CHECKING:
    from geoembed.evaluation.geolocation.report import GeolocationReport

__all__ = [
    "CAUTION",
    "beside_published",
    "leak_sentence",
    "score_of",
    "title_of",
    "to_dict",
    "to_markdown",
]

# Files named in a page; the JSON has them all.
_NAMED: Final = 20
_LABELS: Final = {"median_km": "median error", "mean_km": "mean error", "geoscore": "GeoScore"}
CAUTION: Final = (
    "Published rows are as printed; they were not run here. Whether these are the benchmark's own "
    "pictures is not checked."
)
_UNITS: Final = {"median_km": ", km", "mean_km": ", km", "geoscore": ""}


def score_of(scores: pd.DataFrame, name: str, column: str = "value") -> float:
    """Return the value of a score, or raise UnknownNameError."""
    found = scores.loc[scores["score"] == name, column]
    if not len(found):
        raise unknown_name("score", name, scores["score"])
    return float(found.iloc[0])


def title_of(report: "GeolocationReport") -> str:
    """Say what was evaluated: the benchmark, or the manifest."""
    if report.protocol is not None:
        return f"Geolocation on {report.protocol.title}"
    manifest = report.record.get("manifest", {}).get("name")
    return f"Geolocation on {manifest}" if manifest else "Geolocation"


def beside_published(report: "GeolocationReport") -> pd.DataFrame:
    """Put this run above the published rows; see `GeolocationReport.beside_published`."""
    names = [name_threshold(km) for km in report.thresholds_km]
    shares = [score_of(report.scores, name) for name in names]
    rows: list[list[Any]] = [["this run", *shares, _how(report)]]
    if "ceiling" in report.scores:
        best = [score_of(report.scores, name, "ceiling") for name in names]
        rows.append(["ceiling of its gallery", *best, "always the place nearest to the truth"])
    rows += _published(report)
    return pd.DataFrame(rows, columns=["system", *names, "how"])


def leak_sentence(leaks: Leaks) -> str:
    """Say how many queries are in the gallery.

    Parameters
    ----------
    leaks : Leaks
        From `geoembed.evaluation.geolocation.find_leaks`.

    Returns
    -------
    str
        One sentence.

    Examples
    --------
    >>> from geoembed.evaluation.geolocation import find_leaks
    >>> leak_sentence(find_leaks([[0.0, 0.0]], [[1.0, 1.0]]))
    'No query lies within 10 m of a place of the gallery.'
    """
    if not len(leaks):
        return f"No query lies within {leaks.within_m:g} m of a place of the gallery."
    verb = "lies" if len(leaks) == 1 else "lie"
    return (
        f"Leakage: {len(leaks):,} of {leaks.queries:,} queries ({leaks.share:.1f} %) {verb} "
        f"within {leaks.within_m:g} m of a place of the gallery, {leaks.exact:,} exactly there. "
        "The gallery gives their answers away."
    )


def to_markdown(report: "GeolocationReport") -> str:
    """Write the page; see `GeolocationReport.to_markdown`."""
    lines = [f"# {title_of(report)}", ""]
    if report.leaks is not None:
        lines += [f"**{leak_sentence(report.leaks)}**", ""]
    lines += _published_lines(report)
    if report.notes:
        lines += ["", *(f"- {note}." for note in report.notes)]
    lines += ["", *_score_lines(report), "", "## By continent", "", *_continent_lines(report)]
    lines += ["", "## How it was done", "", *_facts(report)]
    lost = report.lost
    if len(lost):
        named = [f"- `{row.file}`: {row.error}" for row in lost.head(_NAMED).itertuples()]
        more = [f"- and {len(lost) - _NAMED:,} more"] if len(lost) > _NAMED else []
        lines += ["", "## Not evaluated", "", *named, *more]
    return "\n".join(lines) + "\n"


def to_dict(report: "GeolocationReport") -> dict[str, Any]:
    """Collect everything for JSON; see `GeolocationReport.to_dict`."""
    leaks = report.leaks
    columns = ["system", *map(name_threshold, report.thresholds_km), "how"]
    return {
        "record": report.record,
        "scores": _records(report.scores),
        "continents": _records(report.continents),
        "leakage": None
        if leaks is None
        else {
            "within_m": leaks.within_m,
            "queries": len(leaks),
            "share": None if not leaks.queries else leaks.share,
            "exact": leaks.exact,
            "files": report.rows["file"].iloc[leaks.rows].tolist(),
        },
        "lost": dict(report.lost.itertuples(index=False, name=None)),
        "published": [dict(zip(columns, row, strict=True)) for row in _published(report)],
        "notes": list(report.notes),
    }


def _published(report: "GeolocationReport") -> list[list[Any]]:
    """Rows of the protocol, where its thresholds are those of the report."""
    protocol = report.protocol
    if protocol is None or protocol.thresholds_km != report.thresholds_km:
        return []
    return [
        [row.system, *row.within, f"{row.how}; secondary source" if row.secondary else row.how]
        for row in protocol.published
    ]


def _how(report: "GeolocationReport") -> str:
    facts = report.record
    crops = facts.get("crops")
    parts = ["crops not known" if crops == "not known" else f"tta {crops}" if crops else None]
    gallery = facts.get("gallery") or {}
    parts.append(f"gallery {gallery['name']}" if gallery.get("name") else None)
    return ", ".join(part for part in parts if part) or "-"


def _published_lines(report: "GeolocationReport") -> list[str]:
    table = beside_published(report)
    names = list(table.columns[1:-1])
    rows = [
        [row[0], *(f"{value:.2f}" for value in row[1:-1]), row[-1]]
        for row in table.itertuples(index=False, name=None)
    ]
    ends = {row["score"]: (row["low"], row["high"]) for row in report.scores.to_dict("records")}
    cells = [
        f"**{value}** ({ends[name][0]:.1f} to {ends[name][1]:.1f})"
        for name, value in zip(names, rows[0][1:-1], strict=True)
    ]
    rows[0] = ["**this run**", *cells, rows[0][-1]]
    lines = _lines(["system", *(f"{name}, %" for name in names), "how"], rows)
    if _published(report):
        lines += ["", CAUTION]
    return lines


def _score_lines(report: "GeolocationReport") -> list[str]:
    more = {"ceiling": "ceiling of its gallery", "without_leaks": "without leaked queries"}
    more = {column: name for column, name in more.items() if column in report.scores}
    header = ["score", "value", "interval", *more.values()]
    rows = []
    for row in report.scores.to_dict("records"):
        unit = "" if row["unit"] == "points" else f" {row['unit']}"
        cells = [
            _LABELS.get(row["score"], row["score"]),
            f"{row['value']:,.2f}{unit}",
            f"{row['low']:,.2f} to {row['high']:,.2f}",
        ]
        rows.append(cells + [f"{row[column]:,.2f}{unit}" for column in more])
    return _lines(header, rows)


def _continent_lines(report: "GeolocationReport") -> list[str]:
    columns = [str(column) for column in report.continents.columns]
    header = columns[:2] + [_LABELS.get(c, c) + _UNITS.get(c, ", %") for c in columns[2:]]
    rows = [
        [row[0], f"{row[1]:,}", *(f"{value:,.1f}" for value in row[2:])]
        for row in report.continents.itertuples(index=False, name=None)
    ]
    return _lines(header, rows)


def _facts(report: "GeolocationReport") -> list[str]:
    facts = report.record
    bootstrap, gallery = facts.get("bootstrap", {}), facts.get("gallery") or {}
    encoder = facts.get("image_encoder") or {}
    found = {
        "Pictures": f"{report.evaluated:,} of {len(report.rows):,} evaluated",
        "Manifest": _named(facts.get("manifest"), "sha256"),
        "Features": _named(facts.get("features"), "sha256"),
        "Crops": facts.get("crops"),
        "Image encoder": _named(encoder, "weights_sha256"),
        "Gallery": gallery.get("name")
        and f"{gallery['name']}, {gallery['places']:,} places, digest {_short(gallery['digest'])}",
        "Refinement": facts.get("refinement"),
        "Distance": facts.get("distance"),
        "Intervals": bootstrap
        and f"{bootstrap['level']:.0%}, {bootstrap['resamples']:,} resamples, seed "
        f"{bootstrap['seed']}",
        "GeoScore": facts.get("geoscore"),
        "Versions": ", ".join(f"{k} {v}" for k, v in facts.get("versions", {}).items()),
    }
    return [f"- {name}: {text}" for name, text in found.items() if text]


def _named(facts: "dict[str, Any] | None", digest: str) -> str:
    if not facts or not facts.get("name"):
        return ""
    short = _short(facts.get(digest))
    return f"{facts['name']}, {digest} {short}" if short else str(facts["name"])


def _short(digest: Any) -> str:
    return str(digest)[:16] if digest else ""


def _lines(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    rule = ["---", *["--:"] * (len(header) - 1)]
    if header[-1] == "how":
        rule[-1] = "---"
    return ["| " + " | ".join(map(str, row)) + " |" for row in [header, rule, *rows]]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(table.to_json(orient="records", double_precision=10))
    return rows
