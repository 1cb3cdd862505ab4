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

from tests.cloud.moto_server import MotoServer
from tests.host.chroma_servers import ChromaServer
from tests.host.proxy import Proxy, header
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
        threads = [threading.Thread(target=load.client) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield load
        finally:
            load._over.set()
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
