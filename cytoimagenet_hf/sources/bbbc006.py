"""BBBC006: U2OS cells at 34 focal planes, two stains a field (Bray et al. 2012).

The prefix of the names says mcf, but the cells are U2OS. Planes of one field are near-copies, so
one plane folder is used: z_16, which is in focus, or the nearest one that was downloaded.
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

IN_FOCUS = 16  # plane number; curation.md 1
_STAINS = {"1": "nucleus", "2": "actin"}  # Hoechst 33342, phalloidin
_NAME = (
    r"(?:.*/)?BBBC006_v1_images_z_(?P<z>\d\d)/(?P<plate>mcf-z-stacks-\d+)_(?P<well>[a-p]\d\d)"
    r"_s(?P<site>\d)_w(?P<channel>\d)(?P<guid>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.tif"
)


def fields(folder: SourceFolder) -> Iterator[FieldOfView]:
    """Yield the fields of one focal plane, in order of plate, well and site."""
    hits = folder.match(_NAME)
    if not hits:
        raise folder.nothing_matched(SOURCE.layout)
    planes = sorted({hit["z"] for hit in hits}, key=lambda z: (abs(int(z) - IN_FOCUS), z))
    chosen = planes[0]
    if int(chosen) != IN_FOCUS:
        folder.note(
            f"plane z_{IN_FOCUS} (in focus) is absent; the nearest present, z_{chosen}, is used"
        )
    if planes[1:]:
        folder.note(f"further planes of the same fields are not used: z_{', z_'.join(planes[1:])}")
    of_plane = [hit for hit in hits if hit["z"] == chosen]
    for found in group_channels(folder, of_plane, channel="channel", expected=_STAINS):
        plate, well, site = found.at["plate"], found.at["well"], found.at["site"]
        stains = {_STAINS[digit]: path for digit, path in found.paths.items()}
        yield FieldOfView(
            source="bbbc006",
            key=make_key(plate, well, f"s{site}"),
            modality="fluorescence",
            planes=tuple(Plane(path, stain) for stain, path in stains.items()),
            annotations={
                "organism": ("human",),
                "cell_type": ("u2os",),
                "cell_visible": tuple(stains),
            },
            plate=plate,
            well=well,
            site=site,
            refusal=("missing channel", "w" + ", w".join(found.missing)) if found.missing else None,
        )


SOURCE = Source(
    name="bbbc006",
    title="Human U2OS cells (out of focus)",
    database="Broad Bioimage Benchmark Collection",
    accession="BBBC006v1",
    page="https://bbbc.broadinstitute.org/BBBC006",
    license="unknown",
    citation="Bray M-A, Fraser AN, Hasaka TP, Carpenter AE, J Biomol Screen 17:266-274 (2012)",
    modality=("fluorescence",),
    expected_fields=768,
    layout="BBBC006_v1_images_z_16/mcf-z-stacks-03212011_h15_s1_w2c4ea9a91-6aa9-4dd0-a084-"
    "90a3d3c95c4e.tif",
    downloads=(
        Download(
            url="https://data.broadinstitute.org/bbbc/BBBC006/BBBC006_v1_images_z_16.zip",
            what="the plane in focus",
        ),
    ),
    notes=(
        "One focal plane a field is used: z_16, or the nearest that is present.",
        "One third-party table says CC0; the page was not read, so the license is unknown.",
    ),
    fields=fields,
)
