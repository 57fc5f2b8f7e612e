import numpy as np
import pytest

from mptt import MPTTError, MPTTWarning
from mptt.datamodules.preparing.encoding import complete_sites, encode_attributes

SITES = ["a", "b", "c", "d"]
TRAINING = np.array([True, True, True, False])
NUMBERS = np.array([1.0, np.nan, 4.0, 100.0])
ROCK = np.array(["slate", "chalk", "slate", "chalk"])


def encode(missing="error", text="error", **columns):
    return encode_attributes(columns, TRAINING, SITES, missing, text)


def test_numbers_that_are_whole_stay_as_they_are():
    found = encode(area=np.array([1, 2, 3, 4]), wet=np.array([True, False, True, False]))
    assert {name: values.tolist() for name, values in found.values.items()} == {
        "area": [1, 2, 3, 4],
        "wet": [1, 0, 1, 0],
    }
    assert (found.categories, found.notes) == ([], [])


@pytest.mark.parametrize(("missing", "value"), [("mean", 13 / 3), ("median", 3.0)])
def test_middle_of_the_training_sites_stands_for_what_is_missing(missing, value):
    column = np.array([1.0, 3.0, 9.0, np.inf])
    found = encode(missing, slope=column)
    np.testing.assert_allclose(found.values["slope"], [1, 3, 9, value])
    assert found.notes == [f"The attribute slope is the {missing} of the training sites for 1 site(s): d."]
    assert np.isinf(column[3])


def test_attributes_with_something_missing_are_left_out():
    found = encode("drop_attribute", area=np.arange(4.0), slope=NUMBERS)
    assert list(found.values) == ["area"]
    assert found.notes == ["Left out the attribute slope, missing for 1 site(s): b."]


def test_sites_with_something_missing_are_found():
    rock = np.array(["slate", " ", None, "chalk"], dtype=object)
    assert complete_sites({"slope": NUMBERS, "rock": rock}, "onehot").tolist() == [True, False, False, True]
    assert complete_sites({"slope": NUMBERS, "rock": rock}, "drop").tolist() == [True, False, True, True]
    assert complete_sites({"rock": rock}, "drop").all()


@pytest.mark.parametrize("kind", ["U", "S", "O"])
def test_text_is_a_column_for_each_category_sorted(kind):
    found = encode(text="onehot", area=np.arange(4.0), rock=ROCK.astype(kind))
    assert list(found.values) == ["area", "rock=chalk", "rock=slate"]
    assert found.categories == ["rock=chalk", "rock=slate"]
    assert found.values["rock=slate"].tolist() == [1, 0, 1, 0]
    assert found.values["rock=chalk"].tolist() == [0, 1, 0, 1]


def test_category_of_no_training_site_is_warned_of_and_is_none():
    with pytest.warns(
        MPTTWarning, match=r"rock has a category that no training site has, at 1 site\(s\): d \(basalt\)"
    ):
        found = encode(text="onehot", rock=np.array(["slate", "chalk", "slate", "basalt"]))
    assert list(found.values) == ["rock=chalk", "rock=slate"]
    assert [values[3] for values in found.values.values()] == [0, 0]


def test_missing_text_is_of_no_category():
    found = encode("mean", "onehot", rock=np.array(["slate", "", "chalk", "slate"]))
    assert [values[1] for values in found.values.values()] == [0, 0]
    assert found.notes == ["The attribute rock is missing for 1 site(s): b: these are of no category."]
    with pytest.raises(MPTTError, match=r"rock is missing or infinite for 1 site\(s\): b"):
        encode(text="onehot", rock=np.array(["slate", "", "chalk", "slate"]))


def test_text_is_left_out():
    found = encode(text="drop", rock=ROCK, area=np.arange(4.0))
    assert list(found.values) == ["area"]
    assert found.notes == ["Left out the attribute rock, which is text."]


def test_what_is_not_chosen_is_refused():
    with pytest.raises(MPTTError, match=r"rock is not numeric but text \(chalk, slate\).*attributes_text: onehot"):
        encode(rock=ROCK)
    with pytest.raises(MPTTError, match=r"slope is missing or infinite for 1 site\(s\): b.*attributes_missing"):
        encode(slope=NUMBERS)
    for missing in ("mean", "median"):
        with pytest.raises(MPTTError, match="slope is missing for every site with training data"):
            encode(missing, slope=np.array([np.nan, np.nan, np.nan, 1.0]))
