"""`python -m ev2_plugin` is the `ev2` command."""

from ev2_plugin.cli.main import app

if __name__ == "__main__":
    app(prog_name="ev2")
