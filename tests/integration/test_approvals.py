"""Where the digest of a plan is required, an object that only approvers may put opens the gate, for what was read."""

import contextlib
import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from provisioner.core.errors import ApprovalRequired, InvalidRequest, OutOfTime, PlanChanged
from stack.aws import Aws
from stack.binaries import available
from stack.postgres import Server
from stack.world import AUDIT, SNAPSHOTS, World, render_tfvars

SHOP = {
    "shop": {"database_name": "shop", "username": "shop_app"},
    "reports": {"database_name": "shop", "username": "shop_reader", "access_level": "reader"},
}
BANK = {"bank": {"database_name": "bank", "username": "bank_app"}}


@pytest.fixture
def world(pg_server: Server, aws: Aws) -> Iterator[World]:
    with World(pg_server, aws, pg_server.create_delegated_admin(), "prod") as made:
        made.declare_entries(SHOP | BANK)
        yield made


def databases(world: World) -> list[str]:
    sql = "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres' ORDER BY 1"
    return [name for (name,) in world.server.run_as_superuser(sql)]


def trail(world: World) -> list[dict[str, str]]:
    text = world.aws.read_object(AUDIT, "governance/prod/rds_provision_audit.csv").decode()
    return list(csv.DictReader(io.StringIO(text)))


def refusal(world: World, error: type[ApprovalRequired | PlanChanged] = ApprovalRequired, **fields: Any) -> list[str]:
    """The codes with which an apply is refused; nothing was changed by it."""
    before = databases(world)
    with pytest.raises(error) as caught:
        world.apply(**fields)
    assert databases(world) == before
    assert all("make rds-approve ENV=prod DIGEST=sha256:" in each.next_step for each in caught.value.findings)
    return [each.code for each in caught.value.findings]


def reasons(answer: dict[str, Any]) -> list[str]:
    """Why an approval did not count; the answer warns of other things too."""
    codes = [each["code"] for each in answer["warnings"]]
    return [code for code in codes if code.startswith(("approval", "plan", "unit"))]


def event_of_approval(key: str, bucket: str = AUDIT) -> dict[str, Any]:
    detail = {"bucket": {"name": bucket}, "object": {"key": key, "version-id": "v"}}
    return {"id": "event-1", "source": "aws.s3", "detail-type": "Object Created", "detail": detail}


# --- one that counts --------------------------------------------------------------------------------------------------


def test_an_approved_plan_is_applied_and_the_audit_names_the_approver_and_the_objects_version(world: World) -> None:
    digest = world.dry_run(requested_by="terraform")["plan_digest"]
    key = world.approve(digest)
    assert world.apply(requested_by="terraform")["status"] == "applied"
    assert databases(world) == ["bank", "shop"]
    version = world.aws.client("s3").head_object(Bucket=AUDIT, Key=key)["VersionId"]
    made = [row for row in trail(world) if row["status"] == "success"]
    assert made
    assert {row["approved_by"] for row in made} == {"bob"}
    assert all(row["message"].endswith(f"; approved as s3://{AUDIT}/{key} version {version}") for row in made)
    assert world.apply()["status"] == "no_change"


def test_the_digest_in_the_event_says_which_approval_is_meant(world: World) -> None:
    digest = world.dry_run()["plan_digest"]
    world.approve(digest)
    assert world.apply(approval={"plan_digest": digest})["status"] == "applied"


@pytest.mark.parametrize("mode", ["dry_run", "drift", "access"])
def test_what_only_looks_changes_nothing_under_an_approval_either(world: World, mode: str) -> None:
    digest = world.dry_run()["plan_digest"]
    world.approve(digest)
    world.call(mode=mode, approval={"plan_digest": digest})
    assert databases(world) == []


def test_what_the_event_says_of_itself_opens_nothing_and_is_not_told_as_an_approver(world: World) -> None:
    digest = world.dry_run()["plan_digest"]
    words = {"allow_db_provision": True, "approved_by": "mallory", "plan_digest": digest}
    assert refusal(world, approval=words) == ["approval_required"]
    assert {row["approved_by"] for row in trail(world)} == {""}


