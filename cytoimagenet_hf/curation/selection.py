"""Which rendered crops are published: duplicates, conflicts, small labels, surplus (design 4).

Each step takes the crops and gives those that stay; what it drops goes to `Exclusions` with stage,
reason and detail. The order of the steps is part of the contract.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from cytoimagenet_hf.curation.material import Material
from cytoimagenet_hf.curation.planning import wanted_records
from cytoimagenet_hf.curation.rendering import RenderedChunks
from cytoimagenet_hf.hashing import rank
from cytoimagenet_hf.hub.licenses import terms_of
from cytoimagenet_hf.schema import CATEGORIES, TERMS

NO_LABEL = "no label"  # reason; its details:
NO_PLACE, NO_ANNOTATION = "all of its labels are too rare or full", "no annotation"
EXCLUSIONS = pa.schema(
    [
        (name, pa.string())
        for name in ("id", "window", "stage", "reason", "detail", "source", "label")
    ]
)


@dataclass(frozen=True, slots=True)
class Crop:
    """One rendered crop: what selection needs to know, and where its pixels are."""

    idx: str  # record
    window: str
    order: int  # how many windows of the record come before
    label: int  # index into the plan's labels
    field: str  # position imaged once
    group: str
    terms: str
    source_sha256: str
    pixel_sha256: str
    chunk: str  # "": published by a former release, whose shards have it
    row: int  # in the chunk

    @property
    def is_published(self) -> bool:
        """Say whether a former release has it, so that it stays."""
        return not self.chunk

    @property
    def image_id(self) -> str:
        """`<idx>#<window>`, the key of everything downstream."""
        return f"{self.idx}#{self.window}"

    @property
    def source(self) -> str:
        """Name of the source."""
        return self.idx.partition("/")[0]


@dataclass(slots=True)
class Exclusions:
    """Everything that was left out, and why."""

    label_texts: Sequence[str]  # by index into the plan's labels
    rows: list[dict[str, str]] = field(default_factory=list)

    def add(
        self, idx: str, window: str, stage: str, reason: str, detail: str = "", label: int = -1
    ) -> None:
        """Record one drop; an empty window means the whole record."""
        self.rows.append(
            {
                "id": idx,
                "window": window,
                "stage": stage,
                "reason": reason,
                "detail": detail,
                "source": idx.partition("/")[0],
                "label": self.label_texts[label] if label >= 0 else "",
            }
        )

    def drop(self, crops: Iterable[Crop], reason: str, detail: str = "") -> None:
        """Record crops that assembly leaves out."""
        for crop in crops:
            self.add(crop.idx, crop.window, "assembly", reason, detail, crop.label)

    def counts(self) -> Counter[tuple[str, str]]:
        """Number of drops by (stage, reason)."""
        return Counter((row["stage"], row["reason"]) for row in self.rows)

    def table(self) -> pa.Table:
        """All rows, in order of id, window, stage and reason."""
        ordered = sorted(
            self.rows, key=lambda row: (row["id"], row["window"], row["stage"], row["reason"])
        )
        return pa.Table.from_pylist(ordered, schema=EXCLUSIONS)


def collect(material: Material, out: Exclusions) -> list[Crop]:
    """Gather the kept crops of all chunks, and everything that was refused on the way."""
    catalog = material.catalog
    of_record = dict(
        zip(
            catalog["id"].to_pylist(),
            zip(
                *(catalog[name].to_pylist() for name in ("field", "group", "license")), strict=True
            ),
            strict=True,
        )
    )
    terms = {one: terms_of(one).terms for one in set(catalog["license"].to_pylist())}
    _exclude_unplanned(material, out)
    if material.base:
        _carry_over(material, out)
    planned = wanted_records(material.plan)
    label_of = dict(zip(planned["id"].to_pylist(), planned["label"].to_pylist(), strict=True))
    rendered = RenderedChunks(material.rendered)
    crops = []
    for chunk in sorted(set(planned["chunk"].to_pylist())):
        columns = [
            rendered.column(chunk, name).to_pylist()
            for name in (
                "idx", "window", "order", "reason", "detail", "source_sha256", "pixel_sha256"
            )
        ]  # fmt: skip
        for row, (idx, window, order, reason, detail, source, pixels) in enumerate(
            zip(*columns, strict=True)
        ):
            label = label_of[idx]
            if reason:
                out.add(idx, window, "rendering", reason, detail, label)
                continue
            field, group, license = of_record[idx]
            told = (idx, window, order, label, field, group, terms[license], source, pixels)
            crops.append(Crop(*told, chunk, row))
    return [*_published(material), *crops]


def _published(material: Material) -> Iterator[Crop]:
    """The crops of the release that the build goes on from."""
    if material.base is None:
        return
    number_of = {(one.category, one.value): at for at, one in enumerate(material.labels)}
    catalog = material.catalog
    field_of = dict(zip(catalog["id"].to_pylist(), catalog["field"].to_pylist(), strict=True))
    orders: Counter[str] = Counter()
    for one in material.base.crops:
        yield Crop(
            idx=one.idx,
            window=one.window,
            order=orders[one.idx],
            label=number_of[one.label],
            field=field_of.get(one.idx, one.idx),  # its raw data need not be here
            group=one.group,
            terms=one.terms,
            source_sha256=one.source_sha256,
            pixel_sha256=one.pixel_sha256,
            chunk="",
            row=-1,
        )
        orders[one.idx] += 1


def _exclude_unplanned(material: Material, out: Exclusions) -> None:
    """Record the records that got no label or can't be rendered, as the catalog knows already."""
    catalog = material.catalog
    labels = dict(
        zip(material.plan["id"].to_pylist(), material.plan["label"].to_pylist(), strict=True)
    )
    annotated = [False] * len(catalog)
    for category in CATEGORIES:
        valid = catalog[category].is_valid().to_pylist()
        annotated = [one or other for one, other in zip(annotated, valid, strict=True)]
    rows = zip(
        catalog["id"].to_pylist(),
        catalog["refusal"].to_pylist(),
        catalog["detail"].to_pylist(),
        annotated,
        strict=True,
    )
    for idx, refusal, detail, has_annotation in rows:
        if refusal:
            out.add(idx, "", "catalog", refusal, detail or "")
        elif labels.get(idx, -1) < 0:
            out.add(idx, "", "plan", NO_LABEL, NO_PLACE if has_annotation else NO_ANNOTATION)


