"""Lightning callbacks: MPTT, the ways of training that it is compared with, and the ways of inference."""

from mptt.callbacks.checkpoints import WholeCheckpointIO, read_checkpoint
from mptt.callbacks.closedloop import ClosedLoopCallback
from mptt.callbacks.conditional import ConditionalCallback
from mptt.callbacks.horizon import HorizonCallback
from mptt.callbacks.initial import InitialStateCallback, LearnedInitialStateCallback, NoisyInitialStateCallback
from mptt.callbacks.limit import StepLimit
from mptt.callbacks.mptt import MPTTCallback
from mptt.callbacks.quality import MessageQuality
from mptt.callbacks.sampling import ScheduledSamplingCallback
from mptt.callbacks.sequential import SequentialStatefulCallback
from mptt.callbacks.stateful import StatefulCallback
from mptt.callbacks.states import open_states

__all__ = [
    "ClosedLoopCallback",
    "ConditionalCallback",
    "HorizonCallback",
    "InitialStateCallback",
    "LearnedInitialStateCallback",
    "MPTTCallback",
    "MessageQuality",
    "NoisyInitialStateCallback",
    "ScheduledSamplingCallback",
    "SequentialStatefulCallback",
    "StatefulCallback",
    "StepLimit",
    "WholeCheckpointIO",
    "open_states",
    "read_checkpoint",
]
