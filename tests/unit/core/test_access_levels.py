"""The access levels are what the promise says, word for word."""

from provisioner.core.access_levels import (
    ADMINISTRATOR_PRIVILEGES,
    DEFAULT_PRIVILEGE_KINDS,
    PUBLIC_KEEPS,
    AccessLevel,
)
from provisioner.core.kinds import ObjectKind


def test_an_editor_reads_and_writes_and_makes_nothing_but_temporary_tables() -> None:
    assert AccessLevel.EDITOR.privileges == {
        ObjectKind.DATABASE: {"CONNECT", "TEMPORARY"},
        ObjectKind.SCHEMA: {"USAGE"},
        ObjectKind.TABLE: {"SELECT", "INSERT", "UPDATE", "DELETE"},
        ObjectKind.SEQUENCE: {"USAGE", "SELECT", "UPDATE"},
    }


def test_a_reader_reads() -> None:
    assert AccessLevel.READER.privileges == {
        ObjectKind.DATABASE: {"CONNECT"},
        ObjectKind.SCHEMA: {"USAGE"},
        ObjectKind.TABLE: {"SELECT"},
        ObjectKind.SEQUENCE: {"SELECT"},
    }


def test_an_owner_is_given_only_what_can_be_kept_from_it() -> None:
    assert AccessLevel.OWNER.privileges == {
        ObjectKind.DATABASE: {"CONNECT", "TEMPORARY", "CREATE"},
        ObjectKind.SCHEMA: {"USAGE", "CREATE"},
    }


def test_everybody_may_at_most_read_and_the_administrator_keeps_its_way_in() -> None:
    assert {
        ObjectKind.DATABASE: set(),
        ObjectKind.SCHEMA: {"USAGE"},
        ObjectKind.TABLE: {"SELECT"},
        ObjectKind.SEQUENCE: {"SELECT"},
        ObjectKind.COLUMN: {"SELECT"},
        ObjectKind.LARGE_OBJECT: {"SELECT"},
        ObjectKind.ROUTINE: {"EXECUTE"},
        ObjectKind.TYPE: {"USAGE"},
    } == PUBLIC_KEEPS
    assert dict(ADMINISTRATOR_PRIVILEGES) == {ObjectKind.DATABASE: {"CONNECT"}}


def test_what_comes_tomorrow_is_covered_as_what_stands_today() -> None:
    assert set(DEFAULT_PRIVILEGE_KINDS) == {ObjectKind.SCHEMA, ObjectKind.TABLE, ObjectKind.SEQUENCE}
