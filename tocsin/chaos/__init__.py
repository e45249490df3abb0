"""Chaos: the real pipeline under faults, and an oracle that says what was lost. Not here: the command's options."""
