#!/bin/sh
# The ENTRYPOINT of a container image: runs the handler that CMD names under the watchdog.
#
#     COPY bootstrap/entrypoint.sh /watchdog-lambda-entrypoint.sh
#     ENTRYPOINT ["/watchdog-lambda-entrypoint.sh"]
#     CMD ["app.handler"]
#
# The handler is WATCHDOG_LAMBDA_HANDLER, else the CMD argument, else _HANDLER.
#
# This script always ends with exec. If the shell stayed, it would be process 1, which has no default
# action for SIGTERM, and the runtime would never get the signal.
set -eu

# The script with which AWS's base images start the runtime, and the last place to look for the
# emulator. The tests replace both paths.
aws_entrypoint=/lambda-entrypoint.sh
default_emulator=/usr/local/bin/aws-lambda-rie

fail() {
    printf 'watchdog_lambda: %s\n' "$1" >&2
    exit 2
}

if [ "$#" -gt 1 ]; then
    fail "CMD gives $# arguments ($*); it takes one, the handler, for example app.handler"
fi
case ${1-} in
-*)
    # The emulator removes its own flags from the command that it runs, wherever they stand, so this
    # one might not even reach Python.
    fail "CMD gives '$1'; it takes the handler, for example app.handler
(settings are environment variables, WATCHDOG_LAMBDA_..., not options)"
    ;;
esac

# A blank value counts as not set, as in Python.
case ${WATCHDOG_LAMBDA_HANDLER-} in
*[![:space:]]*) ;;
*) unset WATCHDOG_LAMBDA_HANDLER ;;
esac
handler=${WATCHDOG_LAMBDA_HANDLER:-${1:-${_HANDLER:-}}}

# Check a handler from a variable, too. The words of CMD are checked above, even if they are not used.
case $handler in
-*) fail "the handler is '$handler'; it is to be a name, for example app.handler" ;;
esac

# On Lambda the runtime reports a missing handler as an init error, where its owner will look for it.
# Elsewhere it must be reported here. Moreover, the emulator would invent a handler: it puts the last
# word of its command, watchdog_lambda, into _HANDLER.
if [ -z "$handler" ] && [ -z "${AWS_LAMBDA_RUNTIME_API:-}" ]; then
    fail "no handler: give one as CMD or in WATCHDOG_LAMBDA_HANDLER, for example app.handler"
fi

# AWS's own start script runs as before, only with another handler. It finds the emulator itself,
# names the runtime in AWS_EXECUTION_ENV, honours AWS_LAMBDA_EXEC_WRAPPER, and puts the folders of the
# layers and of the runtime on sys.path. A function started without it would lose all of that.
if [ -x "$aws_entrypoint" ]; then
    if [ -n "$handler" ]; then
        export WATCHDOG_LAMBDA_HANDLER="$handler"
    fi
    exec "$aws_entrypoint" watchdog_lambda.entrypoint.handler
fi

# If there is a virtual environment, the first python3 on PATH is its own.
python=$(command -v python3 || command -v python) || fail "no python3 on PATH ($PATH)"

if [ -n "${AWS_LAMBDA_RUNTIME_API:-}" ]; then
    exec "$python" -m watchdog_lambda ${handler:+"$handler"}
fi

emulator=${AWS_LAMBDA_RIE:-$(command -v aws-lambda-rie || echo "$default_emulator")}
if [ ! -x "$emulator" ]; then
    fail "AWS_LAMBDA_RUNTIME_API is not set, so this is not Lambda, and there is no emulator to stand
in for it: $emulator is not an executable file. Give the container AWS's Runtime Interface Emulator:
    docker run --rm -p 9000:8080 \\
        -v \"\$PWD/aws-lambda-rie:/usr/local/bin/aws-lambda-rie:ro\" IMAGE
    curl -d '{}' http://localhost:9000/2015-03-31/functions/function/invocations"
fi
exec "$emulator" "$python" -m watchdog_lambda "$handler"
