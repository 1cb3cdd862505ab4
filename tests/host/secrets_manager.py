"""The command line `aws` as tests of credentials need it, with what a folder holds.

A folder for each secret, with a file for each stage of it; a folder `parameters` with a file for each
parameter of Systems Manager; files `ACTION.error` with what an action fails with, and `ACTION.once` for
one call.
"""

import json
import os
import sys
from pathlib import Path

SECRETS = Path(os.environ["SECRETS"])
LONG_AGO = "2020-01-01T00:00:00.123000+00:00"


def fail(error):
    print(f"\naws: [ERROR]: {error}", file=sys.stderr)
    sys.exit(254)


def refusal(code, action):
    return f"An error occurred ({code}) when calling the {action} operation: no."


def option(name):
    return sys.argv[sys.argv.index(name) + 1]


def text(path):
    return path.read_text() if path.exists() else None


def folder_of(arn):
    """An ARN may be without the six characters that Secrets Manager adds to the name."""
    name = arn.split(":")[-1]
    return next((it for it in SECRETS.glob(f"{name}-??????") if it.is_dir()), SECRETS / name)


def full(arn):
    return ":".join([*arn.split(":")[:-1], folder_of(arn).name])


def get_secret_value():
    arn, stage = option("--secret-id"), option("--version-stage")
    folder = folder_of(arn)
    if code := text(folder / "error") or text(folder / f"{stage}.error"):
        fail(refusal(code, "GetSecretValue"))
    found = text(folder / stage)
    if found is None:
        fail(refusal("ResourceNotFoundException", "GetSecretValue"))
    return {"ARN": full(arn), **json.loads(found)}


def batch_get_secret_value():
    first = sys.argv.index("--secret-id-list") + 1
    arns = [it for it in sys.argv[first:] if it.startswith("arn:")]
    values, errors = [], []
    for arn in arns:
        folder = folder_of(arn)
        code = text(folder / "error") or text(folder / "error-in-batch")
        found = text(folder / "AWSCURRENT")
        if code or found is None:
            code = code or "ResourceNotFoundException"
            errors.append({"SecretId": arn, "ErrorCode": code, "Message": "no."})
        else:
            # The date is that of the secret, not of the version.
            secret = {"ARN": full(arn), "Name": folder.name[:-7], "CreatedDate": LONG_AGO}
            values.append({**json.loads(found), **secret})
    # In no order, as Secrets Manager does it.
    return {"SecretValues": values[::-1], "Errors": errors}


def get_parameters_by_path():
    folder, path = SECRETS / "parameters", option("--path")
    files = sorted(folder.iterdir()) if folder.exists() else []
    return {"Parameters": [{"Name": f"{path}/{it.name}", "Value": it.read_text()} for it in files]}


with (SECRETS / "calls").open("a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\n")
action = sys.argv[2]
once = SECRETS / f"{action}.once"
if error := text(SECRETS / f"{action}.error") or text(once):
    once.unlink(missing_ok=True)
    fail(error)
answer = {
    "get-secret-value": get_secret_value,
    "batch-get-secret-value": batch_get_secret_value,
    "get-parameters-by-path": get_parameters_by_path,
}[action]()
print(json.dumps(answer))
