"""Simulated BBBC022: Cell Painting, one folder a plate and channel, and the table of treatments.

Wells and treatments are those of the real plate map H-BIOA-002-1, which four plates share. The
table also has what the real one has: mock wells with a blank compound, a well whose files were not
downloaded, a row that is too short and one that is too long.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cytoimagenet_hf.simulation import _cells, _optics, _writing

_PLATES = ("20585", "20592", "20607", "20633")
_TREATMENTS = (  # well, compound as the table spells it, Broad id, concentration, SMILES, source
    ("A01", "NIFLUMIC ACID", "BRD-K98763141-001-06-8", "8.858401198",
     "OC(=O)c1cccnc1Nc2cccc(c2)C(F)(F)F", "Biomol International Inc."),
    ("A02", "Vitexin", "BRD-A41941932-001-03-0", "2.312793797",
     "OC[C@H]1OC([C@H](O)[C@@H](O)[C@@H]1O)c2c(O)cc(O)c3c(=O)cc(oc23)c4ccc(O)cc4",
     "Prestwick Chemical Inc."),
    ("A03", "NICARDIPINE", "BRD-A26711594-001-02-7", "5.213492954",
     "COC(=O)C1=C(C)NC(=C(C1c2cccc(c2)[N+](=O)[O-])C(=O)OCCN(C)Cc3ccccc3)C",
     "Biomol International Inc."),
    ("D19", "Paclitaxel", "BRD-K62008436-001-03-1", "1.171088897", "", "Prestwick Chemical Inc."),
    ("D20", "FCCP", "BRD-K14821540-001-02-1", "9.836009734",
     "FC(F)(F)Oc1ccc(NN=C(C#N)C#N)cc1", "Biomol International Inc."),
    ("A13", "", "", "", "", ""),
)  # fmt: skip
MOST = 9 * len(_PLATES) * len(_TREATMENTS)  # sites x plates x wells
_SHAPE = (520, 696)
_CHANNELS = {"OrigER": "w2", "OrigHoechst": "w1", "OrigMito": "w5", "OrigPh_golgi": "w4",
             "OrigSyto": "w3"}  # fmt: skip
_HEADER = (
    "ImageNumber",
    *(f"Image_FileName_{channel}" for channel in _CHANNELS),
    "Image_Metadata_ASSAY_WELL_ROLE",
    "Image_Metadata_BROAD_ID",
    "Image_Metadata_CPD_MMOL_CONC",
    "Image_Metadata_CPD_PLATE_MAP_NAME",
    "Image_Metadata_CPD_SMILES",
    "Image_Metadata_CPD_WELL_POSITION",
    "Image_Metadata_PlateID",
    "Image_Metadata_SOURCE_COMPOUND_NAME",
    "Image_Metadata_SOURCE_NAME",
    "Image_Metadata_Site",
    "Image_Metadata_Time",
    *(f"Image_PathName_{channel}" for channel in _CHANNELS),
)


def simulate(root: Path, *, fields: int, seed: int) -> dict[str, tuple[str, ...]]:
    """Write `fields` fields: treatments in turn, then plates, then sites."""
    truth: dict[str, tuple[str, ...]] = {}
    rows: list[list[object]] = []
    for number in range(fields):
        plate_number, treatment = divmod(number, len(_TREATMENTS))
        site, plate_number = divmod(plate_number, len(_PLATES))
        plate, (well, compound, *_) = _PLATES[plate_number], _TREATMENTS[treatment]
        names = _names(seed, plate, well, site + 1)
        rows.append(_row(number + 1, names, plate, site + 1, _TREATMENTS[treatment]))
        for channel, counts in _paint(seed, plate, well, site, compound.lower()):
            path = f"BBBC022_v1_images_{plate}{channel}/{names[channel]}"
            _writing.write_tiff(root / path, counts)
            truth[path] = (compound.lower(),) if compound else ()
    _writing.write_table(root / "BBBC022_v1_image.csv", _HEADER, [*rows, *_odd_rows(seed)])
    return truth


def simulate_negative(root: Path) -> None:
    """Write BBBC039's layout: fields of the same experiment, without plate or table."""
    for well in ("A01", "D19"):
        rng = _optics.generator(0, "bbbc022", well)
        plane = _cells.nuclei(rng, _cells.grow(rng, _SHAPE, 60))
        counts = _optics.expose(rng, plane, gain=800, background=170)
        _writing.write_tiff(root / "images" / _names(0, "", well, 1)["w1"], counts)
        _writing.write_png(
            root / f"masks/IXMtest_{well}_s1.png", np.where(plane > 0.3, 255, 0).astype(np.uint8)
        )


def _names(seed: int, plate: str, well: str, site: int) -> dict[str, str]:
    return {
        channel: f"IXMtest_{well}_s{site}_{channel}"
        f"{_writing.guid(seed, plate, well, site, channel).upper()}.tif"
        for channel in ("w1", "w2", "w3", "w4", "w5")
    }


def _row(
    number: int, names: dict[str, str], plate: str, site: int, treatment: tuple[str, ...]
) -> list[object]:
    well, compound, broad, concentration, smiles, maker = treatment
    role = "compound" if compound else "mock"
    files = [names[channel] for channel in _CHANNELS.values()]
    told = [role, broad, concentration, "H-BIOA-002-1", smiles, well, plate, compound, maker]
    return [number, *files, *told, site, "1.26754E+12", *[f"{plate}/"] * len(_CHANNELS)]


def _odd_rows(seed: int) -> Iterator[list[object]]:
    """Give one well without files, one row that is too short, and one that is too long."""
    absent = ("P24", "BENZBROMARONE", "", "5", "", "")
    whole = _row(69118, _names(seed, "20585", "P24", 9), "20585", 9, absent)
    yield whole
    yield [69119, *whole[1:7]]
    yield [69120, *whole[1:], "", ""]


def _paint(
    seed: int, plate: str, well: str, site: int, treatment: str
) -> Iterator[tuple[str, _optics.IntPlane]]:
    """Yield the five channels of one field; all show the same cells."""
    rng = _optics.generator(seed, "bbbc022", plate, well, site)
    look = _cells.look_of(treatment)
    cells = _cells.grow(rng, _SHAPE, rng.uniform(70, 100), look=look)
    body = _cells.bodies(rng, cells)
    nuclei = _cells.nuclei(rng, cells, grain=look.grain)
    mesh = _optics.ridges(rng, _SHAPE, period=9 * look.mesh)
    net = _optics.ridges(rng, _SHAPE, period=13 * look.mesh)
    nucleoli = _cells.spots(rng, cells, each=3, radius=2.6, offset=0.5)
    golgi = _cells.spots(rng, cells, each=5, radius=2.8, offset=1.5)
    stained = {
        "w1": nuclei,
        "w2": body.near * (0.45 + 0.6 * mesh) + 0.1 * body.inside,
        "w3": 0.45 * body.near + 0.3 * np.minimum(nuclei, 1) + nucleoli * np.minimum(nuclei, 1),
        "w4": 0.3 * body.inside + 0.35 * body.rim + 0.4 * body.fiber + 0.8 * golgi * body.inside,
        "w5": body.near * net * 1.3 + 0.05 * body.inside,
    }
    for channel, plane in stained.items():
        yield channel, _optics.expose(rng, plane, gain=800, background=170, read_noise=7)
