"""Augmentation of whole batches on the device, for microscopes: there is no up, and lamps vary.

The random numbers of an image follow from (seed, step, its place in the step), so a resumed run
repeats them, and it doesn't matter how the images of a step are shared out over processes and
micro-batches. Pixels that a turn brings in from outside are mirrored ones.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from cytoimagenet_hf import hashing
from cytoimagenet_hf.pretraining.config import TrainConfig

_BLUR_RADIUS = 3  # pixels
_DRAWS = ("angle", "mirror", "zoom", "gamma", "contrast", "brightness", "blur", "noise")


@dataclass(frozen=True, slots=True)
class Draws:
    """Random numbers of a batch, drawn on the CPU so that they are the same for every device."""

    uniform: torch.Tensor  # (n, one for each of _DRAWS), 0..1
    noise: torch.Tensor | None  # (n, 1, h, w) normal

    def between(self, what: str, low: float, high: float) -> torch.Tensor:
        """Stretch the numbers of one kind to a range; (n,)."""
        return self.uniform[:, _DRAWS.index(what)] * (high - low) + low


def draw(images: torch.Tensor, config: TrainConfig, step: int, place: int) -> Draws:
    """Draw the numbers of a batch, each image's from a generator of its own.

    Args:
        images: (n, 1, h, w).
        config: seed, and whether noise is wanted.
        step: of the run.
        place: of the first image among those of the step.
    """
    uniform, noise = [], []
    generator = torch.Generator()
    for at in range(place, place + len(images)):
        generator.manual_seed(hashing.rank(config.seed, "augment", step, at) % (1 << 63))
        uniform.append(torch.rand(len(_DRAWS), generator=generator))
        if config.noise:
            noise.append(torch.randn(images.shape[1:], generator=generator))
    return Draws(torch.stack(uniform), torch.stack(noise) if noise else None)


def augment(images: torch.Tensor, config: TrainConfig, draws: Draws) -> torch.Tensor:
    """Turn, mirror, scale and re-light a batch.

    Args:
        images: (n, 1, h, w) uint8.
        config: the strengths; where all are 0, nothing happens.
        draws: of this batch.

    Returns:
        (n, 1, h, w) float32 in 0..1.
    """
    light = plain(images)
    if config.rotate or config.flip or config.zoom > 1:
        light = _move(light, config, draws)
    light = _relight(light, config, draws)
    if config.blur:
        light = _blur(light, draws.between("blur", -config.blur, config.blur))
    if draws.noise is not None:
        sigma = _each(draws.between("noise", 0, config.noise), light)
        light = light + sigma * draws.noise.to(light.device)
    return light.clamp(0, 1)


def plain(images: torch.Tensor) -> torch.Tensor:
    """Scale a batch to 0..1 and do nothing else (validation)."""
    return images.float() / 255


def mix_batch(
    images: torch.Tensor, targets: torch.Tensor, config: TrainConfig, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Blend each image with another one (mixup), or paste a box of it (cutmix), targets likewise.

    Args:
        images: (n, c, h, w) float.
        targets: (n, classes) float.
        config: the two alphas; where both are on, one of them is drawn for the batch.
        generator: on the CPU.
    """
    if not (config.mixup or config.cutmix) or len(images) < 2:
        return images, targets
    coin = float(torch.rand((), generator=generator))
    cut = config.cutmix > 0 and (config.mixup == 0 or coin < 0.5)
    share = _beta(config.cutmix if cut else config.mixup, generator)
    other = torch.randperm(len(images), generator=generator).to(images.device)
    if not cut:
        mixed = share * images + (1 - share) * images[other]
    else:
        height, width = images.shape[-2:]
        tall, wide = (round(side * math.sqrt(1 - share)) for side in (height, width))
        top = int(torch.randint(height - tall + 1, (), generator=generator))
        left = int(torch.randint(width - wide + 1, (), generator=generator))
        mixed = images.clone()
        box = (..., slice(top, top + tall), slice(left, left + wide))
        mixed[box] = images[other][box]
        share = 1 - tall * wide / (height * width)
    return mixed, share * targets + (1 - share) * targets[other]


def _move(light: torch.Tensor, config: TrainConfig, draws: Draws) -> torch.Tensor:
    angle = draws.between("angle", -1, 1) * math.radians(config.rotate)
    scale = torch.exp(draws.between("zoom", -1, 1) * math.log(config.zoom))
    mirror = torch.ones_like(angle)
    if config.flip:
        mirror = torch.where(draws.between("mirror", 0, 1) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    zero = torch.zeros_like(angle)
    rows = (torch.stack([cos * mirror, -sin, zero], 1), torch.stack([sin * mirror, cos, zero], 1))
    turn = torch.stack(rows, 1).to(light.device)
    grid = functional.affine_grid(turn, list(light.shape), align_corners=False)
    return functional.grid_sample(light, grid, padding_mode="reflection", align_corners=False)


def _relight(light: torch.Tensor, config: TrainConfig, draws: Draws) -> torch.Tensor:
    if config.gamma:
        power = torch.exp(draws.between("gamma", -config.gamma, config.gamma))
        light = light.clamp(0, 1) ** _each(power, light)
    if config.contrast:
        span = 1 + draws.between("contrast", -config.contrast, config.contrast)
        light = (light - 0.5) * _each(span, light) + 0.5
    if config.brightness:
        shift = draws.between("brightness", -config.brightness, config.brightness)
        light = light + _each(shift, light)
    return light


def _blur(light: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Blur images by Gaussians, each by its own; those with a sigma under 0 are left sharp."""
    count = len(light)
    reach = torch.arange(-_BLUR_RADIUS, _BLUR_RADIUS + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (reach / sigma.clamp(min=1e-3)[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).to(light.device)
    padded = functional.pad(light, [_BLUR_RADIUS] * 4, mode="reflect").transpose(0, 1)
    across = functional.conv2d(padded, kernel[:, None, None, :], groups=count)
    down = functional.conv2d(across, kernel[:, None, :, None], groups=count)
    return down.transpose(0, 1)


def _each(values: torch.Tensor, light: torch.Tensor) -> torch.Tensor:
    """Shape one value an image so that it spreads over its pixels."""
    return values.view(-1, 1, 1, 1).to(light.device)


def _beta(alpha: float, generator: torch.Generator) -> float:
    """Draw from Beta(alpha, alpha) with the batch's own generator (Johnk for small alpha)."""
    while True:
        first, second = (
            float(one) for one in torch.rand(2, generator=generator, dtype=torch.float64)
        )
        x, y = first ** (1 / alpha), second ** (1 / alpha)
        if 0 < x + y <= 1:
            return float(x / (x + y))
