"""Score encoders on tasks: every task found, every encoder that can be had, every mode asked for.

Features are cached and scores are kept as files (results.py), so a run that was stopped goes on
where it was. Started by `accelerate launch`, all processes embed and the first one scores.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cytoimagenet_hf import files
from cytoimagenet_hf.errors import FeaturesError, NotScorableError, TaskNotFoundError
from cytoimagenet_hf.evaluation import comparing, results
from cytoimagenet_hf.evaluation._passes import (
    Job,
    Log,
    Progress,
    RunConfig,
    Scored,
    is_first,
    match_given,
    score_given,
    score_mode,
)
from cytoimagenet_hf.evaluation.comparing import Pair
from cytoimagenet_hf.evaluation.hubresults import check_datasets, render_eval_results
from cytoimagenet_hf.evaluation.lineup import Lineup, assemble
from cytoimagenet_hf.evaluation.modes import parse_mode
from cytoimagenet_hf.evaluation.opening import Opened, open_tasks, read_labels
from cytoimagenet_hf.evaluation.report import Facts, Points, write_report
from cytoimagenet_hf.evaluation.results import Score
from cytoimagenet_hf.evaluation.tasks import get
from cytoimagenet_hf.models.reach import check_device

__all__ = ["Opened", "Progress", "Run", "RunConfig", "run"]

PRESETS = ("standard", "paper")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run came to."""

    scores: list[Score]
    pairs: list[Pair]
    missing: list[str]  # tasks and protocols that couldn't be scored, and why
    notes: list[str]  # encoders left out, pairs that weren't compared
    files: list[Path]  # of the report


def run(
    config: RunConfig,
    say: Callable[[str], None] = lambda _: None,
    progress: Progress | None = None,
) -> Run:
    """Score everything, and write scores and a report to `config.output`.

    Args:
        config: what.
        say: is told each score, and what is left out and why.
        progress: is told how many images are embedded.

    Raises:
        TaskNotFoundError: no task was found at all.
        NotScorableError: nothing of those that were found could be scored.
        EncoderError, ImportError: an encoder that was asked for can't be had, or takes no such
            images.
        FeaturesError: published features fit no task; told before anything is embedded.
        ValueError: a wrong name of a task, encoder, mode, preset or device; a damaged score.
        DiskError: a file can't be written.
    """
    modes = [parse_mode(text) for text in config.modes]
    if unknown := sorted({*config.presets} - {*PRESETS}):
        raise ValueError(f"Unknown preset {unknown[0]!r}; there are {', '.join(PRESETS)}.")
    check_device(config.device)
    log = Log(say, progress)
    opened = _open(config, log)
    check_datasets(config.hub_datasets, [one.task.name for one in opened])
    lineup = Lineup(())
    if config.encoders or not config.features:
        lineup = assemble(config.encoders, seeds=config.seeds, device=config.device, say=say)
    for name, why in lineup.left_out.items():
        log.note(f"{name} is left out: {why}")
    _tell_left_out(opened, log)
    given = match_given(config, opened, [entry.column for entry in lineup.entries])
    scored: Scored = []
    points: list[Points] = []
    for one in opened:
        job = Job(config, one.task, one.images, log)
        for mode in modes if lineup.entries else ():
            found, drawn = score_mode(job, lineup, mode, draw=mode == modes[0])
            scored += found
            points += drawn
    scored += score_given(config, given, log)
    if not is_first():
        return Run(scores=[], pairs=[], missing=log.missing, notes=log.notes, files=[])
    if not scored:
        raise NotScorableError("Nothing was scored. " + " ".join([*log.missing, *log.notes]))
    return _finish(config, opened, scored, points, log)


def _open(config: RunConfig, log: Log) -> list[Opened]:
    """Open all tasks before anything is embedded, and see that features are there."""
    for path in config.features:
        if not path.is_file():
            raise FeaturesError(f"{path}: no such file of features.")
    if config.labels is not None:
        if len(config.tasks) != 1 or not config.features or config.encoders:
            raise ValueError(
                "A table of labels goes with features, and with the one task whose protocols they "
                "are scored by (--features FILE --labels TABLE --tasks NAME); encoders need images."
            )
        if config.opened or config.data_roots:
            raise ValueError(
                "A table of labels stands for images: give either --labels, or --table or "
                "--data-root."
            )
        return [Opened(get(config.tasks[0]), read_labels(config.labels))]
    opened, missing = list(config.opened), list[str]()
    if config.data_roots or config.tasks or not opened:
        found, missing = open_tasks(config.data_roots, config.tasks)
        opened += found
    if not opened:
        raise TaskNotFoundError("No task was found. " + " ".join(missing))
    for message in missing:
        log.miss(message)
    return opened


def _tell_left_out(opened: Sequence[Opened], log: Log) -> None:
    for one in opened:
        if one.images.dropped:
            counts = (f"{why}: {count:,}" for why, count in sorted(one.images.dropped.items()))
            log.say(f"{one.task.name}: {len(one.images):,} images; left out: {', '.join(counts)}")


def _finish(
    config: RunConfig,
    opened: Sequence[Opened],
    scored: Scored,
    points: Sequence[Points],
    log: Log,
) -> Run:
    """Compare encoders and write the report."""
    pairs, others = comparing.compare(scored)
    notes = [*log.notes, *others]
    scores = [made for made, _ in scored]
    facts = Facts(
        scores=scores,
        pairs=pairs,
        published={one.task.name: one.task.published for one in opened},
        outcomes={made.identity: outcome for made, outcome in scored},
        points=points,
        notes=[*log.missing, *notes],
    )
    written = write_report(config.output, facts)
    written += _write_for_hub(config, scores, log)
    return Run(scores=scores, pairs=pairs, missing=log.missing, notes=notes, files=written)


def _write_for_hub(config: RunConfig, scores: Sequence[Score], log: Log) -> list[Path]:
    """Write `.eval_results` of each encoder with weights of its own, for its page on the Hub."""
    written = []
    for task, dataset in sorted(config.hub_datasets.items()):
        if any(one.task == task and one.simulated for one in scores):
            log.note(f"{task}: nothing is written for the Hub, as its images are simulated")
        own = [one for one in scores if one.task == task and one.seed is None and not one.simulated]
        for encoder in sorted({one.encoder for one in own}):
            text = render_eval_results([one for one in own if one.encoder == encoder], dataset)
            folder = config.output / "hub" / results.slug(encoder) / ".eval_results"
            files.write_text(folder / f"{results.slug(task)}.yaml", text)
            written.append(folder / f"{results.slug(task)}.yaml")
    return written
