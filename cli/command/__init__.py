"""What the commands share: option types, errors, reports, and how a command ends."""
