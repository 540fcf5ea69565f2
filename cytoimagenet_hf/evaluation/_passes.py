"""One pass of a run: a task in one mode, or published features, by all encoders and protocols."""

import importlib.util
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cytoimagenet_hf.errors import (
    EncoderError,
    FeaturesError,
    NotScorableError,
    TaskNotFoundError,
)
from cytoimagenet_hf.evaluation import comparing, features, projection, results
from cytoimagenet_hf.evaluation._cache import folder_of
from cytoimagenet_hf.evaluation.features import BATCH
from cytoimagenet_hf.evaluation.lineup import SEEDS, Entry, Lineup
from cytoimagenet_hf.evaluation.modes import Mode
from cytoimagenet_hf.evaluation.opening import Opened
from cytoimagenet_hf.evaluation.records import Features, Images, Protocol, Task
from cytoimagenet_hf.evaluation.report import Points
from cytoimagenet_hf.evaluation.results import Score, Setting
from cytoimagenet_hf.evaluation.scoring import Outcome, score

_WORTH_ESTIMATING = 1000  # images; fewer are done before an estimate is

Progress = Callable[[str, int, int], None]  # what is embedded, images done, images in all


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """What is scored, and where."""

    data_roots: tuple[str, ...] = ()  # folders that hold a folder for each task, or NAME=FOLDER
    output: Path = Path("scores")
    tasks: tuple[str, ...] = ()  # none: all
    opened: tuple[Opened, ...] = ()  # further ones, which were opened already
    encoders: tuple[str, ...] = ()  # none: those of the design that can be had
    modes: tuple[str, ...] = ("concat-norm",)
    presets: tuple[str, ...] = ("standard",)
    seeds: int = SEEDS  # of random weights
    features: tuple[Path, ...] = ()  # published ones, scored as they are
    labels: Path | None = None  # of images of which only features are at hand; one task
    hub_datasets: Mapping[str, str] = field(default_factory=dict)  # task -> OWNER/NAME
    cache: Path | None = None  # of features; None: in `output`
    batch: int = BATCH
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Log:
    """Who is told what happens, and what is kept of it for the report."""

    say: Callable[[str], None]
    progress: Progress | None = None
    missing: list[str] = field(default_factory=list)  # couldn't be scored, though asked for
    notes: list[str] = field(default_factory=list)  # left out, as nobody asked for it

    def miss(self, message: str) -> None:
        """Keep and tell what couldn't be scored, once though it is so of every encoder."""
        if message not in self.missing:
            self.missing.append(message)
            self.say(message)

    def note(self, message: str) -> None:
        """Keep and tell what is left out."""
        self.notes.append(message)
        self.say(message)


@dataclass(frozen=True, slots=True)
class Job:
    """One task, what is done with it, and who is told."""

    config: RunConfig
    task: Task
    images: Images
    log: Log


Scored = list[tuple[Score, Outcome]]


def score_mode(job: Job, lineup: Lineup, mode: Mode, *, draw: bool) -> tuple[Scored, list[Points]]:
    """Score all encoders on one task in one mode, seed by seed, holding what is still needed.

    Args:
        job: the task.
        lineup: the encoders.
        mode: what is made of channels.
        draw: whether points of the features are wanted.

    Raises:
        EncoderError: an encoder that was asked for takes no such images.
    """
    held: dict[tuple[str, int | None], Features] = {}
    scored: Scored = []
    points: list[Points] = []
    for entry in lineup.entries:
        for key in [key for key in held if key[1] not in (None, entry.seed)]:
            del held[key]  # of a seed that is done
        try:
            for key in entry.parts:
                if key not in held:
                    held[key] = _embed(job, lineup, key, mode)
        except EncoderError as error:
            if job.config.encoders:
                raise
            job.log.note(f"{job.task.name}, {mode.name}: {entry.column} is left out: {error}")
            continue
        if not is_first():
            continue
        parts = [held[key] for key in entry.parts]
        scored += _score_entry(job, entry, parts, mode.name)
        if draw and len(parts) == 1 and entry.seed in (None, 0):
            points += _points(job, entry.column, mode.name, parts[0])
    return scored, points


@dataclass(frozen=True, slots=True)
class Given:
    """Published features of the images of one task."""

    column: str
    features: Features
    to: Opened


def match_given(config: RunConfig, opened: Sequence[Opened], columns: Sequence[str]) -> list[Given]:
    """Read published features and find the tasks whose images they are of.

    Args:
        config: names their files.
        opened: the tasks.
        columns: names that encoders have already; a file's name is added to an equal one.

    Raises:
        FeaturesError: a file can't be read, or fits no task, or its pixels are others.
        ValueError: two files can't be told apart.
    """
    given: list[Given] = []
    taken = set(columns)
    for path in config.features:
        found = features.read_features(path)
        column = _column(path, found, taken)
        taken.add(column)
        errors = []
        for one in opened:
            try:
                own = features.match(found, one.images)
                if config.labels is None:
                    features.check_pixels(own, one.images)
            except FeaturesError as error:
                errors.append(f"{one.task.name}: {error}")
                continue
            given.append(Given(column, own, one))
        if len(errors) == len(opened):
            raise FeaturesError(f"{path} fits no task. {' '.join(errors)}")
    return given


