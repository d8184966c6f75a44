"""The chapters of docs/operations.md for a person on call: their commands, run as they stand there."""

import json
import re
from typing import Any

import pytest

from e2e.deploy.conftest import Deploy
from e2e.deploy.deployment import BACKSTAGE, KEYCLOAK, READER, Deployment
from e2e.deploy.runbook import RUNBOOK, Shell, read_bash, read_block
from e2e.deploy.test_by_hand import Terminal
from rds_provisioner_cli.commands import cli
from stack.runtime import Invocation

DRY_RUN = "make rds-provision-dry-run ENV=$ENV"
APPLY = "make rds-provision ENV=$ENV"


def run(shell: Shell, deployment: Deployment, commands: str, *, status: int = 0, **variables: str) -> str:
    """What the commands print, with the stack of a deployment in the surroundings."""
    known = {"ENV": deployment.environment, "REQUESTED_BY": "carol", **variables}
    answer = shell(commands, endpoint=deployment.runtime.endpoint_url, **known)
    assert answer.returncode == status, answer.stdout + answer.stderr
    return answer.stdout + answer.stderr


@pytest.fixture
def applied(dev: Deployment) -> Deployment:
    """An environment with an application and a reader at work."""
    dev.publish_outputs()
    dev.put_snapshot(dev.declare(keycloak=KEYCLOAK, readers=READER))
    dev.invoke("apply")
    return dev


# --- an application cannot log in -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("done", "said"),
    [
        ("ALTER ROLE keycloak_user PASSWORD 'another'", "~ set_password"),
        ("ALTER ROLE keycloak_user NOLOGIN", "NOLOGIN"),
        ("ALTER ROLE keycloak_user VALID UNTIL '2020-01-01'", "expire"),
        ("ALTER ROLE keycloak_user CONNECTION LIMIT 0", "connection limit"),
        ("GRANT rds_iam TO keycloak_user", "rds_iam"),
        ("SELECT 1", "No changes."),
    ],
)
def test_the_dry_run_says_why_an_application_cannot_log_in(
    shell: Shell, applied: Deployment, done: str, said: str
) -> None:
    chapter = RUNBOOK.split("## An application cannot log in")[1].split("\n## ")[0]
    assert DRY_RUN in chapter
    applied.server.run_as_superuser(done)
    assert said in run(shell, applied, DRY_RUN)
    if "another" in done:
        assert APPLY in chapter
        assert "applied:" in run(shell, applied, APPLY)
        with applied.server.connect("keycloak_user", applied.passwords["keycloak_user"], "keycloak") as connection:
            assert connection.run("SELECT 1") == [[1]]


# --- who has access to what -----------------------------------------------------------------------------------------


def test_who_has_access_is_told_with_the_path_and_since_when(shell: Shell, applied: Deployment) -> None:
    applied.server.run_as_superuser(
        "CREATE TABLE words (word text); GRANT INSERT ON words TO analytics_reader", "keycloak"
    )
    shown = run(shell, applied, read_bash("who-has-access"))
    assert re.search(r"analytics_reader.*BEYOND", shown)
    assert "beyond their level: 1" in shown
    assert "create_database" in shown
    assert sorted(path.suffix for path in (shell.folder / "reports").iterdir()) == [".csv", ".html", ".json"]


# --- at night ---------------------------------------------------------------------------------------------------------


def test_one_person_in_two_roles_asks_by_the_snapshot_and_approves(shell: Shell, deploy_environment: Deploy) -> None:
    name, look, role, approve, _, again = (line.partition("   #")[0] for line in read_bash("at-night").splitlines())
    assert role.startswith("export AWS_PROFILE=")
    prod = deploy_environment("prod", Gate="digest")
    prod.publish_outputs()
    with prod.rule() as bridge:
        prod.put_snapshot(prod.declare(keycloak=KEYCLOAK))
        bridge.wait_for(1)
        prod.runtime.wait_until_idle()
        [digest] = re.findall(r"digest: (sha256:\w+)", run(shell, prod, f"{name}\n{look}"))
        # Who asks is on call and approves: the plan was asked for by the snapshot.
        words = approve.replace("sha256:...", digest).split()
        answer = Terminal(prod, "approve", "prod", words[-1].removeprefix("DIGEST="), APPROVED_BY="carol")
        answer.read_until(b"Only 'yes' will do: ")
        answer.type(b"yes\n")
        assert b"approved as carol" in answer.read_all()
        bridge.wait_for(2)
        prod.runtime.wait_until_idle()
        assert "no_change" in run(shell, prod, again)


# --- a wrong plan was approved --------------------------------------------------------------------------------------


