"""A tfvars file comes in through TFVARS, or the demo's own does; the story of its databases is told on the terminal.

Everything that is started ends with this process, however that ends, and everything is written into one folder that
goes with it.
"""

import atexit
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from demo.screen import RED, Screen
from provisioner.core.errors import InvalidSnapshot
from provisioner.core.snapshot import parse_snapshot


def main() -> int:
    """Tell the story; 0 when it ended well, 1 when the product refused the file, 130 on Ctrl-C."""
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGHUP, _exit)
    screen = Screen()
    try:
        given = os.environ.get("TFVARS", "")
        path = Path(given) if given else Path(__file__).with_name("dev.tfvars")
        if not path.is_file():
            screen.say(f"There is no file {path}: make demo TFVARS=path/to/terraform.tfvars", RED)
            return 2
        if problems := _find_problems(path):
            screen.chapter(f"{path} cannot be provisioned; nothing was started")
            for problem in problems:
                screen.say(problem, RED)
            return 1
        _gather_temporary_files()
        # Imported now, so that what these start is ended before the folder goes: what is registered last runs first.
        from demo.story import tell

        return tell(path, screen)
    except KeyboardInterrupt:
        screen.say("\nInterrupted. Ending what was started ...")
        return 130
    except BrokenPipeError:
        # Nobody listens any more (`make demo | head`); Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    finally:
        # A second Ctrl-C would interrupt the cleaning.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _find_problems(path: Path) -> list[str]:
    """What the product would refuse in the file, with its lines; asked before seconds are spent on servers."""
    try:
        parse_snapshot(path.read_bytes(), str(path), environment="")
    except InvalidSnapshot as refused:
        return [str(finding) for finding in refused.findings]
    except OSError as error:
        return [f"{path} cannot be read: {error.strerror}"]
    return []


def _gather_temporary_files() -> None:
    folder = Path(tempfile.mkdtemp(prefix="demo-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    # Where root starts the demo, PostgreSQL runs as somebody else.
    folder.chmod(0o755)
    tempfile.tempdir = str(folder)


def _exit(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
