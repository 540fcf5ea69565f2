"""BBBC048: Jurkat cells in seven phases of the cell cycle, imaging flow cytometry (Blasi 2016).

Three records a cell: Ch3 brightfield, Ch4 fluorescence of a DNA stain, Ch6 darkfield. The phase is
the folder; Ground_truth.lst, where it is there, is checked against the folders.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from cytoimagenet_hf.sources._source import (
    Download,
    FieldOfView,
    Plane,
    Source,
    SourceFolder,
    group_channels,
    make_key,
)
from cytoimagenet_hf.sources._tables import read_table

TABLE = "Ground_truth.lst"
_HEADER = ("row", "class", "path")  # the list has no header line
_CHANNELS = {  # in the order of the modalities, so that keys come out sorted
    "Ch3": ("brightfield", "brightfield"),
    "Ch6": ("darkfield", "darkfield"),
    "Ch4": ("fluorescence", "nucleus"),
}
_CELL = (
    r"(?P<phase>G1|S|G2|Prophase|Metaphase|Anaphase|Telophase)/(?P<cell>\d+)_(?P<channel>Ch[346])"
    r"(?:\.ome)?\.(?:jpg|tif)"
)
_NAME = rf"(?:.*/)?CellCycle/{_CELL}"
_LISTED = re.compile(rf"(?:.*/)?{_CELL}")
_File = tuple[str, str, str]  # phase, cell, channel


def fields(folder: SourceFolder) -> Iterator[FieldOfView]:
    """Yield three records a cell, in order of phase, cell and modality."""
    hits = folder.match(_NAME)
    if not hits:
        raise folder.nothing_matched(SOURCE.layout)
    if table := folder.table(TABLE):
        on_disk = {(hit["phase"], hit["cell"], hit["channel"]) for hit in hits}
        _compare(folder, on_disk, _listed(folder, table))
    for found in group_channels(folder, hits, channel="channel", expected=sorted(_CHANNELS)):
        for channel in _CHANNELS:
            if channel in found.paths or channel in found.missing:
                file = found.at["phase"], found.at["cell"], channel
                yield _record(
                    file, found.paths.get(channel, ""), is_absent=channel in found.missing
                )


def rows(folder: SourceFolder) -> Iterator[FieldOfView]:
    """Yield a record for each file that Ground_truth.lst names."""
    order = list(_CHANNELS)
    files = _listed(folder, folder.required_table(TABLE))
    for file in sorted(files, key=lambda one: (*one[:2], order.index(one[2]))):
        yield _record(file, "")


def _record(file: _File, path: str, *, is_absent: bool = False) -> FieldOfView:
    phase, cell, channel = file
    modality, stain = _CHANNELS[channel]
    visible = {"cell_visible": ("nucleus",)} if modality == "fluorescence" else {}
    return FieldOfView(
        source="bbbc048",
        key=make_key(phase, cell, modality),
        field_key=make_key(phase, cell),
        modality=modality,
        planes=(Plane(path, stain),) if path else (),
        annotations={
            "organism": ("human",),
            "cell_type": ("jurkat",),
            "phenotype": (phase.lower(),),
            **visible,
        },
        refusal=("missing channel", channel) if is_absent else None,
    )


def _listed(folder: SourceFolder, table: Path) -> set[_File]:
    """Read the files that the list names; report lines that can't be right."""
    files: set[_File] = set()
    phase_of: dict[str, str] = {}  # class number -> phase of its first line
    for row in read_table(table, header=_HEADER).rows:
        path = row.cells["path"].strip().replace("\\", "/")
        hit = _LISTED.fullmatch(path)
        if hit is None:
            folder.miss(f"line of {TABLE} whose path is not understood", f"{row.line}: {path}")
            continue
        if phase_of.setdefault(row.cells["class"].strip(), hit["phase"]) != hit["phase"]:
            folder.miss(
                f"line of {TABLE} whose class is that of another phase", f"{row.line}: {path}"
            )
        files.add((hit["phase"], hit["cell"], hit["channel"]))
    return files


def _compare(folder: SourceFolder, on_disk: set[_File], listed: set[_File]) -> None:
    """Report both ways what list and folders don't share; the folders are followed."""
    for file in sorted(listed - on_disk):
        folder.miss(f"file that {TABLE} names", make_key(*file))
    for file in sorted(on_disk - listed):
        folder.miss(f"line of {TABLE} for a file", make_key(*file))


SOURCE = Source(
    name="bbbc048",
    title="Cell Cycle Jurkat Cells",
    database="Broad Bioimage Benchmark Collection",
    accession="BBBC048v1",
    page="https://bbbc.broadinstitute.org/BBBC048",
    license="unknown",
    citation="Eulenberg P et al., Nature Communications 8:463 (2017); Blasi T et al., Nature "
    "Communications 7:10256 (2016)",
    modality=("brightfield", "darkfield", "fluorescence"),
    expected_fields=32266,
    layout="CellCycle/Anaphase/0_Ch3.ome.jpg",
    downloads=(
        Download(
            url="https://data.broadinstitute.org/bbbc/BBBC048/BBBC048v1.zip",
            what="holds CellCycle.zip: unpack twice",
        ),
        Download(
            url="https://data.broadinstitute.org/bbbc/BBBC048/Ground_truth.lst",
            what="phase of each file",
        ),
    ),
    notes=(
        "Three records a cell: brightfield, darkfield, fluorescence; a cell counts once.",
        "The phase is the folder's name. Anaphase has about 15 cells.",
        "The Kaggle cell cycle set ships the same cells: use one of the two.",
        "The license was not found on a source that could be read, so it is unknown.",
    ),
    fields=fields,
    rows=rows,
)
