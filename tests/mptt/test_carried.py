import numpy as np
import pytest
import torch

from mptt import MPTTError
from mptt.carried import CarriedState


def ints(*values):
    return np.array(values, dtype=np.int64)


def carried():
    kept = CarriedState(2)
    kept.keep(ints(4, 1), ints(40, 10), ints(7, 9), torch.tensor([[0.4, 4.0], [0.1, 1.0]]))
    return kept


def test_carried_states_go_on_after_being_saved(tmp_path):
    torch.save(carried().state_dict(), tmp_path / "carried.pt")
    restored = CarriedState(2)
    restored.load_state_dict(torch.load(tmp_path / "carried.pt", weights_only=True))
    for mine, theirs in zip(restored.kept(), carried().kept(), strict=True):
        assert mine.tolist() == theirs.tolist()
    assert restored.kept()[0].tolist() == [10, 40]
    assert restored.continues(ints(1, 4, 4), ints(10, 40, 40), ints(9, 7, 8)).tolist() == [True, True, False]


def test_carried_states_of_another_size_are_refused_and_nothing_is_changed():
    kept = carried()
    with pytest.raises(MPTTError, match=r"saved states have 3 numbers, but here 2\."):
        kept.load_state_dict(CarriedState(3).state_dict())
    assert kept.stop(ints(4, 1)).tolist() == [7, 9]


def test_a_lane_that_does_not_go_on_starts_from_the_fresh_state_given():
    fresh = torch.tensor([8.0, 9.0])
    read = carried().read(ints(1, 4), ints(10, 40), ints(9, 0), fresh)
    assert read.tolist() == [pytest.approx([0.1, 1.0]), [8, 9]]
    assert CarriedState(2).read(ints(0, 1), ints(0, 1), ints(0, 0), fresh).tolist() == [[8, 9], [8, 9]]