def test_the_stored_plan_is_found_by_its_digest_whatever_mode_made_it(world: World) -> None:
    for mode in ("dry_run", "drift"):
        digest = world.call(mode=mode)["plan_digest"]
        [key] = world.aws.list_keys(AUDIT, f"governance/prod/plans/by-digest/{digest.removeprefix('sha256:')}/")
        assert json.loads(world.aws.read_object(AUDIT, key))["plan_digest"] == digest


def test_an_inline_plan_is_approved_once_its_content_is_the_snapshot(world: World) -> None:
    more = SHOP | BANK | {"news": {"database_name": "news", "username": "news_app"}}
    world.put_secret("news", "news_app", "news")
    text = render_tfvars("prod", more)
    digest = world.dry_run(tfvars={"inline": text})["plan_digest"]
    world.approve(digest)
    assert refusal(world, PlanChanged, approval={"plan_digest": digest}) == ["plan_changed"]
    world.declare(text)
    assert world.apply()["status"] == "applied"
    assert "news" in databases(world)


# --- those that do not ------------------------------------------------------------------------------------------------


def test_none(world: World) -> None:
    assert refusal(world) == ["approval_required"]


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        (b"{not json", ["approval_unreadable"]),
        (b"[1]", ["approval_unreadable"]),
        (b"[" * 10000, ["approval_unreadable"]),
        (b" " * 20000, ["approval_unreadable"]),
        (b'{"plan_digest": 1' + b"0" * 5000 + b"}", ["approval_unreadable"]),
        (b"\xff\xfe\xfa", ["approval_unreadable"]),
        (b"", ["approval_unreadable"]),
        (b"null", ["approval_unreadable"]),
        ({"plan_digest": "sha256:" + "0" * 64}, ["approval_of_other_plan"]),
        ({"approved_by": ""}, ["approval_without_name"]),
        ({"approved_by": "  "}, ["approval_without_name"]),
        ({"approved_by": 7}, ["approval_without_name"]),
        ({"approved_by": "b" * 257}, ["approval_without_name"]),
        ({"approved_by": "bob\u202e"}, ["approval_without_name"]),
        ({"approved_by": "bob\nalice"}, ["approval_without_name"]),
        ({"approved_by": "\ud800"}, ["approval_without_name"]),
        ({"approved_by": "Alice "}, ["approval_by_requester"]),
        ({"approved_by": "\uff21lice"}, ["approval_by_requester"]),
        ({"approved_by": "", "plan_digest": 1}, ["approval_of_other_plan", "approval_without_name"]),
    ],
)
def test_one_that_is_not_in_order_is_refused_with_every_reason(world: World, body: Any, codes: list[str]) -> None:
    digest = world.dry_run()["plan_digest"]
    key = world.approve(digest, **(body if isinstance(body, dict) else {}))
    if isinstance(body, bytes):
        world.aws.client("s3").put_object(Bucket=AUDIT, Key=key, Body=body)
    assert refusal(world, requested_by="alice") == codes


def test_one_that_says_something_twice(world: World) -> None:
    """Of two names a reader takes the first and another the last."""
    digest = world.dry_run()["plan_digest"]
    key = world.approve(digest)
    body = f'{{"plan_digest": "{digest}", "approved_by": "alice", "approved_by": "mallory"}}'
    world.aws.client("s3").put_object(Bucket=AUDIT, Key=key, Body=body)
    assert refusal(world) == ["approval_unreadable"]


def test_one_whose_digest_is_written_otherwise(world: World) -> None:
    digest = world.dry_run()["plan_digest"]
    for other in (digest.upper(), digest.removeprefix("sha256:"), f" {digest}"):
        world.approve(digest, plan_digest=other)
        assert refusal(world) == ["approval_of_other_plan"]


def test_one_that_was_saved_with_a_byte_order_mark_counts(world: World) -> None:
    digest = world.dry_run()["plan_digest"]
    key = world.approve(digest)
    body = world.aws.read_object(AUDIT, key)
    world.aws.client("s3").put_object(Bucket=AUDIT, Key=key, Body=b"\xef\xbb\xbf" + body)
    assert world.apply()["status"] == "applied"


