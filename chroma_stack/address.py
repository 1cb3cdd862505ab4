"""Where clients reach the server: at an Elastic IP in a public subnet, by a private name
elsewhere.

Either belongs to the stack. The instance takes it at the end of its boot, and the next instance
takes it over.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_route53 as route53
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from chroma_stack.errors import SettingError
from chroma_stack.instance import InstanceRole, arn
from chroma_stack.settings import matching

_LONGEST_LABEL = 63
"""Characters of one part of a name: https://www.rfc-editor.org/rfc/rfc1035#section-2.3.4"""

LONGEST_NAME = 253
"""Characters of a name without the dot at its end."""

NAME = r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
"""The name of a server."""

NAME_ALLOWED = "a name in small letters, with no wildcard: chroma.example.com"

_TAGS = [
    "chroma-boot-failures",
    "chroma-data",
    "chroma-image-aarch64",
    "chroma-image-x86_64",
]
"""What the instance records on its address, which outlives the instance and its volume."""

_TIME_TO_LIVE = cdk.Duration.seconds(60)


@dataclass(frozen=True)
class Address:
    """What the instance takes, and what the instance and its clients know of it."""

    hostname: str
    """What clients connect to."""

    ip_address: str
    """The public IP address, or the private one of the interface."""

    arn: str
    """Of the Elastic IP or the network interface."""

    resource_id: str
    """``eipalloc-…`` or ``eni-…``."""

    is_public: bool
    """Whether it is an Elastic IP."""

    names: Sequence[str] = ()
    """What a certificate for it names: ``hostname`` first."""

    @property
    def host_settings(self) -> dict[str, str]:
        """What ``host/boot`` reads."""
        private_address = "" if self.is_public else self.ip_address
        return {"ADDRESS": self.resource_id, "PRIVATE_ADDRESS": private_address}

    def grant_take(self, role: InstanceRole) -> None:
        """Let the instance take the address, and record on it which volume holds the data, which
        images are kept there, and how many boots in a row have failed."""
        if self.is_public:
            role.allow(["ec2:AssociateAddress"], [self.arn])
            role.allow_for_own("ec2:AssociateAddress", "ec2", "instance/*")
            role.allow_for_own("ec2:AssociateAddress", "ec2", "network-interface/*")
        else:
            role.allow(["ec2:AttachNetworkInterface"], [self.arn])
            role.allow_for_own("ec2:AttachNetworkInterface", "ec2", "instance/*")
        role.allow(
            ["ec2:CreateTags"],
            [self.arn],
            {"ForAllValues:StringEquals": {"aws:TagKeys": _TAGS}},
        )
        # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html
        role.allow(["ec2:DescribeTags"], ["*"])
        role.acknowledge_wildcard(
            "*",
            "ec2:DescribeTags, which reads what is recorded on the address, knows no resources.",
        )


def is_public(vpc: ec2.IVpc, subnet: ec2.ISubnet) -> bool:
    """Whether a subnet is public: one that the VPC does not know as another kind."""
    return not any(
        other.node.path == subnet.node.path or other.subnet_id == subnet.subnet_id
        for other in [*vpc.private_subnets, *vpc.isolated_subnets]
    )


def elastic_ip(
    scope: Construct,
    *,
    domain_name: str | None = None,
    hosted_zone: route53.IHostedZone | None = None,
) -> Address:
    """A public address of the server's own, and in a zone that is given a record for it.

    :raises SettingError: when the name is none, or not in the zone.
    """
    resource = ec2.CfnEIP(scope, "Address", domain="vpc")
    public_name = _public_dns_name(scope, resource.ref)
    name = domain_name
    if hosted_zone is not None:
        name = _name_in(scope, hosted_zone, domain_name)
        _record(scope, name, hosted_zone, public_name, resource.ref)
    elif domain_name is not None:
        checked(domain_name)
    return Address(
        hostname=name or public_name,
        ip_address=resource.ref,
        arn=arn("ec2", f"elastic-ip/{resource.attr_allocation_id}"),
        resource_id=resource.attr_allocation_id,
        is_public=True,
        names=[*([name] if name else []), public_name, resource.ref],
    )


def _record(
    scope: Construct,
    name: str,
    hosted_zone: route53.IHostedZone,
    public_name: str,
    ip_address: str,
) -> None:
    """A record that leads to the public DNS name, so that it resolves to the private address
    inside the VPC too. The zone's own name cannot be such an alias."""
    if _is_apex(name, hosted_zone):
        route53.ARecord(
            scope,
            "Record",
            zone=hosted_zone,
            record_name=f"{name}.",
            target=route53.RecordTarget.from_ip_addresses(ip_address),
            ttl=_TIME_TO_LIVE,
        )
    else:
        cname(scope, name=name, hosted_zone=hosted_zone, public_name=public_name)


