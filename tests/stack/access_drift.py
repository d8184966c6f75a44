"""What a report of access calls beyond a level, and what drift names: both as causes that can be laid side by side.

A cause is what would have to be taken away: a membership, an attribute, ownership, a privilege, a routine that may be
executed. What the levels give is written out here once more by hand.
"""

import re
from collections.abc import Collection, Iterator
from typing import Any

from provisioner.core.access_levels import EXCEEDS_LEVEL

Row = dict[str, str]
Cause = tuple[str, ...]

GIVEN = {
    "owner": {"*"},
    "editor": {"CONNECT", "TEMPORARY", "SELECT", "INSERT", "UPDATE", "DELETE", "USAGE on sequence"},
    "reader": {"CONNECT", "SELECT"},
    "": set[str](),
}
PUBLIC_KEEPS = {"SELECT", "EXECUTE"}
_KINDS = {
    "view": "table",
    "read-only view": "table",
    "delete-only view": "table",
    "read-only column": "table",
    "materialized view": "table",
    "column": "table",
}
_NAMED = re.compile(r"\b(?:holds|has|has passed) (?P<privilege>[A-Z]+) on (?P<place>.*)", re.DOTALL)


def beyond(rows: list[Row], roles: Collection[str]) -> dict[Cause, Row]:
    """The causes of every row that the report does not expect, of some roles; what is owned is a cause of its own."""
    owned = {(row["role"], thing) for row in rows if row["path"] == "owner" for thing in _things(row)}
    found: dict[Cause, Row] = {}
    for row in rows:
        if row["role"] in roles and row["role"] and row["expected"] == "no":
            is_granted_to_owner = {(row["role"], thing) for thing in _things(row)} <= owned
            causes = [cause for cause in _causes(row) if not (cause[0] == "grant" and is_granted_to_owner)]
            found |= dict.fromkeys(causes, row)
    return found


def _things(row: Row) -> set[tuple[str, str, str]]:
    """The database, schema and names of what a row is about; a schema is told by itself."""
    names = row["scope"].partition(": ")[2].partition(" (")[0].split(", ")
    return {(row["database"], _schema(row["scope"]), name) for name in names}


def _causes(row: Row) -> Iterator[Cause]:
    database, role, path, statement = row["database"], row["role"], row["path"], row["statement"]
    member = re.match(r'REVOKE (?:ADMIN OPTION FOR )?"((?:[^"]|"")*)" FROM "((?:[^"]|"")*)"', statement)
    if member:
        yield "member", _plain(member[2]), _plain(member[1])
    elif path.startswith("attribute "):
        yield "attribute", role
    elif path == "owner" or path.endswith(", owner"):
        yield "own", database, role, _kind(row["scope"])
    elif path.endswith(f'granted by "{role}"'):
        # What an owner has granted to itself it has by owning.
        yield "own", database, role, _kind(row["scope"])
    elif "granted to PUBLIC" in path and not row["declared_level"] and role != "public":
        # Who has no level here has what everybody has by coming in, which is a cause of its own.
        return
    elif row["capability"] == "execute" and "SECURITY DEFINER" in row["scope"]:
        # With whose rights it runs; with one's own it is a thing that one owns.
        is_own = f' of "{role}"' in row["scope"]
        yield ("own", database, role, _kind(row["scope"])) if is_own else ("definer", database, role)
    else:
        grantee = "public" if "granted to PUBLIC" in path else role
        schema, kind = _schema(row["scope"]), _kind(row["scope"])
        for privilege, option in re.findall(
            r"\b([A-Z]{3,})\b(?: \(on \d+\))?( with grant option)?", path.partition(" granted ")[0]
        ):
            if option or not _is_given(row["declared_level"], kind, privilege, grantee):
                yield "grant", database, grantee, kind, schema, privilege


def _is_given(level: str, kind: str, privilege: str, grantee: str) -> bool:
    if kind in {"large object", "routine"} and grantee != "public":
        return level == "owner"
    given = GIVEN[level] | (PUBLIC_KEEPS if grantee == "public" else set())
    return not given.isdisjoint({"*", privilege, f"{privilege} on {kind}"})


def named(drift: dict[str, Any]) -> dict[Cause, str]:
    """Everything that a drift names, each with its text."""
    found: dict[Cause, str] = {}
    for change in drift["changes"]:
        for cause in _of_change(change):
            found[cause] = f"{change['action']}: {change['detail']}"
    for finding in (*drift["warnings"], *drift["blockers"]):
        for cause in _of_finding(finding):
            found[cause] = f"{finding['code']}: {finding['message']}"
    return found


