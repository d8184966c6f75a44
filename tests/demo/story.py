"""The story, chapter by chapter: plan, apply, applications at work, a second run, tampering, drift, healing, audit."""

import contextlib
import csv
import io
import json
import re
import secrets
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, TextIO

from pg8000.native import DatabaseError

from demo.screen import GREEN, RED, YELLOW, Screen
from provisioner.core.access_levels import AccessLevel
from provisioner.core.errors import InvalidSnapshot, ProvisioningError
from provisioner.core.model import Entry
from provisioner.core.snapshot import parse_snapshot
from stack import binaries
from stack.aws import Aws
from stack.postgres import Server
from stack.world import AUDIT, World

MOST_AUDIT_ROWS = 40
COLUMNS = {"timestamp_utc": 24, "database": 12, "username": 18, "action": 16, "status": 8, "message": 60}


def tell(path: Path, screen: Screen) -> int:
    """Tell the story of a tfvars file; 0 when it ended well, 1 when the product refused the file."""
    screen.chapter(f"rds-provisioner on {path}")
    version = max(binaries.available())
    screen.say(f"Starting PostgreSQL {binaries.describe(version)}, S3 and Secrets Manager; everything on loopback.")
    environment, suffix = _read_environment(path), ".tfvars.json" if path.name.endswith(".json") else ".tfvars"
    with contextlib.ExitStack() as stack:
        server, aws = stack.enter_context(Server(version)), stack.enter_context(Aws())
        settings = {"SNAPSHOT_KEY": f"{environment}/terraform{suffix}"}
        world = stack.enter_context(World(server, aws, server.create_delegated_admin(), environment, settings))
        log = stack.enter_context(tempfile.TemporaryFile("w+"))
        return Story(world, path, screen, log).tell()


