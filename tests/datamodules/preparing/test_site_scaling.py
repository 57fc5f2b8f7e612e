import pytest
import torch

from mptt import MPTTError
from mptt.datamodules.preparing.scaling import Scaler
from mptt.datamodules.preparing.site_scaling import SiteScaler


def scaler():
    mean, scale = (
        torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]),
        torch.tensor([[1.0, 2.0], [4.0, 8.0], [0.5, 5]]),
    )
    return SiteScaler(["flow", "snow"], ["a", "b", "c"], mean, scale)


@pytest.mark.parametrize("shape", [(2, 2), (2, 7, 2), (2, 3, 5, 2)])
def test_each_row_has_the_numbers_of_its_site(shape):
    ones = torch.ones(shape)
    physical = scaler().inverse(ones, torch.tensor([2, 0]))
    assert torch.equal(physical[0], torch.tensor([3.5, 35.0]).expand(shape[1:]))
    assert torch.equal(physical[1], torch.tensor([2.0, 12.0]).expand(shape[1:]))
    assert torch.equal(scaler().transform(physical, torch.tensor([2, 0])), ones)


def test_sites_must_be_said():
    with pytest.raises(MPTTError, match="say which sites the rows of values are of"):
        scaler().inverse(torch.ones(2, 3, 2))


def test_it_is_made_of_scalers_and_falls_apart_into_them():
    again = SiteScaler.of(["a", "b", "c"], [scaler().at(site) for site in range(3)])
    assert torch.equal(again.mean, scaler().mean)
    assert torch.equal(again.scale, scaler().scale)


def test_sites_are_found_by_name():
    spread = scaler().spread(["c", "d", "a"], needed=["a", "c"])
    assert spread.sites == ["c", "d", "a"]
    assert spread.mean[[0, 2]].tolist() == [[3.0, 30.0], [1.0, 10.0]]
    assert [spread.knows(site) for site in range(3)] == [True, False, True]
    assert spread.state_dict()["sites"] == ["c", "a"], "a site without numbers is not kept"
    for one in (scaler(), spread):
        with pytest.raises(MPTTError, match=r"no numbers for 1 site\(s\): d.*target_scaling=\"global\""):
            one.spread(["a", "d"], needed=["a", "d"])


def test_yaml_gives_back_every_bit(tmp_path):
    one = SiteScaler(["q"], ["01", "x/y"], torch.rand(2, 1) / 7, torch.rand(2, 1) / 3)
    one.save(tmp_path / "scaler.yaml")
    again = SiteScaler.load(tmp_path / "scaler.yaml")
    assert (again.names, again.sites) == (one.names, one.sites)
    assert torch.equal(again.mean, one.mean)
    assert torch.equal(again.scale, one.scale)


@pytest.mark.parametrize("text", ["a: {mean: 1, scale: 1}", "a: {q: {mean: 1}}", "[1]", "{", "", "{}", "a: 1"])
def test_files_that_hold_none(tmp_path, text):
    (tmp_path / "scaler.yaml").write_text(text)
    with pytest.raises(MPTTError, match="is no file of a scaler by site"):
        SiteScaler.load(tmp_path / "scaler.yaml")
    Scaler.fit(["q"], torch.rand(5, 1)).save(tmp_path / "global.yaml")
    with pytest.raises(MPTTError, match="is no file of a scaler by site"):
        SiteScaler.load(tmp_path / "global.yaml")
    with pytest.raises(MPTTError, match="No scaler file at"):
        SiteScaler.load(tmp_path / "other.yaml")


def test_numbers_that_cannot_scale():
    with pytest.raises(
        MPTTError, match="A scaler needs finite means and finite scales above 0; not so for q of site b"
    ):
        SiteScaler(["q"], ["a", "b"], torch.zeros(2, 1), torch.tensor([[1.0], [0.0]]))
    with pytest.raises(MPTTError, match=r"1 site\(s\) and 1 variable\(s\) has .* found shapes \(2, 1\)"):
        SiteScaler(["q"], ["a"], torch.zeros(2, 1), torch.ones(2, 1))
