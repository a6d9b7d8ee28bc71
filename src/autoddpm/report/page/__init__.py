"""One HTML page that holds all of it, and the page of a preparation."""
