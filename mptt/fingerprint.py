"""A checksum of tensors by name, which tells whether two models, or two scalers, are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def fingerprint(tensors: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of names, dtypes, shapes and numbers, whatever the order and the device.

    Values that are no tensors count as they are printed. The names that `torch.compile` gives are those of before it.

    Example:
        >>> fingerprint({"a": torch.ones(2)}) == fingerprint({"a": torch.ones(2, requires_grad=True)})
        True
        >>> fingerprint({"a": torch.ones(2)}) == fingerprint({"a": torch.zeros(2)})
        False
    """
    found = hashlib.sha256()
    for name, value in sorted((name.replace("_orig_mod.", ""), value) for name, value in tensors.items()):
        if isinstance(value, Tensor):
            value = value.detach().cpu().contiguous()
            found.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
            found.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
        else:
            found.update(f"{name} {value!r} ".encode())
    return found.hexdigest()[:16]
