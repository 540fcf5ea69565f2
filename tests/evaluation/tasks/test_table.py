"""A benchmark of anyone's labelled images: what is known decides how it is scored."""

from collections import Counter

import numpy as np
import pytest
import tifffile
from PIL import Image

from benchmarks._tables import (
    BCCD_COLUMNS,
    bccd_table,
    hpa_table,
    phases_table,
    tiles_table,
    yeast_table,
)
from cytoimagenet_hf.errors import ImageRefusedError, TableError, TaskNotFoundError
from cytoimagenet_hf.evaluation.records import Features
from cytoimagenet_hf.evaluation.scoring import score
from cytoimagenet_hf.evaluation.tasks._table import table_task
from cytoimagenet_hf.imaging.statistics import statistics16
from cytoimagenet_hf.schema import SIMULATED_MARK

PLAIN = "path,label\na.tif,x\nb.tif,x\nc.tif,y\nd.tif,y\n"


@pytest.fixture
def made(tmp_path):
    """Give a function that makes a task of a table's text and four small images."""
    images = tmp_path / "images"
    images.mkdir()
    for number, name in enumerate("abcd"):
        tifffile.imwrite(
            images / f"{name}.tif", np.arange(20, dtype=np.uint16).reshape(4, 5) + number
        )

    def make(text, **options):
        table = tmp_path / "My cells.csv"
        table.write_text(text, encoding="utf-8")
        return table_task(table, images, **{"k": 1, **options})

    return make


def opened(task):
    """The task's images; it needs no root, as its folder was named before."""
    return task.open(None)


def features_of(task):
    """16 statistics a channel, without any network."""
    images = opened(task)
    rows = [
        np.concatenate([statistics16(plane.astype(np.float64)) for plane in images.read(row)])
        for row in range(len(images))
    ]
    return images, [Features(images.ids, np.array(rows, np.float32), {})]


def test_without_more_each_image_finds_all_others(made):
    """One protocol, leave-one-out; ids are the paths."""
    task = made(PLAIN)
    (protocol,) = task.protocols
    assert (protocol.name, protocol.k, protocol.metric) == ("leave-one-out", 1, "euclidean")
    assert (protocol.bank, protocol.query, protocol.exclude) == ("", "", ())
    assert [(one.ties, one.name) for one in (protocol, *task.paper)] == [
        ("distance", "leave-one-out"), ("label", "leave-one-out"),
    ]  # fmt: skip
    images = opened(task)
    assert (images.ids, images.labels) == (("a.tif", "b.tif", "c.tif", "d.tif"), tuple("xxyy"))
    assert (task.name, task.channels) == ("my_cells", ("channel 1",))


def test_with_groups_no_image_finds_its_own_group(made):
    """By itself a finds b; without its group nothing of its label is left."""
    task = made("path,label,group\na.tif,x,1\nb.tif,x,1\nc.tif,y,2\nd.tif,y,3\n")
    (protocol,) = task.protocols
    assert (protocol.name, protocol.exclude, protocol.cluster) == (
        "leave-group-out",
        ("group",),
        "group",
    )
    images = opened(task)
    assert images.keys["group"] == ("1", "1", "2", "3")
    features = [Features(images.ids, np.array([[0], [1], [3], [4]], np.float32), {})]
    outcome = score(images, features, protocol, backend="numpy")
    assert outcome.unscorable == dict.fromkeys(["a.tif", "b.tif"], "label not in its bank")
    assert dict(zip(outcome.ids, outcome.predicted, strict=True)) == {"c.tif": "y", "d.tif": "y"}


def test_wells_are_groups_where_no_others_are_named(made):
    """The door's rule: the well on its plate."""
    task = made("path,label,plate,well\na.tif,x,p,B1\nb.tif,x,q,B1\nc.tif,y,p,B1\nd.tif,y,p,B2\n")
    assert task.protocols[0].name == "leave-group-out"
    assert opened(task).keys["group"] == ("p/B1", "q/B1", "p/B1", "p/B2")


def test_with_splits_train_is_searched_for_each_other(made):
    """Two test sets, two protocols."""
    task = made("path,label,split\na.tif,x,train\nb.tif,y,train\nc.tif,y,far\nd.tif,y,near\n")
    assert [(one.name, one.bank, one.query) for one in task.protocols] == [
        ("far", "train", "far"),
        ("near", "train", "near"),
    ]
    images, features = features_of(task)
    outcome = score(images, features, task.protocols[1], backend="numpy")
    assert (outcome.ids, outcome.bank_size) == (("d.tif",), 2)


