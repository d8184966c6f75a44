"""What runs answer and store is what the schemas say."""

import json

import jsonschema
import pytest

from provisioner.core.errors import PlanBlocked
from stack.aws import Aws
from stack.binaries import ROOT
from stack.postgres import Server
from stack.world import AUDIT, World

ENTRIES = {
    "keycloak": {"database_name": "keycloak", "username": "keycloak_user"},
    "reader": {"database_name": "keycloak", "username": "reader", "access_level": "reader"},
}


def validate(name: str, document: object) -> None:
    jsonschema.validate(document, json.loads((ROOT / f"docs/schemas/{name}.schema.json").read_text()))


@pytest.fixture
def world(latest_server: Server, aws: Aws) -> World:
    return World(latest_server, aws, latest_server.create_delegated_admin()).__enter__()


def test_every_answer_and_every_stored_plan_is_what_its_schema_says(world: World) -> None:
    world.server.run_as_superuser("CREATE ROLE foreign_role")
    entries = {**ENTRIES, "foreign": {"database_name": "other", "username": "foreign_role"}}
    world.declare_entries(entries)
    answers = [world.dry_run(build_id="b", requested_by="alice")]
    assert answers[0]["blockers"]
    with pytest.raises(PlanBlocked):
        world.apply()
    world.declare_entries(ENTRIES)
    world.server.run_as_superuser("GRANT CONNECT ON DATABASE keycloak TO PUBLIC")
    answers += [world.drift(), world.apply(), world.drift(), world.apply()]
    assert [answer["status"] for answer in answers] == ["planned", "drifted", "applied", "in_sync", "no_change"]
    for answer in answers:
        validate("answer", answer)
    plans = [key for key in world.aws.list_keys(AUDIT) if key.endswith(".json") and "/plans/" in key]
    assert len(plans) >= 4
    for key in plans:
        validate("plan", json.loads(world.aws.read_object(AUDIT, key)))
