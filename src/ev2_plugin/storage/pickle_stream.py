"""Where a pickle ends, and whether what it says of itself can be true, before anything is read from it.

The unpickler believes what a pickle says: a length of a text, a place in its memo. Damage can turn five bytes into a
request for 64 GB. The instructions are therefore walked through first, without being followed.
"""

from __future__ import annotations

import mmap
import re
import struct

Buffer = bytes | mmap.mmap

STOP = ord(".")
LONG_BINPUT = ord("r")
PUT = ord("p")
# Instructions of fixed length, in runs that the regular expression engine skips quickly.
_FIXED = re.compile(rb"(?:[(012NRQabd}el\]st)u\x81\x85-\x89\x8f-\x94]|[Khq\x80].|M..|[Jj]....|G........){1,400}", re.S)
_COUNTED = {  # code: format of the length that stands before the content
    **dict.fromkeys(b"UC\x8a\x8c", struct.Struct("<B")),
    **dict.fromkeys(b"TXB", struct.Struct("<I")),
    ord("\x8b"): struct.Struct("<i"),
    **dict.fromkeys(b"\x8d\x8e\x96", struct.Struct("<Q")),
}
_FRAME = ord("\x95")
_LINES = {**dict.fromkeys(b"FILSVgp", 1), ord("c"): 2}


class Damaged(ValueError):
    """The bytes are no pickle, or not a whole one."""


def end_of_pickle(data: Buffer, start: int = 0) -> int:
    """Find where the pickle that begins at `start` ends.

    Args:
        data: What holds the pickle; a memory map will do.
        start: Place of its first byte.

    Returns:
        The place after its last byte.

    Raises:
        Damaged: If it has no end, a length leads beyond the data, or an instruction is of no use for data (persistent
            names in text, the extension registry, buffers outside the pickle, instances of Python 2).
    """
    place, size = start, len(data)
    while True:
        if skipped := _FIXED.match(data, place):
            place = skipped.end()
        if place >= size:
            raise Damaged("it is cut off")
        code = data[place]
        place += 1
        if code == STOP:
            return place
        if code in _COUNTED:
            place = _after_counted(data, place, _COUNTED[code])
        elif code == LONG_BINPUT:
            _check_memo(_number(data, place, struct.Struct("<I")), place - start)
            place += 4
        elif code == _FRAME:
            _after_counted(data, place, struct.Struct("<Q"))  # the frame's content is instructions again
            place += 8
        elif code in _LINES:
            for _ in range(_LINES[code]):
                line, place = _line(data, place)
            if code == PUT:
                _check_memo(int(line) if line.isdigit() and len(line) < 20 else size, place - start)
        elif not _FIXED.match(data, place - 1):  # the run before may have ended for its length alone
            raise Damaged(f"it has an instruction {bytes([code])!r} at byte {place - 1}, which data has no use for")
        else:
            place -= 1


def _number(data: Buffer, place: int, form: struct.Struct) -> int:
    try:
        number: int = form.unpack_from(data, place)[0]
    except struct.error:
        raise Damaged("it is cut off") from None
    return number


def _after_counted(data: Buffer, place: int, form: struct.Struct) -> int:
    length = _number(data, place, form)
    end = place + form.size + length
    if length < 0 or end > len(data):
        raise Damaged(f"it counts {length} bytes where {len(data) - place - form.size} are left")
    return end


def _check_memo(index: int, instructions: int) -> None:
    if index > instructions:  # whoever writes a pickle counts up, one for an instruction at most
        raise Damaged(f"it wants a memory of {index} places")


def _line(data: Buffer, place: int) -> tuple[bytes, int]:
    end = data.find(b"\n", place)
    if end < 0:
        raise Damaged("it is cut off")
    return data[place:end], end + 1