def _is_apex(name: str, hosted_zone: route53.IHostedZone) -> bool:
    """Whether it is the zone's own name: of a zone by its id, a name of two labels is."""
    zone_name = _zone_name(hosted_zone)
    if zone_name is None:
        return not cdk.Token.is_unresolved(name) and name.count(".") == 1
    return name == zone_name


def cname(
    scope: Construct, *, name: str, hosted_zone: route53.IHostedZone, public_name: str
) -> route53.CnameRecord:
    """A record of the server's name that leads to the public DNS name of its address."""
    return route53.CnameRecord(
        scope,
        "Record",
        zone=hosted_zone,
        record_name=f"{name}.",
        domain_name=public_name,
        ttl=_TIME_TO_LIVE,
    )


def _public_dns_name(scope: Construct, ip_address: str) -> str:
    """The name that EC2 gives a public address. Inside a VPC with DNS host names it resolves
    to the private address, so that clients there use their own private addresses, which
    security groups can allow; elsewhere it resolves to the public address.

    https://docs.aws.amazon.com/vpc/latest/userguide/vpc-dns.html#vpc-dns-hostnames
    """
    region = cdk.Stack.of(scope).region
    dashed = cdk.Fn.join("-", cdk.Fn.split(".", ip_address))
    if not cdk.Token.is_unresolved(region):
        return f"ec2-{dashed}.{_compute_zone(region)}.{cdk.Aws.URL_SUFFIX}"
    is_us_east_1 = cdk.CfnCondition(
        scope, "IsUsEast1", expression=cdk.Fn.condition_equals(region, "us-east-1")
    )
    zone = cdk.Fn.condition_if(
        is_us_east_1.logical_id, _compute_zone("us-east-1"), _compute_zone(region)
    )
    # No other stack knows the condition, but every stack may refer to a resource.
    return ssm.StringParameter(
        scope,
        "Hostname",
        string_value=f"ec2-{dashed}.{zone.to_string()}.{cdk.Aws.URL_SUFFIX}",
    ).string_value


def _compute_zone(region: str) -> str:
    return "compute-1" if region == "us-east-1" else f"{region}.compute"


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
        name = checked(domain_name or f"{_own_label(scope)}.internal")
        hosted_zone = route53.PrivateHostedZone(scope, "HostedZone", vpc=vpc, zone_name=name)
    else:
        name = _name_in(scope, hosted_zone, domain_name)
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
        ip_address=interface.attr_primary_private_ip_address,
        arn=arn("ec2", f"network-interface/{interface.ref}"),
        resource_id=interface.ref,
        is_public=False,
        names=[name, interface.attr_primary_private_ip_address],
    )


def _own_label(scope: Construct) -> str:
    """Unlike that of any other server: aws-cdk-lib's name ends with eight digits of a hash."""
    name = cdk.Names.unique_id(scope).lower()
    return name if len(name) <= _LONGEST_LABEL else name[: _LONGEST_LABEL - 8] + name[-8:]


def _label(scope: Construct) -> str:
    return re.sub("[^a-z0-9]+", "-", scope.node.id.lower()).strip("-")


def _name_in(scope: Construct, hosted_zone: route53.IHostedZone, domain_name: str | None) -> str:
    """The name that was asked for, or the construct's id, in a zone."""
    if domain_name is None:
        zone_name = _zone_name(hosted_zone)
        if zone_name is None:
            raise SettingError(
                "domain_name", "None", "given with a hosted zone that is known by its id only"
            )
        domain_name = f"{_label(scope)}.{zone_name}"
    return checked(domain_name, hosted_zone)


def checked(name: str, hosted_zone: route53.IHostedZone | None = None) -> str:
    """The name as given.

    :raises SettingError: when it is none, or not in the zone.
    """
    matching("domain_name", name, NAME, NAME_ALLOWED)
    if hosted_zone is None or cdk.Token.is_unresolved(name):
        return name
    zone_name = _zone_name(hosted_zone)
    if zone_name is None or cdk.Token.is_unresolved(zone_name):
        return name
    if name != zone_name and not name.endswith(f".{zone_name}"):
        raise SettingError("domain_name", name, f"a name in the hosted zone, {zone_name}")
    return name


def _zone_name(hosted_zone: route53.IHostedZone) -> str | None:
    """The zone's name, if it is known."""
    try:
        return hosted_zone.zone_name.rstrip(".")
    except RuntimeError:  # what jsii makes of aws-cdk-lib's refusal, for a zone by its id
        return None