def _column(path: Path, found: Features, taken: set[str]) -> str:
    """Name the column of a file: its encoder or its name, and its folder where that is taken."""
    name = str(found.provenance.get("encoder") or path.name)
    places = [path.name, "/".join(path.absolute().parts[-2:])]
    for one in (name, *(place if name == path.name else f"{name} ({place})" for place in places)):
        if one not in taken:
            return one
    raise ValueError(f"{path} and another file would both stand in the column {one!r}. Rename it.")


def score_given(config: RunConfig, given: Sequence[Given], log: Log) -> Scored:
    """Score published features, each on the task whose images they are of."""
    scored: Scored = []
    for one in given if is_first() else ():
        mode = str(one.features.provenance.get("mode") or "published")
        job = Job(config, one.to.task, one.to.images, log)
        scored += _score_entry(job, Entry(one.column, ()), [one.features], mode)
    return scored


def _embed(job: Job, lineup: Lineup, key: tuple[str, int | None], mode: Mode) -> Features:
    encoder = lineup.encoders[key]
    seed = "" if key[1] is None else f" (seed {key[1]})"
    what = f"{job.task.name}, {mode.name}, {encoder.name}{seed}"
    cache = job.config.cache or job.config.output / "features"
    is_begun = folder_of(cache, job.task.name, encoder.name, mode.name).is_dir()
    if len(job.images) >= _WORTH_ESTIMATING and not is_begun and is_first():
        seconds = features.estimate(job.images, encoder, mode, batch=job.config.batch)
        job.log.say(f"{what}: {len(job.images):,} images, about {_duration(seconds)}")

    def step(done: int, total: int) -> None:
        if job.log.progress:
            job.log.progress(what, done, total)

    return features.compute(
        job.images,
        encoder,
        mode,
        task=job.task.name,
        cache=cache,
        batch=job.config.batch,
        progress=step,
    )


def _score_entry(
    job: Job, entry: Entry, parts: Sequence[Features], mode: str
) -> Iterator[tuple[Score, Outcome]]:
    """Score one encoder by each protocol; what is on disk isn't computed again."""
    folder = job.config.output / "scores"
    for preset, protocol in _protocols(job.task, job.config.presets):
        setting = Setting(
            task=job.task,
            protocol=protocol,
            preset=preset,
            encoder=entry.column,
            mode=mode,
            seed=entry.seed,
        )
        if kept := results.find(folder, results.identity(setting, job.images, parts)):
            job.log.say(f"{_told(kept)}, on disk")
            yield kept, results.read_predictions(folder, kept)
            continue
        began = time.perf_counter()
        try:
            outcome = score(job.images, parts, protocol)
            seconds = time.perf_counter() - began
            made = results.summarize(setting, job.images, parts, outcome, seconds=seconds)
        except TaskNotFoundError as error:  # a part that this copy of the data lacks
            job.log.miss(f"{job.task.name}: {error}")
            continue
        except NotScorableError as error:
            where = job.task.name if preset == "standard" else f"{job.task.name} ({preset})"
            job.log.miss(f"{where}, {mode}: {error}")
            continue
        results.write_score(folder, made, outcome)
        job.log.say(_told(made))
        yield made, outcome


def _protocols(task: Task, presets: Sequence[str]) -> Iterator[tuple[str, Protocol]]:
    for preset in dict.fromkeys(presets):
        own = task.paper if preset == "paper" and task.paper else task.protocols
        yield from ((preset, protocol) for protocol in own)


def _points(job: Job, column: str, mode: str, found: Features) -> Iterator[Points]:
    """Yield what a picture of the features needs, where a picture can be made."""
    labels = dict(zip(job.images.ids, job.images.labels, strict=True))
    kept = tuple(name for name in found.ids if labels.get(name))
    if len(kept) < 2 or importlib.util.find_spec("matplotlib") is None:
        return
    ids, places, shares = projection.pca(replace(found, ids=kept, values=found.take(kept)))
    yield Points(
        task=job.task.name,
        encoder=column,
        mode=mode,
        points=places,
        labels=tuple(labels[name] for name in ids),
        shares=shares,
        simulated=job.images.simulated,
    )


def _told(made: Score) -> str:
    bounds = "no interval"
    if made.low is not None and made.high is not None:
        bounds = f"{made.low:.1%} to {made.high:.1%}"
    seed = "" if made.seed is None else f" (seed {made.seed})"
    counts = (
        (sum(made.unscorable.values()), "not scorable"),
        (sum(made.left_out.values()), "images left out"),
    )
    lost = "".join(f", {count:,} {what}" for count, what in counts if count)
    return (
        f"{comparing.row_of(made)}{' [simulated]' if made.simulated else ''}: {made.encoder}{seed} "
        f"{made.accuracy:.1%} ({bounds}) of {made.n:,}{lost}"
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def is_first() -> bool:
    """Say whether this process is the one that scores, of those that a launcher started."""
    return os.environ.get("RANK", "0") == "0"
