"""The values of a tfvars file with their lines come in; a declaration goes out, or everything that is wrong with it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from provisioner.core.access_levels import AccessLevel
from provisioner.core.document import NotLiteral, Object, redact
from provisioner.core.entry import read_entry, repeated
from provisioner.core.errors import Finding, InvalidSnapshot
from provisioner.core.fields import Fields, Problems, attributes_by_key
from provisioner.core.model import Declaration, Entry

_BLOCK = "application_databases"
_COUPLED = "rds_config"
_APPLICATION = re.compile(r"[A-Za-z0-9_-]{1,63}")
_DECLARE_NOTHING = "to declare nothing on purpose, write application_databases = {}"


def parse_declaration(
    document: Object, problems: Problems, *, environment: str, template: str
) -> tuple[Declaration, tuple[Finding, ...]]:
    """Return what the top level of a file declares, and the warnings (code `inactive`).

    Raises:
        InvalidSnapshot: with every problem in `problems`, those of this file's declaration included.
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
    refused = [
        Finding(
            code="reserved_name",
            message=f'username "{entry.username}" is the login that this product itself uses',
            next_step="give the application a role of its own",
            where=f"{declaration.path}.{redact(entry.application)}.username",
            database=entry.database,
            username=entry.username,
        )
        for entry in declaration.entries
        if entry.username == administrator
    ]
    if refused:
        raise InvalidSnapshot(refused)


def _fields(table: Object, path: str, problems: Problems, line: int = 0) -> Fields:
    attributes = attributes_by_key(table, path, problems)
    values = {key: attribute.value.content for key, attribute in attributes.items()}
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
    coupled, enabled = _coupled(top)
    is_standalone = _BLOCK in top.values
    warnings: tuple[Finding, ...] = ()
    if coupled and not enabled:
        warnings = (_inactive(coupled),)
    elif coupled and is_standalone:
        line = coupled.lines[_BLOCK]
        message = (
            f"application_databases stands here and {f'on line {line}' if line else 'again'} under rds_config, "
            "and both are active"
        )
        top.refuse("declared_twice", _BLOCK, message, "keep one of them, or set rds_config.enabled = false")
    if is_standalone:
        return top, warnings
    if coupled:
        return (coupled if enabled else None), warnings
    if _COUPLED not in top.values or isinstance(top.values[_COUPLED], Object):
        message = "neither application_databases nor rds_config.application_databases is in the file"
        top.problems.refuse("nothing_declared", message, _DECLARE_NOTHING, top.problems.location(0))
    return None, warnings


def _coupled(top: Fields) -> tuple[Fields | None, bool]:
    """Return rds_config if a block is in it, and whether it is active: a missing or null `enabled` is true."""
    if top.values.get(_COUPLED, NotLiteral.REFUSED) is None and _BLOCK in top.values:
        return None, False
    table = top.read(_COUPLED, Object, "an object", _DECLARE_NOTHING)
    if table is None:
        return None, False
    fields = _fields(table, _COUPLED, top.problems)
    enabled = fields.values.get("enabled")
    active = _as_bool(enabled)
    if active is None:
        fields.refuse_type("enabled", enabled, "true or false", "write true or false without quotes")
    return (fields if _BLOCK in fields.values else None), active is not False


def _as_bool(content: object) -> bool | None:
    """Convert as Terraform does; null is the default, which is true, and None says that it is no bool."""
    if content is None or isinstance(content, bool):
        return content is not False
    return {"true": True, "1": True, "false": False, "0": False}.get(content) if isinstance(content, str) else None


def _inactive(coupled: Fields) -> Finding:
    return Finding(
        code="inactive",
        message="rds_config.enabled is false, so its application_databases is inactive: nothing is declared by it",
        next_step="set enabled = true to provision it",
        where=coupled.problems.location(coupled.lines[_BLOCK], f"{_COUPLED}.{_BLOCK}"),
    )


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
    owners = [entry for entry in entries if entry.access_level is AccessLevel.OWNER]
    for database, declared in _grouped(owners, "database"):
        message = f'database "{database}" has {len(declared)} owners'
        _refuse_together("two_owners", message, "keep one, make the others editor or reader", declared, applications)
    for username, declared in _grouped(entries, "username"):
        _refuse_contradictory_role(f'username "{username}"', declared, applications, template)


def _refuse_contradictory_role(role: str, declared: list[Entry], applications: Fields, template: str) -> None:
    """One role has one password, one set of attributes and one access level per database."""
    for database in repeated(entry.database for entry in declared):
        message = f'{role} is declared more than once for database "{database}"'
        _refuse_together("duplicate_role", message, "keep one of the entries", declared, applications)
    secrets = {entry.secret_id(template) for entry in declared}
    if len(secrets) > 1:
        message = f"{role} would have {len(secrets)} passwords, one of each secret"
        next_step = "name the same secret_name in all of them, or use another username"
        _refuse_together("two_secrets", message, next_step, declared, applications)
    for attribute in ("createdb", "connection_limit"):
        if len({getattr(entry, attribute) for entry in declared}) > 1:
            message = f"{role} is one role, but its entries differ in {attribute}"
            _refuse_together("role_differs", message, f"say the same {attribute} in all", declared, applications)


def _grouped(entries: list[Entry], attribute: str) -> Iterable[tuple[str, list[Entry]]]:
    """The entries that share a name, where there is more than one of them."""
    groups: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[getattr(entry, attribute)].append(entry)
    return [(name, declared) for name, declared in groups.items() if len(declared) > 1]


def _refuse_together(code: str, message: str, next_step: str, declared: list[Entry], applications: Fields) -> None:
    lines = [(redact(entry.application), applications.lines[entry.application]) for entry in declared[:20]]
    listed = ", ".join(f"{name}{f' (line {line})' if line else ''}" for name, line in lines)
    last = declared[-1]
    replace(applications, subject=last).refuse(code, last.application, f"{message}: {listed}", next_step)
