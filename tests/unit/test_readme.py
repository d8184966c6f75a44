"""README and reference say what the code says: their tables, their files, their commands and what they print."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from provisioner.core import access_levels as levels
from provisioner.core.access_levels import AccessLevel
from provisioner.core.errors import ProvisioningError
from provisioner.core.kinds import ObjectKind
from provisioner.core.model import RunStatus, Settings
from provisioner.core.plan import Plan
from provisioner.core.report import AuditLocations, RunResult, build_response
from provisioner.core.request import parse_request
from provisioner.core.snapshot import parse_snapshot
from provisioner.settings import read_settings
from stack.binaries import ROOT
from stack.postgres import DELEGATED_ADMIN

DOCUMENTS = [ROOT / "README.md", ROOT / "docs/reference.md", ROOT / "docs/architecture.md"]
README, REFERENCE = (path.read_text() for path in DOCUMENTS[:2])
PAGES = README + REFERENCE
COLUMNS = (ObjectKind.DATABASE, ObjectKind.SCHEMA, ObjectKind.TABLE, ObjectKind.SEQUENCE)


def table(name: str) -> dict[str, list[str]]:
    """The rows of a table by their first cell."""
    text = PAGES.split(f"<!-- table: {name} -->\n")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]
    return {row[0]: row[1:] for row in rows}


def shown(name: str) -> str:
    """What stands in a fenced block."""
    return PAGES.split(f"<!-- shown: {name} -->\n")[1].split("```")[1].split("\n", 1)[1]


def privileges(cell: str) -> set[str]:
    return set(re.findall(r"\b[A-Z]{4,}\b", cell))


@pytest.mark.parametrize("level", list(AccessLevel))
def test_the_access_levels_are_those_of_the_code(level: AccessLevel) -> None:
    cells = table("access levels")[level.value]
    assert [privileges(cell) for cell in cells] == [level.on(kind) for kind in COLUMNS]


@pytest.mark.parametrize(
    ("row", "held"),
    [
        ("everybody (PUBLIC) keeps at most", levels.PUBLIC_KEEPS),
        ("the administrator keeps", levels.ADMINISTRATOR_PRIVILEGES),
    ],
)
def test_what_everybody_and_the_administrator_keep_is_that_of_the_code(
    row: str, held: dict[ObjectKind, frozenset[str]]
) -> None:
    assert [privileges(cell) for cell in table("access levels")[row]] == [held.get(kind, set()) for kind in COLUMNS]


def test_the_settings_are_those_that_the_code_reads() -> None:
    source = (ROOT / "lambda/provisioner/settings.py").read_text()
    read = set(re.findall(r'reader\.\w+\("([A-Z_]+)"', source)) | {"ENVIRONMENT"}
    named = {name for row in table("settings") for name in re.findall(r"`([A-Z_]+)`", row)}
    assert named == read
    assert len(read) == len(dataclasses.fields(Settings))


def test_the_defaults_of_the_settings_are_those_of_the_code() -> None:
    required = {"ENVIRONMENT": "dev", "SNAPSHOT_BUCKET": "acme-tfvars", "AUDIT_BUCKET": "acme-governance"}
    settings, cells = read_settings(required), {name: row[0] for name, row in table("settings").items()}
    defaults = {
        "`SNAPSHOT_KEY`": settings.snapshot_key,
        "`AUDIT_PREFIX`": settings.audit_prefix,
        "`ADMIN_SECRET_ID`": settings.admin_secret_id,
        "`APP_SECRET_ID`": settings.app_secret_id,
        "`DB_CA_BUNDLE`": Path(settings.ca_bundle).name,
        "`UNGATED_ENVIRONMENTS`": ",".join(settings.ungated_environments),
        "`REQUIRE_PLAN_DIGEST`": ",".join(settings.digest_environments),
        "`APPROVAL_HOURS`": str(settings.approval_hours),
        "`MAX_WORKERS`": str(settings.max_workers),
        "`RETIRE_AFTER_DAYS`": str(settings.retire_after_days),
    }
    first = {name: cells[name].split("`")[1].replace("{environment}", "dev") for name in defaults}
    assert first == defaults
    assert (settings.database_host, settings.database_port, settings.database_name) == ("", 5432, "postgres")


def test_the_errors_are_those_of_the_code() -> None:
    assert {name.strip("`") for name in table("errors")} == {
        kind.__name__ for kind in ProvisioningError.__subclasses__()
    }


def test_the_events_are_those_in_the_folder() -> None:
    assert {name.strip("`") for name in table("events")} == {
        f"events/{path.name}" for path in (ROOT / "events").iterdir()
    }


def test_the_event_is_one_that_the_function_understands() -> None:
    environment = {"ENVIRONMENT": "dev", "SNAPSHOT_BUCKET": "acme-tfvars", "AUDIT_BUCKET": "acme-governance"}
    request = parse_request(json.loads(shown("event")), read_settings(environment))
    assert request.approval.plan_digest == json.loads(shown("answer"))["plan_digest"]


def test_the_answer_has_the_fields_of_an_answer() -> None:
    environment = {"ENVIRONMENT": "dev", "SNAPSHOT_BUCKET": "acme-tfvars", "AUDIT_BUCKET": "acme-governance"}
    request = parse_request({"environment": "dev"}, read_settings(environment))
    answer = build_response(request, RunResult(RunStatus.NO_CHANGE, Plan("dev")), AuditLocations())
    example = json.loads(shown("answer"))
    assert list(example) == list(answer)
    assert list(example["summary"]) == list(answer["summary"])  # type: ignore[call-overload]
    assert list(example["audit"]) == list(answer["audit"])  # type: ignore[call-overload]


def test_the_declaration_is_one_that_is_read() -> None:
    declaration, warnings = parse_snapshot(shown("terraform.tfvars").encode(), "terraform.tfvars", environment="dev")
    assert [entry.username for entry in declaration.entries] == ["analytics_reader", "keycloak_user"]
    assert warnings == ()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_and_command_that_is_named_is_there(document: Path) -> None:
    text = document.read_text()
    linked = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
    named = re.findall(r"`((?:infra|events|docs|tests|lambda)/[\w./-]+)`", text)
    missing = [path for path in linked if not (document.parent / path).exists()]
    missing += [path for path in named if not (ROOT / path).exists()]
    assert missing == []
    makefiles = (ROOT / "Makefile").read_text() + (ROOT / "infra/infra.mk").read_text()
    commands = re.findall(r"(?:`|^)make ([a-z][a-z-]*)", text, re.MULTILINE)
    assert [name for name in commands if not re.search(rf"^{name}:", makefiles, re.MULTILINE)] == []


def test_the_architecture_names_every_module_and_no_other() -> None:
    named = set(re.findall(r"`((?:core/|edges/)?\w+\.py)`", (ROOT / "docs/architecture.md").read_text()))
    package = ROOT / "lambda/provisioner"
    assert named == {str(path.relative_to(package)) for path in package.rglob("*.py") if path.name != "__init__.py"}


@pytest.mark.parametrize("anchor", re.findall(r"operations\.md#([\w-]+)", PAGES))
def test_every_chapter_of_the_runbook_that_is_named_is_there(anchor: str) -> None:
    headings = re.findall(r"^#+ (.*)$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    assert anchor in {heading.lower().replace(" ", "-") for heading in headings}


def test_the_administrator_is_the_role_that_its_file_makes() -> None:
    assert DELEGATED_ADMIN in shown("plan")
    assert f"CREATE ROLE {DELEGATED_ADMIN}" in (ROOT / "infra/admin-role.sql").read_text()
