"""``python -m chroma_stack.copy SOURCE TARGET``: collections from one Chroma to another.

Source and target are Chroma servers of any release from 0.5.0 on, Chroma Cloud, a folder, or one
stream. It speaks to servers by HTTP, since no release of the ``chromadb`` client speaks to all.
"""
