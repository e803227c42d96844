"""What all systems share: input, answers, uncertainty, saving."""
