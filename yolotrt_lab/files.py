"""Files that the lab writes and reads: whether one may be written, written whole or not at all, read within a limit."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import IO, BinaryIO

from .errors import LabError, SettingsError

LIMIT_VARIABLE = "YOLOTRT_LAB_MAX_MB"
_STARTS = {".parquet": b"P", ".json": b"{[", ".html": b"<", ".svg": b"<", ".png": b"\x89", ".pdf": b"%"}


def limit_bytes() -> int:
    """How large a file, or the table in it, may be to be read: 500 MB, or what YOLOTRT_LAB_MAX_MB says.

    SettingsError where that is no number.

    >>> limit_bytes() >= 1_000_000
    True
    """
    text = os.environ.get(LIMIT_VARIABLE, "") or "500"
    if not text.isdecimal() or len(text) > 9 or not int(text):
        what = f"{LIMIT_VARIABLE} must be a whole number of MB, got {text[:20]!r}"
        raise SettingsError(what, fix=f"{LIMIT_VARIABLE}=500")
    return int(text) * 1_000_000


def too_large(what: object, nbytes: int, error: type[LabError] = SettingsError) -> LabError:
    """The error for what holds more than `limit_bytes`; it says how to raise the limit."""
    limit = limit_bytes() // 1_000_000
    fix = f"read a part of it, or raise the limit, which takes up to thirteen times as much memory: {LIMIT_VARIABLE}="
    needed = f"got {nbytes / 1e6:,.0f} MB" if nbytes else "got more, or what never ends"
    return error(f"{what} must hold at most {limit:,} MB, {needed}", fix=f"{fix}{max(2 * limit, nbytes // 500_000)}")


def read_file(
    source: Path | BinaryIO, name: object = "", error: type[LabError] = SettingsError, *, at_once: int = 1 << 24
) -> bytes:
    """All bytes of a file, a pipe or an open stream; `error` beyond `limit_bytes`, found before they fill the memory.

    They are read so many `at_once`, a regular file as a whole, of which then no copy is made.

    OSError where it cannot be read.

    >>> from yolotrt_lab.packages import lab_path
    >>> read_file(lab_path("data", "presets", "h200.json"))[:1]
    b'{'
    """
    name, limit = name or source, limit_bytes()
    if isinstance(source, Path):
        with source.open("rb") as file:
            about = os.fstat(file.fileno())
            whole = about.st_size if stat.S_ISREG(about.st_mode) else 0
            if whole > limit:
                raise too_large(name, whole, error)
            return read_file(file, name, error, at_once=max(at_once, whole))
    pieces, nbytes = [], 0
    while piece := source.read(at_once):
        pieces.append(piece)
        if (nbytes := nbytes + len(piece)) > limit:
            raise too_large(name, 0, error)
    return b"".join(pieces)


def check_output(path: Path | None, *endings: str, overwrite: bool = True) -> None:
    """SettingsError where a file may not be written: before the work for it starts, and without a trace on the disk.

    It must have one of these endings, and must not lie in the way of what is no such file: a folder, a device, a pipe,
    a link, a file of another kind. Without `overwrite` no file may lie there. None: nothing is to be written.

    >>> check_output(Path("figures.txt"), ".json")
    Traceback (most recent call last):
    yolotrt_lab.errors.SettingsError: the output must end in .json, got figures.txt
    Fix: call it figures.json
    """
    if path is None:
        return
    start = None
    try:
        _check_place(path)
        with path.open("rb") as file:
            start = file.read(1)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error
    if path.suffix.lower() not in endings:
        fix = f"call it {path.with_suffix(endings[0])}"
        raise SettingsError(f"the output must end in {' or '.join(endings)}, got {path}", fix=fix)
    if start is None:
        return
    if start not in _STARTS.get(path.suffix.lower(), start):
        raise SettingsError(f"{path} is no {path.suffix} file, and stays as it is", fix="name another file")
    if not overwrite:
        raise SettingsError(f"{path} exists already", fix="name another file, or overwrite it: --force")


def write_file(path: str | Path, content: str | bytes | memoryview, error: type[LabError] = SettingsError) -> Path:
    """Write a file, and the folder for it, whole or not at all; an `error` leaves an earlier file as it was.

    It is written beside its place and renamed: other processes see the old file or the new one.

    >>> write_file("", "text")
    Traceback (most recent call last):
    yolotrt_lab.errors.SettingsError: . cannot be written: it is a folder
    Fix: name another file, where there is room for it
    """
    path, data = Path(path), content.encode("utf-8", "replace") if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name[:50]}.{os.urandom(6).hex()}.tmp") if path.name else path
    try:
        _check_place(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # else a power cut could leave the new name without its bytes
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, ValueError) as caught:
        raise _unwritable(path, caught, error, len(data)) from caught
    return path


def lock(file: IO[bytes]) -> bool:
    """Lock an open file until it is closed; False where another process (or open file) has it or has deleted it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return os.fstat(file.fileno()).st_nlink > 0


def _check_place(path: Path) -> None:
    """OSError where a file cannot be put at `path`: something else lies there, or there can be no folder for it."""
    kind = _kind(path)
    if kind not in ("", "a file"):
        raise OSError(0, f"it is {kind}")
    folder = path.parent
    while not (there := _kind(folder)) and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise OSError(0, f"{folder} is {there}, and no folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OSError(0, f"nothing may be written in {folder}")


def _kind(path: Path) -> str:
    """What lies at a path, in words; '' where nothing does."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ""
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFREG: "a file", stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe"}
    return kinds.get(stat.S_IFMT(mode), "a device or a socket")


def _unwritable(path: Path, why: Exception, error: type[LabError] = SettingsError, nbytes: int = 0) -> LabError:
    said = getattr(why, "strerror", None) or why
    needed = f"; it needs {nbytes:,} bytes" if nbytes and getattr(why, "errno", 0) else ""
    return error(f"{path} cannot be written: {said}{needed}", fix="name another file, where there is room for it")
