"""Whether a NetCDF-4 file can be read without an end of the program: tried in a process of its own first.

The library below NetCDF-4, HDF5, crashes on some damaged files, or never comes back; nothing in Python can refuse that.
One process goes through the files, ahead of the program, and is begun anew past a file that ended it.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from mptt.errors import MPTTError

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_AHEAD = 16  # files that are being tried while the program reads
SECONDS, BYTES_A_SECOND = 30.0, 2_000_000  # patience with a file: so long, and its size by so many
_START = "import sys, runpy; path, *sys.path = sys.argv[1:]; runpy.run_path(path, run_name='__main__')"

_Request = tuple[str, tuple[str, ...] | None]  # path, names
_Stamp = tuple[int, int]


def check_hdf5(path: Path, names: Collection[str] | None = None) -> None:
    """Check that opening and reading a NetCDF-4 file does not end the program, once for each; other files pass.

    Errors that the library does report are left to who reads. Of files over 256 MiB, only the first and the last value
    of each variable are read.

    Args:
        path: of the file.
        names: variables whose values will be read; by default all.

    Raises:
        MPTTError: it does.
    """
    if is_hdf5(path):
        _trial().check(_request(path, names))


def expect_hdf5(paths: Iterable[Path], names: Collection[str] | None = None) -> None:
    """Say which files will be read, in this order: they are tried ahead."""
    _trial().expect(_request(path, names) for path in paths)


def know_hdf5(path: Path) -> None:
    """Say that a file is whole: this process has just written it."""
    _trial().know(_request(path, None))


def is_hdf5(path: Path) -> bool:
    """Whether a file begins as HDF5 does, be it after a block of a user's own."""
    with path.open("rb") as file:
        size, at = os.fstat(file.fileno()).st_size, 0
        while at < size:
            file.seek(at)
            if file.read(len(_SIGNATURE)) == _SIGNATURE:
                return True
            at = max(512, 2 * at)
    return False


class _Trial:
    """A process that tries files, and what became of each as long as its size and date are the same."""

    def __init__(self) -> None:
        self._coming: deque[_Request] = deque()
        self._sent: deque[_Request] = deque()
        self._found: dict[_Request, tuple[_Stamp, str]] = {}
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str] = queue.Queue()
        self._lock = threading.Lock()

    def expect(self, requests: Iterable[_Request]) -> None:
        with self._lock:
            self._coming = deque(requests)

    def know(self, request: _Request) -> None:
        self._found[request] = _stamp(request), ""

    def check(self, request: _Request) -> None:
        with self._lock:
            if self._known(request) is None:
                self._send(request)
                while self._known(request) is None:
                    self._send_ahead()
                    self._take_answer()
            if why := self._known(request):
                raise MPTTError(
                    f"{request[0]} is damaged: the HDF5 library, which reads NetCDF-4, {why}. Get an intact copy."
                )

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _known(self, request: _Request) -> str | None:
        stamp, why = self._found.get(request, (None, None))
        return why if stamp == _stamp(request) else None

    def _send_ahead(self) -> None:
        while self._coming and len(self._sent) < _AHEAD:
            request = self._coming.popleft()
            if request not in self._found:
                self._send(request)

    def _send(self, request: _Request) -> None:
        if request not in self._sent:
            self._sent.append(request)
            self._write(request)

    def _write(self, request: _Request) -> None:
        stdin = self._running().stdin
        assert stdin is not None
        with suppress(OSError):  # it ended; which file did that, the answers say
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()

    def _take_answer(self) -> None:
        """Wait until the first file that was sent is tried; past one that ended the process, begin another."""
        request, process = self._sent[0], self._running()
        stamp = _stamp(request)
        patience = SECONDS + stamp[0] / BYTES_A_SECOND
        try:
            answer = self._answers.get(timeout=patience)
            why = "" if answer else f"ends the program that reads it ({_ending(process.wait())})"
        except queue.Empty:
            answer, why = "", f"does not come back from it within {patience:.0f} seconds"
        self._found[self._sent.popleft()] = stamp, why
        if not answer:
            self.end()
            for left in self._sent:
                self._write(left)

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._process, self._answers = _begin(), queue.Queue()
            threading.Thread(target=_listen, args=(self._process, self._answers), daemon=True).start()
        return self._process


def _begin() -> subprocess.Popen[str]:
    """The process, once it says that it began.

    Raises:
        MPTTError: it did not.
    """
    child = Path(__file__).with_name("hdf5child.py")
    process = subprocess.Popen(
        # Without what Python does for a program of its own, it begins in half the time.
        [sys.executable, "-SE", "-c", _START, str(child), *sys.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        start_new_session=True,  # Ctrl-C is for the program
    )
    assert process.stdout is not None
    if not process.stdout.readline():
        raise MPTTError(
            f"NetCDF-4 files are tried in a process of its own, and it did not begin ({_ending(process.wait())})."
            " See that netCDF4 can be imported."
        )
    return process


def _listen(process: subprocess.Popen[str], answers: queue.Queue[str]) -> None:
    assert process.stdout is not None
    with suppress(ValueError):  # closed
        for line in process.stdout:
            answers.put(line)
    answers.put("")


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _request(path: Path, names: Collection[str] | None) -> _Request:
    return str(path.absolute()), None if names is None else tuple(sorted(names))


def _stamp(request: _Request) -> _Stamp:
    try:
        about = os.stat(request[0])
    except OSError:
        return -1, -1
    return about.st_size, about.st_mtime_ns


def _trial() -> _Trial:
    """That of this process: one that was forked has none of its own yet."""
    if os.getpid() not in _TRIALS:
        _TRIALS[os.getpid()] = trial = _Trial()
        atexit.register(trial.end)
    return _TRIALS[os.getpid()]


_TRIALS: dict[int, _Trial] = {}
