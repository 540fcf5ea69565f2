"""BBBC010: C. elegans after infection, live with ampicillin or dead without (Wahlby et al. 2012).

Two records a well: w1 is fluorescence (a dye that enters dead worms), w2 is brightfield. The page
says it the other way round; the files and their headers show it as it stands here.
"""

from collections.abc import Iterator

from cytoimagenet_hf.sources._source import (
    Download,
    FieldOfView,
    Plane,
    Source,
    SourceFolder,
    group_channels,
    make_key,
)

LAST_TREATED = 12  # columns 01-12 got ampicillin, 13-24 nothing
_CHANNELS = {"1": ("fluorescence", "dead worms"), "2": ("brightfield", "brightfield")}
_NAME = (
    r"(?:.*/)?(?P<plate>[^/]+)_(?P<well>[A-P]\d\d)_w(?P<channel>[12])"
    r"_(?P<guid>[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})\.tif"
)


def fields(folder: SourceFolder) -> Iterator[FieldOfView]:
    """Yield two records a well, brightfield before fluorescence, in order of plate and well."""
    hits = folder.match(_NAME)
    if not hits:
        raise folder.nothing_matched(SOURCE.layout)
    for found in group_channels(folder, hits, channel="channel", expected=_CHANNELS):
        plate, well = found.at["plate"], found.at["well"]
        for digit in sorted((*found.paths, *found.missing), reverse=True):
            modality, stain = _CHANNELS[digit]
            path = found.paths.get(digit)
            yield FieldOfView(
                source="bbbc010",
                key=make_key(plate, well, modality),
                field_key=make_key(plate, well),
                modality=modality,
                planes=(Plane(path, stain),) if path else (),
                annotations=_annotations(well),
                plate=plate,
                well=well,
                refusal=None if path else ("missing channel", f"w{digit}"),
            )


def _annotations(well: str) -> dict[str, tuple[str, ...]]:
    """Say what the column of a well tells of its worms; single worms may differ."""
    if int(well[1:]) <= LAST_TREATED:
        return {"organism": ("nematode",), "phenotype": ("live",), "compound": ("ampicillin",)}
    return {"organism": ("nematode",), "phenotype": ("dead",)}


SOURCE = Source(
    name="bbbc010",
    title="C. elegans live/dead assay",
    database="Broad Bioimage Benchmark Collection",
    accession="BBBC010v1",
    page="https://bbbc.broadinstitute.org/BBBC010",
    license="CC0 1.0",
    citation="Wahlby C et al., Nature Methods 9:714 (2012)",
    modality=("brightfield", "fluorescence"),
    expected_fields=100,
    layout="BBBC010_v2_images/1649_1109_0003_Amp5-1_B_20070424_C01_w1_10E01AFB-34C4-416E-A9D3-"
    "51B90AB53728.tif",
    downloads=(
        Download(
            url="https://data.broadinstitute.org/bbbc/BBBC010/BBBC010_v2_images.zip",
            what="all images; some unpackers make no top folder, which is fine",
        ),
    ),
    notes=(
        "w1 is fluorescence and w2 brightfield, unlike the page says: two records of one field.",
        "Phenotype and compound are those of the column; single worms may differ.",
        "The masks (BBBC010_v1_foreground, ..._eachworm) are never read.",
    ),
    fields=fields,
)
