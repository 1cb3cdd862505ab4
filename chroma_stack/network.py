"""The small network that a server gets when it is given none."""

from __future__ import annotations

from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from chroma_stack import nag


class PublicNetwork(ec2.Vpc):
    """A VPC with one public subnet and no NAT gateway, which costs nothing."""

    def __init__(self, scope: Construct, construct_id: str) -> None:
        super().__init__(
            scope,
            construct_id,
            ip_addresses=ec2.IpAddresses.cidr("10.0.0.0/24"),
            max_azs=1,
            nat_gateways=0,
            subnet_configuration=[
                ec2.SubnetConfiguration(
                    name="Public",
                    subnet_type=ec2.SubnetType.PUBLIC,
                    map_public_ip_on_launch=False,
                )
            ],
            # This would add a function with an asset.
            restrict_default_security_group=False,
        )
        nag.explain(self, nag.NETWORK)