def test_one_that_was_taken_back(world: World) -> None:
    digest = world.dry_run()["plan_digest"]
    key = world.approve(digest)
    world.aws.client("s3").delete_object(Bucket=AUDIT, Key=key)
    assert refusal(world) == ["approval_required"]
    answer = world.call(event_of_approval(key))
    assert (answer["status"], reasons(answer)) == ("approval_required", ["approval_required"])


def test_of_several_versions_the_newest_counts_and_is_named(world: World) -> None:
    digest = world.dry_run()["plan_digest"]
    world.approve(digest, "bob")
    world.approve(digest, "carol", plan_digest="sha256:another")
    assert refusal(world) == ["approval_of_other_plan"]
    key = world.approve(digest, "carol")
    assert world.apply()["status"] == "applied"
    version = world.aws.client("s3").head_object(Bucket=AUDIT, Key=key)["VersionId"]
    made = [row for row in trail(world) if row["status"] == "success"]
    assert {row["approved_by"] for row in made} == {"carol"}
    assert all(row["message"].endswith(f" version {version}") for row in made)


@pytest.mark.parametrize("mode", ["dry_run", "drift", "apply"])
def test_one_by_somebody_who_asked_for_the_same_plan_after_another(world: World, mode: str) -> None:
    """The first one who asks has the plan stored; the others are noted beside it."""
    digest = world.dry_run(requested_by="terraform")["plan_digest"]
    with contextlib.suppress(ApprovalRequired):
        world.call(mode=mode, requested_by=" Bob")
    world.dry_run(requested_by="alice")
    key = world.approve(digest, "bob")
    assert refusal(world, requested_by="terraform") == ["approval_by_requester"]
    assert reasons(world.call(event_of_approval(key))) == ["approval_by_requester"]
    key = world.approve(digest, "carol")
    assert world.call(event_of_approval(key))["status"] == "applied"


def test_one_by_somebody_who_asked_for_it_of_another_version_of_the_snapshot(world: World) -> None:
    digest = world.dry_run(requested_by="bob")["plan_digest"]
    world.declare(render_tfvars("prod", SHOP | BANK) + "# the same\n")
    assert world.dry_run(requested_by="terraform")["plan_digest"] == digest
    world.approve(digest, "bob")
    assert refusal(world) == ["approval_by_requester"]


def test_who_is_on_call_asks_by_the_snapshot_looks_in_the_name_of_the_rota_and_approves(world: World) -> None:
    """As the runbook has it: a look in one's own name would be asking."""
    event = event_of_approval("prod/terraform.tfvars", SNAPSHOTS)
    del event["detail"]["object"]["version-id"]
    digest = world.call(event)["plan_digest"]
    assert world.dry_run(requested_by="on-call")["plan_digest"] == digest
    assert world.call(event_of_approval(world.approve(digest, "alice")))["status"] == "applied"


def test_one_that_is_too_old(world: World) -> None:
    digest = world.dry_run()["plan_digest"]
    [plan] = world.aws.list_keys(AUDIT, "governance/prod/plans/by-digest/")
    key = world.approve(digest)
    for each in (plan, key):
        world.aws.make_older(AUDIT, each, 23.9)
    world.settings["APPROVAL_HOURS"] = "23"
    assert refusal(world) == ["approval_expired"]
    world.settings["APPROVAL_HOURS"] = "24"
    assert world.apply()["status"] == "applied"


def test_one_of_a_plan_that_was_never_stored(world: World) -> None:
    digest = "sha256:" + "0" * 64
    world.approve(digest)
    assert refusal(world, approval={"plan_digest": digest}) == ["plan_not_stored"]


def test_one_that_is_older_than_the_plan(world: World) -> None:
    key = world.approve(world.dry_run()["plan_digest"])
    world.aws.make_older(AUDIT, key, 1)
    assert refusal(world) == ["approval_before_plan"]


def add_an_effect(plan: dict[str, Any]) -> None:
    plan["units"][0]["effects"].append(["create_role", "", "mallory", "login role", "arn"])


def hide_a_change(plan: dict[str, Any]) -> None:
    plan["changes"].pop()


