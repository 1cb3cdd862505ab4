"""The stack: a network, a server in it, and who may reach it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from chroma_stack import nag, outputs
from chroma_stack.auth import AuthMode, ChromaAuth, TokenHeader
from chroma_stack.errors import SettingError
from chroma_stack.network import PublicNetwork
from chroma_stack.server import ChromaServer
from chroma_stack.tracing import DEFAULT_GRANULARITY, DEFAULT_SERVICE_NAME, ChromaTracing

EVERYWHERE = "0.0.0.0/0"


class ChromaStack(cdk.Stack):
    """A Chroma server with all that it needs, as ``cdk deploy`` makes it.

    Its template has no asset and no custom resource, so that it deploys into an account
    that was never bootstrapped, and with plain CloudFormation.
    """

    def __init__(
        self,
        scope: Construct,
        stack_name: str = "ChromaStack",
        *,
        vpc_id: str | None = None,
        allowed_cidrs: Sequence[str] = (EVERYWHERE,),
        auth: ChromaAuth | None = None,
        token_header: TokenHeader | None = None,
        auth_secret_arn: str | None = None,
        volume_id: str | None = None,
        key_name: str | None = None,
        ssh_cidrs: Sequence[str] = (),
        otel_endpoint: str | None = None,
        otel_service_name: str = DEFAULT_SERVICE_NAME,
        otel_headers: Mapping[str, str] | None = None,
        otel_headers_secret_arn: str | None = None,
        otel_granularity: str = DEFAULT_GRANULARITY,
        otel_ca_certificate: str | None = None,
        **server: Any,
    ) -> None:
        """
        :param stack_name: name of the stack. Default: ``ChromaStack``.
        :param vpc_id: ``default``, or the id of a VPC; the server lives in its first
            public subnet. It is looked up by the CDK command line, which needs
            credentials. Default: a small VPC of its own with one public subnet.
        :param allowed_cidrs: IPv4 networks that may reach the server's port. Default: all.
        :param auth: what clients must send. Default: a generated token.
        :param token_header: the header of the token. Default: ``Authorization``.
        :param auth_secret_arn: ARN of the secret that holds the credential. Default: a new
            secret with a generated one.
        :param volume_id: the data volume of an earlier server to go on with. Default: a new
            volume.
        :param key_name: an EC2 key pair for SSH. Default: none.
        :param ssh_cidrs: IPv4 networks that may reach port 22. Default: none.
        :param otel_endpoint: collector for traces. Default: none, and no tracing. This and
            those that follow are the properties of :class:`chroma_stack.ChromaTracing`.
        :param otel_service_name: name that the traces carry. Default: ``chromadb``.
        :param otel_headers: headers for the collector. Default: none.
        :param otel_headers_secret_arn: ARN of a secret that holds them. Default: none.
        :param otel_granularity: how much is traced. Default: ``all``.
        :param otel_ca_certificate: authorities that vouch for the collector. Default: those
            of the operating system.
        :param server: further properties of :class:`chroma_stack.ChromaServer`.
        :raises SettingError: when settings are wrong, or do not go together.
        """
        super().__init__(
            scope,
            stack_name,
            description="A Chroma vector database on one machine that heals itself",
            env=_environment_of_the_command_line() if vpc_id is not None else None,
            # Neither a bootstrap parameter nor a rule nor roles: none of them is needed
            # by a template without assets.
            synthesizer=cdk.LegacyStackSynthesizer(),
        )
        self.server: ChromaServer = ChromaServer(
            self,
            "Chroma",
            vpc=self._vpc(vpc_id),
            vpc_subnets=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PUBLIC),
            volume=self._volume(volume_id, server),
            auth=self._auth(auth or ChromaAuth.token(), token_header, auth_secret_arn),
            key_pair=(
                ec2.KeyPair.from_key_pair_name(self, "KeyPair", key_name) if key_name else None
            ),
            tracing=self._tracing(
                otel_endpoint,
                otel_headers_secret_arn,
                service_name=otel_service_name,
                headers=otel_headers,
                granularity=otel_granularity,
                ca_certificate=otel_ca_certificate,
            ),
            **server,
        )
        """The server."""
        self._open(allowed_cidrs, key_name, ssh_cidrs)
        for name, output in outputs.of(self.server).items():
            cdk.CfnOutput(self, name, description=output.description, value=output.value)

    def _vpc(self, vpc_id: str | None) -> ec2.IVpc:
        if vpc_id == "default":
            return ec2.Vpc.from_lookup(self, "Vpc", is_default=True)
        if vpc_id is not None:
            return ec2.Vpc.from_lookup(self, "Vpc", vpc_id=vpc_id)
        return PublicNetwork(self, "Vpc")

    def _volume(self, volume_id: str | None, server: Mapping[str, Any]) -> ec2.IVolume | None:
        if volume_id is None:
            return None
        if "snapshot_id" in server or "volume_size" in server:
            raise SettingError("volumeId", volume_id, "without snapshotId and volumeSize")
        # Its zone is not asked for; one in another zone cannot be attached, and the boot
        # says so.
        return ec2.Volume.from_volume_attributes(
            self, "VolumeGiven", volume_id=volume_id, availability_zone=self.availability_zones[0]
        )

    def _auth(
        self, auth: ChromaAuth, token_header: TokenHeader | None, secret_arn: str | None
    ) -> ChromaAuth:
        if token_header is not None:
            if auth.mode is not AuthMode.TOKEN:
                raise SettingError("authTokenHeader", token_header.value, "only with auth=token")
            auth = dataclasses.replace(auth, token_header=token_header)
        if secret_arn is not None:
            if auth.mode is AuthMode.NONE:
                raise SettingError("authSecretArn", secret_arn, "only with auth=token or basic")
            secret = secretsmanager.Secret.from_secret_complete_arn(
                self, "CredentialGiven", secret_arn
            )
            auth = dataclasses.replace(auth, secret=secret)
        return auth

    def _tracing(
        self, endpoint: str | None, headers_secret_arn: str | None, **tracing: Any
    ) -> ChromaTracing | None:
        secret = None
        if headers_secret_arn is not None:
            secret = secretsmanager.Secret.from_secret_complete_arn(
                self, "TraceHeadersGiven", headers_secret_arn
            )
        if endpoint is not None:
            return ChromaTracing(endpoint=endpoint, headers_secret=secret, **tracing)
        if secret is not None or tracing["headers"]:
            raise SettingError(
                "otelCollectionHeaders", "…", "only together with otelCollectionEndpoint"
            )
        return None

    def _open(
        self,
        allowed_cidrs: Sequence[str],
        key_name: str | None,
        ssh_cidrs: Sequence[str],
    ) -> None:
        connections = self.server.connections
        for cidr in allowed_cidrs:
            connections.allow_default_port_from(ec2.Peer.ipv4(cidr), "Clients of Chroma")
        if ssh_cidrs and not key_name:
            raise SettingError("sshCidr", ",".join(ssh_cidrs), "only together with keyName")
        for cidr in ssh_cidrs:
            connections.allow_from(ec2.Peer.ipv4(cidr), ec2.Port.SSH, "SSH")
        if key_name and not ssh_cidrs:
            cdk.Annotations.of(self).add_warning_v2(
                "chroma-stack:no-ssh-cidr",
                "keyName is given without sshCidr: the key is installed, port 22 stays closed.",
            )
        if self.server.auth.mode is AuthMode.NONE and EVERYWHERE in allowed_cidrs:
            cdk.Annotations.of(self).add_warning_v2(
                "chroma-stack:open-to-the-world",
                "auth=none and allowedCidr=0.0.0.0/0: ANYONE ON THE INTERNET CAN READ, CHANGE "
                "AND DELETE EVERYTHING in this server. Set allowedCidr, or leave out auth.",
            )
        if self.server.auth.mode is not AuthMode.NONE and EVERYWHERE not in ssh_cidrs:
            nag.explain(self.server, nag.OPEN_DOOR)


def _environment_of_the_command_line() -> cdk.Environment:
    """The account and region that the CDK command line found credentials for."""
    account = os.environ.get("CDK_DEFAULT_ACCOUNT")
    region = os.environ.get("CDK_DEFAULT_REGION")
    if not account or not region:
        raise SettingError(
            "vpcId",
            "given",
            "only with AWS credentials and a region, to look the VPC up",
        )
    return cdk.Environment(account=account, region=region)
