"""The values of a tfvars file with their lines come in; a declaration goes out, or everything that is wrong with it."""

from __future__ import annotations

import difflib
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from provisioner.core.access_levels import ACCEPTABLE
from provisioner.core.document import Attribute, Content, NotLiteral, Object, Value, attributes_by_key, redact
from provisioner.core.errors import Finding, InvalidSnapshot
from provisioner.core.model import AccessLevel, Declaration, Entry, Layout

if TYPE_CHECKING:
    from collections.abc import Iterable

    from provisioner.core.fields import Problems


def parse_declaration(
    document: Object, problems: Problems, *, environment: str
) -> tuple[Declaration, tuple[Finding, ...]]:
    """Return what the top level of a file declares, and the warnings (code `inactive`).

    Raises:
        InvalidSnapshot: with every problem in `problems`, those of this file's declaration included.
    """
    top = attributes_by_key(document, "", problems)
    declared_environment = _environment(top.get("environment"), problems, environment)
    block, layout, warnings = _block(top, problems)
    path = _PATHS[layout]
    entries = _entries(block, path, problems) if block is not None else ()
    ordered = tuple(sorted(entries, key=lambda entry: entry.application))
    problems.raise_if_any(InvalidSnapshot)
    return Declaration(layout, block is not None, declared_environment, ordered), warnings


def refuse_administrator_login(declaration: Declaration, administrator: str) -> None:
    """Raise InvalidSnapshot with a finding for each entry whose username is the login of the administrator itself."""
    refused = [
        Finding(
            code="reserved_name",
            message=f'username "{entry.username}" is the login that this product itself uses',
            next_step="give the application a role of its own",
            where=f"{_PATHS[declaration.layout]}.{redact(entry.application)}.username",
            database=entry.database,
            username=entry.username,
        )
        for entry in declaration.entries
        if entry.username == administrator
    ]
    if refused:
        raise InvalidSnapshot(refused)


_PATHS = {Layout.STANDALONE: "application_databases", Layout.COUPLED: "rds_config.application_databases"}


# --- the parts of the file that are ours ----------------------------------------------------------------------------


def _environment(found: Attribute | None, problems: Problems, environment: str) -> str:
    if found is None or found.value.content is NotLiteral.REFUSED:
        return ""
    content = found.value.content
    next_step = "send each environment's file to its own function"
    if not isinstance(content, str):
        wanted = f'the string "{environment}"' if environment else "a string"
        _refuse_type(problems, found, wanted, next_step, "environment")
    elif environment and content != environment:
        message = f'the file is for environment "{redact(content)}", this function serves "{environment}"'
        problems.refuse("wrong_environment", message, next_step, problems.location(found.line, "environment"))
    return environment or str(content)


def _block(top: dict[str, Attribute], problems: Problems) -> tuple[Attribute | None, Layout, tuple[Finding, ...]]:
    """Find the active block: at the top level or under rds_config, not both, not neither."""
    standalone = top.get("application_databases")
    coupled, enabled = _coupled(top.get("rds_config"), problems, must_declare=standalone is None)
    if standalone and coupled and enabled:
        problems.refuse(
            "declared_twice",
            f"application_databases stands here and {_at(coupled)} under rds_config, and both are active",
            "keep one of them, or set rds_config.enabled = false",
            problems.location(standalone.line, "application_databases"),
        )
    warnings = (_inactive(coupled, problems),) if coupled and not enabled else ()
    if standalone:
        return standalone, Layout.STANDALONE, warnings
    if coupled:
        return (coupled if enabled else None), Layout.COUPLED, warnings
    if "rds_config" not in top or isinstance(top["rds_config"].value.content, Object):
        problems.refuse(
            "nothing_declared",
            "neither application_databases nor rds_config.application_databases is in the file",
            _DECLARE_NOTHING,
            problems.file_name,
        )
    return None, Layout.STANDALONE, warnings


def _coupled(found: Attribute | None, problems: Problems, *, must_declare: bool) -> tuple[Attribute | None, bool]:
    """Return rds_config's block and whether it is active; Terraform takes a missing or null `enabled` as true."""
    if found is None:
        return None, False
    if not isinstance(found.value.content, Object):
        if found.value.content is not None or must_declare:
            _refuse_type(problems, found, "an object", _DECLARE_NOTHING, "rds_config")
        return None, False
    fields = attributes_by_key(found.value.content, "rds_config", problems)
    enabled = fields.get("enabled")
    active = _as_bool(enabled.value.content) if enabled else True
    if enabled and active is None:
        next_step = "write true or false without quotes"
        _refuse_type(problems, enabled, "true or false", next_step, "rds_config.enabled")
    return fields.get("application_databases"), active is not False


