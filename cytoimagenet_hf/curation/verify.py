"""Verification of a curated folder, from nothing but the folder (design 4, 11).

Every byte is hashed, every page's checksum compared, every image decoded and hashed again, and the
configs, the card and the reports are held against each other. A forgery that changes all of them
together is found by the hash of SHA256SUMS alone, which a build prints.
"""

from collections import deque
from collections.abc import Iterator
from pathlib import Path

from cytoimagenet_hf import files, hashing
from cytoimagenet_hf.curation.crosscheck import check_across, check_sums
from cytoimagenet_hf.curation.engine import Guard, Lost, Pool
from cytoimagenet_hf.curation.findings import (
    UNREADABLE,
    Finding,
    Findings,
    VerifyReport,
    in_order,
    told,
)
from cytoimagenet_hf.curation.papers import Papers, read_papers
from cytoimagenet_hf.curation.progress import Progress, Silent
from cytoimagenet_hf.curation.shardcheck import NAME, ShardFacts, ShardJob, check_shard
from cytoimagenet_hf.errors import DatasetNotAvailableError
from cytoimagenet_hf.hub._embeddings import embeddings_of

__all__ = ["Finding", "VerifyReport", "verify"]

_SECONDS = 60  # of processor time that any file may take
_BYTES_A_SECOND = 100_000  # and more for large ones; decoding and hashing are 100 x as fast


def verify(
    folder: Path, *, manifest_sha256: str = "", workers: int = 1, progress: Progress | None = None
) -> VerifyReport:
    """Verify a curated folder.

    Args:
        folder: of the data set; nothing in it is trusted, and nothing is changed.
        manifest_sha256: of SHA256SUMS, as the build printed it; finds a consistent forgery.
        workers: processes, replaced when a file kills one; 0 works in this process.
        progress: is told of each file.

    Returns:
        All that is wrong, with file, row group and image_id.

    Raises:
        DatasetNotAvailableError: it is no folder, or holds neither sums nor shards.
    """
    progress = progress or Silent()
    if not folder.is_dir():
        raise DatasetNotAvailableError(f"{folder} is no folder. Name one that a build made.")
    listed = {path: stat.st_size for path, stat in files.walk(folder)}
    jobs_of = [path for path in listed if path.startswith("data/") and path.endswith(".parquet")]
    if not jobs_of and "SHA256SUMS" not in listed:
        raise DatasetNotAvailableError(
            f"{folder} holds neither SHA256SUMS nor data/*.parquet, so there is nothing to verify. "
            f"Name a folder that a build or pull made."
        )
    findings = Findings("")
    papers = read_papers(folder, findings)
    shards = _check_shards(folder, jobs_of, papers, workers, progress)
    found = dict.fromkeys(jobs_of, "")
    found |= dict(_hashes(folder, sorted(listed.keys() - found.keys()), findings))
    check_sums(found, papers, manifest_sha256, findings)
    check_across(shards, papers, findings)
    every = findings.all() + [finding for one in shards for finding in one.findings]
    return VerifyReport(
        folder=str(folder),
        manifest_sha256=papers.manifest_sha256,
        files=len(listed),
        images=sum(one.images for one in shards),
        bytes=sum(listed.values()),
        findings=in_order(every),
    )


def shard_jobs(folder: Path, paths: list[str], papers: Papers) -> list[ShardJob]:
    """One piece of work a file."""
    parameters = papers.build.get("parameters")
    known = parameters if isinstance(parameters, dict) else {}
    sides = [known.get(name) for name in ("small_side", "tiny_side")]
    small, tiny = (side if type(side) is int and side > 0 else 0 for side in sides)
    vectors = {name: (one.dim, one.dtype) for name, one in embeddings_of(papers.build).items()}
    return [
        ShardJob(
            folder=folder,
            path=path,
            sha256=papers.sums.get(path, ""),
            classes=papers.classes_of(_build_of(path)),
            sides=(small, tiny),
            vectors=vectors.get(path.split("/")[1], (0, "")),
        )
        for path in sorted(paths)
    ]


def _build_of(path: str) -> str:
    name = NAME.fullmatch(path)
    return name["build"] if name else ""


def _check_shards(
    folder: Path, paths: list[str], papers: Papers, workers: int, progress: Progress
) -> list[ShardFacts]:
    jobs = shard_jobs(folder, paths, papers)
    progress.start("verify", len(jobs), "file")
    done = []
    for one in _facts(jobs, workers):
        done.append(one)
        wrong = f", {len(one.findings)} findings" if one.findings else ""
        progress.step(1, f"{one.path}: {one.rows} rows{wrong}")
    return sorted(done, key=lambda one: one.path)


def _facts(jobs: list[ShardJob], workers: int) -> Iterator[ShardFacts]:
    """Check the files; one that kills its worker has that as its finding."""
    if not workers or not jobs:
        yield from map(check_shard, jobs)
        return
    with Pool(_check_guarded, min(workers, len(jobs))) as pool:
        for outcome in pool.run(deque(jobs)):
            if isinstance(outcome, Lost):
                path = outcome.job.path
                yield ShardFacts(path=path, findings=[Finding(path=path, what=outcome.reason)])
            else:
                yield outcome.result


def _check_guarded(job: ShardJob, guard: Guard) -> ShardFacts:
    size = (job.folder / job.path).stat().st_size
    guard(job.path, _SECONDS + size / _BYTES_A_SECOND)
    return check_shard(job)


def _hashes(folder: Path, paths: list[str], findings: Findings) -> Iterator[tuple[str, str]]:
    for path in paths:
        try:
            yield path, hashing.sha256_file(folder / path)
        except UNREADABLE as error:
            findings.add("unreadable", found=told(error), path=path)
            yield path, ""
