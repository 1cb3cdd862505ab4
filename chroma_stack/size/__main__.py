"""``python -m chroma_stack.size``."""

from chroma_stack.size.command import main

main()
