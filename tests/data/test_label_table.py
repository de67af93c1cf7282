"""Labels in a CSV file beside the images."""

import logging

import numpy as np
import pytest
from PIL import Image

from keras_ssl.data import image_folder, open_source
from keras_ssl.data.label_table import read_label_table
from keras_ssl.data.open_source import open_labeled


@pytest.fixture
def folder(tmp_path):
    for number in range(10):
        path = tmp_path / "pictures" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), (number * 20, 0, 255 - number)).save(path)
    return tmp_path


def write(folder, *lines, name="labels.csv"):
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / name


def names(source):
    return [int(file.rpartition("/")[2].removesuffix(".png")) for file in source.files]


def words(source):
    return [None if label < 0 else source.class_names[label] for label in source.labels]


CATS = [f"pictures/{number}.png,{'cat' if number % 2 else 'ant'}" for number in range(10)]


@pytest.mark.parametrize("as_file", [True, False])
def test_labels_by_path(folder, as_file):
    path = write(folder, "file,label", *CATS)
    train, test = open_source(path if as_file else folder)
    assert test is None
    assert train.class_names == ["ant", "cat"]
    np.testing.assert_array_equal(train.labels, np.arange(10) % 2)
    assert train.read(3).numpy()[0, 0, 0] == 60


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("Filename;Class;note", "{0}.png;{1};x"),
        ("label\tpath", "{1}\tpictures/{0}.png"),
        ("id,label", "{0},{1}"),
        ("\ufefffile,label", "pictures\\{0}.png, {1} "),
    ],
)
def test_other_columns_separators_and_names(folder, header, row):
    lines = [row.format(number, "cat" if number % 2 else "ant") for number in range(10)]
    train, _ = open_source(write(folder, header, *lines))
    np.testing.assert_array_equal(train.labels, np.arange(10) % 2)


def test_a_split_column(folder):
    lines = [f"{n}.png,c{n % 2},{'Test' if n < 4 else 'train'}" for n in range(9)]
    write(folder, "file,label,split", *lines)
    train, test = open_source(folder)
    assert (names(train), names(test)) == ([4, 5, 6, 7, 8, 9], [0, 1, 2, 3])
    assert words(train) == ["c0", "c1", "c0", "c1", "c0", None]  # 9.png is not in the table
    assert words(test) == ["c0", "c1", "c0", "c1"]
    train, test = open_labeled(folder)
    assert (len(train), len(test)) == (5, 4)


def test_numbers_are_sorted_as_numbers(folder):
    write(folder, "file,label", *(f"{n}.png,{n}" for n in (0, 2)), "3.png,10")
    assert open_source(folder)[0].class_names == ["0", "2", "10"]


def test_a_table_above_train_and_test_folders(folder):
    (folder / "TRAIN").mkdir()
    (folder / "Testing").mkdir()
    for number in range(10):
        part = "TRAIN" if number < 6 else "Testing"
        (folder / "pictures" / f"{number}.png").rename(folder / part / f"{number}.png")
    write(folder, "file,label", *(f"{n}.png,{'b' if n > 7 else 'a'}" for n in range(10)))
    train, test = open_source(folder)
    assert (words(train), words(test)) == (["a"] * 6, ["a", "a", "b", "b"])
    assert train.class_names == test.class_names == ["a", "b"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a,b", "1,2"], r"columns `file` and `label`.*begins with 'a,b'"),
        (["file,label", "0.png,a", "0.png,b"], r"one label.*'a' and 'b' for '0.png', in line 3"),
        (["file,label", "0.png"], r"must have 2 columns\. Received: 1 in line 2"),
        (["file,label", "0.png,"], "1 lines in .*without any"),
        (["file,label", "x.png,a"], r"1 lines, such as 'x.png', and 10 images"),
        (["file,label,split", "0.png,a,third"], r"Received: 'third' in"),
    ],
)
def test_wrong_tables(folder, lines, message):
    with pytest.raises(ValueError, match=message):
        open_source(write(folder, *lines, name="mine.csv"))


