"""What clients need of a server, wherever it was made."""

from __future__ import annotations

import aws_cdk as cdk
import pytest
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk.assertions import Match, Template

from chroma_stack import ChromaAuth, ChromaServer, IChromaServer, SettingError
from tests.unit.construct import server_in
from tests.unit.synthesis import properties


def client(stack: cdk.Stack) -> iam.Role:
    return iam.Role(stack, "Client", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))


def imported(
    stack: cdk.Stack, secret: secretsmanager.ISecret | None = None, port: int = 8000
) -> IChromaServer:
    group = ec2.SecurityGroup.from_security_group_id(stack, "Theirs", "sg-0123456789abcdef0")
    return ChromaServer.from_chroma_server_attributes(
        stack,
        "Chroma",
        hostname="chroma.corp.example",
        port=port,
        security_group=group,
        secret=secret,
    )


def test_a_client_may_read_the_credential_and_nothing_else() -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    grant = server_in(stack).grant_read_credential(client(stack))
    assert grant.success
    policies = Template.from_stack(stack).find_resources(
        "AWS::IAM::Policy",
        {"Properties": {"Roles": [Match.object_like({"Ref": "Client4A7F64DF"})]}},
    )
    [policy] = policies.values()
    [statement] = policy["Properties"]["PolicyDocument"]["Statement"]
    assert statement["Action"] == ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"]
    assert statement["Resource"] == {"Ref": "ChromaCredential2920701B"}


def test_a_client_may_use_the_key_of_the_credential_too() -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    secret = secretsmanager.Secret(stack, "Mine", encryption_key=kms.Key(stack, "Key"))
    server = server_in(stack, lambda _: {"auth": ChromaAuth.token(secret=secret)})
    server.grant_read_credential(client(stack))
    key = properties(Template.from_stack(stack), "AWS::KMS::Key")
    [decrypt] = [it for it in key["KeyPolicy"]["Statement"] if "Client4A7F64DF" in str(it)]
    assert decrypt["Action"] == "kms:Decrypt"


def test_there_is_no_credential_to_read_without_authentication() -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    server = server_in(stack, lambda _: {"auth": ChromaAuth.none()})
    with pytest.raises(SettingError, match=r"^auth='none'.*token or basic"):
        server.grant_read_credential(client(stack))


def test_a_server_made_elsewhere_is_reached_by_its_attributes() -> None:
    stack = cdk.Stack(cdk.App(), "Clients")
    server = imported(stack, port=8443)
    assert server.endpoint.url == "http://chroma.corp.example:8443"
    service = ec2.SecurityGroup(stack, "Service", vpc=ec2.Vpc(stack, "Vpc"))
    server.connections.allow_default_port_from(service)
    ingress = properties(Template.from_stack(stack), "AWS::EC2::SecurityGroupIngress")
    assert ingress["GroupId"] == "sg-0123456789abcdef0"
    assert (ingress["FromPort"], ingress["ToPort"]) == (8443, 8443)


def test_a_server_made_elsewhere_can_be_named_where_a_connectable_is_asked_for() -> None:
    stack = cdk.Stack(cdk.App(), "Clients")
    service = ec2.SecurityGroup(stack, "Service", vpc=ec2.Vpc(stack, "Vpc"))
    service.connections.allow_to_default_port(imported(stack))
    assert (
        properties(Template.from_stack(stack), "AWS::EC2::SecurityGroupIngress")["FromPort"] == 8000
    )


def test_the_credential_of_a_server_made_elsewhere_is_read_when_it_is_known() -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    secret = secretsmanager.Secret.from_secret_name_v2(stack, "Token", "chroma")
    reader = client(stack)
    assert imported(stack, secret).grant_read_credential(reader).success
    with pytest.raises(SettingError, match=r"^auth="):
        imported(cdk.Stack(cdk.App(), "Other")).grant_read_credential(reader)


def test_a_construct_can_ask_for_either() -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    assert isinstance(server_in(stack), IChromaServer)
    assert isinstance(imported(cdk.Stack(cdk.App(), "Other")), IChromaServer)