_DECLARE_NOTHING = "to declare nothing on purpose, write application_databases = {}"


def _as_bool(content: Content) -> bool | None:
    """Convert as Terraform does; null is the default, which is true, and None says that it is no bool."""
    if content is None or isinstance(content, bool):
        return content is not False
    return {"true": True, "1": True, "false": False, "0": False}.get(content) if isinstance(content, str) else None


def _inactive(block: Attribute, problems: Problems) -> Finding:
    return Finding(
        code="inactive",
        message="rds_config.enabled is false, so its application_databases is inactive: nothing is declared by it",
        next_step="set enabled = true to provision it",
        where=problems.location(block.line, _PATHS[Layout.COUPLED]),
    )


def _entries(block: Attribute, path: str, problems: Problems) -> tuple[Entry, ...]:
    table = block.value.content
    if not isinstance(table, Object):
        _refuse_type(problems, block, "an object", _DECLARE_NOTHING, path)
        return ()
    read = [
        (found, entry)
        for application, found in attributes_by_key(table, path, problems).items()
        if (entry := _entry(application, found, path, problems)) is not None
    ]
    _check_together(read, path, problems)
    return tuple(entry for _, entry in read)


def _entry(application: str, found: Attribute, parent: str, problems: Problems) -> Entry | None:
    """Read one entry; None where it has no valid names, so that nothing more can be said about it."""
    path = f"{parent}.{redact(application)}"
    if not _APPLICATION.fullmatch(application):
        message = "the key must be 1 to 63 letters, digits, _ or -, since the name of the secret is made of it"
        problems.refuse("invalid_name", message, "rename the entry", problems.location(found.line, path))
    table = found.value.content
    if not isinstance(table, Object):
        _refuse_type(problems, found, "an object", "write { database_name = ..., username = ... }", path)
        return None
    reader = _EntryReader(application, attributes_by_key(table, path, problems), path, found.line, problems)
    return reader.read()


