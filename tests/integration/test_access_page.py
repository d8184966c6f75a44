"""The page of who can do what: one file that asks nobody, that names cannot break, that a screen reader can read."""

import csv
import io
import re
from dataclasses import replace

import pytest

from provisioner.core.access_html import render_html
from provisioner.core.access_report import render_csv
from stack import browser
from stack.access_example import HOSTILE, example

SIZES = {"desktop": (1280, 900), "phone": (500, 900)}


@pytest.fixture(scope="module")
def real_browser() -> None:
    if lacks := browser.missing():
        pytest.skip(lacks)


@pytest.mark.usefixtures("real_browser")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("is_hostile", [False, True], ids=["plain", "hostile names"])
def test_axe_finds_nothing_wrong(size: str, is_hostile: bool) -> None:  # noqa: FBT001
    width, height = SIZES[size]
    found, passes = browser.violations(render_html(example(is_hostile=is_hostile)), width=width, height=height)
    assert [(item["id"], [node["html"] for node in item["nodes"]]) for item in found] == []
    assert passes > 15


@pytest.mark.usefixtures("real_browser")
def test_axe_would_find_something() -> None:
    found, _ = browser.violations("<html><head></head><body><img src=x></body></html>", width=800, height=600)
    assert {"image-alt", "document-title", "html-has-lang"} <= {item["id"] for item in found}


@pytest.mark.usefixtures("real_browser")
def test_names_of_tenants_are_text_and_nothing_else() -> None:
    text = browser.dom(render_html(example(is_hostile=True)))
    # Chromium has parsed it: whatever had become an element or an attribute would stand here.
    assert re.findall(r"<script|<b |<[^>]*\bon\w+=", text) == []
    assert "&lt;script&gt;alert(1)" in text


def test_what_does_not_print_is_not_on_the_page() -> None:
    report = example()
    rows = tuple(replace(row, database="a\x1b[2Jb\u202ec\nd", scope="x\x1by") for row in report.access)
    databases = tuple(replace(each, name="a\x1b[2Jb\u202ec\nd") for each in report.databases)
    page = render_html(replace(report, access=rows, databases=databases))
    assert [line for line in page.split("\n") if not line.isprintable()] == []
    assert "a [2Jb c d" in page


def test_the_page_asks_nobody_and_runs_nothing() -> None:
    page = render_html(example(is_hostile=True))
    assert "<script" not in page
    assert re.findall(r"""(?:src|href|action)=["'](?!#)|url\(|@import|https?:""", page) == []
    assert "default-src 'none'" in page


def test_a_formula_in_a_name_is_none_in_the_csv() -> None:
    report = example()
    rows = [row for row in report.access if row.role == "shop_reader"]
    text = render_csv([replace(rows[0], role=role) for role in ("=1+1", "@SUM(A1)", "-2", "+3", "\uff1dx")])
    assert [line["role"][0] for line in csv.DictReader(io.StringIO(text))] == ["'"] * 5


def test_what_is_beyond_a_level_comes_first() -> None:
    page = render_html(example())
    assert page.index("reader; BEYOND ITS LEVEL: write") < page.index(">editor<")
    assert page.index("Beyond a level</h2>") < page.index("Roles and databases</h2>") < page.index(">Databases</h2>")
    assert HOSTILE not in page
