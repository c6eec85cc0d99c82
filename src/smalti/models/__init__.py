"""One file per published network; `MODELS` names them all."""

MODELS = {"sis_cnn": "SisCnn", "pac_deeplab": "PacDeeplab", "ccfnet": "CCFNet", "hourglass": "Hourglass",
          "ivanet": "IvaNet"}  # fmt: skip
"""The class of each network, by the name of its file."""
