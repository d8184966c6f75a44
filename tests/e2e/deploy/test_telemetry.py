"""What the function writes, read as CloudWatch would: metrics, against alarms and dashboard, and lines of the log."""

import json
import re
from typing import Any

from e2e.deploy.deployment import KEYCLOAK, Deployment
from stack.runtime import Invocation

WORDS = {"snapshot", "plan", "outcome", "answer", "failed"}


def json_lines(invocation: Invocation) -> list[dict[str, Any]]:
    return [json.loads(line) for line in invocation.logs.splitlines() if line.startswith("{")]


def metrics_of(invocation: Invocation) -> dict[tuple[str, str, frozenset[tuple[str, str]]], float]:
    """The metrics of a call as CloudWatch takes them out of its log: namespace, name and dimensions, with the value."""
    found = {}
    for line in json_lines(invocation):
        for directive in line.get("_aws", {}).get("CloudWatchMetrics", []):
            for names in directive["Dimensions"]:
                dimensions = frozenset((name, line[name]) for name in names)
                for metric in directive["Metrics"]:
                    [value] = line[metric["Name"]]
                    found[(directive["Namespace"], metric["Name"], dimensions)] = value
    return found


def values(invocation: Invocation) -> dict[str, float]:
    return {name: value for (_, name, _), value in metrics_of(invocation).items()}


def invoke(deployment: Deployment, mode: str) -> Invocation:
    return deployment.runtime.invoke({"environment": deployment.environment, "mode": mode})


def watched(deployment: Deployment) -> set[tuple[str, str, frozenset[tuple[str, str]]]]:
    """Our metrics that alarms look at."""
    alarms = list(deployment.template.of_type("AWS::CloudWatch::Alarm").values())
    parts = [part for alarm in alarms for part in alarm.get("Metrics", [])]
    metrics = [alarm for alarm in alarms if "MetricName" in alarm]
    metrics += [part["MetricStat"]["Metric"] for part in parts if "MetricStat" in part]
    return {
        (each["Namespace"], each["MetricName"], frozenset((name["Name"], name["Value"]) for name in each["Dimensions"]))
        for each in metrics
        if each["Namespace"] == "RdsProvisioner"
    }


def test_every_alarm_watches_a_metric_that_the_function_writes(dev: Deployment) -> None:
    dev.put_snapshot(dev.declare(keycloak=KEYCLOAK))
    written = set(metrics_of(invoke(dev, "drift")))
    assert {name for _, name, _ in watched(dev)} == {"Failures", "Drift", "Locked", "Runs", "DurationMs"}
    assert watched(dev) <= written


def test_the_dashboard_shows_metrics_that_the_function_writes(dev: Deployment) -> None:
    dev.put_snapshot(dev.declare(keycloak=KEYCLOAK))
    written = {name for _, name, _ in metrics_of(invoke(dev, "drift"))}
    [dashboard] = dev.template.of_type("AWS::CloudWatch::Dashboard").values()
    body = dashboard["DashboardBody"]
    shown = set(re.findall(r'MetricName=\\"(\w+)\\"', body)) | set(re.findall(r'"RdsProvisioner", "(\w+)"', body))
    assert shown == written


def test_the_table_of_the_dashboard_finds_the_answers_that_changed_something(dev: Deployment) -> None:
    dev.put_snapshot(dev.declare(keycloak=KEYCLOAK))
    [answer] = [line for line in json_lines(invoke(dev, "apply")) if line.get("message") == "answer"]
    [dashboard] = dev.template.of_type("AWS::CloudWatch::Dashboard").values()
    widgets = json.loads(dashboard["DashboardBody"])["widgets"]
    [query] = [widget["properties"]["query"] for widget in widgets if widget["type"] == "log"]
    for path in set(re.findall(r"answer\.[a-z_.]+", query)):
        value: Any = answer
        for name in path.split("."):
            value = value[name]
    assert 'filter message = "answer" and answer.status = "applied"' in query.replace("'", '"')


def test_changes_are_counted_when_they_are_made_and_drift_when_it_is_found(dev: Deployment) -> None:
    dev.put_snapshot(dev.declare(keycloak=KEYCLOAK))
    drifted, applied, in_sync = (values(invoke(dev, mode)) for mode in ("drift", "apply", "drift"))
    assert drifted["Drift"] > 0
    assert applied["Changes"] == drifted["Drift"]
    assert in_sync["Drift"] == 0
    assert in_sync["Runs"] == 1


def test_a_failure_is_counted(dev: Deployment) -> None:
    failed = invoke(dev, "apply")
    assert failed.payload["errorType"] == "InvalidSnapshot"
    assert values(failed)["Errors"] == 1


def test_a_refusal_is_no_failure_and_a_server_that_is_away_is_one(dev: Deployment) -> None:
    refused = invoke(dev, "apply")
    assert refused.payload["errorType"] == "InvalidSnapshot"
    assert values(refused)["Failures"] == 0
    dev.put_snapshot(dev.declare(keycloak=KEYCLOAK))
    dev.aws.put_secret(
        "goldenpath/dev/rds/master", {"username": "a", "password": "b", "host": "127.0.0.1", "port": 1, "dbname": "c"}
    )
    failed = invoke(dev, "apply")
    assert failed.payload["errorType"] == "DatabaseUnavailable"
    assert (values(failed)["Errors"], values(failed)["Failures"]) == (1, 1)


def test_every_line_names_its_call_and_its_environment_with_few_words(dev: Deployment) -> None:
    dev.put_snapshot(dev.declare(keycloak=KEYCLOAK))
    lines = [line for line in json_lines(invoke(dev, "apply")) if "_aws" not in line]
    assert len({line["function_request_id"] for line in lines}) == 1
    assert {line["environment"] for line in lines} == {"dev"}
    assert {line["message"] for line in lines} <= WORDS


def test_a_run_that_did_not_look_says_nothing_of_drift(dev: Deployment) -> None:
    failed = values(invoke(dev, "apply"))
    dev.put_snapshot(dev.declare(keycloak=KEYCLOAK))
    planned = values(invoke(dev, "dry_run"))
    assert "Drift" not in failed
    assert "Drift" not in planned
