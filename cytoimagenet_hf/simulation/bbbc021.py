"""Simulated BBBC021: one folder a plate, and the two tables of treatments and mechanisms.

Treatments, plates and wells are those of the real table, and so are the prefixes of file names,
which differ by week. Fields are 128 x 160 pixels, where real ones are 1024 x 1280, so that scoring
them takes seconds. The table also has controls, a compound of no known mechanism, and a field of a
plate that was never downloaded.
"""

from dataclasses import replace
from pathlib import Path

from cytoimagenet_hf.simulation import _cells, _optics, _writing

_TREATMENTS = (  # compound, concentration, mechanism, well, the plates that have it there
    ("taxol", 0.3, "Microtubule stabilizers", "B11", "Week1_22123 Week4_27481 Week9_39282"),
    ("docetaxel", 0.1, "Microtubule stabilizers", "C05", "Week7_34341 Week7_34381 Week7_34641"),
    ("epothilone B", 0.3, "Microtubule stabilizers", "D05", "Week1_22361 Week1_22381 Week1_22401"),
    ("colchicine", 0.03, "Microtubule destabilizers", "E07", "Week1_22361 Week1_22381 Week1_22401"),
    ("demecolcine", 1, "Microtubule destabilizers", "B05", "Week3_25681 Week3_25701 Week3_25721"),
    ("nocodazole", 3, "Microtubule destabilizers", "E03", "Week1_22123 Week1_22141 Week1_22161"),
    ("AZ-C", 0.1, "Eg5 inhibitors", "D05", "Week3_25421 Week3_25441 Week3_25461"),
    ("AZ138", 0.3, "Eg5 inhibitors", "C07", "Week10_40111 Week10_40115 Week10_40119"),
    ("emetine", 0.3, "Protein synthesis", "C07", "Week3_25681 Week3_25701 Week3_25721"),
    ("anisomycin", 1, "Protein synthesis", "B05", "Week4_27481 Week4_27521 Week4_27542"),
    ("cyclohexamide", 15, "Protein synthesis", "B04", "Week4_27801 Week4_27821 Week4_27861"),
    ("mevinolin/lovastatin", 5, "Cholesterol-lowering", "E05",
     "Week9_39206 Week9_39221 Week9_39222"),
    ("simvastatin", 6, "Cholesterol-lowering", "D04", "Week9_39282 Week9_39283 Week9_39301"),
    ("DMSO", 0, "DMSO", "B02", "Week1_22123 Week3_25421 Week9_39282"),
    ("5-fluorouracil", 0.003, "", "G10", "Week4_27481 Week4_27521 Week4_27542"),
)  # fmt: skip
_ABSENT = ("camptothecin", 0.003, "DNA replication", "C10", "Week8_38221")
_PREFIXES = {"Week1": "Week1_150607_", "Week3": "Week3_290607_", "Week7": "Week7_230707_",
             "Week7_34641": "Week7_7__",  # one week, two prefixes
             "Week8": "Week8_4sites_", "Week9": "Week9_090907_",
             "Week10": "Week10_200907_"}  # fmt: skip
_SITES = 4
MOST = 3 * _SITES * len(_TREATMENTS)
_SHAPE = (128, 160)
_CHANNELS = {"DAPI": 1, "Tubulin": 2, "Actin": 4}
_HEADER = (
    "TableNumber",
    "ImageNumber",
    *(f"Image_{what}_{channel}" for channel in _CHANNELS for what in ("FileName", "PathName")),
    "Image_Metadata_Plate_DAPI",
    "Image_Metadata_Well_DAPI",
    "Replicate",
    "Image_Metadata_Compound",
    "Image_Metadata_Concentration",
)


def simulate(root: Path, *, fields: int, seed: int) -> dict[str, tuple[str, ...]]:
    """Write `fields` fields: treatments in turn, then plates, then sites."""
    truth: dict[str, tuple[str, ...]] = {}
    rows = []
    for number in range(fields):
        turn, which = divmod(number, len(_TREATMENTS))
        site, replicate = divmod(turn, 3)
        treatment = _TREATMENTS[which]
        plate = treatment[4].split()[replicate]
        names = _names(seed, plate, treatment[3], site + 1)
        rows.append(_row(number + 1, treatment, plate, replicate + 1, names))
        for channel, plane in _paint(seed, names["DAPI"], treatment).items():
            path = f"{plate}/{names[channel]}"
            _writing.write_tiff(root / path, plane)
            truth[path] = (treatment[2],) if treatment[2] else ()
    names = _names(seed, _ABSENT[4], _ABSENT[3], 1)
    rows.append(_row(fields + 1, _ABSENT, _ABSENT[4], 1, names))
    _writing.write_table(root / "BBBC021_v1_image.csv", _HEADER, rows)
    told = [(one[0], f"{one[1]:.6f}", one[2]) for one in (*_TREATMENTS, _ABSENT) if one[2]]
    _writing.write_table(root / "BBBC021_v1_moa.csv", ("compound", "concentration", "moa"), told)
    return truth


def simulate_negative(root: Path) -> None:
    """Write fields of the same kind in the layout of BBBC022, with a table of another name."""
    for well in ("A01", "D19"):
        name = f"IXMtest_{well}_s1_w1{_writing.guid(0, well).upper()}.tif"
        plane = _paint(0, well, _TREATMENTS[0])["DAPI"]
        _writing.write_tiff(root / "BBBC022_v1_images_20585w1" / name, plane)
    _writing.write_table(root / "BBBC022_v1_image.csv", ("ImageNumber",), [[1]])


def _names(seed: int, plate: str, well: str, site: int) -> dict[str, str]:
    prefix = _PREFIXES.get(plate) or _PREFIXES.get(plate.partition("_")[0], "")
    return {
        channel: f"{prefix}{well}_s{site}_w{digit}"
        f"{_writing.guid(seed, plate, well, site, digit).upper()}.tif"
        for channel, digit in _CHANNELS.items()
    }


def _row(
    number: int,
    treatment: tuple[str, float, str, str, str],
    plate: str,
    replicate: int,
    names: dict[str, str],
) -> list[object]:
    week = plate.partition("_")[0]
    files = [text for channel in _CHANNELS for text in (names[channel], f"{week}/{plate}")]
    compound, concentration, _, well, _ = treatment
    return [week[4:], number, *files, plate, well, replicate, compound, f"{concentration:.6f}"]


def _paint(
    seed: int, name: str, treatment: tuple[str, float, str, str, str]
) -> dict[str, _optics.IntPlane]:
    """Paint the three channels of a field; compounds of one mechanism look nearly alike."""
    rng = _optics.generator(seed, "bbbc021", name)
    compound, _, mechanism, _, _ = treatment
    look = _cells.look_of(mechanism.replace("DMSO", ""))
    if mechanism:
        own = _optics.generator(0, "bbbc021", compound).uniform(0.93, 1.07, 2)
        look = replace(
            look, size=look.size * float(own[0]), brightness=look.brightness * float(own[1])
        )
    cells = _cells.grow(rng, _SHAPE, 14, radius=7, look=look)
    body = _cells.bodies(rng, cells)
    mesh = _optics.ridges(rng, _SHAPE, period=7 * look.mesh)
    stained = {
        "DAPI": _cells.nuclei(rng, cells, grain=look.grain),
        "Tubulin": body.near * (0.3 + 0.8 * mesh),
        "Actin": 0.3 * body.inside + 0.4 * body.rim + 0.3 * body.fiber,
    }
    return {
        channel: _optics.expose(rng, plane, gain=900, background=180, read_noise=7)
        for channel, plane in stained.items()
    }
