#!/usr/bin/python3
"""Where the traces go: reads the settings of it, and prepares the OTLP relay.

Run at boot, once. ``chroma_stack/tracing.py`` reads the same settings at synth with the
functions here, so that both refuse the same. Python 3.9, nothing but its library.
"""

from __future__ import annotations

import ast
import ipaddress
import json
import os
import pathlib
import re
import subprocess
import sys
from collections import defaultdict
from typing import NamedTuple
from urllib.parse import unquote

# What CHROMA_OTEL_GRANULARITY means to releases before 1.0, RUST_LOG means to later ones. There
# chroma_tracing makes a span for each request, the storage crates for what they read and
# write, and the rest for their insides.
_REQUESTS = "error,chroma_tracing=trace"
_STORAGE = ",chroma_log=trace,chroma_segment=trace,chroma_index=trace,chroma_sqlite=trace"
GRANULARITIES = {
    "none": "error",
    "operation": _REQUESTS,
    "operation_and_segment": _REQUESTS + _STORAGE,
    "all": "",
}
_RESERVED = {"connection", "content-length", "content-type", "host", "te", "transfer-encoding"}


class Endpoint(NamedTuple):
    """A collector that takes OTLP over gRPC."""

    host: str
    port: int
    tls: bool


def parse_endpoint(text: str) -> Endpoint:
    """``name``, ``name:port``, ``https://name[:port]`` or ``http://name[:port]``.

    Without a scheme TLS is used. The port is 443 with TLS and 4317 without, when left out.
    Raises ValueError.
    """
    match = re.fullmatch(
        r"(?:(?P<scheme>https?)://)?(?P<host>[A-Za-z0-9]+(?:(?:\.|-+)[A-Za-z0-9]+)*)"
        r"(?::(?P<port>[0-9]{1,5}))?/?",
        text,
    )
    if match is None or not 0 < int(match["port"] or 1) < 65536:
        raise ValueError(
            "an endpoint such as api.honeycomb.io, collector.internal:4317, "
            "https://name:port or http://name:port"
        )
    tls = match["scheme"] != "http"
    if tls and _is_address(match["host"]):
        raise ValueError("with TLS, an endpoint by its name: a certificate is verified against it")
    return Endpoint(match["host"], int(match["port"] or (443 if tls else 4317)), tls)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def parse_headers(text: str) -> dict[str, str]:
    """JSON, the same in single quotes, or ``name=value,name2=value2``. Raises ValueError.

    In the last form values are percent-encoded, in the others they are taken as they stand:
    https://opentelemetry.io/docs/specs/otel/protocol/exporter/#specifying-headers-via-environment-variables
    """
    text = text.strip()
    if not text.startswith("{"):
        parts = [part.partition("=") for part in text.split(",") if part]
        headers: object = {name: unquote(value) for name, _, value in parts}
        if not all(equals for _, equals, _ in parts):
            headers = None
    else:
        try:
            headers = json.loads(text)
        except ValueError:
            headers = _python_literal(text)
    if not isinstance(headers, dict):
        raise ValueError('headers as {"name": "value"} or name=value,name2=value2')
    return {_name(name): _value(value) for name, value in headers.items()}


def _python_literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _name(name: object) -> str:
    """A name that gRPC takes: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md"""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9._-]+", name.strip()):
        raise ValueError("names of headers made of letters, digits and . _ -")
    name = name.strip().lower()
    if name in _RESERVED or name.startswith("grpc-"):
        raise ValueError(f"other headers than {name}, which belongs to the protocol")
    return name


