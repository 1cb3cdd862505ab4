"""Which instance, volume and price a number of vectors needs: ``python -m chroma_stack.size``."""
