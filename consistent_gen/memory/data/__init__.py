"""What a memory is made of: records, operations on them, the tree's schema, the store."""
