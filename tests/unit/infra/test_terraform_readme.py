"""The README of the Terraform module has every input and output, in the tables of terraform-docs."""

import re

import pytest

from stack.binaries import ROOT

MODULE = ROOT / "infra/terraform/rds-provisioner-hook"
README = (MODULE / "README.md").read_text(encoding="utf-8")


def declared(file: str, kind: str) -> dict[str, str]:
    """The blocks of a file, by name."""
    text = (MODULE / file).read_text(encoding="utf-8")
    return dict(re.findall(rf'^{kind} "(\w+)" {{\n(.*?)^}}', text, re.MULTILINE | re.DOTALL))


def attribute(body: str, name: str) -> str | None:
    found = re.search(rf"^  {name}\s*= (.*)$", body, re.MULTILINE)
    return found[1].strip('"') if found else None


def rows(heading: str) -> dict[str, list[str]]:
    section = README.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if "|" in line]
    return {cells[0]: cells[1:] for cells in lines[2:]}


def test_every_input_is_in_the_table_with_its_description_default_and_whether_it_is_required() -> None:
    expected = {}
    for name, body in declared("variables.tf", "variable").items():
        default = re.search(r"^  default\s*= (.*)$", body, re.MULTILINE)
        shown = [f"`{default[1]}`", "no"] if default else ["n/a", "yes"]
        expected[name] = [attribute(body, "description"), *shown]
    assert {name: [cells[0], *cells[2:]] for name, cells in rows("Inputs").items()} == expected


def test_every_output_is_in_the_table() -> None:
    expected = {name: [attribute(body, "description")] for name, body in declared("outputs.tf", "output").items()}
    assert rows("Outputs") == expected


@pytest.mark.parametrize("folder", ["", "examples/network", "examples/complete"])
def test_versions_have_bounds_on_both_sides(folder: str) -> None:
    text = (MODULE / folder / "versions.tf").read_text(encoding="utf-8")
    bounds = re.findall(r'version\s*= "(.*)"', text)
    assert len(bounds) == 2
    assert all(re.fullmatch(r">= [\d.]+, < [\d.]+", each) for each in bounds)


def test_the_module_takes_every_attribute_that_an_entry_may_have() -> None:
    schema = (ROOT / "docs/schemas/tfvars.schema.json").read_text(encoding="utf-8")
    body = declared("variables.tf", "variable")["application_databases"]
    named = set(re.findall(r"^    (\w+)\s*= (?:optional|string)", body, re.MULTILINE))
    assert {"database_name", "username", "access_level", "accepted_findings"} <= named
    assert {name for name in named if f'"{name}"' not in schema} == set()
