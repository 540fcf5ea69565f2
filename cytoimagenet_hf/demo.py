"""The demo: simulated raw data in the true layout of several sources, curated and loaded.

Everything that it writes says that it is simulated.
"""

from collections.abc import Callable
from pathlib import Path

from cytoimagenet_hf import simulation, sources
from cytoimagenet_hf.curation.catalog import SourceInput
from cytoimagenet_hf.curation.parameters import preset
from cytoimagenet_hf.curation.pipeline import BuildConfig

_MIN_FIELDS = 8  # so that a handful of fields makes classes; the paper's is 287


def prepare(to: Path, *, fields: int, workers: int, say: Callable[[str], None]) -> BuildConfig:
    """Simulate the raw data of every source that can be simulated.

    Args:
        to: folder of the demo; raw data go to `<to>/raw`, the data set to `<to>/cytoimagenet`.
        fields: of view, a source; fewer where the real layout has fewer.
        workers: processes of the build.
        say: is told what was simulated.

    Returns:
        The build that remains to be done.
    """
    raw = to / "raw"
    inputs = []
    for name in simulation.names():
        if name not in sources.names():
            continue
        count = min(fields, simulation.get(name).MOST)
        simulation.simulate(name, raw, fields=count)
        say(f"simulated {count} fields of {name} in {raw / name}")
        inputs.append(SourceInput(sources.get(name), raw / name))
    return BuildConfig(
        inputs=inputs,
        output=to / "cytoimagenet",
        parameters=preset("standard", min_fields=_MIN_FIELDS),
        workers=workers,
    )


def load_and_tell(to: Path) -> str:
    """Load the data set as a user would, and say what to do next."""
    from cytoimagenet_hf.hub.loading import load_dataset

    folder = to / "cytoimagenet"
    loaded = load_dataset(folder, "small")
    first = loaded["train"][0]
    names = loaded["train"].features["label"].names
    image = first["image"]
    return "\n".join(
        [
            "",
            f"loaded: {len(loaded['train']):,} crops to train on, "
            f"{len(loaded['validation']):,} held out, {len(names)} classes (simulated)",
            f"first crop: {image.width} x {image.height}, {names[first['label']]!r}, "
            f"{first['image_id']}",
            "",
            "Next:",
            f"  open {to / 'cytoimagenet.work' / 'report.html'}",
            f"  cytoimagenet labels {folder}",
            "  cytoimagenet sources bbbc022        # what real data must look like",
            "  cytoimagenet build --data-root DIR  # with your own downloads",
        ]
    )