# --- one entry ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _EntryReader:
    """Reads the attributes of one entry; names come first, so that the other findings can carry them."""

    application: str
    fields: dict[str, Attribute]
    path: str
    line: int
    problems: Problems
    subject: Entry | None = None

    def read(self) -> Entry | None:
        database, username = self._name("database_name"), self._name("username")
        self.subject = Entry(self.application, database, username)
        self._refuse_unknown()
        level = self._access_level()
        entry = Entry(
            application=self.application,
            database=database,
            username=username,
            access_level=level or AccessLevel.OWNER,
            secret_name=self._secret_name(),
            createdb=self._createdb(level),
            connection_limit=self._connection_limit(),
            extensions=self._extensions(level),
            accepted_findings=self._accepted_findings(),
        )
        return entry if database and username and level else None

    def _refuse(self, code: str, message: str, next_step: str, attribute: str) -> None:
        line = self.fields[attribute].line if attribute in self.fields else self.line
        where = self.problems.location(line, f"{self.path}.{redact(attribute)}")
        self.problems.refuse(code, message, next_step, where, self.subject)

    def _refuse_type(self, attribute: str, wanted: str, next_step: str) -> None:
        _refuse_type(self.problems, self.fields[attribute], wanted, next_step, f"{self.path}.{attribute}", self.subject)

    def _refuse_unknown(self) -> None:
        for attribute in self.fields:
            if attribute in _ATTRIBUTES:
                continue
            near = difflib.get_close_matches(attribute[:80], _ATTRIBUTES, n=1)
            next_step = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(_ATTRIBUTES)}"
            self._refuse("unknown_attribute", f"there is no attribute {redact(attribute)}", next_step, attribute)

    def _content(self, attribute: str) -> Content:
        """Return the value, None where it is missing: null means the default, as in Terraform."""
        return self.fields[attribute].value.content if attribute in self.fields else None

    def _string(self, attribute: str) -> str | None:
        content = self._content(attribute)
        if content is None or isinstance(content, str):
            return content
        self._refuse_type(attribute, "a string", "write it in quotes")
        return None

    def _name(self, attribute: str) -> str:
        if self._content(attribute) is None:
            state = "is null" if attribute in self.fields else "is missing"
            self._refuse("missing_attribute", f"{attribute} {state}, and it is required", "add it", attribute)
            return ""
        name = self._string(attribute)
        if name is None:
            return ""
        problem = _name_problem(name)
        if problem:
            self._refuse("invalid_name", f"{attribute} {problem}", f"choose another {attribute}", attribute)
            return ""
        if name in RESERVED_NAMES or name.startswith(RESERVED_PREFIXES):
            message = f'{attribute} "{name}" is reserved by PostgreSQL or RDS'
            self._refuse("reserved_name", message, f"choose another {attribute}", attribute)
            return ""
        return name

    def _access_level(self) -> AccessLevel | None:
        if self._content("access_level") is None:
            return AccessLevel.OWNER
        level = self._string("access_level")
        if level in list(AccessLevel):
            return AccessLevel(level)
        if level is not None:
            levels = ", ".join(AccessLevel)
            self._refuse("invalid_value", "access_level is not one that exists", f"use one of {levels}", "access_level")
        return None

    def _secret_name(self) -> str:
        name = self._string("secret_name")
        if name is not None and not (_SECRET_NAME.fullmatch(name) or _SECRET_ARN.fullmatch(name)):
            message = f"secret_name of {len(name)} characters is neither a name nor an ARN of Secrets Manager"
            next_step = "use 1 to 512 of letters, digits and /_+=.@-, or leave it out for the default"
            self._refuse("invalid_value", message, next_step, "secret_name")
        return name or ""

    def _createdb(self, level: AccessLevel | None) -> bool:
        content = self._content("createdb")
        if content is None:
            return False
        if not isinstance(content, bool):
            self._refuse_type("createdb", "true or false", "write true or false without quotes")
            return False
        if content:
            self._refuse_unless_owner(level, "createdb", "remove it, or make the entry an owner")
        return content

    def _refuse_unless_owner(self, level: AccessLevel | None, attribute: str, next_step: str) -> None:
        if level not in {None, AccessLevel.OWNER}:
            message = f'{attribute} is for owners only, and access_level is "{level}"'
            self._refuse("invalid_value", message, next_step, attribute)

    def _connection_limit(self) -> int | None:
        content = self._content("connection_limit")
        if content is None:
            return None
        if not isinstance(content, Decimal):
            self._refuse_type("connection_limit", "a number", "write a whole number without quotes")
        elif not 0 <= content <= MAX_CONNECTION_LIMIT or content != int(content):
            message = f"connection_limit must be a whole number from 0 to {MAX_CONNECTION_LIMIT}"
            self._refuse("invalid_value", message, "leave it out for no limit", "connection_limit")
        else:
            return int(content)
        return None

    def _extensions(self, level: AccessLevel | None) -> tuple[str, ...]:
        names = self._strings("extensions", '["citext"]')
        for name in names:
            if not _NAME.fullmatch(name):
                next_step = "a lower-case letter, then letters, digits, _ or -, at most 63"
                self._refuse("invalid_name", f"{redact(name)} is no extension's name", next_step, "extensions")
        if self._content("extensions"):
            self._refuse_unless_owner(level, "extensions", "move them to the entry of the database's owner")
        return names

    def _accepted_findings(self) -> tuple[str, ...]:
        codes = self._strings("accepted_findings", '["public_can_create"]')
        for code in codes:
            if code not in ACCEPTABLE:
                message = f"{redact(code)} is no finding that can be accepted"
                next_step = f"those that can are {', '.join(sorted(ACCEPTABLE))}"
                self._refuse("invalid_value", message, next_step, "accepted_findings")
        return codes

    def _strings(self, attribute: str, example: str) -> tuple[str, ...]:
        content = self._content(attribute)
        if content is None:
            return ()
        if not isinstance(content, tuple):
            self._refuse_type(attribute, "a list of strings", f"write a list: {example}")
            return ()
        strings = tuple(str(item.content) for item in content if self._is_string(item, attribute, example))
        for name in _repeated(strings):
            self._refuse(
                "duplicate", f'{_SINGULAR[attribute]} "{redact(name)}" is listed twice', "remove one", attribute
            )
        return strings

    def _is_string(self, item: Value, attribute: str, example: str) -> bool:
        if isinstance(item.content, str):
            return True
        found = Attribute(attribute, item, item.line)
        next_step, path = f"write each in quotes: {example}", f"{self.path}.{attribute}"
        _refuse_type(self.problems, found, "a string", next_step, path, self.subject, f"each of {attribute}")
        return False


# --- entries together -----------------------------------------------------------------------------------------------


def _check_together(read: list[tuple[Attribute, Entry]], path: str, problems: Problems) -> None:
    owners: defaultdict[str, list[tuple[Attribute, Entry]]] = defaultdict(list)
    roles: defaultdict[str, list[tuple[Attribute, Entry]]] = defaultdict(list)
    for found, entry in read:
        roles[entry.username].append((found, entry))
        if entry.access_level is AccessLevel.OWNER:
            owners[entry.database].append((found, entry))
    for database, declared in owners.items():
        if len(declared) > 1:
            message = f'database "{database}" has {len(declared)} owners: {_listed(declared)}'
            _refuse_together(
                "two_owners", message, "keep one, make the others editor or reader", declared, path, problems
            )
    for username, declared in roles.items():
        if len(declared) > 1:
            _check_role(username, declared, path, problems)


