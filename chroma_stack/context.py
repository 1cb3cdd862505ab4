"""Context values, all of them text on the command line, become typed settings."""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from constructs import Node

from chroma_stack.auth import ChromaAuth, TokenHeader, check_origin
from chroma_stack.errors import SettingError
from chroma_stack.image import ChromaImage
from chroma_stack.machine import check_instance_type
from chroma_stack.storage import check_snapshot_id, check_volume_size
from chroma_stack.tracing import (
    DEFAULT_GRANULARITY,
    DEFAULT_SERVICE_NAME,
    check_authority,
    check_endpoint,
    check_granularity,
    check_service_name,
    parse_headers,
)
from chroma_stack.version import ChromaVersion


@dataclass(frozen=True)
class Setting:
    """One context key: ``-c key=value``, or ``"key": value`` in ``cdk.json``."""

    key: str
    """The name on the command line."""

    keyword: str
    """The keyword argument of :class:`chroma_stack.ChromaStack` that it becomes."""

    parse: Callable[[str], Any]
    """From text to the typed value; raises :class:`SettingError`."""

    default: str
    """What holds when it is left out, for the documentation."""

    meaning: str
    """One sentence for the documentation."""

    lines: bool = False
    """Whether the value may have more than one line."""


def _matching(pattern: str, allowed: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if not re.fullmatch(pattern, value, re.ASCII):
            raise SettingError("", value, allowed)
        return value

    return parse


def _id(prefix: str) -> str:
    return f"{prefix}-(?:[0-9a-f]{{8}}|[0-9a-f]{{17}})"


def _volume_size(value: str) -> cdk.Size:
    if not re.fullmatch(r"[1-9]\d{0,8}", value, re.ASCII):
        raise SettingError("", value, "a whole number of GiB, 1 or more")
    return check_volume_size(cdk.Size.gibibytes(int(value)))


def _flag(value: str) -> bool:
    if value.lower() not in {"true", "false"}:
        raise SettingError("", value, "true or false")
    return value.lower() == "true"


def _days(value: str) -> cdk.Duration:
    # Data Lifecycle Manager keeps up to 1,000 snapshots:
    # https://docs.aws.amazon.com/dlm/latest/APIReference/API_RetainRule.html
    if not re.fullmatch(r"\d{1,4}", value, re.ASCII) or int(value) > 1000:
        raise SettingError("", value, "a whole number of days from 0 to 1000")
    return cdk.Duration.days(int(value))


def _cidrs(value: str) -> list[str]:
    """Networks in the order given, each once."""
    networks = [_cidr(part.strip()) for part in value.split(",")]
    return list(dict.fromkeys(networks))


def _cidr(value: str) -> str:
    allowed = "IPv4 networks such as 203.0.113.0/24, separated by commas"
    if not re.fullmatch(r"[0-9.]+/\d+", value, re.ASCII):
        raise SettingError("", value, allowed)
    try:
        return str(ipaddress.IPv4Network(value))
    except ValueError:
        pass
    try:
        network = ipaddress.IPv4Network(value, strict=False)
    except ValueError:
        raise SettingError("", value, allowed) from None
    raise SettingError("", value, f"{allowed}; perhaps {network}")


_secret_arn = _matching(
    r"arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:\d{12}:secret:[\w/+=.@-]+",
    "the ARN of a secret in Secrets Manager",
)


SETTINGS = (
    Setting(
        "stackName",
        "stack_name",
        _matching(r"[A-Za-z][A-Za-z0-9-]{0,127}", "up to 128 letters, digits and hyphens"),
        "ChromaStack",
        "Name of the stack; several servers in one account need several names.",
    ),
    Setting(
        "instanceType",
        "instance_type",
        lambda value: check_instance_type(ec2.InstanceType(value)),
        "t3.small",
        "Any current x86-64 or Graviton type with at least 2 GiB of memory.",
    ),
    Setting(
        "chromaVersion",
        "version",
        ChromaVersion.of,
        "1.5.9",
        "Release of Chroma, 0.5.0 or later.",
    ),
    Setting(
        "image",
        "image",
        ChromaImage.from_registry,
        "ghcr.io/chroma-core/chroma",
        "Container image from another registry, from Amazon ECR, or by digest.",
    ),
    Setting(
        "auth",
        "auth",
        ChromaAuth.of,
        "token",
        "What clients must send: `token`, `basic` or `none`.",
    ),
    Setting(
        "authTokenHeader",
        "token_header",
        TokenHeader.of,
        "Authorization",
        "Header of the token: `Authorization` (as a bearer token) or `X-Chroma-Token`.",
    ),
    Setting(
        "authSecretArn",
        "auth_secret_arn",
        _secret_arn,
        "a new secret with a generated credential",
        "Secret whose plain string is the token, or `user:password`.",
    ),
    Setting(
        "corsAllowOrigins",
        "cors_allow_origins",
        lambda value: [check_origin(part.strip()) for part in value.split(",")],
        "none",
        "Origins whose pages may call the server from a browser, separated by commas.",
    ),
    Setting(
        "otelCollectionEndpoint",
        "otel_endpoint",
        check_endpoint,
        "none: no tracing",
        "Collector for traces (OTLP over gRPC): `host[:port]` or `https://host[:port]` with TLS, "
        "`http://host[:port]` without.",
    ),
    Setting(
        "otelServiceName",
        "otel_service_name",
        check_service_name,
        DEFAULT_SERVICE_NAME,
        "Name that the traces carry.",
    ),
    Setting(
        "otelCollectionHeaders",
        "otel_headers",
        parse_headers,
        "none",
        'Headers for the collector: `{"name": "value"}` or `name=value,name2=value2`. They stand '
        "in the template; better is `otelHeadersSecretArn`.",
    ),
    Setting(
        "otelHeadersSecretArn",
        "otel_headers_secret_arn",
        _secret_arn,
        "none",
        "Secret whose plain string holds the headers.",
    ),
    Setting(
        "otelGranularity",
        "otel_granularity",
        check_granularity,
        DEFAULT_GRANULARITY,
        "How much is traced: `none`, `operation`, `operation_and_segment` or `all`.",
    ),
    Setting(
        "otelCaCertificate",
        "otel_ca_certificate",
        check_authority,
        "those of the operating system",
        "Certificates (PEM) of the authorities that vouch for the collector.",
        lines=True,
    ),
    Setting(
        "volumeSize",
        "volume_size",
        _volume_size,
        "24",
        "Size of the data volume in GiB; it may grow later, never shrink.",
    ),
    Setting(
        "snapshotId",
        "snapshot_id",
        check_snapshot_id,
        "none",
        "Snapshot of a data volume to start from.",
    ),
    Setting(
        "startEmpty",
        "start_empty",
        _flag,
        "false",
        "`true` lets the server begin anew on an empty volume although it had data on another.",
    ),
    Setting(
        "backupRetentionDays",
        "backup_retention",
        _days,
        "7",
        "Days for which the daily snapshots of the data are kept, up to 1000; 0 for none.",
    ),
    Setting(
        "volumeId",
        "volume_id",
        _matching(_id("vol"), "an id such as vol-0123456789abcdef0"),
        "a new volume",
        "Data volume of an earlier server to go on with; it stays when the stack is deleted.",
    ),
    Setting(
        "vpcId",
        "vpc_id",
        _matching(
            f"default|{_id('vpc')}",
            "default, or an id such as vpc-0123456789abcdef0",
        ),
        "a small VPC of its own",
        "VPC to live in: an id, or `default` for the account's default VPC.",
    ),
    Setting(
        "allowedCidr",
        "allowed_cidrs",
        _cidrs,
        "0.0.0.0/0",
        "IPv4 networks that may reach port 8000, separated by commas.",
    ),
    Setting(
        "keyName",
        "key_name",
        _matching(r"[\x20-\x7e]{1,255}", "the name of an EC2 key pair"),
        "none",
        "EC2 key pair for SSH; Session Manager works without.",
    ),
    Setting(
        "sshCidr",
        "ssh_cidrs",
        _cidrs,
        "none: port 22 stays closed",
        "IPv4 networks that may reach port 22, separated by commas; needs `keyName`.",
    ),
)


def read(node: Node) -> dict[str, Any]:
    """The settings given as context, as keyword arguments of ``ChromaStack``.

    :param node: the app's node.
    :raises SettingError: when a value is refused, or a key looks like one of ours that was
        misspelt.
    """
    given: Mapping[str, Any] = node.get_all_context()
    for key, value in given.items():
        _refuse_misspelt(key, value)
    return {
        setting.keyword: _parsed(setting, given[setting.key])
        for setting in SETTINGS
        if given.get(setting.key) is not None
    }


def _parsed(setting: Setting, value: Any) -> Any:
    # cdk.json may hold numbers, lists and objects; the command line gives text.
    if isinstance(value, list):
        text = ",".join(map(str, value))
    else:
        text = json.dumps(value) if isinstance(value, dict) else str(value)
    if not setting.lines and not text.isprintable():
        raise SettingError(setting.key, text, "one line of printable text")
    try:
        return setting.parse(text)
    except SettingError as error:
        raise error.named(setting.key) from None


def _refuse_misspelt(key: str, value: Any) -> None:
    keys = {setting.key.lower(): setting.key for setting in SETTINGS}
    if key in keys.values() or ":" in key or "@" in key:
        return
    close = difflib.get_close_matches(re.sub("[^a-z0-9]", "", key.lower()), keys, cutoff=0.8)
    if close:
        raise SettingError(key, value, f"there is no such key; perhaps {keys[close[0]]} is meant")
