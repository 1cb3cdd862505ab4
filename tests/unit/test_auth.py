"""Who is let in, as far as the template decides it."""

from __future__ import annotations

import json

import aws_cdk as cdk
import pytest

from chroma_stack import ChromaAuth, ChromaStack, SecretArn, SettingError, TokenHeader
from tests.unit.synthesis import host_settings, properties, stack, statements, template, warnings

SECRET = "AWS::SecretsManager::Secret"
BEARER = "Authorization: Bearer TOKEN"
GIVEN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:chroma-AbCdEf"


def test_a_token_is_generated_unless_told_otherwise() -> None:
    generated = properties(template(), SECRET)["GenerateSecretString"]
    assert generated["PasswordLength"] >= 32
    assert generated["ExcludePunctuation"] is True
    assert host_settings(template())["AUTH"] == "token"


@pytest.mark.parametrize(
    ("given", "header", "said"),
    [
        (
            {},
            "",
            f"{BEARER}, or X-Chroma-Token: TOKEN, or TOKEN as the password of the user admin",
        ),
        ({"authTokenHeader": "authorization"}, "Authorization", BEARER),
        ({"authTokenHeader": "x-chroma-token"}, "X-Chroma-Token", "X-Chroma-Token: TOKEN"),
    ],
    ids=["any way", "Authorization", "X-Chroma-Token"],
)
def test_a_token_comes_in_any_way_unless_one_header_is_named(
    given: dict[str, str], header: str, said: str
) -> None:
    made = template(**given)
    assert host_settings(made)["AUTH_TOKEN_HEADER"] == header
    assert made.to_json()["Outputs"]["Authentication"]["Value"] == said


def test_basic_authentication_gets_a_user_and_a_generated_password_as_a_plain_string() -> None:
    secrets = template(auth="basic").find_resources(SECRET).values()
    [plain] = [it["Properties"] for it in secrets if "SecretString" in it["Properties"]]
    text = json.dumps(plain["SecretString"])
    assert "chroma:{{resolve:secretsmanager:" in text
    assert host_settings(template(auth="basic"))["AUTH"] == "basic"


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("chromadb.auth.token_authn.TokenAuthenticationServerProvider", "token"),
        ("chromadb.auth.token.TokenAuthServerProvider", "token"),
        ("chromadb.auth.basic_authn.BasicAuthenticationServerProvider", "basic"),
        ("chromadb.auth.basic.BasicAuthServerProvider", "basic"),
    ],
)
def test_the_class_names_of_chromas_documentation_mean_the_same(name: str, mode: str) -> None:
    assert host_settings(template(auth=name))["AUTH"] == mode


def test_a_given_secret_is_read_and_none_is_made() -> None:
    made = template(authSecretArn=GIVEN)
    assert made.find_resources(SECRET) == {}
    assert host_settings(made)["AUTH_SECRET"] == GIVEN
    reads = [it for it in statements(made) if "secretsmanager:GetSecretValue" in it["Action"]]
    assert [it["Resource"] for it in reads if "Condition" not in it] == [GIVEN]


def test_a_secret_of_another_region_is_asked_for_there() -> None:
    made = template(authSecretArn=GIVEN).to_json()["Outputs"]["CredentialCommand"]["Value"]
    assert "--region eu-central-1 " in made


@pytest.mark.parametrize(
    ("arn", "sentence"),
    [
        (GIVEN.removesuffix("-AbCdEf"), "the six characters at its end"),
        (GIVEN.removesuffix("Ef"), "the six characters at its end"),
        (GIVEN.replace("secretsmanager", "ssm"), "the six characters at its end"),
        (GIVEN.replace("arn:aws:", "arn:aws-cn:"), "another partition"),
        (GIVEN.replace("eu-central-1", "us-gov-west-1"), "another partition"),
    ],
)
def test_a_secret_that_its_arn_does_not_lead_to_is_refused(arn: str, sentence: str) -> None:
    with pytest.raises(SettingError, match=rf"^authSecretArn=.*{sentence}"):
        stack(authSecretArn=arn)


def test_a_secret_in_china_is_taken_in_china_only() -> None:
    arn = "arn:aws-cn:secretsmanager:cn-north-1:123456789012:secret:chroma-AbCdEf"
    auth = ChromaAuth.token(secret=SecretArn.of(arn))
    for region in ("cn-northwest-1", None):
        ChromaStack(cdk.App(), "Chroma", auth=auth, env=cdk.Environment(region=region))
    with pytest.raises(SettingError, match="a secret in the partition aws"):
        ChromaStack(cdk.App(), "Chroma", auth=auth, env=cdk.Environment(region="eu-central-1"))


def test_the_secret_is_nowhere_but_in_secrets_manager() -> None:
    # A reference to the secret's name is there; one to its value would be resolved into
    # the launch template.
    for settings in ({}, {"auth": "basic"}, {"authSecretArn": GIVEN}):
        made = template(**settings).to_json()["Resources"]
        others = {name: it for name, it in made.items() if it["Type"] != SECRET}
        assert "{{resolve:" not in json.dumps(others)


def test_without_authentication_there_is_no_secret_and_the_outputs_say_so() -> None:
    made = template(auth="none", allowedCidr="10.0.0.0/8")
    assert made.find_resources(SECRET) == {}
    outputs = made.to_json()["Outputs"]
    assert "whoever reaches port 8000" in outputs["Authentication"]["Value"]
    assert "CredentialCommand" not in outputs


def test_without_authentication_the_synth_warns() -> None:
    [warning] = warnings(stack(auth="none", allowedCidr="10.0.0.0/8"))
    assert "reads and writes everything" in warning


def test_without_authentication_and_open_to_the_world_it_warns_louder() -> None:
    assert any("ANYONE ON THE INTERNET" in warning for warning in warnings(stack(auth="none")))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"auth": "basic", "authTokenHeader": "X-Chroma-Token"}, "authTokenHeader=.*auth=token"),
        ({"auth": "none", "authSecretArn": GIVEN}, "authSecretArn=.*auth=token or auth=basic"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    settings: dict[str, str], sentence: str
) -> None:
    with pytest.raises(SettingError, match=sentence):
        stack(**settings)


def test_the_typed_values_say_the_same_as_the_names() -> None:
    assert ChromaAuth.of("token") == ChromaAuth.token()
    assert ChromaAuth.of("basic") == ChromaAuth.basic()
    assert ChromaAuth.of("none") == ChromaAuth.none()
    headers = (None, TokenHeader.AUTHORIZATION, TokenHeader.X_CHROMA_TOKEN)
    assert len({ChromaAuth.token(token_header=it) for it in headers}) == 3


def test_origins_reach_the_proxy_with_spaces_between() -> None:
    made = template(corsAllowOrigins="https://a.example, https://b.example:8443")
    assert host_settings(made)["CORS_ALLOW_ORIGINS"] == "https://a.example https://b.example:8443"
