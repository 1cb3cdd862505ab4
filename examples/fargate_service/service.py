"""Logs every minute how many collections there are: an example in place of your service."""

from __future__ import annotations

import os
import sys
import time
import urllib.error
import urllib.request

SERVER = f"http://{os.environ['CHROMA_HOST']}:{os.environ['CHROMA_PORT']}"
COUNT = f"{SERVER}/api/v2/tenants/default_tenant/databases/default_database/collections_count"
HEADERS = {"Authorization": f"Bearer {os.environ['CHROMA_CREDENTIAL']}"}
PAUSE = float(os.environ.get("PAUSE", "60"))


def main() -> None:
    """Ask until the credential is refused."""
    while True:
        request = urllib.request.Request(COUNT, headers=HEADERS)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                print(f"{answer.read().decode()} collections", flush=True)
        except urllib.error.HTTPError as error:
            if error.code == 401:
                # ECS starts another task then, which is given the credential of that time.
                sys.exit("the credential is refused")
            print(f"the server answers {error.code}", flush=True)
        except OSError as error:
            print(f"the server does not answer: {error}", flush=True)
        time.sleep(PAUSE)


if __name__ == "__main__":
    main()
