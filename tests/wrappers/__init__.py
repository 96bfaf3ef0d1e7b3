"""Other vendors' wrappers, each installed for real, inside of ours and around it."""
