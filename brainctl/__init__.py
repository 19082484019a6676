"""The top floor: the console scripts' launcher and the operator's command, one file per subcommand."""
