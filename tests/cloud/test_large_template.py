"""A stack whose template is too large for a request: deployed through the bucket that `cdk bootstrap` makes."""

from __future__ import annotations

import pytest

from chroma_stack.user_data import USER_DATA_LIMIT
from tests.cloud.cdk import Cdk, CdkError, Context
from tests.cloud.moto_server import MotoServer
from tests.unit.synthesis import TEMPLATE_LIMIT
from tests.unit.test_template import EVERYTHING

STACK = "Everything"


@pytest.fixture(scope="module")
def cdk(cdk_program: None, aws: MotoServer, tmp_path_factory: pytest.TempPathFactory) -> Cdk:
    """The CDK command line, which calls S3 by address: a bucket's name would be put before a host name."""
    s3 = {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{aws.port}"}
    return Cdk(tmp_path_factory.mktemp("cdk"), aws.environment | s3)


@pytest.fixture(scope="module")
def context(aws: MotoServer) -> Context:
    """Every setting, and more origins than a request has room for."""
    ec2 = aws.client("ec2")
    volume = ec2.create_volume(Size=30, AvailabilityZone="us-east-1a", Encrypted=True)["VolumeId"]
    return {
        **EVERYTHING,
        "stackName": STACK,
        "snapshotId": ec2.create_snapshot(VolumeId=volume)["SnapshotId"],
        "imageId": "ami-0123456789abcdef0",
        "rootVolumeSize": 100,
        "containerCidr": "10.200.0.0/24",
        "otelCollectionEndpoint": "api.honeycomb.com",
        "otelCollectionHeaders": "x-honeycomb-team=abc",
        "corsAllowOrigins": ",".join(f"https://app{number}.example.com" for number in range(200)),
    }


@pytest.fixture(scope="module")
def refusal(aws: MotoServer, cdk: Cdk, context: Context) -> str:
    """What the command says in an account that was never bootstrapped."""
    with pytest.raises(CdkError) as refused:
        cdk.deploy(context)
    assert aws.stacks() == {}
    return str(refused.value)


@pytest.fixture(scope="module")
def deployed(aws: MotoServer, cdk: Cdk, context: Context, refusal: str) -> dict[str, str]:
    """The outputs, once it was."""
    cdk.run("bootstrap", context=context)
    return cdk.deploy(context)


def test_without_a_bucket_the_command_says_what_is_needed(refusal: str) -> None:
    assert "must be uploaded to S3" in refusal
    assert "cdk bootstrap" in refusal


def test_with_the_bucket_a_server_with_every_setting_is_deployed(
    aws: MotoServer, deployed: dict[str, str], context: Context
) -> None:
    assert aws.stacks()[STACK] == "CREATE_COMPLETE"
    assert len(aws.template_body(STACK).encode()) > TEMPLATE_LIMIT
    assert len(aws.launched_user_data(STACK).encode()) <= USER_DATA_LIMIT
    instance = aws.group_instance(STACK)
    assert (instance["InstanceType"], instance["ImageId"]) == (
        context["instanceType"],
        context["imageId"],
    )
    assert deployed["ServerIp"] in aws.physical_ids(STACK, "AWS::EC2::EIP")
