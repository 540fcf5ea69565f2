"""Features: right for each image, in every mode; cached by content, resumed, refused."""

import dataclasses
import logging
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from cytoimagenet_hf.errors import EncoderError, FeaturesError, ImageRefusedError
from cytoimagenet_hf.evaluation import _batches, features
from cytoimagenet_hf.evaluation.features import Mode, compute, estimate, match, parse_mode
from cytoimagenet_hf.evaluation.records import Features, Images
from tests.children import in_child

CONCAT, MERGE, JOINT = (Mode(combine, "raw") for combine in ("concat", "merge", "joint"))


@dataclasses.dataclass
class Means:
    """An encoder whose features are each channel's mean and maximum; notes what it was given."""

    name: str = "means"
    revision: str = "r1"
    channels: int | None = None
    input_size: int | None = None
    pooling: str = "mean"
    preprocessing: str = "none"
    dim: int = 0
    device: str = "cpu"
    shapes: list = dataclasses.field(default_factory=list)

    def embed(self, images):
        """Give (n, 2 * channels)."""
        self.shapes.append(images.shape)
        both = np.stack([images.mean(axis=(2, 3)), images.max(axis=(2, 3))], axis=2)
        return both.reshape(len(images), -1).astype(np.float32)


def pictures(arrays, **names):
    """Images of a task from arrays (channels, h, w), or errors to raise; ids are 000, 001 ..."""
    ids = tuple(names.get("ids") or (f"{at:03d}" for at in range(len(arrays))))

    def read(row):
        if isinstance(arrays[row], Exception):
            raise arrays[row]
        return arrays[row]

    blank = ("",) * len(arrays)
    return Images(ids, blank, blank, {}, read)


def noise(count, channels=2, side=8, seed=0):
    generator = np.random.default_rng(seed)
    return list(generator.integers(0, 200, (count, channels, side, side), np.uint8))


def run(images, encoder=None, mode=CONCAT, cache=None, **more):
    return compute(images, encoder or Means(), mode, task="made", cache=cache, **more)


def files(cache):
    return sorted(cache.rglob("*.parquet"))


def test_channels_are_joined_in_their_order():
    """Concat: mean and maximum of the first channel, then of the second."""
    arrays = noise(5)
    found = run(pictures(arrays))
    expected = [[a[0].mean(), a[0].max(), a[1].mean(), a[1].max()] for a in arrays]
    np.testing.assert_allclose(found.values, expected, rtol=1e-6)
    assert found.ids == ("000", "001", "002", "003", "004")
    assert found.values.dtype == np.float32


def test_merged_and_joint_channels():
    """Merge embeds the mean of the channels once; joint passes both at once."""
    arrays, encoder = noise(5), Means()
    merged = run(pictures(arrays), encoder, MERGE)
    np.testing.assert_allclose(merged.values[:, 0], [a.mean() for a in arrays], rtol=1e-6)
    assert merged.values.shape == (5, 2)
    joint = run(pictures(arrays), encoder, JOINT)
    np.testing.assert_array_equal(joint.values, run(pictures(arrays)).values)
    assert encoder.shapes == [(5, 1, 8, 8), (5, 2, 8, 8)]


def test_images_of_one_shape_share_batches():
    """Two shapes in turns make two batches; rows come back in the order of ids."""
    arrays = [np.full((1, 4, 4 + at % 2), at, np.uint8) for at in range(10)]
    encoder = Means()
    found = run(pictures(arrays), encoder)
    assert found.values[:, 0].tolist() == list(range(10))
    assert sorted(encoder.shapes) == [(5, 1, 4, 4), (5, 1, 4, 5)]


@pytest.mark.parametrize(("batch", "sizes"), [(4, [4, 4, 4, 4, 2]), (64, [18]), (1, [2] * 9)])
def test_batches_hold_whole_images(batch, sizes):
    """In mode concat each of the two channels counts; one image is the least."""
    encoder = Means()
    run(pictures(noise(9)), encoder, batch=batch)
    assert [shape[0] for shape in encoder.shapes] == sizes


def test_batches_are_bounded_in_pixels(monkeypatch):
    """Large images make small batches, and many shapes don't pile up."""
    monkeypatch.setattr(_batches, "PIXELS_AT_ONCE", 2 * 64)
    encoder = Means()
    run(pictures(noise(5, channels=1)), encoder)
    assert [shape[0] for shape in encoder.shapes] == [2, 2, 1]
    arrays = [np.zeros((1, 8, 8 + at), np.uint8) for at in range(30)]
    waiting = []
    for _ in _batches.batches(pictures(read := arrays), range(30), CONCAT, batch=64,
                              found=(found := _batches.Read())):  # fmt: skip
        waiting.append(len(found.pixels))
    assert waiting[0] < len(read)


