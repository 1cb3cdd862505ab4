"""Secrets of Secrets Manager that the server is given."""

from __future__ import annotations

import re

import aws_cdk as cdk
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk.region_info import RegionInfo
from constructs import Construct

from chroma_stack.errors import SettingError

ARN = r"arn:(aws[a-z-]*):secretsmanager:([a-z0-9-]+):\d{12}:secret:[\w/+=.@-]+-[A-Za-z0-9]{6}"
"""Of a secret, whole."""

ARN_ALLOWED = "the whole ARN of a secret, with the hyphen and the six characters at its end"


class SecretArn:
    """A secret by its ARN, for where there is no construct to import it into yet."""

    def __init__(self, arn: str) -> None:
        """Use :meth:`of` instead.

        :param arn: the ARN, which is not checked here.
        """
        self.arn: str = arn
        """The ARN as it was given."""

    @staticmethod
    def of(arn: str) -> SecretArn:
        """The secret with that ARN.

        :param arn: the whole ARN, with the six characters that Secrets Manager adds.
        :raises SettingError: when it is no whole ARN of a secret.
        """
        match = re.fullmatch(ARN, arn, re.ASCII)
        if match is None:
            raise SettingError("secret", arn, ARN_ALLOWED)
        partition, region = match.groups()
        # None for a region that this release of aws-cdk-lib does not know.
        if RegionInfo.get(region).partition not in {None, partition}:
            raise SettingError("secret", arn, f"{region} is in another partition than {partition}")
        return SecretArn(arn)

    def __str__(self) -> str:
        return self.arn


def imported(
    scope: Construct, construct_id: str, secret: secretsmanager.ISecret | SecretArn
) -> secretsmanager.ISecret:
    """The secret as a construct.

    :raises SettingError: when it is in a partition that the stack's region cannot reach.
    """
    if isinstance(secret, SecretArn):
        region = cdk.Stack.of(scope).region
        known = not cdk.Token.is_unresolved(region)
        partition = RegionInfo.get(region).partition if known else None
        if partition not in {None, secret.arn.split(":")[1]}:
            raise SettingError("secret", secret.arn, f"a secret in the partition {partition}")
        return secretsmanager.Secret.from_secret_complete_arn(scope, construct_id, secret.arn)
    return secret
