"""What the command has to say comes in; lines go out, in colour where a terminal shows them, and at once in any log."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.text import Text

from provisioner.core.text import sanitize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

SIGNS = {"+": "green", "~": "yellow", "-": "red", "!": "bold red", "?": "magenta"}
# A pipeline that hears nothing for some minutes takes a job for dead.
HEARTBEAT_SECONDS = 60.0
_LONGEST_LINE = 4_000


class Screen:
    """Answers go to stdout, all else to stderr; each of them decides for itself whether it is a terminal.

    With `is_json` stdout belongs to one JSON document, and whatever people read goes to stderr.
    """

    def __init__(self, *, is_json: bool = False) -> None:
        """Look at the streams as they are now."""
        self.notes = _console(sys.stderr)
        self.answers = self.notes if is_json else _console(sys.stdout)
        self.documents = _console(sys.stdout)

    def say(self, text: str = "", style: str = "") -> None:
        """Part of the answer."""
        _write(self.answers, text, style)

    def note(self, text: str, style: str = "") -> None:
        """Something beside the answer."""
        _write(self.notes, text, style)

    def document(self, text: str) -> None:
        """A text for programs: as it is, to stdout."""
        print(text, file=self.documents.file, flush=True)

    def show_plan(self, plan_text: str) -> None:
        """A plan as the function wrote it, coloured by what each line does."""
        for line in plan_text.splitlines():
            sign = line.strip()[:1] if line.startswith("  ") else ""
            self.say(line, SIGNS.get(sign, ""))

    def table(
        self, columns: Sequence[str], lines: Iterable[Sequence[str]], styles: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Cells under headings, coloured by what they say; `styles` colours those that say just that."""
        # Loaded where it is used: `validate` is run at each commit.
        from rich.table import Column, Table  # noqa: PLC0415

        # An ARN or an address is to be copied, so it is broken and never cut.
        table = Table(*(Column(Text(sanitize(each, 64)), overflow="fold") for each in columns))
        for line in lines:
            texts = [Text(sanitize(each, 500), "red" if "BEYOND" in each else styles.get(each, "")) for each in line]
            table.add_row(*texts)
        self.answers.print(table, soft_wrap=False)

    @contextmanager
    def waiting(self, words: str) -> Iterator[None]:
        """Say that something takes its time: a spinner on a terminal, a line each minute in a log."""
        if self.notes.is_terminal and not self.notes.is_dumb_terminal:
            # Loaded where it is used: `validate` is run at each commit.
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

            columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
            with Progress(*columns, console=self.notes, transient=True) as progress:
                progress.add_task(sanitize(words, 200))
                yield
            return
        self.note(f"{words} ...")
        done = threading.Event()
        thread = threading.Thread(target=self._tell_time, args=(words, done), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _tell_time(self, words: str, done: threading.Event) -> None:
        seconds = HEARTBEAT_SECONDS
        while not done.wait(HEARTBEAT_SECONDS):
            self.note(f"{words} ... {seconds:.0f} s")
            seconds += HEARTBEAT_SECONDS


def _console(stream: TextIO) -> Console:
    is_plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM", "dumb") == "dumb" or not stream.isatty()
    # Names of databases are no markup, and a line is cut by nobody but the reader's terminal.
    return Console(
        file=stream,
        color_system=None if is_plain else "standard",
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
    )


def _write(console: Console, text: str, style: str) -> None:
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip(" "))]
        console.print(Text(indent + sanitize(line.strip(" "), _LONGEST_LINE), style))