def test_unusable_images_are_counted_with_their_reason():
    """Unreadable, constant and not finite: each is named, the others have features."""
    arrays = noise(5, channels=1)
    arrays[1] = ImageRefusedError("missing file", "b.tif")
    arrays[2] = np.full((1, 8, 8), 9, np.uint8)
    arrays[3] = np.full((1, 8, 8), np.nan)
    found = run(pictures(arrays), mode=Mode("concat", "norm"))
    assert found.ids == ("000", "004")
    assert found.failed["001"] == "missing file: b.tif"
    assert found.failed["002"].startswith("constant: channel 0")
    assert found.failed["003"].startswith("not finite: channel 0")
    assert np.isfinite(found.values).all()


def test_features_that_are_not_finite_fail():
    """An encoder's NaN ends with the image's name, not in a score."""

    class Broken(Means):
        def embed(self, images):
            return np.where(images.max(axis=(2, 3)) > 150, np.nan, 1).astype(np.float32)

    arrays = [np.full((1, 4, 4), value, np.uint8) for value in (100, 200)]
    found = run(pictures(arrays), Broken())
    assert (found.ids, found.failed) == (("000",), {"001": "features not finite"})


def test_all_images_unusable():
    """Nothing to embed is no crash: no rows, all reasons."""
    found = run(pictures([OSError("gone")] * 3))
    assert (found.ids, len(found.values), len(found.failed)) == ((), 0, 3)
    assert run(pictures([])).ids == ()


def test_different_numbers_of_channels_are_an_error():
    """Vectors of different length can't be compared; both images are named."""
    arrays = [*noise(2), *noise(1, channels=3)]
    with pytest.raises(FeaturesError, match=r"'000' gives 4 features and '002' 6"):
        run(pictures(arrays))


def test_errors_of_the_encoder_pass():
    """The encoder's own message reaches the caller."""

    class Refusing(Means):
        def embed(self, images):
            raise EncoderError("no such images")

    with pytest.raises(EncoderError, match="no such images"):
        run(pictures(noise(3)), Refusing())


def test_provenance_says_how():
    """Encoder, revision, mode, versions, and hashes of ids with pixels."""
    found = run(pictures(noise(3)), batch=8).provenance
    assert (found["encoder"], found["revision"], found["mode"]) == ("means", "r1", "concat-raw")
    assert (found["dim"], found["images"], found["batch"], found["task"]) == (4, 3, 8, "made")
    assert "numpy" in found["libraries"]
    other = run(pictures(noise(3, seed=1)), batch=8).provenance
    assert {key for key in found if found[key] != other[key]} == {"pixels"}


def test_pixel_hash_is_of_type_shape_and_values():
    """Equal bytes of another shape or type are other images; byte order doesn't matter."""
    planes = np.arange(12, dtype="<u2").reshape(1, 3, 4)
    digests = {_batches.planes_sha256(one) for one in (
        planes, planes.reshape(1, 4, 3), planes.astype("<i2"), planes + 1)}  # fmt: skip
    assert len(digests) == 4
    assert _batches.planes_sha256(planes.astype(">u2")) == _batches.planes_sha256(planes)


def test_finished_chunks_are_not_made_again(tmp_path, monkeypatch):
    """The second run embeds nothing and gives the same bytes, pixel hashes and reasons."""
    monkeypatch.setattr(features, "CHUNK", 4)
    arrays = noise(10)
    arrays[5] = OSError("gone")
    encoder = Means()
    first = run(pictures(arrays), encoder, cache=tmp_path)
    assert len(files(tmp_path)) == 3
    again = run(pictures(arrays), second := Means(), cache=tmp_path)
    assert second.shapes == []
    assert first.values.tobytes() == again.values.tobytes()
    assert dataclasses.replace(first, values=0) == dataclasses.replace(again, values=0)


@pytest.mark.parametrize(
    "change",
    [
        {"encoder": Means(revision="r2")},
        {"encoder": Means(preprocessing="other")},
        {"mode": MERGE},
        {"mode": Mode("concat", "raw", 16)},
        {"batch": 3},
    ],
)
def test_whatever_could_change_features_makes_them_anew(tmp_path, change):
    """Other weights, preprocessing, mode or batch never meet the files of the first run."""
    run(pictures(noise(4)), cache=tmp_path)
    encoder = change.pop("encoder", Means())
    run(pictures(noise(4)), encoder, cache=tmp_path, **change)
    assert encoder.shapes
    assert len(files(tmp_path)) == 2


