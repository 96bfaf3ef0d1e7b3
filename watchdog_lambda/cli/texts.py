"""What the command's --help says, beside the help of each option."""

from __future__ import annotations

DESCRIPTION = """\
Lambda handlers that end gracefully at their timeout: try them out, check them, run them.
"""

EPILOG = """\
examples:
  watchdog-lambda invoke app.handler --event '{"id": 7}' --timeout 3
  watchdog-lambda check app.handler --timeout 30
  watchdog-lambda run app.handler                     in a container image, as its entrypoint

Each has a --help of its own. Settings are environment variables, WATCHDOG_LAMBDA_...
"""

INVOKE = """\
Run one handler on one event, on this machine, as Lambda would: the real runtime (awslambdaric), the
watchdog, and a hard kill at the timeout. Then see what happened, drawn to scale.

It runs under AWS's Runtime Interface Emulator where there is one: --emulator, AWS_LAMBDA_RIE,
aws-lambda-rie on PATH, or the copy of an aws-sam-cli. Otherwise, and for timeouts of fractions of
seconds, under a small Runtime API of its own, which kills as hard.

Standard output has the answer and nothing else; standard error has what the handler writes, as it
writes it, and the timeline.
"""

INVOKE_EPILOG = """\
examples:
  watchdog-lambda invoke app.handler
  watchdog-lambda invoke app.handler --event event.json --timeout 10 --repeat 2
  watchdog-lambda invoke app.handler --event '{}' --event slow.json --event '{}'
  echo '{"id": 7}' | watchdog-lambda invoke app.handler --event - | jq .statusCode
  watchdog-lambda invoke app.handler --timeout 0.8 --env WATCHDOG_LAMBDA_GRACE_PERIOD=0.3
  watchdog-lambda invoke app.handler --unwatched        what Lambda does without the watchdog

exit status, of several invocations the highest:
  0    the handler answered
  1    it ended with an error, or its process did
  2    wrong usage or configuration
  3    it timed out and the watchdog caught it: the caller has an answer or an error in time
  4    it was killed at the hard deadline
  130  Ctrl-C; nothing is left running
"""

CHECK = """\
Look at the settings and where each comes from, at the handler that they lead to, and at the
timeline that a timeout would have. The handler's module is imported, and nothing is invoked.
"""

CHECK_EPILOG = """\
examples:
  watchdog-lambda check app.handler --timeout 30
  watchdog-lambda check app.handler --timeout 60 --caller-timeout 29
  watchdog-lambda check app.handler --template template.yaml --strict
  watchdog-lambda check --json                        the handler from WATCHDOG_LAMBDA_HANDLER

exit status:
  0    it can be run (with warnings, if not --strict)
  1    there are warnings, and --strict
  2    wrong usage, settings that cannot be used, a handler that cannot be found
"""

RUN_HELP = "run a handler in Lambda, as a container image's entrypoint"
