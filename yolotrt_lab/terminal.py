"""A command at a terminal: how it is parsed, what it may print, the signals that end it, and its exit status."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import takewhile

from . import __version__
from .errors import LabError, NotebookError, closest, plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any, NoReturn

    Function = Callable[[argparse.Namespace], int | None]
    Option = tuple[tuple[str, ...], dict[str, Any]]
_COMPLETION = """\
_yolotrt_lab() {{
    local words command="${{COMP_WORDS[1]}}"
    case "$command" in trace) command="$command ${{COMP_WORDS[2]}}" ;; esac
    case "$command" in
{cases}
    *) words="{commands}" ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
if [ -n "$ZSH_VERSION" ]; then autoload -U +X compinit && compinit; autoload -U +X bashcompinit && bashcompinit; fi
complete -o default -F _yolotrt_lab yolotrt-lab
"""


class Parser(argparse.ArgumentParser):
    """A parser whose errors show the usage of the command that was meant, and the word that was."""

    def __init__(self, formatter_class: Any = argparse.HelpFormatter, **about: Any) -> None:
        super().__init__(formatter_class=partial(formatter_class, width=(_width() or 80) - 2), **about)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Of a subcommand as well: what it does not know is an error here, beside its own usage."""
        before = takewhile("--".__ne__, args or ())
        if empty := [word for word in before if word.startswith("--") and word.endswith("=--")]:
            self.error(f"argument {empty[0][:-3]}: expected one argument")  # argparse would make it a list
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            options = [name for action in self._actions for name in action.option_strings]
            meant = "".join(closest(word, options) for word in unknown[:1])
            self.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message, and exit with 2."""
        wrong = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message, re.DOTALL)
        meant = closest(wrong[1], re.findall(r"[\w-]+", wrong[2])) if wrong else ""
        super().error(plain(message + meant))


def option(*names: str, **how: Any) -> Option:
    """An option of a command, as `add_argument` takes it; a whole number fits into 32 bits."""
    if how.get("type") is int:
        how["type"] = _whole
    return names, how


def _whole(text: str) -> int:
    if len(text) > 10 or abs(number := int(text)) >= 1 << 31:
        raise argparse.ArgumentTypeError(f"must be a whole number below 2,147,483,648, got {text[:20]!r}")
    return number


def a_path(text: str) -> Path:
    """The type of an option that is a path, which must not be empty."""
    from pathlib import Path  # with it comes urllib, which a help has no use for

    if not text:
        raise argparse.ArgumentTypeError("must name a file or a folder, got ''")
    return Path(text)


class Commands:
    """Functions that run commands, registered by a decorator. `groups` has the help of groups, such as `trace`;
    `about` says what the command itself is.

    >>> commands = Commands({}, prog="lab")
    >>> @commands.register(option("--loud", action="store_true"))
    ... def _hello(arguments):
    ...     "Say hello."
    ...     print("HELLO" if arguments.loud else "hello")
    >>> arguments = commands.parser().parse_args(["hello", "--loud"])
    >>> arguments.function(arguments)
    HELLO
    """

    def __init__(self, groups: Mapping[str, str], **about: Any) -> None:
        self._groups, self._about = groups, about
        self._commands: list[tuple[Function, Sequence[Option]]] = []

    def register(self, *options: Option) -> Callable[[Function], Function]:
        """Decorate a function that runs a command: `_trace_show` is `trace show`, its docstring the help."""

        def remember(function: Function) -> Function:
            self._commands.append((function, options))
            return function

        return remember

    def parser(self) -> Parser:
        """A parser of them all; without a command it prints its help."""
        parser = Parser(**self._about)
        parser.add_argument("-V", "--version", action="version", version=f"{parser.prog} {__version__}")
        groups = {"": _group(parser)}
        for function, options in self._commands:
            *group, name = function.__name__[1:].split("_")
            if (of := "".join(group)) not in groups:
                groups[of] = _group(groups[""].add_parser(of, help=self._groups[of]))
            first, _, rest = (function.__doc__ or "").partition("\n")
            text, raw = f"{first}\n{textwrap.dedent(rest)}".strip(), argparse.RawDescriptionHelpFormatter
            command = groups[of].add_parser(name, help=first, description=text, formatter_class=raw)
            for names, how in (*options, option("--debug", action="store_true", help="show the traceback of an error")):
                command.add_argument(*names, **how)
            command.set_defaults(function=function)
        return parser

    def completion(self, words: Mapping[str, Sequence[str]]) -> str:
        """A script for bash and zsh that completes commands, options, and the `words` of a command."""
        groups: dict[str, list[str]] = {"": []}
        cases = []
        for function, options in self._commands:
            name = function.__name__[1:].replace("_", " ")
            flags = [each for names, _ in options for each in names if each.startswith("--")]
            cases.append(f'    "{name}") words="{" ".join([*words.get(name, ()), *flags, "--debug", "--help"])}" ;;')
            group, _, last = name.rpartition(" ")
            groups.setdefault(group, []).append(last)
        cases += [f'    "{group} "*) words="{" ".join(lasts)}" ;;' for group, lasts in groups.items() if group]
        return _COMPLETION.format(cases="\n".join(cases), commands=" ".join([*groups.pop(""), *groups]))


def _group(parser: Parser) -> Any:
    """The place for commands under a parser; without one of them its help is printed."""
    parser.set_defaults(function=lambda _: parser.print_help())
    return parser.add_subparsers(metavar="COMMAND")


def say(text: str) -> None:
    """Print on standard error what may have words of an input in it."""
    print(plain(text), file=sys.stderr, flush=True)


def columns(most: int) -> int:
    """How many letters fit in a line of the terminal, at most `most`; that many where there is no terminal."""
    return min(most, _width() or most)


def _width() -> int:
    """How many letters fit in a line of the terminal; 0 where there is none."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        return int(os.environ.get("COLUMNS") or os.get_terminal_size(sys.__stdout__.fileno()).columns)  # type: ignore[union-attr]
    return 0


