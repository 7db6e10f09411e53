"""The ``fossiledit`` command: what the window can do, the command line can do."""


def main() -> None:
    """Run the command line."""
    from napari_fossiledit.cli.commands import app

    app()