def show_another_role(plan: dict[str, Any]) -> None:
    plan["changes"][0]["username"] = "somebody"


def show_another_action(plan: dict[str, Any]) -> None:
    plan["changes"][0]["action"] = plan["changes"][0]["identity"][0] = "finish"


def show_a_blocker(plan: dict[str, Any]) -> None:
    plan["blockers"].append({"code": "foreign_role", "message": "blocked", "database": "shop", "username": ""})


def be_of_another_server(plan: dict[str, Any]) -> None:
    plan["holds_for"]["host"] = "elsewhere"


def have_no_units(plan: dict[str, Any]) -> None:
    del plan["units"]


@pytest.mark.parametrize(
    "edit",
    [
        add_an_effect,
        hide_a_change,
        show_another_role,
        show_another_action,
        show_a_blocker,
        be_of_another_server,
        have_no_units,
    ],
)
def test_one_of_a_stored_plan_that_does_not_have_its_digest_or_shows_something_else(
    world: World, edit: Callable[[dict[str, Any]], None]
) -> None:
    digest = world.dry_run()["plan_digest"]
    [key] = world.aws.list_keys(AUDIT, "governance/prod/plans/by-digest/")
    plan = json.loads(world.aws.read_object(AUDIT, key))
    edit(plan)
    world.aws.client("s3").put_object(Bucket=AUDIT, Key=key, Body=json.dumps(plan))
    world.approve(digest)
    assert refusal(world) == ["plan_not_genuine"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"{not json", b"[" * 10000, b'{"units": 7}'])
def test_one_of_a_stored_plan_that_is_none(world: World, body: bytes) -> None:
    digest = world.dry_run()["plan_digest"]
    [key] = world.aws.list_keys(AUDIT, "governance/prod/plans/by-digest/")
    world.aws.client("s3").put_object(Bucket=AUDIT, Key=key, Body=body)
    world.approve(digest)
    assert refusal(world) == ["plan_not_genuine"]


def test_one_of_a_snapshot_that_is_no_longer_the_newest(world: World) -> None:
    digest = world.dry_run()["plan_digest"]
    world.approve(digest)
    world.declare_entries(SHOP)
    assert refusal(world, PlanChanged, approval={"plan_digest": digest}) == ["plan_changed"]


def test_one_of_a_snapshot_that_is_no_longer_the_newest_although_the_plan_is_the_same(world: World) -> None:
    digest = world.dry_run()["plan_digest"]
    key = world.approve(digest)
    world.aws.make_older(AUDIT, key, 0.01)
    [plan] = world.aws.list_keys(AUDIT, "governance/prod/plans/by-digest/")
    world.aws.make_older(AUDIT, plan, 0.01)
    world.declare(render_tfvars("prod", SHOP | BANK) + "# the same\n")
    assert world.dry_run()["plan_digest"] == digest
    assert refusal(world, PlanChanged) == ["plan_changed"]


def test_one_of_an_older_snapshot_does_not_count_by_the_plan_that_the_apply_itself_stores(world: World) -> None:
    """S3 tells the time in seconds: within one, that plan is no younger than the approval."""
    digest = world.dry_run()["plan_digest"]
    for number in range(3):
        key = world.approve(digest)
        world.declare(render_tfvars("prod", SHOP | BANK) + "# the same\n" * (number + 1))
        # Once it is stored, it is one that could be read.
        assert refusal(world, PlanChanged) == ["plan_changed"]
    world.approve(digest)
    assert world.call(event_of_approval(key))["status"] == "applied"


def test_one_for_another_server(world: World, postgres_servers: Callable[[int], Server]) -> None:
    digest = world.dry_run()["plan_digest"]
    world.approve(digest)
    other = postgres_servers(min(version for version in available() if version != world.server.version))
    other.reset()
    world.aws.put_secret("goldenpath/prod/rds/master", other.admin_secret(other.create_delegated_admin()))
    assert refusal(world, PlanChanged, approval={"plan_digest": digest}) == ["plan_changed"]
    assert other.run_as_superuser("SELECT 1 FROM pg_roles WHERE rolname = 'shop_app'") == []


