"""Publishes the template, for people who deploy it by its URL.

``python -m chroma_stack.publish --bucket NAME`` uploads it under the version of this package
and, when that is a release, as the latest. Who may read it is the bucket's policy to say.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlencode

try:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        PartialCredentialsError,
    )
except ModuleNotFoundError:
    sys.exit("Error: publishing needs boto3, which the package's extra 'publish' installs")

from chroma_stack import __version__, published_template

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_RELEASE = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")
_PERMISSIONS = {
    "HeadBucket": "s3:ListBucket",
    "GetObject": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "DeleteObject": "s3:DeleteObject",
    "ValidateTemplate": "cloudformation:ValidateTemplate",
}


class Refused(Exception):
    """The template is not published; the message says why in one sentence."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m chroma_stack.publish", description=__doc__)
    parser.add_argument("--bucket", required=True, help="name of the S3 bucket")
    parser.add_argument("--prefix", default="cloudformation", help="folder in the bucket")
    parser.add_argument("--dry-run", action="store_true", help="check, but publish nothing")
    options = parser.parse_args(arguments)
    try:
        publish(options.bucket, options.prefix, dry_run=options.dry_run)
    except Refused as error:
        sys.exit(f"Error: {error}")
    except (NoCredentialsError, PartialCredentialsError):
        sys.exit("Error: there are no AWS credentials: configure them, e.g. by AWS_PROFILE")
    except ClientError as error:
        sys.exit(f"Error: {_sentence(error, options.bucket)}")
    except BotoCoreError as error:
        sys.exit(f"Error: {' '.join(str(error).split())}")


def publish(bucket: str, prefix: str, *, dry_run: bool) -> None:
    """Upload the template, and print where it is.

    :raises Refused: when this version was published with other content.
    """
    region = boto3.client("s3").head_bucket(Bucket=bucket)["BucketRegion"]
    body = published_template.text()
    # This signature makes URLs in the form that the bucket's region and name ask for.
    s3 = boto3.client("s3", region_name=region, config=Config(signature_version="s3v4"))
    folder = f"{prefix.strip('/')}/".lstrip("/")
    keys = [f"{folder}{__version__}/{published_template.NAME}"]
    if _content(s3, bucket, keys[0]) not in (None, body):
        raise Refused(
            f"{keys[0]} is published with other content, and must not change: "
            "raise __version__ in chroma_stack/__init__.py"
        )
    _validate(s3, bucket, f"{folder}unchecked/{published_template.NAME}", body, region)
    if _RELEASE.fullmatch(__version__):
        keys.append(f"{folder}latest/{published_template.NAME}")
    for key in keys:
        if _content(s3, bucket, key) == body:
            done = "there already"
        elif dry_run:
            done = "not uploaded: a dry run"
        else:
            s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json")
            done = "uploaded"
        url = _url(s3, bucket, key)
        print(f"{url} ({done})")
    print(f"Launch it: {_launch_link(url, region)}")


def _validate(s3: S3Client, bucket: str, key: str, body: str, region: str) -> None:
    """Have CloudFormation check the template. A request would be too small for it, so it is uploaded,
    under a key that nobody uses and only for that moment.
    https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_ValidateTemplate.html"""
    s3.put_object(Bucket=bucket, Key=key, Body=body)
    try:
        cloudformation = boto3.client("cloudformation", region_name=region)
        cloudformation.validate_template(TemplateURL=_url(s3, bucket, key))
    finally:
        s3.delete_object(Bucket=bucket, Key=key)


def _content(s3: S3Client, bucket: str, key: str) -> str | None:
    try:
        return s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode(errors="replace")
    except s3.exceptions.NoSuchKey:
        return None


def _url(s3: S3Client, bucket: str, key: str) -> str:
    signed = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key})
    return signed.partition("?")[0]


def _launch_link(url: str, region: str) -> str:
    """Opens the console with the template chosen:
    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cfn-console-create-stacks-quick-create-links.html
    """
    query = urlencode({"templateURL": url, "stackName": "chroma"})
    return (
        f"https://{region}.console.aws.amazon.com/cloudformation/home?region={region}"
        f"#/stacks/create/review?{query}"
    )


def _sentence(error: ClientError, bucket: str) -> str:
    """What went wrong, for somebody who knows their account but not this program."""
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    said = error.response["Error"].get("Message", "")
    if status == 404:
        return f"there is no bucket {bucket}"
    if status == 403:
        permission = _PERMISSIONS.get(error.operation_name, error.operation_name)
        return f"no permission: AWS refuses {permission} for the bucket {bucket} ({said})"
    return f"AWS refuses {error.operation_name}: {said}"


if __name__ == "__main__":
    main()
