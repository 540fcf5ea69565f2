"""The recipe of a build, read from top to bottom: catalog, plan, rendering, assembly (design 4).

Each stage reads files and writes files in the work folder, and is skipped when what it was made
from is unchanged, so a build that was stopped goes on where it stopped.
"""

import contextlib
import functools
import os
import platform
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from cytoimagenet_hf import files, hashing
from cytoimagenet_hf.curation import catalog as catalogs
from cytoimagenet_hf.curation import summary as summaries
from cytoimagenet_hf.curation.assembly import assemble, settle, work_of
from cytoimagenet_hf.curation.base import read_release
from cytoimagenet_hf.curation.catalog import SourceInput
from cytoimagenet_hf.curation.documents import versions
from cytoimagenet_hf.curation.engine import Lost, Pool
from cytoimagenet_hf.curation.estimate import check_space, estimate
from cytoimagenet_hf.curation.gallery import draw_build
from cytoimagenet_hf.curation.jobs import ChunkJob, ChunkResult, after_trial, next_try
from cytoimagenet_hf.curation.material import Material
from cytoimagenet_hf.curation.outputs import check_apart, check_output
from cytoimagenet_hf.curation.parameters import Parameters
from cytoimagenet_hf.curation.planning import LabelPlan, chunk_jobs, make_plan
from cytoimagenet_hf.curation.progress import Progress, Silent
from cytoimagenet_hf.curation.releases import Release
from cytoimagenet_hf.curation.rendering import content_of, is_rendered, render_chunk
from cytoimagenet_hf.curation.summary import Summary
from cytoimagenet_hf.errors import BuildError, DiskError


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildConfig:
    """What to build, from what, and where."""

    inputs: Sequence[SourceInput]
    output: Path
    work: Path | None = None  # default: `<output>.work`
    parameters: Parameters = field(default_factory=Parameters)
    workers: int = 0  # processes; 0: this one, without protection against crashing decoders
    rehash: bool = False  # read all raw files again, whatever their sizes and times say
    dry_run: bool = False  # stop after the plan
    from_tables: bool = False  # plan from tables alone, without raw files; implies dry_run
    base: Path | None = None  # curated folder of a release that this build goes on from
    notes: Sequence[str] = ()  # what people should read of the inputs, beside what sources tell

    @property
    def work_folder(self) -> Path:
        """Where the stages keep their files."""
        return self.work or work_of(self.output)


def build(config: BuildConfig, progress: Progress | None = None) -> Summary:
    """Curate a data set: from raw folders to a folder that `load_dataset` reads.

    Args:
        config: what to build.
        progress: is told what happens.

    Raises:
        CytoImageNetError: the message says what is wrong and what to do next.
    """
    progress = progress or Silent()
    _check(config)
    work = config.work_folder
    base = read_release(config.base, config.parameters) if config.base else None
    with _held(config):
        clock = _Clock()
        table, signatures = _catalog(config, progress)
        clock.lap("catalog")
        plan = make_plan(table, signatures, config.parameters, work, base)
        clock.lap("plan")
        roots = {entry.source.name: entry.root for entry in config.inputs}
        jobs = chunk_jobs(table, plan, roots, config.parameters, work / "rendered")
        needed = estimate(jobs, config.parameters)
        names = sorted(roots)
        notes = summaries.source_notes(names, work / "catalog")
        merged = summaries.merge_notes(names, work / "catalog", table)
        if config.dry_run or config.from_tables:
            return summaries.planned(
                config.output, table, plan, needed, [*config.notes, *notes, *merged]
            )
        waiting = [job for job in jobs if config.rehash or not is_rendered(job)]
        if waiting:
            check_space(needed.bytes, work, config.output)
        done = _render(config, waiting, progress)
        clock.lap("rendering")
        summary = _assemble(config, base, (table, plan, jobs), (notes, merged), progress)
        clock.lap("assembly")
        summary = replace(summary, notes=[*config.notes, *summary.notes])
        summary = summaries.with_counts(summary, jobs, waiting, done, needed)
        _record_run(config, clock, summary)
    return summary


@contextlib.contextmanager
def _held(config: BuildConfig) -> Iterator[None]:
    """Keep other runs out of both folders, and leave nothing half-written in or beside them.

    A work folder of its own doesn't make an output folder one's own, so that is locked too.
    """
    work, usual = config.work_folder, replace(config, work=None).work_folder
    with contextlib.ExitStack() as stack:
        for folder in sorted({work.resolve(), usual.resolve()}):
            stack.enter_context(files.exclusive_lock(folder / "lock"))
        _tidy(config)  # a former run may have been killed
        try:
            yield
        except BaseException:
            with contextlib.suppress(DiskError):  # what went wrong first is what is told
                _tidy(config)
            raise


def _tidy(config: BuildConfig) -> None:
    settle(config.output)
    files.sweep(config.work_folder)


def _check(config: BuildConfig) -> None:
    if not config.inputs:
        raise BuildError("There is nothing to build: name at least one source or table.")
    names = Counter(entry.source.name for entry in config.inputs)
    if twice := [name for name, count in names.items() if count > 1]:
        raise BuildError(f"The source {twice[0]!r} is given twice; names must be unique.")
    if config.workers < 0:
        raise ValueError(f"workers must be at least 0, got {config.workers}")
    read = [path for one in config.inputs for path in (one.root, *one.tables, *one.inputs)]
    check_apart(config.output, config.work_folder, read)
    check_output(config.output)


