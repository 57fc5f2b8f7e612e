import pytest
from hypothesis import given
from hypothesis import strategies as st

from mptt import MPTTError
from mptt.datamodules.preparing.parts import PARTS
from mptt.datamodules.preparing.site_split import split_sites

SITES = [f"{number:08d}" for number in (7, 3, 1, 9, 5, 2, 8, 4, 6, 0)]


def test_ids_come_in_the_order_of_the_data_set_from_lists_and_files(tmp_path):
    (tmp_path / "test.txt").write_bytes(b"\xef\xbb\xbf00000009\r\n00000007\r\n\r\n")
    chosen = split_sites(
        SITES, {"train": ["00000001", "00000003"], "validation": ["00000005"], "test": str(tmp_path / "test.txt")}
    )
    assert chosen == {"train": [SITES[1], SITES[2]], "validation": [SITES[4]], "test": [SITES[0], SITES[3]]}


@given(st.permutations(SITES), st.integers(0, 5), st.sampled_from([[0.5, 0.2, 0.3], [0.4, 0.1, 0.2]]))
def test_fractions_do_not_depend_on_the_order_of_the_sites(sites, seed, shares):
    chosen = split_sites(sites, {"fractions": shares, "seed": seed})
    assert [len(chosen[part]) for part in PARTS] == [int(10 * share) for share in shares]
    assert len({site for part in PARTS for site in chosen[part]}) == round(10 * sum(shares))
    again = split_sites(SITES, {"fractions": shares, "seed": seed})
    assert {part: set(ids) for part, ids in chosen.items()} == {part: set(ids) for part, ids in again.items()}


def test_seeds_shuffle_and_fractions_alone_have_seed_0():
    test = [set(split_sites(SITES, {"fractions": [0.5, 0.2, 0.3], "seed": seed})["test"]) for seed in range(5)]
    assert len({frozenset(sites) for sites in test}) > 1
    assert split_sites(SITES, [0.5, 0.2, 0.3]) == split_sites(SITES, {"fractions": [0.5, 0.2, 0.3], "seed": 0})


@pytest.mark.parametrize("folds", [2, 3, 10])
def test_every_site_tests_in_one_fold(folds):
    tested = []
    for fold in range(folds):
        chosen = split_sites(SITES, {"folds": folds, "fold": fold, "validation": 0.25, "seed": 3})
        tested += chosen["test"]
        others = len(SITES) - len(chosen["test"])
        assert len(chosen["validation"]) == max(round(others * 0.25), 1)
        assert sorted(site for part in PARTS for site in chosen[part]) == sorted(SITES)
        assert abs(len(chosen["test"]) - len(SITES) / folds) < 1
    assert sorted(tested) == sorted(SITES)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"train": ["x"], "validation": [], "test": []}, "names for train 1 .* the data set does not have: x"),
        ({"train": [SITES[0]] * 2, "validation": [], "test": []}, "for train more than once: 00000007"),
        ({"train": SITES[:3], "validation": SITES[4:6], "test": SITES[2:4]}, "both train and test: 00000001"),
        ({"train": SITES[:3], "validation": [], "test": SITES[5:]}, "leaves no site for validation"),
        ({"train": [7], "validation": [], "test": []}, r"in YAML with the quotes.*found \[7\]"),
        ({"train": "none.txt", "validation": [], "test": []}, "site_split, train: no list of sites at none.txt"),
        ({"train": SITES[:3], "test": SITES[5:]}, "site_split is {train"),
        ({"folds": 5}, "site_split is {train"),
        ([0.5, 0.5], "fractions of site_split are three"),
        ([0.5, 0.6, 0.1], "that sum to at most 1"),
        ([0.9, 0.05, 0.05], "leaves no site for validation"),
        ({"fractions": [0.5, 0.2, 0.3], "seed": -1}, "seed of site_split is a whole number"),
        ({"folds": 5, "fold": 5, "validation": 0.1}, r"Fold 5 of 5 \(numbered from 0\)"),
        ({"folds": 11, "fold": 5, "validation": 0.1}, r"is none of 10 site\(s\)"),
        ({"folds": 1, "fold": 0, "validation": 0.1}, "folds of site_split is a whole number, at least 2"),
        ({"folds": 5, "fold": 0, "validation": 0}, "a fraction of the other folds' sites; found 0"),
    ],
)  # fmt: skip
def test_splits_that_cannot_be(split, message):
    with pytest.raises(MPTTError, match=message):
        split_sites(SITES, split)


def test_folds_validate_on_a_tenth_of_the_other_sites_by_default():
    sites = [str(site) for site in range(50)]
    assert split_sites(sites, {"folds": 5, "fold": 0}) == split_sites(
        sites, {"folds": 5, "fold": 0, "validation": 0.1, "seed": 0}
    )
    assert {part: len(names) for part, names in split_sites(sites, {"folds": 5, "fold": 0}).items()} == {
        "train": 36,
        "validation": 4,
        "test": 10,
    }