class Story:
    """What happens to one file, on a server and an AWS of its own; `log` takes what the function writes."""

    def __init__(self, world: World, path: Path, screen: Screen, log: TextIO) -> None:
        self.world = world
        self.path = path
        self.screen = screen
        self.log = log
        self.entries: tuple[Entry, ...] = ()

    def tell(self) -> int:
        """All chapters, or as many as the file has something for."""
        self._declare()
        try:
            if self._plan_and_apply("The plan: a dry run says what would be done"):
                self._use_and_tamper()
        except ProvisioningError as error:
            self.screen.chapter(f"Refused: {type(error).__name__}")
            self.screen.say(str(error), RED)
            self._show_audit()
            return 1
        self._show_audit()
        self._look_for_passwords()
        self.screen.chapter("Done. Everything that was started ends now, and its files go with it.")
        return 0

    # --- chapters -----------------------------------------------------------------------------------------------------

    def _declare(self) -> None:
        """Put the file and a made-up secret for each entry; a file that cannot be read is the function's to refuse."""
        self.screen.chapter("The declaration: the file goes to S3, and each entry gets a secret")
        with contextlib.suppress(InvalidSnapshot):
            content, name = self.path.read_bytes(), self.path.name if self._is_json() else "terraform.tfvars"
            self.entries = parse_snapshot(content, name, environment=self.world.environment)[0].entries
        for entry in self.entries:
            password = self.world.passwords.setdefault(entry.username, secrets.token_urlsafe(18))
            secret_id = entry.secret_name or f"goldenpath/{self.world.environment}/{entry.application}/postgres"
            server = {"host": self.world.server.host, "port": self.world.server.port, "engine": "postgres"}
            value = {"username": entry.username, "password": password, "dbname": entry.database, **server}
            # A secret given by its ARN is somebody else's to make; without it the function says that it is missing.
            if not secret_id.startswith("arn:"):
                self.world.aws.put_secret(secret_id, value)
            level = entry.access_level.value
            self.screen.say(f'{entry.application}: "{entry.username}", {level} of database "{entry.database}"')
        if not self.entries:
            is_coupled = "rds_config" in self.path.read_text()
            hint = "in a copy of it, set rds_config.enabled = true" if is_coupled else "add one"
            self.screen.say(f"No entry of the file is active, so there is nothing to provision: {hint}.", YELLOW)
        self.world.declare(self.path)

    def _plan_and_apply(self, title: str, mode: str = "dry_run") -> bool:
        """Show what differs, then approve exactly that; whether there was anything to do."""
        self.screen.chapter(title)
        answer = self._call(mode=mode)
        self.screen.show_plan(answer["plan_text"])
        self.screen.say(f"\nstatus {answer['status']}, plan_digest {answer['plan_digest'][:19]}...")
        if answer["status"] in {"no_change", "in_sync"}:
            return False
        self.screen.chapter("The apply: that very plan, approved by its digest")
        approval = {"allow_db_provision": True, "approved_by": "demo", "plan_digest": answer["plan_digest"]}
        # Where the digest of a plan is required, only the object counts.
        self.world.approve(answer["plan_digest"], "another than who asks")
        answer = self._call(mode="apply", approval=approval)
        count, failed = len(answer["changes"]), answer["summary"]["errors"]
        self.screen.say(f"status {answer['status']}: {count} changes made and proved, {failed} errors", GREEN)
        return True

    def _use_and_tamper(self) -> None:
        entry = self._pick_owner()
        if entry is None:
            self.screen.say("No entry owns a database that it may log in to: there is no application to play.")
            return
        self.screen.chapter(f"The application {entry.application} logs in with its secret and goes to work")
        self._run(entry, "CREATE TABLE greetings (id serial PRIMARY KEY, words text)")
        self._run(entry, "INSERT INTO greetings (words) VALUES ('hello')")
        self._use_as_others(entry)
        self.screen.chapter("A second run")
        answer = self._call(mode="apply")
        self.screen.say(f"status {answer['status']}: {answer['summary']['unchanged']} things are as declared", GREEN)
        self.screen.chapter("Somebody tampers")
        for sql in self._tamperings(entry):
            self.world.server.run_as_superuser(sql, entry.database)
            self.screen.say(sql, YELLOW)
        self._run(entry, "SELECT words FROM greetings")
        self._plan_and_apply("Drift is found and named; nothing is changed by looking", mode="drift")
        self.screen.chapter("It is healed")
        self._run(entry, "SELECT words FROM greetings")
        self._use_as_others(entry)

    def _use_as_others(self, owner: Entry) -> None:
        """A reader reads and may not write; an editor writes and may not create."""
        others = [each for each in self.entries if each.database == owner.database and each.username != owner.username]
        others = [each for each in others if each.connection_limit != 0]
        for entry in others[:3]:
            self._run(entry, "SELECT words FROM greetings")
            self._run(entry, "INSERT INTO greetings (words) VALUES ('from me')")
            self._run(entry, "CREATE TABLE mine (id int)")
        if not others:
            self.screen.say(f'The file declares no reader and no editor of "{owner.database}".')

    def _tamperings(self, owner: Entry) -> list[str]:
        statements = [
            f"ALTER ROLE \"{owner.username}\" PASSWORD 'changed by hand'",
            f'GRANT CONNECT ON DATABASE "{owner.database}" TO PUBLIC',
        ]
        readers = [each for each in self.entries if each.access_level is AccessLevel.READER]
        readers = [each for each in readers if each.database == owner.database]
        return [*statements, *(f'GRANT INSERT ON greetings TO "{each.username}"' for each in readers[:1])]

    def _show_audit(self) -> None:
        self.screen.chapter("The audit")
        key = f"governance/{self.world.environment}/rds_provision_audit.csv"
        rows = list(csv.DictReader(io.StringIO(self.world.aws.read_object(AUDIT, key).decode())))
        counts = Counter(row["status"] for row in rows)
        self.screen.say(f"s3://{AUDIT}/{key}")
        self.screen.say(f"rows: {', '.join(f'{number} {status}' for status, number in counts.items())}")
        told = [row for row in rows if row["status"] not in {"dry_run", "no_change", "skipped"}]
        self.screen.say("\n" + _row({name: name for name in COLUMNS}) if told else "")
        for row in told[:MOST_AUDIT_ROWS]:
            self.screen.say(_row(row), RED if row["status"] == "error" else "")
        if len(told) > MOST_AUDIT_ROWS:
            self.screen.say(f"... and {len(told) - MOST_AUDIT_ROWS} more")

    def _look_for_passwords(self) -> None:
        """Raises RuntimeError when a password stands where it must not."""
        self.log.seek(0)
        stored = [self.world.aws.read_object(AUDIT, key).decode() for key in self.world.aws.list_keys(AUDIT)]
        texts = {"the server's log": [self.world.server.log_text()], "the function's log": [self.log.read()]}
        texts["what is in the audit bucket"] = stored
        for name, parts in texts.items():
            if any(password in part for part in parts for password in self.world.passwords.values()):
                raise RuntimeError(f"a password stands in {name}")
        places = ", nor in ".join(texts)
        self.screen.say(f"\nLooked for the passwords: there is none in {places}.", GREEN)

    # --- one step -----------------------------------------------------------------------------------------------------

    def _call(self, **fields: Any) -> dict[str, Any]:
        """Call the function as Terraform would; its log lines go to a file, since people read this."""
        with contextlib.redirect_stdout(self.log):
            return self.world.call(requested_by="demo", build_id="demo", run_id="1", **fields)

    def _run(self, entry: Entry, sql: str) -> None:
        """Run SQL as an application, with the password of its secret, and say what came of it."""
        try:
            with contextlib.closing(self.world.login(entry.username, entry.database)) as connection:
                rows = connection.run(sql)
                result = ", ".join(str(value) for row in rows or [] for value in row) or "done"
        except DatabaseError as error:
            result = f"refused: {error.args[0]['M']} (SQLSTATE {error.args[0]['C']})"
        self.screen.say(f"{entry.username}: {sql}")
        self.screen.say(f"    {result}", RED if result.startswith("refused") else GREEN)

    def _pick_owner(self) -> Entry | None:
        """An owner of whose database others have a share; else any."""
        shared = {each.database for each in self.entries if each.access_level is not AccessLevel.OWNER}
        owners = [
            each for each in self.entries if each.access_level is AccessLevel.OWNER and each.connection_limit != 0
        ]
        return next((each for each in owners if each.database in shared), owners[0] if owners else None)

    def _is_json(self) -> bool:
        return self.path.name.endswith(".json")


def _read_environment(path: Path) -> str:
    """The environment that the file names at its top level, else dev. Where this guesses wrong, the product refuses."""
    text = path.read_text(errors="replace")
    named: object = None
    if path.name.endswith(".json"):
        with contextlib.suppress(ValueError, AttributeError):
            named = json.loads(text).get("environment")
    elif found := re.search(r'^environment\s*=\s*"([^"]*)"', text, re.MULTILINE):
        named = found[1]
    return str(named) if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", str(named or "")) else "dev"


def _row(row: dict[str, str]) -> str:
    return " ".join(row[name][:width].ljust(width) for name, width in COLUMNS.items()).rstrip()
