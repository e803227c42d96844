"""The command line ``geoembed``: one module a command, merged in `geoembed.cli.app`."""
