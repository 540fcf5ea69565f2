"""Pushing a model: one commit that is there whole or not at all, on a Hub that says no politely.

A token is read by huggingface_hub alone (HF_TOKEN, or what `hf auth login` kept) and never shown.
"""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cytoimagenet_hf import files
from cytoimagenet_hf.errors import PushError
from cytoimagenet_hf.hub._modelfacts import read_safetensors_header
from cytoimagenet_hf.hub.model_cards import write_model_card

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["check_push", "publish_run", "push_model"]

ANSWER_SECONDS = 15.0  # for the first small request; who waits longer is told
REQUIRED = ("config.json", "model.safetensors")

_REPO_ID = re.compile(r"(?!.*(?:--|\.\.))\w(?:[\w.-]*\w)?/\w(?:[\w.-]*\w)?", re.ASCII)
_PICKLES = (".bin", ".ckpt", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth")
_SENT = (".csv", ".json", ".jsonl", ".md", ".png", ".safetensors", ".txt", ".yaml")
_HOW_TO_LOG_IN = (
    "Make a token with the right to write at https://huggingface.co/settings/tokens, then run "
    "`hf auth login` or set HF_TOKEN."
)
_AGAIN = "Run the same command again: what has arrived is not sent twice"

Say = Callable[[str], None]
_T = TypeVar("_T")


def publish_run(output: Path, *, say: Say = lambda _: None) -> str:
    """Write the card of a finished run and push its model where its settings say so.

    Args:
        output: folder of the run, with train_config.json, final.json and model/.
        say: told in one line what happens.

    Returns:
        The model's address on the Hub, or "" where no push was asked for.

    Raises:
        ValueError: the run isn't finished, or its settings name no id on the Hub.
        PushError: the Hub can't be reached or refuses; the model stays whole in its folder.
        DiskError: the card can't be written.
    """
    settings = files.read_json(output / "train_config.json") or {}
    wanted = bool(settings.get("push_to_hub"))
    repo_id = str(settings.get("hub_model_id", "")) if wanted else ""
    if wanted:
        _check_id(repo_id)
    write_model_card(output, hub_id=repo_id, say=say)
    if not wanted:
        return ""
    return push_model(output / "model", repo_id, private=bool(settings.get("hub_private")), say=say)


def check_push(repo_id: str, *, private: bool = False) -> None:
    """Make sure that a model can be pushed, by making its repository: hours before it is trained.

    Raises:
        ValueError: bad id.
        PushError: no token, no right, no Hub; or the repository is public and shall not be.
    """
    _check_id(repo_id)
    _open_repo(_api(), repo_id, private)


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

    _check_id(repo_id)
    paths = _files_of(folder, say)
    api = _api()
    head = _open_repo(api, repo_id, private)
    # The card last: where a Hub shows files one by one, it vouches for what is there.
    ordered = sorted(paths, key=lambda path: (path == "README.md", path))
    additions = [CommitOperationAdd(path, folder / path) for path in ordered]
    total = sum((folder / path).stat().st_size for path in paths)
    say(f"pushing {len(paths)} files, {total / 1e6:,.1f} MB, to {repo_id}")
    _asking(repo_id, lambda: api.preupload_lfs_files(repo_id, additions, free_memory=False))
    done = _asking(
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


def _api() -> HfApi:
    import huggingface_hub

    return huggingface_hub.HfApi(library_name="cytoimagenet-hf")


def _check_id(repo_id: str) -> None:
    """Refuse what the Hub would, before anything is asked of it."""
    if not _REPO_ID.fullmatch(repo_id) or len(repo_id) > 96 or repo_id.endswith(".git"):
        raise ValueError(
            f"{repo_id!r} is no id of a model. Name OWNER/NAME: your name or organization on the "
            f"Hub, a slash, and letters, digits, single - . or _."
        )


def _open_repo(api: HfApi, repo_id: str, private: bool) -> str:
    """Make the repository or find it; returns the commit its main branch stands at."""
    me = _asking(repo_id, lambda: _within(ANSWER_SECONDS, api.whoami))
    if (me.get("auth") or {}).get("accessToken", {}).get("role") == "read":
        raise PushError(f"The token of {me.get('name')} may only read. {_HOW_TO_LOG_IN}")
    _asking(repo_id, lambda: api.create_repo(repo_id, private=private or None, exist_ok=True))
    found = _asking(repo_id, lambda: api.model_info(repo_id))
    if private and not found.private:
        raise PushError(
            f"{repo_id} is public already, and a private model was asked for. Make it private on "
            f"its page's settings, or name another id."
        )
    return str(found.sha)


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


def _within(seconds: float, call: Callable[[], _T]) -> _T:
    """Call with a limit of time; looking up a host's name has none of its own."""
    answers: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def work() -> None:
        try:
            answers.put((True, call()))
        except Exception as error:  # handed over to the caller
            answers.put((False, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        good, found = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if not good:
        raise found
    return found  # type: ignore[no-any-return]


def _asking(repo_id: str, call: Callable[[], _T]) -> _T:
    """Call the Hub; whatever goes wrong is told in words, without the token."""
    try:
        return call()
    except PushError:
        raise
    except Exception as error:  # the transports of huggingface_hub raise errors of many kinds
        raise PushError(_without_token(_explain(repo_id, error))) from None


def _explain(repo_id: str, error: Exception) -> str:
    from huggingface_hub.errors import LocalTokenNotFoundError, OfflineModeIsEnabled

    if isinstance(error, LocalTokenNotFoundError):
        return f"There is no token to push {repo_id} with. {_HOW_TO_LOG_IN}"
    if isinstance(error, OfflineModeIsEnabled):
        return f"HF_HUB_OFFLINE is set, so {repo_id} can't be pushed. Unset it."
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", 0)
    told = getattr(error, "server_message", None) or str(error).strip().partition("\n")[0]
    if not status:
        if isinstance(error, ValueError):  # the card, before anything was sent
            return f"The Hub refuses the model's card: {error}"
        return f"The Hub could not be reached ({type(error).__name__}: {told}). {_AGAIN}."
    owner = repo_id.partition("/")[0]
    wait = response.headers.get("Retry-After", "") if response is not None else ""
    known = {
        401: f"The Hub doesn't know the token. {_HOW_TO_LOG_IN}",
        403: f"The token has no right to write to {repo_id}: it needs the right to write in the "
        f"namespace {owner}. {_HOW_TO_LOG_IN}",
        404: f"{repo_id} isn't there, or the token may not see it.",
        409: f"Somebody else is changing {repo_id}. {_AGAIN}.",
        412: f"{repo_id} was changed by somebody else during the push, so nothing was. Look at "
        f"what they did; then run the same command again.",
        413: f"A file is too large for {repo_id}.",
        429: f"The Hub takes no more requests now{f'; wait {wait} s' if wait else ''}. {_AGAIN}.",
    }
    if status in known:
        return f"{known[status]} (HTTP {status}: {told})"
    if status >= 500:
        return f"The Hub is in trouble (HTTP {status}: {told}). {_AGAIN}."
    return f"The Hub refuses {repo_id} (HTTP {status}: {told})."


def _without_token(message: str) -> str:
    """Hide tokens, should a server or a library repeat one."""
    from huggingface_hub import get_token

    token = get_token()
    hidden = message.replace(token, "hf_***") if token else message
    return re.sub(r"hf_[A-Za-z0-9]{8,}", "hf_***", hidden)
