"""Integers of a table in an SQLite file, decoded from its pages by NumPy: no Python object for a number, no text.

Written after "Database File Format", sqlite.org/fileformat2.html. Whatever is out of the ordinary (a journal beside the
file, rows that go on in other pages, damage) is left to SQLite itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

NULL, NO_INTEGER = np.iinfo(np.int64).min, np.iinfo(np.int64).min + 1
"""What stands for NULL, and for a value of another type."""

_INTERIOR, _LEAF = 5, 13
_AT_A_TIME = 1 << 20  # bytes of pages: what is computed from them stays in the processor's cache
_THREADS = 4
_WIDTHS = np.array([0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0], np.int64)  # bytes of a value, by its serial type


Finish = Callable[[list[np.ndarray]], Mapping[str, np.ndarray]]


class OddFileError(Exception):
    """The file is for SQLite to read, or to refuse."""


def integer_columns(path: Path, root: int, rows: int, places: Sequence[int], finish: Finish) -> dict[str, np.ndarray]:
    """Columns that `finish` makes of some rows' numbers and their columns at `places`, which rise: int64 arrays of one
    shape, which it gets in this order. Columns of the same rows may be of other types.

    `root` is the table's first page, as sqlite_master has it; its rows are numbered from 1 to `rows`. OddFileError
    where they are not, or SQLite itself must look.
    """
    path = path.resolve()
    if any(Path(f"{path}{end}").exists() for end in ("-wal", "-journal")):
        raise OddFileError("changes lie beside it")
    with path.open("rb") as file:
        header = file.read(100)
    size = int.from_bytes(header[16:18])
    size = 1 << 16 if size == 1 else size
    if header[:16] != b"SQLite format 3\0" or size < 512 or path.stat().st_size < size:
        raise OddFileError("no SQLite file")
    columns: dict[str, np.ndarray] = {}

    def read(leaves: np.ndarray) -> int:
        """Decode some leaves into their place in `columns`; returns how many rows they have."""
        # Each maps the file anew: the pages that were read do not stay in this process's memory.
        number, *values = _decoded(_pages(path, size)[leaves - 1], header[20], places)
        place, count = int(number[0]) - 1, len(number)
        if place < 0 or place + count > rows or (number[1:] - number[:-1] != 1).any():
            raise OddFileError("its rows are not numbered one by one")
        for name, column in finish([number, *values]).items():
            if name not in columns:
                columns[name] = np.empty(rows, column.dtype)
            columns[name][place : place + count] = column
        return count

    try:
        leaves, several = _leaves(_pages(path, size), root), max(_AT_A_TIME // size, 1)
        first, *others = np.split(leaves, range(several, len(leaves), several))
        count = read(first)
        with ThreadPoolExecutor(_THREADS) as pool:  # NumPy lets several compute at a time
            count += sum(pool.map(read, others))
    except IndexError as error:
        raise OddFileError("it names places that it does not have") from error
    if count != rows:
        raise OddFileError("its rows are not numbered one by one")
    return columns


def _pages(path: Path, size: int) -> np.ndarray:
    return np.memmap(path, np.uint8, "r", shape=(path.stat().st_size // size, size))


def _leaves(pages: np.ndarray, root: int) -> np.ndarray:
    """The numbers, from 1, of the pages that hold the rows below a page, in their order."""
    level = np.array([root])
    for _ in range(20):
        if pages[level[0] - 1, 0] != _INTERIOR:
            return level
        level = np.concatenate([_children(pages[number - 1]) for number in level.tolist()])
        if len(level) > len(pages) or level.min() < 2:
            break
    raise OddFileError("its tree of pages is broken")


def _children(page: np.ndarray) -> np.ndarray:
    if page[0] != _INTERIOR:
        raise OddFileError("its tree of pages is broken")
    count, last = (int.from_bytes(page[begin:end].tobytes()) for begin, end in ((3, 5), (8, 12)))
    cells = page[12 : 12 + 2 * count].view(">u2")
    left = page[cells.astype(np.int64)[:, None] + np.arange(4)].view(">u4")[:, 0]
    return np.append(left.astype(np.int64), last)


def _decoded(pages: np.ndarray, reserved: int, places: Sequence[int]) -> list[np.ndarray]:
    """The rows in some leaves, as `integer_columns` returns them."""
    size = pages.shape[1]
    flat = np.append(pages.reshape(-1), np.zeros(16, np.uint8))
    words = np.ndarray(len(flat) - 7, "<i8", flat, strides=(1,))  # the 8 bytes from each place
    counts = pages[:, 3].astype(np.int64) << 8 | pages[:, 4]
    if (pages[:, 0] != _LEAF).any() or not 0 < counts.min() <= counts.max() <= size // 4:
        raise OddFileError("its tree of pages is broken")
    begin = np.repeat(np.arange(len(pages)) * size, counts)
    pointer = begin + 8 + 2 * (np.arange(len(begin)) - np.repeat(np.cumsum(counts) - counts, counts))
    cell = begin + (flat[pointer].astype(np.int64) << 8 | flat[pointer + 1])
    if (cell < pointer + 2).any():
        raise OddFileError("its rows lie where their list is")
    length, at = _varint(flat, cell)
    row, at = _varint(flat, at)
    end = at + length
    if (length > size - reserved - 35).any() or (end > begin + size).any():
        raise OddFileError("a row goes on in other pages")
    data, kind_at = at + flat[at], at + 1
    columns, first = [row], data.copy()
    for place in range(places[-1] + 1):
        kind, kind_at = _varint(flat, kind_at)
        kind = kind[:1] if (kind == kind[:1]).all() else kind  # as in most columns
        width = _width(kind)
        data += width
        if place in places:
            columns.append(_integers(words, kind, width, data))
    if (flat[at] > 127).any() or (kind_at > first).any() or (data > end).any():
        raise OddFileError("its rows are shorter than its columns are many")
    return columns


def _varint(flat: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integers of 1 to 4 bytes with 7 bits in each, and the places behind them."""
    value, at = flat[at], at + 1
    if value.max(initial=0) < 128:
        return value, at
    value = value.astype(np.int64)
    rows = np.flatnonzero(value > 127)
    value[rows] &= 127
    for _ in range(3):
        byte = flat[at[rows]]
        value[rows] = value[rows] << 7 | byte & 127
        at[rows] += 1
        rows = rows[byte > 127]
        if not len(rows):
            return value, at
    raise OddFileError("a number in it is longer than a row can be")


def _width(kind: np.ndarray) -> np.ndarray:
    """The bytes that values take, by their serial types."""
    width: np.ndarray = np.take(_WIDTHS, kind, mode="clip")
    return (
        np.where(kind < len(_WIDTHS), width, (kind.astype(np.int64) - 12) >> 1) if kind.max(initial=0) > 11 else width
    )


def _integers(words: np.ndarray, kind: np.ndarray, width: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The values that end at these places, by their serial types."""
    shift = 64 - 8 * width
    value: np.ndarray = words[end - 8].byteswap(inplace=True)
    value <<= shift
    value >>= shift
    if ((kind == 0) | (kind > 6)).any():
        value = np.select([kind == 0, kind == 8, kind == 9, kind < 7], [NULL, 0, 1, value], NO_INTEGER)
    return value
