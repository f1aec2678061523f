"""What fits a question: search, pictures and concepts, the tree, and how it enters a prompt."""