def test_one_for_another_administrator(world: World) -> None:
    digest = world.dry_run()["plan_digest"]
    world.approve(digest)
    world.aws.put_secret("goldenpath/prod/rds/master", world.server.admin_secret(world.server.master))
    assert refusal(world, PlanChanged, approval={"plan_digest": digest}) == ["plan_changed"]


# --- by unit ----------------------------------------------------------------------------------------------------------


def test_a_tenants_noise_keeps_its_own_unit_and_no_other(world: World) -> None:
    world.approve(world.dry_run()["plan_digest"])
    world.apply()
    with contextlib.closing(world.login("bank_app", "bank")) as tenant:
        tenant.run("GRANT CONNECT ON DATABASE bank TO shop_reader")
    more = SHOP | BANK | {"news": {"database_name": "news", "username": "news_app"}}
    world.declare_entries(more)
    digest = world.dry_run()["plan_digest"]
    world.approve(digest)
    with contextlib.closing(world.login("bank_app", "bank")) as tenant:
        tenant.run("CREATE SCHEMA noise")
        tenant.run("GRANT ALL ON SCHEMA noise TO PUBLIC")
        tenant.run("GRANT CREATE ON DATABASE bank TO shop_reader")
    with pytest.raises(PlanChanged) as caught:
        world.apply(approval={"plan_digest": digest})
    assert [(each.code, each.database) for each in caught.value.findings] == [("unit_not_approved", "bank")]
    assert "news" in databases(world)
    rows = [row for row in trail(world) if row["database"] == "bank" and row["status"] == "skipped"]
    assert rows
    assert all("blocked: " in row["message"] for row in rows)
    with pytest.raises(PlanChanged):
        world.apply(approval={"plan_digest": digest})
    world.approve(world.dry_run()["plan_digest"])
    assert world.apply()["status"] == "applied"


@pytest.mark.parametrize("place", ["", " IN SCHEMA public"])
def test_a_readers_noise_in_somebody_elses_database_keeps_its_own_role_and_no_database(
    world: World, place: str
) -> None:
    world.approve(world.dry_run()["plan_digest"])
    world.apply()
    more = SHOP | BANK | {"desk": {"database_name": "shop", "username": "shop_desk", "access_level": "editor"}}
    world.declare_entries(more)
    digest = world.dry_run()["plan_digest"]
    world.approve(digest)
    with contextlib.closing(world.login("shop_reader", "shop")) as tenant:
        tenant.run(f"ALTER DEFAULT PRIVILEGES{place} GRANT INSERT ON TABLES TO PUBLIC")
    if place and world.server.version >= 15:
        # It creates nothing in `public`, so they are without effect.
        assert world.apply(approval={"plan_digest": digest})["status"] == "applied"
        world.login("shop_desk", "shop").close()
        return
    with pytest.raises(PlanChanged) as caught:
        world.apply(approval={"plan_digest": digest})
    assert [(each.code, each.database, each.username) for each in caught.value.findings] == [
        ("unit_not_approved", "", "shop_reader")
    ]
    assert 'public in database "shop": INSERT on future tables of "shop_' in caught.value.findings[0].message
    world.login("shop_desk", "shop").close()
    world.approve(world.dry_run()["plan_digest"])
    assert world.apply()["status"] == "applied"
    assert world.apply()["status"] == "no_change"


@pytest.mark.parametrize(
    "noise",
    ["ALTER ROLE shop_reader PASSWORD 'x'", "ALTER DEFAULT PRIVILEGES GRANT INSERT ON TABLES TO PUBLIC"],
    ids=["its password", "its default privileges"],
)
def test_what_is_taken_from_a_role_does_not_wait_for_what_that_changes_of_its_own(world: World, noise: str) -> None:
    world.approve(world.dry_run()["plan_digest"])
    world.apply()
    with contextlib.closing(world.login("shop_app", "shop")) as owner:
        owner.run("CREATE TABLE items (id int); GRANT INSERT ON items TO shop_reader")
    digest = world.dry_run()["plan_digest"]
    world.approve(digest)
    with contextlib.closing(world.login("shop_reader", "shop")) as tenant:
        tenant.run(noise)
    with pytest.raises(PlanChanged) as caught:
        world.apply(approval={"plan_digest": digest})
    assert [(each.code, each.database, each.username) for each in caught.value.findings] == [
        ("unit_not_approved", "", "shop_reader")
    ]
    may_write = "SELECT has_table_privilege('shop_reader', 'items', 'INSERT')"
    assert world.server.run_as_superuser(may_write, "shop") == [[False]]


