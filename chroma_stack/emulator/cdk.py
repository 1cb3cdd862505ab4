"""Runs the real CDK command line on the app of this package, in a directory of its own.

The template is larger than a request to CloudFormation may be, so a deployment needs the bucket that `cdk bootstrap`
makes, once for each account.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import processes

STACK = "ChromaStack"
"""The name of the stack, unless the context says otherwise."""

APP = "chroma_stack.emulator.app"
PLAIN = {"versionReporting": False, "pathMetadata": False, "assetMetadata": False}
"""What the project's own `cdk.json` says beside the app: a template without the CDK's notes."""

TIMEOUT = 120.0
"""Seconds after which a command has failed; it takes about five."""

Context = Mapping[str, str | int]


class CdkError(Exception):
    """A command ended with an error, or not at all; the message holds all it said."""


def find_program() -> str | None:
    """Where the command line is: in the working directory's `node_modules`, in those of the checkout that this package
    is in, or on `PATH`. None if it is nowhere."""
    for folder in (Path.cwd(), Path(__file__).resolve().parents[2]):
        program = folder / "node_modules" / ".bin" / "cdk"
        if program.exists():
            return str(program)
    return shutil.which("cdk")


def missing_programs() -> str | None:
    """What is missing to run the command line, and the command that brings it; None if all is there."""
    if shutil.which("node") is None:
        return "there is no Node.js: install Node.js 22 or 24"
    if find_program() is None:
        return "the CDK command line is not installed: run npm install aws-cdk@2"
    return None


@dataclass
class Cdk:
    """The command line with an environment and a working directory of its own.

    What the command line writes beside `cdk.json`, above all the `cdk.context.json` with the answers of its look-ups, is
    gone with the directory.
    """

    directory: Path
    environment: Mapping[str, str]
    """The variables that name the account, such as `MotoServer.environment`."""

    bootstrapped: bool = False
    """Whether the account was bootstrapped; otherwise the first deployment does it."""

    context: Context = field(default_factory=dict)
    """Settings that each command has, beside its own."""

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        app = f"{shlex.quote(sys.executable)} -m {APP}"
        settings = {"app": app, **PLAIN, "context": dict(self.context)}
        (self.directory / "cdk.json").write_text(json.dumps(settings))

    def deploy(self, context: Context | None = None, app: str | None = None) -> dict[str, str]:
        """Deploys the stack and returns its outputs. `app`: another command than that of `cdk.json`."""
        self.bootstrap(context, app)
        outputs = self.directory / "outputs.json"
        outputs.unlink(missing_ok=True)
        # direct, without previous parameters: moto's change sets give no outputs and lose the type of a parameter.
        options = [
            "--method=direct",
            "--no-previous-parameters",
            "--require-approval=never",
            f"--outputs-file={outputs}",
        ]
        self.run("deploy", *options, context=context, app=app)
        [of_stack] = json.loads(outputs.read_text()).values()
        return dict(of_stack)

    def bootstrap(self, context: Context | None = None, app: str | None = None) -> None:
        """Bootstraps the account, unless that was done."""
        if not self.bootstrapped:
            self.run("bootstrap", context=context, app=app)
            self.bootstrapped = True

    def destroy(self, context: Context | None = None, app: str | None = None) -> None:
        """Deletes the stack without a question."""
        self.run("destroy", "--force", context=context, app=app)

    def diff(self, context: Context | None = None, app: str | None = None) -> str:
        """What a deployment would change, in words, from the two templates."""
        return self.run("diff", "--method=template", context=context, app=app)

    def synth(self, context: Context | None = None, app: str | None = None) -> dict[str, Any]:
        """Synthesises the app and returns the stack's template."""
        self.run("synth", "--quiet", context=context, app=app)
        [template] = self.assembly.glob("*.template.json")
        return dict(json.loads(template.read_text()))

    @property
    def assembly(self) -> Path:
        """Where the last command left the synthesised app."""
        return self.directory / "cdk.out"

    def run(
        self, command: str, *options: str, context: Context | None = None, app: str | None = None
    ) -> str:
        """Runs one command and returns what it wrote to both streams."""
        shutil.rmtree(self.assembly, ignore_errors=True)
        arguments = [
            find_program() or "cdk",
            command,
            *options,
            f"--output={self.assembly}",
            "--no-notices",
            "--no-color",
        ]
        arguments += [
            word
            for key, value in (context or {}).items()
            for word in ("--context", f"{key}={value}")
        ]
        if app is not None:
            arguments += ["--app", app]
        try:
            done = processes.run(
                arguments,
                cwd=self.directory,
                env=self._environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise CdkError(f"cdk {command} has not ended in {TIMEOUT:.0f} seconds") from None
        if done.returncode != 0:
            raise CdkError(f"cdk {command} ended with {done.returncode}:\n{done.stdout}")
        return str(done.stdout)

    def _environment(self) -> dict[str, str]:
        # Nothing of the caller's own account may reach the command, so that it cannot reach the account.
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "CDK_"))
        }
        # The app is this package's, which need not be installed: a checkout is enough.
        package = Path(__file__).resolve().parents[2]
        places = [str(package), *filter(None, [kept.get("PYTHONPATH")])]
        # By address: a bucket's name would be put before a host name, and not be resolved.
        endpoint = self.environment.get("AWS_ENDPOINT_URL", "").replace("localhost", "127.0.0.1")
        return kept | {
            **({"AWS_ENDPOINT_URL_S3": endpoint} if endpoint else {}),
            "PYTHONPATH": os.pathsep.join(places),
            "CDK_HOME": str(self.directory / "home"),
            "CDK_DISABLE_CLI_TELEMETRY": "true",
            # aws-cdk-lib's own check of the template takes a third of each command; test_template.py turns it on.
            "CDK_VALIDATION": "false",
            **self.environment,
        }
