"""Reading LMDB files with every number in them doubted.

The LMDB library maps the file into memory and follows what stands there: a truncated file ends the process with
SIGBUS, a damaged one with SIGSEGV. This reader asks the system for pages instead, and checks places and sizes before
it uses them.
The format is that of LMDB 0.9 (data version 1) on 64-bit little-endian machines, which all published datasets have.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from ev2_plugin.storage.pickle_stream import Damaged

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_META = struct.Struct("<16xIIQQ IHHQQQQQ IHHQQQQQ QQ")
_PAGE = struct.Struct("<QHHHH")
_NODE = struct.Struct("<HHHH")
_OVERFLOW = struct.Struct("<QHHI")
_NUMBER = struct.Struct("<Q")
_PAGE_SIZES = tuple(2**power for power in range(9, 17))
_BRANCH, _LEAF, _LARGE = 1, 2, 4  # kinds of pages
_ELSEWHERE, _SUBTREES = 1, 6  # flags of values: on pages of their own; more than a value
_NO_PAGE = 2**64 - 1
_MAX_DEPTH = 32


class LmdbFile:
    """A file of keys and values, open for reading; what was written when it was opened is seen.

    It can be used by threads, and by forked processes.

    Attributes:
        entries: How many keys it has.
    """

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            OSError: If it cannot be opened.
            Damaged: If it is no LMDB file, or cut off.
        """
        self._descriptor = os.open(path, os.O_RDONLY)
        try:
            self._bytes = os.fstat(self._descriptor).st_size
            self._page_size, self.entries, self._root, last = self._newest_meta()
            needed = (last + 1) * self._page_size
            if self._bytes < needed:
                raise Damaged(f"it is truncated: {self._bytes} bytes of {needed}")
            if self.entries > self._bytes // _NODE.size:
                raise Damaged(f"it counts {self.entries} entries in {self._bytes} bytes")
        except BaseException:
            os.close(self._descriptor)
            raise
        self._pages = lru_cache(maxsize=64)(self._read_page)

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> LmdbFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, key: bytes) -> bytes | None:
        """The value of a key; None if it is not there.

        Raises:
            Damaged: If what leads to it is damaged.
        """
        if self._root == _NO_PAGE:
            return None
        number = self._root
        for _ in range(_MAX_DEPTH):
            page = self._pages(number)
            kind = _PAGE.unpack_from(page)[2]
            if kind & _LEAF:
                place = _search(page, key, first=0)
                node = _node(page, place) if place >= 0 else None
                return self._value(page, node) if node and _key(page, node) == key else None
            if not kind & _BRANCH:
                raise Damaged(f"its page {number} is of kind {kind}")
            low, high, top, _ = _NODE.unpack_from(page, _node(page, _search(page, key, first=1)))
            number = low | high << 16 | top << 32
        raise Damaged("its pages lead in a circle")

    def keys(self) -> Iterator[bytes]:
        """All keys in order.

        Raises:
            Damaged: If pages lead in a circle, or are damaged.
        """
        seen = 0
        waiting = [] if self._root == _NO_PAGE else [(self._root, 0)]
        while waiting:
            number, depth = waiting.pop()
            seen += 1
            if depth > _MAX_DEPTH or seen > self._bytes // self._page_size:
                raise Damaged("its pages lead in a circle")
            page = self._read_page(number)
            nodes = [_node(page, place) for place in range(_count(page))]
            if _PAGE.unpack_from(page)[2] & _LEAF:
                yield from (_key(page, node) for node in nodes)
            else:
                below = [_NODE.unpack_from(page, node) for node in reversed(nodes)]
                waiting += [(low | high << 16 | top << 32, depth + 1) for low, high, top, _ in below]

    def _newest_meta(self) -> tuple[int, int, int, int]:
        """Page size, entries, root, last page of the last whole transaction."""
        found = []
        first = os.pread(self._descriptor, _META.size, 0)
        page_size = _META.unpack(first)[4] if len(first) == _META.size else 0
        if page_size not in _PAGE_SIZES:
            raise Damaged("it is no LMDB file")
        for meta in (first, os.pread(self._descriptor, _META.size, page_size)):
            if len(meta) < _META.size:
                raise Damaged("it is truncated")
            magic, version, _, _, *tables, last, transaction = _META.unpack(meta)
            if magic != _MAGIC:
                raise Damaged("it is no LMDB file")
            if version != _VERSION:
                raise Damaged(f"it is of LMDB's data version {version}, not {_VERSION}")
            _, flags, _, _, _, _, entries, root = tables[8:]
            found.append((transaction, (page_size, entries, root, last), flags))
        _, newest, flags = max(found, key=lambda one: one[0])
        if flags:
            raise Damaged(f"its table is of another kind (flags {flags})")
        return newest

    def _read_page(self, number: int) -> bytes:
        page = self._read(number, self._page_size)
        if _PAGE.unpack_from(page)[0] != number:
            raise Damaged(f"its page {number} is damaged")
        return page

    def _read(self, number: int, size: int) -> bytes:
        start = number * self._page_size
        if start + size > self._bytes:
            raise Damaged(f"it refers to page {number}, which it does not have")
        content = b""
        while len(content) < size:
            piece = os.pread(self._descriptor, size - len(content), start + len(content))
            if not piece:
                raise Damaged("it was truncated while it was read")
            content = content + piece if content else piece
        return content

    def _value(self, page: bytes, node: int) -> bytes:
        low, high, flags, key_size = _NODE.unpack_from(page, node)
        size, start = low | high << 16, node + _NODE.size + key_size
        if flags & _SUBTREES:
            raise Damaged("it has several values for a key")
        if not flags & _ELSEWHERE:
            if start + size > len(page):
                raise Damaged("a value reaches beyond its page")
            return page[start : start + size]
        if start + _NUMBER.size > len(page):
            raise Damaged("a value reaches beyond its page")
        number = _NUMBER.unpack_from(page, start)[0]
        content = self._read(number, _OVERFLOW.size + size)
        found, _, kind, pages = _OVERFLOW.unpack_from(content)
        if found != number or not kind & _LARGE or pages * self._page_size < len(content):
            raise Damaged(f"its page {number} is damaged")
        return content[_OVERFLOW.size :]


def _count(page: bytes) -> int:
    lower = _PAGE.unpack_from(page)[3]
    if not _PAGE.size <= lower <= len(page):
        raise Damaged("a page says that it is longer than it is")
    return (lower - _PAGE.size) // 2


def _node(page: bytes, place: int) -> int:
    """Where the node of a place begins; its head and key are within the page."""
    node: int = struct.unpack_from("<H", page, _PAGE.size + 2 * place)[0]
    if node + _NODE.size > len(page) or node + _NODE.size + _NODE.unpack_from(page, node)[3] > len(page):
        raise Damaged("a key reaches beyond its page")
    return node


def _key(page: bytes, node: int) -> bytes:
    start = node + _NODE.size
    return page[start : start + _NODE.unpack_from(page, node)[3]]


def _search(page: bytes, key: bytes, first: int) -> int:
    """Place of the last key that is not larger than `key`, not looking at the places before `first`; -1 if none is."""
    low, high = first, _count(page)
    if high == 0 and first:
        raise Damaged("a page has no keys")
    while low < high:
        middle = (low + high) // 2
        if _key(page, _node(page, middle)) <= key:
            low = middle + 1
        else:
            high = middle
    return low - 1