@pytest.mark.parametrize(
    ("values", "words"),
    [("test test test test", "no image is in the split 'train'"),
     ("train train train train", "nothing is left to ask")],
)  # fmt: skip
def test_splits_without_two_sides_are_refused(made, values, words):
    """There must be something to search and something to ask."""
    rows = [f"{name}.tif,x,{one}" for name, one in zip("abcd", values.split(), strict=True)]
    with pytest.raises(TableError, match=words):
        made("\n".join(["path,label,split", *rows]))


def test_columns_may_have_other_names(made):
    """Label, group, split and path, each called otherwise; a column named site is no split."""
    task = made(
        "file,site,kind,patient,set\n"
        "a.tif,1,x,p,train\nb.tif,2,y,q,train\nc.tif,3,x,r,test\nd.tif,4,y,s,test\n",
        columns={"path": "file"},
        label="kind",
        group="patient",
        split="set",
    )
    images = opened(task)
    assert images.labels == ("x", "y", "x", "y")
    assert images.splits == ("train", "train", "test", "test")
    assert images.keys["group"] == ("p", "q", "r", "s")
    assert set(opened(made("path,site,label\na.tif,1,x\nb.tif,2,y\n")).splits) == {""}


@pytest.mark.parametrize("asked", ["label", "group", "split"])
def test_a_column_that_was_named_must_be_there(made, asked):
    """The error lists the columns that are."""
    with pytest.raises(TableError, match=r"no column 'kinds'.*Columns there: path, label"):
        made(PLAIN, **{asked: "kinds"})


def test_categories_can_be_labels(made):
    """Any of the seven, also mapped; case is kept."""
    assert opened(made("path,gene\na.tif,RAB5\nb.tif,x\n", label="gene")).labels == ("RAB5", "x")
    mapped = made("path,what\na.tif,RAB5\nb.tif,x\n", label="gene", columns={"gene": "what"})
    assert opened(mapped).labels == ("RAB5", "x")


def test_what_has_not_one_label_is_counted(made):
    """Blank, several, a missing file and a blank split: each under its reason."""
    task = made(
        "path,label,split\na.tif,x,train\nb.tif,y,test\nc.tif,,test\nd.tif,x|y,test\ne.tif,x,test\n"
    )
    assert opened(task).ids == ("a.tif", "b.tif")
    assert opened(task).dropped == {"missing file": 1, "no label": 1, "several labels": 1}
    blank = made("path,label,split\na.tif,x,train\nb.tif,y,test\nc.tif,y,\n")
    assert opened(blank).dropped == {"no split": 1}


@pytest.mark.parametrize("path", ["../secret.tif", "/etc/passwd", "C:/x.tif", "a\\b.tif"])
def test_paths_stay_in_the_folder(made, path):
    """The door refuses whatever might lead out of it."""
    with pytest.raises(TableError, match=r"My cells\.csv:2: column 'path'"):
        made(f"path,label\n{path},x\n")


def test_labels_and_groups_may_hold_anything_else(made):
    """Markup and slashes are texts; a # in a group can't be mistaken for a part of an id."""
    task = made('path,label,group\na.tif,<b>x</b>,../g#1\nb.tif,"y, z",../g\n')
    assert opened(task).labels == ("<b>x</b>", "y, z")
    assert opened(task).keys["group"] == ("../g%231", "../g")


def test_one_image_twice_is_refused(made):
    """Both lines are named."""
    with pytest.raises(TableError, match=r":3: .*'a\.tif' page 0 repeats a plane of line 2"):
        made("path,label\na.tif,x\na.tif,x\n")


@pytest.mark.parametrize("k", [0, 4, 11])
def test_more_neighbors_than_images_are_refused(made, k):
    """Each of four images has three others."""
    with pytest.raises(ValueError, match=f"k={k} neighbors are wanted; .* has 3 images to search"):
        made(PLAIN, k=k)


def test_the_name_of_a_benchmark_is_taken(made):
    """Scores of the two would be told apart by nothing."""
    with pytest.raises(ValueError, match="can't be the task 'bbbc021'"):
        made(PLAIN, name="bbbc021")
    assert made(PLAIN, name="bbbc048").name == "bbbc048"


