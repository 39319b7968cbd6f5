"""The part of `librt.strings` that the codec uses, in plain Python, where there is no build of it."""

from __future__ import annotations

import struct

__all__ = ["BytesWriter", "read_i32_le", "read_i64_le", "write_i32_le", "write_i64_le"]

_I32 = struct.Struct("<i")
_I64 = struct.Struct("<q")


class BytesWriter:
    """A buffer that grows."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = bytearray()

    def append(self, x: int, /) -> None:
        """Add one byte."""
        self._data.append(x)

    def write(self, b: bytes | bytearray, /) -> None:
        """Add many bytes."""
        self._data += b

    def getvalue(self) -> bytes:
        """Everything added so far."""
        return bytes(self._data)


def write_i32_le(b: BytesWriter, n: int, /) -> None:
    """Add a 32-bit number, little-endian."""
    b.write(_I32.pack(n))


def write_i64_le(b: BytesWriter, n: int, /) -> None:
    """Add a 64-bit number, little-endian."""
    b.write(_I64.pack(n))


def read_i32_le(b: bytes, index: int, /) -> int:
    """The 32-bit number at `index`."""
    value: int = _I32.unpack_from(b, index)[0]
    return value


def read_i64_le(b: bytes, index: int, /) -> int:
    """The 64-bit number at `index`."""
    value: int = _I64.unpack_from(b, index)[0]
    return value
