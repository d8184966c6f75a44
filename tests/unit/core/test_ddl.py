"""Every statement as it is sent, written by hand."""

from dataclasses import replace
from typing import Any

import pytest

from provisioner.core import ddl
from provisioner.core.changes import Change, ChangeKind
from provisioner.core.kinds import ObjectKind
from provisioner.core.state import PUBLIC, Marker, Target

TABLES = Target(ObjectKind.TABLE, schema="app", owner="shop_owner")
GRANT = Change(
    ChangeKind.GRANT,
    database="shop",
    username="reader",
    owner="shop_owner",
    grantor="shop_owner",
    privileges=("INSERT", "SELECT"),
    targets=(TABLES,),
    covers_schema=True,
)


def on(target: Target, **fields: Any) -> Change:
    return replace(GRANT, targets=(target,), **fields)


def as_revoke(change: Change, **fields: Any) -> Change:
    return replace(change, kind=ChangeKind.REVOKE, **fields)


def test_roles() -> None:
    assert (
        str(ddl.create_role(Change(ChangeKind.CREATE_ROLE, username="a")))
        == "CREATE ROLE \"a\" LOGIN PASSWORD '********'"
    )
    assert str(ddl.create_role(Change(ChangeKind.CREATE_ROLE, username="a", createdb=True, connection_limit=0))) == (
        "CREATE ROLE \"a\" LOGIN CREATEDB CONNECTION LIMIT 0 PASSWORD '********'"
    )
    assert ddl.alter_role(Change(ChangeKind.ALTER_ROLE, username="a", createdb=False, connection_limit=7)) == (
        'ALTER ROLE "a" NOCREATEDB CONNECTION LIMIT 7'
    )
    assert (
        ddl.alter_role(Change(ChangeKind.ALTER_ROLE, username="a", createrole=False)) == 'ALTER ROLE "a" NOCREATEROLE'
    )
    change = Change(ChangeKind.REVOKE_MEMBERSHIP, username="a", subject="b")
    assert ddl.ROLE_STATEMENTS[change.kind](change) == 'REVOKE "b" FROM "a"'


def test_a_password_statement_shows_no_verifier_until_it_is_sent() -> None:
    statement = ddl.set_password(Change(ChangeKind.SET_PASSWORD, username="a"))
    assert str(statement) == "ALTER ROLE \"a\" PASSWORD '********'"
    assert statement.complete("SCRAM-SHA-256$it's") == "ALTER ROLE \"a\" PASSWORD 'SCRAM-SHA-256$it''s'"


def test_from_16_a_membership_says_what_it_is_good_for() -> None:
    assert ddl.grant_self("a", with_options=False) == 'GRANT "a" TO CURRENT_USER'
    assert ddl.grant_self("a", with_options=True) == 'GRANT "a" TO CURRENT_USER WITH INHERIT TRUE, SET TRUE'
    assert ddl.revoke_self("a") == 'REVOKE "a" FROM CURRENT_USER'


def test_databases() -> None:
    assert ddl.create_database(Change(ChangeKind.CREATE_DATABASE, database="shop", username="a")) == (
        'CREATE DATABASE "shop" OWNER "a" TEMPLATE template0 ALLOW_CONNECTIONS false'
    )
    assert ddl.set_database_marker("shop", Marker("dev", comment="it's")) == (
        'COMMENT ON DATABASE "shop" IS '
        '\'{"managed_by": "rds-provisioner", "environment": "dev", "comment": "it\'\'s"}\''
    )


def test_an_extension_is_created_as_the_owner_and_in_public_where_it_has_a_choice() -> None:
    assert ddl.create_extension(
        Change(ChangeKind.CREATE_EXTENSION, database="shop", username="a", subject="uuid-ossp")
    ) == [
        'SET LOCAL ROLE "a"',
        'SET LOCAL search_path TO "public"',
        'CREATE EXTENSION IF NOT EXISTS "uuid-ossp"',
        "RESET search_path",
        "RESET ROLE",
    ]


