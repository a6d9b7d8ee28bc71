"""From rows to tables, figures and one page: select once, read once, then only draw."""

from autoddpm.extras import need

need("report")
