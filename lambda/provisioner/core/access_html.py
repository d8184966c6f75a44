"""A report of access in, one HTML file out: no script, no address from elsewhere, every value escaped by the template.

The only module that knows the template engine; it is loaded in this mode alone.
"""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from provisioner.core.access_report import AccessReport, build_matrices, describe, judge
from provisioner.core.text import sanitize

# Databases side by side in one table: what fits a sheet of paper.
MATRIX_WIDTH = 6
_LONGEST = 5_000
_SUPERUSER = "attribute SUPERUSER"


def render_html(report: AccessReport) -> str:
    environment = Environment(
        autoescape=True,
        finalize=_printable,
        loader=PackageLoader("provisioner.core"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"describe": describe, "judge": judge}
    # Superusers are told apart, once.
    rows = [row for row in report.access if row.path != _SUPERUSER]
    return environment.get_template("access.html").render(
        report=report,
        rows=[row for row in rows if row.role],
        superusers=sorted({row.role for row in report.access if row.path == _SUPERUSER}),
        matrices=list(build_matrices(rows, [each.name for each in report.databases], MATRIX_WIDTH)),
    )


def _printable(value: object) -> object:
    """What a template puts out: texts as one printable line each, but for what a macro has made of them."""
    return sanitize(value, _LONGEST) if isinstance(value, str) and not hasattr(value, "__html__") else value
