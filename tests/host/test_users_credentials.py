"""The way of the users' credentials to the proxy: who is taken up, and what happens when something cannot be read."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from tests.host.haproxys import AMAZON_LINUX, INSTALLED, haproxy
from tests.host.programs import HOST
from tests.host.proxy import Proxy, as_password, digest, header
from tests.host.recorder import Recorder
from tests.host.test_credential import OLD, Secret, accepted, run, write_settings

GUARDED = "/api/v2/tenants/default_tenant"
USERS = "/chroma/Chroma/Server/users"
BROKEN = {
    "empty": "",
    "JSON": '{"token": "abc123"}',
    "two words": "two words",
    "two lines": "to\nken",
    "a new line of the map": f"token\n{'A' * 64} search:admin",
    "a command for HAProxy": "token\n\nshow info;",
    "another letter": "tökén",
    "over-long": "x" * 8193,
}


class User:
    """A user of the server, whose parameter and secret an owner has made."""

    def __init__(self, proxy: Proxy, name: str, access: str = "read", *, token: str = "") -> None:
        self.proxy, self.name = proxy, name
        self.secret = Secret(proxy, name)
        self.token = token or f"token-of-{name}"
        self.secret.put(self.token)
        self.parameter = self.secret.account / "parameters" / name
        self.parameter.parent.mkdir(exist_ok=True)
        self.has(access)

    def has(self, access: str) -> None:
        self.parameter.write_text(f"{access} {self.secret.arn}")

    def rotate(self, token: str, *, age: float = 0) -> None:
        self.token = token
        self.secret.rotate(token, age=age)

    def remove(self) -> None:
        self.parameter.unlink()

    @property
    def status(self) -> int:
        """How the proxy answers the user."""
        return status(self.proxy, self.token)


def status(proxy: Proxy, token: str) -> int:
    return proxy.get(GUARDED, header("token", token)).status_code


def update(proxy: Proxy) -> subprocess.CompletedProcess[str]:
    """Has the proxy take up what there is, which is more than its main credential may need."""
    taken = run(proxy, "credential")
    assert taken.returncode == 0, taken.stderr
    return taken


def with_limits(proxy: Proxy, **seconds: float) -> subprocess.CompletedProcess[str]:
    """As `update`, with other limits."""
    write_settings(proxy)
    program = (HOST / "credential").read_text()
    for name, value in seconds.items():
        program, found = re.subn(rf"(?m)^{name} = [0-9]+", f"{name} = {value}", program)
        assert found == 1, name
    other = proxy.folder / "credential"
    other.write_text(program)
    other.chmod(0o755)
    return subprocess.run(
        [str(other)], env=proxy.environment, capture_output=True, text=True, timeout=120
    )


def slow_down(proxy: Proxy, word: str) -> None:
    """Has `aws` hang for an action or a region, with a process of its own that holds the pipe open."""
    aws = proxy.folder / "bin" / "aws"
    real = aws.rename(aws.with_name("real-aws"))
    aws.write_text(
        f'#!/bin/bash\n[[ " $* " != *" {word} "* ]] || {{ sleep 60; true; }}\nexec {real} "$@"\n'
    )
    aws.chmod(0o755)


def problems(proxy: Proxy) -> list[str]:
    file = Path(proxy.environment["CREDENTIAL_PROBLEM"])
    return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def proxy(recorder: Recorder, make_proxy: Callable[..., Proxy]) -> Proxy:
    proxy = make_proxy(recorder.address)
    proxy.settings["USERS"] = USERS
    return proxy


@pytest.fixture
def main(proxy: Proxy) -> Secret:
    secret = Secret(proxy)
    secret.put(proxy.credential)
    return secret


@pytest.fixture
def search(proxy: Proxy, main: Secret) -> User:
    return User(proxy, "search", "read")


@pytest.fixture
def ingest(proxy: Proxy, main: Secret) -> User:
    return User(proxy, "ingest", "write")


def test_users_are_let_in_beside_the_main_credential(
    proxy: Proxy, search: User, ingest: User
) -> None:
    assert update(proxy).stdout == "credential: the proxy accepts 3 value(s) from now on\n"
    proxy.start()
    assert (search.status, ingest.status, status(proxy, proxy.credential)) == (200, 200, 200)
    assert accepted(proxy) == ["admin:admin", "ingest:write", "search:read"]
    assert problems(proxy) == []


def test_users_are_let_in_beside_a_user_and_password(
    recorder: Recorder, make_proxy: Callable[..., Proxy]
) -> None:
    proxy = make_proxy(recorder.address, auth="basic", credential="#owner;\\n<<|$x:pass")
    proxy.settings["USERS"] = USERS
    Secret(proxy).put(proxy.credential)
    search = User(proxy, "search")
    update(proxy)
    assert accepted(proxy) == ["#owner;\\n<<|$x:admin", "search:read"]
    proxy.start()
    for _ in range(2):
        assert proxy.get(GUARDED, proxy.right).status_code == 200
        assert search.status == 200
        assert proxy.get(GUARDED, as_password("search", search.token)).status_code == 200
        # As the running proxy takes it up.
        search.rotate("another-token")
        update(proxy)


@pytest.mark.parametrize("release", [INSTALLED, AMAZON_LINUX])
def test_the_name_of_the_main_credential_may_be_any_that_clients_send(
    recorder: Recorder, make_proxy: Callable[..., Proxy], release: str
) -> None:
    every = "".join(chr(it) for it in range(0x21, 0x7F) if chr(it) != ":")
    credential = f"{every}{'x' * 200}:word"
    proxy = make_proxy(
        recorder.address, auth="basic", credential=credential, program=haproxy(release)
    )
    secret = Secret(proxy)
    secret.put(proxy.credential)
    update(proxy)
    proxy.start()
    assert proxy.get(GUARDED, proxy.right).status_code == 200
    update(proxy)
    assert proxy.get(GUARDED, proxy.right).status_code == 200
    assert accepted(proxy) == [f"{every}{'x' * 200}"[:128] + ":admin"]


def test_a_user_is_added_changed_and_removed_while_the_proxy_runs(
    proxy: Proxy, search: User
) -> None:
    update(proxy)
    proxy.start()
    ingest = User(proxy, "ingest", "write")
    assert ingest.status == 401
    update(proxy)
    assert ingest.status == 200
    search.has("admin")
    update(proxy)
    assert accepted(proxy) == ["admin:admin", "ingest:write", "search:admin"]
    search.remove()
    update(proxy)
    assert (search.status, ingest.status) == (401, 200)
    assert accepted(proxy) == ["admin:admin", "ingest:write"]


def test_a_users_value_before_is_accepted_for_15_minutes_and_then_known_as_retired(
    proxy: Proxy, search: User
) -> None:
    update(proxy)
    proxy.start()
    search.rotate("another-token")
    update(proxy)
    assert (status(proxy, "token-of-search"), search.status) == (200, 200)
    search.secret.put("another-token", age=15 * 60)
    update(proxy)
    assert (status(proxy, "token-of-search"), search.status) == (401, 200)
    assert accepted(proxy)[1:] == ["search:read", "search:retired"]
    # One is kept: the last.
    search.rotate("a-third", age=15 * 60)
    update(proxy)
    assert accepted(proxy)[1:] == ["search:read", "search:retired"]
    assert f"{digest('Bearer another-token')} search:retired" in proxy.credentials.read_text()
    # With the user all goes.
    search.remove()
    update(proxy)
    assert accepted(proxy) == ["admin:admin"]


def test_the_main_credentials_value_before_is_known_as_retired_too(
    proxy: Proxy, main: Secret
) -> None:
    main.put("a-first-token")
    update(proxy)
    main.rotate("a-second-token", age=15 * 60)
    update(proxy)
    assert accepted(proxy) == ["admin:admin", "admin:retired"]
    main.rotate("a-first-token", age=15 * 60)
    update(proxy)
    assert proxy.credentials.read_text().splitlines()[1:] == [
        f"{digest('Bearer a-first-token')} admin:admin",
        f"{digest('Bearer a-second-token')} admin:retired",
    ]


def test_writing_the_new_value_twice_locks_out_the_old_one_at_once(
    proxy: Proxy, search: User
) -> None:
    update(proxy)
    proxy.start()
    search.rotate("another-token")
    update(proxy)
    search.rotate("another-token")
    update(proxy)
    assert (status(proxy, "token-of-search"), search.status) == (401, 200)


def test_in_the_steady_state_two_calls_are_enough_for_all_users(proxy: Proxy, main: Secret) -> None:
    for n in range(19):
        User(proxy, f"user-{n}")
    update(proxy)
    before = len(main.calls())
    taken = update(proxy)
    assert (taken.stdout, taken.stderr) == ("", "")
    assert [it.split()[1] for it in main.calls()[before:]] == [
        "get-parameters-by-path",
        "batch-get-secret-value",
    ]


def test_for_a_value_before_secrets_manager_is_asked_once(proxy: Proxy, search: User) -> None:
    update(proxy)
    search.rotate("another-token")
    for _ in range(3):
        update(proxy)
    asked = [it for it in search.secret.calls() if "AWSPREVIOUS" in it]
    assert len(asked) == 1
    assert accepted(proxy)[1:] == ["search:read", "search:read"]


def test_at_boot_the_values_before_are_taken_up_too(proxy: Proxy, search: User) -> None:
    search.rotate("another-token")
    update(proxy)
    assert accepted(proxy)[1:] == ["search:read", "search:read"]


def test_for_a_user_who_is_added_secrets_manager_is_not_asked_for_a_value_before(
    proxy: Proxy, search: User
) -> None:
    update(proxy)
    added = User(proxy, "added")
    added.rotate("another-token")
    update(proxy)
    assert accepted(proxy)[1:] == ["added:read", "search:read"]
    assert not [it for it in search.secret.calls() if "AWSPREVIOUS" in it]


def test_a_value_before_that_could_not_be_asked_for_is_the_one_that_was_accepted(
    proxy: Proxy, search: User
) -> None:
    update(proxy)
    search.rotate("another-token")
    (search.secret.account / "get-secret-value.error").write_text("Could not connect")
    update(proxy)
    assert accepted(proxy)[1:] == ["search:read", "search:read"]
    # When it can, the answer is what counts.
    (search.secret.account / "get-secret-value.error").unlink()
    (search.secret.folder / "AWSPREVIOUS").unlink()
    update(proxy)
    assert accepted(proxy)[1:] == ["search:read", "search:retired"]


def test_a_value_before_stays_however_often_it_cannot_be_asked_for(
    proxy: Proxy, search: User
) -> None:
    update(proxy)
    search.rotate("another-token")
    search.secret.fails("InternalServiceError", stage="AWSPREVIOUS")
    for _ in range(3):
        update(proxy)
        assert f"{digest('Bearer token-of-search')} search:read" in proxy.credentials.read_text()


def calls_for_each_secret(proxy: Proxy, main: Secret) -> list[str]:
    """What the next run asks for beside what it asks for each time: stages and names."""
    before = len(main.calls())
    update(proxy)
    asked = [it.split() for it in main.calls()[before:] if " get-secret-value " in it]
    return sorted(f"{it[5]} {it[3].split(':')[-1][:-7]}" for it in asked)


def test_a_secret_that_changed_is_asked_for_alone_once_for_its_date(
    proxy: Proxy, main: Secret, search: User
) -> None:
    assert calls_for_each_secret(proxy, main) == ["AWSCURRENT chroma", "AWSCURRENT search"]
    assert calls_for_each_secret(proxy, main) == []
    search.rotate("another-token")
    assert calls_for_each_secret(proxy, main) == ["AWSCURRENT search", "AWSPREVIOUS search"]
    assert calls_for_each_secret(proxy, main) == []
    main.rotate("another-main-token", age=OLD)
    assert calls_for_each_secret(proxy, main) == ["AWSCURRENT chroma"]
    assert calls_for_each_secret(proxy, main) == []


def test_a_value_before_ends_without_another_look(proxy: Proxy, main: Secret, search: User) -> None:
    update(proxy)
    search.rotate("another-token", age=30)
    update(proxy)
    with_limits(proxy, GRACE=300)
    assert accepted(proxy)[1:] == ["search:read", "search:read"]
    before = len(main.calls())
    with_limits(proxy, GRACE=30)
    assert accepted(proxy)[1:] == ["search:read", "search:retired"]
    assert not [it for it in main.calls()[before:] if " get-secret-value " in it]


def test_a_value_whose_date_is_not_to_be_had_is_as_old_as_it_is_known(
    proxy: Proxy, main: Secret, search: User
) -> None:
    update(proxy)
    search.rotate("another-token")
    search.secret.fails("InternalServiceError", stage="AWSCURRENT")
    update(proxy)
    first = proxy.credentials.read_text()
    assert accepted(proxy)[1:] == ["search:read", "search:read"]
    update(proxy)
    assert proxy.credentials.read_text() == first
    with_limits(proxy, GRACE=0)
    assert accepted(proxy)[1:] == ["search:read", "search:retired"]
    assert problems(proxy) == []


def test_at_boot_users_are_let_in_without_the_dates_of_their_secrets(
    proxy: Proxy, main: Secret, search: User, ingest: User
) -> None:
    search.rotate("another-token")
    taken = with_limits(proxy, DETAILS_TIMEOUT=0)
    assert (taken.returncode, problems(proxy)) == (0, [])
    assert accepted(proxy) == ["admin:admin", "ingest:write", "search:read"]
    # The main credential's was asked for. The others are the next time.
    expected = ["AWSCURRENT ingest", "AWSCURRENT search", "AWSPREVIOUS search"]
    assert calls_for_each_secret(proxy, main) == expected
    assert accepted(proxy)[1:] == ["ingest:write", "search:read", "search:read"]


def test_the_age_of_the_main_credential_is_that_of_its_value(
    proxy: Proxy, main: Secret, search: User
) -> None:
    made = Path(proxy.environment["CREDENTIAL_MADE"])
    update(proxy)
    for n in range(2):
        main.rotate(f"main-token-{n}", age=(n + 1) * OLD)
        update(proxy)
        date = datetime.fromisoformat(
            json.loads((main.folder / "AWSCURRENT").read_text())["CreatedDate"]
        )
        assert int(made.read_text()) == int(date.timestamp())
    # After a restart of the instance it is there again.
    before = made.read_text()
    made.unlink()
    update(proxy)
    assert made.read_text() == before


def test_a_secret_known_by_its_name_is_read_with_the_others(
    proxy: Proxy, main: Secret, search: User, ingest: User
) -> None:
    search.parameter.write_text(f"read {search.secret.arn[:-7]}")
    update(proxy)
    assert calls_for_each_secret(proxy, main) == []
    assert accepted(proxy) == ["admin:admin", "ingest:write", "search:read"]


def test_a_region_that_cannot_be_reached_does_not_delay_the_others(
    proxy: Proxy, main: Secret, search: User, ingest: User
) -> None:
    search.parameter.write_text(f"read {search.secret.arn.replace('eu-west-1', 'us-west-2')}")
    update(proxy)
    ingest.rotate("another-token", age=OLD)
    slow_down(proxy, "us-west-2")
    # The own region would have the time that it needs.
    taken = with_limits(proxy, CALL_TIMEOUT=50, OTHER_REGION_TIMEOUT=1)
    assert taken.returncode == 0, taken.stderr
    assert accepted(proxy) == ["admin:admin", "ingest:write", "ingest:retired", "search:read"]
    [sentence] = problems(proxy)
    assert "no answer from secretsmanager in 1 seconds; the last good value stays" in sentence


@pytest.mark.parametrize("value", [None, *BROKEN.values()], ids=["denied", *BROKEN])
def test_a_secret_that_cannot_be_used_changes_nothing_for_its_user_or_anybody_else(
    proxy: Proxy, main: Secret, search: User, ingest: User, value: str | None
) -> None:
    update(proxy)
    proxy.start()
    if value is None:
        search.secret.fails()
    else:
        search.secret.put(value)
    search.has("write")
    ingest.rotate("another-token", age=OLD)
    taken = update(proxy)
    assert (search.status, ingest.status, status(proxy, proxy.credential)) == (200, 200, 200)
    assert status(proxy, "token-of-ingest") == 401
    # The access is that of the list, whatever the secret says.
    assert "search:write" in accepted(proxy)
    [sentence] = problems(proxy)
    assert sentence.startswith("user search: the secret ")
    assert sentence.endswith("the last good value stays")
    assert not value or value not in taken.stdout + sentence
    assert taken.stdout.splitlines()[0] == f"credential: {sentence}"
    # It is logged once.
    assert update(proxy).stdout == ""
    search.secret.works()
    search.secret.put("a-good-one")
    search.token = "a-good-one"
    update(proxy)
    assert search.status == 200
    assert problems(proxy) == []


@pytest.mark.parametrize("value", [None, *BROKEN.values()], ids=["missing", *BROKEN])
def test_at_boot_a_users_secret_that_cannot_be_used_is_only_logged(
    proxy: Proxy, search: User, ingest: User, value: str | None
) -> None:
    if value is None:
        search.secret.remove()
    else:
        search.secret.put(value)
    taken = update(proxy)
    assert "credential: user search: the secret " in taken.stdout
    assert "nobody is let in by it" in taken.stdout
    assert accepted(proxy) == ["admin:admin", "ingest:write"]
    proxy.start()
    assert (search.status, ingest.status) == (401, 200)


@pytest.mark.parametrize(
    "parameter",
    [
        "",
        "read",
        "owner arn:aws:secretsmanager:eu-west-1:123456789012:secret:search-AbCdEf",
        "read  arn:aws:secretsmanager:eu-west-1:123456789012:secret:search-AbCdEf",
        "read arn:aws:secretsmanager:eu-west-1:123456789012:secret:search-AbCdEf\n",
        "read arn:aws:secretsmanager:eu-west-1:123456789012:secret:a b",
        "read arn:aws:s3:::bucket",
        "read --endpoint-url=http://example.com",
        "read\n" + "A" * 64 + " search:admin",
    ],
)
def test_a_parameter_of_a_user_that_is_none_is_refused_with_a_sentence(
    proxy: Proxy, search: User, ingest: User, parameter: str
) -> None:
    search.parameter.write_text(parameter)
    update(proxy)
    assert accepted(proxy) == ["admin:admin", "ingest:write"]
    [sentence] = problems(proxy)
    assert sentence.startswith("user search: its parameter has to hold read, write or admin")


@pytest.mark.parametrize("name", ["admin", "chroma", "Search", "1st", "se_arch", "x" * 32])
def test_a_name_that_no_user_may_have_is_refused(proxy: Proxy, search: User, name: str) -> None:
    other = User(proxy, "other", "admin")
    other.parameter.rename(other.parameter.with_name(name))
    update(proxy)
    assert accepted(proxy) == ["admin:admin", "search:read"]
    assert problems(proxy) == [
        f"user {name}: that is no name of a user; nobody is let in by it",
    ]


def test_a_user_named_main_is_one_as_any_other(proxy: Proxy, main: Secret, search: User) -> None:
    user = User(proxy, "main", "write")
    update(proxy)
    user.secret.fails()
    main.rotate("another-main-token", age=OLD)
    update(proxy)
    assert accepted(proxy) == ["admin:admin", "admin:retired", "main:write", "search:read"]


def test_a_name_of_the_main_credential_is_no_users(
    recorder: Recorder, make_proxy: Callable[..., Proxy]
) -> None:
    proxy = make_proxy(recorder.address, auth="basic", credential="search:word")
    proxy.settings["USERS"] = USERS
    Secret(proxy).put(proxy.credential)
    User(proxy, "search")
    update(proxy)
    assert accepted(proxy) == ["search:admin"]
    assert "the name of the main credential" in problems(proxy)[0]


def test_a_value_has_one_user(proxy: Proxy, main: Secret, search: User, ingest: User) -> None:
    update(proxy)
    # Who has it already keeps it; who wants it stays with the value before.
    new = User(proxy, "a-new-one", "admin", token="token-of-search")
    ingest.secret.put(proxy.credential)
    update(proxy)
    assert accepted(proxy) == ["admin:admin", "ingest:write", "search:read"]
    assert [it.split("; ")[1] for it in problems(proxy)] == [
        "nobody is let in by it",
        "the last good value stays",
    ]
    # Two that change places have one each.
    new.remove()
    main.put("another-main-token")
    ingest.secret.put("token-of-search")
    search.secret.put("token-of-ingest")
    update(proxy)
    text = proxy.credentials.read_text()
    assert f"{digest('Bearer token-of-search')} ingest:write\n" in text
    assert f"{digest('Bearer token-of-ingest')} search:read\n" in text
    assert accepted(proxy) == ["admin:admin", "admin:retired", "ingest:write", "search:read"]


def test_the_main_credential_comes_before_a_users(
    proxy: Proxy, main: Secret, search: User, ingest: User
) -> None:
    update(proxy)
    main.put(search.token)
    update(proxy)
    assert accepted(proxy) == ["admin:admin", "admin:retired", "ingest:write"]
    assert "user search: " in problems(proxy)[0]


@pytest.mark.parametrize("boot", [True, False])
def test_a_main_credential_that_cannot_be_read_stays_while_users_go_on(
    proxy: Proxy, main: Secret, search: User, ingest: User, boot: bool
) -> None:
    if not boot:
        update(proxy)
        proxy.start()
    main.fails()
    ingest.remove()
    search.rotate("another-token")
    taken = run(proxy, "credential")
    assert taken.returncode == 1
    assert f"the secret {main.arn} cannot be read: " in taken.stderr
    if boot:
        assert not proxy.credentials.exists()
    else:
        assert "the proxy keeps the last good one" in taken.stderr
        assert (search.status, status(proxy, proxy.credential), ingest.status) == (200, 200, 401)


def test_a_list_that_cannot_be_read_keeps_all_users_while_the_main_credential_goes_on(
    proxy: Proxy, main: Secret, search: User
) -> None:
    update(proxy)
    proxy.start()
    error = main.account / "get-parameters-by-path.error"
    error.write_text("An error occurred (AccessDeniedException) when calling: no.")
    main.rotate("another-main-token")
    taken = update(proxy)
    assert "the list of users cannot be read" in taken.stdout
    assert "all users stay as they are" in problems(proxy)[0]
    assert search.status == 200
    assert status(proxy, "another-main-token") == status(proxy, proxy.credential) == 200
    error.unlink()
    search.remove()
    update(proxy)
    assert (search.status, problems(proxy)) == (401, [])


def test_at_boot_a_list_that_cannot_be_read_is_only_logged(proxy: Proxy, search: User) -> None:
    error = search.secret.account / "get-parameters-by-path.error"
    error.write_text("Could not connect to the endpoint URL")
    taken = with_limits(proxy, LIST_PAUSE=0)
    assert taken.returncode == 0, taken.stderr
    assert "the list of users cannot be read" in taken.stdout
    assert accepted(proxy) == ["admin:admin"]


def test_at_boot_a_list_that_could_not_be_read_is_asked_for_once_more(
    proxy: Proxy, search: User
) -> None:
    (search.secret.account / "get-parameters-by-path.once").write_text("Could not connect")
    with_limits(proxy, LIST_PAUSE=0)
    assert accepted(proxy) == ["admin:admin", "search:read"]
    assert problems(proxy) == []
    # Later there is the next run.
    (search.secret.account / "get-parameters-by-path.once").write_text("Could not connect")
    update(proxy)
    assert len(problems(proxy)) == 1


def test_without_the_setting_there_are_no_users(proxy: Proxy, search: User) -> None:
    update(proxy)
    del proxy.settings["USERS"]
    update(proxy)
    assert accepted(proxy) == ["admin:admin"]
    assert "get-parameters-by-path" not in search.secret.calls()[-1]


def test_a_role_that_may_not_read_many_at_once_reads_one_after_the_other(
    proxy: Proxy, main: Secret, search: User, ingest: User
) -> None:
    (main.account / "batch-get-secret-value.error").write_text(
        "An error occurred (AccessDeniedException) when calling the BatchGetSecretValue operation: no."
    )
    ingest.secret.fails()
    update(proxy)
    assert accepted(proxy) == ["admin:admin", "search:read"]


def test_a_secret_that_is_missing_among_many_is_asked_for_alone(
    proxy: Proxy, main: Secret, search: User, ingest: User
) -> None:
    main.fails(alone=False)
    search.secret.fails(alone=False)
    update(proxy)
    assert accepted(proxy) == ["admin:admin", "ingest:write", "search:read"]


def test_a_busy_secrets_manager_is_not_asked_for_each_one(
    proxy: Proxy, main: Secret, search: User, ingest: User
) -> None:
    update(proxy)
    (main.account / "batch-get-secret-value.error").write_text(
        "An error occurred (ThrottlingException) when calling the BatchGetSecretValue operation."
    )
    before = len(main.calls())
    taken = run(proxy, "credential")
    assert taken.returncode == 1
    assert len(main.calls()) - before == 2
    assert len(problems(proxy)) == 2
    assert accepted(proxy) == ["admin:admin", "ingest:write", "search:read"]


@pytest.mark.parametrize("release", [INSTALLED, AMAZON_LINUX])
def test_two_hundred_users_are_taken_up(
    recorder: Recorder, make_proxy: Callable[..., Proxy], release: str
) -> None:
    proxy = make_proxy(recorder.address, program=haproxy(release))
    proxy.settings["USERS"] = USERS
    Secret(proxy).put(proxy.credential)
    users = [User(proxy, f"user-{n}-{'x' * 20}") for n in range(200)]
    update(proxy)
    proxy.start()
    assert {it.status for it in users[::20]} == {200}
    for user in users:
        user.rotate(f"another-{user.name}")
    update(proxy)
    assert {it.status for it in users} == {200}
    assert {status(proxy, f"token-of-{it.name}") for it in users[::20]} == {200}


def test_the_file_with_users_is_for_root_and_haproxy_only(proxy: Proxy, search: User) -> None:
    update(proxy)
    assert stat.S_IMODE(proxy.credentials.stat().st_mode) == 0o640


def test_two_updates_at_once_do_no_harm(proxy: Proxy, search: User, ingest: User) -> None:
    update(proxy)
    proxy.start()
    for n in range(3):
        search.rotate(f"value-{n}")
        updates = [threading.Thread(target=run, args=(proxy, "credential")) for _ in range(4)]
        for it in updates:
            it.start()
        for it in updates:
            it.join()
        assert (search.status, ingest.status) == (200, 200)
    assert accepted(proxy).count("search:read") == 2


@pytest.mark.parametrize("token_header", ["", "Authorization", "X-Chroma-Token"])
def test_the_self_test_fails_where_a_reader_may_delete(
    recorder: Recorder, make_proxy: Callable[..., Proxy], token_header: str
) -> None:
    proxy = make_proxy(recorder.address, token_header=token_header)
    proxy.settings["USERS"] = USERS
    Secret(proxy).put(proxy.credential)
    User(proxy, "ingest", "write")
    User(proxy, "search", "read")
    update(proxy)
    proxy.start()
    tested = run(proxy, "self-test")
    assert (tested.returncode, tested.stderr) == (0, "")
    asked = [it for it in proxy.log_lines() if it["method"] == "DELETE"]
    assert {(it["user"], it["status"]) for it in asked} == {("search", 403)}
    proxy.stop()
    table = Path(proxy.environment["PROXY_ACCESS"]).read_text()
    wrong_table = proxy.folder / "access.map"
    wrong_table.write_text(table.replace(" admin", " read"))
    proxy.environment["PROXY_ACCESS"] = str(wrong_table)
    proxy.start()
    tested = run(proxy, "self-test")
    assert tested.returncode == 1
    assert "a user who may only read is not refused: DELETE was answered with 200" in tested.stderr


def test_a_reader_who_cannot_be_read_or_has_changed_does_not_fail_the_self_test(
    proxy: Proxy, search: User
) -> None:
    update(proxy)
    proxy.start()
    search.secret.put("another-token")
    assert run(proxy, "self-test").returncode == 0
    search.secret.fails()
    assert run(proxy, "self-test").returncode == 0
    search.remove()
    tested = run(proxy, "self-test")
    assert (tested.returncode, tested.stderr) == (0, "")


def test_a_list_that_does_not_come_is_given_up(proxy: Proxy, main: Secret, search: User) -> None:
    update(proxy)
    main.rotate("another-main-token")
    slow_down(proxy, "get-parameters-by-path")
    taken = with_limits(proxy, CALL_TIMEOUT=2)
    assert taken.returncode == 0, taken.stderr
    assert "the list of users cannot be read: no answer from ssm" in taken.stdout
    assert accepted(proxy) == ["admin:admin", "admin:admin", "search:read"]


def test_users_for_whom_there_was_no_time_are_asked_for_the_next_time(
    proxy: Proxy, main: Secret, search: User, ingest: User
) -> None:
    update(proxy)
    new = User(proxy, "new")
    main.rotate("another-main-token", age=OLD)
    slow_down(proxy, "batch-get-secret-value")
    taken = with_limits(proxy, READ_TIMEOUT=3, CALL_TIMEOUT=2)
    assert taken.returncode == 1
    assert {it.split(":")[0] for it in problems(proxy)} >= {"user new"}
    assert accepted(proxy) == ["admin:admin", "ingest:write", "search:read"]
    (proxy.folder / "bin" / "real-aws").rename(proxy.folder / "bin" / "aws")
    update(proxy)
    assert accepted(proxy)[2:] == ["ingest:write", "new:read", "search:read"]
    assert problems(proxy) == []
    assert new.proxy is proxy


def test_a_users_credential_is_in_no_file_argument_or_log(
    proxy: Proxy, main: Secret, search: User
) -> None:
    watchers = proxy.folder / "watchers"
    watchers.mkdir()
    spied = proxy.folder / "spied"
    (watchers / "aws").write_text(
        '#!/bin/bash\n{ printf "%s\\n" "$0" "$@"; env; } >>"$SPIED"\nPATH=${PATH#*:} exec aws "$@"\n'
    )
    (watchers / "aws").chmod(0o755)
    proxy.environment["SPIED"] = str(spied)
    proxy.environment["PATH"] = f"{watchers}:{proxy.environment['PATH']}"
    outputs = [update(proxy)]
    proxy.start()
    search.rotate("open-sesame")
    outputs.append(update(proxy))
    assert search.status == 200
    search.secret.put("open sesame; token-of-search")
    outputs.append(update(proxy))
    for path in proxy.folder.rglob("*"):
        if path.is_file() and main.account not in path.parents:
            content = path.read_text()
            assert "token-of-search" not in content, path
            assert "sesame" not in content, path
    for output in outputs:
        assert "sesame" not in output.stdout + output.stderr
        assert "token-of-search" not in output.stdout + output.stderr
