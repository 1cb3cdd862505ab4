"""The clients that people use, through the proxy, with the right, a wrong and no credential."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.host.chroma_servers import (
    CURRENT,
    VERSIONS,
    ChromaServer,
    javascript_client,
    python_with_chroma,
)
from tests.host.programs import program
from tests.host.proxy import Proxy, header

HERE = Path(__file__).parent
PROVIDERS = {
    "token": "chromadb.auth.token_authn.TokenAuthClientProvider",
    "basic": "chromadb.auth.basic_authn.BasicAuthClientProvider",
}
MODES = [("token", "Authorization"), ("token", "X-Chroma-Token"), ("basic", "Authorization")]
RIGHT = {"token": "test-token_$(x)'", "basic": "admin:p@ss'word"}
WRONG = {"token": "Test-token_$(x)'", "basic": "admin:P@ss'word"}


def results(
    command: list[str],
    folder: Path,
    proxy: Proxy,
    ways: list[Any],
    variables: dict[str, str] | None = None,
) -> list[str]:
    """What a client prints that comes to the proxy in each of these ways."""
    job = json.dumps({"host": "127.0.0.1", "port": proxy.port, "ways": ways})
    environment = os.environ | (variables or {})
    done = subprocess.run(
        command,
        cwd=folder,
        input=job,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


@pytest.mark.parametrize("how", ["provider", "headers"])
@pytest.mark.parametrize(("auth", "token_header"), MODES)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_python_client_is_served_only_with_the_credential(
    chroma_servers: dict[str, ChromaServer],
    make_proxy: Callable[..., Proxy],
    version: str,
    auth: str,
    token_header: str,
    how: str,
) -> None:
    proxy = make_proxy(
        chroma_servers[version].address,
        auth=auth,
        token_header=token_header,
        credential=RIGHT[auth],
    ).start()

    def way(credential: str) -> dict[str, Any]:
        if how == "headers":
            return {"provider": "headers", "headers": header(auth, credential, token_header)}
        return {"provider": PROVIDERS[auth], "credential": credential, "header": token_header}

    command = [str(python_with_chroma(version)), str(HERE / "clients" / "python_client.py")]
    ways = [way(RIGHT[auth]), way(WRONG[auth]), None, way(RIGHT[auth])]
    right, wrong, none, right_again = results(command, proxy.folder, proxy, ways)
    assert (right, right_again) == ("served", "served")
    for refused in (wrong, none):
        assert refused.startswith("AuthorizationError: Unauthorized: ")
        assert token_header in refused


@pytest.mark.parametrize(("auth", "token_header"), MODES)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_python_program_without_an_option_for_it_takes_the_credential_from_its_environment(
    chroma_servers: dict[str, ChromaServer],
    make_proxy: Callable[..., Proxy],
    version: str,
    auth: str,
    token_header: str,
) -> None:
    proxy = make_proxy(
        chroma_servers[version].address,
        auth=auth,
        token_header=token_header,
        credential=RIGHT[auth],
    ).start()
    command = [str(python_with_chroma(version)), str(HERE / "clients" / "python_client.py")]
    variables = {
        "CHROMA_CLIENT_AUTH_PROVIDER": PROVIDERS[auth],
        "CHROMA_CLIENT_AUTH_CREDENTIALS": RIGHT[auth],
        "CHROMA_AUTH_TOKEN_TRANSPORT_HEADER": token_header,
    }
    assert results(command, proxy.folder, proxy, [None], variables) == ["served"]
    variables["CHROMA_CLIENT_AUTH_CREDENTIALS"] = WRONG[auth]
    [refused] = results(command, proxy.folder, proxy, [None], variables)
    assert refused.startswith("AuthorizationError: Unauthorized: ")


@pytest.mark.parametrize(("auth", "token_header"), MODES)
def test_the_javascript_client_is_served_only_with_the_credential(
    chroma_servers: dict[str, ChromaServer],
    make_proxy: Callable[..., Proxy],
    auth: str,
    token_header: str,
) -> None:
    folder = javascript_client()
    proxy = make_proxy(
        chroma_servers[CURRENT].address,
        auth=auth,
        token_header=token_header,
        credential=RIGHT[auth],
    ).start()
    command = [program("node"), str(HERE / "js" / "client.mjs")]
    right_headers = header(auth, RIGHT[auth], token_header)
    ways = [right_headers, header(auth, WRONG[auth], token_header), None, right_headers]
    right, wrong, none, right_again = results(command, folder, proxy, ways)
    assert (right, right_again) == ("served", "served")
    assert wrong == none == "ChromaUnauthorizedError: Unauthorized"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_that_was_let_in_before_is_not_locked_out_by_one_that_guesses(
    chroma_servers: dict[str, ChromaServer], make_proxy: Callable[..., Proxy], version: str
) -> None:
    proxy = make_proxy(chroma_servers[version].address).start()
    assert proxy.get("/api/v2/auth/identity", proxy.right).status_code == 200
    for _ in range(40):
        last = proxy.get("/api/v2/auth/identity", proxy.wrong)
    assert last.status_code == 429
    headers = {"provider": "headers", "headers": proxy.right}
    wrong = {"provider": "headers", "headers": proxy.wrong}
    command = [str(python_with_chroma(version)), str(HERE / "clients" / "python_client.py")]
    served, limited = results(command, proxy.folder, proxy, [headers, wrong])
    assert served == "served"
    assert limited.startswith("RateLimitError: Too many wrong credentials")
