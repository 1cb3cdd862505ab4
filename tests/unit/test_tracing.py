"""Where traces go, as far as the template decides it."""

from __future__ import annotations

import json

import aws_cdk as cdk
import pytest
from aws_cdk import aws_secretsmanager as secretsmanager
from hypothesis import given
from hypothesis import strategies as st

from chroma_stack import ChromaTracing, SettingError
from chroma_stack.host import otel
from tests.unit.construct import server_template
from tests.unit.synthesis import host_settings, stack, statements, template, user_data

ENDPOINT = {"otelCollectionEndpoint": "api.honeycomb.io"}
SECRET_ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:headers-AbCdEf"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIU\n-----END CERTIFICATE-----\n"


def test_without_an_endpoint_nothing_is_traced() -> None:
    assert host_settings(template())["OTEL_ENDPOINT"] == ""


def test_the_documented_settings_reach_the_instance() -> None:
    settings = host_settings(
        template(**ENDPOINT, otelServiceName="search", otelGranularity="operation")
    )
    assert settings["OTEL_ENDPOINT"] == "api.honeycomb.io"
    assert settings["OTEL_SERVICE_NAME"] == "search"
    assert settings["OTEL_GRANULARITY"] == "operation"


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("api.honeycomb.io", ("api.honeycomb.io", 443, True)),
        ("collector.internal:4317", ("collector.internal", 4317, True)),
        ("https://api.honeycomb.io", ("api.honeycomb.io", 443, True)),
        ("https://api.honeycomb.io:8443/", ("api.honeycomb.io", 8443, True)),
        ("http://collector.internal", ("collector.internal", 4317, False)),
        ("http://10.0.0.5:4318", ("10.0.0.5", 4318, False)),
    ],
)
def test_an_endpoint_has_tls_unless_told_otherwise(
    text: str, endpoint: tuple[str, int, bool]
) -> None:
    assert otel.parse_endpoint(text) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        '{"x-honeycomb-team": "abc", "x-other": "d=e"}',
        "{'x-honeycomb-team': 'abc', 'x-other': 'd=e'}",
        "x-honeycomb-team=abc,x-other=d=e",
        " X-Honeycomb-Team = abc , x-other=d=e\n",
    ],
)
def test_headers_may_be_written_in_each_documented_form(text: str) -> None:
    assert otel.parse_headers(text) == {"x-honeycomb-team": "abc", "x-other": "d=e"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("authorization=Basic%20abc%3D%3D", "Basic abc=="),
        ("authorization=Basic abc==", "Basic abc=="),
        ("authorization=a%2Cb", "a,b"),
        ("authorization=a+b%", "a+b%"),
        ('{"authorization": "Basic%20abc"}', "Basic%20abc"),
        ("{'authorization': 'Basic%20abc'}", "Basic%20abc"),
    ],
)
def test_values_are_percent_decoded_in_the_form_that_opentelemetry_encodes_them_in(
    text: str, value: str
) -> None:
    assert otel.parse_headers(text) == {"authorization": value}


