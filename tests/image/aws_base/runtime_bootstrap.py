"""Does what AWS documents of /var/runtime/bootstrap.py: the module path, then the loop."""

import os
import sys

# By this name: Sentry and others look for it in this module, to patch the runtime.
import awslambdaric.__main__ as awslambdaricmain


def main() -> None:
    """Run the handler that _HANDLER names."""
    task_root = os.environ["LAMBDA_TASK_ROOT"]
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    layers = ["/opt/python", f"/opt/python/lib/{version}/site-packages"]
    # Somebody who sets PYTHONPATH decides alone where the layers come in.
    sys.path[:0] = [task_root, *([] if "PYTHONPATH" in os.environ else layers)]
    awslambdaricmain.main([task_root, os.environ["_HANDLER"]])


if __name__ == "__main__":
    main()
