"""Secrets and catalogs hold whatever somebody put there: it is read or refused by name, and never becomes SQL."""

import json
import re

from hypothesis import example, given
from hypothesis import strategies as st

from provisioner.core.access_levels import AccessLevel
from provisioner.core.credentials import Secret, parse_application_secret
from provisioner.core.errors import SecretUnavailable
from provisioner.core.kinds import ObjectKind
from provisioner.core.model import Declaration, Entry
from provisioner.core.ownership import Ownership
from provisioner.core.report import render_markdown, render_text
from provisioner.core.script import write_script
from provisioner.core.state import Database, Grant, Marker, ObjectGroup, Role, Server, Target
from unit.core.shop import differences_of, plan_of

PLANTED = "Planted-Pa55'\"$1\\%s{0}"
ENTRY = Entry("shop", "shop", "shop_user")
FIELDS = st.sampled_from(["username", "password", "host", "port", "dbname", "engine", "other"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(PLANTED),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=3),
    max_leaves=6,
)
SECRETS = (
    st.none()
    | st.text(max_size=60)
    | st.dictionaries(FIELDS, VALUES).map(json.dumps)
    | st.dictionaries(FIELDS, VALUES).map(lambda value: json.dumps(value)[:-1])
)


@given(text=SECRETS)
@example(text="[" * 100_000)
@example(text='{"password": ' * 50_000)
@example(text='{"password": "' + "x" * 65_000 + '"}')
@example(text='{"port": ' + "9" * 20_000 + "}")
def test_a_secret_is_understood_or_refused_and_no_finding_quotes_it(text: str | None) -> None:
    try:
        findings = parse_application_secret(Secret("secret-id", "arn", "1", text), ENTRY, "localhost").warnings
    except SecretUnavailable as refusal:
        findings = refusal.findings
    assert PLANTED not in " ".join(str(finding) for finding in findings)
    assert PLANTED not in repr(findings)


NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
HOSTILE = NAMES | st.sampled_from(
    ['"; DROP TABLE x; --', "'); DROP TABLE x; --", "{}", "%s", "$$", "$1", ":x", "\\", '"', "'", "/*", "--", "\n"]
)
# What is left of a statement of ours when everything in quotes is taken away.
WORDS = re.compile(r"[A-Z0-9a-z_ ,.()]*")
QUOTED = re.compile(r'"(?:[^"]|"")*"|\'(?:[^\']|\'\')*\'')


def scope_over(schema: str, table: str, column: str, comment: str) -> Ownership:
    """A managed database in which a reader holds too much, on objects with these names."""
    excess = (Grant("shop_user", "reporter", "DELETE"),)
    tables = Target(ObjectKind.TABLE, schema=schema, owner="shop_user", acl="{reporter=d/shop_user}")
    columns = Target(ObjectKind.COLUMN, schema=schema, owner="shop_user", acl="{reporter=w/shop_user}")
    others = Target(ObjectKind.TABLE, schema=schema, owner="shop_user")
    facts = Database(
        "shop",
        "shop_user",
        marker=Marker(comment=comment),
        groups=(
            ObjectGroup(Target(ObjectKind.DATABASE, owner="shop_user"), ()),
            ObjectGroup(Target(ObjectKind.SCHEMA, schema=schema, owner="shop_user"), ()),
            ObjectGroup(tables, excess),
            ObjectGroup(others, ()),
            ObjectGroup(columns, (Grant("shop_user", "reporter", "UPDATE"),)),
        ),
        names={tables: ((table,),), columns: ((table, column),), others: ((table + "2",),)},
    )
    roles = {
        name: Role(name, marker=Marker("dev")) for name in ("shop_user", "reporter")
    } | {"admin": Role("admin", createdb=True, createrole=True)}  # fmt: skip
    server = Server(18, "admin", "rdsadmin", roles, {"shop": facts})
    entries = (ENTRY, Entry("report", "shop", "reporter", AccessLevel.READER))
    return Ownership(
        Declaration(entries=entries),
        server,
        "dev",
        adopt=frozenset({"shop"}),
    )


@given(schema=HOSTILE, table=HOSTILE, column=HOSTILE, comment=HOSTILE)
def test_names_and_comments_of_tenants_stay_in_their_quotes(schema: str, table: str, column: str, comment: str) -> None:
    ownership = scope_over(schema, table, column, comment)
    plan = plan_of(ownership)
    script = write_script(plan.changes, ownership, differences_of(ownership))
    statements = [str(text) for item in script.databases for text in (*item.statements, *item.on_success)]
    assert any("REVOKE DELETE" in text for text in statements)
    assert all(WORDS.fullmatch(QUOTED.sub("", text)) for text in statements), statements


@given(schema=HOSTILE, table=HOSTILE, column=HOSTILE, comment=HOSTILE)
def test_a_plan_with_names_of_tenants_is_shown_without_control_characters(
    schema: str, table: str, column: str, comment: str
) -> None:
    plan = plan_of(scope_over(schema, table, column, comment))
    for text in (render_text(plan), render_markdown(plan)):
        assert text.replace("\n", "").isprintable()