def test_changed_pixels_make_one_chunk_anew(tmp_path, monkeypatch):
    """One pixel of one image: its chunk is computed, the others are found."""
    monkeypatch.setattr(features, "CHUNK", 4)
    arrays = noise(10)
    run(pictures(arrays), cache=tmp_path)
    arrays[6] = arrays[6].copy()
    arrays[6][0, 0, 0] += 1
    found = run(pictures(arrays), encoder := Means(), cache=tmp_path)
    assert encoder.shapes == [(8, 1, 8, 8)]
    np.testing.assert_array_equal(found.values, run(pictures(arrays)).values)


def test_renamed_and_swapped_images_are_never_taken_by_position(tmp_path):
    """Ids that changed hands make new features: row 0 is the image that is named first now."""
    arrays = noise(4)
    run(pictures(arrays), cache=tmp_path)
    swapped = [arrays[1], arrays[0], *arrays[2:]]
    found = run(pictures(swapped), cache=tmp_path)
    assert found.values[0, 0] == pytest.approx(arrays[1][0].mean())
    renamed = run(pictures(arrays, ids=["a", "b", "c", "d"]), encoder := Means(), cache=tmp_path)
    assert encoder.shapes
    assert renamed.ids == ("a", "b", "c", "d")


def test_image_that_became_readable_is_embedded(tmp_path):
    """A reason isn't kept once the file is there."""
    arrays = noise(3)
    broken = [arrays[0], OSError("gone"), arrays[2]]
    assert run(pictures(broken), cache=tmp_path).failed == {"001": "gone"}
    assert run(pictures(arrays), cache=tmp_path).failed == {}


@pytest.mark.parametrize("harm", ["cut", "flip", "foreign", "other", "empty"])
def test_damaged_cache_is_named_and_made_anew(tmp_path, harm, caplog):
    """Whatever lies in a chunk's place, features are right and the file is named."""
    images = pictures(noise(4))
    right = run(images, cache=tmp_path).values
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    if harm == "other":  # a whole file of another encoder's, renamed
        run(images, Means(revision="r2"), cache=tmp_path)
        (theirs,) = set(files(tmp_path)) - {path}
        theirs.replace(path)
    else:
        middle = len(whole) // 4
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        harmed = {"cut": whole[:-9], "flip": flipped, "foreign": b"junk", "empty": b""}
        path.write_bytes(harmed[harm])
    with caplog.at_level(logging.WARNING, "cytoimagenet_hf"):
        found = run(images, cache=tmp_path)
    assert found.values.tobytes() == right.tobytes()
    if harm != "flip" or caplog.text:
        assert "made anew" in caplog.text
        assert path.name in caplog.text
    assert path.read_bytes() == whole


def test_unsafe_names_stay_inside_the_cache(tmp_path):
    """Names of tasks and encoders with path characters make plain folders."""
    encoder = Means(name="../../evil:<b>")
    compute(pictures(noise(2)), encoder, CONCAT, task="../up", cache=tmp_path / "cache")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    (path,) = files(tmp_path)
    assert path.parent.relative_to(tmp_path / "cache").parts == ("_up", "_.._evil_b_", "concat-raw")


