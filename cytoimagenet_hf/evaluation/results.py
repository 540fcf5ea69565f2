"""Scores as files: one JSON a score, and its predictions beside it as Parquet keyed by id.

A score says all that it depends on (design 10). Its identity is a hash of that: task, table of
images, protocol, mode and the provenance of the features. A score whose identity is on disk needn't
be computed again. But for `seconds` and `versions` equal inputs give equal bytes.

Names come from outside (folders, tables), so file names are cleaned and made distinct by the
identity; what a file is of stands inside of it only.
"""

import importlib.metadata
import json
import math
import platform
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import cytoimagenet_hf
from cytoimagenet_hf import files, hashing
from cytoimagenet_hf.errors import NotScorableError
from cytoimagenet_hf.evaluation import statistics
from cytoimagenet_hf.evaluation._scorefiles import read_outcome, score_fields, write_outcome
from cytoimagenet_hf.evaluation.records import Features, Images, Protocol, Task
from cytoimagenet_hf.evaluation.scoring import Outcome

FORMAT = 1  # of the files
VERSION = 1  # raise it whenever the same features could give another score
_DIGITS = 16  # hex, of the identity in a file's name
_LONGEST = 80  # characters of a file's name before the identity
_UNSAFE = re.compile(r"[^a-z0-9.+]+")
_LIBRARIES = ("numpy", "torch", "faiss-cpu", "faiss-gpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is scored: everything but images and features."""

    task: Task
    protocol: Protocol
    preset: str  # standard or paper
    encoder: str  # the column of a table; a fusion is written a+b
    mode: str
    seed: int | None = None  # of random weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How often neighbors told the label, with all that the number depends on."""

    identity: str
    task: str
    task_version: int
    preset: str
    protocol: Protocol
    encoder: str
    mode: str
    seed: int | None = None
    dim: int
    simulated: bool
    n: int  # scored queries
    correct: int
    low: float | None  # None: nothing can be said
    high: float | None
    interval: str  # method
    clusters: int  # that are resampled; 0: none known
    bank_size: int
    unscorable: Mapping[str, int] = field(default_factory=dict)  # reason -> queries
    left_out: Mapping[str, int] = field(default_factory=dict)  # reason -> images of the task
    dropped: Mapping[str, int] = field(default_factory=dict)  # reason -> images not in the task
    classes: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    """Label -> (scored queries, predictions, right ones)."""
    ids: str = ""  # fingerprint of the scored ids
    parts: tuple[Mapping[str, Any], ...] = ()  # provenance of each part's features
    versions: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0  # of scoring, without features

    @property
    def accuracy(self) -> float:
        """Return the share of scored queries that were predicted rightly."""
        return self.correct / self.n

    @property
    def file(self) -> str:
        """Return the name of the score's files, without ending."""
        seed = "" if self.seed is None else f"seed{self.seed}"
        parts = (self.task, self.protocol.name, self.preset, self.encoder, seed, self.mode)
        return f"{slug('-'.join(part for part in parts if part))}-{self.identity[:_DIGITS]}"


def slug(text: str) -> str:
    """Make a file's name of text from outside: lower-case letters, digits, dots, plus, hyphens."""
    return _UNSAFE.sub("-", text.lower())[:_LONGEST].strip("-.+") or "unnamed"


def identity(setting: Setting, images: Images, parts: Sequence[Features]) -> str:
    """Return the hash of all that a score depends on; equal for equal scores on any machine.

    Args:
        setting: task, protocol, encoder and mode.
        images: the task's table: ids, labels, splits and keys count, whatever their order of keys;
            so do what was left out of it and whether it is simulated, as a score says both.
        parts: features, of which ids, failures and provenance (weights, pixels, versions) count.
    """
    about = {
        "format": FORMAT,
        "version": VERSION,
        "task": [setting.task.name, setting.task.version],
        "protocol": asdict(setting.protocol),
        "preset": setting.preset,
        "encoder": [setting.encoder, setting.mode, setting.seed],
        "images": hashing.fingerprint(_table(images)),
        "simulated": images.simulated,
        "dropped": dict(images.dropped),
        "parts": [
            {
                "ids": hashing.fingerprint(sorted(part.ids)),
                "failed": dict(part.failed),
                "provenance": dict(part.provenance),
            }
            for part in parts
        ],
    }
    return hashing.fingerprint([json.dumps(about, sort_keys=True)])


def summarize(
    setting: Setting,
    images: Images,
    parts: Sequence[Features],
    outcome: Outcome,
    *,
    seconds: float = 0.0,
) -> Score:
    """Make a score of what was predicted.

    Raises:
        NotScorableError: no query could be scored; says why.
    """
    n = len(outcome.ids)
    unscorable = Counter(outcome.unscorable.values())
    if n == 0:
        raise NotScorableError(
            f"protocol {setting.protocol.name}: none of {len(outcome.unscorable)} queries can be "
            f"scored ({_counted(unscorable)})."
        )
    bounds = statistics.interval(outcome.correct, outcome.clusters)
    simulated = images.simulated or any(part.provenance.get("simulated") for part in parts)
    return Score(
        identity=identity(setting, images, parts),
        task=setting.task.name,
        task_version=setting.task.version,
        preset=setting.preset,
        protocol=setting.protocol,
        encoder=setting.encoder,
        mode=setting.mode,
        seed=setting.seed,
        dim=sum(part.values.shape[1] for part in parts),
        simulated=bool(simulated),
        n=n,
        correct=int(outcome.correct.sum()),
        low=bounds.low,
        high=bounds.high,
        interval=bounds.method,
        clusters=bounds.clusters,
        bank_size=outcome.bank_size,
        unscorable=dict(sorted(unscorable.items())),
        left_out=dict(sorted(Counter(map(_kind, outcome.left_out.values())).items())),
        dropped=dict(sorted(images.dropped.items())),
        classes=statistics.per_class(outcome.truth, outcome.predicted),
        ids=hashing.fingerprint(outcome.ids),
        parts=tuple(dict(part.provenance) for part in parts),
        versions=_versions(),
        seconds=seconds,
    )


def write_score(folder: Path, score: Score, outcome: Outcome) -> Path:
    """Write a score and its predictions; the JSON comes last, as it vouches for both.

    Raises:
        DiskError: a file can't be written.
    """
    path = folder / f"{score.file}.json"
    files.forget(path)
    write_outcome(path.with_suffix(".parquet"), outcome, score.identity)
    files.write_json(path, {"format": FORMAT, "accuracy": score.accuracy, **asdict(score)})
    return path


def read_score(path: Path) -> Score:
    """Read a score.

    Raises:
        ValueError: the file isn't what `write_score` writes, or of a newer version; names it.
    """
    fields = score_fields(path, FORMAT)
    try:
        score = Score(**fields | {"protocol": _protocol(fields["protocol"])})
        _check(score)
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is no score of ours: {error}. Remove it, and score again.") from (
            error
        )
    return score


