"""The subcommands: each module has `add_arguments` and `run`."""
