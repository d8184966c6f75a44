"""An example of a report of access, made by the product from facts that are written down here: no server is needed."""

from provisioner.core.access_facts import AccessGroup, Thing
from provisioner.core.access_levels import AccessLevel
from provisioner.core.access_report import AccessReport, DatabaseFact, RoleFact, compare, reasons
from provisioner.core.access_rows import build_access_rows
from provisioner.core.acl import parse_acl
from provisioner.core.audit import AuditRow
from provisioner.core.effective_access import Access
from provisioner.core.model import Declaration, Entry, Status
from provisioner.core.ownership import Ownership
from provisioner.core.role_graph import RoleGraph
from provisioner.core.state import Database, Marker, Membership, Role, Server

Inside = tuple[Database, tuple[AccessGroup, ...]]
HOSTILE = '"><script>alert(1)</script><b onmouseover=alert(2)>'
LEVELS = {
    ("shop", "shop_user"): AccessLevel.OWNER,
    ("shop", "shop_editor"): AccessLevel.EDITOR,
    ("shop", "shop_reader"): AccessLevel.READER,
    ("billing", "billing_user"): AccessLevel.OWNER,
    ("billing", "finance_reader"): AccessLevel.READER,
    ("keycloak", "keycloak_user"): AccessLevel.OWNER,
}
GRANTED = AuditRow(
    timestamp_utc="2026-11-02T08:00:12.120Z",
    environment="prod",
    build_id="2026.11.02-3",
    run_id="4102",
    database="shop",
    username="shop_reader",
    action="grant",
    status=Status.SUCCESS,
    duration_ms=12,
    message="",
    requested_by="terraform",
    approved_by="alice",
    snapshot_version="3HL4kqtJvjVBH40Nrjfkd",
    plan_digest="",
)


def example(*, is_hostile: bool = False) -> AccessReport:
    """Three databases, one of them unknown; one reader who can write, one role that nobody declares."""
    odd = HOSTILE if is_hostile else "reporting_tool"
    names = ["shop_user", "shop_editor", "shop_reader", "billing_user", "finance_reader", "keycloak_user", odd]
    declared = {role for _, role in LEVELS}
    roles = {name: Role(name, marker=Marker("prod" if name in declared else "")) for name in [*names, "platform_admin"]}
    roles |= {"rdsadmin": Role("rdsadmin", superuser=True), "analysts": Role("analysts", can_login=False)}
    memberships = [Membership("analysts", "finance_reader", "platform_admin", set_option=False)]
    entries = tuple(Entry(role, database, role, level) for (database, role), level in LEVELS.items())
    server = Server(16, "platform_admin", "rdsadmin", roles, {}, memberships=tuple(memberships))
    graph, ownership = RoleGraph(server), Ownership(Declaration(entries=entries), server, "prod")
    databases = (
        _shop(odd),
        _billing(),
        (Database("keycloak", "keycloak_user", unreadable_reason="connection refused"), ()),
    )
    accesses = [Access(graph, *each) for each in databases]
    rows = tuple(row for each in accesses for row in build_access_rows(each, ownership))
    before = tuple(row for row in rows if row.role != odd and "analysts" not in row.path)
    return AccessReport(
        about={
            "environment": "prod",
            "created": "2026-11-27T10:15:00.000Z",
            "run_id": "4711",
            "build_id": "2026.11.27-1",
            "requested_by": "schedule",
            "snapshot_version": "3HL4kqtJvjVBH40Nrjfkd",
            "postgresql": "16",
            "system_identifier": "7441230471130123456",
            "administrator": "platform_admin",
        },
        databases=tuple(
            DatabaseFact(each.name, each.owner, declared=True, managed=True, unknown=each.unreadable_reason)
            for each, _ in databases
        ),
        roles=tuple(
            RoleFact(
                name,
                name in ownership.by_role,
                ownership.manages(name),
                tuple(
                    word for word, holds in (("SUPERUSER", role.superuser), ("NOLOGIN", not role.can_login)) if holds
                ),
                tuple(item.role for item in memberships if item.member == name),
            )
            for name, role in sorted(roles.items())
        ),
        access=rows,
        dormant=tuple(item for each in accesses for item in each.dormant()),
        reasons=reasons([GRANTED], rows),
        difference=compare(before, rows, "2026-10-27T10:15:00.000Z"),
    )


def _shop(odd: str) -> Inside:
    quoted = odd.replace('"', '""').replace("\\", "\\\\")
    item = f'"{quoted}"'.replace("\\", "\\\\").replace('"', '\\"')
    return _database(
        "shop",
        "shop_user",
        "shop_editor=Tc/shop_user,shop_reader=c/shop_user,platform_admin=c/shop_user",
        f'"{item}=c/shop_user"',
        tables={
            ("orders", "customers", "invoices"): "shop_editor=arwd/shop_user,shop_reader=r/shop_user",
            ("audit",): f'shop_editor=r/shop_user,shop_reader=ra/shop_user,"{item}=r/shop_user"',
        },
    )


def _billing() -> Inside:
    return _database(
        "billing",
        "billing_user",
        "finance_reader=c/billing_user,platform_admin=c/billing_user",
        tables={
            ("ledger",): "finance_reader=r/billing_user,analysts=rw/billing_user",
        },
    )


def _database(name: str, owner: str, *acls: str, tables: dict[tuple[str, ...], str]) -> Inside:
    everyone = ",".join([f"{owner}=CTc/{owner}", *acls])
    usage = parse_acl("{" + f"pg_database_owner=UC/pg_database_owner,=U/pg_database_owner,{owner}=UC/{owner}" + "}")
    groups = [
        AccessGroup(Thing.DATABASE, "", owner, parse_acl("{" + everyone + "}")),
        AccessGroup(Thing.SCHEMA, "public", "pg_database_owner", usage, names=("public",)),
    ]
    for names, acl in tables.items():
        items = parse_acl("{" + f"{owner}=arwdDxt/{owner},{acl}" + "}")
        groups.append(AccessGroup(Thing.TABLE, "public", owner, items, len(names), names))
    return Database(name, owner), tuple(groups)
