"""Checkpoints that are whole or not there, and that run nothing when they are read."""

from __future__ import annotations

import errno
import importlib.metadata
import importlib.util
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import fsspec
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import nn
from torch.nn.parameter import is_lazy

from mptt.errors import MPTTError
from mptt.files import written_whole

# As in `mptt.callbacks.namespaces`: where both copies of Lightning are installed, ours is of both kinds.
if TYPE_CHECKING or importlib.util.find_spec("lightning") is None:
    _CheckpointIO = TorchCheckpointIO
else:
    from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO as _OtherCheckpointIO

    class _CheckpointIO(TorchCheckpointIO, _OtherCheckpointIO):
        """For a Trainer of either namespace."""


_LIGHTNINGS = ("state_dict", "epoch", "global_step", "pytorch-lightning_version")


class WholeCheckpointIO(_CheckpointIO):
    """Writes checkpoints whole or not at all, and reads only tensors and plain values.

    Lightning's own puts a checkpoint together in the system's temporary folder and moves it: where that is another disk
    (in containers and on clusters it often is), a process that is killed leaves half a file under the final name.
    The command line uses this one; give it to a Trainer of your own.

    Args:
        module: that checkpoints are read for; one of another network is refused with what is different.

    Example:
        >>> import pytorch_lightning as pl
        >>> trainer = pl.Trainer(plugins=[WholeCheckpointIO()], logger=False)
    """

    def __init__(self, module: nn.Module | None = None) -> None:
        super().__init__()
        self._module = module

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint, at an address as Lightning does.

        Raises:
            MPTTError: it cannot be written; that of before is kept.
        """
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with written_whole(path) as draft, draft.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # torch's own, in place of what the file said
                raise _write_error(error, draft.parent) from error

    def load_checkpoint(
        self, path: str | Path, map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint: see `read_checkpoint`.

        Raises:
            MPTTError: it cannot be read, is of another network, or all that it holds is asked for.
        """
        if weights_only is False:
            raise MPTTError(
                f"{path} is not read with weights_only=False, which would run whatever is in the file. Leave that out;"
                " for a file that you trust, use a Trainer without WholeCheckpointIO."
            )
        checkpoint = read_checkpoint(path, map_location or "cpu")
        if self._module is not None:
            check_network(path, checkpoint["state_dict"], self._module)
        return checkpoint