def test_a_readers_noise_after_the_plan_keeps_nothing_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from provisioner import pipeline

    world.approve(world.dry_run()["plan_digest"])
    world.apply()
    world.declare_entries(
        SHOP | BANK | {"desk": {"database_name": "shop", "username": "shop_desk", "access_level": "editor"}}
    )
    world.approve(world.dry_run()["plan_digest"])
    apply_script = pipeline.apply_script

    def make_noise_first(*arguments: Any) -> Any:
        with contextlib.closing(world.login("shop_reader", "shop")) as tenant:
            tenant.run("ALTER DEFAULT PRIVILEGES GRANT INSERT ON TABLES TO PUBLIC")
        return apply_script(*arguments)

    monkeypatch.setattr(pipeline, "apply_script", make_noise_first)
    assert world.apply()["status"] == "applied"
    monkeypatch.undo()
    world.login("shop_desk", "shop").close()
    assert [(each["action"], each["username"]) for each in world.drift()["changes"]] == [("revoke_default", "public")]


def test_a_role_whose_secret_is_another_now_is_left_with_all_that_depends_on_it(world: World) -> None:
    digest = world.dry_run()["plan_digest"]
    world.approve(digest)
    world.aws.client("secretsmanager").delete_secret(
        SecretId="goldenpath/prod/bank/postgres", ForceDeleteWithoutRecovery=True
    )
    world.put_secret("bank", "bank_app", "bank")
    with pytest.raises(PlanChanged) as caught:
        world.apply(approval={"plan_digest": digest})
    assert [(each.code, each.username) for each in caught.value.findings] == [("unit_not_approved", "bank_app")]
    assert databases(world) == ["shop"]
    left = [row for row in trail(world) if row["database"] == "bank" and row["status"] == "skipped"]
    assert left
    assert all('role "bank_app" was left as it is' in row["message"] for row in left)


def test_a_reader_that_is_left_gets_no_grants_and_keeps_nobody_back(world: World) -> None:
    digest = world.dry_run()["plan_digest"]
    world.approve(digest)
    world.aws.client("secretsmanager").delete_secret(
        SecretId="goldenpath/prod/reports/postgres", ForceDeleteWithoutRecovery=True
    )
    world.put_secret("reports", "shop_reader", "shop")
    with pytest.raises(PlanChanged):
        world.apply(approval={"plan_digest": digest})
    assert databases(world) == ["bank", "shop"]
    assert world.server.run_as_superuser("SELECT 1 FROM pg_roles WHERE rolname = 'shop_reader'") == []


def test_what_was_blocked_when_it_was_read_is_left_when_it_no_longer_is(world: World) -> None:
    world.server.run_as_superuser("CREATE ROLE bank_app LOGIN SUPERUSER")
    world.server.run_as_superuser(f'GRANT bank_app TO "{world.admin.username}" WITH ADMIN OPTION')
    digest = world.dry_run(adopt=["bank"])["plan_digest"]
    world.approve(digest)
    world.server.run_as_superuser("ALTER ROLE bank_app NOSUPERUSER")
    with pytest.raises(PlanChanged) as caught:
        world.apply(adopt=["bank"], approval={"plan_digest": digest})
    assert [each.username for each in caught.value.findings] == ["bank_app"]
    assert databases(world) == ["shop"]


def test_a_run_that_ended_early_goes_on_under_the_same_approval(world: World) -> None:
    world.declare_entries(
        {f"app{number}": {"database_name": f"db{number}", "username": f"user{number}"} for number in range(4)}
    )
    digest = world.dry_run()["plan_digest"]
    world.approve(digest)
    with pytest.raises(OutOfTime):
        world.apply(approval={"plan_digest": digest}, context=Ending(calls=14))
    assert len(world.server.run_as_superuser("SELECT 1 FROM pg_roles WHERE rolname LIKE 'user_'")) > 0
    assert world.apply(approval={"plan_digest": digest})["status"] == "applied"
    assert databases(world) == ["db0", "db1", "db2", "db3"]


