"""Makes the file in which python-hcl2 keeps the tables of its grammar, for the place where the artifact will run.

python-hcl2 writes that file beside itself at the first parse, which it cannot do where it is deployed: without it each
cold start makes the tables anew, and that takes more than a second. The file is bound to its own path, so it is made
for the path under /var/task and written to where the artifact is built.

    PYTHONHASHSEED=0 python3.13 -S infra/make_grammar_tables.py path/to/artifact
"""

import sys
from pathlib import Path, PurePosixPath
from typing import Any

DEPLOYED = PurePosixPath("/var/task/hcl2")


def make_grammar_tables(artifact: Path) -> None:
    """Write the tables into the artifact, with the same content each time (as long as the hash seed is fixed)."""
    sys.path.insert(0, str(artifact))
    # The artifact's own, and therefore only now.
    import hcl2.parser  # noqa: PLC0415
    import lark.parsers.grammar_analysis  # noqa: PLC0415
    import lark.utils  # noqa: PLC0415

    here = hcl2.parser.PARSER_FILE
    there = DEPLOYED / here.name
    open_file = lark.utils.FS.open

    def open_here(name: str, *mode: str, **options: Any) -> Any:
        return open_file(str(here) if name == str(there) else name, *mode, **options)

    # By default these hash by their address in memory, and with it the order of a set of them changes.
    lark.parsers.grammar_analysis.LR0ItemSet.__hash__ = lambda items: hash(items.kernel)
    lark.utils.FS.open = staticmethod(open_here)
    hcl2.parser.PARSER_FILE = there
    hcl2.parser.parser()


if __name__ == "__main__":
    make_grammar_tables(Path(sys.argv[1]))