def status(text: str) -> None:
    """Show on a terminal how far something is, in place of what was shown before; '' takes it away."""
    if sys.stderr.isatty():
        width = (_width() or 80) - 1
        print(f"\r\x1b[K{plain(text)[:width]}", end="", file=sys.stderr, flush=True)


class _Plain:
    """Standard output without what steers a terminal: names in a file may hold anything."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return int(self._stream.write(plain(text)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def exit_status(command: Callable[[], int | None], debug: bool) -> int:
    """Run a command and return its exit status, with every error of the lab told in two lines.

    0 done; 1 a notebook failed, or doctor found that the lab cannot run; 2 a LabError, or a file or an output that
    cannot be used; 130 Ctrl-C, 143 SIGTERM, 129 a terminal that was closed; 141 the reader of the output went away.

    >>> exit_status(lambda: print("done"), debug=False)
    done
    0
    """
    for name in ("stdin", "stdout", "stderr"):  # Python has none where the shell closed it: `>&-`
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "r" if name == "stdin" else "w"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a Windows console knows few of the characters in a traceback
    try:
        with contextlib.redirect_stdout(_Plain(sys.stdout)), _stoppable():
            status = command() or 0
            print(end="", flush=True)  # what can't be written is found here, not at Python's end
            return status
    except KeyboardInterrupt as error:
        number, words = stopped_by(error)
        say(f"\n{words}{_notes(error)}")
        return 128 + number
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        _discard_output()
        return 141
    except (LabError, MemoryError, OSError) as error:
        told = _told(error)
        if debug or told is None:
            raise
        say(f"yolotrt-lab: {told}{_notes(error)}")
        return 1 if isinstance(error, NotebookError) else 2


def _told(error: LabError | MemoryError | OSError) -> LabError | None:
    """An error with its fix; None for one of the system that says nothing to a user."""
    if isinstance(error, LabError):
        return error
    if isinstance(error, MemoryError):  # NumPy's says how much was asked for
        what = f"there must be memory for this, got: {error}"
        return LabError(what, fix="take less at once, or end what else uses the memory")
    if error.filename is not None:
        what = f"{error.filename} cannot be used: {error.strerror}"
        return LabError(what, fix="check the path, and what you may do there")
    try:
        print(flush=True)
    except OSError:  # it was the output, such as a file on a full disk
        _discard_output()
        what = f"the output must be writable, got: {error.strerror or error}"
        return LabError(what, fix="make space there, or send the output elsewhere")
    return None


def stopped_by(error: KeyboardInterrupt) -> tuple[int, str]:
    """The signal that ended a command, and that in words.

    >>> stopped_by(KeyboardInterrupt())
    (2, 'stopped by Ctrl-C')
    """
    import signal

    number = int(error.args[0] if error.args else signal.SIGINT)
    return number, "stopped by " + ("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)


def _notes(error: BaseException) -> str:
    """Where what was recorded lies."""
    return "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """The first Ctrl-C, SIGTERM or closed terminal ends the command, which then keeps what it has; the second waits for
    that; the third ends that too.
    """
    import signal
    import threading

    told: list[int] = []

    def stop(number: int, _: object) -> None:
        told.append(number)
        if len(told) != 2:
            raise KeyboardInterrupt(number)
        say("what there is is being kept; once more, and it is lost")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    known = (getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP"))
    ours = [number for number in known if number and signal.getsignal(number) != signal.SIG_IGN]  # nohup ignores one
    before = {number: signal.signal(number, stop) for number in ours}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _discard_output() -> None:
    """What Python flushes at its end goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