def _carry_over(material: Material, out: Exclusions) -> None:
    """Keep what the base says of its own records, and of those whose raw data aren't here."""
    if material.base is None:
        return
    published = {one.idx for one in material.base.crops}
    out.rows += [
        row
        for row in material.base.exclusions
        if row["id"] in published or row["source"] not in material.sources
    ]


def drop_duplicates(crops: Sequence[Crop], out: Exclusions) -> list[Crop]:
    """Keep one of equal records and of equal crops, and none where labels contradict each other.

    Records are equal by `source_sha256`, crops of different records by `pixel_sha256`. Two crops
    of one record are never compared. What is published stays in any case; of new ones the freest
    terms, then the first id: else a closed twin would keep an open one from being published.
    """
    kept = _drop_equal(crops, lambda crop: crop.source_sha256, "raw bytes equal those of", out)
    return _drop_equal(kept, lambda crop: crop.pixel_sha256, "pixels equal those of", out)


def _drop_equal(
    crops: Sequence[Crop], key: Callable[[Crop], str], what: str, out: Exclusions
) -> list[Crop]:
    alike: dict[str, list[Crop]] = defaultdict(list)
    for crop in crops:
        alike[key(crop)].append(crop)
    kept = []
    for same in alike.values():
        first = min((not one.is_published, TERMS.index(one.terms), one.idx) for one in same)[-1]
        others = [crop for crop in same if crop.idx != first]
        if not others:
            kept += same
        elif len({crop.label for crop in same}) > 1:
            ids = sorted({crop.idx for crop in same})
            stay = [crop for crop in same if crop.is_published]
            leave = [crop for crop in same if not crop.is_published]
            out.drop(leave, "conflict", f"equal, with other labels: {', '.join(ids[:3])}")
            kept += stay
        else:
            kept += [crop for crop in same if crop.idx == first]
            out.drop(others, "duplicate", f"{what} {first}")
    return kept


def drop_small_labels(
    crops: Sequence[Crop], min_crops: int, out: Exclusions
) -> tuple[list[Crop], dict[int, str]]:
    """Leave out labels with fewer crops than `min_crops`.

    Returns:
        The crops that stay, and the reason for each label that was left out.
    """
    counts = Counter(crop.label for crop in crops)
    published = {crop.label for crop in crops if crop.is_published}
    reasons = {
        label: f"fewer than {min_crops} crops ({count})"
        for label, count in counts.items()
        if count < min_crops and label not in published
    }
    out.drop((crop for crop in crops if crop.label in reasons), "min_crops")
    return [crop for crop in crops if crop.label not in reasons], reasons


def drop_surplus(crops: Sequence[Crop], max_crops: int, seed: int, out: Exclusions) -> list[Crop]:
    """Leave out crops above `max_crops` a label; first crops of all fields stay before second ones.

    Published crops come before all others, and stay also where they are too many.

    Args:
        crops: all crops.
        max_crops: of one label.
        seed: of the hash order inside of first, second ... crops.
        out: gets what is left out.
    """
    mixed = sorted(crops, key=lambda crop: (crop.order, rank(seed, "surplus", crop.image_id)))
    by_label: dict[int, list[tuple[int, Crop]]] = defaultdict(list)
    of_field: Counter[str] = Counter()
    for crop in mixed:  # a field of three records has three first windows: take turns
        turn = -1 if crop.is_published else of_field[crop.field]
        by_label[crop.label].append((turn, crop))
        of_field[crop.field] += 1
    kept = []
    for numbered in by_label.values():
        same = [crop for _, crop in sorted(numbered, key=lambda one: one[0])]
        room = max(max_crops, sum(crop.is_published for crop in same))
        kept += same[:room]
        out.drop(same[room:], "surplus", f"over {max_crops} crops of the label")
    return kept
