"""The network of a stack, and who may reach the server in it."""

from __future__ import annotations

import ipaddress
import re

from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from chroma_stack.acknowledge import acknowledge
from chroma_stack.errors import SettingError
from chroma_stack.settings import Setting, resource_id

EVERYWHERE = "0.0.0.0/0"

SUBNET_TYPES = {
    "public": ec2.SubnetType.PUBLIC,
    "private-with-egress": ec2.SubnetType.PRIVATE_WITH_EGRESS,
    "isolated": ec2.SubnetType.PRIVATE_ISOLATED,
}
"""The kinds of subnets by the words of the settings."""

_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_CIDR = rf"{_BYTE}(\.{_BYTE}){{3}}/([0-9]|[12][0-9]|3[0-2])"
_CIDR_ALLOWED = "an IPv4 network such as 203.0.113.0/24"
_VPC = resource_id("vpc")
_ZONE = "[a-z]{2}(-[a-z]+)+-[0-9]+[a-z]"
_ZONE_ALLOWED = "a zone such as us-east-1a"
_ONLY_TEMPLATE = "The CDK looks the VPC's subnets and zones up; CloudFormation cannot."


def parse_cidr(text: str) -> str:
    """An IPv4 network as given.

    :raises SettingError: when it is none, or has bits set beyond its prefix.
    """
    if not re.fullmatch(_CIDR, text, re.ASCII):
        raise SettingError("cidr", text, _CIDR_ALLOWED)
    network = ipaddress.IPv4Network(text, strict=False)
    if str(network.network_address) != text.partition("/")[0]:
        raise SettingError("cidr", text, f"{_CIDR_ALLOWED}; perhaps {network}")
    return text


def _vpc_id(text: str) -> str:
    if not re.fullmatch(f"default|{_VPC}", text, re.ASCII):
        raise SettingError("vpc_id", text, "default, or an id such as vpc-0123456789abcdef0")
    return text


def _of_type(text: str) -> ec2.SubnetSelection:
    if text not in SUBNET_TYPES:
        raise SettingError("vpc_subnets", text, " or ".join(SUBNET_TYPES))
    return ec2.SubnetSelection(subnet_type=SUBNET_TYPES[text])


def select_subnet(vpc: ec2.IVpc, chosen: ec2.SubnetSelection) -> ec2.ISubnet:
    """The first subnet of a selection.

    :raises SettingError: when the VPC has none such.
    """
    try:
        found = vpc.select_subnets(
            availability_zones=chosen.availability_zones,
            one_per_az=chosen.one_per_az,
            subnet_filters=chosen.subnet_filters,
            subnet_group_name=chosen.subnet_group_name,
            subnets=chosen.subnets,
            subnet_type=chosen.subnet_type,
        ).subnets
    except RuntimeError:  # what jsii makes of aws-cdk-lib's refusal
        found = []
    if not found:
        has = (vpc.public_subnets, vpc.private_subnets, vpc.isolated_subnets)
        kinds = [kind for kind, subnets in zip(SUBNET_TYPES, has, strict=True) if subnets]
        words = ", ".join(kinds) or "none that is known"
        raise SettingError(
            "vpc_subnets", describe(chosen), f"subnets of this VPC, which are {words}"
        )
    return found[0]


def describe(chosen: ec2.SubnetSelection) -> str:
    """A selection in words: by its type, if it has one, or by its name."""
    by_type = [kind for kind, it in SUBNET_TYPES.items() if it is chosen.subnet_type]
    return by_type[0] if by_type else chosen.subnet_group_name or "a selection"


SETTINGS = (
    Setting(
        key="allowedCidr",
        parameter="AllowedCidr",
        option="allowed_cidrs",
        meaning="IPv4 network that may reach port 8000. The default is the whole internet.",
        note="Several are separated by commas.",
        default=EVERYWHERE,
        pattern=_CIDR,
        allowed=_CIDR_ALLOWED,
        parse=parse_cidr,
        several=True,
    ),
    Setting(
        key="sshCidr",
        parameter="SshCidr",
        option="ssh_cidrs",
        meaning="IPv4 network that may reach port 22, with a key pair; 127.0.0.1/32 closes it.",
        note="Several are separated by commas.",
        without="as for port 8000",
        pattern=_CIDR,
        allowed=_CIDR_ALLOWED,
        parse=parse_cidr,
        several=True,
    ),
    Setting(
        key="vpcId",
        parameter="VpcId",
        option="vpc_id",
        meaning="Id of the VPC to use.",
        note="`default` is the account's default VPC.",
        without="a small VPC of the stack's own",
        pattern=_VPC,
        allowed="an id such as vpc-0123456789abcdef0",
        parse=_vpc_id,
    ),
    Setting(
        key="subnetType",
        only="The published template takes a public subnet by `SubnetId`.",
        option="vpc_subnets",
        meaning="Kind of subnet in the VPC of `vpcId`: `public`, `private-with-egress` or "
        "`isolated`. Only in a public one the server has a public address.",
        default="public",
        parse=_of_type,
    ),
    Setting(
        parameter="SubnetId",
        only=_ONLY_TEMPLATE,
        option="",
        meaning="Public subnet of that VPC; needs VpcId and AvailabilityZone.",
        without="that of the stack's own VPC",
        pattern=resource_id("subnet"),
        allowed="an id such as subnet-0123456789abcdef0",
    ),
    Setting(
        parameter="AvailabilityZone",
        only=_ONLY_TEMPLATE,
        option="",
        meaning="Availability zone of that subnet, e.g. us-east-1a; needs VpcId and SubnetId.",
        without="that of the stack's own VPC",
        pattern=_ZONE,
        allowed=_ZONE_ALLOWED,
    ),
    Setting(
        key="availabilityZone",
        only="The published template takes a zone together with its subnet.",
        option="availability_zone",
        meaning="Zone to place the server in, such as that of `volumeId`.",
        without="the first one of the VPC",
        pattern=_ZONE,
        allowed=_ZONE_ALLOWED,
    ),
)


def in_zone(vpc: ec2.IVpc, chosen: ec2.SubnetSelection, zone: str) -> ec2.SubnetSelection:
    """The same selection of subnets, in one zone only.

    :raises SettingError: when the VPC has no subnets there.
    """
    # Until the VPC is looked up, it has placeholders.
    if "dummy1a" in vpc.availability_zones:
        return chosen
    if zone not in vpc.availability_zones:
        zones = ", ".join(vpc.availability_zones)
        raise SettingError(
            "availability_zone", zone, f"a zone in which the VPC has subnets: {zones}"
        )
    return ec2.SubnetSelection(subnet_type=chosen.subnet_type, availability_zones=[zone])


class DefaultVpc(ec2.Vpc):
    """The VPC of a stack that is given none: one public subnet and no NAT gateway, which
    costs nothing."""

    def __init__(
        self, scope: Construct, construct_id: str, availability_zone: str | None = None
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            ip_addresses=ec2.IpAddresses.cidr("10.0.0.0/24"),
            max_azs=None if availability_zone else 1,
            availability_zones=[availability_zone] if availability_zone else None,
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
        acknowledge(
            self,
            "AwsSolutions-VPC7",
            "Flow logs cost by the traffic they record; add them to the network, or give the "
            "server a network that has them.",
        )
