"""`cytoimagenet add-embeddings`."""

import functools
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cytoimagenet_hf.commands.options import Json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from cytoimagenet_hf.curation.embeddings import Embed
    from cytoimagenet_hf.hub.cards import EmbeddingFacts

_NO_WEIGHTS = {"intensity": "statistics", "random": "untrained"}


def add_embeddings(
    folder: Annotated[Path, typer.Argument(help="A curated folder.")],
    encoder: Annotated[
        str, typer.Option(help="As for `score`: intensity, imagenet, local-dir:DIR, hf-hub:ID ...")
    ] = "",
    features: Annotated[
        Path | None, typer.Option(help="A file of features by image_id, instead of --encoder.")
    ] = None,
    name: Annotated[str, typer.Option(help="Of the config, behind embeddings-.")] = "",
    dtype: Annotated[str, typer.Option(help="float16 or float32.")] = "float16",
    config: Annotated[str, typer.Option(help="Whose images: default or small.")] = "small",
    mode: Annotated[str, typer.Option(help="What is made of pixels first.")] = "concat-norm",
    weights_license: Annotated[str, typer.Option(help="License of the weights.")] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Compute anew what stands under this name.")
    ] = False,
    cache: Annotated[
        Path | None, typer.Option(help="Keeps features. Default: in FOLDER.work until done.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images of the encoder at a time.")] = 64,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")] = "cpu",
    as_json: Json = False,
) -> None:
    """Add a config of embeddings to a data set, for whoever has no GPU."""
    from cytoimagenet_hf import console
    from cytoimagenet_hf.curation import embeddings
    from cytoimagenet_hf.hub._embeddings import may_be_shown

    if bool(encoder) == bool(features):
        raise ValueError("Name an --encoder, or a file of --features: one of them.")
    if features:
        about, embed = _of_file(features, dtype, config, weights_license)
    else:
        told = dtype, config, weights_license
        about, of_encoder = _of_encoder(encoder, mode, told, (batch, device))
        place = cache or embeddings.cache_of(folder, name or _slug(about.encoder))
        embed = functools.partial(of_encoder, cache=place)
    folder = folder.resolve()  # it is swapped, so "." would be the old one afterwards
    if not may_be_shown(about.license):
        typer.echo(
            f"license of the weights: {about.license}. These embeddings are not for all to see: "
            f"`publish` takes them with --private, or leaves them out (--only-publishable)",
            err=True,
        )
    bars = console.Bars()
    try:
        done = embeddings.add_embeddings(
            folder, name or _slug(about.encoder), about, embed, replace=replace, progress=bars
        )
    finally:
        bars.close()
    if as_json:
        typer.echo(json.dumps(asdict(done), indent=1))
        return
    typer.echo(
        f"{done.config}: {done.rows:,} crops, {done.dim:,} {dtype}, {done.bytes / 1e6:,.1f} MB\n"
        f"manifest sha256 {done.manifest_sha256}\n"
        f'load: datasets.load_dataset("{folder.as_posix()}", "{done.config}")'
    )


def _stated_license(spec: str) -> str:
    """Find the license that an encoder's weights state; "" where nobody states one."""
    from cytoimagenet_hf.hub._embeddings import NO_WEIGHTS
    from cytoimagenet_hf.hub.model_cards import license_of_model
    from cytoimagenet_hf.models.encoders import folder_of_model

    if why := _NO_WEIGHTS.get(spec.partition(":")[0]):
        return f"{NO_WEIGHTS}{why}"
    folder = folder_of_model(spec)
    return license_of_model(folder) if folder else ""


def _of_encoder(
    spec: str, mode: str, told: tuple[str, str, str], how: tuple[int, str]
) -> "tuple[EmbeddingFacts, functools.partial[npt.NDArray[np.float32]]]":
    from cytoimagenet_hf.evaluation.crops import embed_crops
    from cytoimagenet_hf.evaluation.modes import parse_mode
    from cytoimagenet_hf.hub.cards import EmbeddingFacts
    from cytoimagenet_hf.models.encoders import load_encoder

    (dtype, config, license), (batch, device) = told, how
    chosen = parse_mode(mode)
    loaded = load_encoder(spec, device=device, say=lambda text: typer.echo(text, err=True))
    about = EmbeddingFacts(
        encoder=loaded.name,
        revision=loaded.revision,
        dim=loaded.dim,
        dtype=dtype,
        config=config,
        mode=chosen.name,
        preprocessing=loaded.preprocessing,
        license=license or _stated_license(spec),  # now that it is in the cache
        builds=(),
    )
    return about, functools.partial(embed_crops, encoder=loaded, mode=chosen, batch=batch)


def _of_file(path: Path, dtype: str, config: str, license: str) -> "tuple[EmbeddingFacts, Embed]":
    from cytoimagenet_hf.evaluation.crops import stored_vectors
    from cytoimagenet_hf.evaluation.featurefiles import read_features
    from cytoimagenet_hf.hub.cards import EmbeddingFacts

    found = read_features(path)
    known = {key: str(found.provenance.get(key, "")) for key in ("encoder", "revision", "mode")}
    about = EmbeddingFacts(
        encoder=known["encoder"],
        revision=known["revision"],
        dim=found.values.shape[1],
        dtype=dtype,
        config=config,
        mode=known["mode"],
        preprocessing=str(found.provenance.get("preprocessing", "")),
        license=license,
        builds=(),
    )
    return about, lambda ids, pixels: stored_vectors(found, ids, pixels)


def _slug(encoder: str) -> str:
    """Make a name of a config of an encoder's: lower-case letters, digits and - between."""
    return re.sub(r"[^a-z0-9]+", "-", encoder.lower()).strip("-")
