"""The rows of a report, as `runs` reads them."""

from autoddpm.runs.folder import UnreadableRunError as UnreadableRunError
from autoddpm.runs.row import NOT_SETTINGS as NOT_SETTINGS
from autoddpm.runs.row import Row as Row
from autoddpm.runs.row import has_stage as has_stage
from autoddpm.runs.row import read_ids as read_ids
from autoddpm.runs.row import read_maps as read_maps
from autoddpm.runs.row import read_row as read_row
from autoddpm.runs.row import read_rows as read_rows
from autoddpm.runs.row import read_slices as read_slices
