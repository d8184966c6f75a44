"""A server in, everything out that a run can change on it: roles, memberships, databases, privileges, comments."""

import base64
import functools
import hashlib
import hmac
import json
from typing import Any

from stack.postgres import Server
from stack.reading import once_until_written

_ACL = "(SELECT json_agg(item::text ORDER BY item::text) FROM unnest({}) AS item)"

_SHARED = f"""SELECT json_build_object(
  'roles', (SELECT json_agg(to_jsonb(r) - 'oid' - 'rolpassword'
            || jsonb_build_object('comment', shobj_description(r.oid, 'pg_authid')) ORDER BY rolname)
            FROM pg_authid AS r WHERE oid >= 16384),
  'memberships', (SELECT json_agg(to_jsonb(m) - 'oid' - 'roleid' - 'member' - 'grantor' || jsonb_build_object(
            'role', roleid::regrole, 'of', member::regrole, 'by', grantor::regrole) ORDER BY roleid, member, grantor)
            FROM pg_auth_members AS m WHERE member >= 16384),
  'databases', (SELECT json_agg(json_build_array(datname, datdba::regrole, datconnlimit, {_ACL.format("datacl")},
            shobj_description(oid, 'pg_database')) ORDER BY datname) FROM pg_database WHERE NOT datistemplate)
)::text"""

_INSIDE = f"""SELECT json_build_object(
  'schemas', (SELECT json_agg(json_build_array(nspname, nspowner::regrole, {_ACL.format("nspacl")}) ORDER BY nspname)
              FROM pg_namespace WHERE nspname !~ '^pg_'),
  'objects', (SELECT json_agg(json_build_array(oid::regclass, relowner::regrole, {_ACL.format("relacl")})
              ORDER BY oid::regclass::text) FROM pg_class WHERE relnamespace::regnamespace::text !~ '^pg_'
              AND relnamespace <> 'information_schema'::regnamespace),
  'columns', (SELECT json_agg(json_build_array(attrelid::regclass, attname, {_ACL.format("attacl")})
              ORDER BY attrelid::regclass::text, attname) FROM pg_attribute WHERE attacl IS NOT NULL
              AND attrelid >= 16384),
  'defaults', (SELECT json_agg(json_build_array(defaclrole::regrole, defaclnamespace, defaclobjtype,
              {_ACL.format("defaclacl")}) ORDER BY defaclrole::regrole::text, defaclobjtype) FROM pg_default_acl),
  'extensions', (SELECT json_agg(extname ORDER BY extname) FROM pg_extension)
)::text"""


@once_until_written
def dump(server: Server) -> dict[str, Any]:
    """The catalogs as names and texts, in an order of their own, so that two servers can be compared."""
    found: dict[str, Any] = json.loads(server.run_as_superuser(_SHARED)[0][0])
    # A new database is closed to everybody, the superuser too, until everybody has lost what they had on it.
    closed = {name for (name,) in server.run_as_superuser("SELECT datname FROM pg_database WHERE NOT datallowconn")}
    found["inside"] = {
        name: "closed" if name in closed else json.loads(server.run_as_superuser(_INSIDE, name)[0][0])
        for name, *_ in found["databases"]
    }
    return found


def has_password(server: Server, role: str, password: str) -> bool:
    """Whether the verifier that the server keeps of a role is that of an ASCII password."""
    name = role.replace("'", "''")
    rows = server.run_as_superuser(f"SELECT rolpassword FROM pg_authid WHERE rolname = '{name}'")
    if not rows or not rows[0][0]:
        return False
    _, costs, keys = rows[0][0].split("$")
    iterations, salt = costs.split(":")
    salted = _salt(password, salt, int(iterations))
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    return base64.b64encode(hashlib.sha256(client_key).digest()).decode() == keys.split(":")[0]


@functools.cache
def _salt(password: str, salt: str, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), iterations)
