"""The command line: one file a group of sub-commands, imported only when used."""
