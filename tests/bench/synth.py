"""What `cdk synth` of this app takes, over an empty app of one stack; and how large the results are.

    python -m tests.bench.synth

Both run in turn; a ratio is between two neighbours, printed is the median.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from chroma_stack.emulator.cdk import find_program
from chroma_stack.user_data import USER_DATA_LIMIT
from tests.cloud.project import PROJECT
from tests.unit.synthesis import TEMPLATE_LIMIT, template, user_data
from tests.unit.test_template import EVERYTHING

ROUNDS = 5
AIM = 1.25
EMPTY_APP = """\
import aws_cdk as cdk
app = cdk.App()
cdk.Stack(app, "Empty")
app.synth()
"""


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        empty = Path(name) / "empty.py"
        empty.write_text(EMPTY_APP)
        for validation in ("true", "false"):
            ours, theirs = [], []
            for _ in range(ROUNDS):
                ours.append(_synth(PROJECT / "app.py", name, validation))
                theirs.append(_synth(empty, name, validation))
            ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
            print(
                f"cdk synth, validation {validation}: {statistics.median(ours):.2f} s, "
                f"{ratio:.2f} of an empty app (aim: {AIM})"
            )
    for what, settings in (("by default", {}), ("with everything", EVERYTHING)):
        made = template(**settings)
        written = json.dumps(made.to_json(), indent=1)  # as the CDK writes it
        print(
            f"{what}: user data {len(user_data(made).encode()):,} of {USER_DATA_LIMIT:,} bytes, "
            f"template {len(written.encode()):,} of {TEMPLATE_LIMIT:,} bytes"
        )


def _synth(app: Path, folder: str, validation: str) -> float:
    command = [find_program() or "cdk", "synth", "--quiet", "--app", f"{sys.executable} {app}"]
    start = time.monotonic()
    subprocess.run(
        [*command, "--output", f"{folder}/cdk.out"],
        cwd=folder,
        env={**os.environ, "CDK_VALIDATION": validation, "PYTHONPATH": str(PROJECT)},
        check=True,
        capture_output=True,
    )
    return time.monotonic() - start


if __name__ == "__main__":
    main()
