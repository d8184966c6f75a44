"""What `sam deploy` sends to CloudFormation for each environment of samconfig.toml, taken off the wire: the parameters
as SAM reads them out of the file, and the template as it packs it. CloudFormation here takes the request, and refuses.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from e2e.deploy.sending import ARTIFACTS, send
from integration.infra.deployed_template import broken_rules, deploy
from provisioner.settings import read_settings
from stack.aws import Aws
from stack.binaries import ROOT

CONFIGURED = tomllib.loads((ROOT / "samconfig.toml").read_text())
ENVIRONMENTS = [name for name, each in CONFIGURED.items() if isinstance(each, dict) and "deploy" in each]
# What EventBridge Scheduler takes: a rate in whole units, or six fields.
SCHEDULE = re.compile(r"rate\((1 (minute|hour|day)|([2-9]|\d{2,}) (minutes|hours|days))\)|cron\((\S+ ){5}\S+\)")


def problem(parameter: dict[str, Any], value: str) -> str:
    """Why CloudFormation would refuse a value; nothing where it would not."""
    kind = parameter["Type"]
    values = value.split(",") if kind == "CommaDelimitedList" else [value]
    if "AllowedValues" in parameter and value not in map(str, parameter["AllowedValues"]):
        return "is none of the allowed values"
    if not all(re.fullmatch(parameter.get("AllowedPattern", "(?s).*"), each) for each in values):
        return f"does not match {parameter['AllowedPattern']}"
    if kind == "Number" and not value.isdigit():
        return "is no number"
    identifiers = {"Subnet": r"subnet-[0-9a-f]{17}", "SecurityGroup": r"sg-[0-9a-f]{17}", "VPC": r"vpc-[0-9a-f]{17}"}
    wanted = next((shape for name, shape in identifiers.items() if f"::{name}::Id" in kind), None)
    if wanted and not all(re.fullmatch(wanted, each) for each in value.split(",")):
        return f"is no {kind}"
    return ""


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_what_is_sent_for_an_environment_is_what_cloudformation_and_the_function_take(
    environment: str, built: Path, aws: Aws, cloudformation: str
) -> None:
    parameters, template = send(environment, built, aws, cloudformation)
    declared = template["Parameters"]
    assert set(parameters) <= set(declared)
    assert {name for name, each in declared.items() if "Default" not in each} <= set(parameters)
    whole = {name: parameters.get(name, str(each.get("Default", ""))) for name, each in declared.items()}
    problems = {name: problem(each, whole[name]) for name, each in declared.items()}
    assert {name: text for name, text in problems.items() if text} == {}
    assert not [name for name in whole if name.endswith("Schedule") and not SCHEDULE.fullmatch(whole[name])]
    assert broken_rules(**parameters) == []
    settings = read_settings(deploy(**parameters).function_environment())
    assert settings.environment == parameters["Environment"] == environment

    resources = template["Resources"]
    assert str(resources["ProvisionerFunction"]["Properties"]["CodeUri"]).startswith(f"s3://{ARTIFACTS}/")
    assert resources["FleetStateMachine"]["Properties"]["DefinitionUri"]["Bucket"] == ARTIFACTS


def test_a_value_that_the_shell_or_sam_would_cut_is_noticed() -> None:
    pattern = {"Type": "String", "AllowedPattern": r"^(rate|cron)\(.+\)$"}
    assert problem(pattern, "rate(12")
    assert not SCHEDULE.fullmatch("rate(12 hour)")
    assert SCHEDULE.fullmatch("cron(0 2 * * ? *)")
