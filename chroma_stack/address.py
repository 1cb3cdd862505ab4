"""Where clients find the server: on an Elastic IP in a public subnet, by a name elsewhere.

Either belongs to the stack. The machine takes it at the end of its boot, and the next
machine takes it over.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_route53 as route53
from constructs import Construct

from chroma_stack.errors import SettingError
from chroma_stack.machine import BOOT_TIMEOUT, INTERFACE_TIMEOUT

_LONGEST_LABEL = 63
"""Characters of one part of a name: https://www.rfc-editor.org/rfc/rfc1035#section-2.3.4"""

_NAME = r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_TIME_TO_LIVE = cdk.Duration.seconds(60)


@dataclass(frozen=True)
class Address:
    """What the machine takes, and what the machine and its clients know of it."""

    hostname: str
    """What clients connect to."""

    resource_type: str
    """As ARNs name it."""

    resource_id: str
    """``eipalloc-…`` or ``eni-…``."""

    action: str
    """The action of EC2 that takes it."""

    boot_timeout: cdk.Duration
    """How long a boot may last that ends with taking it."""

    private_address: str = ""
    """That of the interface; empty for an Elastic IP."""

    @property
    def is_public(self) -> bool:
        """Whether it is an Elastic IP."""
        return not self.private_address

    @property
    def host_settings(self) -> dict[str, str]:
        """What ``host/boot`` reads."""
        return {"ADDRESS": self.resource_id, "PRIVATE_ADDRESS": self.private_address}


def is_public(vpc: ec2.IVpc, subnet: ec2.ISubnet) -> bool:
    """Whether a subnet is public: one that the VPC does not know as another kind."""
    return not any(
        other.node.path == subnet.node.path or other.subnet_id == subnet.subnet_id
        for other in [*vpc.private_subnets, *vpc.isolated_subnets]
    )


def elastic_ip(scope: Construct) -> Address:
    """A public address of the server's own."""
    resource = ec2.CfnEIP(scope, "Address", domain="vpc")
    return Address(
        hostname=resource.ref,
        resource_type="elastic-ip",
        resource_id=resource.attr_allocation_id,
        action="ec2:AssociateAddress",
        boot_timeout=BOOT_TIMEOUT,
    )


def private_name(
    scope: Construct,
    *,
    vpc: ec2.IVpc,
    subnet: ec2.ISubnet,
    security_groups: Sequence[ec2.ISecurityGroup],
    hosted_zone: route53.IHostedZone | None,
    domain_name: str | None,
) -> Address:
    """A network interface of the server's own, and a name for its private address.

    :raises SettingError: when the name is none, or not in the zone.
    """
    interface = ec2.CfnNetworkInterface(
        scope,
        "Interface",
        subnet_id=subnet.subnet_id,
        group_set=[group.security_group_id for group in security_groups],
        description="Where clients reach the Chroma server",
    )
    if hosted_zone is None:
        name = _checked(domain_name or f"{_own_label(scope)}.internal")
        hosted_zone = route53.PrivateHostedZone(scope, "HostedZone", vpc=vpc, zone_name=name)
    else:
        name = _checked(domain_name or f"{_label(scope)}.{hosted_zone.zone_name}", hosted_zone)
    route53.ARecord(
        scope,
        "Record",
        zone=hosted_zone,
        record_name=f"{name}.",
        target=route53.RecordTarget.from_ip_addresses(interface.attr_primary_private_ip_address),
        ttl=_TIME_TO_LIVE,
    )
    return Address(
        hostname=name,
        resource_type="network-interface",
        resource_id=interface.ref,
        action="ec2:AttachNetworkInterface",
        boot_timeout=BOOT_TIMEOUT.plus(INTERFACE_TIMEOUT),
        private_address=interface.attr_primary_private_ip_address,
    )


def _own_label(scope: Construct) -> str:
    """Unlike that of any other server: aws-cdk-lib's name ends with eight digits of a hash."""
    name = cdk.Names.unique_id(scope).lower()
    return name if len(name) <= _LONGEST_LABEL else name[: _LONGEST_LABEL - 8] + name[-8:]


def _label(scope: Construct) -> str:
    return re.sub("[^a-z0-9]+", "-", scope.node.id.lower()).strip("-")


def _checked(name: str, hosted_zone: route53.IHostedZone | None = None) -> str:
    if cdk.Token.is_unresolved(name):
        return name
    if not re.fullmatch(_NAME, name):
        raise SettingError("domain_name", name, "a name in small letters: chroma.example.internal")
    if hosted_zone is not None and not cdk.Token.is_unresolved(hosted_zone.zone_name):
        zone_name = hosted_zone.zone_name.rstrip(".")
        if name != zone_name and not name.endswith(f".{zone_name}"):
            raise SettingError("domain_name", name, f"a name in the hosted zone, {zone_name}")
    return name
