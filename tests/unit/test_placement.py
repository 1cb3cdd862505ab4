"""Where in a network the server is placed, and where its clients reach it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_route53 as route53
from aws_cdk.assertions import Template

from chroma_stack import ChromaServer, SettingError
from tests.unit.construct import PUBLIC, server_in, server_template
from tests.unit.synthesis import (
    host_settings,
    launch,
    properties,
    resource,
    stack,
    statements,
    template,
)

INTERFACE = "AWS::EC2::NetworkInterface"
RECORD = "AWS::Route53::RecordSet"
ZONE = "AWS::Route53::HostedZone"
GROUP = "AWS::AutoScaling::AutoScalingGroup"
EGRESS = ec2.SubnetType.PRIVATE_WITH_EGRESS
ISOLATED = ec2.SubnetType.PRIVATE_ISOLATED


def in_vpc_with(*kinds: ec2.SubnetType, **more: Any) -> Template:
    stack = cdk.Stack(cdk.App(), "Theirs")
    vpc = ec2.Vpc(
        stack,
        "Vpc",
        max_azs=1,
        subnet_configuration=[
            ec2.SubnetConfiguration(name=kind.name.title().replace("_", ""), subnet_type=kind)
            for kind in kinds
        ],
        restrict_default_security_group=False,
    )
    ChromaServer(stack, "Chroma", vpc=vpc, **more)
    return Template.from_stack(stack)


def given_zone(stack: cdk.Stack) -> route53.IHostedZone:
    return route53.HostedZone.from_hosted_zone_attributes(
        stack, "Zone", hosted_zone_id="Z123", zone_name="corp.example"
    )


@pytest.mark.parametrize(
    ("kinds", "chosen"),
    [
        ([ec2.SubnetType.PUBLIC, EGRESS, ISOLATED], "PrivateWithEgress"),
        ([ec2.SubnetType.PUBLIC, ISOLATED], "PrivateIsolated"),
        ([ec2.SubnetType.PUBLIC], "Public"),
    ],
    ids=lambda value: str(value),
)
def test_the_server_is_placed_where_databases_are(kinds: list[ec2.SubnetType], chosen: str) -> None:
    [zone] = properties(in_vpc_with(*kinds), GROUP)["VPCZoneIdentifier"]
    assert zone["Ref"].startswith(f"Vpc{chosen}Subnet1Subnet")


@pytest.mark.parametrize("kind", [EGRESS, ISOLATED])
def test_any_kind_of_subnet_may_be_chosen(kind: ec2.SubnetType) -> None:
    made = in_vpc_with(
        ec2.SubnetType.PUBLIC, EGRESS, ISOLATED, vpc_subnets=ec2.SubnetSelection(subnet_type=kind)
    )
    assert made.find_resources(INTERFACE)
    assert properties(made, INTERFACE)["SubnetId"] in properties(made, GROUP)["VPCZoneIdentifier"]


def test_in_a_public_subnet_the_server_has_an_elastic_ip_and_nothing_private() -> None:
    made = server_template(lambda _: {"vpc_subnets": PUBLIC})
    settings = host_settings(made)
    assert settings["ADDRESS"].endswith(".AllocationId>")
    assert settings["PRIVATE_ADDRESS"] == ""
    for kind in (INTERFACE, RECORD, ZONE):
        assert made.find_resources(kind) == {}


def test_a_private_server_has_no_public_address() -> None:
    made = server_template()
    [interface] = launch(made)["NetworkInterfaces"]
    assert interface["AssociatePublicIpAddress"] is False
    addresses = made.find_resources("AWS::EC2::EIP")
    assert not [name for name in addresses if name.startswith("Chroma")]


def test_a_private_server_has_an_interface_of_its_own_behind_all_its_security_groups() -> None:
    def with_groups(stack: cdk.Stack) -> dict[str, Any]:
        vpc = ec2.Vpc(stack, "Other", restrict_default_security_group=False)
        groups = [ec2.SecurityGroup(stack, name, vpc=vpc) for name in ("First", "Second")]
        return {"security_groups": groups}

    made = server_template(with_groups)
    [first] = launch(made)["NetworkInterfaces"]
    assert properties(made, INTERFACE)["GroupSet"] == first["Groups"]
    assert len(first["Groups"]) == 2


def test_the_instance_knows_the_interface_and_its_address() -> None:
    made = server_template()
    [interface] = made.find_resources(INTERFACE)
    settings = host_settings(made)
    assert settings["ADDRESS"] == f"<{interface}>"
    assert settings["PRIVATE_ADDRESS"] == f"<{interface}.PrimaryPrivateIpAddress>"


def test_cloudformation_makes_a_record_that_leads_to_the_interface() -> None:
    made = server_template()
    record, [interface] = properties(made, RECORD), made.find_resources(INTERFACE)
    assert record["ResourceRecords"] == [{"Fn::GetAtt": [interface, "PrimaryPrivateIpAddress"]}]
    assert (record["Type"], record["TTL"]) == ("A", "60")
    assert "route53" not in str(statements(made))


def test_the_server_has_a_zone_of_its_own_for_its_vpc_unless_it_is_given_one() -> None:
    made = server_template()
    zone = properties(made, ZONE)
    assert zone["Name"] == properties(made, RECORD)["Name"]
    assert zone["Name"].endswith(".internal.")
    assert [list(vpc["VPCId"]) for vpc in zone["VPCs"]] == [["Ref"]]
    given = server_template(lambda stack: {"hosted_zone": given_zone(stack)})
    assert given.find_resources(ZONE) == {}
    assert properties(given, RECORD)["HostedZoneId"] == "Z123"


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({}, "chroma.corp.example"),
        ({"domain_name": "vectors.corp.example"}, "vectors.corp.example"),
        ({"domain_name": "corp.example"}, "corp.example"),
    ],
)
def test_in_a_zone_that_is_given_the_name_is_the_constructs_id_or_what_was_asked_for(
    more: dict[str, str], name: str
) -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    server = server_in(stack, lambda stack: {"hosted_zone": given_zone(stack), **more})
    assert server.endpoint.hostname == name
    assert server.endpoint.url == f"http://{name}:8000"
    assert properties(Template.from_stack(stack), RECORD)["Name"] == f"{name}."


def test_a_name_alone_is_that_of_the_servers_own_zone() -> None:
    made = server_template(lambda _: {"domain_name": "chroma.search.internal"})
    assert properties(made, ZONE)["Name"] == "chroma.search.internal."


def test_the_name_of_the_own_zone_is_a_name_however_deep_the_construct_is() -> None:
    names = set()
    for last in "AB":
        stack = cdk.Stack(cdk.App(), "Theirs")
        vpc = ec2.Vpc(stack, "Vpc", restrict_default_security_group=False)
        scope = cdk.NestedStack(stack, "A_Very-Long.Name" * 5)
        server = ChromaServer(scope, "Chroma" * 20 + last, vpc=vpc)
        [label, rest] = server.endpoint.hostname.split(".")
        assert rest == "internal"
        assert len(label) == 63
        assert label.isalnum()
        assert label.islower()
        names.add(label)
    assert len(names) == 2


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Chroma.corp.example", "small letters"),
        ("chroma", "small letters"),
        ("chroma.corp.example.", "small letters"),
        (f"{'a' * 64}.corp.example", "small letters"),
        ("chroma.other.example", "in the hosted zone, corp.example"),
        ("chromacorp.example", "in the hosted zone, corp.example"),
    ],
)
def test_what_is_no_name_in_the_zone_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(SettingError, match=rf"^domain_name=.*{sentence}"):
        server_template(lambda stack: {"hosted_zone": given_zone(stack), "domain_name": name})


def public(**more: Any) -> tuple[ChromaServer, Template]:
    """A server in a public subnet, and the template of its stack."""
    stack = cdk.Stack(cdk.App(), "Theirs")
    zone = {"hosted_zone": given_zone(stack)} if more.pop("in_zone", False) else {}
    server = server_in(stack, lambda _: {"vpc_subnets": PUBLIC, **zone, **more})
    return server, Template.from_stack(stack)


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({}, "chroma.corp.example"),
        ({"domain_name": "vectors.corp.example"}, "vectors.corp.example"),
    ],
)
def test_a_public_server_in_a_zone_is_an_alias_of_its_public_dns_name(
    more: dict[str, str], name: str
) -> None:
    """Which inside the VPC resolves to the private address."""
    server, made = public(in_zone=True, **more)
    assert server.endpoint.hostname == name
    record = properties(made, RECORD)
    assert (record["HostedZoneId"], record["Name"], record["Type"]) == ("Z123", f"{name}.", "CNAME")
    [target] = record["ResourceRecords"]
    assert target["Fn::GetAtt"][0].startswith("ChromaHostname")
    assert "route53" not in str(statements(made))


def test_the_zones_own_name_leads_to_the_elastic_ip() -> None:
    record = properties(public(in_zone=True, domain_name="corp.example")[1], RECORD)
    assert (record["Name"], record["Type"]) == ("corp.example.", "A")
    assert record["ResourceRecords"] == [{"Ref": "ChromaAddress85771F15"}]


def test_the_shortest_name_in_a_zone_that_is_known_by_its_id_is_the_zones_own() -> None:
    by_id = template(domainName="corp.example", hostedZoneId="Z123")
    assert properties(by_id, RECORD)["Type"] == "A"


def test_a_name_without_a_zone_is_used_for_a_public_server_and_its_record_is_the_users() -> None:
    server, made = public(domain_name="chroma.corp.example")
    assert server.endpoint.url == "http://chroma.corp.example:8000"
    assert made.find_resources(RECORD) == {}


@pytest.mark.parametrize("subnets", [{}, {"vpc_subnets": PUBLIC}], ids=["private", "public"])
def test_a_zone_that_is_known_by_its_id_only_needs_a_name(subnets: dict[str, Any]) -> None:
    def by_id(stack: cdk.Stack, **more: str) -> dict[str, Any]:
        zone = route53.HostedZone.from_hosted_zone_id(stack, "Zone", "Z123")
        return {**subnets, "hosted_zone": zone, **more}

    with pytest.raises(SettingError, match=r"^domain_name=.*known by its id only"):
        server_template(by_id)
    made = server_template(lambda stack: by_id(stack, domain_name="chroma.corp.example"))
    record = properties(made, RECORD)
    assert (record["HostedZoneId"], record["Name"]) == ("Z123", "chroma.corp.example.")


@pytest.mark.parametrize("name", ["Chroma.corp.example", "*.corp.example", "chroma.other.example"])
def test_what_is_no_name_in_the_zone_is_refused_for_a_public_server_too(name: str) -> None:
    with pytest.raises(SettingError, match=r"^domain_name="):
        public(in_zone=True, domain_name=name)


@pytest.mark.parametrize(
    ("in_zone", "first"), [(True, "chroma.corp.example "), (False, "")], ids=["a name", "no name"]
)
def test_a_certificate_names_the_host_name_first(in_zone: bool, first: str) -> None:
    _, made = public(in_zone=in_zone)
    [hostname] = [it for it in made.find_resources("AWS::SSM::Parameter") if "Hostname" in it]
    names = host_settings(made)["TLS_NAMES"]
    assert names == f"{first}<{hostname}.Value> <ChromaAddress85771F15>"
    private = server_template(lambda stack: {"hosted_zone": given_zone(stack)})
    [interface] = private.find_resources(INTERFACE)
    names = host_settings(private)["TLS_NAMES"]
    assert names == f"chroma.corp.example <{interface}.PrimaryPrivateIpAddress>"


def test_a_private_instance_may_take_its_own_interface_and_tag_it_and_no_other() -> None:
    made = server_template()
    [interface] = made.find_resources(INTERFACE)
    attach = [it for it in statements(made) if "ec2:AttachNetworkInterface" in it["Action"]]
    instances, own = attach
    assert f"network-interface/', {{'Ref': '{interface}'}}" in str(own["Resource"])
    assert "/*" not in str(own["Resource"])
    assert "instance/*" in str(instances["Resource"])
    [tag] = [
        tag for tag in launch(made)["TagSpecifications"][0]["Tags"] if tag["Key"] == "chroma-server"
    ]
    assert instances["Condition"] == {
        "StringEquals": {"aws:ResourceTag/chroma-server": tag["Value"]}
    }
    [record] = [it for it in statements(made) if it["Action"] == "ec2:CreateTags"]
    assert f"network-interface/', {{'Ref': '{interface}'}}" in str(record["Resource"])
    assert "elastic-ip" not in str(statements(made))


def test_a_private_instance_has_as_long_as_cloudformation_takes() -> None:
    group = resource(server_template(), GROUP)
    assert group["CreationPolicy"]["ResourceSignal"]["Timeout"] == "PT1H"
    # CloudFormation takes an hour at most.
    assert group["UpdatePolicy"]["AutoScalingRollingUpdate"]["PauseTime"] == "PT1H"


def test_a_subnet_of_somebody_else_is_as_private_as_its_vpc_says() -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    vpc = ec2.Vpc.from_vpc_attributes(
        stack,
        "Vpc",
        vpc_id="vpc-0123456789abcdef0",
        availability_zones=["eu-central-1a"],
        isolated_subnet_ids=["subnet-0123456789abcdef0"],
    )
    same = ec2.Subnet.from_subnet_attributes(
        stack,
        "Same",
        subnet_id="subnet-0123456789abcdef0",
        availability_zone="eu-central-1a",
    )
    ChromaServer(stack, "Chroma", vpc=vpc, vpc_subnets=ec2.SubnetSelection(subnets=[same]))
    assert Template.from_stack(stack).find_resources(INTERFACE)


VPC_ID = "vpc-0123456789abcdef0"
ECR_IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/chroma"


@pytest.fixture
def vpc_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """The context with what the CDK has looked up: a VPC with these kinds of subnets."""
    monkeypatch.setenv("CDK_DEFAULT_ACCOUNT", "123456789012")
    monkeypatch.setenv("CDK_DEFAULT_REGION", "eu-central-1")

    def context(*kinds: str) -> dict[str, Any]:
        groups = [
            {
                "name": kind,
                "type": kind,
                "subnets": [
                    {
                        "subnetId": f"subnet-{kind.lower()}",
                        "cidr": "10.0.0.0/24",
                        "availabilityZone": "eu-central-1a",
                        "routeTableId": "rtb-0123456789abcdef0",
                    }
                ],
            }
            for kind in kinds
        ]
        query = f"account=123456789012:filter.vpc-id={VPC_ID}:region=eu-central-1"
        found = {"vpcId": VPC_ID, "vpcCidrBlock": "10.0.0.0/16", "availabilityZones": []}
        return {
            "vpcId": VPC_ID,
            f"vpc-provider:{query}:returnAsymmetricSubnets=true": {**found, "subnetGroups": groups},
        }

    return context


@pytest.mark.parametrize(
    ("kind", "looked_up", "more"),
    [
        ("public", "Public", {}),
        ("private-with-egress", "Private", {}),
        ("isolated", "Isolated", {"image": ECR_IMAGE}),
    ],
)
def test_the_command_line_may_choose_any_kind_of_subnet(
    vpc_of: Callable[..., dict[str, Any]], kind: str, looked_up: str, more: dict[str, str]
) -> None:
    context = vpc_of("Public", "Private", "Isolated")
    made = Template.from_stack(stack(**context, subnetType=kind, **more))
    assert properties(made, GROUP)["VPCZoneIdentifier"] == [f"subnet-{looked_up.lower()}"]
    assert bool(made.find_resources("AWS::EC2::EIP")) == (kind == "public")


@pytest.mark.parametrize(
    ("kinds", "settings", "sentence"),
    [
        (["Private"], {}, "'public' .*which are private-with-egress$"),
        (["Public", "Isolated"], {"subnetType": "private-with-egress"}, "public, isolated$"),
        (["Isolated"], {"subnetType": "isolated"}, "only together with image, in Amazon ECR"),
        (["Public"], {"subnetType": "private"}, "public or private-with-egress or isolated"),
    ],
)
def test_a_subnet_that_cannot_work_is_refused_with_a_sentence(
    vpc_of: Callable[..., dict[str, Any]],
    kinds: list[str],
    settings: dict[str, str],
    sentence: str,
) -> None:
    with pytest.raises(SettingError, match=f"^subnetType=.*{sentence}"):
        stack(**vpc_of(*kinds), **settings)


@pytest.mark.parametrize("kind", ["private-with-egress", "isolated"])
def test_the_stacks_own_vpc_has_no_private_subnets(kind: str) -> None:
    with pytest.raises(SettingError, match=r"^subnetType=.*only together with vpcId"):
        stack(subnetType=kind)


def test_a_selection_that_finds_no_subnet_is_refused_with_a_sentence() -> None:
    nowhere = ec2.SubnetSelection(availability_zones=["nowhere"])
    with pytest.raises(SettingError, match=r"^vpc_subnets=.*public"):
        server_template(lambda _: {"vpc_subnets": nowhere})


def test_the_stack_of_the_command_line_stays_public() -> None:
    assert template().find_resources("AWS::EC2::EIP")
    assert template().find_resources(INTERFACE) == {}
