"""Where the server's traces go."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import aws_cdk as cdk
from aws_cdk import SecretValue
from aws_cdk import aws_iam as iam
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from chroma_stack.auth import acknowledge_no_rotation
from chroma_stack.errors import SettingError
from chroma_stack.host import otel
from chroma_stack.secrets import SecretArn, imported
from chroma_stack.settings import Setting, matching

DEFAULT_SERVICE_NAME = "chromadb"
DEFAULT_GRANULARITY = "all"

LARGEST_PARAMETER = 4096
"""Characters that a standard parameter of Systems Manager, which is free, may hold:
https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-advanced-parameters.html"""

_SERVICE_NAME = r"[A-Za-z0-9_./-]{1,255}"
_SERVICE_NAME_ALLOWED = "letters, digits and . _ - /"
_GRANULARITY_ALLOWED = ", ".join(otel.GRANULARITIES)
_PEM = r"\s*(-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----\s*)+"
_PEM_ALLOWED = (
    "certificates in PEM, from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----, "
    f"{LARGEST_PARAMETER} characters in all"
)
_HEADER = " *[A-Za-z0-9._-]+ *=[^,]*"
_ADDRESS = r"[0-9]+(\.[0-9]+){3}"
_PORT = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"


class ChromaTracing:
    """Sends the server's traces, and the metrics that Chroma 1.x exports beside them, to a
    collector that takes OTLP over gRPC.

    They leave through a relay on the instance, which adds the headers and verifies the
    collector's certificate: Chroma itself can do neither. A collector that is down or slow
    costs the server's clients nothing.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        service_name: str = DEFAULT_SERVICE_NAME,
        headers: Mapping[str, str] | None = None,
        headers_secret: secretsmanager.ISecret | SecretArn | None = None,
        granularity: str = DEFAULT_GRANULARITY,
        ca_certificate: str | None = None,
    ) -> None:
        """
        :param endpoint: ``api.honeycomb.io``, ``host:port``, ``https://host[:port]`` or
            ``http://host[:port]``. Without a scheme TLS is used. Default port: 443 with
            TLS, 4317 without.
        :param service_name: the name that traces carry. Default: ``chromadb``.
        :param headers: what the collector wants to see, e.g. a key. They go into a secret,
            but are also in the stack's template; better is ``headers_secret``.
            Default: none.
        :param headers_secret: a secret whose plain string holds the headers: JSON, or
            ``name=value,name2=value2`` with percent-encoded values. Default: none.
        :param granularity: ``none``, ``operation``, ``operation_and_segment`` or ``all``.
            Default: ``all``.
        :param ca_certificate: certificates (PEM) of the authorities that the collector's
            certificate is verified against. Default: those of the operating system.
        :raises SettingError: when a value is none of these.
        """
        if headers and headers_secret is not None:
            raise SettingError("headers", "…", "not together with a secret that holds the headers")
        _check_endpoint(endpoint)
        self.endpoint: str = endpoint
        """Where traces go, as it was given."""
        self.service_name: str = matching(
            "service_name", service_name, _SERVICE_NAME, _SERVICE_NAME_ALLOWED
        )
        """The name that traces carry."""
        self.granularity: str = matching(
            "granularity", granularity, "|".join(otel.GRANULARITIES), _GRANULARITY_ALLOWED
        )
        """How much is traced."""
        self._headers = parse_headers(json.dumps(dict(headers))) if headers else None
        self._headers_secret = headers_secret
        if ca_certificate is not None:
            _check_authority(ca_certificate)
        self._ca_certificate = ca_certificate

    def _bind(self, scope: Construct, role: iam.Role) -> dict[str, str]:
        """Make the headers readable for the role, and return what the instance has to know.

        :param role: the role of the instance.
        """
        secret = None
        if self._headers_secret is not None:
            secret = imported(scope, "TraceHeadersGiven", self._headers_secret)
        elif self._headers:
            made = secretsmanager.Secret(
                scope,
                "TraceHeaders",
                description="Headers that the Chroma server's traces are sent with",
                secret_string_value=SecretValue.unsafe_plain_text(json.dumps(self._headers)),
            )
            acknowledge_no_rotation(made)
            secret = made
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