def test_the_rest_of_an_approved_plan_goes_on_without_its_digest_and_what_is_not_in_it_does_not(world: World) -> None:
    """What is left has a digest of its own, which nobody approved."""
    world.declare_entries(
        {f"app{number}": {"database_name": f"db{number}", "username": f"user{number}"} for number in range(4)}
    )
    world.approve(world.dry_run()["plan_digest"])
    with pytest.raises(OutOfTime):
        world.apply(context=Ending(calls=14))
    before = world.passwords["user0"]
    world.put_secret("app0", "user0", "db0")
    assert refusal(world) == ["approval_required"]
    world.put_secret("app0", "user0", "db0", password=before)
    assert world.apply()["status"] == "applied"
    assert databases(world) == ["db0", "db1", "db2", "db3"]


def test_what_an_interrupted_run_made_is_told_with_the_approval_under_which_it_was(world: World) -> None:
    key = world.approve(world.dry_run()["plan_digest"])
    answer = world.apply(run_id="first")
    before = [row for row in trail(world) if row["status"] == "success"]
    plan, run = (answer["audit"][name].removeprefix(f"s3://{AUDIT}/") for name in ("plan", "run"))
    record = {"run_token": "tok", "plan": plan, "run": f"{run}.gone.csv"}
    world.aws.put_snapshot(AUDIT, "governance/prod/open_run.json", json.dumps(record))
    world.apply(run_id="second")
    told = [row for row in trail(world) if row["status"] == "success"][len(before) :]
    assert sorted(row["action"] for row in told) == sorted(row["action"] for row in before)
    assert {row["approved_by"] for row in told} == {"bob"}
    assert all(f"; approved as s3://{AUDIT}/{key} version " in row["message"] for row in told)


class Ending:
    """A clock that has time for so many looks at it."""

    aws_request_id = "ending"

    def __init__(self, calls: int) -> None:
        self.calls = calls

    def get_remaining_time_in_millis(self) -> int:
        self.calls -= 1
        return 900_000 if self.calls > 0 else 1_000


# --- events -----------------------------------------------------------------------------------------------------------


def test_putting_an_approval_is_enough(world: World) -> None:
    key = world.approve(world.dry_run(requested_by="alice")["plan_digest"])
    answer = world.call(event_of_approval(key))
    assert answer["status"] == "applied"
    assert {(row["requested_by"], row["approved_by"]) for row in trail(world) if row["status"] == "success"} == {
        ("eventbridge", "bob")
    }
    assert world.call(event_of_approval(key))["status"] == "no_change"


def test_an_approval_applies_what_was_adopted_when_it_was_planned(world: World) -> None:
    world.server.run_as_superuser("CREATE ROLE bank_app LOGIN")
    world.server.run_as_superuser(f'GRANT bank_app TO "{world.admin.username}" WITH ADMIN OPTION')
    key = world.approve(world.dry_run(adopt=["bank"])["plan_digest"])
    assert world.call(event_of_approval(key))["status"] == "applied"
    assert databases(world) == ["bank", "shop"]


@pytest.fixture
def leaving(world: World) -> World:
    """A role that has been quarantined long enough, with a database of its own and a grant in another."""
    world.call(event_of_approval(world.approve(world.dry_run()["plan_digest"])))
    with contextlib.closing(world.login("shop_app", "shop")) as tenant:
        tenant.run("CREATE SCHEMA shared; GRANT USAGE ON SCHEMA shared TO bank_app")
    world.declare_entries(SHOP)
    world.call(event_of_approval(world.approve(world.dry_run(quarantine=["bank_app"])["plan_digest"])))
    sql = "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = 'bank_app'"
    marker = json.loads(world.server.run_as_superuser(sql)[0][0]) | {"quarantined": "2020-02-29T23:59:59Z"}
    world.server.run_as_superuser(f"COMMENT ON ROLE bank_app IS '{json.dumps(marker)}'")
    return world


