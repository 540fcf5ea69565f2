"""Augmentation: nothing when all is off, mirrored borders, 0..1, the same for the same step."""

import numpy as np
import pytest
import scipy.ndimage
import torch

from cytoimagenet_hf.pretraining import augment as module
from cytoimagenet_hf.pretraining.augment import Draws, augment, draw, mix_batch
from cytoimagenet_hf.pretraining.config import PRESETS, TrainConfig

NONE = {"rotate": 0.0, "flip": False, "zoom": 1.0, "brightness": 0.0, "contrast": 0.0,
        "gamma": 0.0, "blur": 0.0, "noise": 0.0}  # fmt: skip


def images(count=6, size=24):
    random = np.random.default_rng(0)
    return torch.from_numpy(random.integers(0, 256, (count, 1, size, size), dtype=np.uint8))


def fixed(**values):
    """Draws of one image with chosen numbers; a half elsewhere."""
    numbers = [values.get(name, 0.5) for name in module._DRAWS]
    return Draws(torch.tensor([numbers]), None)


def run(config, step=0, place=0, batch=None):
    batch = images() if batch is None else batch
    return augment(batch, config, draw(batch, config, step, place))


def test_identity_without_strengths():
    """With all strengths at 0 pixels are x / 255, to the last bit."""
    assert torch.equal(run(TrainConfig(**NONE)), images().float() / 255)


@pytest.mark.parametrize("name", ["rotate", "flip", "zoom", "brightness", "contrast", "gamma",
                                  "blur", "noise"])  # fmt: skip
def test_each_strength_alone(name):
    """Each kind changes images, stays in 0..1, and gives no NaN even for black and white ones."""
    strong = {"rotate": 180.0, "flip": True, "zoom": 1.5}.get(name, 0.5)
    config = TrainConfig(**NONE | {name: strong})
    assert not torch.equal(run(config), images().float() / 255)
    for batch in (images(), images() * 0, images() * 0 + 255):
        made = run(config, batch=batch)
        assert made.isfinite().all()
        assert made.min() >= 0
        assert made.max() <= 1


def test_right_angle_is_exact():
    """A turn by a quarter moves pixels and changes none."""
    batch = images(1)
    config = TrainConfig(**NONE | {"rotate": 90.0})
    made = augment(batch, config, fixed(angle=1.0))
    expected = batch.float() / 255
    close = [torch.allclose(made, torch.rot90(expected, k, (2, 3)), atol=1e-4) for k in (1, 3)]
    assert any(close)


def test_borders_are_mirrored():
    """A turned image equals that of scipy with mirrored borders (edge pixels come twice)."""
    batch = images(1, 25)
    config = TrainConfig(**NONE | {"rotate": 360.0})
    made = augment(batch, config, fixed(angle=0.5 + 30 / 720))[0, 0].numpy()
    flat = batch[0, 0].numpy() / 255.0
    expected = [
        scipy.ndimage.rotate(flat, angle, reshape=False, order=1, mode="reflect")
        for angle in (30, -30)
    ]
    assert min(np.abs(made - one).max() for one in expected) < 1e-4


def test_mirrored_half():
    """About half of the images are mirrored, and those exactly."""
    batch = images(200, 8)
    made = run(TrainConfig(**NONE | {"flip": True}), batch=batch)
    plain = batch.float() / 255
    kept = [torch.allclose(a, b, atol=1e-5) for a, b in zip(made, plain, strict=True)]
    turned = [torch.allclose(a, b.flip(-1), atol=1e-5) for a, b in zip(made, plain, strict=True)]
    assert all(a != b for a, b in zip(kept, turned, strict=True))
    assert 70 < sum(turned) < 130


def test_blur_equals_scipy_and_spares_half():
    """A blurred image is scipy's Gaussian one, cut at 3 pixels; numbers under a half blur none."""
    batch = images(1)
    config = TrainConfig(**NONE | {"blur": 1.0})
    assert torch.allclose(augment(batch, config, fixed(blur=0.4)), batch.float() / 255, atol=1e-6)
    made = augment(batch, config, fixed(blur=0.95))[0, 0].numpy()
    expected = scipy.ndimage.gaussian_filter(
        batch[0, 0].numpy() / 255.0, 0.9, mode="mirror", radius=3
    )
    assert np.abs(made - expected).max() < 1e-5


def test_paper_only_turns():
    """In preset paper a flat image stays what it is, at any step."""
    config = TrainConfig(**PRESETS["paper"])
    batch = torch.full((4, 1, 16, 16), 51, dtype=torch.uint8)
    assert torch.allclose(run(config, 7, batch=batch), torch.full((4, 1, 16, 16), 0.2), atol=1e-6)


def test_same_step_same_pixels():
    """Pixels follow from seed, step and place; each of them matters."""
    config = TrainConfig(noise=0.1)
    first = run(config, 3)
    assert torch.equal(first, run(config, 3))
    for other in (run(config, 4), run(config, 3, 1), run(TrainConfig(noise=0.1, seed=1), 3)):
        assert not torch.equal(first, other)


def test_sharing_out_does_not_matter():
    """A batch in one piece and in two gives the same pixels."""
    config = TrainConfig(noise=0.1)
    batch = images()
    parts = [run(config, 3, 0, batch[:2]), run(config, 3, 2, batch[2:])]
    assert torch.equal(run(config, 3, 0, batch), torch.cat(parts))


@pytest.mark.parametrize("alphas", [(0.2, 0.0), (0.0, 1.0), (0.3, 0.7)])
def test_mixed_targets_sum_to_one(alphas):
    """After mixup and cutmix targets of an image still sum to 1 and pixels are of the batch."""
    config = TrainConfig(mixup=alphas[0], cutmix=alphas[1])
    targets = torch.nn.functional.one_hot(torch.arange(6) % 4, 4).float()
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        pixels, mixed = mix_batch(images().float() / 255, targets, config, generator)
        assert torch.allclose(mixed.sum(1), torch.ones(6))
        assert mixed.min() >= 0
        assert pixels.min() >= 0
        assert pixels.max() <= 1


def test_cutmix_share_is_the_area():
    """The share of a target is the share of pixels that stayed."""
    config = TrainConfig(cutmix=1.0)
    flat = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 10, 10)
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        pixels, mixed = mix_batch(flat, torch.eye(4), config, generator)
        for at in range(4):
            assert mixed[at, at] == pytest.approx(float((pixels[at] == at).float().mean()))


def test_a_lone_image_is_not_mixed():
    """One image has nothing to be mixed with."""
    one = torch.rand(1, 3, 8, 8), torch.eye(1)
    assert mix_batch(*one, TrainConfig(mixup=1.0), torch.Generator()) == one


def test_beta_has_its_mean_and_spread():
    """Draws of Beta(a, a) have mean 1/2 and variance 1 / (4 (2 a + 1))."""
    generator = torch.Generator().manual_seed(0)
    for alpha in (0.2, 1.0, 3.0):
        drawn = torch.tensor([module._beta(alpha, generator) for _ in range(3000)])
        assert float(drawn.mean()) == pytest.approx(0.5, abs=0.03)
        assert float(drawn.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)
