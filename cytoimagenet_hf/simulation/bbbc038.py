"""Simulated BBBC038: mixed kinds of images, as RGBA files in a folder each, masks beside them.

The listed images have real names, as a source may know what each of them shows; those of the test
folders, and of stage1_train after the list, have names that no table knows.
"""

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cytoimagenet_hf.simulation import _cells, _optics, _writing

MOST = 3754  # 670 + 65 + 3,019
_LISTED = """
00071198d059ba7f5914a526d124d28e6d010c92466da21d4a04cd5413362552 256 256 dark
003cee89357d9fe13516167fd67b609a164651b21934585648c740d2c3d86dc1 256 256 dark
0280fa8f60f6bcae0f97d93c28f60be194f9309ff610dc5845e60455b0f87c21 256 256 dark
0287e7ee5b007c91ae2bd7628d09735e70496bc6127ecb7f3dd043e04ce37426 256 256 dark
02903040e19ddf92f452907644ad3822918f54af41dd85e5a3fe3e1b6d6f9339 360 360 dark
00ae65c1c6631ae6f2be1a449902976e6eb8483bf6b0740d00530220832c6d3e 320 256 stained
07fb37aafa6626608af90c1e18f6a743f29b6b233d2e427dcd1102df6a916cf5 696 520 dark
03398329ced0c23b9ac3fac84dd53a87d9ffe4d9d10f1b5fe8df8fac12380776 256 256 dark
04acab7636c4cf61d288a5962f15fa456b7bde31a021e5deedfbf51288e4001e 256 256 dark
05040e2e959c3f5632558fc9683fec88f0010026c555b499066346f67fdd0e13 256 256 dark
05a8f65ebd0b30d3b210f30b4d640c847c2e710d0d135e0aeeaccbe1988e3b6e 256 256 dark
03b9306f44e9b8951461623dcbd615550cdcf36ea93b203f2c8fa58ed1dffcbe 360 360 dark
0121d6759c5adb290c8e828fc882f37dfaf3663ec885c663859948c154a443ed 320 256 stained
0b0d577159f0d6c266f360f7b8dfde46e16fa665138bf577ec3c6f9c70c0cd1e 696 520 dark
08275a5b1c2dfcd739e8c4888a5ee2d29f83eccfa75185404ced1dc0866ea992 1024 1024 gray
06350c7cc618be442c15706db7a68e91f313758d224de4608f9b960106d4f9ca 256 256 dark
072ff14c1d3245bf49ad6f1d4c71cdb18f1cb78a8e06fd2f53767e28f727cb81 256 256 dark
07761fa39f60dc37022dbbe8d8694595fd5b77ceb2af2a2724768c8e524d6770 256 256 dark
077f026f4ab0f0bcc0856644d99cbf639e443ec4f067d7b708bc6cecac609424 256 256 dark
03f583ec5018739f4abb9b3b4a580ac43bd933c4337ad8877aa18b1dfb59fc9a 360 360 dark
01d44a26f6680c42ba94c9bc6339228579a95d0e2695b149b7cc0c9592b21baf 320 256 stained
08ae2741df2f5ac815c0f272a8c532b5167ee853be9b939b9b8b7fa93560868a 256 256 dark
094afe36759e7daffe12188ab5987581d405b06720f1d5acf3f2614f404df380 256 256 dark
0a7d30b252359a10fd298b638b90cb9ada3acced4e0c0e5a3692013f432ee4e9 256 256 dark
0acd2c223d300ea55d0546797713851e818e5c697d073b7f4091b96ce0f3d2fe 256 256 dark
0532c64c2fd0c4d3188cc751cdfd566b1cfba3d269358717295bab1504c7c275 360 360 dark
0bf33d3db4282d918ec3da7112d0bf0427d4eafe74b3ee0bb419770eefe8d7d6 320 256 stained
0b2e702f90aee4fff2bc6e4326308d50cf04701082e718d4f831c8959fbcda93 256 256 dark
0bda515e370294ed94efd36bd53782288acacb040c171df2ed97fd691fc9d8fe 256 256 dark
0bf4b144167694b6846d584cf52c458f34f28fcae75328a2a096c8214e01c0d0 256 256 dark
0c6507d493bf79b2ba248c5cca3d14df8b67328b89efa5f4a32f97a06a88c92c 256 256 dark
06c779330d6d3447be21df2b9f05d1088f5b3b50dc48724fc130b1fd2896a68c 360 360 dark
0c2550a23b8a0f29a7575de8c61690d3c31bc897dd5ba66caec201d201a278c2 320 256 stained
0ddd8deaf1696db68b00c600601c6a74a0502caaf274222c8367bdc31458ae7e 256 256 dark
0e5edb072788c7b1da8829b02a49ba25668b09f7201cf2b70b111fc3b853d14f 256 256 dark
10328b822b836e67b547b4144e0b7eb43747c114ce4cacd8b540648892945b00 256 256 dark
11a0170f44e3ab4a8d669ae8ea9546d3a32ebfe6486d9066e5648d30b4e1cb69 256 256 dark
08151b19806eebd58e5acec7e138dbfbb1761f41a1ab9620466584ecc7d5fada 360 360 dark
0d3640c1f1b80f24e94cc9a5f3e1d9e8db7bf6af7d4aba920265f46cadc25e37 320 256 stained
"""  # name, width, height and kind of images in stage1_train


