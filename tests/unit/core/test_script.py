"""The statements of a plan in their order and transactions, written by hand."""

from dataclasses import replace

from provisioner.core import ddl
from provisioner.core.access_levels import AccessLevel
from provisioner.core.model import Declaration, Entry
from provisioner.core.ownership import Ownership
from provisioner.core.script import Script, write_script
from provisioner.core.state import Database, Marker, Role, Server
from unit.core.shop import differences_of, plan_of

ADMINISTRATOR = Role("admin", createdb=True, createrole=True, administrator_inherits=True)
OWNER = Entry("shop", "shop", "owner")
READER = Entry("report", "shop", "reader", AccessLevel.READER)


def script_for(*entries: Entry, version: int = 16, roles: tuple[Role, ...] = ()) -> Script:
    server = Server(version, "admin", "rdsadmin", {role.name: role for role in (ADMINISTRATOR, *roles)}, {})
    ownership = Ownership(Declaration(entries=entries), server, "dev")
    return write_script(plan_of(ownership).changes, ownership, differences_of(ownership))


def test_a_new_database_from_16_on() -> None:
    script = script_for(OWNER, READER)
    assert [str(each) for each in script.role_statements] == [
        "CREATE ROLE \"owner\" LOGIN PASSWORD '********'",
        (
            'COMMENT ON ROLE "owner" IS \'{"managed_by": "rds-provisioner", "environment": "dev", "creating": ["shop"],'
            ' "borrowed": true}\''
        ),
        'GRANT "owner" TO CURRENT_USER WITH INHERIT TRUE, SET TRUE',
        "CREATE ROLE \"reader\" LOGIN PASSWORD '********'",
        'COMMENT ON ROLE "reader" IS \'{"managed_by": "rds-provisioner", "environment": "dev"}\'',
    ]
    (database,) = script.databases
    assert database.create == 'CREATE DATABASE "shop" OWNER "owner" TEMPLATE template0 ALLOW_CONNECTIONS false'
    assert list(database.open) == [
        'GRANT CONNECT ON DATABASE "shop" TO "admin"',
        'REVOKE CONNECT, TEMPORARY ON DATABASE "shop" FROM PUBLIC',
        'ALTER DATABASE "shop" ALLOW_CONNECTIONS true',
    ]
    assert list(database.statements) == [
        'GRANT USAGE ON SCHEMA "public" TO "reader"',
        'GRANT CONNECT ON DATABASE "shop" TO "reader"',
        'ALTER DEFAULT PRIVILEGES FOR ROLE "owner" GRANT USAGE ON SCHEMAS TO "reader"',
        'ALTER DEFAULT PRIVILEGES FOR ROLE "owner" GRANT SELECT ON SEQUENCES TO "reader"',
        'ALTER DEFAULT PRIVILEGES FOR ROLE "owner" GRANT SELECT ON TABLES TO "reader"',
        'COMMENT ON DATABASE "shop" IS \'{"managed_by": "rds-provisioner", "environment": "dev"}\'',
    ]
    assert list(database.on_success) == [
        'REVOKE "owner" FROM CURRENT_USER',
        'COMMENT ON ROLE "owner" IS \'{"managed_by": "rds-provisioner", "environment": "dev"}\'',
    ]


def test_up_to_14_nothing_is_said_of_a_public_that_belongs_to_another() -> None:
    (database,) = script_for(OWNER, READER, version=14).databases
    assert [each for each in database.statements if "SCHEMA " in each] == []


def test_a_role_is_borrowed_once_for_all_its_databases_and_given_back_after_the_last() -> None:
    script = script_for(OWNER, Entry("ledger", "ledger", "owner"))
    assert [str(each) for each in script.role_statements if "GRANT" in str(each)] == [
        'GRANT "owner" TO CURRENT_USER WITH INHERIT TRUE, SET TRUE'
    ]
    assert [(item.name, bool(item.on_success)) for item in script.databases] == [("ledger", False), ("shop", True)]


def test_a_role_that_the_administrator_has_already_is_neither_borrowed_nor_given_back() -> None:
    owner = Role("owner", marker=Marker("dev"), administrator_inherits=True)
    script = script_for(OWNER, roles=(owner,))
    sent = [*map(str, script.role_statements), *script.databases[0].statements, *script.databases[0].on_success]
    assert [each for each in sent if "CURRENT_USER" in each] == []


def test_what_a_cut_off_run_borrowed_is_given_back_first() -> None:
    owner = Role(
        "owner", marker=Marker("dev", creating=("shop",), has_temporary_membership=True), administrator_inherits=True
    )
    first = str(script_for(OWNER, roles=(owner,)).role_statements[0])
    assert first == 'REVOKE "owner" FROM CURRENT_USER'


def test_equal_plans_give_equal_scripts() -> None:
    assert script_for(OWNER, READER) == script_for(READER, OWNER)


def test_a_connection_limit_of_none_at_all_is_known_as_ours() -> None:
    script = script_for(replace(OWNER, connection_limit=0))
    assert '"connection_limit": 0' in str(script.role_statements[1])


def test_what_was_begun_for_a_role_that_nobody_declares_any_more_is_ended() -> None:
    """It keeps what else its mark says, and what was created for it is known until it is declared or gone."""
    marker = Marker("dev", creating=("gone", "shop"), has_temporary_membership=True, quarantined="since", login=False)
    roles = {"admin": ADMINISTRATOR, "owner": Role("owner", marker=marker)}
    server = Server(16, "admin", "rdsadmin", roles, {"shop": Database("shop", "owner")})
    ownership = Ownership(Declaration(entries=()), server, "dev")
    plan = plan_of(ownership)
    script = write_script(plan.changes, ownership, ())
    left = replace(marker, creating=("shop",), has_temporary_membership=False)
    assert [str(each) for each in script.role_statements] == [
        'REVOKE "owner" FROM CURRENT_USER',
        ddl.set_role_marker("owner", left),
    ]
    assert [(item.code, item.database) for item in plan.warnings if item.database] == [("orphaned_database", "shop")]
    ended = replace(server, roles=roles | {"owner": Role("owner", marker=left)})
    assert plan_of(replace(ownership, server=ended)).changes == ()
    foreign = replace(server, roles=roles | {"owner": Role("owner", marker=marker, has_admin_option=False)})
    assert plan_of(replace(ownership, server=foreign)).changes == ()
