from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.core.access_levels import AccessLevel
from provisioner.core.errors import Finding, InvalidSnapshot
from provisioner.core.model import Declaration, Entry
from provisioner.core.snapshot import MAX_BYTES, parse_snapshot

SNAPSHOTS = Path(__file__).parent / "snapshots"
NOTHING = "application_databases = {}\n"


def read(text: str | bytes, name: str = "terraform.tfvars") -> Declaration:
    content = text if isinstance(text, bytes) else text.encode()
    return parse_snapshot(content, name, environment="dev")[0]


def refused(text: str | bytes, name: str = "terraform.tfvars") -> tuple[Finding, ...]:
    with pytest.raises(InvalidSnapshot) as caught:
        read(text, name)
    return caught.value.findings


def codes(text: str | bytes, name: str = "terraform.tfvars") -> list[str]:
    return [finding.code for finding in refused(text, name)]


ORDERS = Entry("orders", "orders", "orders_app", extensions=("citext", "pg_trgm"))
REPORTS = Entry("orders-reports", "orders", "orders_reports", AccessLevel.READER, connection_limit=5)
PORTAL = Entry("portal", "portal_catalog", "portal_app", createdb=True)
WIKI = Entry("wiki", "wiki", "wiki_app")


class TestWholeFiles:
    def test_a_standalone_file_full_of_other_things_declares_its_two_entries(self) -> None:
        content = (SNAPSHOTS / "standalone.tfvars").read_bytes()
        assert parse_snapshot(content, "terraform.tfvars", environment="dev") == (
            Declaration(entries=(ORDERS, REPORTS)),
            (),
        )

    def test_a_file_with_windows_line_ends_declares_the_same(self) -> None:
        content = (SNAPSHOTS / "standalone.tfvars").read_bytes().replace(b"\n", b"\r\n")
        assert read(content).entries == (ORDERS, REPORTS)

    def test_a_disabled_coupled_file_declares_nothing_and_warns(self) -> None:
        content = (SNAPSHOTS / "coupled.tfvars").read_bytes()
        declaration, warnings = parse_snapshot(content, "dev/terraform.tfvars", environment="dev")
        assert declaration == Declaration(())
        assert [(w.code, w.where) for w in warnings] == [
            ("inactive", "dev/terraform.tfvars:14 rds_config.application_databases")
        ]

    def test_an_enabled_coupled_file_declares_its_entries_in_order(self) -> None:
        content = (SNAPSHOTS / "coupled.tfvars").read_bytes().replace(b"= false //", b"= true //")
        assert parse_snapshot(content, "terraform.tfvars", environment="dev") == (
            Declaration((PORTAL, WIKI), "rds_config.application_databases"),
            (),
        )

    def test_the_json_form_declares_the_same_as_hcl(self) -> None:
        content = (SNAPSHOTS / "standalone.tfvars.json").read_bytes()
        orders = Entry("orders", "orders", "orders_app", extensions=("citext",))
        assert parse_snapshot(content, "terraform.tfvars.json", environment="dev") == (
            Declaration(entries=(orders, REPORTS)),
            (),
        )


class TestMistakesOfTheFirstGeneration:
    def test_quoted_keys_are_read_like_unquoted_ones(self) -> None:
        text = 'application_databases = { "wiki" = { "database_name" = "wiki", "username" = "wiki_app" } }'
        assert read(text).entries == (WIKI,)

    @pytest.mark.parametrize("comment", ["# {}\n", "// {}\n", "/* {} */\n"], ids=["hash", "slashes", "block"])
    def test_a_commented_entry_is_not_provisioned(self, comment: str) -> None:
        ghost = comment.format('ghost = { database_name = "ghost", username = "ghost" }')
        text = f'application_databases = {{\n{ghost}wiki = {{ database_name = "wiki"\nusername = "wiki_app" }}\n}}'
        assert read(text).entries == (WIKI,)

    def test_the_order_of_attributes_does_not_matter(self) -> None:
        text = 'application_databases = { wiki = { username = "wiki_app", database_name = "wiki" } }'
        assert read(text).entries == (WIKI,)

    def test_an_empty_map_does_not_swallow_the_next_variable(self) -> None:
        text = 'application_databases = {}\nothers = { wiki = { database_name = "wiki", username = "wiki_app" } }\n'
        assert read(text).entries == ()

    def test_hyphenated_keys_and_names_stay_whole(self) -> None:
        text = 'application_databases = { my-app-2 = { database_name = "my-db", username = "my-user" } }'
        assert read(text).entries == (Entry("my-app-2", "my-db", "my-user"),)

    def test_access_level_is_read(self) -> None:
        text = 'application_databases = { r = { database_name = "d", username = "u", access_level = "reader" } }'
        assert read(text).entries == (Entry("r", "d", "u", AccessLevel.READER),)


