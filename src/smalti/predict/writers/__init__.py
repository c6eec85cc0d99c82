"""What is written of answers: one class a kind, all chosen by name."""

from smalti.predict.writers.contract import Entry as Entry
from smalti.predict.writers.contract import NoSuchAnswerError as NoSuchAnswerError
from smalti.predict.writers.contract import Writer as Writer
from smalti.predict.writers.kinds import ENDINGS as ENDINGS
from smalti.predict.writers.kinds import FOLDERS as FOLDERS
from smalti.predict.writers.kinds import SUMMARIES as SUMMARIES
from smalti.predict.writers.kinds import WRITERS as WRITERS
from smalti.predict.writers.kinds import kinds_of as kinds_of
from smalti.predict.writers.kinds import names_written as names_written
from smalti.predict.writers.objects import Boxes as Boxes
