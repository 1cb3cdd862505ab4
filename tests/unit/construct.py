"""The construct in an app of somebody else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk.assertions import Template

from chroma_stack import ChromaServer

Properties = Callable[[cdk.Stack], dict[str, Any]]
PUBLIC = ec2.SubnetSelection(subnet_type=ec2.SubnetType.PUBLIC)


def nothing(stack: cdk.Stack) -> dict[str, Any]:
    """No property but the VPC."""
    return {}


def server_in(stack: cdk.Stack, properties: Properties = nothing) -> ChromaServer:
    """A server in a VPC of the stack's with public and private subnets."""
    vpc = ec2.Vpc(stack, "Vpc", max_azs=2, restrict_default_security_group=False)
    return ChromaServer(stack, "Chroma", vpc=vpc, **properties(stack))


def server_template(properties: Properties = nothing) -> Template:
    """The template of a stack with such a server."""
    stack = cdk.Stack(cdk.App(), "Theirs")
    server_in(stack, properties)
    return Template.from_stack(stack)


def logical_ids(made: Template) -> set[str]:
    """Of the server's resources."""
    return {name for name in made.to_json()["Resources"] if name.startswith("Chroma")}
