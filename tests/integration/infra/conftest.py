"""The programs of the build and the command line stand outside the packages: here they can be imported."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "infra"))
