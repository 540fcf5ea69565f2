"""`cytoimagenet publish`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cytoimagenet_hf.commands.options import PROCESSORS, Json

if TYPE_CHECKING:
    from cytoimagenet_hf.curation.publishing import Published


def publish(
    folder: Annotated[Path, typer.Argument(help="A curated folder.")],
    repo: Annotated[str, typer.Argument(help="OWNER/NAME on the Hub; made where it isn't there.")],
    private: Annotated[bool, typer.Option("--private", help="For nobody else yet.")] = False,
    tag: Annotated[str, typer.Option(help="Name of this state for good, as v1.0.")] = "",
    only_publishable: Annotated[
        bool, typer.Option("--only-publishable", help="Leave out what others may not have.")
    ] = False,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Remove or change shards of another build that stand there."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Verify, and tell what would be sent.")
    ] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes that verify; 0: none.")] = (
        PROCESSORS
    ),
    as_json: Json = False,
) -> None:
    """Verify a data set and publish on the Hub what its licenses allow; goes on after any break."""
    from cytoimagenet_hf import console
    from cytoimagenet_hf.curation import publishing

    options = publishing.Options(
        private=private,
        only_publishable=only_publishable,
        replace=replace,
        tag=tag,
        dry_run=dry_run,
        workers=workers,
    )
    bars = console.Bars()
    try:
        done = publishing.publish(folder, repo, options, progress=bars)
    finally:
        bars.close()
    if as_json:
        typer.echo(json.dumps(asdict(done), indent=1, ensure_ascii=False))
        return
    typer.echo(_plan(done) if dry_run else _outcome(done, repo))


def _plan(done: "Published") -> str:
    from cytoimagenet_hf.console import table

    rows = [
        (path, size / 1e6, "send" if sends else "there already")
        for path, size, sends in done.shards
    ]
    notes = [f"missing: {note}" for note in done.notes]
    return "\n".join(
        [
            table(("file", "MB", "what"), rows),
            "",
            f"{done.url}: would get {_amount(done, 'to send')}; nothing was changed",
            *_left_out(done),
            *notes,
        ]
    )


def _outcome(done: "Published", repo: str) -> str:
    named = f", tag {done.tag}" if done.tag else ""
    state = "published" if done.is_new else "up to date"
    lines = [
        f"{done.url}: {state}, commit {done.commit}{named}",
        _amount(done, "sent"),
        *_left_out(done),
        f"manifest sha256 {done.manifest_sha256}",
        f'load: datasets.load_dataset("{repo}")',
    ]
    if not done.tag:
        lines.append("name this state for good: the same command with --tag v1.0")
    return "\n".join(lines)


def _amount(done: "Published", verb: str) -> str:
    share = 100 * done.sent_bytes / max(1, done.sent_bytes + done.kept_bytes)
    again = ""
    if done.stood_bytes:  # a later publication
        part = 100 * done.again_bytes / done.stood_bytes
        again = f"; {part:.1f} % of what stood there {verb} again"
    return (
        f"{done.files} files, {done.bytes / 1e6:,.1f} MB: {done.sent_bytes / 1e6:,.1f} MB of "
        f"shards {verb} ({share:.1f} %), {done.kept_bytes / 1e6:,.1f} MB there already{again}"
    )


def _left_out(done: "Published") -> list[str]:
    lines = [
        f"not published: {one.source} ({one.license}): {one.crops:,} crops" for one in done.withheld
    ]
    if done.removed:
        lines.append(f"removed: {len(done.removed)} shards of another build")
    return lines