def read_scores(folder: Path) -> list[Score]:
    """Read all scores of a folder, in the order of their files' names.

    Raises:
        ValueError: a file isn't a score.
    """
    return [read_score(path) for path in sorted(folder.glob("*.json"))]


def read_predictions(folder: Path, score: Score) -> Outcome:
    """Read what a score's queries were predicted to be, for paired comparisons.

    Raises:
        ValueError: the file is absent, damaged, or of another score; names it.
    """
    path = folder / f"{score.file}.parquet"
    outcome = read_outcome(path, score.identity)
    found = (len(outcome.ids), int(np.count_nonzero(outcome.correct)))
    if found != (score.n, score.correct) or hashing.fingerprint(outcome.ids) != score.ids:
        raise ValueError(f"{path} holds other predictions than {score.file}.json counts.")
    return outcome


def find(folder: Path, wanted: str) -> Score | None:
    """Return the score with an identity, where it was written with its predictions."""
    for path in sorted(folder.glob(f"*-{wanted[:_DIGITS]}.json")):
        score = read_score(path)
        if score.identity == wanted and path.with_suffix(".parquet").is_file():
            return score
    return None


def _table(images: Images) -> Iterable[str]:
    """Yield all of a table of images as texts."""
    columns = {"label": images.labels, "split": images.splits, **images.keys}
    for name in sorted(columns):
        yield name
        for value in columns[name]:
            yield value if isinstance(value, str) else json.dumps(sorted(value))
    yield from images.ids


def _kind(reason: str) -> str:
    """Keep what reasons have in common, so that they can be counted: not channel nor value."""
    return ": ".join(reason.split(": ")[:2])


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason}: {count}" for reason, count in sorted(counts.items()))


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "cytoimagenet_hf": cytoimagenet_hf.__version__}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _protocol(fields: Mapping[str, Any]) -> Protocol:
    lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
    return Protocol(**{**fields, **lists})


def _check(score: Score) -> None:
    """Refuse numbers that contradict each other."""
    if not 0 <= score.correct <= score.n or score.n < 1:
        raise ValueError(f"{score.correct} right of {score.n}")
    for bound in (score.low, score.high):
        if bound is not None and not (math.isfinite(bound) and 0 <= bound <= 1):
            raise ValueError(f"the interval {score.low} to {score.high} leaves 0 to 1")
    sums = [sum(counts[at] for counts in score.classes.values()) for at in range(3)]
    if sums != [score.n, score.n, score.correct]:
        raise ValueError(f"classes sum up to {sums}, not {score.n} and {score.correct}")
