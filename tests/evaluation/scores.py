"""Scores built by hand for tests: no images, no encoder."""

import numpy as np

from cytoimagenet_hf.evaluation.records import Features, Images, Protocol, Task
from cytoimagenet_hf.evaluation.results import Setting, summarize
from cytoimagenet_hf.evaluation.scoring import Outcome


def no_pixels(row):
    raise AssertionError("pixels are not read here")


def a_task(name="made", *, version=1, published=None, **options):
    """A task with one protocol, `loo`, that resamples wells."""
    protocol = Protocol(name="loo", k=1, metric="cosine", cluster="well", **options)
    return Task(
        name=name,
        title=f"Made-up task {name}",
        version=version,
        channels=("nucleus",),
        open=lambda root: a_table(),
        protocols=(protocol,),
        published=published or {},
    )


def a_table(count=12, *, simulated=False, wells=4, labels=("g1", "s")):
    """Images of alternating labels in wells; nothing of them can be read."""
    return Images(
        ids=tuple(f"i{at:04}" for at in range(count)),
        labels=tuple(labels[at % len(labels)] for at in range(count)),
        splits=("",) * count,
        keys={"well": tuple(f"w{at % wells}" for at in range(count))},
        read=no_pixels,
        dropped={"no label": 2},
        simulated=simulated,
    )


def some_features(images, name="imagenet", **provenance):
    """Features without meaning, with provenance as the real ones have."""
    values = np.zeros((len(images), 4), np.float32)
    about = {"encoder": name, "revision": f"weights of {name}", "pixels": "abc", **provenance}
    return Features(images.ids, values, about)


def an_outcome(images, wrong=(), unscorable=None):
    """Predictions that are right but for the rows in `wrong`."""
    lost = unscorable or {}
    kept = [row for row, name in enumerate(images.ids) if name not in lost]
    names = sorted(set(images.labels))
    predicted = [
        names[(names.index(images.labels[row]) + (row in wrong)) % len(names)] for row in kept
    ]
    return Outcome(
        ids=tuple(images.ids[row] for row in kept),
        truth=tuple(images.labels[row] for row in kept),
        predicted=tuple(predicted),
        clusters=tuple(images.keys["well"][row] for row in kept),
        bank_size=len(images),
        unscorable=lost,
    )


def a_score(encoder="imagenet", wrong=(), *, images=None, task=None, seed=None, mode="concat-norm"):
    """Return a score and its predictions."""
    task, images = task or a_task(), images or a_table()
    setting = Setting(
        task=task,
        protocol=task.protocols[0],
        preset="standard",
        encoder=encoder,
        mode=mode,
        seed=seed,
    )
    names = encoder.split("+")
    parts = [some_features(images, name, seed=seed) for name in names]
    outcome = an_outcome(images, wrong)
    return summarize(setting, images, parts, outcome, seconds=1.5), outcome
