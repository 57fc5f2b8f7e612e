import torch

from mptt.fingerprint import fingerprint

OF = {"a": torch.tensor([1.0, 2.0]), "b": 3}


def test_the_same_tensors_have_one_fingerprint_whatever_the_order_and_the_name_torch_compile_gives():
    assert fingerprint(OF) == fingerprint({"b": 3, "_orig_mod.a": OF["a"].clone().requires_grad_()})
    assert len(fingerprint(OF)) == 16


def test_any_difference_shows():
    others = [
        {"a": torch.tensor([1.0, 2.5]), "b": 3},
        {"a": torch.tensor([[1.0, 2.0]]), "b": 3},
        {"a": OF["a"].view(torch.int32), "b": 3},
        {"c": OF["a"], "b": 3},
        {"a": OF["a"], "b": "3"},
        {"a": OF["a"]},
    ]
    assert len({fingerprint(one) for one in [OF, *others]}) == 7