@pytest.mark.parametrize("encoded", ["a=b%0d%0ac:d", "a=%00", "a=%c3%a9"])
def test_what_is_decoded_has_to_be_printable_ascii_too(encoded: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        otel.parse_headers(encoded)


def test_no_headers_are_no_headers() -> None:
    assert otel.parse_headers("{}") == otel.parse_headers("") == {}


@given(st.text(max_size=80))
def test_no_text_of_headers_does_anything_but_be_read_or_refused(text: str) -> None:
    try:
        headers = otel.parse_headers(text)
    except ValueError:
        return
    for line in otel.haproxy_headers(headers).splitlines()[2:]:
        name, value = line.removeprefix("    http-request set-header ").split(" ")
        assert name
        assert set(value[1:-1]) <= set("\\x0123456789abcdef")


def test_headers_given_as_text_are_in_a_secret_and_not_in_the_user_data() -> None:
    made = template(**ENDPOINT, otelCollectionHeaders="{'x-honeycomb-team': 'abcdef'}")
    resources = made.to_json()["Resources"]
    [holder] = [name for name, it in resources.items() if "abcdef" in json.dumps(it)]
    assert resources[holder]["Type"] == "AWS::SecretsManager::Secret"
    assert host_settings(made)["OTEL_HEADERS_SECRET"] == f"<{holder}>"
    assert "abcdef" not in user_data(made)
    assert any(it["Resource"] == {"Ref": holder} for it in statements(made))


def test_cdk_json_may_hold_the_headers_as_an_object() -> None:
    made = stack(**ENDPOINT, otelCollectionHeaders={"x-honeycomb-team": "abc"})
    assert made.server.node.try_find_child("TraceHeaders") is not None


def test_headers_may_be_in_a_secret_of_ones_own() -> None:
    made = template(**ENDPOINT, otelHeadersSecretArn=SECRET_ARN)
    assert host_settings(made)["OTEL_HEADERS_SECRET"] == SECRET_ARN
    assert any(it["Resource"] == SECRET_ARN for it in statements(made))


def test_a_private_authority_travels_as_a_parameter() -> None:
    made = template(**ENDPOINT, otelCaCertificate=CERTIFICATE)
    [parameter] = [
        it for it in made.find_resources("AWS::SSM::Parameter").items() if "Authority" in it[0]
    ]
    assert parameter[1]["Properties"]["Value"] == CERTIFICATE
    assert host_settings(made)["OTEL_AUTHORITY"] == f"<{parameter[0]}>"


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("otelCollectionEndpoint", "grpc://collector:4317", "https://name:port"),
        ("otelCollectionEndpoint", "collector:99999", "an endpoint such as"),
        ("otelCollectionEndpoint", "collector/v1/traces", "an endpoint such as"),
        ("otelCollectionEndpoint", "https://10.0.0.5", "by its name"),
        ("otelCollectionEndpoint", "", "an endpoint such as"),
        ("otelServiceName", "a b", "letters, digits"),
        ("otelGranularity", "some", "none, operation, operation_and_segment, all"),
        ("otelHeadersSecretArn", "headers", "ARN"),
        ("otelCaCertificate", "MIIB", "PEM"),
        ("otelCaCertificate", CERTIFICATE * 100, "4096"),
    ],
)
def test_a_malformed_setting_is_refused_with_a_sentence(key: str, value: str, allowed: str) -> None:
    with pytest.raises(SettingError, match=f"^{key}=") as refusal:
        stack(**{**ENDPOINT, key: value})
    assert allowed in str(refusal.value)


@pytest.mark.parametrize(
    "headers",
    ["abc", "a=b,c", '{"a": 1}', '["a"]', "{'a': 'b'", "te=trailers", "a\x07=b", "é=b"]
    + [f"x{mark}y=b" for mark in "#'\"\\!$%&*+^`|~ "],
)
def test_malformed_headers_are_refused_without_repeating_them(headers: str) -> None:
    with pytest.raises(SettingError, match=r"^otelCollectionHeaders=") as refusal:
        stack(**ENDPOINT, otelCollectionHeaders=headers)
    if headers.isprintable():
        assert headers not in str(refusal.value)


def test_headers_without_an_endpoint_are_refused() -> None:
    with pytest.raises(SettingError, match="otelCollectionEndpoint"):
        stack(otelCollectionHeaders="a=b")


def test_the_construct_takes_headers_as_text_or_as_a_secret_but_not_both() -> None:
    def with_both(stack: cdk.Stack) -> dict[str, object]:
        secret = secretsmanager.Secret(stack, "Headers")
        return {"tracing": ChromaTracing(endpoint="a.b", headers={"a": "b"}, headers_secret=secret)}

    with pytest.raises(SettingError, match="not together with a secret"):
        server_template(with_both)
