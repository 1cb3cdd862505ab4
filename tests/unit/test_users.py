"""Users: what one more adds to a template, and what it leaves as it was."""

from __future__ import annotations

import functools
import json
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_kms as kms
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk.assertions import Template

from chroma_stack import (
    ChromaAccess,
    ChromaServer,
    ChromaStack,
    SecretArn,
    SettingError,
)
from tests.unit.construct import server_in
from tests.unit.synthesis import host_settings, launch, resource, stack, statements, template
from tests.unit.test_endpoint import client, function_in, imported

SECRET = "AWS::SecretsManager::Secret"
GIVEN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:search-AbCdEf"
USERS = {"users": "search:read,ingest:write,ops:admin"}
PATH = "/chroma/<AWS::StackName>/ChromaStackChromaF179FDA8/users"


def flat(value: Any) -> str:
    """A text that is put together, each reference written as ``<Name>``."""
    parts = value["Fn::Join"][1]
    return "".join(it if isinstance(it, str) else f"<{next(iter(it.values()))}>" for it in parts)


def told(made: Template) -> dict[str, str]:
    """What the instance finds of users: the values of their parameters, by the names."""
    return {
        flat(it["Properties"]["Name"]): flat(it["Properties"]["Value"])
        for it in made.find_resources("AWS::SSM::Parameter").values()
        if "Name" in it["Properties"]
    }


def secrets(made: Template) -> dict[str, Any]:
    """The secrets of users, by their logical ids."""
    return {name: it for name, it in made.find_resources(SECRET).items() if "User" in name}


# --- one more user ---------------------------------------------------------------------------------------------------


def test_each_user_is_told_with_access_and_secret_in_a_parameter_of_the_servers_path() -> None:
    made = template(**USERS)
    assert host_settings(made)["USERS"] == PATH
    names = {"search": "read", "ingest": "write", "ops": "admin"}
    assert told(made).keys() == {f"{PATH}/{name}" for name in names}
    for name, access in names.items():
        said, secret = told(made)[f"{PATH}/{name}"].split(" ")
        assert said == access
        assert secret.strip("<>") in secrets(made)


def test_each_user_has_a_token_of_its_own_like_the_main_one() -> None:
    made = template(**USERS)
    assert len(secrets(made)) == 3
    [main] = [it for name, it in made.find_resources(SECRET).items() if "User" not in name]
    for it in secrets(made).values():
        generated = it["Properties"]["GenerateSecretString"]
        assert generated == main["Properties"]["GenerateSecretString"]
        assert it["Properties"]["Tags"][0]["Key"] == "chroma-server"


def test_a_user_does_not_share_a_credential_with_another_or_with_the_main_one() -> None:
    """Whoever has it could do what the other may."""
    server = server_in(cdk.Stack(cdk.App(), "Shared"))
    server.add_user("search", access=ChromaAccess.READ, secret=SecretArn.of(GIVEN))
    ingest = server.add_user("ingest", access=ChromaAccess.WRITE)
    assert server.secret is not None
    for name, secret in enumerate((server.secret, ingest.secret, SecretArn.of(GIVEN))):
        with pytest.raises(SettingError, match=r"^secret=.*another one than"):
            server.add_user(f"user{name}", access=ChromaAccess.READ, secret=secret)


def test_no_instance_is_replaced_for_a_user() -> None:
    assert launch(template(**USERS)) == launch(template())
    group = "AWS::AutoScaling::AutoScalingGroup"
    assert resource(template(**USERS), group) == resource(template(), group)


def test_a_user_changes_nothing_that_is_there() -> None:
    before, after = template().to_json(), template(**USERS).to_json()
    for section in ("Resources", "Outputs"):
        kept = {name: it for name, it in after[section].items() if name in before[section]}
        assert kept == before[section]


def test_a_secret_of_ones_own_is_read_instead_and_the_instance_allowed_before_it_is_told() -> None:
    theirs = cdk.Stack(cdk.App(), "Theirs")
    mine = secretsmanager.Secret(theirs, "Mine", encryption_key=kms.Key(theirs, "Key"))
    server = server_in(theirs)
    user = server.add_user("search", access=ChromaAccess.READ, secret=mine)
    assert user.secret is mine
    made = Template.from_stack(theirs)
    assert secrets(made) == {}
    [parameter] = [
        it
        for it in made.find_resources("AWS::SSM::Parameter").values()
        if "Name" in it["Properties"]
    ]
    [policy] = [
        name
        for name, it in made.find_resources("AWS::IAM::Policy").items()
        if json.dumps(theirs.resolve(mine.secret_arn)) in json.dumps(it)
    ]
    assert policy in parameter["DependsOn"]
    key = resource(made, "AWS::KMS::Key")["Properties"]["KeyPolicy"]["Statement"]
    assert [it["Action"] for it in key if "ChromaRole" in str(it)] == ["kms:Decrypt"]


