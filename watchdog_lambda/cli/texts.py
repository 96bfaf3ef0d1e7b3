"""The command's --help texts, except the help of each option."""

from __future__ import annotations

DESCRIPTION = """\
Lambda handlers that end gracefully at their timeout: try them out, check them, run them.
"""

EPILOG = """\
examples:
  watchdog-lambda invoke app.handler --event '{"id": 7}' --timeout 3
  watchdog-lambda check app.handler --timeout 30
  watchdog-lambda run app.handler                     in a container image, as its entrypoint

Each command has its own --help. Settings are environment variables, WATCHDOG_LAMBDA_...
"""

INVOKE = """\
Run one handler on one event, on this machine, as Lambda would: with the real runtime
(awslambdaric), the watchdog, and a hard kill at the timeout. Then draw what happened, to scale.

The handler runs under AWS's Runtime Interface Emulator if there is one: --emulator, AWS_LAMBDA_RIE,
aws-lambda-rie on PATH, or the copy inside aws-sam-cli. Otherwise, and for timeouts with fractions
of a second, it runs under a small built-in Runtime API, which kills just as hard.

The answer goes to standard output, and nothing else does. The handler's output, as it is written,
and the timeline go to standard error.
"""

INVOKE_EPILOG = """\
examples:
  watchdog-lambda invoke app.handler
  watchdog-lambda invoke app.handler --event event.json --timeout 10 --repeat 2
  watchdog-lambda invoke app.handler --event '{}' --event slow.json --event '{}'
  echo '{"id": 7}' | watchdog-lambda invoke app.handler --event - | jq .statusCode
  watchdog-lambda invoke app.handler --timeout 0.8 --env WATCHDOG_LAMBDA_GRACE_PERIOD=0.3
  watchdog-lambda invoke app.handler --unwatched        what Lambda does without the watchdog

exit status (the highest one, if there are several invocations):
  0    the handler answered
  1    the handler or its process ended with an error
  2    wrong usage or configuration
  3    the handler timed out and the watchdog caught it: the caller has an answer or error in time
  4    the handler was killed at the hard deadline
  130  Ctrl-C; nothing is left running
"""

CHECK = """\
Show the settings and the source of each, the handler that they select, and the timeline that a
timeout would have. The handler's module is imported, but nothing is invoked.
"""

CHECK_EPILOG = """\
examples:
  watchdog-lambda check app.handler --timeout 30
  watchdog-lambda check app.handler --timeout 60 --caller-timeout 29
  watchdog-lambda check app.handler --template template.yaml --strict
  watchdog-lambda check --json                        the handler from WATCHDOG_LAMBDA_HANDLER

exit status:
  0    the handler can be run (with warnings, unless --strict)
  1    there are warnings, and --strict is given
  2    wrong usage, unusable settings, or a handler that cannot be found
"""

RUN_HELP = "run a handler in Lambda, as a container image's entrypoint"
