"""What all that write to the Hub share: who asks, may they, and each refusal in words.

A token is read by huggingface_hub alone (HF_TOKEN, or what `hf auth login` kept) and never shown.
"""

from __future__ import annotations

import contextlib
import queue
import re
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from cytoimagenet_hf.errors import PushError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

ANSWER_SECONDS = 15.0  # for the first small request; who waits longer is told
AGAIN = "Run the same command again: what has arrived is not sent twice"

_REPO_ID = re.compile(r"(?!.*(?:--|\.\.))\w(?:[\w.-]*\w)?/\w(?:[\w.-]*\w)?", re.ASCII)
_HOW_TO_LOG_IN = (
    "Make a token with the right to write at https://huggingface.co/settings/tokens, then run "
    "`hf auth login` or set HF_TOKEN."
)

Kind = Literal["model", "dataset"]
NAMES: dict[Kind, str] = {"model": "model", "dataset": "data set"}
_T = TypeVar("_T")


def open_api() -> HfApi:
    """Return the client of the Hub; the token stays inside of it."""
    import huggingface_hub

    return huggingface_hub.HfApi(library_name="cytoimagenet-hf")


def check_id(repo_id: str) -> None:
    """Refuse what the Hub would, before anything is asked of it."""
    if not _REPO_ID.fullmatch(repo_id) or len(repo_id) > 96 or repo_id.endswith(".git"):
        raise ValueError(
            f"{repo_id!r} is no id on the Hub. Name OWNER/NAME: your name or organization on the "
            f"Hub, a slash, and letters, digits, single - . or _."
        )


def who_asks(api: HfApi, repo_id: str) -> list[str]:
    """Return the namespaces of the token's owner: their name, and their organizations.

    Raises:
        PushError: no token, one that may only read, or no Hub.
    """
    me = asking(repo_id, lambda: within(ANSWER_SECONDS, api.whoami))
    if (me.get("auth") or {}).get("accessToken", {}).get("role") == "read":
        raise PushError(f"The token of {me.get('name')} may only read. {_HOW_TO_LOG_IN}")
    return [str(me.get("name")), *(str(one.get("name")) for one in me.get("orgs") or ())]


def open_repo(api: HfApi, repo_id: str, kind: Kind, *, private: bool) -> str:
    """Make the repository or find it; returns the commit its main branch stands at.

    Making it is the only sure test of the right to write: what a token may do in an organization
    isn't told by the Hub otherwise.

    Raises:
        PushError: no token, no right, no Hub; or the repository is public and shall not be.
    """
    who_asks(api, repo_id)
    asking(
        repo_id,
        lambda: api.create_repo(repo_id, repo_type=kind, private=private or None, exist_ok=True),
    )
    found = asking(repo_id, lambda: api.repo_info(repo_id, repo_type=kind))
    if private and not found.private:
        raise PushError(
            f"{repo_id} is public already, and a private {NAMES[kind]} was asked for. Make it "
            f"private on its page's settings, or name another id."
        )
    return str(found.sha)


def within(seconds: float, call: Callable[[], _T]) -> _T:
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


def asking(repo_id: str, call: Callable[[], _T]) -> _T:
    """Call the Hub; whatever goes wrong is told in words, without the token."""
    try:
        return call()
    except PushError:
        raise
    except Exception as error:  # the transports of huggingface_hub raise errors of many kinds
        raise PushError(without_token(explain(repo_id, error))) from None


def explain(repo_id: str, error: Exception) -> str:
    """Tell what went wrong and what to do; tokens may stand in it."""
    from huggingface_hub.errors import (
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
        RevisionNotFoundError,
    )

    if isinstance(error, LocalTokenNotFoundError):
        return f"There is no token to push {repo_id} with. {_HOW_TO_LOG_IN}"
    if isinstance(error, OfflineModeIsEnabled):
        return f"HF_HUB_OFFLINE is set, so {repo_id} can't be pushed. Unset it."
    if isinstance(error, FileNotFoundError | PermissionError):  # while a file was read to be sent
        return f"Can't read {error.filename}: {error.strerror}."
    while getattr(error, "response", None) is None and isinstance(error.__cause__, Exception):
        error = error.__cause__  # the upload of a file wraps what the Hub answered
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", 0)
    told = getattr(error, "server_message", None) or str(error).strip().partition("\n")[0]
    if not status:
        if isinstance(error, ValueError):  # the card, before anything was sent
            return f"The Hub refuses the card: {error}"
        return f"The Hub could not be reached ({type(error).__name__}: {told}). {AGAIN}."
    if isinstance(error, RevisionNotFoundError):  # a branch of ours that was there
        return (
            f"Somebody else finished this publication of {repo_id} or changed it (HTTP {status}: "
            f"{told}). {AGAIN}."
        )
    owner = repo_id.partition("/")[0]
    wait = response.headers.get("Retry-After", "") if response is not None else ""
    known = {
        401: f"The Hub doesn't know the token. {_HOW_TO_LOG_IN}",
        403: f"The token has no right to write to {repo_id}: it needs the right to write in the "
        f"namespace {owner}. {_HOW_TO_LOG_IN}",
        404: f"{repo_id} isn't there, or the token may not see it.",
        409: f"Somebody else is changing {repo_id}. {AGAIN}.",
        412: f"{repo_id} was changed by somebody else during the push, so nothing was. Look at "
        f"what they did; then run the same command again.",
        413: f"A file is too large for {repo_id}.",
        429: f"The Hub takes no more requests now{f'; wait {wait} s' if wait else ''}. {AGAIN}.",
    }
    if status in known:
        return f"{known[status]} (HTTP {status}: {told})"
    if status >= 500:
        return f"The Hub is in trouble (HTTP {status}: {told}). {AGAIN}."
    return f"The Hub refuses {repo_id} (HTTP {status}: {told})."


def without_token(message: str) -> str:
    """Hide tokens, should a server or a library repeat one."""
    from huggingface_hub import get_token

    token = get_token()
    hidden = message.replace(token, "hf_***") if token else message
    return re.sub(r"hf_[A-Za-z0-9]{8,}", "hf_***", hidden)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the Hub's client from drawing bars of its own between ours."""
    from huggingface_hub import utils as hub  # its types don't name what it offers

    was_off = hub.are_progress_bars_disabled()  # type: ignore[attr-defined]
    hub.disable_progress_bars()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        if not was_off:
            hub.enable_progress_bars()  # type: ignore[attr-defined]
