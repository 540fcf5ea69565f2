"""Publishing a curated folder: verified, within its terms, and never half (design 8).

In this order, so that each refusal comes before anything slow: what the terms allow, whether this
token may write there and what stands there, verification of every byte; then the upload.
"""

import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cytoimagenet_hf.curation.edition_papers import Standing, write_papers
from cytoimagenet_hf.curation.editions import Edition, Withheld, choose_edition, other_files
from cytoimagenet_hf.curation.papers import BUILD, CARD
from cytoimagenet_hf.curation.progress import Progress, Silent
from cytoimagenet_hf.curation.verify import verify
from cytoimagenet_hf.errors import PushError
from cytoimagenet_hf.hashing import sha256_file
from cytoimagenet_hf.hub import publishing as hub
from cytoimagenet_hf.hub.publishing import Target, Upload

_SHOWN = 3  # findings in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a folder is published.

    Attributes:
        private: make the repository private; what may not be published isn't, all the same.
        only_publishable: leave out what may not be published, rather than refuse.
        replace: remove or change shards of another build that stand there, and a card that can't
            be kept.
        tag: name of this state, as v1.0; empty: none.
        dry_run: tell what would be sent, and change nothing.
        workers: processes that verify; 0: none.
    """

    private: bool = False
    only_publishable: bool = False
    replace: bool = False
    tag: str = ""
    dry_run: bool = False
    workers: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What a publication came to, or would come to."""

    url: str
    commit: str  # that main stands at; of a dry run: stood at
    tag: str
    files: int  # of the published state, documents included
    bytes: int
    sent_bytes: int  # of shards; of a dry run: that would be sent
    kept_bytes: int  # of shards that stood there already
    stood_bytes: int  # of shards that main held before, byte for byte
    again_bytes: int  # of those, what was sent all the same
    removed: Sequence[str]  # shards of another build
    manifest_sha256: str  # of the published SHA256SUMS
    is_new: bool  # False: all of it stood there already
    withheld: Sequence[Withheld] = ()
    notes: Sequence[str] = ()  # what a dry run found missing
    shards: Sequence[tuple[str, int, bool]] = field(default=())  # path, bytes, whether to send


def publish(
    folder: Path, repo_id: str, options: Options, *, progress: Progress | None = None
) -> Published:
    """Publish a curated folder as a data set on the Hub.

    Broken off at any moment, readers still see the state before; run again, what has arrived is
    not sent again, and a state that stands there already makes no commit.

    Args:
        folder: that a build wrote; nothing in it is changed.
        repo_id: "owner/name"; made where it isn't there.
        options: how.
        progress: is told of the verification and of each file sent.

    Raises:
        DatasetNotAvailableError: the folder is not whole.
        ValueError: bad id or tag; crops may not be published; the folder isn't as it was built.
        PushError: no token, no right, no Hub; or what stands there forbids it.
    """
    progress = progress or Silent()
    edition = choose_edition(
        folder, only_publishable=options.only_publishable, private=options.private
    )
    uploads = _uploads(edition)
    target, notes = _open(repo_id, options)
    try:
        hub.check_target(target, uploads, tag=options.tag, replace=options.replace)
    except PushError as error:
        if not options.dry_run:
            raise
        notes.append(str(error))
    _verify(folder, options.workers, progress)
    missing = {one.path for one in hub.missing(target, uploads)}
    sent = [one for one in uploads if one.path in missing]
    stood = hub.standing(target, uploads)
    if not options.dry_run:
        sent = _send(target, uploads, progress)
        target, _ = _open(repo_id, options)  # hours later others may have edited the card
    with tempfile.TemporaryDirectory() as aside:
        standing = Standing() if options.replace else _standing(target)
        papers = write_papers(edition, Path(aside), hub_id=repo_id, standing=standing)
        commit = target.head
        if not options.dry_run:
            commit = hub.commit_files(target, uploads, papers, tag=options.tag)
            hub.finish(target, uploads, commit, tag=options.tag)
        sizes = [one.size for one in uploads] + [at.stat().st_size for at in papers.values()]
        return Published(
            url=target.url,
            commit=commit,
            tag=options.tag,
            files=len(sizes),
            bytes=sum(sizes),
            sent_bytes=_bytes(sent),
            kept_bytes=_bytes(uploads) - _bytes(sent),
            stood_bytes=_bytes(stood),
            again_bytes=_bytes(one for one in stood if one in sent),
            removed=hub.removed(target, uploads),
            manifest_sha256=sha256_file(papers["SHA256SUMS"]),
            is_new=bool(missing) or commit != target.head,
            withheld=edition.withheld,
            notes=notes,
            shards=[(one.path, one.size, one.path in missing) for one in uploads],
        )


def _uploads(edition: Edition) -> list[Upload]:
    sums = edition.papers.sums
    paths = sorted([*edition.shards, *other_files(edition)])
    return [
        Upload(path, edition.folder / path, sums[path], (edition.folder / path).stat().st_size)
        for path in paths
    ]


def _bytes(uploads: Iterable[Upload]) -> int:
    return sum(one.size for one in uploads)


def _open(repo_id: str, options: Options) -> tuple[Target, list[str]]:
    """Open the repository; a dry run goes on without, and tells what is missing."""
    try:
        return hub.open_target(repo_id, private=options.private, dry_run=options.dry_run), []
    except PushError as error:
        if not options.dry_run:
            raise
        return Target(repo_id=repo_id, url=repo_id, head="", files={}, tags={}), [str(error)]


def _verify(folder: Path, workers: int, progress: Progress) -> None:
    report = verify(folder, workers=workers, progress=progress)
    if not report.is_whole:
        told = "; ".join(str(one) for one in report.findings[:_SHOWN])
        raise ValueError(
            f"{folder} isn't as it was built, so nothing was published: {len(report.findings)} "
            f"findings ({told}). `cytoimagenet verify {folder}` tells all; --repair mends shards "
            f"from raw files."
        )


def _send(target: Target, uploads: Sequence[Upload], progress: Progress) -> list[Upload]:
    progress.start("publish", _bytes(uploads), "byte")
    return hub.send_files(target, uploads, step=progress.step, say=progress.say)


def _standing(target: Target) -> Standing:
    """Read the card on the Hub, and what was recorded when it was last published."""
    card = hub.read_small(target, CARD)
    try:
        build = json.loads(hub.read_small(target, BUILD) or "{}") if card else {}
    except ValueError:
        build = {}  # not ours any more; then the card counts as edited
    prose = build.get("prose_sha256", "") if isinstance(build, dict) else ""
    return Standing(card=card, prose_sha256=str(prose))
