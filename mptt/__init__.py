"""Message Propagation Through Time (arXiv 2309.16882): the method, in torch and numpy.

`WindowIndex` says which windows there are, `KeyMap` which windows each of them writes to,
`StateMap` holds the messages. `mptt.callbacks` puts them into a Lightning Trainer,
`mptt.datamodules` reads climate series, `mptt.experiments` is the command line.
"""

from mptt.errors import MPTTError, MPTTWarning
from mptt.keymap import KeyMap
from mptt.statemap import StateMap
from mptt.timeline import Timeline
from mptt.windows import WindowIndex

__all__ = ["KeyMap", "MPTTError", "MPTTWarning", "StateMap", "Timeline", "WindowIndex"]