class TestForms:
    def test_entries_come_in_the_order_of_their_keys(self) -> None:
        text = """application_databases = {
          b = { database_name = "b", username = "b" }
          a = { database_name = "a", username = "a" }
        }"""
        assert [entry.application for entry in read(text).entries] == ["a", "b"]

    def test_colons_parentheses_numeric_keys_and_inline_comments_are_read(self) -> None:
        text = 'application_databases = { 7 : { ("database_name") : ("d"), username = /* who */ "u", }, }'
        assert read(text).entries == (Entry("7", "d", "u"),)

    def test_an_application_may_be_called_by_a_keyword(self) -> None:
        text = 'application_databases = { in = { database_name = "d", username = "u" } }'
        assert read(text).entries == (Entry("in", "d", "u"),)

    def test_a_number_too_long_to_be_written_out_is_no_key(self) -> None:
        assert "computed_key" in codes("application_databases = { 1e999999999 = {} }")

    def test_escapes_are_decoded(self) -> None:
        text = r'application_databases = { a = { database_name = "\u0064b", username = "\U00000075" } }'
        assert read(text).entries == (Entry("a", "db", "u"),)

    def test_a_number_with_an_exponent_is_a_whole_number(self) -> None:
        text = 'application_databases = { a = { database_name = "d", username = "u", connection_limit = 1e2 } }'
        assert read(text).entries[0].connection_limit == 100

    def test_two_thousand_applications_are_read(self) -> None:
        lines = [f'a{n} = {{\n  database_name = "d{n}"\n  username = "u{n}"\n}}\n' for n in range(2000)]
        assert len(read(f"application_databases = {{\n{''.join(lines)}}}\n").entries) == 2000


REST = {
    "heredoc": "v = <<-EOT\n  application_databases = { x = {} }\n  EOT\n",
    "heredoc with blanks after its marker": "v = <<EOT\nx\nEOT  \n",
    "heredoc with windows line ends": "v = <<EOT\r\nx\r\nEOT\r\n",
    "heredoc in a list": "v = [<<EOT\nx\nEOT\n, 1]\n",
    "arithmetic": "v = 60 * (60 + 1)\n",
    "a minus behind a number": "v = 1 -12\n",
    "one sign behind another": "v = [- -1, !!true]\n",
    "splats": "v = [[{ a = 1 }].*.a, [1][*]]\n",
    "a splat at the end of a line": "v = { a = [1].*\n b = 1 }\n",
    "a computed truth as a key": "v = { (true) = 1 }\n",
    "heredoc with a separator before its marker": "v = <<E\n\x1cE\nE\n",
    "conditional": 'v = 1 > 2 ? "a" : "b"\n',
    "for over literals": "v = [for x in [1, 2] : x * 2]\n",
    "template of literals": 'v = "${1}%{ if true }x%{ endif }"\n',
    "template with a for": 'v = "%{ for x in [1] }${x}%{ endfor }"\n',
    "escaped template": 'v = "$${a} %%{b} $ %"\n',
    "unclosed escaped template": 'v = "$${"\n',
    "duplicate key in another map": "v = { a = 1, a = 2 }\n",
    "keyword keys": "v = { null = 1, true = 2, in = 3 }\n",
    "names that start with keywords": "format = 1\ninner = 2\nnullable = 3\n",
    "comments between tokens": "/* a */ v /* b */ = /* c */ 1 // d\n",
    "deep maps": "v = { a = { b = [{ c = null }] } }\n",
    "unicode": 'v = { schlüssel = "日本" }\n',
}


