"""The HTML page of a build: what went in, what came out, what was dropped and why.

One file that holds everything it shows (styles, pictures as data URIs), so that it can be mailed or
kept beside the data. Plain facts in, HTML out; nothing is read from disk but the template.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from cytoimagenet_hf.files import write_text
from cytoimagenet_hf.imaging.montage import Tile, fit

PICTURES = 8  # crops shown a class and a reason
GALLERY_CLASSES = 120  # more would make a page of tens of megabytes
THUMBNAIL = 128  # pixels of the longest side
QUALITY = 85  # of JPEG; the page is for the eye, the data set keeps PNG


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFacts:
    """What one source gave; `files` is `SourceFolder.report()` as it stands."""

    name: str
    title: str
    license: str
    terms: str
    fields: int
    records: int
    crops: int = 0
    files: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFacts:
    """One row of labels.parquet: `LabelFacts(**row)` works on it."""

    label: str
    category: str
    candidates: int
    assigned: int
    crops: int
    sources: Sequence[str]
    strata: int = 0
    strata_covered: int = 0
    entropy: float | None = None  # of the strata's shares, in bits
    dropped_reason: str | None = None  # None or "" = kept


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitFacts:
    """How much of the data set one split holds."""

    name: str
    crops: int
    groups: int
    labels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalFacts:
    """How often something was dropped for one reason at one stage, with an example."""

    stage: str
    reason: str
    count: int
    example: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFacts:
    """All that the page of a build shows."""

    title: str
    build: str = ""  # first hex digits of the build's name
    simulated: bool = False  # True: a banner says that the pictures show no real cells
    sources: Sequence[SourceFacts] = ()
    labels: Sequence[LabelFacts] = ()  # in the order of their integers, dropped ones included
    splits: Sequence[SplitFacts] = ()
    refusals: Sequence[RefusalFacts] = ()
    notes: Sequence[str] = ()  # of the whole build: labels merged, shares that were not reached
    gallery: Mapping[str, Sequence[Tile]] = field(default_factory=dict)  # label -> crops
    refused: Mapping[str, Sequence[Tile]] = field(default_factory=dict)  # reason -> crops
    parameters: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    next_steps: Sequence[tuple[str, str]] = ()  # (command, what it does)


def write_report(facts: ReportFacts, to: Path) -> None:
    """Write the page to `to`, whole or not at all; folders are made."""
    write_text(to, render(facts))


def render(facts: ReportFacts) -> str:
    """Return the page as HTML; all text is escaped, equal facts give equal text."""
    import jinja2  # here, so that reading the dataclasses costs nothing

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"picture": _picture, "thousands": _thousands}
    template = resources.files(__package__).joinpath("_report.html.jinja")
    kept = [one for one in facts.labels if not one.dropped_reason]
    return environment.from_string(template.read_text(encoding="utf-8")).render(
        facts=facts,
        kept=kept,
        dropped=[one for one in facts.labels if one.dropped_reason],
        numbers=_headline(facts, kept),
        refusals=sorted(facts.refusals, key=lambda one: (-one.count, one.stage, one.reason)),
        gallery=_shown(facts.gallery, GALLERY_CLASSES),
        refused=_shown(facts.refused, GALLERY_CLASSES),
    )


def _headline(facts: ReportFacts, kept: Sequence[LabelFacts]) -> list[tuple[str, int]]:
    crops = sum(one.crops for one in facts.splits) or sum(one.crops for one in kept)
    return [
        ("crops", crops),
        ("classes", len(kept)),
        ("fields of view", sum(one.fields for one in facts.sources)),
        ("sources", len(facts.sources)),
        ("dropped or refused", sum(one.count for one in facts.refusals)),
    ]


def _shown(rows: Mapping[str, Sequence[Tile]], limit: int) -> list[tuple[str, Sequence[Tile]]]:
    """Take the first rows that have pictures, and the first pictures of each."""
    full = [(name, tiles[:PICTURES]) for name, tiles in rows.items() if len(tiles)]
    return full[:limit]


def _picture(pixels: Tile) -> str:
    """Return a gray crop as a data URI of a small JPEG."""
    stream = io.BytesIO()
    fit(pixels, THUMBNAIL).save(stream, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _thousands(number: int) -> str:
    return f"{number:,}"
