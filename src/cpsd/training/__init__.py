"""One task, one fit, checkpoints to resume from, and the soft labels."""