def simulate(root: Path, *, fields: int, seed: int) -> dict[str, tuple[str, ...]]:
    """Write `fields` images with masks; every eighth one lies in a test folder."""
    truth: dict[str, tuple[str, ...]] = {}
    listed = [line.split() for line in _LISTED.split("\n") if line]
    rows: list[tuple[str, str]] = []
    for number in range(fields):
        folder = {7: "stage1_test", 15: "stage2_test_final"}.get(number % 16, "stage1_train")
        unlisted = [hashlib.sha256(f"{seed} {number}".encode()).hexdigest(), "256", "256", "dark"]
        known = folder == "stage1_train" and listed
        name, width, height, kind = listed.pop(0) if known else unlisted
        rng = _optics.generator(seed, "bbbc038", name)
        cells = _grow(rng, (int(height), int(width)), kind)
        path = f"{folder}/{name}/images/{name}.png"
        _writing.write_png(root / path, _PAINTERS[kind](rng, cells))
        truth[path] = ()
        if folder == "stage1_train":
            _write_masks(root / folder / name / "masks", name, cells)
            rows.append((name, "1 2 3 4"))
    _writing.write_table(root / "stage1_train_labels.csv", ("ImageId", "EncodedPixels"), rows)
    return truth


def simulate_negative(root: Path) -> None:
    """Write masks without images, and images whose name isn't that of their folder."""
    rng = _optics.generator(0, "bbbc038", "negative")
    cells = _grow(rng, (256, 256), "dark")
    for line in _LISTED.split("\n")[1:3]:
        name = line.split()[0]
        _write_masks(root / "stage1_train" / name / "masks", name, cells)
        _writing.write_png(root / f"images/{name}.png", _dark(rng, cells))


def _grow(rng: np.random.Generator, shape: tuple[int, int], kind: str) -> _cells.Cells:
    count = shape[0] * shape[1] / {"dark": 2200, "stained": 1500, "gray": 9000}[kind]
    radius = {"dark": 8.5, "stained": 13.0, "gray": 26.0}[kind]
    return _cells.grow(rng, shape, count * rng.uniform(0.5, 1.3), radius=radius)


def _write_masks(folder: Path, name: str, cells: _cells.Cells) -> None:
    """Write the masks of the first two nuclei: two values, named by hashes as in the download."""
    numbered = _cells.label_mask(cells)
    for nucleus in (1, 2):
        mask = np.where(numbered == nucleus, 255, 0).astype(np.uint8)
        stem = hashlib.sha256(f"{name} {nucleus}".encode()).hexdigest()
        _writing.write_png(folder / f"{stem}.png", mask)


def _dark(rng: np.random.Generator, cells: _cells.Cells) -> npt.NDArray[np.uint8]:
    """Gray fluorescence, dim as most of the real ones."""
    gain = rng.choice([25.0, 60.0, 120.0])
    plane = _cells.nuclei(rng, cells)
    gray = _optics.expose(rng, plane, gain=gain, background=6, top=255, read_noise=0.8)
    return _rgba(gray, gray, gray)


def _stained(rng: np.random.Generator, cells: _cells.Cells) -> npt.NDArray[np.uint8]:
    """Violet nuclei on lilac tissue."""
    dye = _cells.nuclei(rng, cells, grain=1.6)
    tissue = 0.06 * _optics.texture(rng, cells.shape, period=40)
    light = [
        _optics.expose(rng, np.exp(-(dye * strong + tissue)).astype(np.float32), gain=level,
                      background=0, top=255, read_noise=1)
        for strong, level in ((1.1, 190.0), (1.6, 170.0), (0.35, 220.0))
    ]  # fmt: skip
    return _rgba(*light)


def _gray(rng: np.random.Generator, cells: _cells.Cells) -> npt.NDArray[np.uint8]:
    """Bright tissue, gray, with darker nuclei."""
    dye = 0.35 * _cells.nuclei(rng, cells) + 0.05 * _optics.texture(rng, cells.shape, period=16)
    light = np.exp(-dye).astype(np.float32)
    gray = _optics.expose(rng, light, gain=225, background=0, top=255, read_noise=2)
    return _rgba(gray, gray, gray)


def _rgba(*planes: _optics.IntPlane) -> npt.NDArray[np.uint8]:
    opaque = np.full(planes[0].shape, 255, np.uint8)
    return np.dstack([*planes, opaque]).astype(np.uint8)


_PAINTERS = {"dark": _dark, "stained": _stained, "gray": _gray}