def test_a_folder_without_the_images_is_named(made, tmp_path):
    """The first path shows what is wrong with the folder."""
    with pytest.raises(TaskNotFoundError, match=r"none of the 1 images .*missing file: 1; first"):
        made("path,label\nimages/a.tif,x\n")
    table = tmp_path / "My cells.csv"
    with pytest.raises(TaskNotFoundError, match="no folder"):
        table_task(table, tmp_path / "nowhere")


def test_channels_are_those_of_most_images(made):
    """Rows of a long table come in any order; an image of another stain is left out."""
    rows = ["id,path,stain,label", "1,a.tif,dna,x", "1,b.tif,actin,x", "2,c.tif,actin,y",
            "2,d.tif,dna,y", "3,a.tif,dna,x"]  # fmt: skip
    task = made("\n".join(rows))
    images = opened(task)
    assert task.channels == ("actin", "dna")  # as often in the other order; then by name
    assert [images.read(row)[:, 0, 0].tolist() for row in (0, 1)] == [[1, 0], [2, 3]]  # ba, cd
    assert images.dropped == {"other channels than most images": 1}


def test_color_becomes_gray_in_its_own_depth(made, tmp_path):
    """(10 + 20 + 31) / 3 is 20.33, so 20; a box is cut out afterwards."""
    pixels = np.zeros((6, 8, 3), np.uint8)
    pixels[2:4, 3:7] = (10, 20, 31)
    Image.fromarray(pixels).save(tmp_path / "images" / "rgb.png")
    task = made(
        "path,label,x_min,y_min,x_max,y_max\nrgb.png,x,3,2,7,4\nrgb.png,y,0,0,3,6\nrgb.png,y,0,4,8,9\n"
    )
    assert task.protocols[0].name == "leave-group-out"  # boxes of one image are its group
    images = opened(task)
    told = {name: row for row, name in enumerate(images.ids)}
    planes = images.read(told["rgb.png/3-2-7-4"])
    assert (planes.shape, planes.dtype) == ((1, 2, 4), np.uint8)
    assert (planes == 20).all()
    with pytest.raises(ImageRefusedError, match="box out of range"):
        images.read(told["rgb.png/0-4-8-9"])


def test_simulated_images_say_so(made, tmp_path):
    """The mark lies in the folder of images."""
    assert not opened(made(PLAIN)).simulated
    (tmp_path / "images" / SIMULATED_MARK).write_text("", encoding="utf-8")
    assert opened(made(PLAIN)).simulated


REAL = {  # images, labels, channels, protocol, options
    "yeast_paired": (yeast_table, 200, 5, 2, "leave-group-out", {"label": "cell_visible"}),
    "hpa_paired": (hpa_table, 48, 3, 3, "leave-group-out", {}),
    "bccd": (
        bccd_table,
        1228,
        3,
        1,
        "leave-group-out",
        {"label": "cell_type", "columns": BCCD_COLUMNS, "box": "voc"},
    ),
    "cytoimagenet_tiles": (tiles_table, 380, 20, 1, "leave-one-out", {}),
    "bbbc048": (phases_table, 445, 7, 3, "leave-one-out", {}),
}


@pytest.mark.parametrize("name", REAL)
def test_real_sets_are_opened(name, real_images, tmp_path):
    """Wide, long and boxed tables: numbers of images, labels and channels, and the protocol."""
    make, count, labels, channels, protocol, options = REAL[name]
    task = table_task(make(real_images / name, tmp_path), real_images / name, name=name, **options)
    images = opened(task)
    assert (len(images), len(set(images.labels))) == (count, labels)
    assert images.dropped == {}
    assert images.read(0).shape[0] == len(task.channels) == channels
    assert [one.name for one in task.protocols] == [protocol]


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real_sets_are_scored_above_chance(name, real_images, tmp_path):
    """Intensity statistics alone tell more than naming the most frequent label."""
    make, *_, options = REAL[name]
    task = table_task(make(real_images / name, tmp_path), real_images / name, name=name, **options)
    images, features = features_of(task)
    outcome = score(images, features, task.protocols[0], backend="numpy")
    most = Counter(outcome.truth).most_common(1)[0][1]
    assert len(outcome.ids) + len(outcome.unscorable) == len(images)
    assert outcome.correct.sum() > most
