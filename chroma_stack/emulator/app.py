"""The app that is deployed to the emulator: what the project's ``app.py`` makes, without a file beside it."""

import sys

import aws_cdk as cdk

from chroma_stack import SettingError, context

app = cdk.App()
try:
    context.chroma_stack(app)
    app.synth()
except SettingError as error:
    sys.exit(f"Error: {error}")
