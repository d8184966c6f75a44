"""The template as CloudFormation would have it: translated by SAM, its functions resolved for given parameters.

The translator lives in the environment of the SAM command line, so it runs as a child.
"""

import functools
import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from stack.aws import ACCOUNT, REGION

REPOSITORY = Path(__file__).resolve().parents[3]


PARAMETERS: dict[str, Any] = {
    "Environment": "dev",
    "VpcId": "vpc-00000000000000000",
    "SubnetIds": ["subnet-00000000000000000"],
    "SecurityGroupIds": ["sg-00000000000000000"],
    "SnapshotBucketName": "acme-tfvars",
    "AuditBucketName": "acme-governance",
}

PSEUDO_PARAMETERS = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Region": REGION,
    "AWS::Partition": "aws",
    "AWS::StackName": "rds-provisioner-dev",
    "AWS::StackId": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/rds-provisioner-dev/1",
}

_TRANSLATE = """
import json, sys
from samtranslator.parser.parser import Parser
from samtranslator.translator.managed_policy_translator import ManagedPolicyLoader
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse
class NoPolicies:
    def load(self): return {}
template = yaml_parse(open(sys.argv[1]).read())
for resource in template["Resources"].values():
    # A translation stands between packaging and deploying: what is packed lies in a bucket, but it is not read.
    for name in ("CodeUri", "DefinitionUri"):
        if name in resource.get("Properties", {}):
            resource["Properties"][name] = "s3://artifacts/" + name
print(json.dumps(transform(template, {}, NoPolicies())))
"""
_NOTHING = object()


@functools.cache
def translated_template(name: str = "template.yaml") -> dict[str, Any]:
    """A template after the SAM transform, its CloudFormation functions still in it."""
    python = Path(os.environ.get("SAM", str(REPOSITORY / ".venv-sam/bin/sam"))).parent / "python"
    command = [str(python), "-c", _TRANSLATE, str(REPOSITORY / name)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    assert answer.returncode == 0, f"the template does not translate; is SAM installed? {answer.stderr}"
    return dict(json.loads(answer.stdout))


def _environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "AWS_DEFAULT_REGION": REGION}


@dataclass(frozen=True)
class Stack:
    """The resources and outputs of one deployment: conditions decided, functions resolved."""

    resources: dict[str, dict[str, Any]]
    outputs: dict[str, Any]
    parameters: dict[str, Any]

    def properties(self, name: str) -> dict[str, Any]:
        return dict(self.resources[name]["Properties"])

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """The properties of each resource of a type, by logical id."""
        return {name: each["Properties"] for name, each in self.resources.items() if each["Type"] == kind}

    def function_environment(self) -> dict[str, str]:
        variables = self.properties("ProvisionerFunction")["Environment"]["Variables"]
        return {name: str(value) for name, value in variables.items()}

    def statements(self, role: str = "ProvisionerRole") -> list[dict[str, Any]]:
        """Every statement of a role's own policies."""
        policies = [policy["PolicyDocument"] for policy in self.properties(role)["Policies"]]
        return [statement for policy in policies for statement in policy["Statement"]]


def deploy(**parameters: Any) -> Stack:
    """The stack that these parameters make; what is not given has its default, or the example's value."""
    return _stack(translated_template(), {**PARAMETERS, **parameters})


def deploy_storage(**parameters: Any) -> Stack:
    """The stack of the buckets, from infra/storage.yaml."""
    return _stack(translated_template("infra/storage.yaml"), parameters)


def broken_rules(**parameters: Any) -> list[str]:
    """The assertions of the template's rules that refuse these parameters."""
    template = translated_template()
    resolver = _Resolver(template, _values(template, {**PARAMETERS, **parameters}))
    return [
        assertion["AssertDescription"]
        for rule in template["Rules"].values()
        if resolver.resolve(rule.get("RuleCondition", True))
        for assertion in rule["Assertions"]
        if not resolver.resolve(assertion["Assert"])
    ]


def _stack(template: dict[str, Any], given: dict[str, Any]) -> Stack:
    values = _values(template, given)
    resolver = _Resolver(template, values)
    return Stack(resolver.kept("Resources"), resolver.kept("Outputs"), values)