def _catalog(config: BuildConfig, progress: Progress) -> tuple[pa.Table, list[str]]:
    """Bring the catalogs up to date and read them."""
    folder = config.work_folder / "catalog"
    progress.start("catalog", len(config.inputs), "source")
    for entry in config.inputs:
        is_new = catalogs.build_catalog(entry, folder, from_tables=config.from_tables)
        progress.step(1, f"{entry.source.name}{'' if is_new else ' (unchanged)'}")
    names = sorted(entry.source.name for entry in config.inputs)
    signatures = [files.read_json(folder / f"{name}.json")["signature"] for name in names]
    return catalogs.read_catalog(folder, names), signatures


def _render(
    config: BuildConfig, waiting: Sequence[ChunkJob], progress: Progress
) -> list[ChunkResult]:
    """Render the chunks that are not there yet."""
    progress.start("rendering", sum(len(job.records) for job in waiting), "record")
    done = []
    for result in _rendered(config, waiting, progress):
        done.append(result)
        refused = sum(result.refused.values())
        progress.step(
            result.rendered + result.reused,
            f"{result.name}: {result.kept} crops, {refused} refused",
        )
    return done


def _rendered(
    config: BuildConfig, waiting: Sequence[ChunkJob], progress: Progress
) -> Iterator[ChunkResult]:
    """Render chunks; a record at which a worker dies is tried once alone, then refused."""
    work = functools.partial(render_chunk, rehash=config.rehash)
    if config.workers == 0 or not waiting:
        yield from map(work, waiting)
        return
    queue = deque(waiting)
    with Pool(work, min(config.workers, len(waiting))) as pool:
        for outcome in pool.run(queue):
            if isinstance(outcome, Lost):
                if not outcome.item:
                    raise BuildError(
                        f"A worker process ended while it began {outcome.job.name} (killed, or "
                        f"out of memory). What is rendered is kept: run the same command again."
                    )
                progress.say(f"{outcome.item}: {outcome.reason}; the worker is replaced")
                queue.append(next_try(outcome.job, outcome.item, outcome.reason))
            elif outcome.job.is_trial:
                queue.append(after_trial(outcome.job))
            else:
                yield outcome.result


def _assemble(
    config: BuildConfig,
    base: Release | None,
    planned: tuple[pa.Table, LabelPlan, Sequence[ChunkJob]],
    notes: tuple[Sequence[str], Sequence[str]],  # of sources, of the whole build
    progress: Progress,
) -> Summary:
    """Assemble the folder, unless the one there was made from exactly this."""
    work = config.work_folder
    table, plan, jobs = planned
    inputs = [plan.signature, str(config.parameters), str(versions())]
    inputs += [f"{job.name} {content_of(job)}" for job in jobs]
    signature = hashing.fingerprint(inputs)
    known = files.read_json(work / "summary.json")
    sums = config.output / "SHA256SUMS"
    if known and known["signature"] == signature and sums.exists():
        summary = Summary(**{**known["summary"], "is_new": False})
        if hashing.sha256_file(sums) == summary.manifest_sha256 and _is_there(config.output, sums):
            return summary
    progress.start("assembly", 1, "data set")
    material = Material(
        catalog=table,
        plan=plan.table,
        labels=plan.labels,
        rendered=work / "rendered",
        sources={entry.source.name: entry.source for entry in config.inputs},
        inputs={
            entry.source.name: hashing.sha256_file(
                work / "catalog" / f"{entry.source.name}.parquet"
            )
            for entry in config.inputs
        },
        parameters=config.parameters,
        simulated=any(entry.folder().is_simulated for entry in config.inputs)
        or bool(base and base.build["simulated"]),
        base=base,
    )
    try:
        assembled = assemble(material, config.output)
    except BuildError:
        for note in (*config.notes, *notes[0], *notes[1]):  # they may tell why
            progress.say(f"note: {note}")
        raise
    own = [*notes[1], *summaries.split_notes(assembled)]
    draw_build(material, assembled, work / "catalog", [*config.notes, *own], work)
    summary = summaries.published(config.output, table, assembled, [*notes[0], *own])
    files.write_json(work / "summary.json", {"signature": signature, "summary": asdict(summary)})
    progress.step(1, str(config.output))
    return summary


def _is_there(output: Path, sums: Path) -> bool:
    """Say whether every file of SHA256SUMS is on the disk (`verify` looks into them)."""
    names = [line.split("  ", 1)[1] for line in sums.read_text(encoding="utf-8").splitlines()]
    return all((output / name).is_file() for name in (*names, "README.md"))


class _Clock:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, stage: str) -> None:
        """End a stage."""
        now = time.monotonic()
        self.seconds[stage] = round(now - self._last, 3)
        self._last = now


def _record_run(config: BuildConfig, clock: _Clock, summary: Summary) -> None:
    """Keep what differs from run to run out of the data set, in run.json."""
    files.write_json(
        config.work_folder / "run.json",
        {
            "seconds": clock.seconds,
            "workers": config.workers,
            "host": platform.node(),
            "python": platform.python_version(),
            "folder": str(Path.cwd()),
            "process": os.getpid(),
            "roots": {entry.source.name: str(entry.root) for entry in config.inputs},
            "rendered": summary.rendered,
            "reused": summary.reused,
            "dropped": summary.dropped,
        },
    )
