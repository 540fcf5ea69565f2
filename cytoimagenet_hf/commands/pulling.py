"""`cytoimagenet pull`."""

from pathlib import Path
from typing import Annotated

import typer


def pull(
    repo: Annotated[
        str, typer.Argument(help="OWNER/NAME on the Hub; default: the data set's own id.")
    ] = "",
    to: Annotated[Path, typer.Option(help="Folder that it is written to.")] = Path("cytoimagenet"),
    revision: Annotated[str, typer.Option(help="Branch, tag or commit.")] = "",
) -> None:
    """Fetch a data set from the Hub into a folder, whole and checked; goes on after any break."""
    from cytoimagenet_hf import console
    from cytoimagenet_hf.hub import fetching, places

    place = places.on_hub(repo, revision)
    typer.echo(f"{place.where}, {place.detail}", err=True)
    bars = console.Bars()
    try:
        done = fetching.pull(place, to, progress=bars)
    finally:
        bars.close()
    full = to.resolve()  # it was recorded under this name, which a link may not have
    typer.echo(
        f"{to}: {done.files} files, {done.bytes / 1e6:,.1f} MB, all as SHA256SUMS tells; "
        f"{done.sent_bytes / 1e6:,.1f} MB were transferred\n"
        f'load: datasets.load_dataset("{full.as_posix()}"), or '
        f'cytoimagenet_hf.load_dataset("{full.name}") '
        f"from anywhere; with streaming=True nothing is copied"
    )
