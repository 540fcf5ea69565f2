"""Which rows make which batch: none twice, none missing, the same from any step on."""

from collections import Counter

import numpy as np
import pytest

from cytoimagenet_hf.pretraining.config import TrainConfig
from cytoimagenet_hf.pretraining.sampling import EvalSampler, StepSampler, epoch_order


def sampler(rows=46, process=0, processes=1, labels=None, **values):
    config = TrainConfig(**{"batch_size": 8} | values)
    labels = np.arange(rows) % 3 if labels is None else labels
    return StepSampler(labels, config, process, processes)


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("rows", [6, 17, 46, 48, 49])
def test_every_row_once(rows, processes, accumulation):
    """Over all processes and micro-batches an epoch has each row exactly once, in equal steps."""
    every = [
        list(sampler(rows, one, processes, gradient_accumulation=accumulation))
        for one in range(processes)
    ]
    assert sorted(row for own in every for batch in own for row in batch) == list(range(rows))
    assert len({len(own) for own in every}) == 1
    assert all(1 <= len(batch) <= 8 for own in every for batch in own)


def test_no_lone_last_image():
    """49 rows in batches of 8 make 7 batches of 7, not 6 of 8 and one of 1."""
    assert [len(batch) for batch in sampler(49)] == [7] * 7


def test_too_few_rows_are_refused():
    """Processes without a row would train on nothing."""
    with pytest.raises(ValueError, match="2 images are too few for 3 batches"):
        sampler(2, 0, 3)
    with pytest.raises(ValueError, match="full size"):
        sampler(7, drop_last=True)


def test_drop_last_leaves_full_batches():
    """46 rows make 5 batches of 8; 6 rows sit out, others in each epoch."""
    made = sampler(46, drop_last=True)
    first = [*made]
    assert [len(batch) for batch in first] == [8] * 5
    made.epoch = 1
    assert {row for batch in first for row in batch} != {row for batch in made for row in batch}


def test_goes_on_from_any_step():
    """From step 3 on come the batches that came behind step 3."""
    whole = list(sampler(gradient_accumulation=2))
    late = sampler(gradient_accumulation=2)
    late.start = 2
    assert list(late) == whole[4:]
    assert len(late) == len(whole[4:])


def test_epochs_and_seeds_have_other_orders():
    """Order changes with epoch and seed, and with nothing else."""
    labels = np.zeros(20, int)
    orders = [tuple(epoch_order(labels, seed=s, epoch=e)) for s in (0, 1) for e in (0, 1)]
    assert len(set(orders)) == 4
    assert orders[0] == tuple(epoch_order(labels, seed=0, epoch=0))
    assert all(sorted(one) == list(range(20)) for one in orders)


def test_class_balanced_draws_each_class_equally_often():
    """Of 10, 4 and 1 rows each class comes 5 times, its own rows as evenly as can be."""
    labels = np.array([0] * 10 + [1] * 4 + [2])
    order = epoch_order(labels, seed=3, epoch=0, balanced=True)
    assert Counter(labels[order].tolist()) == {0: 5, 1: 5, 2: 5}
    counts = Counter(order.tolist())
    assert sorted(counts[row] for row in range(10, 14)) == [1, 1, 1, 2]
    assert max(counts[row] for row in range(10)) == 1


def test_class_balanced_passes_empty_classes_over():
    """A class without a row is not drawn."""
    order = epoch_order(np.array([0, 0, 2, 2]), seed=0, epoch=0, balanced=True)
    assert sorted(order.tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_place_counts_images_before(processes, accumulation):
    """The place of a micro-batch is the number of images of its step that come before it."""
    parts = {}
    for process in range(processes):
        made = sampler(46, process, processes, gradient_accumulation=accumulation)
        for number, batch in enumerate(made):
            step, micro = divmod(number, accumulation)
            parts.setdefault(step, []).append((made.place(step, micro), len(batch)))
    for step in parts.values():
        ends = 0
        for place, size in sorted(step):
            assert place == ends
            ends += size


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_validation_rows_once(processes):
    """Validation has each row once, also where processes have different numbers of batches."""
    own = [list(EvalSampler(17, TrainConfig(batch_size=4), at, processes))
           for at in range(processes)]  # fmt: skip
    assert sorted(row for one in own for batch in one for row in batch) == list(range(17))
    assert [len(one) for one in own] == [
        len(EvalSampler(17, TrainConfig(batch_size=4), at, processes)) for at in range(processes)
    ]
