"""What each published column means, for the card and for machines."""

from cytoimagenet_hf.hub._markdown import table

MEANINGS = {  # in the order of the schema
    "image": "the crop; absent from config `metadata`",
    "label": "class: the value that the record was chosen for",
    "category": "which of the seven annotations the label is of",
    "database": "where the source is kept",
    "name": "title of the source",
    "dir_name": "short name of the source",
    "idx": "the record: one modality of one position imaged once",
    "image_id": "the crop: `<idx>#<window>`; unique",
    "group": (
        "what is never split between train and validation (the well on its plate, a series, an "
        "image)"
    ),
    "plate": "plate, as the source names it",
    "well": "well, as the source names it",
    "site": "site in the well, as the source names it",
    "compound": "compounds the cells were treated with",
    "sirna": "siRNAs the cells were treated with",
    "gene": "genes targeted",
    "phenotype": "disease, mode of action, phase of the cell cycle",
    "cell_visible": "parts of the cell that are stained or visible",
    "cell_type": "cell lines or types",
    "organism": "organisms the cells are of",
    "microscopy": "fluorescence, brightfield, darkfield or phase contrast",
    "channels": "stains that were merged into the crop",
    "crop": "false where the record was kept whole",
    "scaling": "side of the crop by side of the field: 1, 0.5, 0.25, 0.125 or 0.0625",
    "x_min": "first column of the crop in the source's plane",
    "x_max": "column after its last",
    "y_min": "first row of the crop",
    "y_max": "row after its last",
    "height": "rows of the image in this config, pixels",
    "width": "columns of the image in this config, pixels",
    "source_sha256": "hash over files, series, pages and boxes that the record was made of",
    "pixel_sha256": "hash over height, width and pixels in this config",
    "license": "license of the source's images",
    "terms": "what that license allows; see above",
    "shard": "only in `metadata`: the file that holds the crop's image",
    "row_group": "only in `metadata`: the row group in that file",
    "row": "only in `metadata`: the row in that row group",
}


def columns_part() -> str:
    """Tell what each column means."""
    return table(("column", "meaning"), [(f"`{name}`", MEANINGS[name]) for name in MEANINGS])
