"""Augmentation of whole batches on the device, for microscopes: there is no up, and lamps vary.

All random numbers of a step come from one generator seeded by (seed, step, process), so a resumed
run repeats them. Pixels that a turn brings in from outside are mirrored ones.
"""

import math

import torch
from torch.nn import functional

from cytoimagenet_hf.pretraining.config import TrainConfig

_BLUR_RADIUS = 3  # pixels


def augment(images: torch.Tensor, config: TrainConfig, generator: torch.Generator) -> torch.Tensor:
    """Turn, mirror, scale and re-light a batch.

    Args:
        images: (n, 1, h, w) uint8.
        config: the strengths.
        generator: on the CPU, so that numbers are the same for every device.

    Returns:
        (n, 1, h, w) float32 in 0..1.
    """
    light = images.float() / 255
    if config.rotate or config.flip or config.zoom > 1:
        light = _move(light, config, generator)
    light = _relight(light, config, generator)
    if config.blur:
        light = _blur(light, config.blur, generator)
    if config.noise:
        sigma = _uniform(light, generator, 0, config.noise)
        noise = torch.randn(light.shape, generator=generator).to(light.device)
        light = light + sigma * noise
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


def _move(light: torch.Tensor, config: TrainConfig, generator: torch.Generator) -> torch.Tensor:
    count = len(light)
    angle = (torch.rand(count, generator=generator) * 2 - 1) * math.radians(config.rotate)
    scale = torch.exp((torch.rand(count, generator=generator) * 2 - 1) * math.log(config.zoom))
    mirror = torch.ones(count)
    if config.flip:
        mirror = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    zero = torch.zeros(count)
    rows = (torch.stack([cos * mirror, -sin, zero], 1), torch.stack([sin * mirror, cos, zero], 1))
    turn = torch.stack(rows, 1).to(light.device)
    grid = functional.affine_grid(turn, list(light.shape), align_corners=False)
    return functional.grid_sample(grid=grid, input=light, padding_mode="reflection",
                                  align_corners=False)  # fmt: skip


def _relight(light: torch.Tensor, config: TrainConfig, generator: torch.Generator) -> torch.Tensor:
    if config.gamma:
        power = torch.exp(_uniform(light, generator, -config.gamma, config.gamma))
        light = light.clamp(1e-6, 1) ** power
    if config.contrast:
        span = 1 + _uniform(light, generator, -config.contrast, config.contrast)
        light = (light - 0.5) * span + 0.5
    if config.brightness:
        light = light + _uniform(light, generator, -config.brightness, config.brightness)
    return light


def _blur(light: torch.Tensor, most: float, generator: torch.Generator) -> torch.Tensor:
    """Blur half of the images by a Gaussian, each by its own."""
    count = len(light)
    sigma = torch.rand(count, generator=generator) * 2 * most - most  # under 0: left sharp
    reach = torch.arange(-_BLUR_RADIUS, _BLUR_RADIUS + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (reach / sigma.clamp(min=1e-3)[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).to(light.device)
    padded = functional.pad(light, [_BLUR_RADIUS] * 4, mode="reflect").transpose(0, 1)
    across = functional.conv2d(padded, kernel[:, None, None, :], groups=count)
    down = functional.conv2d(across, kernel[:, None, :, None], groups=count)
    return down.transpose(0, 1)


def _uniform(
    light: torch.Tensor, generator: torch.Generator, low: float, high: float
) -> torch.Tensor:
    drawn = torch.rand(len(light), 1, 1, 1, generator=generator) * (high - low) + low
    return drawn.to(light.device)


def _beta(alpha: float, generator: torch.Generator) -> float:
    """Draw from Beta(alpha, alpha) with the batch's own generator (Johnk for small alpha)."""
    while True:
        first, second = (
            float(one) for one in torch.rand(2, generator=generator, dtype=torch.float64)
        )
        x, y = first ** (1 / alpha), second ** (1 / alpha)
        if 0 < x + y <= 1:
            return float(x / (x + y))
