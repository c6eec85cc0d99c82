"""One file per published network; `MODELS` names them all."""

MODELS = {"sis_cnn": "SisCnn"}
"""The class of each network, by the name of its file."""