def test_an_approval_that_is_taken_back_counts_no_more(shell: Shell, staging: Deployment) -> None:
    staging.publish_outputs()
    staging.put_snapshot(staging.declare(keycloak=KEYCLOAK))
    digest = staging.invoke("dry_run")["plan_digest"]
    staging.approve(digest)
    run(shell, staging, read_bash("withdraw"), HEX=digest.removeprefix("sha256:"))
    assert staging.runtime.invoke({"environment": "staging"}).payload["errorType"] == "ApprovalRequired"


def test_the_last_good_version_is_found_and_put_back(shell: Shell, applied: Deployment) -> None:
    owner_only = applied.declare(keycloak=KEYCLOAK, grafana={"database_name": "grafana", "username": "grafana_user"})
    applied.put_snapshot(owner_only)
    applied.invoke("apply")
    applied.server.run_as_superuser("REVOKE CONNECT ON DATABASE keycloak FROM analytics_reader")
    shown = run(shell, applied, read_bash("good-version"))
    assert "create_database" in shown
    versions = [line.split("\t")[0] for line in shown.splitlines() if "\t" in line]
    assert len(versions) == 2
    shown = run(shell, applied, "BUCKET=$(output SnapshotBucket)\n" + read_bash("put-back"), VERSION=versions[1])
    assert "+ grant              analytics_reader         CONNECT on the database" in shown
    assert "orphaned" in shown or "no longer declared" in shown
    assert "applied: 1 create" in shown


# --- restored from a snapshot ---------------------------------------------------------------------------------------


def test_a_restored_server_is_put_right_by_an_apply(shell: Shell, applied: Deployment) -> None:
    """Its passwords are of the snapshot's moment, and what was made since is gone."""
    chapter = RUNBOOK.split("## A restored instance")[1].split("\n## ")[0]
    server = applied.server
    server.run_as_superuser(f"ALTER ROLE {applied.administrator.username} PASSWORD 'of that moment'")
    server.run_as_superuser("ALTER ROLE keycloak_user PASSWORD 'of that moment'")
    server.run_as_superuser("DROP OWNED BY analytics_reader", "keycloak")
    server.run_as_superuser("DROP ROLE analytics_reader")
    assert "DatabaseUnavailable" in run(shell, applied, DRY_RUN, status=2)
    secret = server.admin_secret(applied.administrator._replace(password="of that moment"))
    (shell.folder / "admin.json").write_text(json.dumps(secret))
    [command] = re.findall(r"```bash\n(.*?)```", chapter, re.DOTALL)
    run(shell, applied, command.strip())
    shown = run(shell, applied, f"{DRY_RUN} && {APPLY}")
    assert DRY_RUN in chapter
    assert APPLY in chapter
    assert "~ set_password" in shown
    assert "+ create_role        analytics_reader" in shown
    assert "applied:" in shown


# --- offboarding ----------------------------------------------------------------------------------------------------


def test_an_application_leaves_by_the_commands_of_the_page(shell: Shell, applied: Deployment) -> None:
    quarantine, look, *retire = read_bash("leave").splitlines()
    applied.put_snapshot(applied.declare(backstage=BACKSTAGE))
    applied.invoke("apply")
    assert "applied:" in run(shell, applied, quarantine)
    # A week goes by.
    for role in ("keycloak_user", "analytics_reader"):
        [[text]] = applied.server.run_as_superuser(
            f"SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = '{role}'"
        )
        mark = json.dumps(json.loads(text) | {"quarantined": "2020-02-29T23:59:59Z"})
        applied.server.run_as_superuser(f"COMMENT ON ROLE {role} IS '{mark}'")
    shown = run(shell, applied, look)
    assert "drop_role" in shown
    assert "keep_database" in shown
    # It goes, so it does not stay as it is.
    assert 'role "keycloak_user" is managed' not in shown
    assert 'database "keycloak" is managed' not in shown
    for command in retire:
        assert "applied:" in run(shell, applied, command)
    assert applied.databases() == {"backstage", "keycloak"}
    assert "kept_database" in json.dumps(applied.invoke("drift")["warnings"])


# --- search the log -------------------------------------------------------------------------------------------------


