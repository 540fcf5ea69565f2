"""What to do where no crop is left: it follows from the reason that took the most records."""

from collections import defaultdict

from cytoimagenet_hf.curation.material import Material
from cytoimagenet_hf.curation.selection import NO_ANNOTATION, NO_LABEL, NO_PLACE, Exclusions

_SHOWN = 4  # reasons in the message

# Reason, or detail of records without a label -> advice; {first} is the first detail, or record.
_ADVICE = {
    "missing file": "The first absent file is {first}: name the folder that paths start from, with "
    "--images (of a table) or --data-root {source}=DIR.",
    "missing channel": "The first absent channel is {first}: unpack the archives of all channels.",
    "large-file pointer": "The files are pointers, the first one {first}: fetch them (git lfs "
    "pull).",
    "too large": "Raise --max-pixels (it is {max_pixels}).",
    "too small": "Lower --set min_side (it is {min_side}).",
    "no contrast": "Lower --set min_contrast (it is {min_contrast}).",
    "min_crops": "Lower --min-crops (it is {min_crops}), or add raw data.",
    "conflict": "Equal images have different labels ({first}): correct their annotations.",
    NO_PLACE: "Lower --min-fields, or add raw data.",
    NO_ANNOTATION: "Nothing is said of what the images show: of a table, give the columns that "
    "tell with --map (as in --map compound=NAME); notes name the columns that are not used, and "
    "values that are no labels.",
}
_OTHERWISE = "The first one left out so: {first}. Look at that image, or add raw data."


def nothing_left(material: Material, out: Exclusions) -> str:
    """Tell that no crop is left, the reasons with their numbers of records, and what to do.

    Args:
        material: what the build was made from.
        out: all that was left out.
    """
    parameters = material.parameters
    left: dict[str, dict[str, str]] = defaultdict(dict)  # reason -> record -> its detail
    for row in out.rows:
        reason = row["detail"] if row["reason"] == NO_LABEL else row["reason"]
        left[reason].setdefault(row["id"], row["detail"])
    ordered = sorted(left.items(), key=lambda one: (-len(one[1]), one[0]))
    advice = "The sources gave no records; add raw data."
    if ordered:
        reason, records = ordered[0]
        idx = min(records)
        advice = _ADVICE.get(reason, _OTHERWISE).format(
            first=records[idx] or idx, source=idx.partition("/")[0], **parameters.as_dict()
        )
    planned = sum(1 for label in material.labels if label.assigned)
    most = max((label.candidates for label in material.labels), default=0)
    told = ", ".join(f"{reason} {len(records)}" for reason, records in ordered[:_SHOWN])
    return (
        f"No crop is left: {planned} of {len(material.labels)} values became labels (the most "
        f"frequent one has {most} fields, --min-fields is {parameters.min_fields}); "
        f"records left out: {told or 'none'}. {advice}"
    )