def test_a_secret_may_be_named_by_its_arn() -> None:
    theirs = cdk.Stack(cdk.App(), "Theirs")
    user = server_in(theirs).add_user(
        "search", access=ChromaAccess.WRITE, secret=SecretArn.of(GIVEN)
    )
    assert user.secret.secret_arn == GIVEN
    text = json.dumps(Template.from_stack(theirs).find_resources("AWS::SSM::Parameter"))
    assert f"write {GIVEN}" in text


def test_a_user_says_what_it_is() -> None:
    server = server_in(cdk.Stack(cdk.App(), "Theirs"))
    user = server.add_user("search", access=ChromaAccess.READ)
    assert (user.user_name, user.access) == ("search", ChromaAccess.READ)
    assert server.users == {"search": user}


def test_cdk_json_may_hold_users_as_an_object_or_a_list() -> None:
    for users in ({"search": "read", "ingest": "write"}, ["search:read", "ingest:write"]):
        made = stack(users=users).server.users
        assert {name: it.access.value for name, it in made.items()} == {
            "search": "read",
            "ingest": "write",
        }


def test_the_stack_takes_typed_users() -> None:
    made = ChromaStack(cdk.App(), users={"search": ChromaAccess.READ})
    assert made.server.users["search"].access is ChromaAccess.READ


# --- what is refused -------------------------------------------------------------------------------------------------


@functools.cache
def shared() -> ChromaServer:
    """A server with the user ``taken``."""
    server = server_in(cdk.Stack(cdk.App(), "Shared"))
    server.add_user("taken", access=ChromaAccess.READ)
    return server


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("", "a lower-case letter"),
        ("Search", "a lower-case letter"),
        ("-search", "a lower-case letter"),
        ("search_1", "lower-case letters, digits and hyphens"),
        ("a" * 32, "up to 30"),
        ("admin", "not admin or chroma"),
        ("chroma", "not admin or chroma"),
        ("taken", "each name once"),
    ],
)
def test_a_name_that_can_be_no_users_is_refused(name: str, allowed: str) -> None:
    with pytest.raises(SettingError, match=rf"^users='{name}' is refused: .*{allowed}"):
        shared().add_user(name, access=ChromaAccess.READ)


@pytest.mark.parametrize("name", ["a", "a" * 31, "admins", "chroma-2", "a-"])
def test_any_other_name_is_taken(name: str) -> None:
    assert shared().add_user(name, access=ChromaAccess.READ).user_name == name


def test_an_access_that_is_none_is_refused() -> None:
    with pytest.raises(SettingError, match=r"^access='read' is refused: ChromaAccess\.READ"):
        shared().add_user("reader", access="read")  # type: ignore[arg-type]


def test_a_server_without_authentication_has_no_users() -> None:
    with pytest.raises(SettingError, match=r"^users='search' is refused: only with auth=token or"):
        stack(auth="none", users="search:read")


def test_a_name_that_is_given_twice_is_refused() -> None:
    with pytest.raises(SettingError, match=r"^users='search' is refused: each name once"):
        stack(users="search:read,ingest:write,search:write")


def test_a_secret_that_its_arn_does_not_lead_to_is_refused() -> None:
    env = cdk.Environment(account="123456789012", region="cn-north-1")
    server = server_in(cdk.Stack(cdk.App(), "China", env=env))
    with pytest.raises(SettingError, match="a secret in the partition aws-cn"):
        server.add_user("search", access=ChromaAccess.READ, secret=SecretArn.of(GIVEN))


