"""The access levels are what the promise says, word for word."""

from provisioner.core.levels import ADMINISTRATOR_PRIVILEGES, DEFAULT_PRIVILEGE_KINDS, PRIVILEGES, PUBLIC_KEEPS
from provisioner.core.model import AccessLevel
from provisioner.core.state import Kind


def test_an_editor_reads_and_writes_and_makes_nothing_but_temporary_tables() -> None:
    assert PRIVILEGES[AccessLevel.EDITOR] == {
        Kind.DATABASE: {"CONNECT", "TEMPORARY"},
        Kind.SCHEMA: {"USAGE"},
        Kind.TABLE: {"SELECT", "INSERT", "UPDATE", "DELETE"},
        Kind.SEQUENCE: {"USAGE", "SELECT", "UPDATE"},
    }


def test_a_reader_reads() -> None:
    assert PRIVILEGES[AccessLevel.READER] == {
        Kind.DATABASE: {"CONNECT"},
        Kind.SCHEMA: {"USAGE"},
        Kind.TABLE: {"SELECT"},
        Kind.SEQUENCE: {"SELECT"},
    }


def test_an_owner_is_given_only_what_can_be_kept_from_it() -> None:
    assert PRIVILEGES[AccessLevel.OWNER] == {
        Kind.DATABASE: {"CONNECT", "TEMPORARY", "CREATE"},
        Kind.SCHEMA: {"USAGE", "CREATE"},
    }


def test_everybody_may_at_most_read_and_the_administrator_keeps_its_way_in() -> None:
    assert {
        Kind.DATABASE: set(),
        Kind.SCHEMA: {"USAGE"},
        Kind.TABLE: {"SELECT"},
        Kind.SEQUENCE: {"SELECT"},
        Kind.COLUMN: {"SELECT"},
        Kind.LARGE_OBJECT: {"SELECT"},
        Kind.ROUTINE: {"EXECUTE"},
        Kind.TYPE: {"USAGE"},
    } == PUBLIC_KEEPS
    assert dict(ADMINISTRATOR_PRIVILEGES) == {Kind.DATABASE: {"CONNECT"}}


def test_what_comes_tomorrow_is_covered_as_what_stands_today() -> None:
    assert set(DEFAULT_PRIVILEGE_KINDS) == {Kind.SCHEMA, Kind.TABLE, Kind.SEQUENCE}
