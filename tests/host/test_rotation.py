"""A new value of the secret, while clients are at work."""

from __future__ import annotations

import itertools
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from chroma_stack.emulator.moto_server import MotoServer
from tests.host.chroma_servers import ChromaServer
from tests.host.proxy import VERIFY, Proxy, header
from tests.host.test_credential import Secret, run

GUARDED = "/api/v2/tenants/default_tenant"


class Load:
    """Clients that ask without pause, each with the credential that they were told last."""

    def __init__(self, proxy: Proxy, *, tls: bool = False) -> None:
        self.proxy = proxy
        self.url = proxy.https_url if tls else proxy.url
        # Half of the clients of a test over TLS make a connection for each request.
        self._kept = itertools.cycle([True, False] if tls else [True])
        self.credential = proxy.credential
        self.failures: list[str] = []
        self.served = 0
        self._over = threading.Event()

    def client(self) -> None:
        context = ssl.create_default_context(cafile=str(self.proxy.ca))
        limits = httpx.Limits(max_keepalive_connections=None if next(self._kept) else 0)
        with httpx.Client(timeout=10, verify=context, limits=limits) as client:
            while not self._over.is_set():
                headers = header(self.proxy.auth, self.credential)
                try:
                    answer = client.get(self.url + GUARDED, headers=headers)
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                    continue
                self.served += answer.status_code == 200
                if answer.status_code != 200:
                    self.failures.append(f"{answer.status_code} {answer.text}")

    @classmethod
    @contextmanager
    def on(cls, proxy: Proxy, clients: int = 4, *, tls: bool = False) -> Iterator[Load]:
        load = cls(proxy, tls=tls)
        with load.running(clients):
            yield load

    @contextmanager
    def running(self, clients: int) -> Iterator[None]:
        threads = [threading.Thread(target=self.client) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()


def status(proxy: Proxy, credential: str) -> int:
    return proxy.get(GUARDED, header(proxy.auth, credential)).status_code


def test_put_secret_value_is_all_a_user_does_and_no_request_fails(
    chroma: ChromaServer, make_proxy: Callable[..., Proxy]
) -> None:
    proxy = make_proxy(chroma.address, credential="value-0")
    with MotoServer() as aws:
        secrets = aws.client("secretsmanager")
        arn = secrets.create_secret(Name="chroma", SecretString="value-0")["ARN"]
        proxy.settings |= {"AUTH_SECRET": arn, "REGION": aws.region}
        tools = Path(sys.executable).parent
        proxy.environment |= aws.environment | {"PATH": f"{tools}:{proxy.environment['PATH']}"}
        taken = run(proxy, "credential")
        assert taken.returncode == 0, taken.stderr
        proxy.start()
        with Load.on(proxy) as load:
            for n in range(1, 4):
                put = ["secretsmanager", "put-secret-value", "--secret-id", arn]
                subprocess.run(
                    [str(tools / "aws"), *put, "--secret-string", f"value-{n}"],
                    env=proxy.environment,
                    stdout=subprocess.DEVNULL,
                    check=True,
                )
                assert status(proxy, f"value-{n}") == 401
                taken = run(proxy, "credential")
                assert taken.returncode == 0, taken.stderr
                assert status(proxy, f"value-{n}") == 200
                load.credential = f"value-{n}"
                time.sleep(0.2)
        tested = run(proxy, "self-test")
        assert tested.returncode == 0, tested.stderr
    assert load.failures == []
    assert load.served > 100
    assert [status(proxy, f"value-{n}") for n in range(4)] == [401, 401, 200, 200]


@pytest.mark.parametrize("auth", ["token", "basic"])
def test_no_moment_of_a_change_refuses_a_valid_credential(
    chroma: ChromaServer, make_proxy: Callable[..., Proxy], auth: str
) -> None:
    proxy = make_proxy(chroma.address, auth=auth, credential="user:0")
    secret = Secret(proxy)
    secret.put("user:0")
    run(proxy, "credential")
    proxy.start()
    with Load.on(proxy) as load:
        for n in range(1, 21):
            secret.rotate(f"user:{n}")
            taken = run(proxy, "credential")
            assert taken.returncode == 0, taken.stderr
            load.credential = f"user:{n}"
    assert load.failures == []
    assert load.served > 100
    assert status(proxy, "user:20") == status(proxy, "user:19") == 200
    assert status(proxy, "user:18") == 401


def test_two_updates_at_once_do_no_harm(
    chroma: ChromaServer, make_proxy: Callable[..., Proxy]
) -> None:
    proxy = make_proxy(chroma.address, credential="value-0")
    secret = Secret(proxy)
    secret.put("value-0")
    run(proxy, "credential")
    proxy.start()
    with Load.on(proxy) as load:
        for n in range(1, 6):
            secret.rotate(f"value-{n}")
            updates = [threading.Thread(target=run, args=(proxy, "credential")) for _ in range(4)]
            for update in updates:
                update.start()
            for update in updates:
                update.join()
            assert status(proxy, f"value-{n}") == 200
            load.credential = f"value-{n}"
    assert load.failures == []


def test_a_secret_that_holds_bytes_is_refused(make_proxy: Callable[..., Proxy]) -> None:
    proxy = make_proxy("127.0.0.1:9")
    with MotoServer() as aws:
        secrets = aws.client("secretsmanager")
        arn = secrets.create_secret(Name="chroma", SecretBinary=b"a-token")["ARN"]
        proxy.settings |= {"AUTH_SECRET": arn, "REGION": aws.region}
        tools = Path(sys.executable).parent
        proxy.environment |= aws.environment | {"PATH": f"{tools}:{proxy.environment['PATH']}"}
        taken = run(proxy, "credential")
    assert taken.returncode == 1
    assert "no plain string" in taken.stderr
    assert not proxy.credentials.exists()


class Account:
    """Users as a deployment makes them, in an account of their own, with the real command line."""

    path = "/chroma/Chroma/Server/users"

    def __init__(self, aws: MotoServer, proxy: Proxy) -> None:
        self._secrets, self._parameters = aws.client("secretsmanager"), aws.client("ssm")
        self._arns: dict[str, str] = {}
        self.proxy = proxy
        tools = Path(sys.executable).parent
        proxy.environment |= aws.environment | {"PATH": f"{tools}:{proxy.environment['PATH']}"}
        proxy.settings |= {"AUTH_SECRET": self.make("chroma", proxy.credential)}
        proxy.settings |= {"REGION": aws.region, "USERS": self.path}

    def make(self, name: str, value: str) -> str:
        self._arns[name] = self._secrets.create_secret(Name=name, SecretString=value)["ARN"]
        return self._arns[name]

    def add(self, name: str, access: str, token: str) -> None:
        self.make(name, token)
        self.give(name, access)

    def give(self, name: str, access: str) -> None:
        value = f"{access} {self._arns[name]}"
        path = f"{self.path}/{name}"
        self._parameters.put_parameter(Name=path, Type="String", Value=value, Overwrite=True)

    def remove(self, name: str) -> None:
        self._parameters.delete_parameter(Name=f"{self.path}/{name}")
        self.lose(name)

    def lose(self, name: str) -> None:
        """Has the secret be deleted, with what it holds."""
        self._secrets.delete_secret(SecretId=self._arns[name], ForceDeleteWithoutRecovery=True)

    def rotate(self, name: str, token: str) -> None:
        self._secrets.put_secret_value(SecretId=self._arns[name], SecretString=token)

    def take_up(self) -> str:
        """What the instance does every minute, and what it says."""
        taken = run(self.proxy, "credential")
        assert (taken.returncode, taken.stderr) == (0, "")
        return taken.stdout


def test_users_come_change_and_go_and_no_request_of_the_others_fails(
    chroma: ChromaServer, make_proxy: Callable[..., Proxy]
) -> None:
    proxy = make_proxy(chroma.address, credential="value-0")
    with MotoServer() as aws:
        account = Account(aws, proxy)
        account.add("search", "read", "search-0")
        account.take_up()
        proxy.start()
        as_search = Load(proxy)
        as_search.credential = "search-0"
        with Load.on(proxy, 1) as load, as_search.running(1):
            for n in range(12):  # of these one page of parameters has ten
                account.add(f"user-{n}", "write", f"user-{n}-0")
            account.take_up()
            assert {status(proxy, f"user-{n}-0") for n in range(12)} == {200}

            account.rotate("search", "search-1")
            account.rotate("user-1", "user-1-1")
            account.take_up()
            assert [status(proxy, it) for it in ("search-0", "search-1", "user-1-1")] == [200] * 3
            as_search.credential = "search-1"

            missing = f"{proxy.url}{GUARDED}/databases/default_database/collections/none"
            as_it = header("token", "search-1")
            assert httpx.delete(missing, headers=as_it, verify=VERIFY).status_code == 403
            account.give("search", "admin")
            account.take_up()
            assert httpx.delete(missing, headers=as_it, verify=VERIFY).status_code == 404

            account.remove("user-0")
            account.lose("user-2")
            account.rotate("chroma", "value-1")
            said = account.take_up()
            assert [status(proxy, it) for it in ("user-0-0", "user-2-0")] == [401, 200]
            assert said.startswith("credential: user user-2: the secret ")
            assert said.count("credential: user ") == 1
            load.credential = "value-1"
            time.sleep(0.2)
    assert load.failures == as_search.failures == []
    assert min(load.served, as_search.served) > 100
