"""What checks annotations in tests: beartype, with whole numbers where floats are asked for, as type checkers allow."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
