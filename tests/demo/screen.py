"""What the demo has to say comes in; lines on a terminal go out, with colours only where somebody looks at one."""

import os
import sys
import time

BOLD, DIM, GREEN, RED, YELLOW = "1", "2", "32", "31", "33"
# The sign that begins a line of a plan, and the colour it has there.
SIGNS = {"+": GREEN, "~": YELLOW, "-": RED, "!": RED, "?": YELLOW}


class Screen:
    """The terminal; every chapter tells the seconds since the start."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._has_colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def chapter(self, title: str) -> None:
        """The heading of what comes next."""
        seconds = f"{self.seconds():5.1f} s"
        print(f"\n{self._paint(DIM, seconds)}  {self._paint(BOLD, title)}", flush=True)

    def say(self, text: str, colour: str = "") -> None:
        """One line, or several."""
        for line in text.splitlines() or [""]:
            print(f"         {self._paint(colour, line)}".rstrip(), flush=True)

    def show_plan(self, plan_text: str) -> None:
        """A plan as the function gives it, coloured by its signs."""
        for line in plan_text.splitlines():
            self.say(line, SIGNS.get(line.strip()[:1], "") if line.startswith("  ") else "")

    def seconds(self) -> float:
        """The time since the start."""
        return time.monotonic() - self._started

    def _paint(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if colour and text and self._has_colours else text
