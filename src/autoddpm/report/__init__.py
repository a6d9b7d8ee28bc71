"""From run folders to tables, figures and one page. Reads files; never runs a model."""
