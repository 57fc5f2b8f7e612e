import pytest
import torch

from mptt import StateMap, WindowIndex
from mptt.offload import Offload

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]
WINDOWS = WindowIndex.cut([300], window=12, stride=6)  # two writers of a row at most: sums of two have no order


@pytest.fixture(params=DEVICES)
def device(request):
    return torch.device(request.param)


def test_messages_fetched_are_on_the_device_and_keep_their_values(device):
    offload = Offload(device)
    sent = [torch.randn(rows, 3, dtype=dtype) for rows in (4, 2, 90, 4) for dtype in (torch.float32, torch.bfloat16)]
    found = [offload.fetch(messages) for messages in sent]
    assert {one.device.type for one in found} == {device.type}
    for one, messages in zip(found, sent, strict=True):
        assert one.dtype == messages.dtype
        assert torch.equal(one.cpu(), messages)


def test_what_was_fetched_does_not_change_with_what_it_was_made_of(device):
    messages = torch.ones(2, 3)
    found = Offload(device).fetch(messages)
    messages.zero_()
    assert found.sum() == 6


def test_states_are_filed_when_settled_and_only_then_and_once(device):
    offload, filed = Offload(device), []
    offload.send(torch.full((2, 3), 5.0, device=device), lambda states: filed.append(states.clone()))
    assert filed == []
    offload.settle()
    offload.settle()
    assert [one.device.type for one in filed] == ["cpu"]
    assert filed[0].tolist() == [[5, 5, 5], [5, 5, 5]]


def test_sending_again_files_what_was_sent_before_and_in_its_order(device):
    offload, filed = Offload(device), []
    for value, rows in ((1.0, 2), (2.0, 50), (3.0, 1)):
        offload.send(torch.full((rows, 3), value, device=device), lambda states: filed.append(states.clone()))
    assert [one[0, 0].item() for one in filed] == [1, 2]
    offload.settle()
    assert [(len(one), one.mean().item()) for one in filed] == [(2, 1), (50, 2), (1, 3)]


def test_nothing_sent_is_nothing_to_file():
    Offload(torch.device("cpu")).settle()


def test_a_filing_that_fails_is_not_tried_again(device):
    def fail(states):
        raise RuntimeError("no")

    offload = Offload(device)
    offload.send(torch.zeros(1, 1, device=device), fail)
    with pytest.raises(RuntimeError, match="no"):
        offload.settle()
    offload.settle()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_memory_on_the_host_gives_what_one_on_the_gpu_does_bit_for_bit(dtype):
    there, here, offload = StateMap(WINDOWS, 16, device="cuda", dtype=dtype), StateMap(WINDOWS, 16, dtype=dtype), None
    offload = Offload(torch.device("cuda"))
    for epoch in range(3):
        for ids in torch.randperm(len(WINDOWS)).split(8):
            _, target, _ = here.keymap.links(ids)
            states = torch.randn(len(target), 16, device="cuda")
            offload.settle()
            assert torch.equal(offload.fetch(here.read_rows(ids)), there.read_rows(ids))
            there.write_rows(target, states)
            offload.send(states, lambda filed, rows=target: here.write_rows(rows, filed))
        offload.settle()
        if epoch < 2:
            here.propagate()
            there.propagate()
    for name in ("mu", "mean", "count"):
        assert torch.equal(getattr(here, name), getattr(there, name).cpu()), name
