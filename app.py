"""``cdk deploy -c key=value …``: a Chroma server of your own."""

import sys

import aws_cdk as cdk

from chroma_stack import SettingError, context

app = cdk.App()
try:
    context.chroma_stack(app)
except SettingError as error:
    sys.exit(f"Error: {error}")
app.synth()
