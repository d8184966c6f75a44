"""A number of applications in, what is declared for them out: a database with an owner, an editor and a reader each."""

from __future__ import annotations

LEVELS = ("owner", "editor", "reader")


def database(number: int) -> str:
    """The name of one database."""
    return f"app{number:04d}"


def role(number: int, level: str) -> str:
    """The role of one level in one database; the owner's entry and application bear the database's name."""
    return database(number) if level == "owner" else f"{database(number)}_{level}"


def password(number: int, level: str) -> str:
    """The password of one role: made up, but the same in every run, so that a second run has nothing to do."""
    return f"bench-{role(number, level)}-password"


def entries(count: int) -> dict[str, dict[str, str]]:
    """The entries of `application_databases`."""
    return {
        role(number, level): {
            "database_name": database(number),
            "username": role(number, level),
            "access_level": level,
        }
        for number in range(count)
        for level in LEVELS
    }
