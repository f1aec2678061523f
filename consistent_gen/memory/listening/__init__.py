"""What a conversation changes: listeners that propose operations, and episodes."""
