"""The function's time is up: what Lambda cuts off is settled, and a silent server is not waited for that long."""

import threading
from collections.abc import Iterator

import pytest

from stack.aws import Aws
from stack.held import wait_until
from stack.postgres import Server
from stack.proxy import Proxy
from stack.runtime import SOURCE, Invocation, LambdaRuntime
from stack.world import AUDIT, World

SHOP = {"shop": {"database_name": "shop", "username": "shop_user"}}
TIMEOUT_SECONDS = 8


@pytest.fixture
def world(latest_server: Server, aws: Aws) -> Iterator[World]:
    with World(latest_server, aws, latest_server.create_delegated_admin()) as made:
        made.declare_entries(SHOP)
        yield made


def runtime(world: World) -> LambdaRuntime:
    environment = world.aws.environment() | world.settings | {"POWERTOOLS_METRICS_NAMESPACE": "RdsProvisioner"}
    return LambdaRuntime(SOURCE, environment, timeout_seconds=TIMEOUT_SECONDS)


def test_cut_off_by_lambda_after_the_changes_the_next_run_writes_the_rows(world: World) -> None:
    world.aws.fail("PutObject", kind="timeout", matching="/audit/governance/dev/runs/")
    with runtime(world) as function:
        cut_off = function.invoke({"environment": "dev", "run_id": "cut-off", "requested_by": "terraform"})
        assert cut_off.payload["errorType"] == "Sandbox.Timedout"
        world.aws.heal()
        following = function.invoke({"environment": "dev", "run_id": "next"})
    assert following.payload.get("status") == "no_change"
    rows = world.aws.read_object(AUDIT, "governance/dev/rds_provision_audit.csv").decode().splitlines()
    created = [row for row in rows if ",cut-off,shop,shop_user,create_database,success," in row]
    assert len(created) == 1
    assert 'which was cut off, and found to stand",terraform,' in created[0]


def test_a_silent_server_is_given_up_before_lambda_gives_up_the_function(world: World) -> None:
    with Proxy(world.server.port) as proxy, runtime(world) as function:
        world.aws.put_secret("goldenpath/dev/rds/master", world.server.admin_secret(world.admin) | {"port": proxy.port})
        world.aws.fail("PutObject", kind="timeout", matching="/plans/")
        answers: list[Invocation] = []
        call = threading.Thread(target=lambda: answers.append(function.invoke({"environment": "dev"})))
        call.start()
        wait_until(lambda: any(each.operation == "PutObject" for each in world.aws.calls()))
        proxy.stall()
        world.aws.heal()
        call.join(30)
        proxy.resume()
    assert answers[0].payload["errorType"] == "OutOfTime"
    assert "the function's time was nearly up" in answers[0].payload["errorMessage"]
    assert b",refuse,error," in world.aws.read_object(AUDIT, "governance/dev/rds_provision_audit.csv")