def from_settings(**given: Any) -> ChromaTracing:
    """The tracing that settings describe, by the parameters of :class:`ChromaTracing`.

    :raises SettingError: when there is no endpoint among them, or a value is refused.
    """
    if "endpoint" not in given:
        name = next(iter(given))
        value = "…" if name == "headers" else str(given[name])
        raise SettingError(name, value, "only together with otelCollectionEndpoint")
    return ChromaTracing(**given)


def host_settings(
    *, endpoint: str, service_name: str, headers_secret: str, granularity: str, authority: str = ""
) -> dict[str, str]:
    """What ``host/otel.py`` reads. Where there is no tracing, it finds none of them."""
    return {
        "OTEL_ENDPOINT": endpoint,
        "OTEL_SERVICE_NAME": service_name,
        "OTEL_HEADERS_SECRET": headers_secret,
        "OTEL_GRANULARITY": granularity,
        "OTEL_AUTHORITY": authority,
    }


def parse_headers(headers: str) -> dict[str, str]:
    """Headers in one of the forms that Chroma's documentation and OpenTelemetry use.

    :raises SettingError: when they are in none. The message does not repeat the value.
    """
    try:
        return otel.parse_headers(headers)
    except ValueError as allowed:
        raise SettingError("headers", "…", str(allowed)) from None


def _check_endpoint(endpoint: str) -> None:
    if cdk.Token.is_unresolved(endpoint):
        return
    try:
        otel.parse_endpoint(endpoint)
    except ValueError as allowed:
        raise SettingError("endpoint", endpoint, str(allowed)) from None


def _check_authority(ca_certificate: str) -> None:
    if cdk.Token.is_unresolved(ca_certificate):
        return
    if not re.fullmatch(_PEM, ca_certificate) or len(ca_certificate) > LARGEST_PARAMETER:
        raise SettingError("ca_certificate", f"{ca_certificate[:40]}…", _PEM_ALLOWED)


SETTINGS = (
    Setting(
        key="otelCollectionEndpoint",
        parameter="ChromaOtelCollectionEndpoint",
        option="tracing",
        field="endpoint",
        meaning="Collector for traces (OTLP over gRPC): host[:port] or https://host[:port] with "
        "TLS, http://host[:port] without.",
        without="no tracing",
        pattern=rf"(http://|(https://)?(?!{_ADDRESS}(:|/|$)))"
        rf"[A-Za-z0-9]+((\.|-+)[A-Za-z0-9]+)*(:{_PORT})?/?",
        allowed="an endpoint such as api.honeycomb.io (with TLS by its name, not its address)",
        longest=300,
        parse=str,
    ),
    Setting(
        key="otelServiceName",
        parameter="ChromaOtelServiceName",
        option="tracing",
        field="service_name",
        meaning="Name that the traces carry.",
        without=DEFAULT_SERVICE_NAME,
        pattern=_SERVICE_NAME,
        allowed=_SERVICE_NAME_ALLOWED,
        longest=255,
        parse=str,
    ),
    Setting(
        key="otelCollectionHeaders",
        parameter="ChromaOtelCollectionHeaders",
        option="tracing",
        field="headers",
        meaning='Headers for the collector: {"name": "value"} or name=value,name2=value2.',
        note="They are in the template; better is `otelHeadersSecretArn`.",
        default="{}",
        pattern=rf"(?=[ -~]*$)(|\{{.*\}}|{_HEADER}(,{_HEADER})*)",
        allowed='headers such as {"x-honeycomb-team": "abc"} or x-honeycomb-team=abc',
        parse=parse_headers,
        hidden=True,
    ),
    Setting(
        key="otelHeadersSecretArn",
        only="The published template puts the headers into a secret itself.",
        option="tracing",
        field="headers_secret",
        meaning="Secret whose plain string holds the headers.",
        without="none",
        parse=SecretArn.of,
    ),
    Setting(
        key="otelGranularity",
        parameter="ChromaOtelGranularity",
        option="tracing",
        field="granularity",
        meaning="How much is traced: none, operation, operation_and_segment or all.",
        without=DEFAULT_GRANULARITY,
        values=tuple(otel.GRANULARITIES),
        longest=max(map(len, otel.GRANULARITIES)),
        parse=str,
    ),
    Setting(
        key="otelCaCertificate",
        only="A parameter of a template has one line.",
        option="tracing",
        field="ca_certificate",
        meaning="Certificates (PEM) of the authorities that vouch for the collector.",
        without="those of the operating system",
        parse=str,
        multiline=True,
    ),
)