@pytest.mark.parametrize(
    ("change", "objects", "sql"),
    [
        (GRANT, [], ['GRANT INSERT, SELECT ON ALL TABLES IN SCHEMA "app" TO "reader"']),
        (
            replace(GRANT, covers_schema=False),
            [("one",), ("two words",)],
            ['GRANT INSERT, SELECT ON TABLE "app"."one", "app"."two words" TO "reader"'],
        ),
        (replace(GRANT, covers_schema=False), [], []),
        (
            on(Target(ObjectKind.SEQUENCE, schema="app"), privileges=("USAGE",), covers_schema=False),
            [("ids",)],
            ['GRANT USAGE ON SEQUENCE "app"."ids" TO "reader"'],
        ),
        (
            on(Target(ObjectKind.COLUMN, schema="app"), privileges=("SELECT", "UPDATE")),
            [("one", 'a "b"')],
            ['GRANT SELECT ("a ""b"""), UPDATE ("a ""b""") ON "app"."one" TO "reader"'],
        ),
        (
            on(Target(ObjectKind.DATABASE), privileges=("CONNECT",)),
            [],
            ['GRANT CONNECT ON DATABASE "shop" TO "reader"'],
        ),
        (
            on(Target(ObjectKind.SCHEMA, schema="app"), privileges=("USAGE",)),
            [],
            ['GRANT USAGE ON SCHEMA "app" TO "reader"'],
        ),
        (as_revoke(GRANT), [], ['REVOKE INSERT, SELECT ON ALL TABLES IN SCHEMA "app" FROM "reader"']),
        (
            as_revoke(GRANT, grant_option=True),
            [],
            ['REVOKE GRANT OPTION FOR INSERT, SELECT ON ALL TABLES IN SCHEMA "app" FROM "reader"'],
        ),
        (
            as_revoke(on(Target(ObjectKind.DATABASE)), username=PUBLIC, privileges=("CONNECT", "TEMPORARY")),
            [],
            ['REVOKE CONNECT, TEMPORARY ON DATABASE "shop" FROM PUBLIC'],
        ),
    ],
)
def test_grants(change: Any, objects: list[tuple[str, ...]], sql: list[str]) -> None:
    assert ddl.grant_or_revoke([change], objects) == sql


def test_default_privileges_are_those_of_a_creator_and_of_a_schema_where_they_name_one() -> None:
    everywhere = Target(ObjectKind.TABLE, owner="a", creator="a")
    fields = {"database": "shop", "username": "r", "owner": "a", "grantor": "a", "privileges": ("SELECT",)}
    assert ddl.grant_or_revoke([Change(ChangeKind.GRANT_DEFAULT, **fields, targets=(everywhere,))]) == [  # type: ignore[arg-type]
        'ALTER DEFAULT PRIVILEGES FOR ROLE "a" GRANT SELECT ON TABLES TO "r"'
    ]
    here = replace(everywhere, schema="app")
    assert ddl.grant_or_revoke([Change(ChangeKind.REVOKE_DEFAULT, **fields, targets=(here,))]) == [  # type: ignore[arg-type]
        'ALTER DEFAULT PRIVILEGES FOR ROLE "a" IN SCHEMA "app" REVOKE SELECT ON TABLES FROM "r"'
    ]


def test_grantees_of_the_same_are_named_together() -> None:
    assert ddl.grant_or_revoke([GRANT, replace(GRANT, username="editor")]) == [
        'GRANT INSERT, SELECT ON ALL TABLES IN SCHEMA "app" TO "reader", "editor"'
    ]


def test_where_several_may_grant_it_is_said_in_whose_name() -> None:
    assert ddl.grant_or_revoke([as_revoke(GRANT)], act_as="shop_owner") == [
        'SET LOCAL ROLE "shop_owner"',
        'REVOKE INSERT, SELECT ON ALL TABLES IN SCHEMA "app" FROM "reader"',
        "RESET ROLE",
    ]


def test_many_objects_are_named_in_several_statements() -> None:
    names = [(f"t{number:04}",) for number in range(1001)]
    statements = ddl.grant_or_revoke([replace(GRANT, covers_schema=False)], names)
    assert [statement.count('"app".') for statement in statements] == [500, 500, 1]
