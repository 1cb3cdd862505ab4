"""``ChromaStack`` in other people's apps: a stack with the options of a server."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_ec2 as ec2
from aws_cdk.assertions import Template

from chroma_stack import (
    ChromaAuth,
    ChromaServer,
    ChromaServerOptions,
    ChromaStack,
    ChromaStackOptions,
    SettingError,
    TokenHeader,
)
from tests.unit.synthesis import host_settings, properties


def made(**options: Any) -> ChromaStack:
    return ChromaStack(cdk.App(), "Vectors", **options)


def test_it_takes_what_every_stack_takes() -> None:
    stack = made(
        env=cdk.Environment(account="123456789012", region="eu-central-1"),
        stack_name="vectors-of-production",
        description="Theirs",
        tags={"team": "search"},
        termination_protection=True,
    )
    assert (stack.account, stack.region) == ("123456789012", "eu-central-1")
    assert stack.stack_name == "vectors-of-production"
    assert stack.termination_protection
    assert stack.tags.tag_values()["team"] == "search"
    assert Template.from_stack(stack).to_json()["Description"] == "Theirs"


def test_every_property_of_a_stack_is_one_of_its_options() -> None:
    parameters = inspect.signature(cdk.Stack.__init__).parameters
    stack = {name for name, it in parameters.items() if it.kind is it.KEYWORD_ONLY}
    assert len(stack) > 8
    assert stack <= ChromaStackOptions.__optional_keys__


def test_every_option_of_a_server_is_one_of_its_options() -> None:
    assert ChromaServerOptions.__optional_keys__ < ChromaStackOptions.__optional_keys__
    stack = made(
        instance_type=ec2.InstanceType("m7g.large"),
        auth=ChromaAuth.token(token_header=TokenHeader.X_CHROMA_TOKEN),
        user_data_before=["true"],
    )
    assert host_settings(Template.from_stack(stack))["AUTH_TOKEN_HEADER"] == "X-Chroma-Token"


@pytest.mark.parametrize("construct", [ChromaStack, ChromaServer], ids=lambda it: it.__name__)
def test_a_misspelt_property_is_a_type_error_as_in_every_construct(construct: Any) -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    vpc = {"vpc": ec2.Vpc(stack, "Vpc")} if construct is ChromaServer else {}
    with pytest.raises(TypeError, match="'instnce_type'"):
        construct(stack, "Chroma", **vpc, instnce_type=ec2.InstanceType("t3.small"))


def test_a_vpc_is_looked_up_in_the_environment_of_the_stack() -> None:
    with pytest.raises(SettingError, match=r"^vpc_id='default'.*credentials and a region"):
        made(vpc_id="default")
    stack = made(
        vpc_id="default", env=cdk.Environment(account="123456789012", region="eu-central-1")
    )
    assert "AWS::EC2::VPC" not in str(Template.from_stack(stack).to_json())


def test_two_stacks_fit_in_one_app() -> None:
    app = cdk.App()
    for name in ("One", "Two"):
        ChromaStack(app, name)
    assert {it.stack_name for it in app.synth().stacks} == {"One", "Two"}


LOOKED_UP = "vpc-provider:account=123456789012:filter.vpc-id=vpc-0123456789abcdef0:region=eu-central-1:returnAsymmetricSubnets=true"


def in_looked_up_vpc(**options: Any) -> ChromaStack:
    subnets = [
        {"subnetId": f"subnet-{zone}", "availabilityZone": zone, "routeTableId": "rtb-1"}
        for zone in ("eu-central-1a", "eu-central-1b")
    ]
    group = {"name": "Public", "type": "Public", "subnets": subnets}
    vpc = {
        "vpcId": "vpc-0123456789abcdef0",
        "vpcCidrBlock": "10.0.0.0/16",
        "ownerAccountId": "123456789012",
        "availabilityZones": [],
        "subnetGroups": [group],
    }
    return ChromaStack(
        cdk.App(context={LOOKED_UP: vpc}),
        "Vectors",
        vpc_id="vpc-0123456789abcdef0",
        env=cdk.Environment(account="123456789012", region="eu-central-1"),
        **options,
    )


@pytest.mark.parametrize("zone", ["eu-central-1a", "eu-central-1b"])
def test_a_server_is_placed_in_the_zone_that_was_chosen(zone: str) -> None:
    volume = properties(
        Template.from_stack(in_looked_up_vpc(availability_zone=zone)), "AWS::EC2::Volume"
    )
    assert volume["AvailabilityZone"] == zone


def test_a_zone_without_subnets_is_refused_with_those_that_have_some() -> None:
    with pytest.raises(SettingError, match=r"^availability_zone=.*eu-central-1a, eu-central-1b"):
        in_looked_up_vpc(availability_zone="eu-central-1c")


def test_the_answers_of_look_ups_are_kept_in_git() -> None:
    ignored = (Path(__file__).parents[2] / ".gitignore").read_text().splitlines()
    assert "cdk.context.json" not in ignored
    assert ".last-settings.json" in ignored