def _value(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[ -~]*", value):
        raise ValueError("values of headers made of printable ASCII characters")
    return value.strip()


def haproxy_headers(headers: dict[str, str]) -> str:
    """A ``defaults`` section that sets the headers.

    Each byte of a value is written as ``\\xNN``, and "%" twice, as HAProxy's format wants
    it: nothing in a value has a meaning there.
    """
    lines = ["defaults headers", "    mode http"]
    for name, value in headers.items():
        escaped = "".join(f"\\x{ord(char):02x}" for char in value.replace("%", "%%"))
        lines.append(f'    http-request set-header {name} "{escaped}"')
    return "\n".join(lines) + "\n"


def chroma_environment(service_name: str, granularity: str) -> dict[str, str]:
    """What tells Chroma of either generation to send its traces to the relay."""
    url = "http://otlp-relay:4317"
    variables = {
        "CHROMA_OTEL_COLLECTION_ENDPOINT": url,
        "CHROMA_OTEL_SERVICE_NAME": service_name,
        "CHROMA_OTEL_GRANULARITY": granularity,
        "CHROMA_OPEN_TELEMETRY__ENDPOINT": url,
        "CHROMA_OPEN_TELEMETRY__SERVICE_NAME": service_name,
    }
    if GRANULARITIES[granularity]:
        variables["RUST_LOG"] = GRANULARITIES[granularity]
    return variables


def _read_settings(file: str) -> dict[str, str]:
    """The settings; one that is left out is empty."""
    with open(file) as lines:  # noqa: PTH123
        return defaultdict(str, dict(line.rstrip("\n").split("=", 1) for line in lines))


def _fetch(region: str, query: str, *command: str) -> str:
    """What one call of the AWS command line returns. Raises ValueError."""
    call = ["aws", *command, "--region", region, "--query", query, "--output", "text"]
    call += ["--cli-connect-timeout", "5"]
    answer = subprocess.run(call, capture_output=True, text=True, timeout=120)
    if answer.returncode:
        raise ValueError(f"what can be read, and {command[-1]} cannot: {answer.stderr.strip()}")
    return answer.stdout


def _write(file: str, text: str, mode: int = 0o600) -> None:
    """For root alone, unless told otherwise; systemd hands it to the relay. Written beside and
    renamed, so that a full disk leaves what was there."""
    beside = f"{file}.new"
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as out:
        out.write(text)
    pathlib.Path(beside).replace(file)


def _variables(values: dict[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in values.items())


def main(folder: str = "/etc/chroma") -> None:
    """Writes what ``chroma.service`` and ``chroma-relay.service`` read."""
    settings = _read_settings(f"{folder}/settings")
    chroma: dict[str, str] = {}
    if settings["OTEL_ENDPOINT"]:
        _prepare_relay(folder, settings)
        chroma = chroma_environment(
            settings["OTEL_SERVICE_NAME"] or "chromadb", settings["OTEL_GRANULARITY"] or "all"
        )
    _write(f"{folder}/tracing.env", _variables(chroma))


def _prepare_relay(folder: str, settings: dict[str, str]) -> None:
    endpoint, region = parse_endpoint(settings["OTEL_ENDPOINT"]), settings["REGION"]
    headers, authority = "", "@system-ca"
    if secret := settings["OTEL_HEADERS_SECRET"]:
        fetch = ("secretsmanager", "get-secret-value", "--secret-id", secret)
        headers = _fetch(secret.split(":")[3], "SecretString", *fetch)
    if parameter := settings["OTEL_AUTHORITY"]:
        authority = f"{folder}/relay-ca.pem"
        certificates = _fetch(
            region, "Parameter.Value", "ssm", "get-parameter", "--name", parameter
        )
        _write(authority, certificates, 0o644)
    _write(f"{folder}/relay-headers.cfg", haproxy_headers(parse_headers(headers)))
    relay = {
        "OTEL_HOST": endpoint.host,
        "OTEL_PORT": str(endpoint.port),
        "OTEL_TLS": "yes" if endpoint.tls else "no",
        "OTEL_AUTHORITY": authority,
    }
    _write(f"{folder}/relay.env", _variables(relay))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ValueError as allowed:
        sys.exit(f"tracing: allowed is only {allowed}")
