"""The demo: simulated raw data in their true layout, curated, loaded, trained on, and scored.

Everything that it writes says that it is simulated.
"""

from collections.abc import Callable
from pathlib import Path

from cytoimagenet_hf import simulation, sources
from cytoimagenet_hf.curation.catalog import SourceInput
from cytoimagenet_hf.curation.parameters import preset
from cytoimagenet_hf.curation.pipeline import BuildConfig

_MIN_FIELDS = 8  # so that a handful of fields makes classes; the paper's is 287
BENCHMARK_FIELDS = 120  # images of a simulated benchmark: 11 neighbors mean something


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
    """Load the data set as a user would, and say what is in it."""
    from cytoimagenet_hf.hub.loading import load_dataset

    loaded = load_dataset(to / "cytoimagenet", "small")
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
        ]
    )


def train_and_tell(to: Path, *, workers: int, say: Callable[[str], None]) -> str:
    """Train a small network on the data set, load it with timm and transformers, and score it.

    Args:
        to: folder of the demo; the run goes to `<to>/model`.
        workers: processes that decode.
        say: is told what is about to happen.

    Returns:
        What came of it; without the extra `train`, that nothing was trained and why.
    """
    from cytoimagenet_hf.pretraining import demonstration, launch

    if lacking := launch.what_is_lacking():
        return f"No model is trained: {lacking}"
    output = to / "model"
    config = demonstration.settings(to / "cytoimagenet", output, workers=min(workers, 2))
    say(f"training {config.model} from random weights on these simulated crops, in {output}")
    demonstration.train_anew(config, say)
    found = demonstration.score_loaded(config)
    return "\n".join(
        [
            "",
            *demonstration.curves(output),
            f"loaded {output / 'model'} with timm and transformers: their outputs differ by at "
            f"most {found.difference:.1g}",
            f"accuracy on {found.images:,} held-out crops {found.accuracy:.2f}; always naming the "
            f"most frequent class gives {found.majority:.2f} (simulated: it says nothing of cells)",
        ]
    )


def score_and_tell(to: Path, *, fields: int, say: Callable[[str], None]) -> str:
    """Score the model that was trained, random weights and their fusion on simulated benchmarks.

    Args:
        to: folder of the demo; raw data go to `<to>/benchmarks`, results to `<to>/scores`.
        fields: images of each task.
        say: is told what happens.

    Returns:
        The table of accuracies; empty where no model was trained.
    """
    model = to / "model" / "model"
    if not (model / "README.md").exists():
        return ""
    from cytoimagenet_hf.evaluation import report, runner, tasks

    raw = to / "benchmarks"
    for name in tasks.names():
        simulation.simulate(name, raw, fields=min(fields, simulation.get(name).MOST))
    say(f"scoring {model} on simulated benchmarks in {raw}")
    encoders = ("random:test_efficientnet", f"local-dir:{model}")
    config = runner.RunConfig(
        data_roots=(str(raw),),
        output=to / "scores",
        encoders=(*encoders, "+".join(encoders[::-1])),
        seeds=1,
    )
    done = runner.run(config)  # each score stands in the table below
    return f"\n{report.text_table(done.scores, done.pairs)}"


def next_steps(to: Path) -> str:
    """Say what to do next."""
    folder = to / "cytoimagenet"
    model = to / "model" / "model"
    trained = (model / "README.md").exists()
    return "\n".join(
        [
            "",
            "Next:",
            f"  open {to / 'cytoimagenet.work' / 'report.html'}",
            *([f"  open {model / 'curves.png'} and {model / 'README.md'}"] if trained else []),
            *([f"  open {to / 'scores' / 'report.html'}"] if trained else []),
            f"  cytoimagenet labels {folder}",
            "  cytoimagenet sources bbbc022        # what real data must look like",
            "  cytoimagenet build --data-root DIR  # with your own downloads",
            "  cytoimagenet train --dataset DIR    # a model of your own; --help: flags, presets",
            "  cytoimagenet score --data-root DIR  # any encoder; --help: names, modes",
        ]
    )
