"""`inferplane serve`."""

from __future__ import annotations

from typing import Any

import typer

from .options import ENGINE, SERVER, with_settings

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
@with_settings(*ENGINE, *SERVER)
def serve(
    model: str = typer.Argument(..., metavar="MODEL", help="Folder, bundled name or hub name."),
    flags: Any = None,
    config: Any = None,
) -> None:
    """Serve a model through the OpenAI API until SIGTERM or Ctrl-C."""
    import logging

    from inferplane.planning.plan import make_plan
    from inferplane.server.run import serve as run
    from inferplane.settings import load_settings

    from .show import console, loading

    settings, sources = load_settings({**flags, "model": model}, config)
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(levelname)s %(name)s: %(message)s"
    )
    plan = make_plan(settings, sources)
    err = console(stderr=True)
    for warning in plan.warnings:
        err.print(f"warning: {warning}", markup=False)

    def ready(address: str, engine: Any) -> None:
        err.print(
            f"{plan.model_name} on {engine.device}, loaded in {engine.load_seconds:.1f} s, up to "
            f"{engine.max_model_len:,} tokens a request: listening on {address}",
            markup=False,
        )

    with loading() as progress:
        code = run(plan, sources, progress, ready)
    if code:
        raise typer.Exit(code)