@pytest.mark.parametrize("rest", REST.values(), ids=REST.keys())
def test_the_rest_of_the_file_may_hold_what_terraform_accepts(rest: str) -> None:
    assert read(rest + NOTHING).entries == ()


TERRAFORM_REFUSES = {
    "reference": ("v = var.x\n", "reference"),
    "bare word": ("v = True\n", "reference"),
    "reference deep in a list": ("v = [1, { a = [local.x] }]\n", "reference"),
    "reference in arithmetic": ("v = 1 + x\n", "reference"),
    "reference in a template": ('v = "a ${var.x}"\n', "reference"),
    "reference in a heredoc": ("v = <<EOT\n${x}\nEOT\n", "reference"),
    "reference as a key": ("v = { (a) = 1 }\n", "reference"),
    "function": ('v = file("x")\n', "function_call"),
    "function in a map": ("v = { a = max(1, 2) }\n", "function_call"),
    "block": ("v {}\n", "block"),
    "block with an argument": ('v "x" {\n  a = 1\n}\n', "block"),
    "argument twice": ("v = 1\nv = 1\n", "duplicate_key"),
    "two arguments on a line": ("v = 1 w = 2\n", "syntax"),
    "two elements without separator": ("v = { a = 1 b = 2 }\n", "syntax"),
    "a comma on the next line": ("v = { a = 1\n, b = 2 }\n", "syntax"),
    "a value in parentheses behind another": ("v = 1 (2)\n", "syntax"),
    "a key in parentheses behind a value": ('v = { a = 1 ("b") = 2 }\n', "syntax"),
    "letters behind a number": ("v = 12abc\n", "syntax"),
    "a number with two points": ("v = 1.5.5\n", "syntax"),
    "an exponent beyond all numbers": ("v = 1e99999999999\n", "syntax"),
    "a letter that no name has": ("v = { a² = 1 }\n", "syntax"),
    "an expression over two lines": ("v = 1 +\n2\n", "syntax"),
    "a string over two lines": ('v = "a\nb"\n', "syntax"),
    "unknown escape": ('v = "\\q"\n', "syntax"),
    "half of a surrogate pair": ('v = "\\ud800"\n', "syntax"),
    "unclosed map": ("v = {\n", "syntax"),
    "closed twice": ("v = }\n", "syntax"),
    "unclosed comment": ("v = 1 /* \n", "syntax"),
    "unclosed heredoc": ("v = <<EOT\nx\n", "syntax"),
    "carriage return alone": ("v = 1\rw = 2\n", "syntax"),
    "list as a key": ("v = { [1] = 2 }\n", "key_type"),
    "null as a key": ("v = { (null) = 2 }\n", "key_type"),
    "for as the first key": ("v = { for = 1 }\n", "syntax"),
}


@pytest.mark.parametrize(("text", "code"), TERRAFORM_REFUSES.values(), ids=TERRAFORM_REFUSES.keys())
def test_what_terraform_refuses_anywhere_is_refused(text: str, code: str) -> None:
    assert code in codes(NOTHING + text)


