"""metrics.jsonl: whole lines, cut back on restart."""

import pytest

from cytoimagenet_hf.errors import CytoImageNetError
from cytoimagenet_hf.pretraining.config import TrainConfig
from cytoimagenet_hf.pretraining.decoding import decode_batch
from cytoimagenet_hf.pretraining.log import (
    METRICS,
    Meter,
    left_out,
    read_lines,
    rewind,
    write_line,
    written,
)


def test_lines_come_back(tmp_path):
    """What is written is read, and told in words."""
    told = write_line(tmp_path, "train", {"epoch": 0, "step": 5}, {"loss": 1.25})
    assert told == "train, epoch 0, step 5: loss 1.25"
    assert read_lines(tmp_path) == [{"kind": "train", "epoch": 0, "step": 5, "loss": 1.25}]


def test_rewound_to_a_checkpoint(tmp_path):
    """Lines behind a checkpoint go, half ones too; a shorter file stays as it is."""
    write_line(tmp_path, "train", {"epoch": 0, "step": 1}, {"loss": 2.0})
    size = written(tmp_path)
    write_line(tmp_path, "train", {"epoch": 0, "step": 2}, {"loss": 1.0})
    with (tmp_path / METRICS).open("a") as stream:
        stream.write('{"kind": "tra')
    assert len(read_lines(tmp_path)) == 2
    rewind(tmp_path, size)
    assert [line["step"] for line in read_lines(tmp_path)] == [1]
    rewind(tmp_path, 10**6)
    rewind(tmp_path / "absent", 0)
    assert written(tmp_path) == size


def test_full_disk_is_an_error_of_ours(tmp_path):
    """A line that can't be written names the file."""
    (tmp_path / METRICS).mkdir()
    with pytest.raises(CytoImageNetError, match=r"metrics\.jsonl"):
        write_line(tmp_path, "train", {"epoch": 0, "step": 1}, {})


def test_meter_shares():
    """Images a second and the share of waiting are over the same time."""
    meter = Meter(images=10, waiting=0.0)
    meter.start -= 2
    meter.waiting = 1.0
    numbers = meter.numbers()
    assert numbers["images_a_second"] == pytest.approx(5, rel=0.05)
    assert numbers["waiting"] == pytest.approx(0.5, rel=0.05)
    assert numbers["peak_mb"] >= 0


def test_left_out_rows_are_told_or_stop(capsys):
    """By policy a bad row is told and counted, or ends the run."""
    batch = decode_batch([{"bytes": b"x", "path": "a.png"}], [0], [7], TrainConfig())
    assert left_out(batch, TrainConfig()) == 1
    assert "row 7 (a.png)" in capsys.readouterr().err
    with pytest.raises(CytoImageNetError, match=r"row 7 \(a\.png\).*--bad-rows skip"):
        left_out(batch, TrainConfig(bad_rows="stop"))
