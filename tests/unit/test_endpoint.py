"""What clients need of a server, wherever it was made."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk.assertions import Match, Template

from chroma_stack import (
    ChromaAuth,
    ChromaServer,
    ChromaTls,
    IChromaServer,
    SettingError,
    TlsMode,
)
from tests.unit.construct import PUBLIC, server_in
from tests.unit.synthesis import properties


def client(stack: cdk.Stack) -> iam.Role:
    return iam.Role(stack, "Client", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))


def imported(
    stack: cdk.Stack,
    secret: secretsmanager.ISecret | None = None,
    port: int = 8000,
    **more: Any,
) -> IChromaServer:
    group = ec2.SecurityGroup.from_security_group_id(stack, "Theirs", "sg-0123456789abcdef0")
    return ChromaServer.from_chroma_server_attributes(
        stack,
        "Chroma",
        hostname="chroma.corp.example",
        port=port,
        security_group=group,
        secret=secret,
        **more,
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


@pytest.mark.parametrize(
    ("region", "zone"),
    [("us-east-1", "compute-1"), ("eu-central-1", "eu-central-1.compute")],
)
def test_a_public_server_is_reached_by_the_dns_name_of_its_elastic_ip(
    region: str, zone: str
) -> None:
    """Which inside the VPC resolves to the private address, which security groups can allow."""
    env = cdk.Environment(account="123456789012", region=region)
    stack = cdk.Stack(cdk.App(), "Theirs", env=env)
    hostname = server_in(stack, lambda _: {"vpc_subnets": PUBLIC}).endpoint.hostname
    dashed = {"Fn::Join": ["-", {"Fn::Split": [".", {"Ref": "ChromaAddress85771F15"}]}]}
    suffix = {"Ref": "AWS::URLSuffix"}
    assert stack.resolve(hostname) == {"Fn::Join": ["", ["ec2-", dashed, f".{zone}.", suffix]]}


def test_where_the_region_is_not_known_cloudformation_chooses_the_name() -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    server = server_in(stack, lambda _: {"vpc_subnets": PUBLIC})
    made = Template.from_stack(stack).to_json()
    [name, attribute] = stack.resolve(server.endpoint.hostname)["Fn::GetAtt"]
    assert attribute == "Value"
    parts = made["Resources"][name]["Properties"]["Value"]["Fn::Join"][1]
    [(condition, us_east_1, _)] = [part["Fn::If"] for part in parts if "Fn::If" in part]
    assert made["Conditions"][condition] == {"Fn::Equals": [{"Ref": "AWS::Region"}, "us-east-1"]}
    assert us_east_1 == "compute-1"


def test_another_stack_may_refer_to_the_name() -> None:
    app = cdk.App()
    server = server_in(cdk.Stack(app, "Theirs"), lambda _: {"vpc_subnets": PUBLIC})
    clients = cdk.Stack(app, "Clients")
    cdk.CfnOutput(clients, "Url", value=server.endpoint.url)
    app.synth()
    made = Template.from_stack(clients).to_json()
    assert "Fn::ImportValue" in json.dumps(made["Outputs"]["Url"])
    assert "Fn::If" not in json.dumps(made)


def test_the_address_stays_known_as_an_address() -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    server = server_in(stack, lambda _: {"vpc_subnets": PUBLIC})
    assert stack.resolve(server.ip_address) == {"Ref": "ChromaAddress85771F15"}


def function_in(stack: cdk.Stack) -> lambda_.Function:
    vpc = ec2.Vpc(stack, "Network", restrict_default_security_group=False)
    return lambda_.Function(
        stack,
        "Function",
        runtime=lambda_.Runtime.PYTHON_3_13,
        handler="index.handler",
        code=lambda_.Code.from_inline("def handler(*_): pass"),
        vpc=vpc,
    )


def ingress_and_reads(stack: cdk.Stack) -> tuple[int, int]:
    """How many rules let somebody in, and how many statements let somebody but us read."""
    made = Template.from_stack(stack)
    policies = made.find_resources("AWS::IAM::Policy")
    theirs = [it for name, it in policies.items() if not name.startswith("Chroma")]
    reads = json.dumps(theirs).count('"secretsmanager:GetSecretValue"')
    return len(made.find_resources("AWS::EC2::SecurityGroupIngress")), reads


def test_a_client_is_connected_in_one_line() -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    assert server_in(stack).grant_connect(function_in(stack)).success
    assert ingress_and_reads(stack) == (1, 1)


def test_another_principal_may_read_the_credential_for_a_client() -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    server = server_in(stack)
    group = ec2.SecurityGroup(stack, "Service", vpc=ec2.Vpc(stack, "Other"))
    with pytest.raises(SettingError, match=r"^grantee=.*the role that reads"):
        server.grant_connect(group)
    assert server.grant_connect(group, client(stack)).success
    assert ingress_and_reads(stack) == (1, 1)


def test_without_authentication_a_client_needs_the_port_only() -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    server = server_in(stack, lambda _: {"auth": ChromaAuth.none()})
    server.grant_connect(function_in(stack))
    assert ingress_and_reads(stack) == (1, 0)


def test_a_client_of_a_server_made_elsewhere_is_connected_likewise() -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    secret = secretsmanager.Secret.from_secret_name_v2(stack, "Token", "chroma")
    imported(stack, secret).grant_connect(function_in(stack))
    assert ingress_and_reads(stack) == (1, 1)


def certificate_reads(stack: cdk.Stack) -> list[Any]:
    """What somebody but us may read in Systems Manager."""
    policies = Template.from_stack(stack).find_resources("AWS::IAM::Policy")
    return [
        statement["Resource"]
        for name, policy in policies.items()
        if not name.startswith("Chroma")
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if "ssm:GetParameter" in statement["Action"]
    ]


REQUIRED = ChromaTls.own_authority(mode=TlsMode.REQUIRED)
FROM_ACME = ChromaTls.acme(domain_name="chroma.example.com", hosted_zone="Z123")


@pytest.mark.parametrize(
    ("tls", "count"),
    [(REQUIRED, 1), (ChromaTls.own_authority(), 0), (FROM_ACME, 0), (ChromaTls.off(), 0)],
    ids=["required", "optional", "ACME", "off"],
)
def test_a_client_that_needs_the_authoritys_certificate_may_read_it(
    tls: ChromaTls, count: int
) -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    server = server_in(stack, lambda _: {"tls": tls})
    assert server.grant_connect(function_in(stack)).success
    assert ingress_and_reads(stack) == (1, 1)
    reads = certificate_reads(stack)
    assert len(reads) == count
    for resource in reads:
        assert "parameter/" in json.dumps(resource)
        assert "*" not in json.dumps(resource)


def test_without_authentication_a_client_is_still_let_read_that_certificate() -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    server = server_in(stack, lambda _: {"auth": ChromaAuth.none(), "tls": REQUIRED})
    assert server.grant_connect(function_in(stack)).success
    assert ingress_and_reads(stack) == (1, 0)
    assert len(certificate_reads(stack)) == 1


def test_any_principal_may_be_let_read_the_authoritys_certificate() -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    server = server_in(stack)
    assert server.grant_read_ca_certificate(client(stack)).success
    [resource] = certificate_reads(stack)
    name = stack.resolve(server.ca_certificate_parameter_name)
    assert name in resource["Fn::Join"][1]


def test_there_is_no_certificate_to_read_without_tls() -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    server = server_in(stack, lambda _: {"tls": ChromaTls.off()})
    assert server.ca_certificate_parameter_name is None
    with pytest.raises(SettingError, match=r"^tls='off'.*optional or required"):
        server.grant_read_ca_certificate(client(stack))


def test_a_server_made_elsewhere_is_reached_by_tls() -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    server = imported(stack, tls=True, ca_certificate_parameter_name="/chroma/authority")
    assert server.endpoint.url == "https://chroma.corp.example:8000"
    server.grant_connect(function_in(stack))
    [resource] = certificate_reads(stack)
    assert json.dumps(resource).endswith(':parameter/chroma/authority"]]}')


def test_a_server_made_elsewhere_may_have_a_certificate_that_every_client_trusts() -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    server = imported(stack, tls=True)
    server.grant_connect(function_in(stack))
    assert certificate_reads(stack) == []
    with pytest.raises(SettingError, match=r"^tls="):
        server.grant_read_ca_certificate(client(stack))


def test_the_interface_cannot_be_instantiated() -> None:
    with pytest.raises(TypeError, match="abstract"):
        IChromaServer(cdk.Stack(cdk.App(), "Theirs"), "Chroma")  # type: ignore[abstract]


def in_two_stacks(connect: Callable[[ChromaServer, lambda_.Function], None]) -> Template:
    """The template of a stack with a client of the server in another stack."""
    app = cdk.App()
    server = server_in(cdk.Stack(app, "Theirs"))
    clients = cdk.Stack(app, "Clients")
    function = function_in(clients)
    function.add_environment("CHROMA_HOST", server.endpoint.hostname)
    server.grant_read_credential(function)
    connect(server, function)
    return Template.from_stack(clients)


@pytest.mark.parametrize(
    "connect",
    [
        lambda server, function: server.grant_connect(function),
        lambda server, function: server.grant_connect(function, function.role),
        lambda server, function: function.connections.allow_to_default_port(server),
    ],
    ids=["grant_connect", "grant_connect with a role", "allow_to_default_port"],
)
def test_a_client_may_be_in_another_stack(
    connect: Callable[[ChromaServer, lambda_.Function], None],
) -> None:
    made = in_two_stacks(connect)
    assert properties(made, "AWS::EC2::SecurityGroupIngress")["FromPort"] == 8000


def test_a_client_in_another_stack_that_the_servers_own_rule_names_is_a_cycle() -> None:
    """As of any aws-cdk-lib construct; the page on private networks shows the form to use."""
    with pytest.raises(RuntimeError, match="cyclic"):
        in_two_stacks(lambda server, function: server.connections.allow_default_port_from(function))


def test_a_group_of_a_stack_that_the_servers_stack_needs_is_connected_too() -> None:
    app = cdk.App()
    network = cdk.Stack(app, "Network")
    vpc = ec2.Vpc(network, "Vpc", max_azs=2, restrict_default_security_group=False)
    group = ec2.SecurityGroup(network, "Service", vpc=vpc)
    theirs = cdk.Stack(app, "Theirs")
    server = ChromaServer(theirs, "Chroma", vpc=vpc)
    assert server.grant_connect(group, client(theirs)).success
    app.synth()
