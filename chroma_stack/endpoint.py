"""What clients need of a server, whether it is made in this app or elsewhere."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import cast

import jsii
from aws_cdk import Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from chroma_stack.errors import SettingError

PORT = 8000
"""The port of Chroma's own server, which its clients use by default."""


@dataclass(frozen=True)
class Endpoint:
    """Where clients reach the server."""

    hostname: str
    """A host name or an IP address."""

    port: int
    """The TCP port."""

    @property
    def socket_address(self) -> str:
        """``hostname:port``"""
        return f"{self.hostname}:{self.port}"

    @property
    def url(self) -> str:
        """``http://hostname:port``"""
        return f"http://{self.socket_address}"


@jsii.implements(ec2.IConnectable)
class IChromaServer(Construct, metaclass=jsii.JSIIAbstractClass):
    """A Chroma server as its clients see it: the type to ask for in a construct that uses
    one. Abstract. It is a :class:`chroma_stack.ChromaServer`, or what
    :meth:`chroma_stack.ChromaServer.from_chroma_server_attributes` returns."""

    # jsii finds a property of an interface only when the class has it.
    @property
    @abstractmethod
    def connections(self) -> ec2.Connections:
        """Who may reach the server. The default port is the endpoint's."""

    @property
    @abstractmethod
    def endpoint(self) -> Endpoint:
        """Where clients reach the server."""

    @property
    @abstractmethod
    def secret(self) -> secretsmanager.ISecret | None:
        """Its plain string is the credential: the token, or ``user:password``. ``None`` when
        there is no authentication, or when it is not known here."""

    def grant_connect(
        self, peer: ec2.IConnectable, grantee: iam.IGrantable | None = None
    ) -> iam.Grant:
        """Open the server's port to a client, and let it read the credential.

        ``server.grant_connect(function)`` is all that a Lambda function in a VPC needs, in
        this stack or another. Where there is no authentication, it opens the port only.

        :param peer: the client, such as a function, an instance or an ECS service.
        :param grantee: who reads the credential. Default: the client itself. For an ECS
            service, give the role that does it, e.g. ``task_definition.execution_role``.
        :raises SettingError: when there is a credential, and the client is no principal of
            IAM.
        """
        if grantee is None and hasattr(peer, "grant_principal"):
            grantee = cast("iam.IGrantable", peer)
        if self.secret is not None and grantee is None:
            raise SettingError(
                "grantee", "None", "the role that reads the credential for this client"
            )
        if _same_stack(peer, grantee):
            # The rule goes into their stack, which refers to the server's for the credential
            # already. A rule in the server's stack would refer back, which is a cycle.
            peer.connections.allow_to_default_port(self)
        else:
            self.connections.allow_default_port_from(peer)
        if grantee is None or self.secret is None:
            return iam.Grant.drop(
                grantee or iam.UnknownPrincipal(resource=self), "there is no credential to read"
            )
        return self.secret.grant_read(grantee)

    def grant_read_credential(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal read the credential, and decrypt it where the secret has a
        customer-managed key.

        :param grantee: who may read it.
        :raises SettingError: when the server has no credential.
        """
        if self.secret is None:
            raise SettingError(
                "auth", "none", "token or basic, so that there is a credential to read"
            )
        return self.secret.grant_read(grantee)


def _same_stack(one: object, other: object) -> bool:
    constructs = [it for it in (one, other) if isinstance(it, Construct)]
    return len(constructs) == 2 and len({Stack.of(it).node.addr for it in constructs}) == 1


class ImportedServer(IChromaServer):
    """A server that was made elsewhere."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        endpoint: Endpoint,
        security_group: ec2.ISecurityGroup,
        secret: secretsmanager.ISecret | None,
    ) -> None:
        super().__init__(scope, construct_id)
        self._endpoint = endpoint
        self._secret = secret
        self._connections = ec2.Connections(
            security_groups=[security_group], default_port=ec2.Port.tcp(endpoint.port)
        )

    @property
    def connections(self) -> ec2.Connections:
        return self._connections

    @property
    def endpoint(self) -> Endpoint:
        return self._endpoint

    @property
    def secret(self) -> secretsmanager.ISecret | None:
        return self._secret
