"""``python -m fishnet``, as torchrun starts it."""

from fishnet.cli import run

if __name__ == "__main__":
    run()
