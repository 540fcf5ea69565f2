"""Weights and devices that can be had here, and those that can't: told before anything slow.

The libraries retry an absent Hub for half a minute and more; one short question comes first.
"""

import difflib
import queue
import re
import threading
from collections.abc import Sequence
from pathlib import Path

from cytoimagenet_hf.errors import EncoderError

PROBE_SECONDS = 1.5  # for one small request
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)


def check_hub(hub_id: str, what: str, instead: str) -> None:
    """Refuse weights of the Hub that are neither in its cache nor within reach.

    Args:
        hub_id: "owner/name", with "@revision" where one is wanted.
        what: the name that the caller used, for the message.
        instead: what to do without them; ends the message.

    Raises:
        ValueError: it is no id of the Hub's.
        EncoderError: they can't be had; says why, in less than two seconds.
    """
    from huggingface_hub import constants

    name, _, revision = hub_id.partition("@")
    if not _HUB_ID.fullmatch(name):
        raise ValueError(f"{what}: {name!r} is neither a folder nor OWNER/NAME on the Hub.")
    if cached_config(hub_id):
        return
    why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else _probe(name, revision or None)
    if why:
        raise EncoderError(
            f"The weights of {what} are not in the cache and the Hub can't give {hub_id} ({why}). "
            f"{instead}"
        )


def cached_config(hub_id: str) -> Path | None:
    """Return config.json of a model ("owner/name", or "owner/name@revision") in the Hub's cache."""
    import huggingface_hub

    name, _, revision = hub_id.partition("@")
    cached = huggingface_hub.try_to_load_from_cache(name, "config.json", revision=revision or None)
    return Path(cached) if isinstance(cached, str) else None


def _probe(name: str, revision: str | None) -> str:
    """Ask the Hub for a model once; say what went wrong, or nothing."""
    import huggingface_hub

    api = huggingface_hub.HfApi(library_name="cytoimagenet-hf")

    def ask() -> str:
        try:
            api.model_info(name, revision=revision, timeout=PROBE_SECONDS)
        except Exception as error:  # whatever the transport raises
            return type(error).__name__
        return ""

    # A thread, because looking up a host's name has no timeout of its own.
    answers: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=lambda: answers.put(ask()), daemon=True).start()
    try:
        return answers.get(timeout=PROBE_SECONDS)
    except queue.Empty:
        return f"no answer within {PROBE_SECONDS} s"


def check_device(device: str) -> None:
    """Refuse a device that torch can't compute on here; `cpu` needs no torch to be known.

    Raises:
        ValueError: it can't; the message has the first line of what torch says.
    """
    if device == "cpu":
        return
    import torch

    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        said = str(error).partition("\n")[0]
        raise ValueError(
            f"The device {device!r} can't be used here ({said[:200]}). cpu always can."
        ) from error


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds no model in timm's form.

    Raises:
        ValueError: config.json or model.safetensors is missing; pickled weights aren't read.
    """
    if not (folder / "config.json").is_file():
        raise ValueError(f"No model in {folder}: it has no config.json (see timm save_for_hf).")
    if not (folder / "model.safetensors").is_file():
        raise ValueError(
            f"No weights in {folder}: it has no model.safetensors (other files may run code and "
            f"aren't read; save with timm save_for_hf(..., safe_serialization=True))."
        )


def check_timm(name: str, *, pretrained: bool, instead: str) -> None:
    """Refuse what timm can't make, before it tries.

    Args:
        name: a name of timm's ("resnet50.a1_in1k"), "hf-hub:owner/name" or "local-dir:folder".
        pretrained: whether the weights of a plain name are wanted, too.
        instead: what to do when weights are out of reach.

    Raises:
        ValueError: no such model, tag or folder; near names are given.
        EncoderError: weights are out of reach.
    """
    source, _, rest = name.partition(":")
    if source == "local-dir":
        check_folder(Path(rest))
    elif source == "hf-hub":
        check_hub(rest, name, instead)
    elif hub_id := _hub_id(name, pretrained):
        check_hub(hub_id, name, instead)


def _near(name: str, known: Sequence[str]) -> list[str]:
    """Names that look like `name`, best first; of equally good ones b0 before b8."""
    found = difflib.get_close_matches(name, known, n=20) or ["tf_efficientnet_b0"]
    likeness = {one: difflib.SequenceMatcher(None, one, name).ratio() for one in found}
    return sorted(found, key=lambda one: (-likeness[one], one))[:3]


def _hub_id(name: str, pretrained: bool) -> str | None:
    """Look up where the weights of a timm name stand; None where none are wanted."""
    import timm

    base, _, _ = name.partition(".")
    if not timm.is_model(base):
        near = ", ".join(_near(base, timm.list_models()))
        raise ValueError(f"Unknown timm model {name!r}. Did you mean {near}?")
    if not pretrained:
        return None
    try:
        weights = timm.get_pretrained_cfg(name)
    except RuntimeError:  # a tag that there isn't
        weights = None
    if weights is None or not weights.hf_hub_id:
        known = ", ".join(timm.list_pretrained(base + ".*"))
        raise ValueError(f"{name} has no pretrained weights; there are: {known or 'none'}.")
    return str(weights.hf_hub_id)
