"""The Callback base class that both Lightning namespaces accept."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytorch_lightning as pl

# `pytorch_lightning` and `lightning.pytorch` are two copies of the same classes, and before 2.6 a Trainer takes only
# its own kind of Callback. Where both are installed, ours is of both kinds.
if TYPE_CHECKING or importlib.util.find_spec("lightning") is None:
    Callback = pl.Callback
else:
    import lightning.pytorch

    class Callback(pl.Callback, lightning.pytorch.Callback):
        """A Callback for a Trainer of either namespace."""


__all__ = ["Callback"]
