"""What the function really calls, against what its role permits: nothing is missing, nothing is there for nothing."""

from collections.abc import Iterator

from e2e.deploy.conftest import Deploy
from e2e.deploy.deployment import AUDIT, BACKSTAGE, KEYCLOAK, READER, SNAPSHOTS, Deployment
from integration.infra.deployed_template import as_list, is_allowed
from stack.aws import ACCOUNT, REGION, Call

# What the role permits and no call of the function shows: the Lambda service does it in the function's name, or it
# only decides which error S3 answers with.
NOT_CALLED = {"WriteItsOwnLog", "AttachToTheVpc", "KeepWhatFailed", "TellMissingFromForbidden"}

# Calls about a bucket and not about an object; IAM has names of its own for some.
BUCKET_ACTIONS = {
    "HeadBucket": "s3:ListBucket",
    "GetBucketVersioning": "s3:GetBucketVersioning",
    "GetBucketNotification": "s3:GetBucketNotification",
    "GetObjectLockConfiguration": "s3:GetBucketObjectLockConfiguration",
}


def permissions(call: Call) -> Iterator[tuple[str, str]]:
    """What IAM asks for when a call is made, as action and resource."""
    parameters = call.parameters
    if call.operation in BUCKET_ACTIONS:
        yield BUCKET_ACTIONS[call.operation], f"arn:aws:s3:::{parameters['Bucket']}"
    elif call.service == "s3":
        yield from object_permissions(call)
    elif call.operation == "BatchGetSecretValue":
        yield "secretsmanager:BatchGetSecretValue", "*"
        for secret in parameters["SecretIdList"]:
            yield "secretsmanager:GetSecretValue", secret_arn(secret)
    elif call.service == "secretsmanager":
        yield f"secretsmanager:{call.operation}", secret_arn(parameters["SecretId"])
    else:
        yield f"{call.service}:{call.operation}", parameters["TopicArn"]


def object_permissions(call: Call) -> Iterator[tuple[str, str]]:
    if call.operation == "ListObjectsV2":
        yield "s3:ListBucket", f"arn:aws:s3:::{call.parameters['Bucket']}"
        return
    resource = f"arn:aws:s3:::{call.parameters['Bucket']}/{call.parameters['Key']}"
    if call.operation == "CopyObject":
        # Source and target lie in the same folder here.
        yield "s3:GetObject", resource
        yield "s3:PutObject", resource
        return
    # To look at an object is to read it, and a version has a permission of its own.
    action = "GetObject" if call.operation in ("GetObject", "HeadObject") else call.operation
    yield f"s3:{action}Version" if "versionId" in call.parameters else f"s3:{action}", resource


def secret_arn(name: str) -> str:
    return f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}-AbCdEf"


def do_everything(deployment: Deployment) -> list[Call]:
    """An event that plans and notifies, an approved apply, a rotation under way, preflight, a snapshot gone."""
    with deployment.rule() as bridge:
        version = deployment.put_snapshot(deployment.declare(keycloak=KEYCLOAK, reader=READER, backstage=BACKSTAGE))
        bridge.wait_for(1)
    digest = deployment.runtime.asynchronous[0].payload["plan_digest"]
    deployment.approve(digest)
    deployment.invoke("apply")
    deployment.passwords.clear()
    deployment.put_secret("keycloak", "keycloak_user", "keycloak")
    deployment.invoke("drift")
    deployment.invoke("preflight")
    deployment.aws.client("s3").delete_object(Bucket=SNAPSHOTS, Key=deployment.snapshot_key)
    deployment.runtime.invoke({"environment": deployment.environment, "tfvars": {"version_id": version}})
    # A secret that is missing is asked for once more, alone.
    deployment.put_snapshot(deployment.declare(keycloak=KEYCLOAK))
    deployment.aws.client("secretsmanager").delete_secret(SecretId=f"goldenpath/{deployment.environment}/rds/master")
    deployment.runtime.invoke({"environment": deployment.environment})
    return deployment.aws.calls()


def test_every_call_of_the_function_is_permitted_and_every_permission_is_used(staging: Deployment) -> None:
    statements = staging.template.statements()
    needed = {permission for call in do_everything(staging) for permission in permissions(call)}
    refused = {permission for permission in needed if not is_allowed(statements, *permission)}
    assert refused == set()

    used = {action for action, _ in needed}
    unused = {
        (statement["Sid"], action)
        for statement in statements
        if statement["Effect"] == "Allow" and statement["Sid"] not in NOT_CALLED
        for action in as_list(statement["Action"])
        if action not in used
    }
    assert unused == set()


def test_the_function_touches_no_bucket_but_its_two(staging: Deployment) -> None:
    buckets = {call.parameters["Bucket"] for call in do_everything(staging) if call.service == "s3"}
    assert buckets == {SNAPSHOTS, AUDIT}


def test_every_call_to_a_bucket_names_the_account_that_it_must_belong_to(deploy_environment: Deploy) -> None:
    dev = deploy_environment("staging", Gate="digest", AuditBucketOwner="210987654321")
    owners = {
        (call.parameters["Bucket"], call.parameters.get("ExpectedBucketOwner"))
        for call in do_everything(dev)
        if call.service == "s3"
    }
    assert owners == {(SNAPSHOTS, ACCOUNT), (AUDIT, "210987654321")}
