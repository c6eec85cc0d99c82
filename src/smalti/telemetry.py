"""Switches off what other packages report about their users."""

import os
import sys
from typing import Any

OPT_OUTS = {
    "DO_NOT_TRACK": "1",  # a convention that several packages follow
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime, from its import on: a device id in the home, events to its maker
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
}
"""Environment variables by which packages are told not to report; child processes inherit them."""
REPORTERS = ("openvino_telemetry",)
"""Packages that only report. OpenVINO and NNCF know no variable, but work without this one."""


def disable_telemetry() -> None:
    """Keeps other packages from reporting usage and from writing ids into the home; call it before they are imported.

    A variable that the user has set stays as it is.
    """
    for variable, value in OPT_OUTS.items():
        os.environ.setdefault(variable, value)
    modules: dict[str, Any] = sys.modules
    for package in REPORTERS:
        modules.setdefault(package, None)  # an import of it fails as if it were not installed
