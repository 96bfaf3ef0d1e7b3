#!/bin/sh
# Does what AWS documents of /var/runtime/bootstrap: names the runtime, and starts it through
# AWS_LAMBDA_EXEC_WRAPPER where that is set.
set -eu

export AWS_EXECUTION_ENV=AWS_Lambda_python3.13
set -- /var/lang/bin/python3 /var/runtime/bootstrap.py
wrapper=${AWS_LAMBDA_EXEC_WRAPPER:-}
if [ -n "$wrapper" ]; then
    [ -e "$wrapper" ] || exit 127
    [ -x "$wrapper" ] || exit 126
    set -- "$wrapper" "$@"
fi
exec "$@"
