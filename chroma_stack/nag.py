"""Why findings of cdk-nag on a server's resources are acknowledged: a reason for each.

Who checks an app with the rules ``AwsSolutions`` of cdk-nag 3 then hears nothing of a server in
it but what is theirs to decide. The acknowledgements are metadata of the constructs, where
``aws_cdk.Validations`` puts them too; nothing of them gets into a template.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct, IConstruct

SERVER = {
    "AwsSolutions-AS3": (
        "The group holds one machine and records its events itself; whom to notify of them is "
        "for the app to say."
    ),
    "AwsSolutions-SMG4": (
        "A new value is only of use once the clients or the collector have it too, so its owner "
        "writes it when they do; the machine takes a new credential up without an interruption."
    ),
    "AwsSolutions-IAM4[Policy::…:policy/AmazonSSMManagedInstanceCore]": (
        "AWS maintains this policy for machines that are managed by Systems Manager, which is "
        "the way to reach this one without SSH."
    ),
    "AwsSolutions-IAM4[Policy::…:policy/service-role/AWSDataLifecycleManagerServiceRole]": (
        "AWS maintains this policy for the snapshots that Data Lifecycle Manager takes, and only "
        "that service can assume the role."
    ),
    "AwsSolutions-IAM5[Resource::…:network-interface/*]": (
        "The id of a machine's network interface is not known before the machine is launched; "
        "the address to be associated with it is named."
    ),
    "AwsSolutions-IAM5[Resource::…:instance/*]": (
        "The id of a machine is not known before it is launched; a condition on its tag limits "
        "the permission to the machines of this server."
    ),
    "AwsSolutions-IAM5[Resource::…:autoScalingGroup:*:autoScalingGroupName/…-*]": (
        "CloudFormation makes the group's id and the end of its name after the policy; the stack "
        "and the group's logical id in it are named."
    ),
    "AwsSolutions-IAM5[Resource::*]": (
        "The actions that are allowed on it know no resources: describing tags and, with an "
        "image in Amazon ECR, logging in there."
    ),
}
"""Findings on the resources of a ``ChromaServer``. ``…`` stands for what differs."""

NETWORK = {
    "AwsSolutions-VPC7": (
        "Flow logs are paid by what flows, so nobody gets them unasked: who wants them adds them "
        "to the network, or gives the server a network that has them."
    ),
}
"""Findings on the network that a ``ChromaStack`` makes when it is given none."""

OPEN_DOOR = {
    "AwsSolutions-EC23": (
        "The server can be reached from wherever the stack's settings say, which is from "
        "everywhere unless they are narrowed, and its door asks everybody for the credential."
    ),
}
"""Findings on who may reach the server of a ``ChromaStack`` that asks for a credential."""

_RULES = {
    "AWS::AutoScaling::AutoScalingGroup": "AwsSolutions-AS3",
    "AWS::EC2::SecurityGroup": "AwsSolutions-EC23",
    "AWS::EC2::VPC": "AwsSolutions-VPC7",
    "AWS::SecretsManager::Secret": "AwsSolutions-SMG4",
}

_KNOW_NO_RESOURCES = {"ec2:DescribeTags", "ecr:GetAuthorizationToken"}
"""https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html and
list_amazonelasticcontainerregistry.html beside it."""


def explain(scope: Construct, reasons: Mapping[str, str] = SERVER) -> None:
    """Acknowledge the findings on the resources that the scope has by now.

    :param scope: what the resources are in.
    :param reasons: the findings, and why they are none. Default: those of a ``ChromaServer``.
    """
    for part in scope.node.find_all():
        acknowledged = {
            finding: reason
            for finding in _findings(part)
            for known, reason in reasons.items()
            if re.fullmatch(".+".join(map(re.escape, known.split("…"))), finding)
        }
        if acknowledged:
            # As `cdk.Validations.of(part).acknowledge` does, which older releases of
            # aws-cdk-lib do not have.
            part.node.add_metadata("aws:cdk:acknowledged-rules", acknowledged)


def _findings(part: IConstruct) -> Iterator[str]:
    """What cdk-nag might say of a resource, of that which there may be a reason for."""
    if isinstance(part, cdk.CfnResource):
        if part.cfn_resource_type in _RULES:
            yield _RULES[part.cfn_resource_type]
        if isinstance(part, iam.CfnRole):
            for arn in cdk.Stack.of(part).resolve(part.managed_policy_arns) or []:
                yield f"AwsSolutions-IAM4[Policy::{_flat(arn)}]"
    elif isinstance(part, iam.Policy):
        # Not its resolved document: that would close it for further statements.
        document = cdk.Stack.of(part).resolve(part.document.to_json()) or {"Statement": []}
        for statement in document["Statement"]:
            for resource in map(_flat, _listed(statement["Resource"])):
                if resource != "*" or _KNOW_NO_RESOURCES.issuperset(_listed(statement["Action"])):
                    yield f"AwsSolutions-IAM5[Resource::{resource}]"


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _flat(value: Any) -> str:
    """A reference as cdk-nag writes it in the name of a finding."""
    match value:
        case str():
            return value
        case {"Ref": name}:
            return f"<{name}>"
        case {"Fn::GetAtt": [name, attribute]}:
            return f"<{name}.{attribute}>"
        case {"Fn::Join": [delimiter, parts]}:
            return str(delimiter).join(map(_flat, parts))
    return ""
