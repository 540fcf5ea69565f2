"""BBBC038: nuclei of many kinds, the Data Science Bowl of 2018 (Caicedo et al. 2019).

Fluorescence and stained tissue lie side by side and no table tells them apart; a facts table of
ours does, for stage1_train. Organisms are given as "human, mouse or fly", which labels no image.
"""

from collections.abc import Iterator

from cytoimagenet_hf.sources._source import (
    Download,
    FieldOfView,
    Plane,
    Source,
    SourceFolder,
    make_key,
)
from cytoimagenet_hf.sources._tables import facts, read_table

LISTED = "stage1_train"  # the folder that the facts table covers
_DIGITS = 8  # of an image's name that the facts table keeps
_TABLES = {
    "stage1_train": "stage1_train_labels.csv",
    "stage1_test": "stage1_solution.csv",
    "stage2_test_final": "stage2_solution_final.csv",
}
_NAME = rf"(?:.*/)?(?P<stage>{'|'.join(_TABLES)})/(?P<image>[0-9a-f]{{64}})/images/(?P=image)\.png"


def fields(folder: SourceFolder) -> Iterator[FieldOfView]:
    """Yield each image, in order of folder and name; masks are passed over."""
    hits = folder.match(_NAME)
    if not hits:
        raise folder.nothing_matched(SOURCE.layout)
    modalities = _modalities()
    seen: dict[tuple[str, str], str] = {}
    for hit in hits:
        if seen.setdefault((hit["stage"], hit["image"]), hit.string) != hit.string:
            folder.miss("second file of one image, not used", hit.string)
    unlisted = 0
    for (stage, image), path in sorted(seen.items()):
        record = _record(stage, image, path, modalities)
        unlisted += not record.modality
        yield record
    if unlisted:
        folder.note(f"the modality of {unlisted} images is not known: they get no annotation")


def rows(folder: SourceFolder) -> Iterator[FieldOfView]:
    """Yield a record for each image that the tables of masks name."""
    folder.required_table(*_TABLES.values())
    modalities = _modalities()
    for stage, name in sorted(_TABLES.items()):
        if (table := folder.table(name)) is None:
            continue
        images = {
            row.cells["ImageId"].strip() for row in read_table(table, columns=("ImageId",)).rows
        }
        for image in sorted(images):
            yield _record(stage, image, "", modalities)


def _record(stage: str, image: str, path: str, modalities: dict[str, str]) -> FieldOfView:
    modality = modalities.get(image[:_DIGITS], "") if stage == LISTED else ""
    nucleus = modality == "fluorescence"
    return FieldOfView(
        source="bbbc038",
        key=make_key(stage, image),
        modality=modality,
        planes=(Plane(path, "nucleus" if nucleus else modality),) if path else (),
        annotations={"cell_visible": ("nucleus",)} if nucleus else {},
    )


def _modalities() -> dict[str, str]:
    return {row["image"]: row["modality"] for row in facts("bbbc038_modality")}


SOURCE = Source(
    name="bbbc038",
    title="Kaggle 2018 Data Science Bowl",
    database="Broad Bioimage Benchmark Collection",
    accession="BBBC038v1",
    page="https://bbbc.broadinstitute.org/BBBC038",
    license="CC0 1.0",
    citation="Caicedo JC et al., Nature Methods 16:1247-1253 (2019)",
    modality=("fluorescence", "brightfield"),
    expected_fields=3754,
    layout="stage1_train/00071198d059ba7f5914a526d124d28e6d010c92466da21d4a04cd5413362552/images/"
    "00071198d059ba7f5914a526d124d28e6d010c92466da21d4a04cd5413362552.png",
    downloads=(
        *(
            Download(url=f"https://data.broadinstitute.org/bbbc/BBBC038/{stage}.zip")
            for stage in _TABLES
        ),
        *(
            Download(url=f"https://data.broadinstitute.org/bbbc/BBBC038/{name}", what="masks")
            for name in _TABLES.values()
        ),
    ),
    notes=(
        "Modality comes from sources/_data/bbbc038_modality.csv, derived from the pixels of the "
        "training images: equal colors and mean below 110 are fluorescence.",
        "Only fluorescence images of stage1_train are labeled (nucleus); the test images, among "
        "them junk that the contest ignores, and stained tissue get no annotation.",
        "Organism is given as one of three and labels no image.",
        "Some images are crops of BBBC022 fields.",
    ),
    fields=fields,
    rows=rows,
)
