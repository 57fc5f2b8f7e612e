"""The DataModule base class that both Lightning namespaces accept."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytorch_lightning as pl

# `pytorch_lightning` and `lightning.pytorch` are two copies of the same classes, and a Trainer takes only its own
# kind of DataModule. Where both are installed, ours is of both kinds.
if TYPE_CHECKING or importlib.util.find_spec("lightning") is None:
    LightningDataModule = pl.LightningDataModule
else:
    import lightning.pytorch

    class LightningDataModule(pl.LightningDataModule, lightning.pytorch.LightningDataModule):
        """A DataModule for a Trainer of either namespace."""


__all__ = ["LightningDataModule"]
