import numpy as np
import pytest
import torch

from mptt import MPTTError
from mptt.datamodules.preparing.scaling import Scaler

VALUES = torch.tensor([[1.0, 5.0, 1e6], [3.0, 5.0, 1e6 + 1], [float("nan"), 5.0, 1e6 + 2]])


def test_numbers_are_those_of_numpy_without_the_missing():
    scaler = Scaler.fit(["a", "b", "c"], VALUES)
    values = VALUES.double().numpy()
    np.testing.assert_allclose(scaler.mean, np.nanmean(values, 0))
    np.testing.assert_allclose(scaler.scale, [1.0, 1.0, np.nanstd(values, 0)[2]])


def test_constant_and_empty_variables_are_only_shifted():
    scaler = Scaler.fit(["a", "b"], torch.tensor([[0.1, float("nan")]] * 1000))
    assert scaler.scale.tolist() == [1.0, 1.0]
    assert scaler.transform(torch.tensor([[0.1, 2.0]])).tolist() == [[0.0, 2.0]]


def test_no_variables_are_a_scaler_too():
    assert Scaler.fit([], torch.empty(5, 0)).transform(torch.empty(2, 0)).shape == (2, 0)


def test_inverse_undoes_transform_and_neither_changes_its_argument():
    scaler = Scaler.fit(["a", "b", "c"], VALUES)
    values = VALUES.clone()
    there = scaler.transform(values)
    kept = there.clone()
    torch.testing.assert_close(scaler.inverse(there), VALUES, equal_nan=True)
    torch.testing.assert_close(values, VALUES, equal_nan=True, rtol=0, atol=0)
    torch.testing.assert_close(there, kept, equal_nan=True, rtol=0, atol=0)


def test_change_of_scaler_is_that_of_the_physical_values():
    one = Scaler(["a"], torch.tensor([1e5]), torch.tensor([3.0]))
    other = Scaler(["a"], torch.tensor([1e5 + 2]), torch.tensor([7.0]))
    values = torch.randn(100, 1, generator=torch.Generator().manual_seed(0))
    expected = (values.double() * 3 - 2) / 7
    torch.testing.assert_close(other.change_(values.clone(), one).double(), expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(one.change_(values.clone(), one), values)


def test_yaml_gives_back_every_bit(tmp_path):
    scaler = Scaler.fit(["SOLARMJ/m2", "b", "no"], VALUES / 7)
    scaler.save(tmp_path / "scaler.yaml")
    again = Scaler.load(tmp_path / "scaler.yaml")
    assert again.names == scaler.names
    assert torch.equal(again.mean, scaler.mean)
    assert torch.equal(again.scale, scaler.scale)


@pytest.mark.parametrize("text", ["a: 1", "a: {mean: 1}", "[1, 2]", "a: {mean: x, scale: 1}", "{", ""])
def test_files_that_hold_no_scaler(tmp_path, text):
    (tmp_path / "scaler.yaml").write_text(text)
    with pytest.raises(MPTTError, match=r"scaler.yaml is no scaler file: a line"):
        Scaler.load(tmp_path / "scaler.yaml")
    with pytest.raises(MPTTError, match="No scaler file at"):
        Scaler.load(tmp_path / "other.yaml")


@pytest.mark.parametrize(
    ("mean", "scale", "message"),
    [
        ([0.0, 0.0], [1.0, 0.0], "not so for b"),
        ([float("nan"), 0.0], [1.0, 1.0], "not so for a"),
        ([0.0, 0.0], [1.0, float("inf")], "not so for b"),
        ([0.0], [1.0], r"found shapes \(1,\) and \(1,\)"),
    ],
)
def test_numbers_that_cannot_scale(mean, scale, message):
    with pytest.raises(MPTTError, match=message):
        Scaler(["a", "b"], torch.tensor(mean), torch.tensor(scale))


def test_other_variables_are_refused():
    scaler = Scaler.fit(["a", "b", "c"], VALUES)
    assert scaler.check(["a", "b", "c"]) is scaler
    with pytest.raises(MPTTError, match=r"for \['a', 'b', 'c'\], but the data module has \['b', 'a', 'c'\]"):
        scaler.check(["b", "a", "c"])
