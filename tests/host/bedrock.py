"""A stand-in for Amazon Bedrock's runtime: the two calls that the examples make, without a model."""

from __future__ import annotations

import hashlib
import json
import math
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

EMBEDDING_MODEL = "amazon.titan-embed-text-v2:0"
ANSWER_MODEL = "amazon.nova-lite-v1:0"
DIMENSIONS = 1024
"""Those of the embedding model, unless it is asked for fewer."""


def vector(text: str) -> list[float]:
    """Of length one, and always the same for a text; texts with words in common are near to each
    other."""
    values = [0.0] * DIMENSIONS
    for word in re.findall(r"\w+", text.lower()):
        digest = hashlib.sha256(word.encode()).digest()
        values[int.from_bytes(digest[:4], "big") % DIMENSIONS] += 1.0
    length = math.sqrt(sum(value * value for value in values)) or 1.0
    return [value / length for value in values]


class Bedrock:
    """Answers `InvokeModel` with `vector`, and `Converse` with what it was asked. Other models
    there are none."""

    def __init__(self) -> None:
        self.conversations: list[dict[str, Any]] = []
        """The requests of `Converse`."""
        bedrock = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                _, _, model, call = unquote(self.path).split("/")
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer = bedrock._answer(model, call, request)
                body = json.dumps(answer or {"message": f"there is no model {model}"}).encode()
                self.send_response(200 if answer else 404)
                if not answer:
                    self.send_header("x-amzn-ErrorType", "ResourceNotFoundException")
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _answer(self, model: str, call: str, request: dict[str, Any]) -> dict[str, Any] | None:
        if (model, call) == (EMBEDDING_MODEL, "invoke"):
            text = request["inputText"]
            return {"embedding": vector(text), "inputTextTokenCount": len(text.split())}
        if (model, call) == (ANSWER_MODEL, "converse"):
            self.conversations.append(request)
            [message] = request["messages"]
            [content] = message["content"]
            return {
                "output": {"message": {"role": "assistant", "content": [content]}},
                "stopReason": "end_turn",
                "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2},
                "metrics": {"latencyMs": 1},
            }
        return None

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
