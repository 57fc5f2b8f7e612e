"""Whether a NetCDF file of the classic format is whole: its library reads what was cut off as zeros.

The header is that of the classic, 64-bit offset and 64-bit data formats (docs.unidata.ucar.edu/netcdf-c, "File Format
Specifications"): big-endian numbers of 4 bytes, or 8; lists with a tag and a length; text padded to 4 bytes.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from mptt.errors import MPTTError

_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}  # of a value, by the number of its type
_STREAMING = (2**32 - 1, 2**64 - 1)  # the number of records is not known


def check_classic(path: Path) -> None:
    """Check that a classic NetCDF file is as long as its header says; other files pass.

    Raises:
        MPTTError: it is shorter.
    """
    with path.open("rb") as file:
        magic = file.read(4)
        if magic[:3] != b"CDF" or magic[3:] not in (b"\1", b"\2", b"\5"):
            return
        try:
            due = _Header(file, magic[3]).length()
        except (struct.error, KeyError, IndexError) as error:
            raise MPTTError(f"{path} is cut short, or damaged, in its header. Get an intact copy.") from error
    if (length := path.stat().st_size) < due:
        raise MPTTError(f"{path} cannot be read to its end: {length} bytes where {due} are due. Get an intact copy.")


class _Header:
    def __init__(self, file: BinaryIO, version: int) -> None:
        self.file = file
        self.count = ">Q" if version == 5 else ">I"
        self.offset = ">I" if version == 1 else ">Q"

    def length(self) -> int:
        """Bytes that the file has at least."""
        records = self._number(self.count)
        sizes = []
        for _ in range(self._list()):
            self._text()
            sizes.append(self._number(self.count))
        self._skip_attributes()
        variables = [self._variable(sizes) for _ in range(self._list())]
        ends = [begin + size for begin, size, in_records in variables if not in_records]
        growing = [(begin, size) for begin, size, in_records in variables if in_records]
        if growing and records and records not in _STREAMING:
            record = growing[0][1] if len(growing) == 1 else sum(_padded(size) for _, size in growing)
            ends += [begin + (records - 1) * record + size for begin, size in growing]
        return max(ends, default=0)

    def _variable(self, sizes: list[int]) -> tuple[int, int, bool]:
        """Where a variable begins, its bytes (of one record), and whether it grows with the records."""
        self._text()
        dims = [sizes[self._number(self.count)] for _ in range(self._number(self.count))]
        self._skip_attributes()
        size = _BYTES[self._number(">I")]
        self._number(self.count)
        in_records = bool(dims) and dims[0] == 0
        for length in dims[1:] if in_records else dims:
            size *= length
        return self._number(self.offset), size, in_records

    def _skip_attributes(self) -> None:
        for _ in range(self._list()):
            self._text()
            width = _BYTES[self._number(">I")]
            self.file.seek(_padded(width * self._number(self.count)), 1)

    def _list(self) -> int:
        self._number(">I")
        return self._number(self.count)

    def _text(self) -> None:
        self.file.seek(_padded(self._number(self.count)), 1)

    def _number(self, form: str) -> int:
        (number,) = struct.unpack(form, self.file.read(struct.calcsize(form)))
        return int(number)


def _padded(size: int) -> int:
    return -(-size // 4) * 4
