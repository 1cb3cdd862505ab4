"""A Chroma server of your own, with the settings in ``cdk.json`` and those of ``-c key=value``."""

import os
import sys
from pathlib import Path

# package.json says which Node.js is supported; the box of jsii says it again at each run.
os.environ.setdefault("JSII_SILENCE_WARNING_DEPRECATED_NODE_VERSION", "1")
os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "20")

import aws_cdk as cdk

from chroma_stack import SettingError, configure, context

app = cdk.App()
try:
    stack = context.chroma_stack(app)
    configure.report(stack, Path(app.synth().directory))
except SettingError as error:
    sys.exit(f"Error: {error}")