def _values(template: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    values = {**{name: each.get("Default") for name, each in template["Parameters"].items()}, **given}
    for name, each in template["Parameters"].items():
        is_list = each["Type"] == "CommaDelimitedList" or each["Type"].startswith("List<")
        if is_list and isinstance(values[name], str):
            values[name] = values[name].split(",")
    return values


def is_allowed(statements: list[dict[str, Any]], action: str, resource: str) -> bool:
    """Whether IAM would let a call through: some statement allows it, none denies it. Conditions count as met in an
    Allow and as not met in a Deny: these policies' denials are all for other callers.
    """
    fitting = [each for each in statements if _fits(each, action, resource)]
    denied = any(each["Effect"] == "Deny" and "Condition" not in each for each in fitting)
    return not denied and any(each["Effect"] == "Allow" for each in fitting)


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _fits(statement: dict[str, Any], action: str, resource: str) -> bool:
    acts = any(fnmatchcase(action, pattern) for pattern in as_list(statement["Action"]))
    return acts and any(fnmatchcase(resource, pattern) for pattern in as_list(statement["Resource"]))


class _Resolver:
    """Decides conditions and replaces functions by their values."""

    def __init__(self, template: dict[str, Any], parameters: dict[str, Any]) -> None:
        self._template = template
        self._parameters = parameters

    def kept(self, section: str) -> dict[str, Any]:
        """A section without what its conditions leave out."""
        parts = self._template[section]
        return {
            name: self.resolve(each)
            for name, each in parts.items()
            if "Condition" not in each or self._holds(each["Condition"])
        }

    def _holds(self, name: str) -> bool:
        return bool(self.resolve(self._template["Conditions"][name]))

    def resolve(self, value: Any) -> Any:
        """A value of the template, its functions replaced by what they come to."""
        if isinstance(value, list):
            return [each for each in map(self.resolve, value) if each is not _NOTHING]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            [(name, argument)] = value.items()
            if name == "Condition" and isinstance(argument, str):
                return self._holds(argument)
            if name == "Ref" or name.startswith("Fn::"):
                return self._call(name.removeprefix("Fn::"), argument)
        resolved = {name: self.resolve(each) for name, each in value.items()}
        return {name: each for name, each in resolved.items() if each is not _NOTHING}

    def _call(self, function: str, argument: Any) -> Any:
        if function == "If":
            condition, then, otherwise = argument
            return self.resolve(then if self._holds(condition) else otherwise)
        if function == "GetAtt":
            return self._attribute(*(argument if isinstance(argument, list) else argument.split(".", 1)))
        if function == "Ref":
            return self._reference(argument)
        if function == "Sub":
            return self._substitute(argument)
        values = self.resolve(argument)
        simple: dict[str, Callable[[], Any]] = {
            "Equals": lambda: values[0] == values[1],
            "Not": lambda: not values[0],
            "And": lambda: all(values),
            "Or": lambda: any(values),
            "Join": lambda: values[0].join(values[1]),
            "Select": lambda: values[1][int(values[0])],
            "Split": lambda: values[1].split(values[0]),
            "Contains": lambda: values[1] in values[0],
        }
        return simple[function]()

    def _reference(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NOTHING
        if name in PSEUDO_PARAMETERS:
            return PSEUDO_PARAMETERS[name]
        if name in self._parameters:
            return self._parameters[name]
        properties = self._template["Resources"][name].get("Properties", {})
        named = {"AWS::Lambda::Function": "FunctionName", "AWS::Logs::LogGroup": "LogGroupName"}
        named |= {"AWS::S3::Bucket": "BucketName"}
        if self._template["Resources"][name]["Type"] == "AWS::Lambda::Alias":
            return f"{self._attribute(properties['FunctionName']['Ref'], 'Arn')}:{properties['Name']}"
        kind = self._template["Resources"][name]["Type"]
        return self.resolve(properties[named[kind]]) if kind in named else self._attribute(name, "Arn")

    def _attribute(self, name: str, attribute: str) -> str:
        """A made-up value; an ARN of the right shape, because policies compare them."""
        resource = self._template["Resources"][name]
        properties = resource.get("Properties", {})
        if attribute == "QueueName":
            return str(self.resolve(properties["QueueName"]))
        service, _, kind = resource["Type"].removeprefix("AWS::").lower().partition("::")
        shapes = {
            "lambda": ("function:", "FunctionName"),
            "sns": ("", "TopicName"),
            "sqs": ("", "QueueName"),
            "logs": ("log-group:", "LogGroupName"),
            "states": ("stateMachine:", "StateMachineName"),
            "cloudwatch": ("alarm:", "AlarmName"),
        }
        if service == "s3":
            return f"arn:aws:s3:::{self.resolve(properties['BucketName'])}"
        prefix, named = shapes.get(service, (f"{kind}/", ""))
        ending = ":*" if service == "logs" else ""
        own = self.resolve(properties[named]) if named in properties else name
        return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{prefix}{own}{ending}"

    def _substitute(self, argument: Any) -> str:
        text, local = argument if isinstance(argument, list) else (argument, {})
        local = {name: self.resolve(each) for name, each in local.items()}

        def fill(match: re.Match[str]) -> str:
            name = match[1]
            if name in local:
                return str(local[name])
            is_attribute = "." in name and name.split(".")[0] in self._template["Resources"]
            return str(self._call("GetAtt", name) if is_attribute else self._reference(name))

        return re.sub(r"\$\{([^}!]+)\}", fill, text)