def read_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint of Lightning: tensors and plain values, and nothing in it is run.

    Its checksums are checked first, which torch does not do.

    Args:
        path: of the file, or an address that fsspec knows.
        map_location: see `torch.load`.

    Raises:
        MPTTError: nothing there, cut short, damaged, another program's, or with objects that would run code.
    """
    try:
        with fsspec.open(str(path), "rb") if "://" in str(path) else open(path, "rb") as file:
            _check_archive(path, file)
            file.seek(0)
            checkpoint = torch.load(file, map_location=map_location, weights_only=True)
    except MPTTError:
        raise
    except OSError as error:
        raise MPTTError(f"The checkpoint {path} cannot be read: {error.strerror or error}.") from error
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f" ({named[1]})" if named else ""
        raise MPTTError(
            f"{path} holds Python objects{what} besides tensors and plain values, so it is not read, and nothing in it"
            " was run. If it is a checkpoint of your own, keep such objects out of hyperparameters and of the states of"
            " callbacks; if it is not, do not use it."
        ) from error
    except Exception as error:  # a damaged file fails in as many ways as there are bytes in it
        raise _damaged(path, f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}") from error
    lacking = [key for key in _LIGHTNINGS if not isinstance(checkpoint, dict) or key not in checkpoint]
    if lacking:
        raise MPTTError(
            f"{path} is no checkpoint of Lightning: it lacks {', '.join(lacking)}. Give one that a Trainer wrote, such"
            " as RUN/checkpoints/last.ckpt."
        )
    return dict(checkpoint)


def check_network(path: str | Path, weights: Mapping[str, Any], module: nn.Module) -> None:
    """Check that the weights of a checkpoint are of the network that is there.

    A module with an `on_load_checkpoint` of its own, which may change them, or with `strict_loading=False` passes.

    Args:
        path: of the checkpoint.
        weights: its `state_dict`.
        module: that takes them.

    Raises:
        MPTTError: names or shapes are others.
    """
    hook = getattr(type(module), "on_load_checkpoint", None)
    own = hook is not None and not hook.__module__.startswith(("pytorch_lightning.", "lightning."))
    if own or getattr(module, "strict_loading", True) is False:
        return
    here = {
        name: one for name, one in module.state_dict().items() if isinstance(one, torch.Tensor) and not is_lazy(one)
    }
    there = {name: one for name, one in weights.items() if isinstance(one, torch.Tensor)}
    odd = [
        f"{name} is {tuple(one.shape)} there, {tuple(here[name].shape)} here"
        for name, one in there.items()
        if name in here and one.shape != here[name].shape
    ]
    known = module.state_dict().keys()
    odd += [f"{name} {tuple(one.shape)} is only there" for name, one in there.items() if name not in known]
    odd += [f"{name} {tuple(one.shape)} is only here" for name, one in here.items() if name not in weights]
    if odd:
        more = f" and {len(odd) - 5} more" if len(odd) > 5 else ""
        raise MPTTError(
            f"The checkpoint {path} is of another network than this {type(module).__name__}:"
            f" {'; '.join(odd[:5])}{more}. Give the settings that it was trained with, of units, layers, inputs and"
            " targets (config.yaml of its run has them), or train anew."
        )


@contextmanager
def in_our_form(what: str) -> Iterator[None]:
    """Say so where what a checkpoint holds is not in the form in which this version keeps it.

    Args:
        what: "memory of MPTT" or the like.

    Raises:
        MPTTError: taking it over failed.
    """
    try:
        yield
    except MPTTError:
        raise
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise MPTTError(
            f"The {what} in the checkpoint is not in the form in which mptt {importlib.metadata.version('mptt')} keeps"
            f" it ({type(error).__name__}: {error}): another version wrote it, or it was changed. Go on with the"
            " version that wrote it (versions.yaml of a run names it), or begin anew."
        ) from error


def _check_archive(path: str | Path, file: BinaryIO) -> None:
    """See that a file is an archive as torch writes it, down to the last bit.

    Of other files some versions of torch run what is in them, whatever they are asked.
    """
    if not file.read(1):
        raise MPTTError(
            f"The checkpoint {path} is empty: what wrote it was cut off. Use another one, as best.ckpt or last.ckpt"
            " beside it, or begin anew."
        )
    file.seek(0)
    if file.read(4) != b"PK\x03\x04":
        raise MPTTError(
            f"{path} is no checkpoint: it does not begin as a file of torch does. Nothing in it was run. Give one that"
            " a Trainer wrote, such as RUN/checkpoints/last.ckpt."
        )
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise MPTTError(f"{path} is a packed archive, which no checkpoint is. Nothing in it was run.")
            broken = archive.testzip()
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, MPTTError):
            raise
        raise _damaged(path, str(error)) from error
    if broken is not None:
        raise _damaged(path, f"the checksum of {broken} is another")
    names = {entry.filename.rpartition("/")[2] for entry in entries}
    if "data.pkl" not in names or "constants.pkl" in names:
        raise MPTTError(
            f"{path} is an archive of another kind than checkpoints are (it holds"
            f" {', '.join(sorted(names)[:5]) or 'nothing'}). Nothing in it was run. Give one that a Trainer wrote."
        )


def _damaged(path: str | Path, why: str) -> MPTTError:
    return MPTTError(
        f"The checkpoint {path} is cut short or damaged ({why}). Use another one, as best.ckpt or last.ckpt beside it,"
        " get an intact copy, or begin anew."
    )


def _write_error(error: RuntimeError, folder: Path) -> OSError:
    """What the file said, where torch kept it; else by how much room there is."""
    said: BaseException | None = error
    while said is not None:
        if isinstance(said, OSError):
            return said
        said = said.__cause__ or said.__context__
    full = shutil.disk_usage(folder).free < 1 << 20
    return OSError(errno.ENOSPC, "No space left on device") if full else OSError(str(error).partition("\n")[0])