def test_progress_counts_images(monkeypatch):
    """It is told after each chunk, and ends with all."""
    monkeypatch.setattr(features, "CHUNK", 4)
    told = []
    run(pictures(noise(10)), progress=lambda *one: told.append(one))
    assert told == [(4, 10), (8, 10), (10, 10)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are the fast way to processes")
def test_killed_run_continues(tmp_path, monkeypatch):
    """Chunks that were finished before a kill are found; the features are those of a whole run."""
    monkeypatch.setattr(features, "CHUNK", 4)
    images = pictures(noise(12))

    def die(done, total):
        if done == 8:
            os.kill(os.getpid(), signal.SIGKILL)

    def dying():
        features.CHUNK = 4
        run(images, cache=tmp_path, progress=die)

    assert in_child(dying).killed
    assert len(files(tmp_path)) == 2
    found = run(images, encoder := Means(), cache=tmp_path)
    assert encoder.shapes == [(8, 1, 8, 8)]
    assert found.values.tobytes() == run(images).values.tobytes()


def test_match_goes_by_id_whatever_the_order():
    """Rows in another order, and rows of other images, change nothing."""
    images = pictures(noise(3))
    whole = run(images)
    mixed = Features(
        ("002", "more", "000", "001"),
        np.stack([whole.values[2], whole.values[0] * 0, whole.values[0], whole.values[1]]),
        {},
    )
    found = match(mixed, images)
    assert found.ids == images.ids
    np.testing.assert_array_equal(found.values, whole.values)


def test_match_refuses_features_of_other_images():
    """One image without features or reason is enough; ids of both sides are shown."""
    values = np.zeros((2, 1), np.float32)
    made = Features(("000", "x"), values, {}, {"001": "constant"})
    with pytest.raises(FeaturesError, match=r"1 of 3.*'002'.*1 of 2 features.*first: 'x'"):
        match(made, pictures(noise(3)))
    found = match(made, pictures(noise(2)))
    assert (found.ids, found.failed) == (("000",), {"001": "constant"})


def test_estimate_scales_with_the_images(monkeypatch):
    """Ten times as many images take ten times as long; unusable ones don't break it."""
    clock = iter(range(1000))
    monkeypatch.setattr(features.time, "perf_counter", lambda: next(clock))
    some, many = (estimate(pictures(noise(1) * count), Means(), CONCAT, batch=2)
                  for count in (10, 100))  # fmt: skip
    assert some == 10.0  # the clock moves a second a look: one for reading, one for embedding
    assert many == 100.0
    assert estimate(pictures([OSError("gone")]), Means(), CONCAT) == 0.0
    assert estimate(pictures([]), Means(), CONCAT) == 0.0


def test_several_processes_need_a_cache(monkeypatch):
    """They hand chunks to each other as files."""
    monkeypatch.setattr(features, "_place", lambda: (0, 2))
    with pytest.raises(ValueError, match="pass a cache"):
        run(pictures(noise(2)))


def _share(folder):
    import torch

    features.CHUNK = 4
    images = pictures([*noise(16), *[OSError("gone")] * 4])
    encoder = Means()
    found = run(images, encoder, cache=folder / "cache")
    rank = torch.distributed.get_rank()
    np.save(folder / f"values-{rank}.npy", found.values)
    (folder / f"seen-{rank}").write_text(f"{len(encoder.shapes)} {len(found.failed)}")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are the fast way to processes")
def test_two_processes_share_the_work(tmp_path):
    """Of five chunks each takes every second; both end with all features, those of one process."""
    accelerate = pytest.importorskip("accelerate")
    ended = in_child(lambda: accelerate.debug_launcher(_share, (tmp_path,), num_processes=2))
    assert ended.code == 0
    alone = run(pictures(noise(16)))
    for rank in range(2):
        np.testing.assert_array_equal(np.load(tmp_path / f"values-{rank}.npy"), alone.values)
        assert (tmp_path / f"seen-{rank}").read_text() == "2 4"


def test_network_on_real_shapes():
    """A tiny network on images of three shapes gives what it gives one by one, to rounding."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("timm")
    from cytoimagenet_hf.models.encoders import load_encoder

    torch.set_num_threads(1)
    encoder = load_encoder("random:test_efficientnet", seed=1)
    generator = np.random.default_rng(0)
    arrays = [
        generator.integers(0, 60_000, (2, 40 + 8 * (at % 3), 64), np.uint16) for at in range(9)
    ]
    mode = parse_mode("concat-norm")
    found, again = (run(pictures(arrays), encoder, mode) for _ in range(2))
    assert found.values.shape == (9, 512)
    assert found.values.tobytes() == again.values.tobytes()
    for row, planes in enumerate(arrays):
        alone = encoder.embed(features.prepare(planes, mode)[:, None]).reshape(-1)
        np.testing.assert_allclose(found.values[row], alone, rtol=1e-4, atol=1e-7)


def test_real_cells(real_images):
    """Real Jurkat cells of three channels get finite, different features in every mode."""
    from cytoimagenet_hf.imaging.readers import read_plane

    folder = real_images / "bbbc048"
    stems = sorted({str(path).rpartition("_")[0] for path in folder.rglob("*.tif*")})[:6]
    if not stems:
        pytest.skip("no TIFFs of bbbc048")
    paths = [[Path(f"{stem}_Ch{at}.ome.tif") for at in (3, 4, 6)] for stem in stems]
    images = pictures([np.stack([read_plane(one) for one in group]) for group in paths])
    for mode in features.MODES:
        found = run(images, mode=mode)
        assert len(found.ids) + len(found.failed) == len(images)
        assert len(np.unique(found.values, axis=0)) == len(found.ids)
