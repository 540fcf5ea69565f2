"""`cytoimagenet score`."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cytoimagenet_hf.commands.options import Json

if TYPE_CHECKING:
    from cytoimagenet_hf.evaluation.runner import Opened, Run

_PRESETS = {"standard": ("standard",), "paper": ("paper",), "both": ("standard", "paper")}


def score(
    data_root: Annotated[
        list[str] | None,
        typer.Option(help="DIR with a folder for each task, or NAME=DIR; repeatable."),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder of scores, features, report.")] = Path(
        "scores"
    ),
    tasks: Annotated[
        list[str] | None, typer.Option(help="bbbc021, coos7, cyclops ...; default: all.")
    ] = None,
    encoders: Annotated[
        list[str] | None,
        typer.Option(
            help="intensity, random, imagenet, imagenet-lite0, cytoimagenet, a name of timm's, "
            "hf-hub:ID, local-dir:DIR, transformers:ID, file.py:function (runs the file), and a+b "
            "for joined features. Default: intensity, random, imagenet, cytoimagenet and two "
            "fusions, of which those are left out that can't be had."
        ),
    ] = None,
    modes: Annotated[
        list[str] | None,
        typer.Option(help="concat-norm, merge-norm, concat-raw ..., or paper for its four."),
    ] = None,
    preset: Annotated[str, typer.Option(help="Of protocols: standard, paper, or both.")] = (
        "standard"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="Of random weights.")] = 5,
    features: Annotated[
        list[Path] | None,
        typer.Option(help="Published features (Parquet or CSV, keyed by id), scored as they are."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="With --features and one task: a table of id, label, split, keys."),
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="A table of labelled images of your own, as for `build`.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder that its paths start from.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the table as a task; default: the file's.")
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option("--map", help="COLUMN=NAME, ours (label, group, split ...) and the table's."),
    ] = None,
    box: Annotated[
        str | None,
        typer.Option(help="Of the table: zero (default; 0-based, end-exclusive) or voc (1-based)."),
    ] = None,
    neighbors: Annotated[
        int | None, typer.Option(min=1, help="Of an image of the table; default: 11.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="Of the table: euclidean (default) or cosine.")
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Exit with 0 though a task is absent.")
    ] = False,
    hub_dataset: Annotated[
        list[str] | None,
        typer.Option(help="TASK=OWNER/NAME: write .eval_results for pages of models."),
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Of features; default: in the output.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images of an encoder at a time.")] = 64,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")] = "cpu",
    as_json: Json = False,
) -> None:
    """Score encoders on labelled microscopy images by their nearest neighbors."""
    from cytoimagenet_hf.evaluation import runner
    from cytoimagenet_hf.evaluation.modes import PAPER_MODES

    if preset not in _PRESETS:
        raise ValueError(f"Unknown preset {preset!r}; there are {', '.join(_PRESETS)}.")
    paper = [mode.name for mode in PAPER_MODES]
    chosen = [
        one for text in modes or ["concat-norm"] for one in (paper if text == "paper" else [text])
    ]
    options = {"name": name, "box": box, "neighbors": neighbors, "metric": metric}
    opened = _table(table, images, columns, options)
    config = runner.RunConfig(
        data_roots=tuple(data_root or ()),
        output=output,
        tasks=tuple(tasks or ()),
        opened=opened,
        encoders=tuple(encoders or ()),
        modes=tuple(dict.fromkeys(chosen)),
        presets=_PRESETS[preset],
        seeds=seeds,
        features=tuple(features or ()),
        labels=labels,
        hub_datasets=_named(hub_dataset or [], "--hub-dataset"),
        cache=cache,
        batch=batch,
        device=device,
    )
    found = _run(config)
    if os.environ.get("RANK", "0") != "0":
        return  # the first process tells, and its status counts; another's would end it
    _tell(found, as_json=as_json)
    raise typer.Exit(1 if found.missing and not allow_missing else 0)


def _run(config: Any) -> "Run":  # noqa: ANN401 - imported lazily
    """Score, drawing progress."""
    from cytoimagenet_hf import console
    from cytoimagenet_hf.evaluation import runner

    bars = console.Bars()
    seen: dict[str, int] = {}

    def step(what: str, done: int, total: int) -> None:
        if what not in seen:
            bars.start(what, total, "image")
        bars.step(done - seen.get(what, 0))
        seen[what] = done

    try:
        return runner.run(config, bars.say, step)
    finally:
        bars.close()


def _tell(found: "Run", *, as_json: bool) -> None:
    from cytoimagenet_hf.evaluation.report import text_table

    if as_json:
        rows = [
            {
                "task": one.task,
                "protocol": one.protocol.name,
                "preset": one.preset,
                "mode": one.mode,
                "encoder": one.encoder,
                "seed": one.seed,
                "accuracy": one.accuracy,
                "low": one.low,
                "high": one.high,
                "n": one.n,
                "bank_size": one.bank_size,
                "unscorable": dict(one.unscorable),
                "left_out": dict(one.left_out),
                "dropped": dict(one.dropped),
                "simulated": one.simulated,
            }
            for one in found.scores
        ]
        told = {"scores": rows, "missing": found.missing, "notes": found.notes}
        typer.echo(json.dumps(told, indent=1, ensure_ascii=False))
        return
    typer.echo(f"\n{text_table(found.scores, found.pairs)}\n")
    typer.echo("accuracy in %; *: better than every other of the row; =: the best and its ties")
    for message in found.missing:
        typer.echo(f"missing: {message}")
    typer.echo(f"look: {found.files[0]}")


def _table(
    table: Path | None,
    images: Path | None,
    columns: list[str] | None,
    options: dict[str, Any],
) -> tuple["Opened", ...]:
    """Open a user's table as a task, if there is one; options that weren't given are None."""
    given = {name: value for name, value in options.items() if value is not None}
    if table is None:
        alone = [*(["images"] if images else []), *(["map"] if columns else []), *given]
        if alone:
            raise ValueError(f"--{alone[0]} goes with --table, and there is none.")
        return ()
    from cytoimagenet_hf.evaluation.runner import Opened
    from cytoimagenet_hf.evaluation.tasks._table import table_task

    metric = given.get("metric", "euclidean")
    if metric not in ("euclidean", "cosine"):
        raise ValueError(f"Unknown metric {metric!r}; there are euclidean and cosine.")
    if "neighbors" in given:
        given["k"] = given.pop("neighbors")
    folder = images or table.parent
    task = table_task(table, folder, columns=_named(columns or [], "--map"), **given)
    return (Opened(task, task.open(folder)),)


def _named(texts: list[str], flag: str) -> dict[str, str]:
    """Read NAME=VALUE pairs of a flag."""
    found: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name or not value or name in found:
            raise ValueError(f"{flag} takes NAME=VALUE, each name once, not {text!r}.")
        found[name] = value
    return found
