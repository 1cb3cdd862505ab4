"""Whatever is typed after ``-c``, or stands in ``cdk.json``, is taken or refused in a sentence."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chroma_stack import SettingError, context
from chroma_stack.context import SETTINGS
from chroma_stack.settings import Setting
from tests.unit.synthesis import stack

BY_KEY = {setting.key: setting for setting in SETTINGS if setting.key}

ACCOUNT = "123456789012"
NEAR = [
    "", " ", "  ", "-", "0", "1", "-1", "24", "24.0", "1e3", "007", "65536", "999999999999", "\u0663", "true",
    "True", "null", "None", "{}", "[]", "[1]", "*", "$(id)", "${AWS::Region}", "a b", "é", "\u200b",
    "default", "none", "token", "public", "t3.small", "t3.nano", "1.5.9", "0.4.24", "10.0.0.0/8",
    "10.0.0.1/8", "0.0.0.0/0", "256.0.0.0/8", "10.0.0.0/033", "::/0", "198.18.0.0/29", "198.18.0.0/30",
    "vol-0123456789abcdef0", "snap-0123456789abcdef0", "vpc-0123456789abcdef0", "ami-0123456789abcdef0",
    "chroma.example.com", "Chroma.example.com", "*.example.com", "Z0123456789ABCDEFGHIJ", "required", "off",
    "https://ca.example.com/acme", "http://ca.example.com/acme", "ops@example.com", "ops@example",
    "subnet-0123456789abcdef0", "vpc-12345678", "i-0123456789abcdef0", "https://app.example.com",
    "https://app.example.com:99999", "http://collector:4317", "collector:0", "https://10.0.0.5",
    "api.honeycomb.io", "a..b", "-a.example", "a" * 300, '{"a": "b"}', "{'a': 'b'}", "a=b", "a=b,c",
    f"arn:aws:secretsmanager:eu-west-1:{ACCOUNT}:secret:my-token",
    f"arn:aws:secretsmanager:eu-west-1:{ACCOUNT}:secret:my-token-AbCdEf",
    f"arn:aws-cn:secretsmanager:cn-north-1:{ACCOUNT}:secret:my-token-AbCdEf",
    f"arn:aws-us-gov:secretsmanager:us-gov-west-1:{ACCOUNT}:secret:my-token-AbCdEf",
    f"arn:aws-cn:secretsmanager:eu-west-1:{ACCOUNT}:secret:my-token-AbCdEf",
    f"arn:aws:secretsmanager:cn-north-1:{ACCOUNT}:secret:my-token-AbCdEf",
    f"arn:aws:ssm:eu-west-1:{ACCOUNT}:parameter/my-token",
    f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com/chroma",
    f"{ACCOUNT}.dkr.ecr.cn-north-1.amazonaws.com.cn/chroma:1.5.9",
    "ghcr.io/chroma-core/chroma", "ghcr.io//chroma", "chroma@sha256:" + "0" * 64,
]  # fmt: skip

ID = "-([0-9a-f]{8}|[0-9a-f]{17})"


def _is_cidr(text: str) -> bool:
    """Whether EC2 takes it: strictly, in decimal digits without zeros before them."""
    with contextlib.suppress(ValueError):
        return str(ipaddress.IPv4Network(text)) == text
    return False


def _matches(pattern: str) -> Callable[[str], bool]:
    return lambda text: re.fullmatch(pattern, text, re.ASCII) is not None


def _number(smallest: int, largest: int) -> Callable[[str], bool]:
    return lambda text: text.isascii() and text.isdigit() and smallest <= int(text) <= largest


PART = "[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*"  # distribution/reference, regexp.go
HOST = r"([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"

USABLE: dict[str, Callable[[str], bool]] = {
    "stackName": _matches("[A-Za-z][A-Za-z0-9-]{0,127}"),
    "instanceType": _matches(r"[a-z][a-z0-9-]*\.[a-z0-9-]+"),
    "imageId": _matches("ami" + ID),
    "volumeId": _matches("vol" + ID),
    "snapshotId": _matches("snap" + ID),
    "vpcId": _matches("default|vpc" + ID),
    "subnetType": _matches("public|private-with-egress|isolated"),
    "rootVolumeSize": _number(1, 16384),
    "volumeSize": _number(1, 65536),
    "maxVolumeSize": _number(24, 65536),
    "volumeIops": _number(3000, 12000),
    "volumeThroughput": _number(125, 750),
    "backupSchedule": _matches(r"hourly|daily|every-\d+-hours|cron\([^()\n]+\)"),
    "backupCopyRegion": _matches(r"[a-z]{2,}(-[a-z]{2,}){1,2}-\d"),
    "backupCopyKeyArn": _matches(r"arn:[a-z-]+:kms:eu-west-1:\d{12}:key/.+"),
    "backupRetentionDays": _number(0, 1000),
    "keyName": lambda text: 0 < len(text) <= 255 and text.isascii() and text.strip() == text,
    "allowedCidr": lambda text: all(_is_cidr(it.strip()) for it in text.split(",")),
    "sshCidr": lambda text: all(_is_cidr(it.strip()) for it in text.split(",")),
    "containerCidr": _is_cidr,
    "startEmpty": lambda text: text.lower() in {"true", "false"},
    "users": lambda text: all(
        re.fullmatch("[a-z][a-z0-9-]{0,30}:(read|write|admin)", it.strip())
        for it in text.split(",")
    ),
    "authSecretArn": _matches(r"arn:[a-z-]+:secretsmanager:[a-z0-9-]+:\d{12}:secret:.+-\w{6}"),
    "otelHeadersSecretArn": _matches(
        r"arn:[a-z-]+:secretsmanager:[a-z0-9-]+:\d{12}:secret:.+-\w{6}"
    ),
    "otelCollectionEndpoint": _matches(rf"(https?://)?{HOST}(:\d+)?/?"),
    "otelCollectionHeaders": lambda text: True,  # empty ones are none
    "tls": _matches("optional|required|off"),
    "tlsCertificateSecretArn": _matches(
        r"arn:[a-z-]+:secretsmanager:[a-z0-9-]+:\d{12}:secret:.+-\w{6}"
    ),
    "domainName": _matches(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})+"),
    "hostedZoneId": _matches("Z[A-Z0-9]{1,31}"),
    "acmeDirectory": lambda text: text.startswith("https://") and " " not in text,
    "acmeEmail": lambda text: text.count("@") == 1 and " " not in text,
    "image": _matches(rf"({HOST}(:\d+)?/)?{PART}(/{PART})*(:[\w.-]+)?(@sha256:[0-9a-f]{{64}})?"),
}
"""What CloudFormation, EC2 and the host take, said again in other words, where it can be said."""


def neighbourhood(setting: Setting) -> st.SearchStrategy[Any]:
    """Texts that might be typed for the setting, and what else ``cdk.json`` can hold."""
    near = [*NEAR, setting.default, setting.allowed]
    texts = st.sampled_from(near)
    typed = texts | st.text(max_size=40) | st.builds("{}{}{}".format, texts, st.sampled_from(
        [",", " ", "/", ":", "-", "\n", "é"]), texts)  # fmt: skip
    if setting.pattern:
        typed |= st.from_regex(re.compile(setting.pattern, re.ASCII))
    others = st.integers() | st.just(0.5) | st.booleans() | st.lists(typed, max_size=3)
    return typed | others | st.dictionaries(typed, typed, max_size=2)


NEEDED = {
    **{
        key: {"domainName": "chroma.example.com", "hostedZoneId": "Z0123456789ABCDEFGHIJ"}
        for key in BY_KEY
        if key[:4] == "acme"
    },
    "hostedZoneId": {"domainName": "chroma.example.com"},
    **{key: {"otelCollectionEndpoint": "collector.example"} for key in BY_KEY if key[:4] == "otel"},
    "otelCollectionEndpoint": {},
    "sshCidr": {"keyName": "ops"},
    "backupCopyKeyArn": {"backupCopyRegion": "eu-west-1"},
}
"""What a setting has no meaning without."""


def refusal(key: str, value: Any) -> str:
    """The sentence with which a value is refused; empty when a stack is made of it."""
    try:
        BY_KEY[key].value(context.text(BY_KEY[key], value))
        stack(**NEEDED.get(key, {}), **{key: value})
    except SettingError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("key", BY_KEY)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_value_is_usable_or_refused_in_one_sentence(key: str, data: st.DataObject) -> None:
    value = data.draw(neighbourhood(BY_KEY[key]))
    said = refusal(key, value)
    if said:
        assert said.startswith(f"{key}=")
        assert "\n" not in said
        assert len(said) < 400
    else:
        assert USABLE.get(key, bool)(context.text(BY_KEY[key], value))
