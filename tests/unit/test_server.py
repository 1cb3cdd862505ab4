"""``ChromaServer`` in other people's apps."""

from __future__ import annotations

import aws_cdk as cdk
import pytest
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_kms as kms
from aws_cdk.assertions import Template

from chroma_stack import ChromaServer, ChromaVersion, SettingError
from tests.unit.construct import server_in, server_template
from tests.unit.synthesis import host_settings, launch, properties, statements


def test_nobody_may_reach_the_server_until_allowed() -> None:
    assert "SecurityGroupIngress" not in properties(server_template(), "AWS::EC2::SecurityGroup")


def test_a_service_is_allowed_by_its_security_group() -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    server = server_in(stack)
    vpc = ec2.Vpc(stack, "Other")
    client = ec2.Connections(security_groups=[ec2.SecurityGroup(stack, "Client", vpc=vpc)])
    server.connections.allow_default_port_from(client)
    ingress = properties(Template.from_stack(stack), "AWS::EC2::SecurityGroupIngress")
    assert (ingress["FromPort"], ingress["ToPort"]) == (8000, 8000)


def test_a_server_can_be_named_where_a_connectable_is_asked_for() -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    server = server_in(stack)
    other = ec2.SecurityGroup(stack, "Other", vpc=ec2.Vpc(stack, "OtherVpc"))
    other.connections.allow_from(server, ec2.Port.tcp(443))
    assert Template.from_stack(stack).find_resources("AWS::EC2::SecurityGroupIngress")


def test_security_groups_of_ones_own_are_all_used() -> None:
    def with_groups(stack: cdk.Stack) -> dict[str, object]:
        vpc = ec2.Vpc(stack, "Other", restrict_default_security_group=False)
        return {
            "security_groups": [
                ec2.SecurityGroup(stack, name, vpc=vpc) for name in ("First", "Second")
            ]
        }

    [interface] = launch(server_template(with_groups))["NetworkInterfaces"]
    assert len(interface["Groups"]) == 2


def test_the_data_may_be_encrypted_with_a_key_of_ones_own() -> None:
    made = server_template(lambda stack: {"storage_encryption_key": kms.Key(stack, "Key")})
    assert "KmsKeyId" in properties(made, "AWS::EC2::Volume")
    [grant] = [it for it in statements(made) if it["Action"] == "kms:CreateGrant"]
    assert grant["Condition"]["Bool"] == {"kms:GrantIsForAWSResource": True}
    assert "kms:ViaService" in grant["Condition"]["StringEquals"]


def test_the_key_of_a_volume_that_is_given_may_be_used_too() -> None:
    made = server_template(
        lambda stack: {
            "volume": ec2.Volume.from_volume_attributes(
                stack,
                "Kept",
                volume_id="vol-0123456789abcdef0",
                availability_zone="eu-central-1a",
                encryption_key=kms.Key(stack, "Key"),
            )
        }
    )
    assert [it for it in statements(made) if it["Action"] == "kms:CreateGrant"]


def test_a_server_goes_on_with_a_volume_of_an_earlier_one() -> None:
    volume_id = "vol-0123456789abcdef0"
    made = server_template(
        lambda stack: {
            "volume": ec2.Volume.from_volume_attributes(
                stack, "Kept", volume_id=volume_id, availability_zone="eu-central-1a"
            )
        }
    )
    assert made.find_resources("AWS::EC2::Volume") == {}
    assert host_settings(made)["VOLUME"] == volume_id
    assert f":volume/{volume_id}" in str(statements(made))


def test_the_endpoint_is_an_address_with_a_port() -> None:
    endpoint = server_in(cdk.Stack(cdk.App(), "Theirs")).endpoint
    assert endpoint.port == 8000
    assert endpoint.socket_address == f"{endpoint.hostname}:8000"
    assert endpoint.url == f"http://{endpoint.socket_address}"


def test_two_servers_fit_in_one_stack() -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    vpc = ec2.Vpc(stack, "Vpc", restrict_default_security_group=False)
    for name in ("One", "Two"):
        ChromaServer(stack, name, vpc=vpc)
    assert len(Template.from_stack(stack).find_resources("AWS::EC2::Volume")) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("instance_type", ec2.InstanceType("t3.micro")),
        ("root_volume_size", cdk.Size.gibibytes(0)),
        ("volume_size", cdk.Size.gibibytes(0)),
        ("volume_size", cdk.Size.tebibytes(65)),
        ("snapshot_id", "snap-1"),
        ("cors_allow_origins", ["https://a.example 'x'"]),
    ],
)
def test_the_construct_refuses_what_the_command_line_refuses(name: str, value: object) -> None:
    with pytest.raises(SettingError, match=f"^{name}="):
        server_template(lambda _: {name: value})


def test_an_old_version_is_refused_by_name() -> None:
    with pytest.raises(SettingError, match=r"^version='0\.4\.24'.*0\.5\.0 or later"):
        ChromaVersion.of("0.4.24")
