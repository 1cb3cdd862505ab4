"""Why a finding of cdk-nag is acknowledged, where the resource is made."""

from __future__ import annotations

from constructs import IConstruct

_METADATA = "aws:cdk:acknowledged-rules"


def acknowledge(construct: IConstruct, rule: str, reason: str) -> None:
    """Acknowledge a finding of cdk-nag 3 on a construct and on what is in it.

    As ``aws_cdk.Validations.of(construct).acknowledge`` does, which older releases of
    aws-cdk-lib do not have. It is metadata of the construct; nothing of it gets into a template.

    :param construct: what the finding is on.
    :param rule: the finding, as cdk-nag prints it.
    :param reason: a sentence for whoever audits the app.
    """
    construct.node.add_metadata(_METADATA, {rule: reason})
