"""Small files are read by `terraform console -var-file` and by us; where we differ, a reason stands beside the file."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from integration.tfvars_files import Files
from provisioner.core.errors import InvalidSnapshot
from provisioner.core.snapshot import parse_snapshot

pytestmark = pytest.mark.skipif(
    shutil.which("terraform") is None, reason="terraform, the oracle of what a tfvars file means, is not on PATH"
)

# Terraform evaluates only what is declared, as every argument of a real file is.
MODULE = "".join(
    f'variable "{name}" {{\n  type = any\n{default}}}\n'
    for name, default in [
        ("application_databases", ""),
        *((name, "  default = null\n") for name in ("v", "v0", "v1", "v2", "év0", "év1", "év2")),
    ]
)
GENERATED, BATCH = 500, 50
EXPRESSION = "base64encode(jsonencode(var.application_databases))\n"
NOTHING = "application_databases = {}\n"


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("oracle")
    (folder / "main.tf").write_text(MODULE)
    return folder


def ask_terraform(module: Path, content: str, name: str) -> tuple[object, set[str]]:
    """Return the variable's value as Terraform has it, or None and the titles of what it says against the file."""
    (module / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    done = subprocess.run(
        ["terraform", "console", "-no-color", f"-var-file={name}"],
        cwd=module,
        input=EXPRESSION,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
        timeout=60,
        # It lives for a tenth of a second: no garbage is collected.
        env={"PATH": os.environ["PATH"], "HOME": str(module), "CHECKPOINT_DISABLE": "1", "GOGC": "off"},
    )
    # Warnings about undeclared variables stand before the value.
    value = done.stdout.splitlines()[-1] if done.stdout else ""
    if done.returncode != 0 or not value.startswith('"'):
        errors = set(re.findall(r"^Error: (.*)$", done.stderr, re.MULTILINE))
        assert errors or "known after apply" in value, done
        return None, errors or {"No value for required variable"}
    return json.loads(base64.b64decode(value.strip('"'))), set()


def terraform_reads(module: Path, content: str, name: str = "x.tfvars") -> object:
    return ask_terraform(module, content, name)[0]


def read(content: str, name: str) -> tuple[object, set[str]]:
    """Return what we read in the form of the variable's value, or None and the codes of our refusal."""
    try:
        declaration, _ = parse_snapshot(content.encode("utf-8", "surrogateescape"), name, environment="dev")
    except InvalidSnapshot as refusal:
        return None, {finding.code for finding in refusal.findings}
    return {
        entry.application: {"database_name": entry.database, "username": entry.username}
        for entry in declaration.entries
    }, set()


def we_read(content: str, name: str = "x.tfvars") -> object:
    return read(content, name)[0]


ENTRY = 'database_name = "d", username = "u"'
OTHER = 'database_name = "e", username = "w"'
BLANKS_OF_GO = "\t\v\f \x85\u00a0\u1680\u2000\u2007\u200a\u2028\u2029\u202f\u205f\u3000"
OTHER_BLANKS = "\x1c\x1f\u180e\u200b\ufeff"
READ_ALIKE = [
    f"application_databases = {{ a = {{ {ENTRY} }} }}",
    f"application_databases = {{ a : {{ {ENTRY}, }}, }}",
    f'application_databases = {{ "a-b" = {{ {ENTRY} }} }}',
    f"application_databases = {{ a-b = {{ {ENTRY} }} }}",
    f"application_databases = {{ 7 = {{ {ENTRY} }} }}",
    f"application_databases = {{ true = {{ {ENTRY} }} }}",
    f"application_databases = {{ null = {{ {ENTRY} }} }}",
    f"application_databases = {{ if = {{ {ENTRY} }} }}",
    f"application_databases = {{ format = {{ {ENTRY} }} }}",
    f'application_databases = {{ ("a") = ({{ {ENTRY} }}) }}',
    f"application_databases = ({{ a = {{ {ENTRY} }} }})",
    f"application_databases = {{\r\n  a = {{ {ENTRY} }}\r\n}}\r\n",
    f"application_databases = {{ # c\n a = {{ {ENTRY} }} // d\n /* e */ b = {{ {OTHER} }} }}",
    f"application_databases = /* c */ {{ a /* d */ = {{ {ENTRY} }} }}",
    f"/* a */ application_databases = {{}} /* {ENTRY} */",
    'application_databases = { a = { database_name = "\\u0064", username = "\\U00000075" } }',
    'application_databases = { a = {\n"username" = "u"\n"database_name" : "d"\n} }',
    f"\tapplication_databases\t=\t{{\ta\t=\t{{ {ENTRY} }}\t}}\t",
    f"x = <<E\napplication_databases = {{}}\nE\napplication_databases = {{ a = {{ {ENTRY} }} }}",
    f'x = "application_databases = {{"\napplication_databases = {{ a = {{ {ENTRY} }} }}',
    f"x = {{}}\napplication_databases = {{ a = {{ {ENTRY} }} }}\ny = [\n]",
    # A heredoc ends where Go's blanks leave its marker alone: two declarations in one file otherwise.
    "v1 = <<E\n\u00a0E\nv2 = <<F\nE\napplication_databases = { evil = { "
    + ENTRY
    + " } }\na-b = <<G\nF\napplication_databases = {}\n_x = <<H\nG\ntrue1 = <<H\nH\n",
    *(f"v = <<E\n{blank}E{blank}\napplication_databases = {{ a = {{ {ENTRY} }} }}" for blank in BLANKS_OF_GO),
    f"# caf\udce9\napplication_databases = {{ a = {{ {ENTRY} }} }} // \udce9",
]

REST_ALIKE = [
    # accepted by both
    "v = null",
    "v = -1.5e-3",
    "v = 007",
    "v = 1E+3",
    "v = [1, 2,]",
    "v = [\n1\n, 2\n]",
    "v = { a = 1, }",
    "v = {\n}",
    "v = { a = 1,\n\n b = 2\n}",
    "v = { a:1\nb:2 }",
    "v = (\n1\n+\n2)",
    'v = "$${a} %%{b} $a %b $$"',
    'v = "$${"',
    'v = "${1}"',
    'v = "${\n1\n}"',
    'v = "${~ 1 ~}"',
    'v = "a${"}"}b"',
    'v = "${"a" /* } */}"',
    'v = "%{ if true }x%{ endif }"',
    'v = "%{ for x in [1] }${x}%{ endfor }"',
    "v = <<E\nx\n  E\nw = 1",
    "v = <<-E\n  x\n  E\n",
    "v = <<E\nE\n",
    "v = <<E\nx\nE \nw = 1",
    "v = <<E\nx\nEE\nE\n",
    "v = <<E\n${1}E\nE\n",
    "v = <<A-B\nx\nA-B\n",
    "v = <<É\nx\nÉ\n",
    'v = <<E\n${"x"} "q" { /* \nE\n',
    "v = { a = <<E\nx\nE\n b = 1 }",
    "v = [<<E\nx\nE\n, 1]",
    "v = <<E\r\nx\r\nE\r\n",
    "é = 1",
    "v = { é = 1 }",
    "v = { क्ष = 1 }",
    "v = [{ क्ष = 1, a = 2 }][0]",
    "v = [for x in [1] : x if x > 0]",
    "v = { for k, x in { a = 1 } : k => x }",
    "v = true ? 1 : 2",
    "v = [1, 2][0]",
    "v = { a = 1 }.a",
    "v = [{ a = 1 }][*].a",
    "v = [{ a = 1 }].*.a",
    "v = 1 == 1 && !false",
    "v = 99999999999999999999",
    "for = 1",
    "null = 1",
    "_v = 1",
    "v-1 = 1",
    "v = 1 #",
    "v = 1 //",
    "v = 1 /**/",
    'v = "\\"\\\\\\n\\r\\t"',
    "v = { a = 1, a = 2 }",
    "v = 60-12",
    "v = [2-14, (1)-10, 2-1.5]",
    "v = !!true",
    "v = --1",
    "v = {(<<E\na\nE\n) = 1}",
    "v = 1e999999",
    "v = 1e-000000000000000000005",
    "v = 0e99999999999",
    "v = [1].0",
    "v = [{ a = 1 }].0.a",
    "v = { for x in [1] : x => x }",
    "v = {\n# c\nfor x in [1] :\nx => x\n}",
    "v = { a = 1\n for = 2 }",
    "v = { in = 1\n if = 2 }",
    "v = { else = 1, endif = 2, endfor = 3, for_each = 4 }",
    "v = [{ if = 1 }.if, { null = 1 }.null, { for_each = 1 }.for_each]",
    "v = [for if in [1] : if if true]",
    "v = { a = 1, for = 2 }",
    "v = {\n\n for = 1 }",
    "v = (-\n-1)",
    "v = [[1]][*][0]",
    "v = [<<E\nE\n,1]",
    "v = {a = <<E\nE\n}",
    'v = "${1~}"',
    # refused by both
    "v = x",
    "v = True",
    "v = var.x",
    "v = f(1)",
    "v = a::b(1)",
    "v {}",
    'v "x" {}',
    "v = 1 w = 2",
    "v = 1\nv = 2",
    "v = { a = 1 b = 2 }",
    "v = { a = 1\n, b = 2 }",
    "v = { a = 1 /* \n */ b = 2 }",
    "v = 1 /* \n */ w = 2",
    "v = [1 2]",
    "v = [,]",
    "v = {,}",
    "v = [1\n2]",
    "v = 1 +\n2",
    "v = true ?\n1 : 2",
    "v = true ? 1\n: 2",
    "v =\n1",
    "v\n= 1",
    "v = { a\n= 1 }",
    "v = { a =\n1 }",
    'v = "a\nb"',
    'v = "a\rb"',
    'v = "\\q"',
    'v = "\\u12"',
    'v = "\\ud800"',
    'v = "\\U00110000"',
    'v = "${x}"',
    'v = "${"',
    'v = "${}"',
    "v = <<E\nx",
    "v = <<E\nx\nE",
    "v = <<E\nx\nE ",
    "v = <<E\n${x}\nE\n",
    'v = <<E\n${"a\nE\n',
    "v = << E\nx\nE\n",
    'v = <<"E"\nx\nE\n',
    "v = <<A.B\nx\nA.B\n",
    "v = 1\rw = 2",
    "v = 1;",
    "v = 'a'",
    "v = `a`",
    "v = 1\f",
    "v = 1\u00a0",
    "v = “a”",
    "v = 1 }",
    "v = [1",
    "v = { a = 1",
    "v = (1",
    "v = [)",
    "v = 1 /*",
    '"v" = 1',
    "v",
    "= 1",
    "v = ",
    "v == 1",
    "v = .5",
    "v = 1.",
    "v = 0x1",
    "v = 1_0",
    "v = 1e",
    "1v = 1",
    "v.a = 1",
    "v = { (a) = 1 }",
    "v = { a.b = 1 }",
    "v = { a[0] = 1 }",
    "v = { [1] = 2 }",
    "v = { (null) = 1 }",
    "v = { {} = 1 }",
    "v = { f() = 1 }",
    "v = { a = { [1] = 2 } }.a",
    "v = [{ a = x }][0]",
    "v = [{ (a) = 1 }][0]",
    "v = {<<E\nx\nE\n = 1}",
    "v = { for = 1 }",
    "v = { for: 1 }",
    "v = a ? 1 : 2",
    "v = -a",
    "v = { a = [b] }",
    "v = [1...]",
    "v = 1.2.3",
    "v = 1e9999999999999",
    "v = 1e2147483648",
    "v = { /* c */ for = 1 }",
    "v = [for = 1]",
    "caf\udce9 = 1",
    "v = <<E\na\rb\nE\n",
    "v = <<E\n\rE\n",
    "v = <<E\nE\r\n",
    'v = "caf\udce9"',
    "v = <<E\ncaf\udce9\nE\n",
    *(f"v = <<E\n{blank}E\n" for blank in OTHER_BLANKS),
    'v = "a" "b"',
    "v = { for\n= 1 }",
    "v = [-\n1",
    "v = [1]\n[0]",
    "v = { a = 1 (1) }",
    "v = <<E\nE\n+ 1",
    "v = [*]",
    "v = a...",
    "v = {a=1,,b=2}",
    "v = [1].0.",
    'v = "${1 ~ }"',
    'v = "${[1~]}"',
    "v = { a = 1 ~}",
    'v = "${if}"',
    "v = ~",
    "{}",
]

STRICTER = {
    "byte-order mark: an editor's accident": "\ufeff" + NOTHING,
    "key twice in the block: the last would silently win": f"application_databases = {{ a = {{ {ENTRY} }}, a = {{}} }}",
    "attribute twice: the last would silently win": f'application_databases = {{ a = {{ {ENTRY}, username = "u" }} }}',
    "template in a name: a reference was likelier meant": (
        'application_databases = { a = { database_name = "${"d"}", username = "u" } }'
    ),
    "computed key": f'application_databases = {{ "${{"a"}}" = {{ {ENTRY} }} }}',
    **{
        f"{key} as a key: nobody means the string that Terraform makes of it": (
            f"application_databases = {{ {key} = {{ {ENTRY} }} }}"
        )
        for key in ("007", "1e3", "-1", "(true)")
    },
    "number as a name: Terraform would make a string of it": (
        'application_databases = { a = { database_name = 1, username = "u" } }'
    ),
}

# Computed values outside of our part are searched for references and functions, and not computed.
MORE_LENIENT = {
    "operands are not typed": 'v = 1 + "x"\n' + NOTHING,
    "branches are not typed": "v = true ? 1 : [2]\n" + NOTHING,
    "indices are not followed": "v = [1][5]\n" + NOTHING,
    "legacy indices are not followed": "v = [[1]].0.0\n" + NOTHING,
    "attributes are not followed": "v = null.a\n" + NOTHING,
    "templates are not computed": 'v = "a${null}"\n' + NOTHING,
    "keys are not computed": 'v = {"${null}" = 1}\n' + NOTHING,
    "directives are not paired": 'v = "%{ endif }"\n' + NOTHING,
    "a loop is not read: its names would need scopes": "v = [for x in [1] : y]\n" + NOTHING,
    "a loop is not run": 'v = {for k in ["a", "a"] : k => 1}\n' + NOTHING,
    "a loop in a template is not read": 'v = "%{ for x in y }${z}%{ endfor }"\n' + NOTHING,
    "a number is taken for anything that has attributes": "v = 1.a\n" + NOTHING,
}

# What is refused here although Terraform reads it, and what Terraform says of values that it computes and we do not.
OURS_ONLY = {
    "unknown_attribute",
    "missing_attribute",
    "invalid_name",
    "duplicate_key",
    "computed_key",
    "computed_value",
    "for_expression",
    "wrong_type",
}
COMPUTED = {
    "Inconsistent conditional result types",
    "Invalid index",
    "Invalid operand",
    "Invalid template interpolation value",
    "Operation failed",
    "Unsupported attribute",
}
IN_LOOPS = COMPUTED | {"Function calls not allowed", "Variables not allowed"}

JSON_ALIKE = [
    '{"application_databases": {"a": {"database_name": "d", "username": "u"}}}',
    '{"//": 1, "application_databases": {"a-b": {"username": "\\u0075", "database_name": "d"}}}',
    '{"v": "${not.a.template}", "application_databases": {}}',
    '{"application_databases": {}} x',
    '{"application_databases": {},}',
    '{"application_databases": NaN}',
    "{'application_databases': {}}",
    '{"application_databases": {}, "v": 01}',
    '{"application_databases": {}, "application_databases": {}}',
    '{"application_databases": {}, "v": {"a": 1, "a": 2}}',
    '{"application_databases": {}, "v": [{"a": 1, "a": 2}]}',
    '{"application_databases": {}, "v": 1.2.3}',
    '{"application_databases": {}, "v": 1e9999999999999}',
    '{"application_databases": {}, "v": 1e2147483648}',
    '{"application_databases": {}, "v": 1e999999}',
]


@pytest.mark.parametrize("content", READ_ALIKE)
def test_terraform_and_we_read_the_same_entries(module: Path, content: str) -> None:
    expected = terraform_reads(module, content)
    assert expected is not None
    assert we_read(content) == expected


@pytest.mark.parametrize("rest", REST_ALIKE)
def test_terraform_and_we_accept_and_refuse_the_same_rest(module: Path, rest: str) -> None:
    content = NOTHING + rest
    assert we_read(content) == terraform_reads(module, content)


@pytest.mark.parametrize("content", STRICTER.values(), ids=STRICTER.keys())
def test_we_are_stricter_only_for_a_reason(module: Path, content: str) -> None:
    assert terraform_reads(module, content) is not None
    assert we_read(content) is None


@pytest.mark.parametrize("content", MORE_LENIENT.values(), ids=MORE_LENIENT.keys())
def test_we_are_more_lenient_only_for_a_reason(module: Path, content: str) -> None:
    assert terraform_reads(module, content) is None
    assert we_read(content) == {}


@pytest.mark.parametrize("content", JSON_ALIKE)
def test_terraform_and_we_read_the_same_json(module: Path, content: str) -> None:
    assert we_read(content, "x.tfvars.json") == terraform_reads(module, content, "x.tfvars.json")


@pytest.mark.parametrize("batch", range(GENERATED // BATCH))
def test_terraform_and_we_read_the_same_generated_files(module: Path, batch: int) -> None:
    differences = []
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        content = Files(seed).file()
        theirs, errors = ask_terraform(module, content, "x.tfvars")
        ours, codes = read(content, "x.tfvars")
        computed = IN_LOOPS if "for" in content else COMPUTED
        if theirs != ours and not (ours is None and codes <= OURS_ONLY) and not (theirs is None and errors <= computed):
            differences.append((seed, content, theirs, errors, ours, codes))
    assert not differences
