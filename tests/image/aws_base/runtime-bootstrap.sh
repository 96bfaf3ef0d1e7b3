#!/bin/sh
# Does what AWS's /var/runtime/bootstrap does: names the runtime, and starts it through
# AWS_LAMBDA_EXEC_WRAPPER where that is set.
set -eu

export AWS_EXECUTION_ENV=AWS_Lambda_python3.13
set -- /var/lang/bin/python3 /var/runtime/bootstrap.py
wrapper=${AWS_LAMBDA_EXEC_WRAPPER:-}
if [ -n "$wrapper" ]; then
    [ -f "$wrapper" ] || {
        echo "$wrapper: does not exist"
        exit 127
    }
    [ -x "$wrapper" ] || {
        echo "$wrapper: is not an executable"
        exit 126
    }
    set -- "$wrapper" "$@"
fi
exec "$@"
