"""`cytoimagenet …`: parse, call, draw. Subcommands import what they need when they run."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cytoimagenet_hf.commands.embeddings import add_embeddings
from cytoimagenet_hf.commands.options import PROCESSORS as _PROCESSORS
from cytoimagenet_hf.commands.options import Json
from cytoimagenet_hf.commands.publishing import publish
from cytoimagenet_hf.commands.pulling import pull
from cytoimagenet_hf.commands.scoring import score
from cytoimagenet_hf.errors import BuildError, CytoImageNetError, PushError

app = typer.Typer(
    name="cytoimagenet",
    help="Curate raw open microscopy images into a weakly labelled data set, and use it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Roots = Annotated[
    list[str] | None,
    typer.Option("--data-root", help="DIR with a folder for each source, or NAME=DIR; repeatable."),
]
Tables = Annotated[Path | None, typer.Option(help="DIR where sources' tables lie in DIR/NAME.")]
Table = Annotated[Path | None, typer.Option(help="A table of images of your own.")]
Images = Annotated[Path | None, typer.Option(help="Folder that its paths start from.")]
Name = Annotated[str, typer.Option(help="Of the table as a source; default: the file's.")]
Columns = Annotated[
    list[str] | None,
    typer.Option("--map", help="COLUMN=NAME, our column and the table's; repeatable."),
]
Box = Annotated[str, typer.Option(help="zero: 0-based, end-exclusive; voc: 1-based.")]
_MANY = (
    "--sources",
    "--tasks",
    "--encoders",
    "--modes",
)  # options that take several values, as in `--sources bbbc006 bbbc010`


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; errors of ours are one line, and the exit status tells of what kind.

    Exit status: 0 done, 1 failure, 2 bad input, 130 stopped. `--debug` shows the traceback.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    try:
        app(_spread([one for one in arguments if one != "--debug"]))
    except (CytoImageNetError, ValueError, OSError, ImportError) as error:
        if debug:
            raise
        typer.echo(f"cytoimagenet: {error}", err=True)
        failed = isinstance(error, BuildError | PushError | OSError | ImportError)
        raise SystemExit(1 if failed else 2) from None
    except SystemExit as end:
        if not _is_interrupt(end):
            raise
        typer.echo("cytoimagenet: stopped; the same command goes on from here", err=True)
        raise SystemExit(130) from None


def _is_interrupt(end: SystemExit) -> bool:
    """Say whether typer made this of a Ctrl-C; `train` tells of one by itself."""
    reason = end.__context__
    return isinstance(reason, typer.Exit | typer.Abort) and isinstance(
        reason.__cause__, KeyboardInterrupt
    )


def _spread(arguments: list[str]) -> list[str]:
    """Repeat an option of `_MANY` before each of its values."""
    spread: list[str] = []
    current = ""
    for one in arguments:
        if one.startswith("-"):
            current = one if one in _MANY else ""
        elif current:
            spread += [current, one]
            continue
        if not current:
            spread.append(one)
    return spread


@app.command()
def sources(
    name: Annotated[str, typer.Argument(help="One source, in full.")] = "",
    as_json: Json = False,
) -> None:
    """List the data sets that can be curated, or tell all about one."""
    from cytoimagenet_hf import sources as known
    from cytoimagenet_hf.console import table
    from cytoimagenet_hf.hub.licenses import terms_of

    chosen = [known.get(one) for one in ([name] if name else known.names())]
    facts = [_source_facts(source, terms_of(source.license).terms) for source in chosen]
    if as_json:
        typer.echo(json.dumps(facts[0] if name else facts, indent=1, ensure_ascii=False))
    elif name:
        for key, value in facts[0].items():
            for number, line in enumerate(value if isinstance(value, list) else [value]):
                typer.echo(f"{key if number == 0 else '':15} {line}")
    else:
        keys = ("name", "title", "expected_fields", "modality", "license", "terms")
        rows = [[_shown(fact[key]) for key in keys] for fact in facts]
        typer.echo(table([key.replace("_", " ") for key in keys], rows))


def _source_facts(source: Any, terms: str) -> dict[str, Any]:  # noqa: ANN401 - imported lazily
    return {
        "name": source.name,
        "title": source.title,
        "database": source.database,
        "accession": source.accession,
        "page": source.page,
        "license": source.license,
        "terms": terms,
        "citation": source.citation,
        "modality": list(source.modality),
        "expected_fields": source.expected_fields,
        "layout": source.layout,
        "downloads": [f"{one.url} {one.what}".strip() for one in source.downloads],
        "notes": list(source.notes),
    }


def _shown(value: object) -> object:
    if isinstance(value, list):
        return ", ".join(value)
    return "?" if value is None else value


@app.command()
def simulate(
    name: Annotated[str, typer.Argument(help="A source or a benchmark task.")],
    to: Annotated[Path, typer.Option(help="Data root; files go to TO/NAME.")],
    fields: Annotated[int | None, typer.Option(min=1, help="Fields of view; default: 24.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of all that is drawn; default: 0.")] = None,
    negative: Annotated[
        bool, typer.Option(help="Write another layout, in which nothing may match.")
    ] = False,
) -> None:
    """Write simulated raw data in the true layout of a source or a benchmark task."""
    from cytoimagenet_hf import simulation

    given = {key: one for key, one in (("fields", fields), ("seed", seed)) if one is not None}
    if negative:
        if given:
            raise ValueError(f"--negative takes no --{' and no --'.join(given)}; leave it out.")
        simulation.simulate_negative(name, to)
        typer.echo(f"{to / name}: simulated files in a layout that is not that of {name}")
        return
    truth = simulation.simulate(name, to, **given)
    typer.echo(f"{to / name}: {len(truth)} simulated image files (no real cells)")


@app.command()
def labels(
    folder: Annotated[Path, typer.Argument(help="A curated folder, or a build's work folder.")],
    dropped: Annotated[bool, typer.Option(help="With the values that became no label.")] = True,
    as_json: Json = False,
) -> None:
    """Tell why each label was taken or dropped."""
    import pyarrow.parquet as pq

    from cytoimagenet_hf.console import table
    from cytoimagenet_hf.curation import documents, papers, planning
    from cytoimagenet_hf.errors import DatasetNotAvailableError

    if (folder / papers.LABEL_REPORT).exists():
        known = pq.read_table(folder / papers.LABEL_REPORT)
    elif (folder / planning.PLANNED_LABELS).exists():
        known = documents.label_table(planning.planned_labels(folder), {})
    else:
        raise DatasetNotAvailableError(
            f"{folder} has neither {papers.LABEL_REPORT} nor {planning.PLANNED_LABELS}. Name a "
            f"curated folder, or the work folder of a build (OUTPUT.work)."
        )
    rows = [row for row in known.to_pylist() if dropped or not row["dropped_reason"]]
    if as_json:
        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    head = ("label", "category", "candidates", "free", "assigned", "crops", "strata",
            "covered", "entropy", "sources", "why dropped")  # fmt: skip
    keys = ("label", "category", "candidates", "free", "assigned", "crops", "strata",
            "strata_covered", "entropy")  # fmt: skip
    shown = [
        [*(row[key] for key in keys), ", ".join(row["sources"]), row["dropped_reason"]]
        for row in rows
    ]
    typer.echo(table(head, shown))


@app.command()
def build(
    output: Annotated[Path, typer.Option(help="Folder of the data set.")] = Path("cytoimagenet"),
    data_root: Roots = None,
    sources: Annotated[
        list[str] | None, typer.Option(help="Names; default: all that the data roots hold.")
    ] = None,
    source_file: Annotated[
        list[Path] | None, typer.Option(help="A source of your own (mine.py); its code is run.")
    ] = None,
    tables: Tables = None,
    table: Table = None,
    images: Images = None,
    name: Name = "",
    columns: Columns = None,
    box: Box = "zero",
    work: Annotated[Path | None, typer.Option(help="Default: OUTPUT.work.")] = None,
    preset: Annotated[str, typer.Option(help="standard, or paper.")] = "standard",
    min_fields: Annotated[int | None, typer.Option(help="Fields that make a label.")] = None,
    max_fields: Annotated[int | None, typer.Option(help="Fields taken for a label.")] = None,
    min_crops: Annotated[int | None, typer.Option(help="Leave out labels with fewer.")] = None,
    max_pixels: Annotated[int | None, typer.Option(help="Largest plane read.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of all choices.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE of any other parameter, as in build.json."),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes; default: one a processor. 0: none.")
    ] = _PROCESSORS,
    dry_run: Annotated[bool, typer.Option(help="Plan only; render nothing.")] = False,
    from_tables: Annotated[
        bool, typer.Option(help="Plan from tables alone, without raw files.")
    ] = False,
    rehash: Annotated[bool, typer.Option(help="Read all raw files again.")] = False,
    base: Annotated[
        str,
        typer.Option(
            help="Release to go on from (folder, TAG, OWNER/NAME@TAG): its classes, labels, "
            "splits and shards stay."
        ),
    ] = "",
) -> None:
    """Curate a data set: raw folders → labels, crops, Parquet, card."""
    from dataclasses import replace

    from cytoimagenet_hf.curation import inputs, parameters, pipeline
    from cytoimagenet_hf.hub import fetching

    roots, chosen = data_root or [], []
    for path in source_file or []:
        typer.echo(f"running the code in {path}", err=True)
        chosen.append(inputs.from_file(path, roots, tables=tables))
    if table:
        chosen.append(inputs.from_table(table, images, columns or [], box=box, name=name))
    chosen += inputs.from_roots(roots, sources or [], tables=tables, others=chosen)
    changes = parameters.parse(
        set_ or [], min_fields=min_fields, max_fields=max_fields, min_crops=min_crops,
        max_pixels=max_pixels, seed=seed,
    )  # fmt: skip
    config = pipeline.BuildConfig(
        inputs=chosen,
        output=output,
        work=work,
        parameters=parameters.preset(preset, **changes),
        workers=workers,
        rehash=rehash,
        dry_run=dry_run,
        from_tables=from_tables,
        base=fetching.fetch_release(base) if base else None,
    )
    if not sources:  # else folders are left out on purpose
        used = [output, config.work_folder, *(one.root for one in chosen)]
        config = replace(config, notes=inputs.unmatched(roots, used))
    _run_build(config)


def _run_build(config: Any, *, remember: bool = True) -> None:  # noqa: ANN401 - imported lazily
    """Build, draw progress and summary, and remember the folder for `load_dataset`."""
    from cytoimagenet_hf import console
    from cytoimagenet_hf.curation import pipeline
    from cytoimagenet_hf.hub._folders import remember_folder

    bars, start = console.Bars(), console.clock()
    try:
        summary = pipeline.build(config, bars)
    finally:
        bars.close()
    typer.echo(console.summary_text(summary, console.clock() - start))
    if summary.build:
        if remember:
            remember_folder(config.output)
        work = config.work_folder
        typer.echo(
            f"look: {work / 'report.html'}, {work / 'gallery.png'}\n"
            f'load: datasets.load_dataset("{config.output}")'
        )
    if summary.failed:
        raise BuildError(
            f"{summary.failed} records made a decoder crash or hang; they are left out and named "
            f"in {config.output / 'exclusions.parquet'}. Everything else is built."
        )


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="A curated folder.")],
    manifest_sha256: Annotated[
        str, typer.Option(help="What the build printed; finds a consistent forgery.")
    ] = "",
    repair: Annotated[
        bool, typer.Option("--repair", help="Render damaged crops again from --data-root.")
    ] = False,
    data_root: Roots = None,
    tables: Tables = None,
    table: Table = None,
    images: Images = None,
    name: Name = "",
    columns: Columns = None,
    box: Box = "zero",
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: none.")] = _PROCESSORS,
    as_json: Json = False,
) -> None:
    """Decode every image of a data set and check all that its files say of each other."""
    from dataclasses import asdict

    from cytoimagenet_hf import console
    from cytoimagenet_hf.curation import inputs
    from cytoimagenet_hf.curation import repair as repairing
    from cytoimagenet_hf.curation import verify as verifying

    def check() -> Any:  # noqa: ANN401 - imported lazily
        bars = console.Bars()
        try:
            return verifying.verify(
                folder, manifest_sha256=manifest_sha256, workers=workers, progress=bars
            )
        finally:
            bars.close()

    report = check()
    if repair and not report.is_whole:
        chosen = []
        if table:
            chosen.append(inputs.from_table(table, images, columns or [], box=box, name=name))
        chosen += inputs.from_roots(data_root or [], [], tables=tables, others=chosen)
        done = repairing.repair(folder, report, chosen)
        typer.echo(
            f"repaired {len(done.rewritten)} files, {done.rendered} crops rendered", err=True
        )
        for path, why in done.failed.items():
            typer.echo(f"not repaired: {path}: {why}", err=True)
        report = check()
    if as_json:
        typer.echo(json.dumps(asdict(report), indent=1, ensure_ascii=False))
    else:
        for finding in report.findings:
            typer.echo(str(finding))
        typer.echo(
            f"{report.folder}: {report.images:,} images in {report.files:,} files, "
            f"{len(report.findings)} findings, manifest sha256 {report.manifest_sha256}"
        )
    raise typer.Exit(0 if report.is_whole else 1)


@app.command()
def reproduce(
    image_id: Annotated[str, typer.Argument(help="image_id of a crop.")],
    folder: Annotated[Path, typer.Argument(help="The data set.")] = Path("cytoimagenet"),
    data_root: Roots = None,
    tables: Tables = None,
    table: Table = None,
    images: Images = None,
    name: Name = "",
    columns: Columns = None,
    box: Box = "zero",
) -> None:
    """Render one crop from its raw bytes, and compare hashes."""
    from cytoimagenet_hf import sources as known
    from cytoimagenet_hf.curation import inputs
    from cytoimagenet_hf.curation import reproduce as reproducing

    source, chosen = image_id.partition("/")[0], []
    if table:
        chosen = [inputs.from_table(table, images, columns or [], box=box, name=name)]
    elif source in known.names():  # else `reproduce` tells what is missing, or a misspelt id
        chosen = inputs.from_roots(data_root or [], [source], tables=tables)
    found = reproducing.reproduce(image_id, folder, chosen)
    typer.echo(f"published  raw {found.source_sha256}  pixels {found.pixel_sha256}")
    typer.echo(f"rendered   raw {found.found_source_sha256}  pixels {found.found_pixel_sha256}")
    typer.echo(
        f"{found.difference or 'equal'} (read in {found.reading_seconds * 1000:.0f} ms, rendered "
        f"in {found.rendering_seconds * 1000:.0f} ms)"
    )
    raise typer.Exit(0 if found.is_equal else 1)


app.command()(publish)
app.command("add-embeddings")(add_embeddings)
app.command()(score)
app.command()(pull)


@app.command(
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    }
)
def train(context: typer.Context) -> None:
    """Train any timm model on a labelled image data set (extra `train`); `train --help`: flags."""
    from cytoimagenet_hf.pretraining import launch

    launch.main(context.args)


@app.command()
def demo(
    to: Annotated[Path, typer.Option(help="Folder of the demo.")] = Path("demo"),
    fields: Annotated[int, typer.Option(min=24, help="Fields of view a source.")] = 60,
    workers: Annotated[int, typer.Option(min=0, help="Processes.")] = _PROCESSORS,
) -> None:
    """Simulate raw data of several sources; curate, draw and load them, train on them, score."""
    from cytoimagenet_hf import demo as demonstration

    config = demonstration.prepare(to, fields=fields, workers=workers, say=typer.echo)
    _run_build(config, remember=False)  # "cytoimagenet" must never mean simulated pixels
    typer.echo(demonstration.load_and_tell(to))
    typer.echo(demonstration.train_and_tell(to, workers=workers, say=typer.echo))
    number = max(fields, demonstration.BENCHMARK_FIELDS)
    typer.echo(demonstration.score_and_tell(to, fields=number, say=typer.echo))
    typer.echo(demonstration.next_steps(to))


if __name__ == "__main__":
    main()
