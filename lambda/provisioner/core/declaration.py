"""The values of a tfvars file with their lines come in; a declaration goes out, or everything that is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from provisioner.core.access_levels import AccessLevel
from provisioner.core.document import NotLiteral, Object, redact
from provisioner.core.entry import names_of, read_entry
from provisioner.core.errors import Finding, InvalidSnapshot
from provisioner.core.fields import Fields, Problems, attributes_by_key
from provisioner.core.model import Declaration, Entry, group_by

_BLOCK = "application_databases"
_COUPLED = "rds_config"
_APPLICATION = re.compile(r"[A-Za-z0-9_-]{1,63}")
_DECLARE_NOTHING = "to declare nothing on purpose, write application_databases = {}"
ONE_FOR_ALL = "name the same secret_name in all of them, or use another username"


def parse_declaration(
    document: Object, problems: Problems, *, environment: str, template: str
) -> tuple[Declaration, tuple[Finding, ...]]:
    """Return what the top level of a file declares, and the warnings (code `inactive`).

    Raises `InvalidSnapshot` with every problem in `problems`, those of this file's declaration included.
    """
    top = _fields(document, "", problems)
    _refuse_other_environment(top, environment)
    around, warnings = _around_block(top)
    entries = _entries(around, template) if around else ()
    problems.raise_if_any(InvalidSnapshot)
    path = f"{around.path if around else ''}{_BLOCK}"
    return Declaration(tuple(sorted(entries, key=lambda entry: entry.application)), path), warnings


def refuse_administrator_login(declaration: Declaration, administrator: str) -> None:
    """Raise InvalidSnapshot with a finding for each entry whose username is the login of the administrator itself."""
    problems = Problems()
    for entry in declaration.by_role.get(administrator, ()):
        message = f'username "{entry.username}" is the login that this product itself uses'
        where = f"{declaration.path}.{redact(entry.application)}.username"
        problems.refuse("reserved_name", message, "give the application a role of its own", where, entry)
    problems.raise_if_any(InvalidSnapshot)


def _fields(table: Object, path: str, problems: Problems, line: int = 0) -> Fields:
    attributes = attributes_by_key(table, path, problems)
    values = {key: attribute.content for key, attribute in attributes.items()}
    lines = {key: attribute.line for key, attribute in attributes.items()}
    return Fields(values, problems, "wrong_type", path=f"{path}." if path else "", lines=lines, line=line)


# --- the parts of the file that are ours ------------------------------------------------------------------------------


def _refuse_other_environment(top: Fields, environment: str) -> None:
    """An empty `environment` takes a file of any."""
    next_step = "send each environment's file to its own function"
    declared = top.read("environment", str, f'the string "{environment}"' if environment else "a string", next_step)
    if environment and declared is not None and declared != environment:
        message = f'the file is for environment "{redact(declared)}", this function serves "{environment}"'
        top.refuse("wrong_environment", "environment", message, next_step)


def _around_block(top: Fields) -> tuple[Fields | None, tuple[Finding, ...]]:
    """Find what the active block stands in, the top level or rds_config: not both, not neither."""
    standalone, coupled = (top if _BLOCK in top.values else None), _coupled(top)
    if not coupled:
        if not standalone and isinstance(top.values.get(_COUPLED, Object(())), Object):
            message = "neither application_databases nor rds_config.application_databases is in the file"
            top.problems.refuse("nothing_declared", message, _DECLARE_NOTHING, top.problems.location(0))
        return standalone, ()
    line = coupled.lines[_BLOCK]
    enabled = coupled.values.get("enabled")
    active = _as_bool(enabled)
    if active is None:
        coupled.refuse_type("enabled", enabled, "true or false", "write true or false without quotes")
    elif not active:
        message = "rds_config.enabled is false, so its application_databases is inactive: nothing is declared by it"
        where = coupled.problems.location(line, f"{_COUPLED}.{_BLOCK}")
        return standalone, (Finding("inactive", message, "set enabled = true to provision it", where),)
    if standalone:
        again = f"on line {line}" if line else "again"
        message = f"application_databases stands here and {again} under rds_config, and both are active"
        top.refuse("declared_twice", _BLOCK, message, "keep one of them, or set rds_config.enabled = false")
    return standalone or coupled, ()


def _coupled(top: Fields) -> Fields | None:
    """Return rds_config if a block is in it."""
    if top.values.get(_COUPLED, NotLiteral.REFUSED) is None and _BLOCK in top.values:
        return None
    table = top.read(_COUPLED, Object, "an object", _DECLARE_NOTHING)
    fields = _fields(table, _COUPLED, top.problems) if table else None
    return fields if fields and _BLOCK in fields.values else None


def _as_bool(content: object) -> bool | None:
    """Convert as Terraform does; null is the default, which is true, and None says that it is no bool."""
    if content is None or isinstance(content, bool):
        return content is not False
    return {"true": True, "1": True, "false": False, "0": False}.get(content) if isinstance(content, str) else None


# --- the entries ------------------------------------------------------------------------------------------------------


def _entries(around: Fields, template: str) -> list[Entry]:
    table = around.read(_BLOCK, Object, "an object", _DECLARE_NOTHING)
    if table is None:
        return []
    applications = _fields(table, f"{around.path}{_BLOCK}", around.problems)
    entries = [entry for each in applications.values if (entry := _entry(each, applications)) is not None]
    _refuse_contradictions(entries, applications, template)
    return entries


def _entry(application: str, applications: Fields) -> Entry | None:
    if not _APPLICATION.fullmatch(application):
        message = "the key must be 1 to 63 letters, digits, _ or -, since the name of the secret is made of it"
        applications.refuse("invalid_name", application, message, "rename the entry")
    table = applications.read(application, Object, "an object", "write { database_name = ..., username = ... }")
    if table is None:
        return None
    path = f"{applications.path}{redact(application)}"
    return read_entry(application, _fields(table, path, applications.problems, applications.lines[application]))


def _refuse_contradictions(entries: list[Entry], applications: Fields, template: str) -> None:
    """Refuse what each entry may say and all of them together may not."""
    declaration = Declaration(tuple(entries))
    for database, declared in declaration.by_database.items():
        owners = [entry for entry in declared if entry.access_level is AccessLevel.OWNER]
        if len(owners) > 1:
            message = f'database "{database}" has {len(owners)} owners'
            _refuse_together("two_owners", message, "keep one, make the others editor or reader", owners, applications)
    for username, declared in declaration.by_role.items():
        _refuse_contradictory_role(f'username "{username}"', declared, applications, template)


def _refuse_contradictory_role(role: str, declared: Sequence[Entry], applications: Fields, template: str) -> None:
    """One role has one password, one set of attributes and one access level per database."""
    for database, same in group_by(declared, "database").items():
        if len(same) > 1:
            message = f'{role} is declared more than once for database "{database}"'
            _refuse_together("duplicate_role", message, "keep one of the entries", same, applications)
    secrets = {entry.secret_id(template) for entry in declared}
    # Names and ARNs that may be of one secret are told apart when it is read (`run_secrets`).
    if not frozenset.intersection(*map(names_of, secrets)):
        message = f"{role} would have {len(secrets)} passwords, one of each secret"
        _refuse_together("two_secrets", message, ONE_FOR_ALL, declared, applications)
    # Only the entry of an owner can say createdb; in the others it is not a word about the role.
    owners = [entry for entry in declared if entry.access_level is AccessLevel.OWNER]
    for attribute, saying in (("createdb", owners), ("connection_limit", declared)):
        if len({getattr(entry, attribute) for entry in saying}) > 1:
            message = f"{role} is one role, but its entries differ in {attribute}"
            _refuse_together("role_differs", message, f"say the same {attribute} in all", saying, applications)


def _refuse_together(code: str, message: str, next_step: str, declared: Sequence[Entry], applications: Fields) -> None:
    declared = sorted(declared, key=lambda entry: applications.lines[entry.application])
    lines = [(redact(entry.application), applications.lines[entry.application]) for entry in declared[:20]]
    listed = ", ".join(f"{name}{f' (line {line})' if line else ''}" for name, line in lines)
    last = declared[-1]
    replace(applications, subject=last).refuse(code, last.application, f"{message}: {listed}", next_step)
