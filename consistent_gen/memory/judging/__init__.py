"""What may be written: a screen for commands and secrets, whose words they are, the rules."""