def test_a_wrong_table_in_a_folder_is_named_and_ignored(folder, caplog):
    write(folder, "file,label", "0.png,a", "0.png,b", name="boxes.csv")
    write(folder, "x,y", "1,2", name="other.csv")
    with caplog.at_level(logging.WARNING, "keras_ssl"):
        train, _ = open_source(folder)
    assert train.class_names == ["pictures"]
    assert "boxes.csv' is not used. A file must have one label" in caplog.text


def test_several_tables_are_named_and_ignored(folder, caplog):
    write(folder, "file,label", *CATS, name="a.csv")
    write(folder, "file,label", *CATS, name="b.csv")
    with caplog.at_level(logging.WARNING, "keras_ssl"):
        assert open_source(folder)[0].class_names == ["pictures"]
    assert "none is used: a.csv, b.csv" in caplog.text
    write(folder, "file,label", *CATS)
    assert open_source(folder)[0].class_names == ["ant", "cat"]


def test_files_that_are_missing_are_counted(folder, caplog):
    write(folder, "file,label", *CATS, "pictures/77.png,cat")
    with caplog.at_level(logging.WARNING, "keras_ssl"):
        open_source(folder)
    assert "1 of 11 files that" in caplog.text
    assert "'pictures/77.png'" in caplog.text


def test_the_first_rules_ignore_tables(folder):
    write(folder, "file,label,split", *(f"{n}.png,a,test" for n in range(4)), "5.png,b,train")
    train, test = open_source(folder, rules=1)
    assert (len(train), test, train.class_names) == (10, None, ["pictures"])


def test_reading_a_table_keeps_its_rows(folder):
    table = read_label_table(write(folder, "split,label,file", "train,a,1.png", "", "test,,2.png"))
    assert (table.files, table.labels, table.splits) == (
        ["1.png", "2.png"],
        ["a", ""],
        ["train", "test"],
    )


@pytest.mark.parametrize("header", ["image_name,label", "name,kind", "pictures/0.png,ant"])
def test_unknown_columns_are_named(folder, header, caplog):
    write(folder, "x,y", "1,2", name="boxes.csv")
    write(folder, header, *CATS)
    with caplog.at_level(logging.WARNING, "keras_ssl"):
        assert open_source(folder)[0].class_names == ["pictures"]
    assert "labels.csv' is not used as a table of labels" in caplog.text
    assert f"Received: '{header}'. Nor are 1 other" in caplog.text
    assert "(file, filename, " in caplog.text
    assert "(label, class, " in caplog.text


def test_absolute_paths_in_the_folder(folder, tmp_path_factory):
    write(folder, "file,label", *(f"{folder}/{line}" for line in CATS))
    train, _ = open_source(folder)
    np.testing.assert_array_equal(train.labels, np.arange(10) % 2)
    link = tmp_path_factory.mktemp("links") / "link"
    link.symlink_to(folder)
    np.testing.assert_array_equal(open_source(link)[0].labels, np.arange(10) % 2)
    assert open_source(folder, rules=2)[0].class_names == ["pictures"]  # of earlier versions
    table = write(folder, "file,label", *(f"/else/where/x{line}" for line in CATS))
    with pytest.raises(ValueError, match="by its path in the folder or its absolute path"):
        open_source(table)


def test_images_without_a_label_are_counted(folder):
    path = write(folder, "file,label", *CATS[:8], "pictures/8.png,")
    train, _ = open_source(path)
    assert repr(train).endswith("10 images, 2 classes; 2 without a label>")
    assert "without a label" not in repr(train.part(np.arange(8), train.labels[:8], None, "x"))


def test_only_tables_that_are_not_read_are_counted(folder):
    write(folder, "file,label", *CATS)
    advice = "keras_ssl.data.open_source reads labels from a table"
    assert repr(image_folder(folder)).endswith(f"; not read: 1 *.csv; {advice}>")
    assert repr(open_source(folder)[0]).endswith("10 images, 2 classes>")
    write(folder, "x,y", "1,2", name="boxes.csv")
    assert "not read: 1 *.csv" in repr(open_source(folder)[0])