def _check_role(username: str, declared: list[tuple[Attribute, Entry]], path: str, problems: Problems) -> None:
    """One role has one password, one set of attributes and one access level per database."""
    entries = [entry for _, entry in declared]
    role = f'username "{username}"'
    for database in _repeated(entry.database for entry in entries):
        message = f'{role} is declared more than once for database "{database}": {_listed(declared)}'
        _refuse_together("duplicate_role", message, "keep one of the entries", declared, path, problems)
    secrets = {entry.secret_name or f"template of {entry.application}" for entry in entries}
    if len(secrets) > 1:
        message = f"{role} would have {len(secrets)} passwords, one of each secret: {_listed(declared)}"
        next_step = "name the same secret_name in all of them, or use another username"
        _refuse_together("two_secrets", message, next_step, declared, path, problems)
    for attribute in ("createdb", "connection_limit"):
        if len({getattr(entry, attribute) for entry in entries}) > 1:
            message = f"{role} is one role, but its entries differ in {attribute}: {_listed(declared)}"
            _refuse_together("role_differs", message, f"say the same {attribute} in all", declared, path, problems)


def _listed(declared: list[tuple[Attribute, Entry]]) -> str:
    return ", ".join(
        f"{redact(entry.application)}{f' (line {found.line})' if found.line else ''}" for found, entry in declared[:20]
    )


def _refuse_together(
    code: str, message: str, next_step: str, declared: list[tuple[Attribute, Entry]], path: str, problems: Problems
) -> None:
    found, entry = declared[-1]
    problems.refuse(
        code, message, next_step, problems.location(found.line, f"{path}.{redact(entry.application)}"), entry
    )


# --- small queries ------------------------------------------------------------------------------------------------


def _repeated(names: Iterable[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)


def _at(found: Attribute) -> str:
    return f"on line {found.line}" if found.line else "again"


def _refuse_type(
    problems: Problems,
    found: Attribute,
    wanted: str,
    next_step: str,
    path: str,
    subject: Entry | None = None,
    name: str = "",
) -> None:
    """Keep the problem that a value is not of the kind that is wanted, unless it was reported already."""
    content = found.value.content
    if content is NotLiteral.REFUSED:
        return
    code = "computed_value" if isinstance(content, NotLiteral) else "wrong_type"
    if content is NotLiteral.FOR:
        code, next_step = "for_expression", "write the values out"
    message = f"{name or redact(found.key)} must be {wanted}, not {_kind(content)}"
    problems.refuse(code, message, next_step, problems.location(found.line, path), subject)


def _kind(content: Content) -> str:
    """Describe a value by its type alone: it could be a secret."""
    if isinstance(content, NotLiteral):
        return content.value
    if content is None:
        return "null"
    return next(name for kind, name in _KINDS if isinstance(content, kind))


_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "a bool"), (str, "a string"), (Decimal, "a number"), (tuple, "a list"), (Object, "an object"),
)  # fmt: skip


def _name_problem(name: str) -> str:
    """Return what keeps a name from being one, never the name itself unless it can be shown."""
    label = f'"{name}"' if redact(name) == name else f"of {len(name)} characters"
    checks: Iterable[tuple[bool, str]] = (
        (not name, "is empty"),
        (len(name.encode(errors="replace")) > 63, f"{label} is longer than 63 bytes: PostgreSQL would cut it silently"),
        (name != name.lower(), f"{label} has upper-case letters"),
        (not _NAME.fullmatch(name), f"{label} must be a lower-case letter, then letters, digits, _ or -"),
    )
    return next((problem for failed, problem in checks if failed), "")


MAX_CONNECTION_LIMIT = 2_147_483_647
RESERVED_PREFIXES = ("pg_", "rds_")
RESERVED_NAMES = frozenset(
    {
        # databases and roles that PostgreSQL and RDS make themselves
        "postgres", "template0", "template1", "rdsadmin", "rdsrepladmin", "rdstopmgr", "rdsproxyadmin",
        # words that stand for a role in GRANT and ALTER
        "public", "none", "current_user", "current_role", "session_user", "user",
    }
)  # fmt: skip

_ATTRIBUTES = (
    "database_name", "username", "access_level", "secret_name", "createdb", "connection_limit", "extensions",
    "accepted_findings",
)  # fmt: skip
_SINGULAR = {"extensions": "extension", "accepted_findings": "finding"}
_APPLICATION = re.compile(r"[A-Za-z0-9_-]{1,63}")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_SECRET_NAME = re.compile(r"[A-Za-z0-9/_+=.@-]{1,512}")
_SECRET_ARN = re.compile(r"arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@-]{1,519}")
