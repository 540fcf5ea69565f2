"""BBBC005: simulated U2OS cells of known number, two stains a field (SIMCEP, Lehmussola et al.).

Each scene was blurred to several levels, which are near-copies of one another: one level is used,
F1, which is in focus, or the sharpest one that was downloaded. The ground truth bears the very
names of the images, so only the folder of the images is read.
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

IN_FOCUS = 1  # blur level
_STAINS = {"1": "cell body", "2": "nucleus"}
_NAME = (
    r"(?:.*/)?BBBC005_v1_images/SIMCEPImages_(?P<well>[A-P]\d\d)_C(?P<count>\d+)_F(?P<blur>\d+)"
    r"_s(?P<sample>\d\d)_w(?P<channel>[12])\.TIF"
)


def fields(folder: SourceFolder) -> Iterator[FieldOfView]:
    """Yield the fields of one blur level, in order of well and sample."""
    hits = folder.match(_NAME)
    if not hits:
        raise folder.nothing_matched(SOURCE.layout)
    levels = sorted({int(hit["blur"]) for hit in hits})
    if levels[0] != IN_FOCUS:
        folder.note(f"blur level F{IN_FOCUS} (in focus) is absent; F{levels[0]} is used")
    if levels[1:]:
        others = ", ".join(f"F{level}" for level in levels[1:])
        folder.note(f"further blur levels of the same scenes are not used: {others}")
    of_level = [hit for hit in hits if int(hit["blur"]) == levels[0]]
    for found in group_channels(folder, of_level, channel="channel", expected=_STAINS):
        well, sample = found.at["well"], found.at["sample"]
        key = make_key(well, f"C{found.at['count']}_F{found.at['blur']}_s{sample}")
        stains = {_STAINS[digit]: path for digit, path in found.paths.items()}
        yield FieldOfView(
            source="bbbc005",
            key=key,
            modality="fluorescence",
            planes=tuple(Plane(path, stain) for stain, path in stains.items()),
            annotations={
                "organism": ("human",),
                "cell_type": ("u2os",),
                "cell_visible": tuple(stains),
            },
            group=key,  # each scene was simulated on its own; a well is no more than a cell count
            well=well,
            site=sample,
            refusal=("missing channel", "w" + ", w".join(found.missing)) if found.missing else None,
        )


SOURCE = Source(
    name="bbbc005",
    title="Synthetic cells",
    database="Broad Bioimage Benchmark Collection",
    accession="BBBC005v1",
    page="https://bbbc.broadinstitute.org/BBBC005",
    license="unknown",
    citation="Lehmussola A et al., IEEE Trans Med Imaging 26:1010 (2007); Bray M-A et al., "
    "J Biomol Screen 17:266 (2012)",
    modality=("fluorescence",),
    expected_fields=600,
    layout="BBBC005_v1_images/SIMCEPImages_A14_C57_F1_s21_w1.TIF",
    downloads=(
        Download(
            url="https://data.broadinstitute.org/bbbc/BBBC005/BBBC005_v1_images.zip",
            what="all blur levels",
        ),
    ),
    notes=(
        "The images are simulated, no microscope was involved.",
        "One blur level is used, F1 (600 of 9,600 fields): the others show the same scenes.",
        "BBBC005_v1_ground_truth holds masks with the names of the images and is never read.",
        "The license was not found on a source that could be read, so it is unknown.",
    ),
    fields=fields,
)
