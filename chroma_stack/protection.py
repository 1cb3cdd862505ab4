"""What keeps a server from being deleted by mistake."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_autoscaling as autoscaling
from aws_cdk import aws_ec2 as ec2

from chroma_stack.instance import SingletonGroup
from chroma_stack.settings import Setting, flag


def protect_group(group: SingletonGroup, protected: bool) -> None:
    """Have Auto Scaling refuse to delete the group, or no longer refuse it: a property that goes
    from a template may leave the group as it was.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/resource-deletion-protection.html
    """
    resource = group.node.default_child
    assert isinstance(resource, autoscaling.CfnAutoScalingGroup)
    # By an override: older releases of aws-cdk-lib do not know the property.
    resource.add_property_override(
        "DeletionProtection", "prevent-all-deletion" if protected else "none"
    )


def keep_volume(volume: ec2.Volume) -> None:
    """Have a deletion of the stack that comes about all the same leave the volume itself. One that
    is replaced still leaves a snapshot, and one that was made for a stack whose creation failed
    nothing.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-attribute-deletionpolicy.html
    """
    resource = volume.node.default_child
    assert isinstance(resource, cdk.CfnResource)
    resource.cfn_options.deletion_policy = cdk.CfnDeletionPolicy.RETAIN_EXCEPT_ON_CREATE


SETTINGS = (
    Setting(
        key="deletionProtection",
        only="`--enable-termination-protection` of `create-stack` protects a stack of the "
        "published template.",
        option="deletion_protection",
        meaning="`true` protects the stack, the group and the data volume from deletion; `false` "
        "takes the protection away.",
        without="as before, at first unprotected",
        parse=flag,
    ),
)