# --- what the instance may do ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", ["token", "basic"])
def test_the_instance_may_list_its_own_users_and_read_their_secrets_only(auth: str) -> None:
    by_action = {
        it["Action"]: it for it in statements(template(auth=auth)) if isinstance(it["Action"], str)
    }
    listed = [flat(it) for it in by_action["ssm:GetParametersByPath"]["Resource"]]
    parameters = "arn:<AWS::Partition>:ssm:<AWS::Region>:<AWS::AccountId>:parameter"
    assert listed == [f"{parameters}{PATH}", f"{parameters}{PATH}/*"]
    # It knows no resources.
    assert by_action["secretsmanager:BatchGetSecretValue"]["Resource"] == "*"
    reads = by_action["secretsmanager:GetSecretValue"]
    [(tag, value)] = reads["Condition"]["StringEquals"].items()
    assert tag == "aws:ResourceTag/chroma-server"
    assert value == {"Fn::Sub": "${AWS::StackName}/ChromaStackChromaF179FDA8"}


def test_without_authentication_there_are_none_to_list() -> None:
    made = template(auth="none", allowedCidr="10.0.0.0/8")
    assert "USERS" not in host_settings(made)
    text = json.dumps(statements(made))
    for action in ("GetParametersByPath", "BatchGetSecretValue", "GetSecretValue"):
        assert action not in text


# --- clients ---------------------------------------------------------------------------------------------------------


def reads(made: Template) -> list[Any]:
    """The secrets that a client may read."""
    return [
        statement["Resource"]
        for name, policy in made.find_resources("AWS::IAM::Policy").items()
        if not name.startswith("Chroma")
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if "secretsmanager:GetSecretValue" in statement["Action"]
    ]


def test_a_client_that_connects_as_a_user_reads_this_users_credential_only() -> None:
    theirs = cdk.Stack(cdk.App(), "Theirs")
    server = server_in(theirs)
    server.add_user("ingest", access=ChromaAccess.WRITE)
    user = server.add_user("search", access=ChromaAccess.READ)
    assert server.grant_connect(function_in(theirs), user=user).success
    made = Template.from_stack(theirs)
    assert reads(made) == [theirs.resolve(user.secret.secret_arn)]
    made.resource_count_is("AWS::EC2::SecurityGroupIngress", 1)


def test_another_principal_may_read_it_for_a_client() -> None:
    theirs = cdk.Stack(cdk.App(), "Theirs")
    server = server_in(theirs)
    user = server.add_user("search", access=ChromaAccess.READ)
    role = client(theirs)
    with pytest.raises(SettingError, match=r"^grantee="):
        server.grant_connect(server, user=user)
    assert server.grant_connect(server, role, user=user).success
    assert user.grant_read(role).success
    assert reads(Template.from_stack(theirs)) == [theirs.resolve(user.secret.secret_arn)]


def test_a_client_in_another_stack_connects_as_a_user() -> None:
    app = cdk.App()
    server = server_in(cdk.Stack(app, "Theirs"))
    user = server.add_user("search", access=ChromaAccess.READ)
    clients = cdk.Stack(app, "Clients")
    server.grant_connect(function_in(clients), user=user)
    app.synth()
    made = Template.from_stack(clients)
    [read] = reads(made)
    assert "ChromaUsersearchCredential" in json.dumps(read)
    made.resource_count_is("AWS::EC2::SecurityGroupIngress", 1)


def test_a_client_of_a_server_made_elsewhere_connects_as_a_user() -> None:
    app = cdk.App()
    user = server_in(cdk.Stack(app, "Theirs")).add_user("search", access=ChromaAccess.READ)
    clients = cdk.Stack(app, "Clients")
    main = secretsmanager.Secret.from_secret_name_v2(clients, "Token", "chroma")
    imported(clients, main).grant_connect(function_in(clients), user=user)
    [read] = reads(Template.from_stack(clients))
    assert "ChromaUsersearchCredential" in json.dumps(read)


def test_another_servers_user_is_refused() -> None:
    theirs = cdk.Stack(cdk.App(), "Theirs")
    user = shared().users["taken"]
    with pytest.raises(SettingError, match=r"^user='taken' is refused: one that add_user of this"):
        server_in(theirs).grant_connect(function_in(theirs), user=user)


def test_the_output_that_prints_a_users_credential_is_there_when_there_are_users() -> None:
    assert "UserCredentialCommand" not in template().to_json()["Outputs"]
    command = flat(template(**USERS).to_json()["Outputs"]["UserCredentialCommand"]["Value"])
    assert f"--name {PATH}/NAME " in command
    assert command.count("NAME") == 1
