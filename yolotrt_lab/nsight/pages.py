"""Integers of a table in an SQLite file, decoded from its pages by NumPy: no Python object for a number, no text.

Written after "Database File Format", sqlite.org/fileformat2.html. Whatever is out of the ordinary (a journal beside the
file, rows that go on in other pages, damage) is left to SQLite itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock

import numpy as np

from .intervals import in_threads

NULL, NO_INTEGER = np.iinfo(np.int64).min, np.iinfo(np.int64).min + 1
"""What stands for NULL, and for a value of another type."""

_INTERIOR, _LEAF = 5, 13
_AT_A_TIME = 1 << 22  # bytes of pages: what is computed from them stays in the processor's cache
_WIDTHS = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0)  # bytes of a value, by its serial type
_FIXED = {0: NULL, 8: 0, 9: 1}  # serial types that are a value


Finish = Callable[[list[np.ndarray]], Mapping[str, np.ndarray]]


class OddFileError(Exception):
    """The file is for SQLite to read, or to refuse."""


def integer_columns(path: Path, root: int, rows: int, places: Sequence[int], finish: Finish) -> dict[str, np.ndarray]:
    """Columns that `finish` makes of some rows' numbers and their columns at `places`, which rise: int64 arrays of one
    shape, which it gets in this order. Columns of the same rows may be of other types. A column that holds one value
    throughout is a read-only view of that one: memory that nothing was written to yet is slow.

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
    if header[:16] != b"SQLite format 3\0" or size < 512:
        raise OddFileError("no SQLite file")
    columns: dict[str, np.ndarray] = {}
    several_values = Lock()

    def read(leaves: np.ndarray) -> int:
        """Decode some leaves into their place in `columns`; returns how many rows they have."""
        number, *values = _decoded(_bytes(path, leaves, size), size, header[20], places)
        place, count = int(number[0]) - 1, len(number)
        if place < 0 or place + count > rows:
            raise OddFileError("its rows are not numbered one by one")
        for name, column in finish([number, *values]).items():
            whole = columns.setdefault(name, np.broadcast_to(column[0], rows))
            if not whole.flags.writeable and (column != whole[0]).any():
                with several_values:
                    if not columns[name].flags.writeable:
                        columns[name] = np.full(rows, whole[0]) if place else np.empty(rows, column.dtype)
            if columns[name].flags.writeable:
                columns[name][place : place + count] = column
        return count

    leaves, several = _leaves(path, root, size), max(_AT_A_TIME // size, 1)
    first, *others = np.split(leaves, range(several, len(leaves), several))
    if read(first) + sum(in_threads(read, others)) != rows:
        raise OddFileError("its rows are not numbered one by one")
    return columns


def _bytes(path: Path, numbers: np.ndarray, size: int) -> np.ndarray:
    """The pages of these numbers, from 1, one behind the other, and an empty one."""
    flat = np.empty((len(numbers) + 1) * size, np.uint8)
    flat[-size:] = 0
    with path.open("rb", buffering=0) as file:
        for run in np.split(np.arange(len(numbers)), np.flatnonzero(np.diff(numbers) != 1) + 1):
            file.seek((int(numbers[run[0]]) - 1) * size)
            if file.readinto(flat.data[run[0] * size : (run[-1] + 1) * size]) < len(run) * size:
                raise OddFileError("it names pages that it does not have")
    return flat


def _leaves(path: Path, root: int, size: int) -> np.ndarray:
    """The numbers, from 1, of the pages that hold the rows below a page, in their order."""
    level, limit = np.array([root]), path.stat().st_size // size
    for _ in range(20):
        if _bytes(path, level[:1], size)[0] != _INTERIOR:
            return level
        level = np.concatenate([_children(page) for page in _bytes(path, level, size)[:-size].reshape(-1, size)])
        if len(level) > limit or level.min() < 2:
            break
    raise OddFileError("its tree of pages is broken")


def _children(page: np.ndarray) -> np.ndarray:
    count, last = (int.from_bytes(page[begin:end].tobytes()) for begin, end in ((3, 5), (8, 12)))
    cells = page[12 : 12 + 2 * count].view(">u2").astype(np.int64)
    if page[0] != _INTERIOR or (cells > len(page) - 4).any():
        raise OddFileError("its tree of pages is broken")
    left = page[cells[:, None] + np.arange(4)].view(">u4")[:, 0]
    return np.append(left.astype(np.int64), last)


def _decoded(flat: np.ndarray, size: int, reserved: int, places: Sequence[int]) -> list[np.ndarray]:
    """The rows in some leaves, as `integer_columns` returns them."""
    cell, counts = _cells(flat[:-size].reshape(-1, size))
    length, at = _varint(flat, cell)
    row, at = _row_numbers(flat, at, counts)
    if (length > size - reserved - 35).any() or (at + length > (cell // size + 1) * size).any():
        raise OddFileError("a row goes on in other pages")
    layout, types = _layouts(flat, at)
    if any(len(kinds) <= places[-1] for _, kinds in types):
        raise OddFileError("its rows are shorter than its columns are many")
    ends = np.array([np.cumsum([size, *map(_width, kinds[: places[-1] + 1])]) for size, kinds in types])
    if (ends[:, -1][layout] > length).any():
        raise OddFileError("its rows are shorter than its values are long")
    rows = _gathered(flat, at - 8, 8 + int(ends.max()))
    columns = [row]
    for place in places:
        kinds = [kinds[place] for _, kinds in types]
        columns.append(_integers(rows, ends[:, place + 1], kinds, layout))
    return columns


def _cells(pages: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each row of some leaves begins, counted from the first page, and how many rows each page has."""
    size = pages.shape[1]
    counts = pages[:, 3].astype(np.int64) << 8 | pages[:, 4]
    if (pages[:, 0] != _LEAF).any() or not 0 < counts.min() <= counts.max() <= size // 4:
        raise OddFileError("its tree of pages is broken")
    most = int(counts.max())
    pointers = np.ascontiguousarray(pages[:, 8 : 8 + 2 * most]).view(">u2").astype(np.int64)
    there = np.arange(most) < counts[:, None]
    if (there & (pointers < 8 + 2 * counts[:, None])).any():
        raise OddFileError("its rows lie where their list is")
    return (pointers + np.arange(len(pages))[:, None] * size)[there], counts


def _row_numbers(flat: np.ndarray, at: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of rows, which begin at these places, page by page; and the places behind them."""
    first, last = (
        _varint(flat, at[rows])[0].astype(np.int64) for rows in (np.cumsum(counts) - counts, np.cumsum(counts) - 1)
    )
    if (last - first != counts - 1).any() or (first[1:] != last[:-1] + 1).any():  # within a page they rise
        raise OddFileError("its rows are not numbered one by one")
    row = first[0] + np.arange(len(at))
    for bits in (0, 7, 14, 21):
        if last[-1] >= 1 << bits:
            at = at + (1 if first[0] >= 1 << bits else row >= 1 << bits)
    return row, at


def _gathered(flat: np.ndarray, at: np.ndarray, length: int) -> np.ndarray:
    """So many bytes from each place, uint8 of shape (places, length)."""
    length = min(length, len(flat))
    from_each = np.ndarray(len(flat) - length + 1, f"V{length}", flat, strides=(1,))
    gathered: np.ndarray = from_each[at].view(np.uint8).reshape(len(at), length)
    return gathered


def _layouts(flat: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, list[tuple[int, list[int]]]]:
    """For each row the number of its layout, or one number for all; and each layout: a header's size, and its types.

    Rows of one layout have one and the same header, which says the types of their values. Few of them are different.
    """
    longest, types = int(flat[at].max()), list[tuple[int, list[int]]]()
    headers = _gathered(flat, at, -(-longest // 8) * 8)
    if longest > 127 or not headers[:, 0].all():
        raise OddFileError("a header in it has another size than its columns need")
    layout = np.full(len(at), -1)
    while len(left := np.flatnonzero(layout < 0)):
        header = headers[left[0], : headers[left[0], 0]]
        of_this_size = np.ndarray(len(at), f"S{len(header)}", headers, strides=headers.strides[:1])
        layout[of_this_size == header.tobytes()] = len(types)
        types.append((len(header), _serial_types(header[1:].tolist())))
    return layout if len(types) > 1 else layout[:1], types


def _serial_types(header: list[int]) -> list[int]:
    """The types of the values of a row, by the rest of its header."""
    types, kind = [], 0
    for byte in header:
        kind = kind << 7 | byte & 127
        if byte < 128:
            types.append(kind)
            kind = 0
    return types


def _width(kind: int) -> int:
    """The bytes that a value takes, by its serial type."""
    return _WIDTHS[kind] if kind < len(_WIDTHS) else (kind - 12) // 2


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


def _integers(rows: np.ndarray, ends: np.ndarray, kinds: list[int], layout: np.ndarray) -> np.ndarray:
    """The values of one column, by where it ends and its serial type in each layout; `rows` begin 8 bytes early."""
    length = rows.shape[1]
    stored = np.array([0 < kind < 7 for kind in kinds])
    if (ends == ends[0]).all():  # as in most columns
        last = np.ndarray(len(rows), ">i8", rows, int(ends[0]), (length,)).astype(np.int64)
    else:
        words = np.ndarray(rows.size - 7, ">i8", rows, strides=(1,))
        last = words[np.arange(0, rows.size, length) + ends[layout]].astype(np.int64)
    shift = np.array([64 - 8 * _width(kind) if 0 < kind < 7 else 0 for kind in kinds])
    last <<= shift[layout]
    last >>= shift[layout]
    if not stored.all():
        fixed = np.array([_FIXED.get(kind, NO_INTEGER) for kind in kinds])
        last = np.where(stored[layout], last, fixed[layout])
    return last
