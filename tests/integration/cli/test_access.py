"""`rds-provisioner access`: the matrix on the terminal, the three files in a folder; nothing is changed."""

from pathlib import Path
from typing import Any

import pytest

from integration.cli.conftest import Lambda
from provisioner.core.access_html import render_html
from provisioner.core.access_report import render_csv, render_json
from rds_provisioner_cli import access
from rds_provisioner_cli.screen import Screen
from rds_provisioner_cli.stopped import Exit, Stopped
from rds_provisioner_cli.target import Given
from stack.access_example import HOSTILE, example

ADDRESS = "s3://acme-governance/governance/prod/access/20261127T101500.000Z-1"


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    report = example(is_hostile=True)
    files = {"html": render_html(report), "csv": render_csv(report.access), "json": render_json(report)}
    found = {f"{ADDRESS}.{name}": text.encode() for name, text in files.items()}
    monkeypatch.setattr(access, "read_object", lambda address: found[address])
    return found


def answer(**fields: Any) -> dict[str, Any]:
    audit = {f"access_{name}": f"{ADDRESS}.{name}" for name in ("html", "csv", "json")}
    return {"status": "reported", "audit": audit, "plan_text": example().text(), "warnings": [], **fields}


def tell(save: Path | None, *, as_json: bool = False) -> Exit:
    given = Given("prod", function_name="rds-provisioner-prod")
    return access.tell(given, {"environment": "prod"}, Screen(is_json=as_json), save=save, as_json=as_json)


def test_the_matrix_is_shown_and_the_files_are_saved(
    service: Lambda, stored: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answers = [answer()]
    assert tell(tmp_path / "new") is Exit.DONE
    assert service.events[-1] == {"environment": "prod", "mode": "access"}
    text = capsys.readouterr().out
    assert "shop_reader" in text
    assert "BEYOND ITS" in text
    assert "unknown" in text
    saved = {path.suffix.removeprefix("."): path.read_bytes() for path in (tmp_path / "new").iterdir()}
    assert saved == {address.rpartition(".")[2]: content for address, content in stored.items()}


def test_names_of_tenants_are_no_markup_and_no_control_characters(
    service: Lambda, stored: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    del stored
    service.answers = [answer(warnings=[{"message": "\x1b[2Jgone", "next_step": "look"}])]
    tell(None)
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert HOSTILE[:8] in text


def test_what_is_no_report_is_said(service: Lambda, stored: dict[str, bytes]) -> None:
    stored[f"{ADDRESS}.json"] = b"[]"
    service.answers = [answer()]
    with pytest.raises(Stopped, match="not a report of prod"):
        tell(None)
