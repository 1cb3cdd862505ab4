"""Secrets of Secrets Manager that the server is given."""

from __future__ import annotations

import re

from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from chroma_stack.errors import SettingError

_ARN = r"arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:\d{12}:secret:[\w/+=.@-]+"


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
        :raises SettingError: when it is no ARN of a secret.
        """
        if not re.fullmatch(_ARN, arn, re.ASCII):
            raise SettingError("secret", arn, "the ARN of a secret in Secrets Manager")
        return SecretArn(arn)

    def __str__(self) -> str:
        return self.arn


def imported(
    scope: Construct, construct_id: str, secret: secretsmanager.ISecret | SecretArn
) -> secretsmanager.ISecret:
    """The secret as a construct."""
    if isinstance(secret, SecretArn):
        return secretsmanager.Secret.from_secret_complete_arn(scope, construct_id, secret.arn)
    return secret