class TestRefusedFiles:
    def test_an_empty_file_is_told_how_to_say_nothing(self) -> None:
        (finding,) = refused(b"\n \n")
        assert (finding.code, finding.next_step) == (
            "empty",
            "to declare nothing on purpose, write application_databases = {}",
        )

    @pytest.mark.parametrize("content", [b"\xef\xbb\xbfv = 1\n", b"\xff\xfev"], ids=["utf-8", "utf-16"])
    def test_a_byte_order_mark_is_refused(self, content: bytes) -> None:
        assert codes(content) == ["byte_order_mark"]

    def test_entries_made_by_a_for_are_refused_with_a_next_step(self) -> None:
        (finding,) = refused('application_databases = { for x in ["a"] : x => {} }\n')
        assert str(finding) == (
            "terraform.tfvars:1 application_databases: application_databases must be an object, not a for expression; "
            "write the values out"
        )

    def test_bytes_that_are_not_utf8_are_refused_with_their_line(self) -> None:
        (finding,) = refused(b'a = 1\nb = "\xe9"\n')
        assert (finding.code, finding.where) == ("not_utf8", "terraform.tfvars:2 column 6")

    def test_a_file_over_the_limit_is_refused(self) -> None:
        assert codes(b"#" * (MAX_BYTES + 1)) == ["too_large"]

    def test_an_unknown_ending_is_refused(self) -> None:
        assert codes(NOTHING, "terraform.yaml") == ["unknown_format"]

    def test_a_syntax_error_names_line_and_column_and_no_text(self) -> None:
        (finding,) = refused('a = 1\nb = "x" "hunter2!"\n')
        assert str(finding) == (
            "terraform.tfvars:2 column 9: elements must be separated by a comma or a line, arguments by a line; "
            "check it with terraform fmt"
        )

    def test_every_problem_is_told_at_once_with_its_line(self) -> None:
        text = 'environment = "prod"\nv = var.x\napplication_databases = {\n  a = { username = "U" }\n}\n'
        assert [(finding.code, finding.where) for finding in refused(text)] == [
            ("reference", "terraform.tfvars:2 v"),
            ("wrong_environment", "terraform.tfvars:1 environment"),
            ("missing_attribute", "terraform.tfvars:4 application_databases.a.database_name"),
            ("invalid_name", "terraform.tfvars:4 application_databases.a.username"),
        ]

    def test_a_reference_in_an_entry_is_told_once(self) -> None:
        text = 'application_databases = { a = { database_name = var.x, username = "u" } }'
        assert [(finding.code, finding.where) for finding in refused(text)] == [
            ("reference", "terraform.tfvars:1 application_databases.a.database_name")
        ]

    def test_past_two_hundred_problems_they_are_counted(self) -> None:
        findings = refused(NOTHING + "v = [" + "x," * 1000 + "]\n")
        assert (len(findings), findings[-1].message) == (201, "800 more problems are not listed")


HOSTILE = {
    "brackets in brackets": "v = " + "[" * 100_000,
    "templates in templates": 'v = "' + '${"' * 100_000,
    "blank lines in a heredoc without end": "v = <<E\n" + "\n" * 900_000,
    "a million tokens": "v = [" + "1," * 500_000 + "]",
    "quotes": '"' * 1_000_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_hcl_is_refused_before_it_is_parsed(text: str) -> None:
    assert codes(text)[0] in {"too_deep", "too_large", "syntax"}


class TestJson:
    @pytest.mark.parametrize(
        "text",
        ["[]", "1", "{", '{"a": NaN}', '{"a": -Infinity}', '{"a": 1,}', "{'a': 1}", '{"a": 1} {}', '{"a": "\n"}'],
    )
    def test_what_is_no_json_object_is_a_syntax_error(self, text: str) -> None:
        assert codes(text, "x.tfvars.json") == ["syntax"]

    def test_a_duplicate_key_is_refused(self) -> None:
        entry = '{"database_name": "d", "username": "u", "username": "w"}'
        (finding,) = refused(f'{{"application_databases": {{"a": {entry}}}}}', "x.tfvars.json")
        assert (finding.code, finding.where) == ("duplicate_key", "x.tfvars.json application_databases.a.username")

    def test_a_template_in_an_entry_is_refused(self) -> None:
        text = '{"application_databases": {"a": {"database_name": "${d}", "username": "u"}}}'
        assert codes(text, "x.tfvars.json") == ["computed_value"]

    @pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000], ids=["lists", "objects"])
    def test_deep_nesting_is_refused(self, text: str) -> None:
        assert codes(text, "x.tfvars.json") == ["too_deep"]

    def test_brackets_in_strings_do_not_nest(self) -> None:
        assert read(f'{{"a": "{"[" * 1000}", "application_databases": {{}}}}', "x.tfvars.json").entries == ()

    def test_a_number_whose_exponent_terraform_does_not_read_is_refused(self) -> None:
        entry = '{"database_name": "d", "username": "u", "connection_limit": 1e999999999999999999999}'
        assert codes(f'{{"application_databases": {{"a": {entry}}}}}', "x.tfvars.json") == ["syntax"]