class Query:
    """So much of the language of Logs Insights as the page uses; anything else is an error.

    `fields`, `filter` with `=`, `!=` and `and`, `sort` and `limit`.
    """

    def __init__(self, text: str) -> None:
        self.fields: list[str] = []
        self.conditions: list[tuple[str, str, str]] = []
        self.order, self.limit = "", 0
        for part in (each.strip() for each in text.split("\n|")):
            command, _, rest = part.partition(" ")
            if command == "fields":
                self.fields = [name.strip() for name in rest.split(",")]
            elif command == "filter":
                found = [re.fullmatch(r'([\w.]+) (=|!=) "([^"]*)"', each) for each in rest.split(" and ")]
                self.conditions += [each.group(1, 2, 3) for each in found if each]
                assert len(self.conditions) == len(found), part
            elif command == "sort":
                assert rest in {"@timestamp asc", "@timestamp desc"}, part
                self.order = rest
            else:
                assert (command, rest.isdigit()) == ("limit", True), part
                self.limit = int(rest)

    def rows(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The lines that it finds, with the fields that it shows; lines come in the order of their time."""
        found = [each for each in lines if all((each.get(a) == b) is (op == "=") for a, op, b in self.conditions)]
        shown = [{name: each.get(name) for name in self.fields if name != "@timestamp"} for each in found]
        return (shown if self.order.endswith("asc") else shown[::-1])[: self.limit]


def lines_of(*invocations: Invocation) -> list[dict[str, Any]]:
    """What CloudWatch would have of these calls."""
    texts = [line for each in invocations for line in each.logs.splitlines()]
    return [json.loads(line) for line in texts if line.startswith("{")]


def query(mark: str) -> str:
    return read_block(f"query: {mark}", "").strip()


@pytest.fixture
def log(dev: Deployment) -> list[dict[str, Any]]:
    """A call that fails, a look, an apply, and the apply after it."""
    event = {"environment": "dev"}
    failed = dev.runtime.invoke(event)
    dev.put_snapshot(dev.declare(keycloak=KEYCLOAK, readers=READER))
    calls = [dev.runtime.invoke({**event, "mode": mode}) for mode in ("dry_run", "apply", "apply")]
    return lines_of(failed, *calls)


def test_failures_are_found_with_their_message(log: list[dict[str, Any]]) -> None:
    [row] = Query(query("failures")).rows(log)
    assert row["error"] == "InvalidSnapshot"
    assert "terraform.tfvars" in row["message_text"]
    assert row["function_request_id"]


def test_a_run_is_found_line_by_line_by_the_id_in_the_names_of_its_objects(log: list[dict[str, Any]]) -> None:
    answers = [line["answer"] for line in log if line.get("message") == "answer"]
    [applied] = [each for each in answers if each["status"] == "applied"]
    text = query("run")
    [example] = re.findall(r'"([0-9a-f-]{36})"', text)
    run_id = re.findall(r"([0-9a-f-]{36})\.csv$", applied["audit"]["run"])[0]
    rows = Query(text.replace(example, run_id)).rows(log)
    assert (rows[0]["message"], rows[-1]["message"]) == ("snapshot", "answer")
    assert ("create_role", "success", "keycloak_user") in {
        (row["action"], row["status"], row["username"]) for row in rows
    }


def test_what_became_of_a_role_is_found_without_what_only_looked(log: list[dict[str, Any]]) -> None:
    rows = Query(query("role")).rows(log)
    assert [row["action"] for row in rows] == ["create_database", "create_role"]
    assert {row["status"] for row in rows} == {"success"}
    assert all(row["plan_digest"].startswith("sha256:") and row["detail"] for row in rows)


def test_a_query_is_asked_from_a_shell(shell: Shell, applied: Deployment) -> None:
    applied.aws.client("logs").create_log_group(logGroupName="/aws/lambda/rds-provisioner-dev")
    (shell.folder / "query.txt").write_text(query("failures"))
    assert '"status": "Complete"' in run(shell, applied, read_bash("search"))


# --- psql -----------------------------------------------------------------------------------------------------------


def test_psql_gets_in_with_the_secret_and_a_verified_server(shell: Shell, applied: Deployment) -> None:
    server = applied.server
    (shell.folder / "global-bundle.pem").symlink_to(server.ca_file)
    block = read_bash("psql")
    words = {"HOST": server.host, "PGHOSTADDR": "127.0.0.1", "PGPORT": str(server.port)}
    of_application = block.replace("rds/master", "keycloak/postgres").replace("rds_provisioner", "keycloak_user")
    for commands, name in ((block, "rds_provisioner"), (of_application, "keycloak_user")):
        answer = shell(commands, typed="SELECT 'I am ' || current_user;\n", **words)
        assert answer.returncode == 0, answer.stderr
        assert f"I am {name}" in answer.stdout
    assert server.admin_secret(applied.administrator)["password"] not in answer.stdout + answer.stderr


# --- words ----------------------------------------------------------------------------------------------------------


def test_every_option_of_the_command_line_is_one_that_it_has() -> None:
    lines = re.findall(r"(?:\.venv-cli/bin/|`)rds-provisioner ([a-z]+) ([^`\n#;]*)", RUNBOOK)
    assert len(lines) > 5
    for name, words in lines:
        known = {option for parameter in cli.commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", words)) <= known, (name, words)
