"""Messages and states on their way between a memory on the host and a model on a GPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Offload:
    """Carries messages to a model's device, and its states to the host, without the GPU waiting for either.

    On a GPU, states leave on a stream of their own and are filed by the next `settle`, which alone waits for them;
    messages leave from pinned memory. On a CPU the same is done without streams.

    Args:
        device: of the model.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._messages = _Staging(self._stream is not None)
        self._states = _Staging(self._stream is not None)
        self._pending: Callable[[], None] | None = None

    def fetch(self, messages: Tensor) -> Tensor:
        """A copy of messages (K, S) on the device."""
        staged = self._messages.take(messages.shape, messages.dtype)
        staged.copy_(messages)
        if self._stream is None:
            return staged.clone()
        # On the model's own stream: what comes next there reads them.
        with torch.cuda.device(self.device):
            found = staged.to(self.device, non_blocking=True)
            self._messages.release(torch.cuda.current_stream())
        return found

    def send(self, states: Tensor, file: Callable[[Tensor], None]) -> None:
        """Let states (K, S) leave for the host, to be filed by the next `settle`.

        Args:
            states: on the device, and not written to after this.
            file: takes them, on the host; what it is given is good during the call only.
        """
        self.settle()
        staged = self._states.take(states.shape, states.dtype)
        if self._stream is None:
            staged.copy_(states)
        else:
            self._stream.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(self._stream):
                staged.copy_(states, non_blocking=True)
            # The allocator must not give their room away before they have left.
            states.record_stream(self._stream)
            self._states.release(self._stream)

        def arrive() -> None:
            self._states.wait()
            file(staged)

        self._pending = arrive

    def settle(self) -> None:
        """File what was sent."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending()


class _Staging:
    """A buffer of host memory that is used over and over, never before the copy that last used it is done."""

    def __init__(self, pinned: bool) -> None:
        self._pinned = pinned
        self._buffer = torch.empty(0, dtype=torch.uint8)
        self._done: torch.cuda.Event | None = None

    def take(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """The buffer as a tensor, once it is free."""
        self.wait()
        size = shape.numel() * dtype.itemsize
        if len(self._buffer) < size:
            # Some more, or batches that differ by little would each make a new one.
            self._buffer = torch.empty(size + size // 4, dtype=torch.uint8, pin_memory=self._pinned)
        return self._buffer[:size].view(dtype).view(shape)

    def release(self, stream: torch.cuda.Stream) -> None:
        """Free it once what the stream has been given is done."""
        self._done = torch.cuda.Event()
        self._done.record(stream)

    def wait(self) -> None:
        """Wait until it is free."""
        if self._done is not None:
            self._done.synchronize()
            self._done = None