def test_an_approval_retires_a_role_and_comes_twice(leaving: World) -> None:
    key = leaving.approve(leaving.dry_run(retire=["bank_app"])["plan_digest"])
    assert leaving.call(event_of_approval(key))["status"] == "applied"
    assert leaving.call(event_of_approval(key))["status"] == "no_change"


def test_a_role_whose_retirement_is_approved_in_part_by_now_stays_as_it_is(leaving: World) -> None:
    digest = leaving.dry_run(retire=["bank_app"])["plan_digest"]
    leaving.approve(digest)
    with contextlib.closing(leaving.login("shop_app", "shop")) as tenant:
        tenant.run("GRANT CREATE ON SCHEMA shared TO PUBLIC")
    owners = "SELECT datname, pg_get_userbyid(datdba) FROM pg_database WHERE datname IN ('bank', 'shop') ORDER BY 1"
    with pytest.raises(PlanChanged) as caught:
        leaving.apply(retire=["bank_app"], approval={"plan_digest": digest})
    assert {each.code for each in caught.value.findings} == {"unit_not_approved", "retire_blocked"}
    assert leaving.server.run_as_superuser(owners) == [["bank", "bank_app"], ["shop", "shop_app"]]
    leaving.call(event_of_approval(leaving.approve(leaving.dry_run(retire=["bank_app"])["plan_digest"])))
    assert leaving.server.run_as_superuser("SELECT 1 FROM pg_roles WHERE rolname = 'bank_app'") == []


def test_an_event_whose_approval_does_not_count_is_answered_with_the_reason(world: World) -> None:
    digest = world.dry_run(requested_by="bob")["plan_digest"]
    answer = world.call(event_of_approval(world.approve(digest)))
    assert answer["status"] == "approval_required"
    assert reasons(answer) == ["approval_by_requester"]
    assert databases(world) == []
    key = world.approve(digest, "carol")
    world.declare_entries(SHOP)
    answer = world.call(event_of_approval(key))
    assert (answer["status"], reasons(answer)) == ("approval_required", ["plan_changed"])


@pytest.mark.parametrize(
    ("bucket", "key"),
    [
        (AUDIT, "governance/prod/approvals/abc.json"),
        (AUDIT, "governance/dev/approvals/" + "0" * 64 + ".json"),
        (AUDIT, "other/prod/approvals/" + "0" * 64 + ".json"),
        (AUDIT, "governance/prod/approvals/x/" + "0" * 64 + ".json"),
        (AUDIT, "governance/prod/approvals/" + "A" * 64 + ".json"),
        (AUDIT, "governance/prod/approvals/" + "0" * 64 + ".json\n"),
        (AUDIT, "governance/prod/plans/asked-by/" + "0" * 64 + "/" + "0" * 64 + ".json"),
        (SNAPSHOTS, "governance/prod/approvals/" + "0" * 64 + ".json"),
        ("elsewhere", "governance/prod/approvals/" + "0" * 64 + ".json"),
    ],
)
def test_an_event_of_anything_else_is_refused(world: World, bucket: str, key: str) -> None:
    with pytest.raises(InvalidRequest):
        world.call(event_of_approval(key, bucket))


def test_an_approval_opens_nothing_where_approvals_are_not_objects(pg_server: Server, aws: Aws) -> None:
    with World(pg_server, aws, pg_server.create_delegated_admin(), "staging") as world:
        world.declare_entries(SHOP)
        key = world.approve(world.dry_run()["plan_digest"])
        with pytest.raises(InvalidRequest, match="REQUIRE_PLAN_DIGEST"):
            world.call(event_of_approval(key))
        with pytest.raises(ApprovalRequired):
            world.apply()
        assert databases(world) == []


def test_a_new_snapshot_plans_and_is_applied_once_its_plan_is_approved(world: World) -> None:
    event = event_of_approval("prod/terraform.tfvars", SNAPSHOTS)
    del event["detail"]["object"]["version-id"]
    answer = world.call(event)
    assert (answer["status"], databases(world)) == ("approval_required", [])
    assert world.call(event_of_approval(world.approve(answer["plan_digest"])))["status"] == "applied"
