"""Pictures of a build: kept crops by class, refused crops by reason, and the facts of its page."""

import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from cytoimagenet_hf import __version__, files
from cytoimagenet_hf.curation.assembly import Assembled
from cytoimagenet_hf.curation.documents import label_table, versions
from cytoimagenet_hf.curation.material import Material
from cytoimagenet_hf.curation.rendering import RenderedChunks
from cytoimagenet_hf.curation.report import (
    LabelFacts,
    RefusalFacts,
    ReportFacts,
    SourceFacts,
    SplitFacts,
    write_report,
)
from cytoimagenet_hf.hashing import rank
from cytoimagenet_hf.hub.licenses import terms_of
from cytoimagenet_hf.imaging.montage import contact_sheet
from cytoimagenet_hf.schema import SPLITS

_KEPT, _REFUSED = 12, 24  # pictures a class, a reason

Tiles = dict[str, list[npt.NDArray[np.uint8]]]


def draw_build(
    material: Material, assembled: Assembled, catalogs: Path, notes: Sequence[str], to: Path
) -> None:
    """Write gallery.png, refused.png and report.html.

    Args:
        material: what the build was made from.
        assembled: what it came to.
        catalogs: folder of the catalogs' reports.
        notes: what people should read first.
        to: folder of the pictures. They show crops of all terms: keep them to yourself.
    """
    kept, refused = kept_tiles(material, assembled), refused_tiles(material)
    mark = "simulated data: no real cells. " if material.simulated else ""
    for name, tiles, title in (
        ("gallery.png", kept, f"{mark}kept crops by class"),
        ("refused.png", refused, f"{mark}refused crops by reason"),
    ):
        if tiles:
            with files.replacing(to / name) as aside:
                contact_sheet(list(tiles.items()), title=title).save(aside, format="PNG")
    facts = _facts(material, assembled, catalogs, notes, (kept, refused))
    write_report(facts, to / "report.html")


def kept_tiles(material: Material, assembled: Assembled) -> Tiles:
    """Some crops of each class, chosen by hash."""
    rendered = RenderedChunks(material.rendered)
    tiles: Tiles = {text: [] for text in assembled.contents.names.values()}
    seed = material.parameters.seed
    for crop in sorted(
        assembled.contents.crops, key=lambda one: rank(seed, "gallery", one.image_id)
    ):
        own = tiles[assembled.contents.names[crop.label]]
        if crop.is_published:
            continue  # its picture is in the page of the build that rendered it
        if len(own) < _KEPT:
            own.append(_decode(rendered.value(crop.chunk, crop.row, "small_png")))
    return tiles


def refused_tiles(material: Material) -> Tiles:
    """Some refused windows of each reason, spread over chunks."""
    found: dict[str, list[tuple[int, bytes]]] = defaultdict(list)
    for path in sorted(material.rendered.glob("*.arrow")):
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        shown = table.filter(table["thumbnail"].is_valid())
        for row in shown.select(["idx", "window", "reason", "thumbnail"]).to_pylist():
            place = rank(material.parameters.seed, "gallery", row["idx"], row["window"])
            found[row["reason"]].append((place, row["thumbnail"]))
            found[row["reason"]] = sorted(found[row["reason"]])[:_REFUSED]
    return {
        reason: [_decode(encoded) for _, encoded in tiles]
        for reason, tiles in sorted(found.items())
    }


def _decode(encoded: bytes) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(encoded), formats=("PNG",)) as image:
        return np.asarray(image)


def _facts(
    material: Material,
    assembled: Assembled,
    catalogs: Path,
    notes: Sequence[str],
    tiles: tuple[Tiles, Tiles],
) -> ReportFacts:
    contents = assembled.contents
    rows = label_table(contents.labels, contents.names).to_pylist()
    return ReportFacts(
        title=f"CytoImageNet build {contents.build}",
        build=contents.build,
        simulated=material.simulated,
        sources=[_source(material, assembled, catalogs, name) for name in sorted(material.sources)],
        labels=[LabelFacts(**{key: row[key] for key in LabelFacts.__slots__}) for row in rows],
        splits=[_split(assembled, name) for name in SPLITS],
        refusals=_refusals(contents.exclusions.rows),
        notes=notes,
        gallery=tiles[0],
        refused=tiles[1],
        parameters=material.parameters.as_dict(),
        versions={"cytoimagenet-hf": __version__, **versions()},
        next_steps=(
            ('datasets.load_dataset("cytoimagenet")', "in Python, beside the folder"),
            ("cytoimagenet labels cytoimagenet", "why each label was taken or dropped"),
            ("cytoimagenet sources", "what else can be curated"),
        ),
    )


def _source(material: Material, assembled: Assembled, catalogs: Path, name: str) -> SourceFacts:
    source = material.sources[name]
    report: Mapping[str, Any] = files.read_json(catalogs / f"{name}.json")
    terms = terms_of(source.license)
    return SourceFacts(
        name=name,
        title=source.title,
        license=terms.license,
        terms=terms.terms,
        fields=report["fields"],
        records=report["records"],
        crops=sum(crop.source == name for crop in assembled.contents.crops),
        files=report["files"],
    )


def _split(assembled: Assembled, name: str) -> SplitFacts:
    own = [crop for crop in assembled.contents.crops if assembled.split_of[crop.group] == name]
    return SplitFacts(
        name=name,
        crops=len(own),
        groups=len({crop.group for crop in own}),
        labels=len({crop.label for crop in own}),
    )


def _refusals(rows: Iterable[Mapping[str, str]]) -> list[RefusalFacts]:
    examples: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        where = f"{row['id']}#{row['window']}" if row["window"] else row["id"]
        examples[row["stage"], row["reason"]].append(f"{where} ({row['detail']})")
    return [
        RefusalFacts(stage=stage, reason=reason, count=len(found), example=min(found))
        for (stage, reason), found in sorted(examples.items())
    ]
