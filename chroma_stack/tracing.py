"""Where the server's traces go."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

import aws_cdk as cdk
from aws_cdk import SecretValue
from aws_cdk import aws_iam as iam
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from chroma_stack.errors import SettingError
from chroma_stack.host import otel

DEFAULT_SERVICE_NAME = "chromadb"
DEFAULT_GRANULARITY = "all"

_PEM = re.compile(
    r"(-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----\s*)+", re.ASCII
)
_LARGEST_PARAMETER = 4096
"""Characters that a standard parameter of Systems Manager, which is free, may hold:
https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-advanced-parameters.html"""
_Parsed = TypeVar("_Parsed")


def check_endpoint(endpoint: str) -> str:
    """The endpoint as given.

    :raises SettingError: when it is none.
    """
    _parsed("endpoint", endpoint, otel.parse_endpoint)
    return endpoint


def check_service_name(service_name: str) -> str:
    """The name as given.

    :raises SettingError: when it is none.
    """
    if not cdk.Token.is_unresolved(service_name) and not re.fullmatch(
        r"[\w./-]{1,255}", service_name, re.ASCII
    ):
        raise SettingError("service_name", service_name, "letters, digits and . _ - /")
    return service_name


def check_granularity(granularity: str) -> str:
    """The granularity as given.

    :raises SettingError: when it is none.
    """
    if not cdk.Token.is_unresolved(granularity) and granularity not in otel.GRANULARITIES:
        raise SettingError("granularity", granularity, ", ".join(otel.GRANULARITIES))
    return granularity


def parse_headers(headers: str) -> dict[str, str]:
    """Headers in one of the forms that Chroma's documentation and OpenTelemetry use.

    :raises SettingError: when they are in none. The message does not repeat the value.
    """
    try:
        return otel.parse_headers(headers)
    except ValueError as allowed:
        raise SettingError("headers", "…", str(allowed)) from None


def check_authority(ca_certificate: str) -> str:
    """The certificates as given.

    :raises SettingError: when they are not in PEM.
    """
    if not _PEM.fullmatch(ca_certificate.strip()) or len(ca_certificate) > _LARGEST_PARAMETER:
        raise SettingError(
            "ca_certificate",
            f"{ca_certificate[:40]}…",
            "certificates in PEM, from -----BEGIN CERTIFICATE----- to "
            f"-----END CERTIFICATE-----, {_LARGEST_PARAMETER} characters in all",
        )
    return ca_certificate


class ChromaTracing:
    """Sends the server's traces, and the metrics that Chroma 1.x exports beside them, to a
    collector that takes OTLP over gRPC.

    They leave through a relay on the machine, which adds the headers and verifies the
    collector's certificate: Chroma itself can do neither. A collector that is down or slow
    costs the server's clients nothing.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        service_name: str = DEFAULT_SERVICE_NAME,
        headers: Mapping[str, str] | None = None,
        headers_secret: secretsmanager.ISecret | None = None,
        granularity: str = DEFAULT_GRANULARITY,
        ca_certificate: str | None = None,
    ) -> None:
        """
        :param endpoint: ``api.honeycomb.io``, ``host:port``, ``https://host[:port]`` or
            ``http://host[:port]``. Without a scheme TLS is used. Default port: 443 with
            TLS, 4317 without.
        :param service_name: the name that traces carry. Default: ``chromadb``.
        :param headers: what the collector wants to see, e.g. a key. They go into a secret,
            but stand in the stack's template on the way; better is ``headers_secret``.
            Default: none.
        :param headers_secret: a secret whose plain string holds the headers: JSON, or
            ``name=value,name2=value2``. Default: none.
        :param granularity: ``none``, ``operation``, ``operation_and_segment`` or ``all``.
            Default: ``all``.
        :param ca_certificate: certificates (PEM) of the authorities that the collector's
            certificate is verified against. Default: those of the operating system.
        :raises SettingError: when a value is none of these.
        """
        if headers and headers_secret is not None:
            raise SettingError("headers", "…", "either headers or headers_secret")
        if headers:
            headers = parse_headers(json.dumps(dict(headers)))
        self.endpoint: str = check_endpoint(endpoint)
        """Where traces go, as it was given."""
        self.service_name: str = check_service_name(service_name)
        """The name that traces carry."""
        self.granularity: str = check_granularity(granularity)
        """How much is traced."""
        self._headers = headers
        self._headers_secret = headers_secret
        self._ca_certificate = None if ca_certificate is None else check_authority(ca_certificate)

    def bind(self, scope: Construct, role: iam.IRole) -> dict[str, str]:
        """Make the headers readable for the role, and return what the machine has to know.

        :param role: the role of the machine.
        """
        secret = self._headers_secret
        if self._headers:
            secret = secretsmanager.Secret(
                scope,
                "TraceHeaders",
                description="Headers that the Chroma server's traces are sent with",
                secret_string_value=SecretValue.unsafe_plain_text(json.dumps(self._headers)),
            )
        if secret is not None:
            secret.grant_read(role)
        authority = ""
        if self._ca_certificate is not None:
            parameter = ssm.StringParameter(
                scope,
                "TraceAuthority",
                description="Authorities that vouch for the collector of the Chroma server's traces",
                string_value=self._ca_certificate,
            )
            parameter.grant_read(role)
            authority = parameter.parameter_name
        return host_settings(
            endpoint=self.endpoint,
            service_name=self.service_name,
            headers_secret="" if secret is None else secret.secret_arn,
            granularity=self.granularity,
            authority=authority,
        )


def host_settings(
    *,
    endpoint: str = "",
    service_name: str = DEFAULT_SERVICE_NAME,
    headers_secret: str = "",
    granularity: str = DEFAULT_GRANULARITY,
    authority: str = "",
) -> dict[str, str]:
    """What ``host/otel.py`` reads; without an endpoint there is no tracing."""
    return {
        "OTEL_ENDPOINT": endpoint,
        "OTEL_SERVICE_NAME": service_name,
        "OTEL_HEADERS_SECRET": headers_secret,
        "OTEL_GRANULARITY": granularity,
        "OTEL_AUTHORITY": authority,
    }


def _parsed(name: str, value: str, parse: Callable[[str], _Parsed]) -> _Parsed | None:
    if cdk.Token.is_unresolved(value):
        return None
    try:
        return parse(value)
    except ValueError as allowed:
        raise SettingError(name, value, str(allowed)) from None
