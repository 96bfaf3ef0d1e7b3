# An image for Lambda that runs a handler under the watchdog, on AWS's base image or a plain one:
#
#     docker build -t my-function .
#     docker build -t my-function --build-arg BASE_IMAGE=python:3.13-slim --build-arg APP=my/app .
#
# APP is a folder with app.py in it, and with a requirements.txt if it needs more than the library.
ARG BASE_IMAGE=public.ecr.aws/lambda/python:3.13
# For a base that has neither pip nor ensurepip: another image with the same Python and C library.
ARG BUILD_IMAGE=${BASE_IMAGE}

FROM ${BUILD_IMAGE} AS build
ARG APP=examples/sigalrm_recipe
WORKDIR /build
# Debian's python3 has no pip, and what has one may refuse to install beside the system's packages
# (PEP 668). The virtual environment brings a pip, and it is only that: nothing is installed into it.
RUN python3 -m pip --version || python3 -m venv venv
ENV PATH=/build/venv/bin:${PATH}

COPY pyproject.toml README.md LICENSE ./
COPY watchdog_lambda/ watchdog_lambda/
RUN python3 -m pip wheel --no-cache-dir --no-deps --wheel-dir wheels .

# All goes into one folder, because that is right for both kinds of base: AWS's runtime puts
# LAMBDA_TASK_ROOT on sys.path, `python -m` puts the working directory there, and in the final stage
# both are /var/task. A virtual environment would be the other way for a plain base, but AWS's
# bootstrap names its own interpreter and would not look into one.
#
# awslambdaric comes along only where the base has none: a second one in the task root would hide
# the one that AWS keeps in step with its image.
COPY ${APP}/ app/
RUN set -eu; \
    wheel=$(echo wheels/*.whl); \
    if [ ! -d /var/runtime/awslambdaric ]; then wheel="${wheel}[runtime]"; fi; \
    set -- "./${wheel}"; \
    if [ -e app/requirements.txt ]; then set -- "$@" --requirement app/requirements.txt; fi; \
    python3 -m pip install --no-cache-dir --no-compile --prefer-binary --target task "$@"; \
    # Console scripts name the interpreter of this stage, and would not find their package.
    rm -rf task/bin; \
    cp -R app/. task/; \
    # The file system is read-only on Lambda, so what is not compiled now is compiled at every cold
    # start (an init of 71 ms instead of 37). By hash, for file times may change on the way into an
    # image, and an image built on this one may bring another app.py.
    python3 -m compileall -q --invalidation-mode checked-hash task; \
    # Lambda's own user must be able to read it.
    chmod -R a+rX task
COPY bootstrap/entrypoint.sh bootstrap/exec-wrapper ./
RUN chmod 0755 entrypoint.sh exec-wrapper

FROM ${BASE_IMAGE}
# Both are what they are already on AWS's base.
ENV LAMBDA_TASK_ROOT=/var/task
WORKDIR /var/task
COPY --from=build /build/task/ ./
COPY --from=build /build/entrypoint.sh /watchdog-lambda-entrypoint.sh
# For AWS_LAMBDA_EXEC_WRAPPER, where AWS's own entrypoint is kept and chained with other wrappers.
COPY --from=build /build/exec-wrapper /watchdog-lambda-exec-wrapper
# "nobody", by number because not every base gives it this name. Lambda runs every image as a user
# of its own and does not look at this; it is for everywhere else.
USER 65534:65534
ENTRYPOINT ["/watchdog-lambda-entrypoint.sh"]
CMD ["app.handler"]
