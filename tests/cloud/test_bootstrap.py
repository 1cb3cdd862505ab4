"""An account that was never bootstrapped: the template is larger than a request may be, so `cdk deploy` asks for the bucket
that `cdk bootstrap` makes, and works once it is there."""

from __future__ import annotations

import pytest

from chroma_stack.emulator.cdk import Cdk, CdkError, Context
from chroma_stack.emulator.moto_handlers import LARGEST_BODY
from chroma_stack.emulator.moto_server import MotoServer
from chroma_stack.user_data import USER_DATA_LIMIT
from tests.unit.test_template import EVERYTHING

STACK = "Everything"


@pytest.fixture(scope="module")
def context(aws: MotoServer) -> Context:
    """Every setting, and many origins."""
    ec2 = aws.client("ec2")
    volume = ec2.create_volume(Size=30, AvailabilityZone="us-east-1a", Encrypted=True)["VolumeId"]
    zones = aws.client("route53")
    zone = zones.create_hosted_zone(Name="example.com", CallerReference="everything")["HostedZone"]
    return {
        **EVERYTHING,
        "stackName": STACK,
        "snapshotId": ec2.create_snapshot(VolumeId=volume)["SnapshotId"],
        "imageId": "ami-0123456789abcdef0",
        "rootVolumeSize": 100,
        "containerCidr": "10.200.0.0/24",
        "hostedZoneId": zone["Id"].rpartition("/")[2],
        "otelCollectionEndpoint": "api.honeycomb.com",
        "otelCollectionHeaders": "x-honeycomb-team=abc",
        "corsAllowOrigins": ",".join(f"https://app{number}.example.com" for number in range(200)),
    }


@pytest.fixture(scope="module")
def refusal(aws: MotoServer, cdk: Cdk, context: Context) -> str:
    """What the command says before."""
    with pytest.raises(CdkError) as refused:
        cdk.run("deploy", "--method=direct", "--require-approval=never", context=context)
    assert aws.stacks() == {}
    return str(refused.value)


@pytest.fixture(scope="module")
def deployed(cdk: Cdk, context: Context, refusal: str) -> dict[str, str]:
    """The outputs after."""
    return cdk.deploy(context)


def test_without_a_bucket_the_command_says_what_is_needed(refusal: str) -> None:
    assert "must be uploaded to S3" in refusal
    assert "cdk bootstrap" in refusal


def test_with_the_bucket_a_server_with_every_setting_is_deployed(
    aws: MotoServer, deployed: dict[str, str], context: Context
) -> None:
    assert aws.stacks()[STACK] == "CREATE_COMPLETE"
    assert len(aws.template_body(STACK).encode()) > LARGEST_BODY
    assert len(aws.launched_user_data(STACK).encode()) <= USER_DATA_LIMIT
    instance = aws.group_instance(STACK)
    assert (instance["InstanceType"], instance["ImageId"]) == (
        context["instanceType"],
        context["imageId"],
    )
    assert deployed["ServerIp"] in aws.physical_ids(STACK, "AWS::EC2::EIP")


def test_the_record_of_the_name_leads_to_the_public_dns_name(
    aws: MotoServer, deployed: dict[str, str], context: Context
) -> None:
    assert deployed["ServerUrl"] == f"https://{context['domainName']}:8000"
    records = aws.client("route53").list_resource_record_sets(HostedZoneId=context["hostedZoneId"])
    [record] = [it for it in records["ResourceRecordSets"] if it["Type"] == "CNAME"]
    assert record["Name"].rstrip(".") == context["domainName"]
    host = f"ec2-{deployed['ServerIp'].replace('.', '-')}.compute-1.amazonaws.com"
    assert [it["Value"] for it in record["ResourceRecords"]] == [host]
