"""``cdk deploy -c key=value …``: a Chroma server of one's own."""

import sys

import aws_cdk as cdk

from chroma_stack import ChromaStack, SettingError, context

app = cdk.App()
try:
    ChromaStack(app, **context.read(app.node))
except SettingError as error:
    sys.exit(f"Error: {error}")
app.synth()
