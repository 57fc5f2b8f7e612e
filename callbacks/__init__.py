"""Lightning callbacks: MPTT, and the stateful training that it is compared with."""

from mptt.callbacks.mptt import MPTTCallback
from mptt.callbacks.stateful import StatefulCallback

__all__ = ["MPTTCallback", "StatefulCallback"]
