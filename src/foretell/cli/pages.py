"""The commands that make pages of runs. Each imports what it needs when it runs."""

import argparse

from foretell.cli.commands import load
from foretell.output import say


def report(args: argparse.Namespace) -> int:
    """Write a report of runs and studies."""
    path = load("foretell.page.report").write_report(
        args.run_dirs, args.out, format=args.format, smooth=args.smooth, videos=args.videos,
        model_seconds=args.model_seconds, seed=args.seed, say=lambda text: say(f"{text} ..."), trust=args.trust,
    )  # fmt: skip
    print(f"report      {path}")
    return 0


def watch(args: argparse.Namespace) -> int:
    """Serve a page that follows runs, until Ctrl-C."""
    server = load("foretell.page.live").watch(args.run_dirs, port=args.port, smooth=args.smooth)
    print(f"open http://{server.server_address[0]}:{server.server_address[1]} in a browser; Ctrl-C ends", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        return 0
    finally:
        server.server_close()
    return 0
