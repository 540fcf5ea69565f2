"""Pushing a model: one commit that is there whole or not at all, on a Hub that says no politely.

A token is read by huggingface_hub alone (HF_TOKEN, or what `hf auth login` kept) and never shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from cytoimagenet_hf import files
from cytoimagenet_hf.hub._client import asking, check_id, open_api, open_repo
from cytoimagenet_hf.hub._modelfacts import read_safetensors_header
from cytoimagenet_hf.hub._trainingdata import DataFacts, read_run_data
from cytoimagenet_hf.hub.licenses import terms_of
from cytoimagenet_hf.hub.model_cards import weights_terms, write_model_card

__all__ = ["check_push", "check_run", "license_of_run", "publish_run", "push_model"]

REQUIRED = ("config.json", "model.safetensors")

_PICKLES = (".bin", ".ckpt", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth")
_SHOWN = 3  # data sets named in a refusal
_SENT = (".csv", ".json", ".jsonl", ".md", ".png", ".safetensors", ".txt", ".yaml")

Say = Callable[[str], None]


def publish_run(output: Path, *, say: Say = lambda _: None) -> str:
    """Write the card of a finished run and push its model where its settings say so.

    Args:
        output: folder of the run, with train_config.json, final.json and model/.
        say: told in one line what happens.

    Returns:
        The model's address on the Hub, or "" where no push was asked for.

    Raises:
        ValueError: the run isn't finished, its settings name no id on the Hub, or its weights may
            not be shown to all (see `check_run`).
        PushError: the Hub can't be reached or refuses; the model stays whole in its folder.
        DiskError: the card can't be written.
    """
    settings = files.read_json(output / "train_config.json") or {}
    wanted = bool(settings.get("push_to_hub"))
    repo_id = str(settings.get("hub_model_id", "")) if wanted else ""
    if wanted:
        check_id(repo_id)
        _check_terms(settings)
    write_model_card(output, hub_id=repo_id, say=say)
    if not wanted:
        return ""
    return push_model(output / "model", repo_id, private=bool(settings.get("hub_private")), say=say)


def check_run(settings: Mapping[str, object]) -> None:
    """Make sure that the model of a run may and can be pushed, hours before it is trained.

    Weights carry the strictest terms of the images that they learned from. Where those may not be
    shown to others, or nobody knows whether they may, the weights go to a private repository only.

    Args:
        settings: of the run, as train_config.json holds them.

    Raises:
        ValueError: bad id; or a public push of weights whose images others may not have.
        PushError: as `check_push`.
    """
    repo_id = str(settings.get("hub_model_id", ""))
    check_id(repo_id)
    _check_terms(settings)
    check_push(repo_id, private=bool(settings.get("hub_private")))


def license_of_run(settings: Mapping[str, object]) -> str:
    """Return the license of a run's weights as the Hub names it, from the terms of its images.

    "" where there is no one license that they all have, or the Hub has no id for it.
    """
    return weights_terms(read_run_data(settings)).hub_id or ""


def _check_terms(settings: Mapping[str, object]) -> None:
    if settings.get("hub_private"):
        return
    data = read_run_data(settings)
    if not weights_terms(data).publishable:
        raise ValueError(_refusal(data))


def _refusal(data: DataFacts) -> str:
    held = [part for part in data.parts if not terms_of(part.license).publishable]
    told = [
        f"{part.name or data.id} ({part.license}{f', {part.crops:,} images' * bool(part.crops)})"
        for part in held[:_SHOWN]
    ] or [f"{data.id} (no license known{f': {data.note}' * bool(data.note)})"]
    told += [f"{len(held) - _SHOWN} more"] if len(held) > _SHOWN else []
    way = (
        "train on images that may be passed on (--name commercial or commercial_small)"
        if data.build
        else "write `license:` into the front matter of the data set's README.md if you know it"
    )
    return (
        f"This model is not pushed for all to see, as its images may not be passed on, or nobody "
        f"knows whether they may: {', '.join(told)}. Add --hub-private, or {way}."
    )


def check_push(repo_id: str, *, private: bool = False) -> None:
    """Make sure that a model can be pushed, by making its repository: hours before it is trained.

    Raises:
        ValueError: bad id.
        PushError: no token, no right, no Hub; or the repository is public and shall not be.
    """
    check_id(repo_id)
    open_repo(open_api(), repo_id, "model", private=private)


def push_model(
    folder: Path, repo_id: str, *, private: bool = False, say: Say = lambda _: None
) -> str:
    """Push a model's folder in one commit; weights go ahead of it and are seen only with it.

    Broken off anywhere, a reader still sees the state before; pushed again, nothing that has
    arrived is sent twice, and what didn't change makes no commit.

    Args:
        folder: with config.json and model.safetensors.
        repo_id: "owner/name"; made where it isn't there.
        private: make it private; an existing public one is refused then.
        say: told in one line what happens.

    Returns:
        The address of the model.

    Raises:
        ValueError: bad id; or a folder that is no model, holds a pickle, or has broken weights.
        PushError: no token, no right, no Hub, or somebody else pushed meanwhile.
    """
    from huggingface_hub import CommitOperationAdd

    check_id(repo_id)
    paths = _files_of(folder, say)
    api = open_api()
    head = open_repo(api, repo_id, "model", private=private)
    # The card last: where a Hub shows files one by one, it vouches for what is there.
    ordered = sorted(paths, key=lambda path: (path == "README.md", path))
    additions = [CommitOperationAdd(path, folder / path) for path in ordered]
    total = sum((folder / path).stat().st_size for path in paths)
    say(f"pushing {len(paths)} files, {total / 1e6:,.1f} MB, to {repo_id}")
    asking(repo_id, lambda: api.preupload_lfs_files(repo_id, additions, free_memory=False))
    done = asking(
        repo_id,
        lambda: api.create_commit(
            repo_id,
            additions,
            commit_message="Upload model",
            parent_commit=head,
        ),
    )
    url = f"{api.endpoint}/{repo_id}"
    unchanged = done.oid == head
    say(
        f"nothing to push: {url} is up to date"
        if unchanged
        else f"pushed: {url}, commit {done.oid}"
    )
    return url


def _files_of(folder: Path, say: Say) -> list[str]:
    """List what is pushed, relative to the folder; refuses what must never be."""
    for name in REQUIRED:
        if not (folder / name).is_file():
            raise ValueError(f"{folder} is no model's folder: it has no {name}.")
    read_safetensors_header(folder / "model.safetensors")
    if not isinstance(files.read_json(folder / "config.json"), dict):
        raise ValueError(f"{folder / 'config.json'} is no json of a model.")
    paths = [path for path, _ in files.walk(folder)]
    if pickles := [path for path in paths if path.lower().endswith(_PICKLES)]:
        raise ValueError(
            f"{folder} holds {', '.join(pickles[:3])}: such files can run code where they are "
            f"loaded. Keep the weights as model.safetensors alone."
        )
    if left := [path for path in paths if not path.endswith(_SENT)]:
        say(f"left out: {', '.join(left)}")
    results = folder / ".eval_results"  # hidden, so walk passes it over
    hidden = [f"{results.name}/{one.name}" for one in sorted(results.glob("*.yaml"))]
    return [path for path in paths if path.endswith(_SENT)] + hidden
