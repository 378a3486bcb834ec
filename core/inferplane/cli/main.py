"""The entry point. Each command's module is imported when the command is called."""

from __future__ import annotations

import sys
from importlib import import_module

import typer

app = typer.Typer(
    help="LLM inference over hardware plugins.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}

COMMANDS = {
    "serve": "Serve a model through the OpenAI API.",
    "generate": "Answer one prompt, or a file of prompts, in the terminal.",
    "devices": "Show the platforms that are installed, and their devices.",
    "explain": "Show what would run a model on a device, and why.",
    "bench": "Measure offline throughput and latency.",
    "eval": "Measure a model's accuracy.",
    "quantize": "Write a checkpoint with quantized weights.",
    "tune": "Measure how kernels are best configured on a device.",
    "conformance": "Check a platform's kernels against the reference.",
    "plugin": "Start a plugin, see what one offers, and check it.",
}


def _register(name: str, text: str) -> None:
    @app.command(name, help=text, add_help_option=False, context_settings=_PASS_ON)
    def run(context: typer.Context) -> None:
        module = import_module(f"inferplane.cli.{name}")
        command = typer.main.get_command(module.app)
        code = command.main(
            args=list(context.args), prog_name=f"inferplane {name}", standalone_mode=False
        )
        if code:
            raise typer.Exit(code)


for _name, _text in COMMANDS.items():
    _register(_name, _text)


@app.callback(invoke_without_command=True)
def version(
    show: bool = typer.Option(False, "--version", help="Show the version and end."),
) -> None:
    if show:
        from inferplane import __version__

        print(__version__)
        raise typer.Exit


def main() -> None:
    """Ends with 0, 1 for an error that the user can mend, 2 for a wrong call, 130 for Ctrl-C."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs a command line and gives its exit code."""
    return guarded(app, "inferplane", arguments)


def guarded(commands: typer.Typer, name: str, arguments: list[str]) -> int:
    """Runs a command line of `commands`; what users can mend is shown without a traceback."""
    from inferplane.errors import UserError

    command = typer.main.get_command(commands)
    try:
        return command.main(args=arguments, prog_name=name, standalone_mode=False) or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, typer.Abort):
        print("stopped", file=sys.stderr)
        return 130
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # a wrong command line
            error.show()
            return int(error.exit_code)
        raise


if __name__ == "__main__":
    main()
