"""``python -m geoembed`` does what ``geoembed`` does."""

from geoembed.cli.main import run

if __name__ == "__main__":
    run()
