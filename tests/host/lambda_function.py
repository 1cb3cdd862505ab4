"""The function of `examples/lambda_rag`, started as Lambda does: its module run, with its variables."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from chroma_stack.emulator.moto_server import MotoServer
from tests.host.bedrock import ANSWER_MODEL, EMBEDDING_MODEL, Bedrock

CODE = Path(__file__).parents[2] / "examples" / "lambda_rag" / "function" / "index.py"


def start_function(
    monkeypatch: pytest.MonkeyPatch,
    aws: MotoServer,
    bedrock: Bedrock,
    url: str,
    secret: str,
    **variables: str,
) -> ModuleType:
    """The function for a server at that URL, whose credential is in that secret."""
    environment = {
        **aws.environment,
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": aws.endpoint,
        "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": bedrock.url,
        "CHROMA_URL": url,
        "CHROMA_SECRET": secret,
        "EMBEDDING_MODEL": EMBEDDING_MODEL,
        "ANSWER_MODEL": ANSWER_MODEL,
        **variables,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("index", CODE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