def is_named(cause: Cause, by: dict[Cause, str]) -> bool:
    """Whether a drift names a cause, if only as one of many more of a kind, or has a blocker before it looks."""
    kind, *more = cause
    places = {("blocked", "", more[0]), ("many", kind, "", more[0])}
    if kind not in {"member", "attribute"}:
        database, role = more[:2]
        places |= {("blocked", database, ""), ("blocked", "", role), ("many", kind, database, role)}
    return cause in by or not places.isdisjoint(by)


def unfounded(drift: dict[str, Any], document: dict[str, Any]) -> list[Any]:
    """What a drift says is beyond a level, and the report tells neither as an access nor as held without effect."""
    beyond_level = {
        "changes": [],
        "blockers": [],
        "warnings": [item for item in drift["warnings"] if item["code"] in EXCEEDS_LEVEL],
    }
    known = {cause for row in document["access"] if row["expected"] != "yes" for cause in _causes(row)}
    without_effect = {(item["database"], item["role"]) for item in document["dormant"]}
    unknown = {(row["database"], row["role"]) for row in document["access"] if row["expected"] == "unknown"}
    return [
        (cause, text)
        for cause, text in named(beyond_level).items()
        if cause not in known and not _has_no_effect(cause, without_effect | unknown) and cause[0] != "many"
    ]


def _has_no_effect(cause: Cause, without_effect: set[tuple[str, str]]) -> bool:
    if cause[0] == "member" or cause[-1] in {"REFERENCES", "TRUNCATE", "TRIGGER", "MAINTAIN"}:
        # A membership in a role that holds nothing, or nothing that can be reached; what is nothing on a view.
        return True
    return not {(cause[1], cause[2]), (cause[1], "public")}.isdisjoint(without_effect)


def _of_change(change: dict[str, str]) -> Iterator[Cause]:
    role, detail = change["username"], change["detail"]
    if change["action"] == "revoke_membership":
        yield "member", role, _plain(detail.removeprefix('no longer a member of "')[:-1])
    elif change["action"] == "alter_role":
        yield "attribute", role
    elif change["action"].startswith("revoke"):
        privileges, _, place = detail.removeprefix("the right to pass on ").partition(" on ")
        for privilege in privileges.split(", "):
            yield "grant", change["database"], role, _kind(place), _schema(place), privilege


def _of_finding(finding: dict[str, str]) -> Iterator[Cause]:
    code, database, role, text = finding["code"], finding["database"], finding["username"], finding["message"]
    kinds = {"foreign_membership": "member", "membership_of_another_grantor": "member", "definer_routines": "definer"}
    kinds |= {"created_beyond_level": "own", "foreign_objects": "own"}
    kind = kinds.get(code, "grant")
    if re.match(r"\d+ more of ", text):
        yield "many", kind, database, role or "public"
    elif code in {"foreign_role", "privileged_role", "iam_login"} or (database and not role and "exists" in text):
        yield "blocked", database, role
    elif kind == "member":
        yield "member", role, re.findall(r'is a member of "(.*?)"(?:,|$)', text)[0]
    elif kind == "definer":
        yield "definer", database, role
    elif kind == "own":
        yield "own", database, role, re.findall(r"\d+ ([a-zA-Z ]+?)s? belongs? to", text)[0]
    elif match := _NAMED.search(text):
        place = match["place"].partition(" in database ")[0]
        yield "grant", database, role or "public", _kind(place), _schema(place), match["privilege"]


def _kind(place: str) -> str:
    """The kind of thing that a scope of the report, or the words of a plan, begin with."""
    if place.startswith(("the database", "schema ")) or re.match(r"\d+ schemas ", place):
        return "database" if place.startswith("the database") else "schema"
    match = re.match(
        r"(?:\d+ |future )?([A-Za-z -]+?)s? (?:of \"|that |in |\()|(?:\d+ |future )?([A-Za-z -]+?)s?(?::|,|$)", place
    )
    word = ((match[1] or match[2]) if match else place).replace("SECURITY DEFINER ", "")
    return _KINDS.get(word, word)


def _schema(place: str) -> str:
    match = re.search(r'schema "([^"]*)"', place)
    return match[1] if match else ""


def _plain(name: str) -> str:
    return name.replace('""', '"')
