"""BBBC022: U2OS cells under about 1,600 compounds, Cell Painting (Gustafsdottir et al. 2013).

One archive a plate and channel. The table BBBC022_v1_image.csv gives the compound of each field.
"""

from collections.abc import Iterator
from pathlib import Path

from cytoimagenet_hf.sources._source import (
    ChannelSet,
    Download,
    FieldOfView,
    Plane,
    Source,
    SourceFolder,
    group_channels,
    make_key,
)
from cytoimagenet_hf.sources._tables import read_table

TABLE = "BBBC022_v1_image.csv"
_VISIBLE = {  # w4 holds two dyes, phalloidin and wheat germ agglutinin
    "1": ("nucleus",),
    "2": ("er",),
    "3": ("nucleoli",),
    "4": ("actin", "golgi"),
    "5": ("mitochondria",),
}
_NAME = (
    r"(?:.*/)?BBBC022_v1_images_(?P<plate>\d+)w(?P<channel>[1-5])/IXMtest_(?P<well>[A-P]\d\d)"
    r"_s(?P<site>[1-9])_w(?P=channel)"
    r"(?P<guid>[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})\.tif"
)
_PLATE, _WELL, _SITE, _ROLE, _COMPOUND = (
    f"Image_Metadata_{name}"
    for name in ("PlateID", "CPD_WELL_POSITION", "Site", "ASSAY_WELL_ROLE", "SOURCE_COMPOUND_NAME")
)
_Position = tuple[str, str, str]  # plate, well, site


def fields(folder: SourceFolder) -> Iterator[FieldOfView]:
    """Yield the fields in order of plate, well and site; compounds where the table is there."""
    hits = folder.match(_NAME)
    if not hits:
        raise folder.nothing_matched(SOURCE.layout)
    table = folder.table(TABLE)
    compounds = _compounds(folder, table) if table else {}
    if table is None:
        folder.note(f"no table {TABLE}: the compounds of all fields are missing")
    found = {
        (one.at["plate"], one.at["well"], one.at["site"]): one
        for one in group_channels(folder, hits, channel="channel", expected=_VISIBLE)
    }
    _compare(folder, set(found), set(compounds))
    for position, channels in found.items():
        yield _record(position, compounds.get(position, ()), channels)


def rows(folder: SourceFolder) -> Iterator[FieldOfView]:
    """Yield what the table says of each field, as if all five channels were there."""
    compounds = _compounds(folder, folder.required_table(TABLE))
    whole = ChannelSet({}, dict.fromkeys(_VISIBLE, ""), ())
    for position in sorted(compounds):
        yield _record(position, compounds[position], whole)


def _record(position: _Position, compound: tuple[str, ...], found: ChannelSet) -> FieldOfView:
    plate, well, site = position
    return FieldOfView(
        source="bbbc022",
        key=make_key(plate, well, f"s{site}"),
        modality="fluorescence",
        planes=tuple(
            Plane(path, " and ".join(_VISIBLE[digit]))
            for digit, path in found.paths.items()
            if path
        ),
        annotations={
            "organism": ("human",),
            "cell_type": ("u2os",),
            "cell_visible": tuple(name for digit in found.paths for name in _VISIBLE[digit]),
            "compound": compound,
        },
        plate=plate,
        well=well,
        site=site,
        refusal=("missing channel", "w" + ", w".join(found.missing)) if found.missing else None,
    )


def _compounds(folder: SourceFolder, table: Path) -> dict[_Position, tuple[str, ...]]:
    """Read the compound of each field; mock wells and blank names give none."""
    compounds: dict[_Position, tuple[str, ...]] = {}
    bad: list[str] = []
    columns = (_PLATE, _WELL, _SITE, _ROLE, _COMPOUND)
    for row in read_table(table, columns=columns, skipped=bad.append).rows:
        plate, well, site, role, name = (row.cells[column].strip() for column in columns)
        compound = (name,) if name and role.lower() != "mock" else ()
        if compounds.setdefault((plate, well.upper(), site), compound) != compound:
            folder.miss("table row against an earlier one, not used", f"{table.name}:{row.line}")
    for what in bad:
        folder.miss("bad table row, skipped", what)
    return compounds


def _compare(folder: SourceFolder, on_disk: set[_Position], in_table: set[_Position]) -> None:
    """Report both ways what table and disk don't share; plates never downloaded as one name."""
    plates = {plate for plate, _, _ in on_disk}
    for plate in sorted({plate for plate, _, _ in in_table} - plates):
        folder.miss("plate of the table without files", plate)
    for position in sorted(in_table - on_disk):
        if position[0] in plates:
            folder.miss("field of the table without files", make_key(*position))
    for position in sorted(on_disk - in_table) if in_table else ():
        folder.miss("table row of a field that has files", make_key(*position))


SOURCE = Source(
    name="bbbc022",
    title="Human U2OS cells - compound cell-painting experiment",
    database="Broad Bioimage Benchmark Collection",
    accession="BBBC022v1",
    page="https://bbbc.broadinstitute.org/BBBC022",
    license="CC0 1.0",
    citation="Gustafsdottir SM et al., PLoS ONE 8:e80999 (2013); Ljosa V, Sokolnicki KL, "
    "Carpenter AE, Nature Methods 9:637 (2012)",
    modality=("fluorescence",),
    expected_fields=69120,
    layout="BBBC022_v1_images_20585w1/IXMtest_A01_s1_w164FBEEF7-F77C-4892-86F5-72D0160D4FB2.tif",
    downloads=(
        Download(
            url="https://data.broadinstitute.org/bbbc/BBBC022/BBBC022_v1_images_urls.txt",
            what="addresses of the 100 archives, one a plate and channel",
        ),
        Download(
            url="https://data.broadinstitute.org/bbbc/BBBC022/BBBC022_v1_image.csv",
            what="compound of each field",
        ),
    ),
    notes=(
        "w4 shows two structures; its stain is written 'actin and golgi', its labels are both.",
        "w3 (SYTO 14) binds RNA; it is labeled nucleoli, as the paper has it.",
        "Mock wells carry no compound. The table is optional: without it no field has one.",
        "BBBC038 holds crops of some of these fields.",
    ),
    fields=fields,
    rows=rows,
)
