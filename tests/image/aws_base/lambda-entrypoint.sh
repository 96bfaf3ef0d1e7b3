#!/bin/sh
# Does what AWS documents of its images' entrypoint: exactly one argument, the handler; the emulator
# only where there is no Lambda.
set -eu

[ "$#" -eq 1 ] || {
    echo "lambda-entrypoint.sh: one argument, the handler, is needed; there are $#" >&2
    exit 142
}
export _HANDLER="$1"
if [ -n "${AWS_LAMBDA_RUNTIME_API:-}" ]; then
    exec /var/runtime/bootstrap
fi
exec /usr/local/bin/aws-lambda-rie /var/runtime/bootstrap
