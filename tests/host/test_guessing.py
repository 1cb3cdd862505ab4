"""Guessing the credential: 20 wrong ones a minute from one address, then none is believed there."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import httpx
import pytest

from tests.host.proxy import VERIFY, Proxy, header
from tests.host.recorder import Recorder

TRANSPORTS = ["plain", "tls"]

GUARDED = "/api/v2/tenants/default_tenant"


@pytest.fixture
def proxy(recorder: Recorder, make_proxy: Callable[..., Proxy]) -> Proxy:
    return make_proxy(recorder.address).start()


def guess(client: httpx.Client, proxy: Proxy, count: int) -> Counter[int]:
    """The statuses that so many different wrong credentials get."""
    return Counter(
        client.get(proxy.url + GUARDED, headers=header("token", f"guess-{n}")).status_code
        for n in range(count)
    )


def from_address(address: str) -> httpx.Client:
    return httpx.Client(
        transport=httpx.HTTPTransport(local_address=address, verify=VERIFY), timeout=30
    )


def test_20_wrong_credentials_are_refused_and_more_are_limited(proxy: Proxy) -> None:
    with httpx.Client(verify=VERIFY) as client:
        assert guess(client, proxy, 50) == {401: 20, 429: 30}
        answer = client.get(proxy.url + GUARDED, headers=proxy.wrong)
        assert answer.status_code == 429
        assert answer.json()["error"] == "RateLimitError"
        assert answer.headers["Retry-After"] == "60"


def test_while_an_address_is_limited_the_right_credential_gets_the_same_answer(
    proxy: Proxy,
) -> None:
    with from_address("127.0.0.4") as client:
        guess(client, proxy, 50)
        wrong = client.get(proxy.url + GUARDED, headers=proxy.wrong)
        right = client.get(proxy.url + GUARDED, headers=proxy.right)
        assert (right.status_code, right.text) == (429, wrong.text)
        assert right.headers == wrong.headers


def test_the_right_credential_passes_from_an_address_where_it_passed_before(proxy: Proxy) -> None:
    with httpx.Client(verify=VERIFY) as client:
        assert client.get(proxy.url + GUARDED, headers=proxy.right).status_code == 200
        guess(client, proxy, 50)
        for _ in range(50):
            assert client.get(proxy.url + GUARDED, headers=proxy.right).status_code == 200


def test_an_open_path_makes_no_address_a_trusted_one(proxy: Proxy) -> None:
    with from_address("127.0.0.5") as client:
        assert client.get(proxy.url + "/api/v2/heartbeat").status_code == 200
        guess(client, proxy, 50)
        assert client.get(proxy.url + "/api/v2/heartbeat").status_code == 200
        assert client.get(proxy.url + GUARDED, headers=proxy.right).status_code == 429


def test_other_addresses_have_their_own_count(proxy: Proxy) -> None:
    with from_address("127.0.0.2") as guesser, from_address("127.0.0.3") as other:
        guess(guesser, proxy, 50)
        assert other.get(proxy.url + GUARDED, headers=proxy.wrong).status_code == 401


def test_requests_without_a_credential_are_no_guesses(proxy: Proxy) -> None:
    with httpx.Client(verify=VERIFY) as client:
        for _ in range(50):
            assert client.get(proxy.url + GUARDED).status_code == 401
            assert client.get(proxy.url + "/api/v2/heartbeat").status_code == 200
        assert client.get(proxy.url + GUARDED, headers=proxy.wrong).status_code == 401


def test_who_is_refused_for_want_of_access_is_trusted_and_does_not_guess(
    recorder: Recorder, make_proxy: Callable[..., Proxy]
) -> None:
    proxy = make_proxy(recorder.address, users={"search": "read"}).start()
    search = proxy.headers_of("search")
    with httpx.Client(verify=VERIFY) as client:
        for _ in range(50):
            assert client.post(proxy.url + "/api/v2/reset", headers=search).status_code == 403
        assert guess(client, proxy, 30) == {401: 20, 429: 10}
        assert client.get(proxy.url + GUARDED, headers=search).status_code == 200
        assert client.post(proxy.url + "/api/v2/reset", headers=search).status_code == 403


def test_an_address_that_guesses_does_not_learn_a_users_credential_from_a_refusal(
    recorder: Recorder, make_proxy: Callable[..., Proxy]
) -> None:
    proxy = make_proxy(recorder.address, users={"search": "read"}).start()
    with from_address("127.0.0.6") as client:
        guess(client, proxy, 50)
        for path in ("/api/v2/reset", "/no/such/path"):
            right = client.post(proxy.url + path, headers=proxy.headers_of("search"))
            assert right.status_code == 429


def test_who_may_read_does_not_guess_the_credential_of_who_may_more(
    recorder: Recorder, make_proxy: Callable[..., Proxy]
) -> None:
    proxy = make_proxy(recorder.address, users={"search": "read", "ingest": "write"}).start()

    def status(client: httpx.Client, headers: dict[str, str]) -> int:
        return client.get(proxy.url + GUARDED, headers=headers).status_code

    search, ingest = proxy.headers_of("search"), proxy.headers_of("ingest")
    with from_address("127.0.0.7") as reader, from_address("127.0.0.8") as writer:
        for client, own in ((reader, search), (writer, ingest)):
            assert status(client, own) == 200
            guess(client, proxy, 50)
        assert [status(reader, it) for it in (search, ingest, proxy.right)] == [200, 429, 429]
        assert [status(writer, it) for it in (search, ingest, proxy.right)] == [200, 200, 429]


def test_what_is_open_to_everybody_tells_of_no_guess_whether_it_was_right(proxy: Proxy) -> None:
    heartbeat = proxy.url + "/api/v2/heartbeat"
    with from_address("127.0.0.9") as client:
        assert client.get(heartbeat, headers=proxy.right).status_code == 200
        guess(client, proxy, 50)
        answers = [client.get(heartbeat, headers=it) for it in (proxy.wrong, proxy.right, {})]
        assert [it.status_code for it in answers] == [200, 200, 200]
        assert client.get(proxy.url + GUARDED, headers=proxy.right).status_code == 429


def test_a_guess_from_a_page_of_another_site_tells_nothing_either(proxy: Proxy) -> None:
    with from_address("127.0.0.10") as client:
        for headers in (proxy.right, proxy.wrong):
            foreign = {**headers, "Origin": "http://another.example"}
            assert client.get(proxy.url + GUARDED, headers=foreign).status_code == 403
        guess(client, proxy, 50)
        assert client.get(proxy.url + GUARDED, headers=proxy.right).status_code == 429


def test_retired_credentials_are_guesses(
    recorder: Recorder, make_proxy: Callable[..., Proxy]
) -> None:
    proxy = make_proxy(recorder.address, users={"late": "retired"}).start()
    late = proxy.headers_of("late")
    with httpx.Client(verify=VERIFY) as client:
        answers = [client.get(proxy.url + GUARDED, headers=late).status_code for _ in range(30)]
        assert answers == [401] * 20 + [429] * 10


def test_right_credentials_are_no_guesses(proxy: Proxy) -> None:
    with httpx.Client(verify=VERIFY) as client:
        for _ in range(50):
            client.get(proxy.url + GUARDED, headers=proxy.right)
        assert client.get(proxy.url + GUARDED, headers=proxy.wrong).status_code == 401


def test_the_limit_ends(proxy: Proxy) -> None:
    with httpx.Client(verify=VERIFY) as client:
        started = time.monotonic()
        guess(client, proxy, 30)
        while client.get(proxy.url + GUARDED, headers=proxy.right).status_code == 429:
            assert time.monotonic() - started < 90
            time.sleep(1)
        assert time.monotonic() - started < 75
