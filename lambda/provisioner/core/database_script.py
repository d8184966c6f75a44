"""The statements of one database, in the transactions in which they are sent: its changes in, statements out.

Acting in the place of another role takes a membership in it. Inside the transaction that is granted and revoked unseen;
only CREATE DATABASE cannot run in a transaction, so for its time the membership stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from graphlib import TopologicalSorter
from itertools import groupby

from provisioner.core import ddl
from provisioner.core.changes import MAKES_OURS, Change, ChangeKind
from provisioner.core.kinds import ObjectKind
from provisioner.core.ownership import Ownership
from provisioner.core.quoting import Statement
from provisioner.core.role_script import RoleComments
from provisioner.core.state import PUBLIC, Database, Marker, Target


@dataclass(frozen=True, slots=True)
class DatabaseScript:
    """What is done to one database: `create` alone, `open` from outside, then `statements` in one transaction in it.

    Where that would name more objects than one transaction may, `before` are the transactions that come first.
    A new database is closed until `open` has taken from PUBLIC what everybody has on it; the last of `open` lets in.
    `temporary` names its owner where the membership in that stands while this is done. `on_success` ends, in the same
    transaction, what was borrowed to create the databases of its owner; it is there only on the last of them,
    and where that one is not reached, `on_abort` gives back what was borrowed but leaves the note of what was started.
    """

    database: Database
    changes: tuple[Change, ...]
    create: Statement | None = None
    open: tuple[Statement, ...] = ()
    statements: tuple[Statement, ...] = ()
    before: tuple[tuple[Statement, ...], ...] = ()
    temporary: frozenset[str] = frozenset()
    on_success: tuple[Statement, ...] = ()
    on_abort: tuple[Statement, ...] = ()

    @property
    def name(self) -> str:
        return self.database.name

    @property
    def owner(self) -> str:
        return self.database.owner


def needs_object_names(changes: Iterable[Change]) -> tuple[Target, ...]:
    """The groups of which some objects are to be changed and others not, so that they have to be named."""
    return tuple(sorted({target for change in changes if _needs_names(change) for target in change.targets}))


def database_transactions(
    changes: Sequence[Change], database: Database, ownership: Ownership, *, temporary: frozenset[str] = frozenset()
) -> tuple[tuple[Statement, ...], ...]:
    """The statements of one database by transaction, mostly one; `temporary` are roles that are borrowed already."""
    server = ownership.server
    roles = {database.owner}.union(*(change.acting_roles for change in changes)) - temporary
    borrowed = sorted(role for role in roles if ownership.needs_membership(role))
    body: list[Statement] = []
    for change in changes:
        if change.kind in MAKES_OURS:
            marker = Marker(ownership.environment, comment=database.marker.comment)
            body.append(ddl.set_database_marker(change.database, marker))
    extensions = {change.subject: change for change in changes if change.kind is ChangeKind.CREATE_EXTENSION}
    needed = {name: server.extension_requirements.get(name, ()) for name in extensions}
    for name in TopologicalSorter(needed).static_order():
        body += ddl.create_extension(extensions[name]) if name in extensions else []
    parts: list[list[Statement]] = [[]]
    named = 0
    for count, statements in _grant_statements(changes, database, ownership):
        if named and named + count > server.max_named_objects:
            parts.append([])
            named = 0
        parts[-1] += statements
        named += count
    parts[-1] += body
    return tuple(ddl.as_member(borrowed, part, with_options=server.has_membership_options) for part in parts)


def write_database_script(database: Database, changes: Sequence[Change], comments: RoleComments) -> DatabaseScript:
    """What is done to one database; the last of its owner's ends what was started to create them."""
    ownership, owner = comments.ownership, database.owner
    creating = comments.creating.get(owner, [])
    temporary = frozenset({owner} if database.name in creating else ())
    write = partial(database_transactions, database=database, ownership=ownership, temporary=temporary)
    create = (ddl.create_database(change) for change in changes if change.kind is ChangeKind.CREATE_DATABASE)
    outside = [each for each in changes if not database.allows_connections and _is_said_outside(each, ownership)]
    back = [ddl.revoke_self(owner)] if ownership.needs_membership(owner) else []
    aborted = replace(comments.during_create(owner), has_temporary_membership=False)
    is_last = creating[-1:] == [database.name]
    *before, statements = write([each for each in changes if each not in outside])
    return DatabaseScript(
        database=database,
        changes=tuple(changes),
        create=next(create, None),
        open=(*write(outside)[-1], ddl.open_database(database.name)) if outside else (),
        statements=statements,
        before=tuple(before),
        temporary=temporary,
        on_success=(*back, ddl.set_role_marker(owner, comments.final(owner))) if is_last else (),
        on_abort=(*back, ddl.set_role_marker(owner, aborted)) if is_last else (),
    )


def _is_said_outside(change: Change, ownership: Ownership) -> bool:
    """Whether a change has to be made before a new database lets anybody in: what PUBLIC loses, what we keep.

    Editors and readers get in by what the transaction in the database grants, together with all else that they get.
    """
    is_on_database = change.kind.is_grant and change.target.kind is ObjectKind.DATABASE
    return is_on_database and change.username in {PUBLIC, ownership.server.administrator}


def _same_statement(change: Change) -> tuple[object, ...]:
    """Changes alike in this differ in the grantee only, and are said in one statement; PUBLIC is said alone."""
    what = (change.kind, change.targets, change.privileges, change.grantor, change.grant_option)
    return (*what, change.username == PUBLIC)


def _grant_statements(
    changes: Iterable[Change], database: Database, ownership: Ownership
) -> Iterator[tuple[int, list[Statement]]]:
    """Statements that belong together, with how many objects they name."""
    contested, most = _contested_targets(database), ownership.server.max_named_objects
    for _, group in groupby((change for change in changes if change.kind.is_grant), _same_statement):
        alike = list(group)
        first = alike[0]
        is_owners = first.grantor == first.target.owner and contested.isdisjoint(first.targets)
        is_settled = first.grantor == ownership.server.administrator or first.target.creator or is_owners
        write = partial(ddl.grant_or_revoke, alike, act_as="" if is_settled else first.grantor)
        if not _needs_names(first):
            yield 1, write()
            continue
        objects = sorted(name for target in first.targets for name in database.names.get(target, ()))
        for start in range(0, len(objects), most):
            chunk = objects[start : start + most]
            yield len(chunk), write(chunk)


def _contested_targets(database: Database) -> frozenset[Target]:
    """What another role than the owner of the objects may pass on privileges on too.

    The administrator may have the privileges of both then, and the server would choose in whose name it grants.
    """
    return frozenset(
        group.target
        for group in database.groups
        if any(item.grant_option and item.grantee != group.target.owner for item in group.items)
    )


def _needs_names(change: Change) -> bool:
    if not change.targets or change.target.creator or not change.target.kind.named_by:
        return False
    return change.target.kind is ObjectKind.COLUMN or not change.covers_schema
