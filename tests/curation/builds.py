"""Small builds from simulated raw data, for the tests of whole stages."""

from pathlib import Path

from cytoimagenet_hf import simulation, sources
from cytoimagenet_hf.curation.catalog import SourceInput
from cytoimagenet_hf.curation.parameters import Parameters, preset
from cytoimagenet_hf.curation.pipeline import BuildConfig

NAMES = ("bbbc006", "bbbc038", "bbbc048")
FIELDS = 16


def raw_data(to: Path, names: tuple[str, ...] = NAMES, *, fields: int = FIELDS) -> Path:
    """Simulate raw data of some sources under `to`."""
    for name in names:
        simulation.simulate(name, to, fields=min(fields, simulation.get(name).MOST))
    return to


def config(
    raw: Path,
    output: Path,
    *,
    names: tuple[str, ...] = NAMES,
    parameters: Parameters | None = None,
    **changes,
) -> BuildConfig:
    """Configure a build in which a handful of fields makes a label."""
    return BuildConfig(
        inputs=[SourceInput(sources.get(name), raw / name) for name in names],
        output=output,
        parameters=parameters or preset("standard", min_fields=4, chunk_fields=6),
        **changes,
    )


def tree(folder: Path) -> dict[str, bytes]:
    """All files of a folder by relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
